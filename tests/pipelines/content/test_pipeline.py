"""ContentPipeline with a network: what it is shown, what it may change, the background."""

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion import ContentPipelineOutput
from amodal_diffusion.masks import dilate
from amodal_diffusion.pipelines import CallInterruptedError
from amodal_diffusion.pipelines.content.inputs import content_boxes, cover
from content_helpers import check_tiles, painter, smooth_photo, tile_of, tiny_content, tiny_content_model
from diffusion_helpers import photo
from pipeline_helpers import crossing_bars, stacked_bars


@pytest.fixture(scope="module")
def pipeline():
    return tiny_content()


# what comes out


@pytest.mark.parametrize("make", [crossing_bars, stacked_bars])
def test_visible_pixels_are_the_photo(make, pipeline):
    modal, amodal = make()
    picture = photo(1, *modal.shape[1:])
    output = pipeline(picture, modal, amodal)
    assert isinstance(output, ContentPipelineOutput) and output.boxes.dtype == np.int64
    check_tiles(output, picture, modal, amodal)


def test_hidden_pixels_are_the_networks():
    modal, amodal = crossing_bars()
    pipe = painter(colour=(0.2, 0.4, 0.6), feather=0)
    output = pipe(photo(1, 60, 80), modal, amodal)
    _, hidden = tile_of(modal[0], amodal[0] & ~modal[0], output.boxes[0])
    assert hidden.any() and (output.objects[0][hidden] == (51, 102, 153, 255)).all()
    assert len(pipe.model.seen) == 1 and len(pipe.model.seen[0]["visible"]) == 1  # the front object costs nothing


def test_a_cast_of_the_network_leaves_no_edge():
    """The network sees through the occluder but for a cast, which the correction takes off at the seam."""
    modal, amodal = crossing_bars()
    picture = smooth_photo()

    def errors(**settings):
        pipe = painter(cast=(0.1, -0.1, 0.05), sample_size=128, **settings)
        output = pipe(picture, modal, amodal)
        truth, hidden = tile_of(picture, amodal[0] & ~modal[0], output.boxes[0])
        _, seen = tile_of(picture, modal[0], output.boxes[0])
        difference = np.abs(output.objects[0][..., :3].astype(int) - truth)
        seam = hidden & dilate(seen)
        return difference[seam].max(), difference[hidden].mean()

    assert errors(feather=0)[0] > 20
    at_seam, inside = errors()
    assert at_seam <= 5 and inside < 0.75 * errors(feather=0)[1]


@pytest.mark.parametrize("margin", [0, 2])
def test_paintings_meet_the_photo_at_its_resolution(margin):
    """What the small crop of the network misses is corrected along the seam, and no visible pixel changes."""
    modal, amodal = crossing_bars()
    picture = smooth_photo()

    def error(**settings):
        pipe = painter(cast=(0.2, -0.2, 0.1), feather=0, **settings)
        output = pipe(picture, modal, amodal)
        check_tiles(output, picture, modal, amodal)
        truth, hidden = tile_of(picture, amodal[0] & ~modal[0], output.boxes[0])
        removed = np.asarray(pipe.background(picture, modal[1:]))
        assert np.array_equal(removed[~modal[1]], picture[~modal[1]])
        found = np.abs(output.objects[0][..., :3].astype(int) - truth)[hidden].mean()
        return found, np.abs(removed.astype(int) - picture)[modal[1]].mean()

    plain, corrected = error(), error(seam_margin=margin)
    assert corrected[0] < 0.5 * plain[0] and corrected[1] < 0.5 * plain[1]


def test_seam_colours_do_not_come_from_the_occluder():
    """The photo is black behind the occluder's outline; only pixels of the object itself decide the correction."""
    modal, amodal = crossing_bars()
    picture = np.full((60, 80, 3), 128, np.uint8)
    picture[modal[1]] = 0
    output = painter(colour=(0.6, 0.6, 0.6), sample_size=256)(picture, modal, amodal)
    _, hidden = tile_of(picture, amodal[0] & ~modal[0], output.boxes[0])
    found = output.objects[0][hidden][:, :3]
    assert found.min() >= 120 and found.max() <= 154


def test_batches_do_not_change_the_answer():
    modal, amodal = stacked_bars()
    picture, pipe = photo(2, 64, 96), tiny_content()
    one = pipe(picture, modal, amodal, batch_size=1).objects
    many = pipe(picture, modal, amodal, batch_size=8).objects
    for first, second in zip(one, many, strict=True):
        assert np.abs(first.astype(int) - second).max() <= 1
    alone = pipe(picture, modal[:1], amodal[:1]).objects[0]
    assert np.abs(alone.astype(int) - one[0]).max() <= 1


def test_objects_of_a_call_go_through_the_network_together():
    modal, amodal = stacked_bars()
    pipe = painter()
    pipe(photo(1, 64, 96), modal, amodal, batch_size=8)
    assert [len(call["visible"]) for call in pipe.model.seen] == [2]


@pytest.mark.parametrize("output_type", ["pt", "pil"])
def test_output_types(output_type, pipeline):
    modal, amodal = crossing_bars()
    picture = photo(1, 60, 80)
    arrays = pipeline(picture, modal, amodal)
    objects, boxes, _ = pipeline(picture, modal, amodal, output_type=output_type, return_dict=False)
    np.testing.assert_array_equal(np.asarray(boxes), arrays.boxes)
    assert isinstance(boxes, torch.Tensor) is (output_type == "pt")
    for tile, array in zip(objects, arrays.objects, strict=True):
        if output_type == "pt":
            assert tile.dtype == torch.uint8
            tile = tile.permute(1, 2, 0).numpy()
        else:
            assert tile.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(tile), array)
    whole = pipeline.background(picture, modal)
    other = pipeline.background(picture, modal, output_type=output_type)
    other = other.permute(1, 2, 0).numpy() if output_type == "pt" else np.asarray(other)
    np.testing.assert_array_equal(whole, other)


# what the network is shown


def test_the_network_sees_neither_the_hidden_part_nor_its_rim_nor_beyond_the_photo():
    modal, amodal = np.zeros((1, 64, 64), bool), np.zeros((1, 64, 64), bool)
    amodal[0, :, :] = True
    modal[0, :, :40] = True
    pipe = painter(sample_size=128, hole_dilation=6, enlarge_box=4.0)  # one pixel of the crop is one of the photo
    pipe(photo(1, 64, 64), modal, amodal)
    (call,) = pipe.model.seen
    expected = torch.zeros(128, 128, dtype=torch.bool)
    expected[32 + 3 : 96 - 3, 32 + 3 : 72 - 3] = True  # 6 pixels of 256 are 3 of 128
    assert torch.equal(call["visible"][0, 0], expected)
    assert torch.equal(call["mask"][0, 0] > 0, expected)


def test_thin_hidden_parts_are_not_lost_in_small_crops():
    amodal = np.ones((1, 400, 400), bool)
    modal = amodal.copy()
    modal[0, 201, 5:8] = False
    pipe = painter(sample_size=32, hole_dilation=0, enlarge_box=1.0)
    output = pipe(photo(1, 400, 400), modal, amodal)
    (call,) = pipe.model.seen
    x, y, side = content_boxes(output.boxes, 1.0)[0][:3]
    column, row = (int(value * 32 / side) for value in (5 - x, 201 - y))
    assert not call["visible"][0, 0, row, column]


def test_the_order_says_which_overlaps_are_hidden():
    """Where masks overlap, the pixels of what is in front are not shown, but stay the photo's."""
    modal, amodal = crossing_bars()
    modal[0, 20:40, 25:32] = True  # overlaps with object 1, which is in front
    picture, order = photo(1, 60, 80), [[0, -1], [1, 0]]
    settings = {"hole_dilation": 0, "sample_size": 128}
    shown = []
    for options in ({}, {"order": order}, {"occluder_masks": modal[1]}, {"order": np.zeros((2, 2), int)}):
        pipe = painter(**settings)
        check_tiles(pipe(picture, modal, amodal, **options), picture, modal, amodal)
        shown.append(pipe.model.seen[0]["visible"][0, 0])
    plain, ordered, occluded, unordered = shown
    assert ordered.sum() < plain.sum() and not (ordered & ~plain).any()
    assert torch.equal(ordered, occluded) and torch.equal(plain, unordered)


def test_occluders_can_be_erased_altogether():
    modal, amodal = crossing_bars()
    shown = []
    for erase in (False, True):
        pipe = painter(hole_dilation=0, sample_size=128, erase_occluders=erase)
        pipe(photo(1, 60, 80), modal, amodal, order=[[0, -1], [1, 0]])
        shown.append(pipe.model.seen[0]["visible"][0, 0])
    assert shown[1].sum() < shown[0].sum() and not (shown[1] & ~shown[0]).any()


def test_unknown_pixels_are_never_shown():
    modal, amodal = np.zeros((1, 60, 80), bool), np.zeros((1, 60, 80), bool)
    modal[0, 20:40, 20:50] = True
    amodal[0, 20:40, 20:70] = True
    unknown = np.zeros((60, 80), bool)
    unknown[:, 50:] = True
    first, second = photo(1, 60, 80), photo(1, 60, 80)
    second[unknown] = 255
    pipe = tiny_content(hole_dilation=8)
    tiles = [pipe(picture, modal, amodal, unknown=unknown).objects[0] for picture in (first, second)]
    np.testing.assert_array_equal(*tiles)
    backgrounds = [pipe.background(picture, modal, unknown=unknown) for picture in (first, second)]
    np.testing.assert_array_equal(*backgrounds)


def test_category_ids_reach_a_class_conditioned_network():
    modal, amodal = crossing_bars()
    pipe = painter(class_conditioned=True)
    pipe(photo(1, 60, 80), modal, amodal, category_ids=[5, 7])
    assert pipe.model.seen[0]["category_ids"].tolist() == [5]
    pipe.background(photo(1, 60, 80), modal)
    with pytest.raises(ValueError, match="`category_ids` must be given"):
        pipe(photo(1, 60, 80), modal, amodal)
    with pytest.raises(ValueError, match=r"`category_ids` must have shape \(2,\)"):
        pipe(photo(1, 60, 80), modal, amodal, category_ids=[1])
    for bad in (0, -1):
        with pytest.raises(ValueError, match=rf"`category_ids` must be positive integers, got \[1, {bad}\]"):
            pipe(photo(1, 60, 80), modal, amodal, category_ids=[1, bad])


def test_a_network_without_mask_plane():
    modal, amodal = crossing_bars()
    pipe = painter(use_mask=False)
    pipe(photo(1, 60, 80), modal, amodal)
    assert pipe.model.seen[0]["mask"] is None


# special objects


def test_objects_without_anything_to_fill_cost_nothing():
    modal = np.zeros((3, 60, 80), bool)
    modal[0], modal[1, 10, 10] = True, True
    pipe, picture = painter(), photo(1, 60, 80)
    output = pipe(picture, modal, modal)
    assert not pipe.model.seen
    np.testing.assert_array_equal(output.objects[0][..., :3], picture)
    assert output.objects[1].shape == (1, 1, 4) and output.objects[1][0, 0].tolist() == [*picture[10, 10], 255]
    assert output.objects[2].shape == (0, 0, 4) and output.boxes[2].tolist() == [0, 0, 0, 0]
    assert pipe(picture, modal, modal, output_type="pil").objects[2].getpixel((0, 0)) == (0, 0, 0, 0)
    assert pipe(picture, modal, modal, output_type="pt").objects[2].shape == (4, 0, 0)


def test_no_objects(pipeline):
    nothing = np.zeros((0, 60, 80), bool)
    output = pipeline(photo(1, 60, 80), nothing, nothing)
    assert output.objects == [] and output.boxes.shape == (0, 4)


def test_an_object_without_visible_part_is_painted():
    amodal = np.zeros((1, 60, 80), bool)
    amodal[0, 10:30, 10:40] = True
    output = painter(colour=(0.2, 0.4, 0.6))(photo(1, 60, 80), np.zeros_like(amodal), amodal)
    assert (output.objects[0] == (51, 102, 153, 255)).all()


def test_visible_pixels_that_the_whole_mask_lacks_are_added(pipeline):
    modal, amodal = crossing_bars()
    short = amodal.copy()
    short[0, :, :20] = False
    picture = photo(1, 60, 80)
    first, second = pipeline(picture, modal, short), pipeline(picture, modal, amodal)
    check_tiles(first, picture, modal, short)
    np.testing.assert_array_equal(first.boxes, second.boxes)


@pytest.mark.parametrize("spot", [(0, 0), (5, 5), (59, 79), (0, 79)])
@pytest.mark.parametrize("size", [1, 2, 9])
@pytest.mark.parametrize("enlarge_box", [1.0, 3.0])
def test_small_objects_lie_in_their_crops(spot, size, enlarge_box):
    amodal = np.zeros((1, 60, 80), bool)
    row, column = min(spot[0], 60 - size), min(spot[1], 80 - size)
    amodal[0, row : row + size, column : column + size] = True
    pipe = painter(colour=(1.0, 1.0, 1.0), enlarge_box=enlarge_box)
    output = pipe(photo(1, 60, 80), np.zeros_like(amodal), amodal)
    assert (output.objects[0] == 255).all() and output.boxes[0].tolist() == [column, row, size, size]


def test_boxes_of_nothing_stay_empty():
    boxes = content_boxes(np.array([[0, 0, 0, 0], [5, 5, 1, 1]]), 3.0)
    assert boxes[0].tolist()[2:] == [0, 0] and boxes[1].tolist() == [4, 4, 2, 2]


def test_cover_loses_no_pixel():
    mask = np.zeros((50, 70), bool)
    mask[33, 41] = True
    small = cover(mask, (1, 2, 3, 4), (8, 8), outside=False)
    assert small.shape == (1, 1, 8, 8) and small.sum() >= 1 and small[0, 0, 36 * 8 // 57, 42 * 8 // 73]
    assert cover(mask, (1, 0, 0, 0), (8, 8), outside=True)[0, 0, :, 0].all()


# the background


def test_background_outside_of_the_hole_is_the_photo(pipeline):
    modal, amodal = crossing_bars()
    picture, hole = photo(3, 60, 80), modal.any(axis=0)
    found = pipeline.background(picture, modal)
    assert found.dtype == np.uint8 and found.shape == picture.shape
    np.testing.assert_array_equal(found[~hole], picture[~hole])
    assert (found[hole] != picture[hole]).any()


def test_background_with_its_rim():
    picture, hole = photo(3, 200, 300), np.zeros((200, 300), bool)
    hole[80:120, 100:160] = True
    pipe = painter(colour=(0.2, 0.4, 0.6), background_size=384, feather=0)
    width = pipe.background_rim(200, 300)
    assert width == round(3 / 256 * 300) and tiny_content().background_rim(10, 10) == 1
    grown = dilate(hole, kernel="square", size=2 * width + 1)
    found = pipe.background(picture, hole, replace_rim=True)
    np.testing.assert_array_equal(found[~grown], picture[~grown])
    assert (found[grown] == (51, 102, 153)).all()
    plain = pipe.background(picture, hole)
    np.testing.assert_array_equal(plain[~hole], picture[~hole])
    # The same in the hole: the network is shown the same in both cases, never the rim.
    np.testing.assert_array_equal(plain[hole], found[hole])
    first, second = (call["visible"] for call in pipe.model.seen)
    assert torch.equal(first, second) and not first[cover_of(grown & ~hole, 384)].any()


def cover_of(mask, size):
    side = max(mask.shape)
    spare = side - mask.shape[0]
    small = cover(mask, (0, 0, spare // 2, spare - spare // 2), (size, size), outside=False)
    inner = torch.nn.functional.max_pool2d((~small).float(), 3, 1, 1) == 0  # whole pixels only
    return inner


@pytest.mark.parametrize("replace_rim", [False, True])
def test_background_meets_the_photo(replace_rim):
    picture = smooth_photo(96, 96)
    hole = np.zeros((96, 96), bool)
    hole[40:60, 30:70] = True
    pipe = painter(cast=(0.1, -0.1, 0.1), background_size=96)
    found = pipe.background(picture, hole, replace_rim=replace_rim)
    error = np.abs(found.astype(int) - picture)
    changed = dilate(hole, kernel="square", size=2 * pipe.background_rim(96, 96) + 1) if replace_rim else hole
    seam = changed & dilate(~changed)
    assert error[seam].max() <= 6
    pipe.register_to_config(feather=0.0)
    assert np.abs(pipe.background(picture, hole, replace_rim=replace_rim).astype(int) - picture)[seam].max() > 20


def test_background_asks_the_network_for_no_object():
    pipe = painter()
    pipe.background(photo(1, 60, 80), crossing_bars()[0])
    (call,) = pipe.model.seen
    assert call["visible"].shape == (1, 1, 64, 64) and not call["mask"].any()
    assert not call["visible"][0, 0, :8].any() and not call["visible"][0, 0, -8:].any()  # added to make a square


def test_background_without_a_hole_is_the_photo():
    pipe, picture = painter(), photo(1, 60, 80)
    np.testing.assert_array_equal(pipe.background(picture, np.zeros((0, 60, 80), bool)), picture)
    np.testing.assert_array_equal(pipe.background(picture, np.zeros((60, 80), bool), replace_rim=True), picture)
    assert not pipe.model.seen


@pytest.mark.parametrize("replace_rim", [False, True])
def test_background_of_a_photo_that_is_all_hole(replace_rim):
    found = painter(colour=(0.2, 0.4, 0.6)).background(photo(), np.ones((48, 64), bool), replace_rim=replace_rim)
    assert (found == (51, 102, 153)).all()


# devices, dtypes, modes


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_visible_pixels(dtype):
    modal, amodal = crossing_bars()
    picture = photo(1, 60, 80)
    pipe = tiny_content(tiny_content_model()).to(dtype)
    assert pipe.dtype == dtype
    output = pipe(picture, modal, amodal)
    check_tiles(output, picture, modal, amodal)
    exact = tiny_content(tiny_content_model())(picture, modal, amodal).objects[0]
    assert np.abs(output.objects[0].astype(int) - exact).mean() < 3


def test_offloading():
    modal, amodal = crossing_bars()
    pipe = tiny_content(tiny_content_model())
    expected = pipe(photo(1, 60, 80), modal, amodal).objects[0]
    pipe.enable_model_cpu_offload(device="cpu")
    np.testing.assert_array_equal(pipe(photo(1, 60, 80), modal, amodal).objects[0], expected)


def test_training_mode_is_left_as_it_was():
    modal, amodal = crossing_bars()
    pipe = tiny_content(tiny_content_model())
    expected = pipe(photo(1, 60, 80), modal, amodal).objects[0]
    pipe.model.train()
    np.testing.assert_array_equal(pipe(photo(1, 60, 80), modal, amodal).objects[0], expected)
    assert pipe.model.training and pipe.model.encoder[1].norm.training


def test_inputs_of_any_form(pipeline, tmp_path):
    modal, amodal = crossing_bars()
    picture = photo(1, 60, 80)
    expected = pipeline(picture, modal, amodal).objects[0]
    Image.fromarray(picture).save(tmp_path / "photo.png")
    forms = [
        (tmp_path / "photo.png", list(modal), torch.from_numpy(amodal)),
        (Image.fromarray(picture), modal.astype(np.float32), amodal.astype(np.uint8)),
        (torch.from_numpy(picture).permute(2, 0, 1), [Image.fromarray(mask) for mask in modal], amodal),
    ]
    for form in forms:
        np.testing.assert_array_equal(pipeline(*form).objects[0], expected)


def test_inputs_are_not_changed(pipeline):
    modal, amodal = crossing_bars()
    picture = photo(1, 60, 80)
    copies = [array.copy() for array in (picture, modal, amodal)]
    pipeline(picture, modal, amodal)
    pipeline.background(picture, modal, replace_rim=True)
    for array, copy in zip((picture, modal, amodal), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


# callback


def test_callback_hears_of_every_batch_and_can_end_the_call(monkeypatch):
    pipe, picture, freed = painter(), photo(1, 60, 80), []
    modal, amodal = crossing_bars()
    modal = np.stack([modal[0], amodal[1] & ~amodal[0]])  # both have a hidden part
    told = []
    expected = pipe(picture, modal, amodal, batch_size=1, callback=lambda *said: told.append(said))
    assert told == [(pipe, "contents", done, 2) for done in range(3)]
    monkeypatch.setattr(type(pipe), "maybe_free_model_hooks", lambda _: freed.append(True))
    with pytest.raises(CallInterruptedError, match=r"`callback` ended the call at 1 of 2 \(contents\)"):
        pipe(picture, modal, amodal, batch_size=1, callback=lambda pipe, stage, done, total: done < 1)
    assert len(freed) == 1
    for found, tile in zip(pipe(picture, modal, amodal).objects, expected.objects, strict=True):
        np.testing.assert_array_equal(found, tile)
    with pytest.raises(TypeError, match="`callback` must be a function or None, got int"):
        pipe(picture, modal, amodal, callback=3)


@pytest.mark.parametrize("filler", ["smooth", "pcnet-c", "blend"])
def test_the_background_tells_of_every_hole_and_can_be_ended(filler):
    pipe, picture = painter(), photo(1, 60, 80)
    places = np.zeros((3, 60, 80), bool)
    places[0, 10:30, 10:40] = places[1, 10:40, 40:60] = places[2, 45:55, 5:30] = True
    expected, told = pipe.background(picture, places, filler=filler), []
    found = pipe.background(picture, places, filler=filler, callback=lambda *said: told.append(said))
    np.testing.assert_array_equal(found, expected)
    assert {(one[0], one[1], one[3]) for one in told} == {(pipe, "background", 100)}
    shares = [one[2] for one in told]
    assert shares[0] == 0 and shares[-1] == 100 and shares == sorted(shares)
    assert len(shares) == (2 if filler == "pcnet-c" else 3)  # what touches is filled one after the other
    for last in shares:
        with pytest.raises(CallInterruptedError, match=rf"`callback` ended the call at {last} of 100 \(background\)"):
            pipe.background(picture, places, filler=filler, callback=lambda _, stage, done, total, at=last: done < at)
    np.testing.assert_array_equal(pipe.background(picture, places, filler=filler), expected)
    nothing = pipe.background(picture, places[:0], filler=filler, callback=lambda *said: False)  # is never asked
    np.testing.assert_array_equal(nothing, picture)
    with pytest.raises(TypeError, match="`callback` must be a function or None, got int"):
        pipe.background(picture, places, callback=3)
