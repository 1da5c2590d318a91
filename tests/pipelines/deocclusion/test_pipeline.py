"""ScenePipeline: from a photo to a scene."""

import threading
import time
from contextvars import ContextVar

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

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
from amodal_diffusion.pipelines import contexts
from amodal_diffusion.pipelines.base import CallInterruptedError
from amodal_diffusion.pipelines.deocclusion import pipeline as deocclusion
from amodal_diffusion.pipelines.deocclusion.layers import (
    SceneInputs,
    lying_before,
    read_margins,
    split_overlaps,
    tidy_hidden,
)
from amodal_diffusion.pipelines.deocclusion.progress import Progress
from pipeline_helpers import crossing_bars, gap_filler, iou, stacked_bars, tiny_pipeline, torchs_threads
from scene_helpers import photo_like, pixels, tiny_content
from segmenter_helpers import PHOTO, mask2former_pipeline


def scene_pipeline(mask_pipeline=None, **components):
    pipeline = ScenePipeline(mask_pipeline or gap_filler(), tiny_content(), **components)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def pipeline():
    return scene_pipeline()


@pytest.fixture
def two_threads(monkeypatch):
    yield from torchs_threads(monkeypatch, 2)


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


@pytest.mark.parametrize("seed", [None, 0])
def test_contents_and_background_at_once_give_the_same_scene(seed, monkeypatch):
    def generator():
        return None if seed is None else torch.Generator().manual_seed(seed)

    pipeline, threads = scene_pipeline(), torch.get_num_threads()
    for network in pipeline.networks:
        network.eval()
    modal, _ = stacked_bars()
    photo = photo_like(modal)
    ways, works = [], contexts.work_beside
    monkeypatch.setattr(
        deocclusion, "work_beside", lambda work, at_once: (ways.append(at_once), works(work, at_once))[1]
    )
    try:
        torch.set_num_threads(2)
        first = pipeline(photo, modal, generator=generator())
        monkeypatch.setattr(deocclusion, "_AT_ONCE", photo.shape[0] * photo.shape[1] - 1)
        pipeline(photo, modal, generator=generator())
        monkeypatch.undo()
        torch.set_num_threads(1)
        second = pipeline(photo, modal, generator=generator())
    finally:
        torch.set_num_threads(threads)
    assert ways == [True, True, False, False]  # for what is a thing, and for the background
    np.testing.assert_array_equal(first.background, second.background)
    for one, two in zip(first.layers, second.layers, strict=True):
        np.testing.assert_array_equal(one.rgba, two.rgba)


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


@pytest.mark.parametrize("small_first", [False, True])
def test_what_was_seen_before_a_larger_object_is_in_front_of_it(pipeline, small_first):
    masks = np.zeros((2, 40, 40), bool)
    masks[0, 5:35, 5:35] = masks[1, 10:20, 28:40] = True  # most of it over the other one
    masks = masks[::-1].copy() if small_first else masks
    small, large = (0, 1) if small_first else (1, 0)
    photo = photo_like(masks)
    scene = pipeline(photo, masks)
    assert scene.order[small, large] == 1
    assert scene.layers[small].modal.sum() == masks[small].sum()
    given = np.zeros((2, 2), np.int8)
    given[large, small], given[small, large] = 1, -1
    assert pipeline(photo, masks, order=given).order[large, small] == 1  # who says otherwise is believed


def test_lying_before():
    masks = np.zeros((4, 1, 8), bool)
    masks[0, 0, :6], masks[1, 0, 5:8], masks[2, 0, 2:4] = True, True, True
    assert np.argwhere(lying_before(masks)).tolist() == [[2, 0]]
    assert not lying_before(np.repeat(masks[:1], 2, axis=0)).any()  # the same mask twice
    assert lying_before(masks[:0]).shape == (0, 0)


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


def test_soft_outlines_go_into_the_layers_and_the_untouched_scene_is_the_photo():
    modal, _ = crossing_bars()
    photo = np.full((*modal.shape[1:], 3), 60, np.uint8)
    photo[modal[0]], photo[modal[1]] = (200, 30, 30), (30, 200, 30)
    blurred = np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(1)))
    scene = scene_pipeline(edge_width=15.0)(blurred, modal)
    np.testing.assert_array_equal(pixels(scene), blurred)
    front = scene.layers[1] if scene.in_front(1, 0) else scene.layers[0]
    soft = (front.rgba[..., 3] > 0) & (front.rgba[..., 3] < 255)
    assert soft.any() and front.modal[soft].any()
    seen = sum(in_photo(layer, "modal", photo.shape[:2]).astype(int) for layer in scene.layers)
    assert seen.max() == 1  # no pixel is of two layers


def in_photo(layer, field, shape):
    """A mask of a layer where the photo shows it."""
    x, y = layer.origin[:, 2].astype(int)
    canvas = np.zeros(shape, bool)
    mask = getattr(layer, field)
    canvas[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    return canvas


@pytest.mark.parametrize("margin", [None, 6])
def test_clean_seams_meet_the_colours_beside_them(margin):
    modal = np.zeros((1, 64, 64), bool)
    modal[0, 16:48, 8:30] = True
    amodal = modal.copy()
    amodal[0, 16:48, 30:56] = True
    photo = np.full((64, 64, 3), 60, np.uint8)
    photo[:, 26:30] = 160  # another colour within the margin
    network = PCNetContent(block_out_channels=(8, 8, 8), sample_size=32, use_prior=True).eval()  # continues smoothly
    content = ContentPipeline(network, background_size=32, seam_margin=margin)
    off = {}
    for clean in (False, True):
        tile = content(photo, modal, amodal, clean_seams=clean).objects[0]
        np.testing.assert_array_equal(tile[:, :22, :3], photo[16:48, 8:30])
        off[clean] = np.abs(tile[4:28, 22, :3].astype(float) - 160).mean()
    assert off[True] < 0.5 * off[False] if margin else off[True] == off[False]


@pytest.mark.parametrize(
    ("side", "crack", "is_closed"), [(640, 7, True), (640, 20, False), (120, 7, False), (1280, 14, True)]
)
def test_cracks_between_masks_of_an_object_and_what_hides_it(side, crack, is_closed):
    """Pixels of nobody between the visible and the hidden part, as polygons that do not quite touch leave them."""
    left, right = side // 4, side // 4 + crack
    modal = np.zeros((3, side // 2, side), bool)
    modal[0, 20:40, :left] = modal[1, :, right : right + 30] = True
    modal[2, 28:32, left:right] = True  # a third object lies in the crack
    amodal = modal.copy()
    amodal[0, 20:40, right : right + 30] = True
    tidy = tidy_hidden(amodal, modal, 3)
    inside = tidy[0, 20:40, left:right]
    assert inside[:8].all() == inside[12:].all() == inside.any() == is_closed
    assert not inside[8:12].any()
    np.testing.assert_array_equal(tidy[1:], modal[1:])
    assert not tidy[0, :16].any() and not tidy[0, 44:].any()


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


def test_an_object_has_no_soft_outline_where_the_frame_cuts_it():
    modal = np.zeros((2, 30, 40), bool)
    modal[0, 10:20, 0:15] = True  # cut by the left edge
    modal[1, 5:25, 20:30] = True
    photo = photo_like(modal)
    pipeline = scene_pipeline(Overgrown(gap_filler().model), edge_width=3.0, shadows=True)
    scene = pipeline(photo, modal, extend_canvas=(6, 4, 0, 2))
    np.testing.assert_array_equal(pixels(scene)[4:34, 6:46], photo)
    x, y, _, _ = map(int, scene.layers[0].box)
    assert x < 6 and not scene.layers[0].modal[:, : 6 - x].any()
    assert (scene.layers[0].rgba[16 - y : 22 - y, 6 - x, 3] == 255).all()


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
    assert list(dict.fromkeys(stage for stage, _ in stages)) == ["masks", "edges", "contents", "background", "done"]
    shares = [share for _, share in stages]
    assert shares == sorted(shares) and shares[-1] == 1 and len(set(shares)) > 5  # batches are told of, too


@pytest.mark.parametrize("ended", ["masks", "edges", "contents", "done"])
def test_a_callback_ends_the_call(pipeline, ended):
    modal, _ = crossing_bars()
    first = pipeline(photo_like(modal), modal)
    with pytest.raises(CallInterruptedError, match=f"`progress_callback` ended the call at .*{ended}"):
        pipeline(photo_like(modal), modal, progress_callback=lambda stage, share: stage != ended)
    assert pipeline(photo_like(modal), modal).equals(first)


def test_the_thread_of_the_call_tells_what_the_other_one_has_to_say(two_threads):
    """The background says something before the call waits for it, and while what was missed is told."""
    said, first, begun = [], threading.Event(), threading.Event()

    def callback(_, stage, done, total):
        said.append((done, threading.get_ident()))
        if done == 0:
            begun.set()

    report = Progress(ContentPipeline(filler="smooth"), None, callback)
    tell = report.within("background", 0.8, 1.0)

    def work():
        for done in (0, 59):
            tell(None, "background", done, 100)
        first.set()
        assert begun.wait(10)
        for done in (80, 100):
            tell(None, "background", done, 100)
        return threading.get_ident()

    with contexts.work_beside(work) as result:
        first.wait()
        report.within("contents", 0.4, 0.8)(None, "contents", 7, 8)  # which comes first
        other = report.wait_for(result)
    assert said == [(done, threading.get_ident()) for done in (7, 0, 59, 80, 100)] and other != threading.get_ident()


@pytest.mark.parametrize("way", ["callback", "progress_callback"])
def test_an_error_in_a_callback_ends_the_other_thread(way):
    def fails(*_):
        raise RuntimeError("mine")

    report = Progress(ContentPipeline(filler="smooth"), *((None, fails) if way == "callback" else (fails, None)))
    tell, told = report.within("background", 0.8, 1.0), []
    with pytest.raises(RuntimeError, match="mine"):
        report.begin("contents", 0.4)
    thread = threading.Thread(target=lambda: told.append(tell(None, "background", 1, 2)))
    thread.start()
    thread.join()
    assert told == [False]


def test_the_callback_of_all_pipelines(pipeline):
    modal, _ = stacked_bars()
    photo, told = photo_like(modal), []
    scene = pipeline(photo, modal, callback=lambda *said: told.append(said))
    assert scene.equals(pipeline(photo, modal)) and {said[0] for said in told} == {pipeline}
    stages = list(dict.fromkeys(said[1] for said in told))
    assert stages == ["order", "masks", "edges", "contents", "background"], "those that have work"
    for stage in stages:
        done = [said[2] for said in told if said[1] == stage]
        assert done == sorted(done) and done[0] == 0
        with pytest.raises(CallInterruptedError, match=rf"`callback` ended the call at .*\({stage}\)"):
            pipeline(photo, modal, callback=lambda _, at, *count, stage=stage: at != stage)
    told.clear()
    pipeline.repaint(scene, 0, callback=lambda *said: told.append(said))
    pipeline.reshape(scene, 0, np.roll(modal[0], 5, 0), callback=lambda *said: told.append(said))
    assert [said for said in told if said[2] == 0] == [(pipeline, "contents", 0, 1)] * 2
    for name in ("callback", "progress_callback"):
        with pytest.raises(TypeError, match=f"`{name}` must be a function or None, got int"):
            pipeline(photo, modal, **{name: 3})


@pytest.mark.parametrize("form", ["callback", "progress_callback"])
def test_a_background_in_a_second_thread_ends_with_the_call(form, monkeypatch, two_threads):
    pipeline, said, here = scene_pipeline(), [], threading.get_ident()
    modal, _ = crossing_bars()
    begun, told = threading.Event(), []
    background = type(pipeline.content_pipeline).background

    def slow(self, *args, callback, **options):
        begun.set()
        for done in range(3000):  # until somebody ends it
            if callback(self, "background", min(done, 99), 100) is False:
                said.append("ended")
                raise CallInterruptedError("the background")
            time.sleep(0.01)
        return background(self, *args, **options)

    def end(*call):
        stage = call[0] if form == "progress_callback" else call[1]
        told.append(threading.get_ident())
        return not (stage == last and (stage == "background" or begun.wait(20)))

    monkeypatch.setattr(type(pipeline.content_pipeline), "background", slow)
    for last in ("contents", "background"):
        told.clear()
        said.clear()
        begun.clear()
        with pytest.raises(CallInterruptedError, match=f"`{form}` ended the call at .*{last}"):
            pipeline(photo_like(modal), modal, **{form: end})
        assert set(told) == {here} and said == ["ended"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_background_in_a_second_thread_ends_with_what_fails_here(error, monkeypatch, two_threads):
    pipeline, begun, said = scene_pipeline(), threading.Event(), []

    def slow(self, *args, callback, **options):
        begun.set()
        for done in range(3000):  # until somebody ends it
            said.append(callback(self, "background", min(done, 99), 100))
            if said[-1] is False:
                raise CallInterruptedError("the background")
            time.sleep(0.01)

    def fails(*_, **__):
        assert begun.wait(20)
        raise error("mine")

    monkeypatch.setattr(type(pipeline.content_pipeline), "background", slow)
    monkeypatch.setattr(type(pipeline.content_pipeline), "__call__", fails)
    modal, _ = crossing_bars()
    with pytest.raises(error, match="mine"):
        pipeline(photo_like(modal), modal)
    assert said[-1] is False


def test_context_variables_reach_the_other_thread_and_the_callbacks(two_threads, monkeypatch):
    """A page keeps its visitor in one, numpy what it does about errors."""
    visitor, pipeline, seen = ContextVar("visitor"), scene_pipeline(), []
    background, (modal, _) = type(pipeline.content_pipeline).background, crossing_bars()

    def slow(self, *args, **options):
        time.sleep(0.3)  # the call waits for it
        seen.append((visitor.get(), threading.get_ident()))
        return background(self, *args, **options)

    monkeypatch.setattr(type(pipeline.content_pipeline), "background", slow)
    visitor.set("ann")
    pipeline(photo_like(modal), modal, progress_callback=lambda *_: seen.append((visitor.get(), threading.get_ident())))
    assert {name for name, _ in seen} == {"ann"} and len({thread for _, thread in seen}) == 2


def test_one_generator_may_come_in_a_list(pipeline):
    modal, _ = crossing_bars()
    photo = photo_like(modal)

    def seeded():
        return torch.Generator().manual_seed(0)

    assert pipeline(photo, modal, generator=[seeded()]).equals(pipeline(photo, modal, generator=seeded()))
    scene = pipeline(photo, modal)
    assert pipeline.repaint(scene, 0, generator=[seeded()]).equals(pipeline.repaint(scene, 0, generator=seeded()))
    np.testing.assert_array_equal(
        pipeline.mask_pipeline(photo, modal, generator=[seeded()]).amodal_masks,
        pipeline.mask_pipeline(photo, modal, generator=seeded()).amodal_masks,
    )
    for call in (pipeline, pipeline.mask_pipeline):
        with pytest.raises(ValueError, match="`generator` must be one generator .* got a list of 2"):
            call(photo, modal, generator=[seeded()] * 2)
        with pytest.raises(TypeError, match="`generator` must be a torch.Generator"):
            call(photo, modal, generator=["seed"])


def test_keywords_that_are_none_are_told_by_those_that_are(pipeline):
    modal, _ = crossing_bars()
    photo, content = photo_like(modal), pipeline.content_pipeline
    scene = pipeline(photo, modal)
    for call, name, first in (
        (lambda **options: pipeline(photo, modal, **options), "ScenePipeline", "names"),
        (lambda **options: pipeline.repaint(scene, 0, **options), "ScenePipeline.repaint", "filler"),
        (lambda **options: pipeline.reshape(scene, 0, modal[0], **options), "ScenePipeline.reshape", "keep_visible"),
        (lambda **options: content(photo, modal, modal, **options), "ContentPipeline", "order"),
        (lambda **options: content.background(photo, modal, **options), "ContentPipeline.background", "unknown"),
    ):
        with pytest.raises(TypeError, match=f"^{name} takes no `num_samples`; its options are {first}, .*callback"):
            call(num_samples=3)


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
        ((gap_filler(), tiny_content(), 3), "`model` must be a SAM of transformers"),
    ):
        with pytest.raises(TypeError, match=message):
            ScenePipeline(*components)
    with pytest.raises(ValueError, match="`min_hidden_width` must be at least 0"):
        ScenePipeline(gap_filler(), tiny_content(), min_hidden_width=-1)
    with pytest.raises(ValueError, match=r"`edge_width` must lie in \[0, 16\)"):
        ScenePipeline(gap_filler(), tiny_content(), edge_width=-1)


def test_devices_and_dtypes():
    pipeline = ScenePipeline(tiny_pipeline(), tiny_content())
    assert pipeline.to(torch.bfloat16) is pipeline and pipeline.dtype == torch.bfloat16
    assert {next(network.parameters()).dtype for network in pipeline.networks} == {torch.bfloat16}
    assert pipeline.device == torch.device("cpu") and len(pipeline.networks) == 2
    modal, _ = crossing_bars()
    np.testing.assert_array_equal(pixels(pipeline(photo_like(modal), modal)), photo_like(modal))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filler": "inpainter"}, "`filler` 'inpainter' needs the component"),
        ({"filler": {"dog": "blend"}}, "`filler` names 'dog'"),
        ({"filler": ["blend"]}, "`filler` must have one entry for each of the 2 objects"),
        ({"background_filler": "magic"}, "`background_filler` must be one of"),
        ({"background_filler": "inpainter"}, "`background_filler` 'inpainter' needs the component"),
    ],
)
def test_wrong_fillers_are_found_before_the_masks_are_completed(options, message):
    modal, _ = crossing_bars()
    stages = []
    with pytest.raises(ValueError, match=message):
        scene_pipeline()(photo_like(modal), modal, progress_callback=lambda stage, _: stages.append(stage), **options)
    assert "masks" not in stages
