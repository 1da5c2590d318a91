"""ScenePipeline: from a photo to a scene, and its folders with and without references."""

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import amodal_diffusion.hub
from amodal_diffusion import (
    AmodalPipelineOutput,
    ASBUPipeline,
    ASBUPredictor,
    ContentPipeline,
    PCNetContent,
    PCNetMaskPipeline,
    ScenePipeline,
    Segmenter,
)
from amodal_diffusion.pipelines.scene_parts import SceneInputs, read_margins, split_overlaps, tidy_hidden
from pipeline_helpers import ROOT, crossing_bars, gap_filler, iou, stacked_bars, tiny_pipeline
from test_segmenter import PHOTO, mask2former_pipeline

SHIPPED = ROOT / "pipelines" / "deocclusion"


def tiny_content(**settings):
    torch.manual_seed(0)
    network = PCNetContent(block_out_channels=(8, 8, 8), sample_size=32).eval()
    return ContentPipeline(network, background_size=32, **settings)


def scene_pipeline(mask_pipeline=None, **components):
    pipeline = ScenePipeline(mask_pipeline or gap_filler(), tiny_content(), **components)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def photo_like(masks, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*masks.shape[1:], 3), dtype=np.uint8)


def pixels(scene):
    return scene.render(output_type="np")


@pytest.fixture(scope="module")
def pipeline():
    return scene_pipeline()


def test_scene_of_crossing_bars(pipeline):
    modal, amodal = crossing_bars()
    photo = photo_like(modal)
    scene = pipeline(photo, modal, names=["long", "upright"])
    np.testing.assert_array_equal(pixels(scene), photo)
    assert [(layer.name, layer.id) for layer in scene.layers] == [("long", 0), ("upright", 1)]
    assert all(layer.uncertainty is None for layer in scene.layers)
    assert scene.order.tolist() == [[0, -1], [1, 0]] and scene.evidence.tolist() == [[False, True], [True, False]]
    assert all(layer.at_home for layer in scene.layers)
    assert scene.rim == pipeline.content_pipeline.background_rim(60, 80)
    for index, layer in enumerate(scene.layers):
        x, y, w, h = (int(value) for value in layer.box)
        part = np.s_[y : y + h, x : x + w]
        np.testing.assert_array_equal(layer.modal, modal[index][part])
        assert (layer.amodal & ~layer.modal).sum() == (scene.layers[index].rgba[..., 3] > 0).sum() - modal[index].sum()
        np.testing.assert_array_equal(layer.rgba[..., :3][layer.modal], photo[part][layer.modal])
    found = gap_filler()(photo, modal).amodal_masks
    assert iou(scene.layer_image(0, output_type="np")[..., 3] > 0, found[0]) > 0.97 > iou(modal[0], found[0])
    background = pipeline.content_pipeline.background(photo, modal, replace_rim=True)
    np.testing.assert_array_equal(scene.background, background)
    removed = pixels(scene.remove(1))
    np.testing.assert_array_equal(removed[22:38, 32:44], scene.layer_image(0, output_type="np")[22:38, 32:44, :3])


def test_names_are_numbered(pipeline):
    modal, _ = stacked_bars()
    scene = pipeline(Image.fromarray(photo_like(modal)), modal)
    assert [layer.name for layer in scene.layers] == ["object 1", "object 2", "object 3"]


def test_given_order_wins():
    modal, _ = crossing_bars()
    order = np.array([[0, 1], [-1, 0]])
    for mask_pipeline in (gap_filler(), asbu()):
        scene = scene_pipeline(mask_pipeline)(photo_like(modal), modal, order=torch.tensor(order))
        np.testing.assert_array_equal(scene.order, order)


def asbu():
    torch.manual_seed(0)
    return ASBUPipeline(ASBUPredictor(block_out_channels=(4, 8), sample_size=32).eval())


def test_uncertainty():
    modal, _ = crossing_bars()
    mask_pipeline = asbu()
    photo = photo_like(modal)
    scene = scene_pipeline(mask_pipeline)(photo, modal)
    expected = mask_pipeline(photo, modal).uncertainty
    for index, layer in enumerate(scene.layers):
        x, y, w, h = (int(value) for value in layer.box)
        np.testing.assert_allclose(layer.uncertainty, expected[index, y : y + h, x : x + w], atol=1e-6)
    np.testing.assert_array_equal(pixels(scene), photo)


class WithoutOrder(PCNetMaskPipeline):
    """A mask pipeline that tells no order."""

    def __call__(self, *args, **kwargs):
        output = super().__call__(*args, **kwargs)
        return AmodalPipelineOutput(output.amodal_masks, output.probabilities)


def test_order_from_masks_where_the_pipeline_tells_none():
    modal, _ = crossing_bars()
    scene = scene_pipeline(WithoutOrder(gap_filler().model))(photo_like(modal), modal)
    assert scene.order.tolist() == [[0, -1], [1, 0]]


def test_occluder_masks_are_passed_on(pipeline):
    modal, amodal = crossing_bars()
    photo = photo_like(modal)
    scene = pipeline(photo, modal[:1], occluder_masks=amodal[1])
    assert scene.layers[0].amodal.sum() > modal[0].sum()
    np.testing.assert_array_equal(pixels(scene), photo)  # the photo shows that something else is before it
    shown = pixels(scene.move(0, 0, 10))
    tile = scene.layers[0].rgba
    x, y, w, h = (int(value) for value in scene.layers[0].box)
    np.testing.assert_array_equal(shown[y + 10 : y + 10 + h, x : x + w][tile[..., 3] > 0], tile[tile[..., 3] > 0, :3])


def test_objects_without_pixels_and_no_objects(pipeline):
    modal, _ = crossing_bars()
    modal = np.concatenate([modal, np.zeros_like(modal[:1])])
    photo = photo_like(modal)
    scene = pipeline(photo, modal)
    empty = scene.layers[2]
    assert empty.size == (1, 1) and not empty.rgba.any() and not empty.amodal.any() and not scene.order[2].any()
    np.testing.assert_array_equal(pixels(scene.move(2, 4).remove(2)), photo)
    nothing = pipeline(photo, modal[:0])
    assert len(nothing) == 0 and nothing.order.shape == (0, 0)
    np.testing.assert_array_equal(nothing.background, photo)
    np.testing.assert_array_equal(pixels(nothing), photo)


def test_overlapping_masks_are_split(pipeline):
    modal, amodal = crossing_bars()
    photo = photo_like(modal)
    scene = pipeline(photo, amodal)
    np.testing.assert_array_equal(pixels(scene), photo)
    owned = np.zeros(photo.shape[:2], int)
    for layer in scene.layers:
        x, y, w, h = (int(value) for value in layer.box)
        owned[y : y + h, x : x + w] += layer.modal
    assert owned.max() == 1 and ((owned == 1) == amodal.any(axis=0)).all()


def test_split_overlaps():
    masks = np.zeros((3, 1, 6), bool)
    masks[0, 0, :4], masks[1, 0, 2:6], masks[2, 0, 3:5] = True, True, True
    none = np.zeros((3, 3), np.int8)
    split = split_overlaps(masks, none)
    assert split[:, 0].astype(int).tolist() == [[1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 1], [0, 0, 0, 1, 1, 0]]
    order = np.array([[0, 1, 1], [-1, 0, 1], [-1, -1, 0]], np.int8)
    split = split_overlaps(masks, order)
    assert split[:, 0].astype(int).tolist() == [[1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0]]
    cycle = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]], np.int8)
    split = split_overlaps(masks, cycle)
    assert (split.sum(axis=0) == masks.any(axis=0)).all() and split[2, 0, 3]  # where all three meet: the smallest
    np.testing.assert_array_equal(split_overlaps(masks[:0], none[:0, :0]), masks[:0])


def test_tidy_hidden():
    modal = np.zeros((2, 30, 40), bool)
    modal[0, 5:25, 5:20] = True
    amodal = modal.copy()
    amodal[0, 5:25, 20:22] = True  # a fringe
    amodal[0, 10:20, 24:34] = True  # a hidden part beyond a crack
    amodal[0, 10:20, 22:23] = True
    tidy = tidy_hidden(amodal, modal, 3)
    assert tidy[0, 10:20, 5:34].all() and tidy[0, 12:18, 23].all()  # the crack beside the hidden part is closed
    assert not tidy[0, 5:7, 20:].any() and not tidy[0, 22:25, 20:].any()
    assert not tidy[1].any() and (tidy & modal == modal).all()
    np.testing.assert_array_equal(tidy_hidden(amodal, modal, 0), amodal)
    np.testing.assert_array_equal(tidy_hidden(amodal & ~modal, modal, 1), amodal)
    edge = np.zeros((1, 8, 8), bool)
    edge[0, :4] = True
    whole = np.ones((1, 8, 8), bool)
    np.testing.assert_array_equal(tidy_hidden(whole, edge, 3), whole)  # the frame is no sliver


class Overgrown(PCNetMaskPipeline):
    """Completes everything to the whole crop box of the photo where an occluder is."""

    calls = []

    @functools.wraps(PCNetMaskPipeline.__call__)
    def __call__(self, image, masks, *, occluder_masks=None, **kwargs):
        type(self).calls.append((masks, occluder_masks, kwargs))
        output = super().__call__(image, masks, occluder_masks=occluder_masks, **kwargs)
        if occluder_masks is not None:
            grown = (
                masks | (occluder_masks & np.roll(masks, 3, axis=-1)) | (occluder_masks & np.roll(masks, -3, axis=-1))
            )
            output.amodal_masks = grown
        return output


def test_objects_grow_beyond_the_frame():
    modal = np.zeros((2, 30, 40), bool)
    modal[0, 10:20, 0:15] = True  # cut by the left edge
    modal[1, 5:25, 20:30] = True
    photo = photo_like(modal)
    Overgrown.calls = []
    scene = scene_pipeline(Overgrown(gap_filler().model))(photo, modal, extend_canvas=(6, 4, 0, 2), category_ids=[1, 2])
    assert scene.size == (46, 36)
    np.testing.assert_array_equal(pixels(scene)[4:34, 6:46], photo)
    assert scene.layers[0].box == (3, 14, 18, 10) and scene.layers[1].box == (26, 9, 10, 20)
    assert scene.layers[0].amodal[:, :3].all() and not scene.layers[0].modal[:, :3].any()
    outside = np.ones((36, 46), bool)
    outside[4:34, 6:46] = False
    np.testing.assert_array_equal(scene.replaced, outside)
    grown = scene.layer_image(0, output_type="np")
    np.testing.assert_array_equal(pixels(scene)[14:24, 3:6], grown[14:24, 3:6, :3])
    np.testing.assert_array_equal(pixels(scene)[:4], scene.background[:4])
    (_, none, _), (masks, occluders, options) = Overgrown.calls
    assert none is None and masks.shape == (1, 36, 46) and (occluders[0] & outside == outside).all()
    assert options["category_ids"].tolist() == [1]


def test_nothing_is_cut_where_the_canvas_ends_at_the_frame():
    modal = np.zeros((1, 30, 40), bool)
    modal[0, 10:20, 0:15] = True
    Overgrown.calls = []
    scene_pipeline(Overgrown(gap_filler().model))(photo_like(modal), modal, extend_canvas=(0, 0, 9, 9))
    assert len(Overgrown.calls) == 1


def test_cut_by_frame():
    masks = np.zeros((4, 6, 8), bool)
    masks[0, :, 0], masks[1, 0, 3], masks[2, 2, 7], masks[3, 5, 2] = True, True, True, True
    for margins, cut in (((1, 0, 0, 0), [0]), ((0, 1, 0, 0), [0, 1]), ((0, 0, 1, 0), [2]), ((0, 0, 0, 1), [0, 3])):
        inputs = SceneInputs(np.zeros((6, 8, 3), np.uint8), masks, [], 0, margins)
        assert np.flatnonzero(inputs.cut_by_frame).tolist() == cut


@pytest.mark.parametrize(
    ("value", "margins"),
    [(0, (0, 0, 0, 0)), (7, (7, 7, 7, 7)), (0.25, (20, 20, 20, 20)), (1.0, (80,) * 4), ([1, 2, 3, 4], (1, 2, 3, 4)),
     (np.float32(0.5), (40,) * 4), (np.array([1, 2, 3, 4]), (1, 2, 3, 4))],
)  # fmt: skip
def test_margins(value, margins):
    assert read_margins(value, 60, 80) == margins


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (-1, ValueError, "at least 0"),
        (1.5, ValueError, r"as a share must lie in \[0, 1\]"),
        (float("nan"), ValueError, "as a share"),
        ((1, 2), ValueError, r"or \(left, top, right, bottom\)"),
        ((1, 2, 3, 0.5), TypeError, "must be an integer"),
        ("5", TypeError, "must be an integer"),
        (2**20, ValueError, "at most"),
    ],
)
def test_margins_refused(value, error, message):
    with pytest.raises(error, match=f"`extend_canvas`.*{message}"):
        read_margins(value, 60, 80)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"masks": None}, ValueError, "`masks` must be given: this pipeline has no segmenter"),
        ({"names": "ab"}, TypeError, "`names` must be a list"),
        ({"names": ["a"]}, ValueError, "`names` must have one entry for each of the 2 objects, got 1"),
        ({"names": ["a", 2]}, TypeError, "`names` must hold texts, got 2"),
        ({"order": np.ones((2, 2))}, ValueError, "`order` must be antisymmetric"),
        ({"order": np.zeros((3, 3))}, ValueError, "`order` must have shape"),
        ({"eraser_dilation": -1}, ValueError, "`eraser_dilation` must be at least 0"),
        ({"masks": np.zeros((2, 5, 5), bool)}, ValueError, "5"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1"),
        ({"prompts": ["one"]}, ValueError, "`prompts` must have one entry"),
    ],
)
def test_calls_refused(pipeline, arguments, error, message):
    modal, _ = crossing_bars()
    with pytest.raises(error, match=message):
        pipeline(photo_like(modal), **{"masks": modal, **arguments})


def test_progress(pipeline):
    modal, _ = crossing_bars()
    stages = []
    pipeline(photo_like(modal), modal, progress_callback=lambda stage, share: stages.append((stage, share)))
    assert [stage for stage, _ in stages] == ["masks", "contents", "background", "done"]
    shares = [share for _, share in stages]
    assert shares == sorted(shares) and shares[-1] == 1


def test_calls_repeat_and_batches_do_not_matter(pipeline):
    modal, _ = stacked_bars()
    photo = photo_like(modal)
    first = pipeline(photo, modal)
    assert first.equals(pipeline(photo, modal))
    one = pipeline(photo, modal, batch_size=1)
    assert np.abs(one.background.astype(int) - first.background).max() <= 1
    assert [layer.box for layer in one.layers] == [layer.box for layer in first.layers]


def test_segmenter_finds_the_objects():
    segmenter = Segmenter(mask2former_pipeline(), score_threshold=0.0, min_area=0.0, eraser_dilation=3)
    stages = []
    pipeline = scene_pipeline(segmenter=segmenter)
    scene = pipeline(PHOTO, progress_callback=lambda stage, share: stages.append(stage))
    found = segmenter(PHOTO)
    assert len(scene) == len(found.masks) > 0 and [layer.name for layer in scene.layers] == found.names
    assert stages[:2] == ["segment", "masks"]
    np.testing.assert_array_equal(pixels(scene), np.asarray(PHOTO))
    assert ScenePipeline(gap_filler(), tiny_content(), mask2former_pipeline()).segmenter.eraser_dilation == 4


@pytest.mark.parametrize(("given", "expected"), [(None, 3), (0, 0), (5, 5)])
def test_predicted_masks_are_dilated(given, expected):
    segmenter = Segmenter(mask2former_pipeline(), score_threshold=0.0, min_area=0.0, eraser_dilation=3)
    Overgrown.calls = []
    pipeline = scene_pipeline(Overgrown(gap_filler().model), segmenter=segmenter)
    pipeline(PHOTO, eraser_dilation=given)
    assert Overgrown.calls[0][2]["eraser_dilation"] == expected
    masks = segmenter(PHOTO).masks
    pipeline(PHOTO, masks)
    assert Overgrown.calls[1][2]["eraser_dilation"] == 0  # of masks that were given


def test_components_are_checked():
    for components, message in (
        ((tiny_content(), tiny_content()), "`mask_pipeline` must be a MaskPipeline, got ContentPipeline"),
        ((gap_filler(), None), "`content_pipeline` must be a ContentPipeline, got NoneType"),
        ((gap_filler(), tiny_content(), 3), "`model` must be a transformers pipeline"),
    ):
        with pytest.raises(TypeError, match=message):
            ScenePipeline(*components)
    with pytest.raises(ValueError, match="`min_hidden_width` must be at least 0"):
        ScenePipeline(gap_filler(), tiny_content(), min_hidden_width=-1)


def test_devices_and_dtypes():
    pipeline = ScenePipeline(tiny_pipeline(), tiny_content())
    assert pipeline.to(torch.bfloat16) is pipeline and pipeline.dtype == torch.bfloat16
    assert {next(network.parameters()).dtype for network in pipeline.networks} == {torch.bfloat16}
    assert pipeline.device == torch.device("cpu") and len(pipeline.networks) == 2
    modal, _ = crossing_bars()
    np.testing.assert_array_equal(pixels(pipeline(photo_like(modal), modal)), photo_like(modal))


# Folders


@pytest.fixture(scope="module")
def plain():
    return ScenePipeline(tiny_pipeline(), tiny_content(), min_hidden_width=2)


@pytest.fixture(scope="module")
def saved(plain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "deocclusion"
    plain.save_pretrained(folder)
    return folder


def check(loaded, plain):
    modal, _ = crossing_bars()
    loaded.set_progress_bar_config(disable=True)
    photo = photo_like(modal)
    assert type(loaded) is ScenePipeline and loaded(photo, modal).equals(plain(photo, modal))


def test_saved_folder(saved, plain):
    index = json.loads((saved / "model_index.json").read_text())
    assert index.pop("_diffusers_version")
    assert index == {
        "_class_name": "ScenePipeline",
        "mask_pipeline": ["amodal_diffusion", "PCNetMaskPipeline"],
        "content_pipeline": ["amodal_diffusion", "ContentPipeline"],
        "segmenter": [None, None],
        "min_hidden_width": 2,
    }
    assert (saved / "pipeline.py").read_text() == "from amodal_diffusion import ScenePipeline  # noqa: F401\n"
    loaded = ScenePipeline.from_pretrained(saved)
    assert loaded.config.min_hidden_width == 2 and loaded.segmenter is None
    check(loaded, plain)
    check(ScenePipeline.from_pretrained(saved.parent, subfolder="deocclusion"), plain)


def test_second_save(saved, plain, tmp_path):
    ScenePipeline.from_pretrained(saved).save_pretrained(tmp_path)
    check(ScenePipeline.from_pretrained(tmp_path), plain)


def test_segmenter_is_saved(tmp_path):
    pipeline = ScenePipeline(tiny_pipeline(), tiny_content(), Segmenter(mask2former_pipeline(), max_objects=3))
    pipeline.save_pretrained(tmp_path)
    loaded = ScenePipeline.from_pretrained(tmp_path)
    assert loaded.segmenter.settings == pipeline.segmenter.settings


def test_components_and_settings_can_be_replaced(saved):
    content = tiny_content()
    loaded = ScenePipeline.from_pretrained(saved, content_pipeline=content, min_hidden_width=5)
    assert loaded.content_pipeline is content and loaded.config.min_hidden_width == 5


def test_dtype(saved):
    loaded = ScenePipeline.from_pretrained(saved, dtype=torch.bfloat16)
    assert {next(network.parameters()).dtype for network in loaded.networks} == {torch.bfloat16}


def refer(saved, folder, references, move=True):
    """A folder like `saved` whose components lie elsewhere."""
    shutil.copytree(saved, folder)
    if move:
        for name in ("mask_pipeline", "content_pipeline"):
            shutil.move(folder / name, folder.parent / name)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "references": references}))
    return folder


BESIDE = {"mask_pipeline": "../mask_pipeline", "content_pipeline": "../content_pipeline"}


def test_references(saved, plain, tmp_path):
    folder = refer(saved, tmp_path / "scene", BESIDE)
    loaded = ScenePipeline.from_pretrained(folder)
    check(loaded, plain)
    check(ScenePipeline.from_pretrained(tmp_path, subfolder="scene"), plain)
    loaded.save_pretrained(tmp_path / "whole")  # holds everything
    (tmp_path / "elsewhere").mkdir()
    check(ScenePipeline.from_pretrained(shutil.move(tmp_path / "whole", tmp_path / "elsewhere")), plain)


def test_reference_to_the_hub(saved, plain, tmp_path, monkeypatch):
    folder = refer(saved, tmp_path / "scene", {**BESIDE, "mask_pipeline": "someone/pcnet-m"})
    asked = []

    def load(path, **options):
        asked.append((path, options))
        return plain.mask_pipeline

    monkeypatch.setattr("amodal_diffusion.pipelines.scene_loading.AmodalPipeline.from_pretrained", load)
    check(ScenePipeline.from_pretrained(folder, token="secret", revision="v1"), plain)
    assert asked == [("someone/pcnet-m", {"subfolder": None, "token": "secret"})]  # the revision is of this repository


@pytest.mark.parametrize(
    ("references", "error", "message"),
    [
        (
            {"mask_pipeline": "../nowhere"},
            FileNotFoundError,
            "`mask_pipeline` refers to '.*nowhere', where there is no",
        ),
        (
            {"mask_pipeline": "/etc"},
            ValueError,
            "`mask_pipeline` must refer to a relative path or a Hub id",
        ),
        ({"mask_pipeline": "..\\asbu"}, FileNotFoundError, "`mask_pipeline` refers to"),
        ({"colour": "../x"}, ValueError, r"`references` names \['colour'\]"),
        ({"mask_pipeline": 3}, ValueError, "`references` must map names"),
        ("../x", ValueError, "`references` must map names"),
    ],
)
def test_broken_references(saved, tmp_path, references, error, message):
    folder = refer(saved, tmp_path / "scene", references, move=False)
    with pytest.raises(error, match=f"model_index.json of '.*scene'.*{message}"):
        ScenePipeline.from_pretrained(folder)


def test_broken_folders(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        ScenePipeline.from_pretrained(tmp_path / "missing")
    with pytest.raises(ValueError, match="holds a `PCNetMaskPipeline`, expected a `ScenePipeline`"):
        ScenePipeline.from_pretrained(saved / "mask_pipeline")
    folder = refer(saved, tmp_path / "scene", {}, move=False)
    index = json.loads((folder / "model_index.json").read_text())
    del index["content_pipeline"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="names no `content_pipeline`"):
        ScenePipeline.from_pretrained(folder)
    shutil.rmtree(folder / "mask_pipeline")
    with pytest.raises(FileNotFoundError, match="`mask_pipeline` refers to"):
        ScenePipeline.from_pretrained(folder, content_pipeline=tiny_content())


def test_unsafe_weights_are_refused(saved, plain, tmp_path):
    with pytest.raises(ValueError, match="`use_safetensors` must be True"):
        ScenePipeline.from_pretrained(saved, use_safetensors=False)
    with pytest.raises(ValueError, match="`safe_serialization` must be True"):
        plain.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(ValueError, match=r"call the method `push_to_hub\(repo_id\)`"):
        plain.save_pretrained(tmp_path, push_to_hub=True)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        plain.save_pretrained(tmp_path / "file")


def fake_hub(monkeypatch, repository):
    """Downloads come from a folder; what they ask for is recorded."""
    patterns = []

    def snapshot_download(repo_id, allow_patterns=None, **options):
        patterns.append((repo_id, allow_patterns[0]))
        return str(repository)

    monkeypatch.setattr(amodal_diffusion.hub, "snapshot_download", snapshot_download)
    index = repository / "model_index.json"
    hub = SimpleNamespace(load_config=lambda repo_id, **options: json.loads(index.read_text()))
    monkeypatch.setattr(amodal_diffusion.hub, "DiffusionPipeline", hub)
    return patterns


def test_from_the_hub(saved, plain, monkeypatch):
    asked = fake_hub(monkeypatch, saved)
    check(ScenePipeline.from_pretrained("someone/scene"), plain)
    assert asked == [("someone/scene", "mask_pipeline/*.json"), ("someone/scene", "content_pipeline/*.json")]


def test_references_within_a_hub_repository(saved, plain, tmp_path, monkeypatch):
    refer(saved, tmp_path / "deocclusion", BESIDE)
    asked = fake_hub(monkeypatch, tmp_path)
    check(ScenePipeline.from_pretrained("someone/all", subfolder="deocclusion"), plain)
    assert [pattern for _, pattern in asked] == [
        "deocclusion/*.json",
        "mask_pipeline/*.json",
        "content_pipeline/*.json",
    ]


def test_references_that_leave_a_hub_repository(saved, tmp_path, monkeypatch):
    fake_hub(monkeypatch, refer(saved, tmp_path / "scene", BESIDE))
    with pytest.raises(ValueError, match=r"`mask_pipeline` to '../mask_pipeline' leaves the repository"):
        ScenePipeline.from_pretrained("someone/scene")


def test_diffusers_loads_the_folder(saved, tmp_path):
    code = """
import sys
from diffusers import DiffusionPipeline
loaded = DiffusionPipeline.from_pretrained(sys.argv[1], custom_pipeline=sys.argv[1], trust_remote_code=True)
print(type(loaded).__name__, type(loaded.mask_pipeline).__name__, type(loaded.content_pipeline).__name__)
"""
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, saved], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    assert done.stdout.split() == ["ScenePipeline", "PCNetMaskPipeline", "ContentPipeline"]


def test_shipped_folder():
    index = json.loads((SHIPPED / "model_index.json").read_text())
    assert index["_class_name"] == "ScenePipeline" and set(index["references"]) == {"mask_pipeline", "content_pipeline"}
    for reference in index["references"].values():
        if not Path(SHIPPED, reference).is_dir():
            pytest.skip(f"{reference} is not here yet")
    pipeline = ScenePipeline.from_pretrained(SHIPPED)
    modal, _ = crossing_bars()
    photo = photo_like(modal)
    pipeline.set_progress_bar_config(disable=True)
    np.testing.assert_array_equal(pixels(pipeline(photo, modal)), photo)
