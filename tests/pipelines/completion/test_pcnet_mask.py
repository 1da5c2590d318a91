"""The PCNet-M pipeline: published numbers, a network with a known rule, odd inputs, wrong inputs."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import parity
from amodal_diffusion import PCNetMaskPipeline
from amodal_diffusion.conversion import convert_pcnet_mask_weights
from amodal_diffusion.masks import encode_rle
from pipeline_helpers import (
    GapFiller,
    crossing_bars,
    dual_call,
    gap_filler,
    iou,
    stacked_bars,
    tiny_model,
    tiny_pipeline,
)
from repository_helpers import PARITY

# Published numbers


@pytest.fixture(scope="module")
def published_flow():
    model = convert_pcnet_mask_weights(load_file(PARITY / "pcnet_mask_w1.safetensors"), sample_size=128)
    pipeline = PCNetMaskPipeline(model, paste="binary", keep_modal=False, crop="mixed")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def flow_scene(index):
    stored = np.load(PARITY / "pcnet_mask_flow.npz")
    modal, _ = parity.scene(index)
    modal = modal[stored[f"scene{index}_kept"]].astype(bool)
    names = ("og", "nog")
    masks = [
        np.unpackbits(stored[f"scene{index}_{name}"], axis=-1)[..., : modal.shape[2]].astype(bool) for name in names
    ]
    return modal, stored[f"scene{index}_order"], *masks


@pytest.mark.parametrize("index", range(6))
def test_published_flow(published_flow, index):
    modal, order, by_ancestors, by_neighbours = flow_scene(index)
    output = published_flow(None, modal)
    np.testing.assert_array_equal(output.order, order)
    assert iou(output.amodal_masks, by_ancestors).min() >= 0.98
    assert iou(published_flow(None, modal, occluder_rule="neighbours").amodal_masks, by_neighbours).min() >= 0.98


def test_half_precision_keeps_the_masks(published_flow):
    modal, order, by_ancestors, _ = flow_scene(0)
    pipeline = tiny_pipeline(
        convert_pcnet_mask_weights(load_file(PARITY / "pcnet_mask_w1.safetensors"), sample_size=128)
    )
    full = pipeline(None, modal, order=order).amodal_masks
    half = pipeline.to(torch.bfloat16)(None, modal, order=order)
    assert pipeline.dtype == torch.bfloat16
    assert half.probabilities.dtype == np.float32
    assert iou(full, half.amodal_masks).min() > 0.95


# A network with a known rule


def test_completes_what_is_behind():
    modal, amodal = crossing_bars()
    output = gap_filler()(None, modal)
    np.testing.assert_array_equal(output.order, [[0, -1], [1, 0]])
    assert output.order.dtype == np.int8
    assert output.amodal_masks.dtype == bool and output.probabilities.dtype == np.float32
    np.testing.assert_array_equal(output.amodal_masks[1], amodal[1])
    assert iou(output.amodal_masks[0], amodal[0]) > 0.97
    assert output.uncertainty is None and output.samples is None


def test_probabilities_and_masks_agree():
    modal, _ = crossing_bars()
    pipeline = gap_filler()
    output = pipeline(None, modal, mask_threshold=0.35)
    np.testing.assert_array_equal(output.probabilities > 0.35, output.amodal_masks)
    assert (output.probabilities[modal] == 1).all()
    assert 0 <= output.probabilities.min() and output.probabilities.max() <= 1


def test_every_pair_once_and_nothing_twice():
    modal, _ = stacked_bars()
    gap_filler()(None, modal)
    # Six ordered pairs. Object 2 is in front; object 1 has one ancestor, a pair already seen; object 0 has two.
    assert GapFiller.rows == 6 + 1


def test_given_order_is_not_inferred_again():
    modal, _ = stacked_bars()
    pipeline = gap_filler()
    inferred = pipeline(None, modal)
    GapFiller.rows = 0
    given = pipeline(None, modal, order=inferred.order.tolist())
    assert GapFiller.rows == 2  # the objects that have ancestors
    np.testing.assert_array_equal(given.amodal_masks, inferred.amodal_masks)
    np.testing.assert_array_equal(given.order, inferred.order)


def test_reversed_order_moves_the_hidden_part():
    modal, _ = crossing_bars()
    output = gap_filler()(None, modal, order=[[0, 1], [-1, 0]])
    np.testing.assert_array_equal(output.amodal_masks[0], modal[0])


def test_cyclic_order():
    modal, _ = stacked_bars()
    cycle = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]])
    output = gap_filler()(None, modal, order=cycle)
    np.testing.assert_array_equal(output.order, cycle)
    assert (output.amodal_masks >= modal).all()


def test_neighbours_instead_of_ancestors():
    modal, amodal = crossing_bars()
    output = gap_filler()(None, modal, occluder_rule="neighbours", return_order=False)
    assert output.order is None and GapFiller.rows == 2  # each object once
    assert iou(output.amodal_masks[0], amodal[0]) > 0.97
    stored = gap_filler(occluder_rule="neighbours")(None, modal)
    np.testing.assert_array_equal(stored.amodal_masks, output.amodal_masks)
    np.testing.assert_array_equal(stored.order, [[0, -1], [1, 0]])  # which is not needed, but asked for


def test_order_can_be_left_out_and_the_masks_stay():
    modal, _ = stacked_bars()
    pipeline = gap_filler()
    output = pipeline(None, modal, return_order=False)
    assert output.order is None
    np.testing.assert_array_equal(output.amodal_masks, pipeline(None, modal).amodal_masks)
    with pytest.raises(ValueError, match="`occluder_rule` must be one of 'ancestors', 'consistent', 'neighbours', got"):
        pipeline(None, modal, occluder_rule="growth")


def test_ancestor_that_is_no_neighbour_erases_too():
    # 2 hides 1, 1 hides 0; 2 does not touch 0 but lies in the gap of its crop.
    modal = np.zeros((3, 60, 120), bool)
    modal[0, 20:40, 5:30] = modal[0, 20:40, 90:115] = True
    modal[1, 10:50, 30:50] = modal[1, 10:50, 70:90] = True
    modal[2, 10:50, 50:70] = True
    output = gap_filler()(None, modal, order=[[0, -1, 0], [1, 0, -1], [0, 1, 0]])
    assert output.amodal_masks[0, 30, 5:115].all()


@pytest.mark.parametrize("shape", ["one", "one each"])
def test_occluder_masks(shape):
    modal, amodal = crossing_bars()
    occluders = modal[1] if shape == "one" else modal[1][None]
    output = gap_filler()(None, modal[:1], occluder_masks=occluders)
    assert output.order is None
    assert iou(output.amodal_masks[0], amodal[0]) > 0.97


def test_one_occluder_each():
    modal, amodal = crossing_bars()
    output = gap_filler()(None, modal, occluder_masks=np.stack([modal[1], np.zeros_like(modal[1])]))
    assert iou(output.amodal_masks, amodal).min() > 0.97


def test_dilation_closes_the_gaps_of_a_segmenter(caplog):
    modal, amodal = crossing_bars()
    shrunk = modal.copy()
    shrunk[1, :, 30:33] = shrunk[1, :, 43:46] = False
    pipeline = gap_filler()
    with caplog.at_level(logging.WARNING):
        output = pipeline(None, shrunk)
    assert "No object of 1 of 1 scenes has an occluder" in caplog.text
    np.testing.assert_array_equal(output.amodal_masks, shrunk)
    grown = pipeline(None, shrunk, eraser_dilation=4)
    np.testing.assert_array_equal(grown.order, [[0, -1], [1, 0]])
    assert iou(grown.amodal_masks[0], amodal[0]) > 0.97


def test_order_by_probability_weighs_confidence():
    modal, _ = crossing_bars()
    np.testing.assert_array_equal(gap_filler(order_rule="probability")(None, modal).order, [[0, -1], [1, 0]])


@pytest.mark.parametrize("rule", ["count", "probability"])
def test_increments_are_in_pixels_of_the_photo(rule):
    modal, amodal = crossing_bars()
    pipeline = gap_filler(sample_size=128, order_rule=rule)
    call = dual_call(pipeline, modal)
    patches = pipeline.crop(call)
    pairs = pipeline.crop_pairs([scene.modal for scene in call.scenes], patches, [True])
    increments = pipeline.complete_pairs(call, patches, pairs)
    hidden = (amodal[0] & ~modal[0]).sum() * (1 if rule == "count" else GapFiller.confidence)
    np.testing.assert_allclose(increments[pairs.rows[0][0, 1]], hidden, rtol=0.05)
    assert increments[pairs.rows[0][1, 0]] == 0


def test_threshold_decides():
    modal, _ = crossing_bars()
    pipeline = gap_filler()  # which is sure to 0.9
    np.testing.assert_array_equal(pipeline(None, modal, mask_threshold=0.95).amodal_masks, modal)
    assert not pipeline(None, modal, order_threshold=0.95).order.any()


def test_settings_of_the_checkpoint_are_the_defaults():
    modal, _ = crossing_bars()
    np.testing.assert_array_equal(gap_filler(mask_threshold=0.95)(None, modal).amodal_masks, modal)
    assert not gap_filler(order_threshold=0.95)(None, modal).order.any()


def test_mirrored_scene_with_flips_gives_the_mirrored_answer():
    # A frame whose crop boxes are mirror images of each other: even sides, no truncation.
    modal, _ = crossing_bars(60, 80)
    pipeline = tiny_pipeline(tiny_model(sample_size=64), test_time_flip=True)
    call = dual_call(pipeline, modal, batch_size=2)
    patches = pipeline.crop(call)
    erasers = patches.modal.roll(1, 0)
    rows = torch.arange(2)
    straight = torch.cat([p for _, p in pipeline.complete_crops(call, patches, rows, erasers, "masks")])
    patches.modal = patches.modal.flip(-1)
    mirrored = torch.cat([p for _, p in pipeline.complete_crops(call, patches, rows, erasers.flip(-1), "masks")])
    torch.testing.assert_close(mirrored.flip(-1), straight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("paste", ["probability", "binary"])
@pytest.mark.parametrize("crop", ["nearest", "bilinear", "mixed"])
def test_every_way_of_resizing(paste, crop):
    modal, amodal = crossing_bars()
    output = gap_filler(paste=paste, crop=crop)(None, modal)
    assert GapFiller.rows == (3 if crop == "mixed" else 2)
    np.testing.assert_array_equal(output.order, [[0, -1], [1, 0]])
    assert iou(output.amodal_masks, amodal).min() > 0.92


def test_without_keep_modal_the_network_decides():
    modal, _ = crossing_bars()

    class Nothing(GapFiller):
        def forward(self, mask, eraser, **_):
            output = super().forward(mask, eraser)
            output.logits = torch.cat([torch.zeros_like(mask), torch.full_like(mask, -20)], dim=1)
            return output

    model = Nothing(block_out_channels=(4, 4), sample_size=32)
    assert not tiny_pipeline(model, keep_modal=False)(None, modal).amodal_masks.any()
    np.testing.assert_array_equal(tiny_pipeline(model)(None, modal).amodal_masks, modal)


# Lists, batches, containers


def test_list_of_stacks_needs_no_images():
    scenes = [crossing_bars()[0], stacked_bars()[0]]
    output = tiny_pipeline()(None, scenes)
    assert [len(masks) for masks in output.amodal_masks] == [2, 3]


def test_lists_of_every_argument():
    first, second = crossing_bars()[0], stacked_bars()[0]
    images = [Image.new("RGB", (80, 60)), None]
    output = gap_filler()(
        images,
        [first, second],
        occluder_masks=[first[1], None],
        order=[None, np.zeros((3, 3), int)],
        category_ids=[[1, 2], None],
    )
    assert output.order[0] is None and not output.order[1].any()
    np.testing.assert_array_equal(output.amodal_masks[1], second)


FORMS = {
    "uint8": lambda m: m.astype(np.uint8) * 255,
    "float": lambda m: m.astype(np.float32),
    "tensor": lambda m: torch.from_numpy(m),
    "four dimensions": lambda m: torch.from_numpy(m)[:, None].float(),
    "pil": lambda m: [Image.fromarray(mask) for mask in m],
    "rle": lambda m: [encode_rle(mask) for mask in m],
    "list": lambda m: list(m),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_masks(form):
    modal, _ = crossing_bars()
    pipeline = gap_filler()
    expected = pipeline(None, modal)
    output = pipeline(Image.new("RGB", (80, 60)), FORMS[form](modal))
    np.testing.assert_array_equal(output.amodal_masks, expected.amodal_masks)


def test_polygons_take_the_size_of_the_photo():
    output = tiny_pipeline()(Image.new("L", (80, 60)), [[[5, 5, 40, 5, 40, 30]], [[41, 5, 70, 5, 70, 30]]])
    assert output.amodal_masks.shape == (2, 60, 80)


# Odd scenes


def test_one_object_without_occluder_stays_and_says_so(caplog):
    mask = crossing_bars()[0][0]
    with caplog.at_level(logging.WARNING):
        output = tiny_pipeline()(None, mask)
    assert "occluder_masks" in caplog.text
    np.testing.assert_array_equal(output.amodal_masks, mask[None])
    np.testing.assert_array_equal(output.order, [[0]])


def test_hidden_object_stays_empty(caplog):
    modal = np.concatenate([crossing_bars()[0], np.zeros((1, 60, 80), bool)])
    output = gap_filler()(None, modal)
    assert not output.amodal_masks[2].any() and not output.probabilities[2].any()
    np.testing.assert_array_equal(output.order, [[0, -1, 0], [1, 0, 0], [0, 0, 0]])
    assert not caplog.records


def test_hidden_object_that_the_order_puts_behind():
    modal = np.concatenate([crossing_bars()[0], np.zeros((1, 60, 80), bool)])
    output = tiny_pipeline(keep_modal=False)(None, modal, order=[[0, -1, 1], [1, 0, 1], [-1, -1, 0]])
    assert not output.amodal_masks[2].any()


def test_all_hidden():
    output = tiny_pipeline(keep_modal=False)(None, np.zeros((2, 20, 30), bool))
    assert not output.amodal_masks.any() and not output.order.any()


def test_full_frame_and_border():
    modal = np.zeros((2, 40, 50), bool)
    modal[0] = True
    modal[0, 10:20, 10:20] = False
    modal[1] = ~modal[0]
    output = gap_filler()(None, modal)
    np.testing.assert_array_equal(output.order, [[0, -1], [1, 0]])
    assert output.amodal_masks[0].all()


def test_masks_that_overlap():
    _, amodal = crossing_bars()
    output = gap_filler()(None, amodal)
    assert (output.amodal_masks >= amodal).all()


def test_photo_as_path(tmp_path):
    Image.new("RGB", (80, 60)).save(tmp_path / "photo.png")
    assert gap_filler()(tmp_path / "photo.png", crossing_bars()[0]).order.any()


# Networks with more inputs


def test_image_network_sees_the_photo():
    modal, _ = crossing_bars()
    pipeline = tiny_pipeline(tiny_model(use_rgb=True), mask_threshold=0.5)
    photo = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    order = [[0, -1], [1, 0]]
    grey = pipeline(np.full_like(photo, 128), modal, order=order).probabilities
    assert not np.allclose(pipeline(photo, modal, order=order).probabilities, grey)
    with pytest.raises(ValueError, match="`image` must be given"):
        pipeline(None, modal)


def test_category_network_sees_the_category():
    modal, _ = crossing_bars()
    pipeline = tiny_pipeline(tiny_model(class_conditioned=True))
    order = [[0, -1], [1, 0]]
    first = pipeline(None, modal, category_ids=[1, 1], order=order).probabilities
    assert not np.allclose(pipeline(None, modal, category_ids=torch.tensor([5, 1]), order=order).probabilities, first)
    with pytest.raises(ValueError, match="`category_ids` must be given"):
        pipeline(None, modal)
    for bad in (0, -1):  # a mask times 0 is none
        with pytest.raises(ValueError, match=rf"`category_ids` must be positive integers, got \[1, {bad}\]"):
            pipeline(None, modal, category_ids=[1, bad])


def test_hidden_object_with_a_photo():
    modal = np.concatenate([crossing_bars()[0], np.zeros((1, 60, 80), bool)])
    output = tiny_pipeline(tiny_model(use_rgb=True))(np.zeros((60, 80, 3), np.uint8), modal)
    assert not output.amodal_masks[2].any()


# The modes of the network


def test_training_mode_is_put_back():
    model = tiny_model().train()
    model.conv_in.eval()
    before = [module.training for module in model.modules()]
    statistics = model.down_blocks[0].conv[1].running_mean.clone()
    tiny_pipeline(model)(None, crossing_bars()[0])
    assert [module.training for module in model.modules()] == before
    torch.testing.assert_close(model.down_blocks[0].conv[1].running_mean, statistics)
