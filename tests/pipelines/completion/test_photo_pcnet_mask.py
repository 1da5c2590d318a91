"""PCNet-M with the photo as a pipeline: one pass an object, the order from it, objects alone, wrong settings."""

import numpy as np
import pytest
import torch

from amodal_diffusion import (
    AmodalPipeline,
    ContentPipeline,
    MaskModelOutput,
    OrderNet,
    PCNetMaskPipeline,
    PhotoPCNetMask,
    ScenePipeline,
)
from amodal_diffusion.evaluation import call_pipeline, call_scenes
from amodal_diffusion.masks import mask_boxes
from amodal_diffusion.models.order_net import OrderNetOutput
from amodal_diffusion.pipelines.completion import photo_pcnet_mask
from amodal_diffusion.pipelines.completion.photo_pcnet_mask import Growth
from photo_helpers import draw_scene, tiny_order_net, tiny_photo_pcnet
from pipeline_helpers import GapFiller, iou, tiny_model, tiny_pipeline

DEPTH = {"answer": "depth", "num_relations": 3}


class RedIsInFront(PhotoPCNetMask):
    """In front is what is red in the photo; an object goes on under it between the ends of its rows.

    `seen` keeps the inputs of every crop.
    """

    seen: list = []

    def encode_image(self, image):
        return [image]

    def forward(
        self, mask, eraser, front=None, image=None, shown=None, category_ids=None, features=None,
        return_features=False, return_dict=True,
    ):  # fmt: skip
        if features is None and image is not None:
            features = [image if shown is None else image * shown[:, None, None, None]]
        type(self).seen += [
            {"eraser": e, "front": f, "image": features is not None} for e, f in zip(eraser, front, strict=True)
        ]
        red = torch.zeros_like(mask)
        if features is not None:
            (image,) = features
            red = ((image[:, :1] > 1.5) & (image[:, 1:2] < 0)).to(mask.dtype)
        red = torch.maximum(red, front)
        between = mask.cummax(-1).values * mask.flip(-1).cummax(-1).values.flip(-1)
        whole = torch.maximum(mask, between * eraser * red)
        logits = torch.where(whole > 0, 8.0, -8.0)
        planes = torch.cat([0 * logits, logits, torch.where(red > 0, 8.0, -8.0)], dim=1)
        return MaskModelOutput(planes, features=features if return_features else None)


def ruled(order_model=None, mask_model=None, **settings):
    RedIsInFront.seen = []
    model = RedIsInFront(block_out_channels=(4, 8), reduced_channels=4, sample_size=64)
    return tiny_photo_pcnet(model.eval(), order_model, mask_model, **settings)


def gap_filler(size=64):
    GapFiller.rows = 0
    return GapFiller(block_out_channels=(4, 8), sample_size=size).eval()


def bars(height=60, width=80):
    """A grey bar behind a red one, and a third object that touches neither: photo, modal and amodal (3, H, W)."""
    amodal = np.zeros((3, height, width), bool)
    amodal[0, 20:40, 5:75] = amodal[1, 10:50, 30:46] = amodal[2, 55:, :10] = True
    photo = np.full((height, width, 3), 30, np.uint8)
    photo[amodal[0]], photo[amodal[1]] = 150, (250, 10, 10)
    return photo, amodal & ~np.stack([amodal[1], np.zeros_like(amodal[1]), np.zeros_like(amodal[1])]), amodal


@pytest.mark.parametrize("passes", [1, 2])
def test_one_pass_an_object_gives_masks_and_order(passes):
    photo, modal, amodal = bars()
    output = ruled(passes=passes)(photo, modal)
    assert iou(output.amodal_masks, amodal).min() > 0.97
    assert output.order[1, 0] == 1 and output.order[0, 1] == -1 and np.abs(output.order).sum() == 2
    assert iou(output.occluder_masks[:1], amodal[1:2])[0] > 0.9 and not output.occluder_masks[1:].any()
    assert not (output.occluder_masks & modal).any()
    assert len(RedIsInFront.seen) == 2 + (passes - 1)  # nothing can hide the third; then, what has something in front
    assert not any(one["front"].any() for one in RedIsInFront.seen[:2])
    assert all(one["front"].any() for one in RedIsInFront.seen[2:])


def test_an_object_alone_is_completed_by_the_photo():
    photo, modal, amodal = bars()
    output = ruled()(photo, modal[0])
    assert iou(output.amodal_masks, amodal[:1])[0] > 0.97 and output.order.tolist() == [[0]]
    assert iou(output.occluder_masks, amodal[1:2])[0] > 0.9
    assert len(RedIsInFront.seen) == 1
    together = ruled()(photo, modal, occluder_rule="photo")
    np.testing.assert_array_equal(together.amodal_masks[0], output.amodal_masks[0])
    assert together.order is None
    kept = ruled()(photo, modal[1])  # what has nothing in front of it stays as it is, to the pixel
    np.testing.assert_array_equal(kept.amodal_masks[0], modal[1])


@pytest.mark.parametrize("output_type", ["np", "compact"])
def test_a_mask_beside_empty_ones_comes_alone(output_type):
    photo, modal, _ = bars()
    for second in (None, gap_filler()):
        pipeline = ruled(second, second, alone_threshold=0.4)
        alone = pipeline(photo, modal[0])
        for place in (0, 1, 2):
            masks = np.zeros_like(modal)
            masks[place] = modal[0]
            output = pipeline(photo, masks, output_type=output_type)
            for name in ("amodal_masks", "probabilities", "uncertainty", "occluder_masks"):
                planes = np.asarray(getattr(output, name))
                np.testing.assert_array_equal(planes[place], getattr(alone, name)[0])
                assert not np.delete(planes, place, 0).any()
            assert output.order.tolist() == np.zeros((3, 3), int).tolist()
    assert not ruled()(photo, np.zeros_like(modal)).amodal_masks.any()
    assert not ruled()(photo, np.zeros_like(modal[0])).amodal_masks.any()


def test_objects_are_pasted_where_they_can_grow(monkeypatch):
    photo, modal, _ = bars()
    pipeline, sizes = ruled(), []
    paste = type(pipeline).paste

    def watched(self, call, *args):
        sizes.append(call.scenes[0].size)
        return paste(self, call, *args)

    monkeypatch.setattr(type(pipeline), "paste", watched)
    found = pipeline(photo, modal, output_type="compact")
    for (height, width), mask, occluders in zip(sizes, modal, [modal[[1, 2]], modal[[0]], modal[[0]]], strict=True):
        _, _, wide, high = mask_boxes((mask | occluders.any(0))[None])[0]
        assert height <= high and width <= wide
    np.testing.assert_array_equal(np.asarray(found.amodal_masks), pipeline(photo, modal).amodal_masks)


def test_what_the_caller_knows_is_told():
    photo, modal, amodal = bars()
    grey = np.full_like(photo, 90)
    assert not (ruled()(grey, modal).amodal_masks & ~modal).any()
    order = np.zeros((3, 3), int)
    order[1, 0], order[0, 1] = 1, -1
    for output in (ruled()(grey, modal, order=order), ruled()(grey, modal, occluder_masks=modal[1])):
        assert iou(output.amodal_masks, amodal)[0] > 0.97
        assert RedIsInFront.seen[0]["front"].equal(RedIsInFront.seen[0]["eraser"])
    np.testing.assert_array_equal(ruled()(grey, modal, order=order).order, order)
    assert ruled()(grey, modal, occluder_masks=modal[1]).order is None


def test_the_order_follows_both_networks():
    photo, modal, amodal = bars()
    output = ruled(gap_filler())(np.full_like(photo, 90), modal)  # where the photo shows nothing, outlines decide
    assert GapFiller.rows == 2  # ordered pairs
    assert output.order[1, 0] == 1 and output.order[0, 1] == -1 and np.abs(output.order).sum() == 2
    assert iou(output.amodal_masks, amodal).min() > 0.97  # the second pass is told who is in front
    np.testing.assert_array_equal(ruled(gap_filler())(photo, modal).order, output.order)
    scenes, _ = ruled().check_inputs(photo, modal[:2])
    growth = Growth(np.array([[0, 40.0], [10, 0]]), np.full((2, 2), 0.5), ~np.eye(2, dtype=bool))
    for pairs, order in (([[0, 1], [2, 0]], -1), ([[0, 1], [99, 0]], 1), ([[0, 0], [0, 0]], -1)):
        assert ruled().find_order(scenes[0], growth, np.array(pairs, float))[0, 1] == order
    growth.pixels[:] = 0
    assert ruled().find_order(scenes[0], growth, np.array([[0, 1.0], [2, 0]]))[0, 1] == 1


def test_the_order_model_is_asked_where_the_order_is_open_alone():
    photo, modal, _ = bars()
    told = {"order": np.zeros((3, 3), int)}, {"occluder_masks": modal[1]}, {"occluder_rule": "photo"}
    for options in told:
        ruled(gap_filler())(photo, modal, **options)
        assert GapFiller.rows == 0
    ruled(gap_filler())([photo, photo], [modal, modal[0]])
    assert GapFiller.rows == 2
    pipeline, calls = ruled(gap_filler()), []
    pipeline(photo, modal, callback=lambda *call: calls.append(call))
    assert {call[0] for call in calls} == {pipeline}
    assert [call[1] for call in calls if not call[2]] == ["order", "pairs", "masks"]


class TallerIsInFront(OrderNet):
    """Of two objects the one that fills more rows of the crop is in front; `rows` counts the pairs."""

    rows = 0

    def forward(self, first, second, image=None, return_dict=True):
        type(self).rows += len(first)
        heights = [(plane > 0).any(-1).float().sum((1, 2)) for plane in (first, second)]
        return OrderNetOutput(9 * torch.stack([heights[1] - heights[0], heights[0] - heights[1]], dim=1).sign())


def test_an_order_net_speaks_for_the_order_too():
    TallerIsInFront.rows = 0
    model = TallerIsInFront(**tiny_order_net(use_rgb=False).config).eval()
    photo, modal, amodal = bars()
    output = ruled(model)(np.full_like(photo, 90), modal)  # where the photo shows nothing, outlines decide
    assert TallerIsInFront.rows == 2, "one pair touches, and it is looked at both ways round"
    assert output.order[1, 0] == 1 and output.order[0, 1] == -1 and np.abs(output.order).sum() == 2
    assert iou(output.amodal_masks, amodal).min() > 0.97
    pipeline = ruled(model)
    both = pipeline([photo, photo], [modal[[1, 0, 2]], modal[0]])
    assert both.order[0][0, 1] == 1 and both.order[1].tolist() == [[0]]
    TallerIsInFront.rows = 0
    ruled(model)(photo, modal, order=np.zeros((3, 3), int))
    assert TallerIsInFront.rows == 0, "who knows the order asks for none"


def test_masks_do_without_a_photo():
    _, modal, _ = bars()
    output = ruled()(None, modal)
    assert not any(one["image"] for one in RedIsInFront.seen) and output.amodal_masks.shape == modal.shape
    photo, _, _ = draw_scene(1, 60, 80)
    mixed = ruled()([photo, None], [modal, modal])
    assert [masks.shape for masks in mixed.amodal_masks] == [modal.shape] * 2


@pytest.mark.parametrize("settings", [{}, {"test_time_flip": True}])
def test_photos_that_are_there_are_seen_beside_some_that_are_not(settings):
    photo, modal, _ = bars()
    pipeline = ruled(**settings)
    calls = [(photo, modal[0]), (None, modal[0]), (photo, modal), (None, modal[:0]), (photo, modal[:0])]
    for order in (calls, calls[::-1]):
        together = pipeline(*([call[index] for call in order] for index in (0, 1)), batch_size=4)
        for (image, masks), found in zip(order, together.probabilities, strict=True):
            np.testing.assert_allclose(found, pipeline(image, masks).probabilities, atol=1e-6)
    assert (pipeline(photo, modal[0]).amodal_masks.sum() > pipeline(None, modal[0]).amodal_masks.sum()).all()
    one = tiny_photo_pcnet(**settings)  # a network that is none of a test
    mixed = one([photo, None], [modal, modal]).probabilities
    for image, found in zip((photo, None), mixed, strict=True):
        np.testing.assert_allclose(found, one(image, modal).probabilities, atol=1e-5)


def test_growth_reaches_no_further_than_what_may_hide():
    photo, modal, _ = bars()
    for rule in ("consistent", "ancestors", "neighbours"):
        output = tiny_photo_pcnet()(photo, modal, occluder_rule=rule, mask_threshold=0.0)
        others = np.stack([modal[np.arange(3) != index].any(axis=0) for index in range(3)])
        assert not (output.amodal_masks & ~modal & ~others).any()


def test_it_is_unsure_as_far_as_its_probabilities_are():
    photo, modal, _ = bars()
    for masks, options in ((modal, {}), (modal[0], {}), (modal, {"occluder_rule": "photo"})):
        output = tiny_photo_pcnet()(photo, masks, **options)
        likely = output.probabilities
        np.testing.assert_allclose(output.uncertainty, np.sqrt(likely * (1 - likely)), atol=1e-6)
        assert 0 < output.uncertainty.max() <= 0.5


def test_masks_follow_the_mean_of_two_networks():
    """At the size of the second one, where it is known what may hide an object; `model` alone answers elsewhere."""
    photo, modal, amodal = bars()
    alone = ruled()(photo, modal)
    second = gap_filler(128)
    both = ruled(mask_model=second)(photo, modal)
    assert GapFiller.rows == 1  # one object has something in front of it
    np.testing.assert_array_equal(both.order, alone.order)
    assert iou(both.amodal_masks, amodal).min() >= iou(alone.amodal_masks, amodal).min() > 0.97
    hidden = amodal[0] & ~modal[0]
    model = PCNetMaskPipeline(second, crop="bilinear")
    theirs = model(None, modal, order=alone.order).probabilities[0]
    mean = (alone.probabilities[0] + theirs) / 2
    assert np.abs(both.probabilities[0] - mean)[hidden].mean() < 0.02
    mixed = ruled(mask_model=second)([photo, photo], [modal, modal[0]])  # a scene, and a mask that comes alone
    np.testing.assert_allclose(mixed.probabilities[0], both.probabilities, atol=1e-5)
    np.testing.assert_allclose(mixed.probabilities[1], ruled()(photo, modal[0]).probabilities, atol=1e-5)


def test_a_mask_that_comes_alone_has_a_threshold_of_its_own():
    photo, modal, _ = bars()

    def areas(**options):
        pipe = tiny_photo_pcnet(mask_threshold=0.45, **options)
        return [pipe(photo, masks, **call).amodal_masks.sum() for masks, call in (
            (modal, {}), (modal[0], {}), (modal, {"occluder_rule": "photo"}), (modal[0], {"mask_threshold": 0.45}),
        )]  # fmt: skip

    one, other = areas(), areas(alone_threshold=0.9)
    assert one[0] == other[0] and one[3] == other[3]  # not where more is known, nor where the caller says it
    assert one[1] > other[1] and one[2] > other[2] and one[1] == one[3]


def test_a_second_network_for_masks_is_saved_with_the_pipeline(tmp_path):
    pipeline = tiny_photo_pcnet(mask_model=tiny_model())
    pipeline.save_pretrained(tmp_path)
    loaded = AmodalPipeline.from_pretrained(tmp_path)
    photo, modal, _ = bars()
    np.testing.assert_array_equal(loaded(photo, modal).probabilities, pipeline(photo, modal).probabilities)
    without = AmodalPipeline.from_pretrained(tmp_path, mask_model=None)
    np.testing.assert_array_equal(without(photo, modal).probabilities, tiny_photo_pcnet()(photo, modal).probabilities)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"passes": 3}, "`passes` must be 1 or 2, got 3"),
        ({"occluder_rule": "growth"}, "`occluder_rule` must be one of 'consistent', .*got 'growth'"),
        ({"front_weight": -1}, "`front_weight` must lie in"),
        ({"rim_width": -1}, "`rim_width` must be at least 0"),
        ({"order_model": tiny_model(use_rgb=True)}, "`order_model` must see masks alone"),
        ({"order_model": tiny_model(class_conditioned=True)}, "`order_model` must see masks alone"),
        ({"alone_threshold": 1.0}, "`alone_threshold` must lie in"),
        ({"mask_model": tiny_model(use_rgb=True)}, "`mask_model` must see masks alone"),
        ({"mask_model": tiny_model(class_conditioned=True)}, "`mask_model` must see masks alone"),
        ({"order_model": tiny_model(sample_size=16)}, "the `sample_size` of `model`, 32, got 16"),
        ({"order_model": tiny_order_net()}, "`order_model` must see masks alone"),
        (
            {"order_model": tiny_order_net(use_rgb=False, answer="depth", num_relations=3)},
            "`order_model` must answer occlusion",
        ),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny_photo_pcnet(**settings)


def named_pipeline():
    model = PhotoPCNetMask((4, 8, 8), reduced_channels=4, sample_size=32, categories=["cat", "dog"]).eval()
    with torch.no_grad():
        model.category_embedding.weight[1:].normal_(0, 3, generator=torch.Generator().manual_seed(0))
    return tiny_photo_pcnet(model)


def test_categories_are_told_by_name_or_number(tmp_path):
    pipe = named_pipeline()
    assert pipe.categories == ("cat", "dog") and pipe.class_conditioned
    photo, modal, _ = draw_scene(1)
    unknown = pipe(photo, modal).probabilities
    numbered = pipe(photo, modal, category_ids=[2, 0, 1]).probabilities
    assert np.abs(numbered[0] - unknown[0]).max() > 1e-3
    for ids in (
        ["dog", None, "cat"],
        ("dog", "unicorn", "cat"),
        ["dog", "", 1],
        [2, None, 1],
        np.array(["dog", "", "cat"]),
    ):
        np.testing.assert_allclose(pipe(photo, modal, category_ids=ids).probabilities, numbered, atol=1e-5)
    np.testing.assert_allclose(pipe(photo, modal, category_ids=[None] * 3).probabilities, unknown, atol=1e-5)
    np.testing.assert_array_equal(pipe(photo, modal[0], category_ids="dog").probabilities.shape, (1, *modal[0].shape))
    scenes = pipe([photo, photo], [modal, modal], category_ids=[["dog", None, "cat"], None])
    np.testing.assert_allclose(scenes.probabilities[0], numbered, atol=1e-5)
    np.testing.assert_allclose(scenes.probabilities[1], unknown, atol=1e-5)
    pipe.save_pretrained(tmp_path)
    again = AmodalPipeline.from_pretrained(tmp_path)
    assert again.categories == ("cat", "dog")
    told = again(photo, modal, category_ids=["dog", None, "cat"]).probabilities
    np.testing.assert_allclose(told, numbered, atol=1e-5)
    for ids, message in (
        ([3, 0, 0], r"must lie in \[0, 2\], got 3"),
        (["dog"], r"shape \(3,\)"),
        ([0.5, 1, 1], "integers"),
    ):
        with pytest.raises(ValueError, match=f"`category_ids`.*{message}"):
            pipe(photo, modal, category_ids=ids)


def test_names_mean_nothing_to_a_network_without_categories():
    photo, modal, _ = draw_scene(1)
    pipe = tiny_photo_pcnet()
    assert pipe.categories == () and not pipe.class_conditioned
    expected = pipe(photo, modal).probabilities
    for ids in (["dog", None, "cat"], [7, 8, 9]):
        np.testing.assert_array_equal(pipe(photo, modal, category_ids=ids).probabilities, expected)
    classes = tiny_pipeline(tiny_model(class_conditioned=True))
    with pytest.raises(ValueError, match="`category_ids` must be positive integers, got .*dog"):
        classes(None, modal, category_ids=["dog", "dog", "cat"])


@pytest.mark.parametrize("flip", [False, True])
def test_the_photo_is_encoded_once_for_both_passes(flip, monkeypatch):
    photo, modal, _ = draw_scene(1)
    pipe, encoded = tiny_photo_pcnet(passes=2, test_time_flip=flip), []
    encode = PhotoPCNetMask.encode_image
    monkeypatch.setattr(
        PhotoPCNetMask, "encode_image", lambda self, image: (encoded.append(len(image)), encode(self, image))[1]
    )
    together = pipe(photo, modal)
    assert encoded == [3] * (1 + flip)
    encoded.clear()
    batched = pipe(photo, modal, batch_size=2)
    assert sorted(encoded) == [1] * (1 + flip) + [2] * (1 + flip)
    np.testing.assert_allclose(batched.probabilities, together.probabilities, atol=1e-5)
    encoded.clear()
    monkeypatch.setattr(photo_pcnet_mask, "_MOST_KEPT", 0)
    np.testing.assert_allclose(pipe(photo, modal).probabilities, together.probabilities, atol=1e-5)
    assert encoded[: 1 + flip] == [3] * (1 + flip) and len(encoded) == 2 * (1 + flip)
    without, with_photo = pipe([None, photo], [modal, modal]).probabilities
    np.testing.assert_allclose(with_photo, together.probabilities, atol=1e-5)
    np.testing.assert_allclose(without, pipe(None, modal).probabilities, atol=1e-5)
    assert not np.allclose(without, with_photo)


def test_offloaded_networks_are_brought_before_they_look_at_the_photo(monkeypatch):
    """An offloading hook goes before `forward`: nothing of the network may be called before it."""
    photo, modal, _ = draw_scene(1)
    pipe, calls = tiny_photo_pcnet(passes=2), []
    expected = pipe(photo, modal).probabilities
    encode = PhotoPCNetMask.encode_image
    monkeypatch.setattr(
        PhotoPCNetMask, "encode_image", lambda self, image: (calls.append("eyes"), encode(self, image))[1]
    )
    pipe.enable_model_cpu_offload(device="cpu")
    bring = pipe.model._hf_hook.pre_forward
    monkeypatch.setattr(
        pipe.model._hf_hook, "pre_forward", lambda module, *a, **k: (calls.append("weights"), bring(module, *a, **k))[1]
    )
    np.testing.assert_allclose(pipe(photo, modal).probabilities, expected, atol=1e-5)
    assert calls[:2] == ["weights", "eyes"] and calls.count("eyes") == 1


def test_those_who_call_pipelines_tell_names():
    """`call_pipeline`, `call_scenes` and scenes give names to a network that knows them, and ids to others."""
    photo, modal, _ = draw_scene(1)
    pipe, names = named_pipeline(), ["dog", None, "cat"]
    expected = pipe(photo, modal, category_ids=names)
    found = call_pipeline(pipe, photo, modal, [17, 18, None], names=names)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    np.testing.assert_array_equal(
        call_pipeline(pipe, photo, modal, [17, 18, None]).probabilities, pipe(photo, modal).probabilities
    )
    alone = call_pipeline(pipe, photo, modal, [17, 18, None], names=names, alone=True).probabilities
    np.testing.assert_allclose(alone[0], pipe(photo, modal[0], category_ids="dog").probabilities[0], atol=1e-5)
    (scene,) = call_scenes(pipe, [photo], [modal], [[17, 18, None]], names=[names], is_crowd=[[False] * 3])
    np.testing.assert_array_equal(scene.probabilities, expected.probabilities)
    asked = []

    def run(inputs, category_ids, photos, index, run=pipe._run):
        asked.append(category_ids.tolist())
        return run(inputs, category_ids, photos, index)

    pipe._run = run
    content = ContentPipeline(filler="smooth")
    ScenePipeline(pipe, content)(photo, modal, names=["dog", "bird", "cat"], extend_canvas=0.2)
    assert asked and {number for ids in asked for number in ids} == {0, 1, 2}
