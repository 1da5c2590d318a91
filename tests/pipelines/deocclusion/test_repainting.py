"""One object of a scene painted anew: its hidden part alone, or in another shape."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from amodal_diffusion import ContentPipeline, Scene, ScenePipeline
from amodal_diffusion.pipelines.base import CallInterruptedError
from amodal_diffusion.pipelines.deocclusion.layers import tidy_hidden
from amodal_diffusion.pipelines.deocclusion.repainting import on_photo
from pipeline_helpers import crossing_bars, gap_filler
from scene_helpers import photo_like, pixels, tile, tiny_content


def textured(modal):
    """A photo whose objects have colours of their own, with grain, on a lit ground."""
    photo = 170 + photo_like(modal).astype(int) // 16
    for colour, mask in zip(((200, 90, 40), (40, 90, 200)), modal, strict=False):
        photo[mask] = np.array(colour) + photo_like(modal)[mask] // 8
    return photo.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module", params=[0.0, 3.0], ids=["hard", "soft"])
def pipeline(request):
    pipe = ScenePipeline(gap_filler(), tiny_content(), edge_width=request.param, shadows=bool(request.param))
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def scene(pipeline):
    modal, _ = crossing_bars()
    return pipeline(textured(modal), modal, names=["long", "upright"], filler="exemplar")


def test_fillers_are_those_whose_component_is_there(pipeline):
    assert pipeline.fillers == ("auto", "blend", "exemplar", "smooth", "pcnet-c")
    assert ContentPipeline(filler="blend").fillers == ("auto", "blend", "exemplar", "smooth")


@pytest.mark.parametrize("filler", ["exemplar", "smooth", "pcnet-c"])
def test_it_paints_as_the_call_does(pipeline, scene, filler):
    modal, _ = crossing_bars()
    whole = pipeline(textured(modal), modal, names=["long", "upright"], filler=filler, background_filler="exemplar")
    fresh = pipeline.repaint(scene, 0, filler=filler)
    hidden = fresh.layers[0].amodal & ~fresh.layers[0].modal
    assert hidden.any() and fresh.layers[0].equals(whole.layers[0])
    changed = (fresh.layers[0].rgba != scene.layers[0].rgba).any(axis=2)
    assert changed.any() == (filler != "exemplar") and not (changed & ~hidden).any()
    assert fresh.layers[1] is scene.layers[1] and fresh.background is scene.background
    np.testing.assert_array_equal(pixels(fresh), scene.photo)


def test_edits_are_kept(pipeline, scene):
    edited = scene.move(0, 7, -3).rotate(0, 20).set_opacity(0, 0.5).rename(0, "bar").restack(0, 1).set_locked(0)
    fresh, unedited = pipeline.repaint(edited, 0, filler="smooth"), pipeline.repaint(scene, 0, filler="smooth")
    assert (fresh.layers[0].rgba == unedited.layers[0].rgba).all()
    assert replace(fresh.layers[0], rgba=edited.layers[0].rgba).equals(edited.layers[0])
    assert (fresh.order == edited.order).all() and (fresh.evidence == edited.evidence).all()


def test_what_hid_it_may_be_gone(pipeline, scene):
    alone = pipeline.repaint(scene.remove(1), 0, filler="exemplar")
    assert (alone.layers[0].rgba == scene.layers[0].rgba).all()
    assert pipeline.repaint(scene.set_visible(1, False), 0, filler="exemplar").layers[0].equals(scene.layers[0])


def test_another_shape(pipeline, scene):
    modal, _ = crossing_bars()
    wider = np.zeros(modal.shape[1:], bool)
    wider[:, 28:50] = True  # where the upright bar stands, and beside it
    edited = scene.move(0, 5, 2)
    for before in (scene, edited):
        fresh = pipeline.reshape(before, 0, wider, keep_visible=True, filler="smooth")
        layer = fresh.layers[0]
        shown = on_photo(before.layers[0], wider.shape)
        assert (on_photo(layer, wider.shape) == shown).all()
        expected = tidy_hidden((wider | shown)[None], shown[None], pipeline.config.min_hidden_width)[0]
        assert (on_photo(layer, wider.shape, "amodal") == expected).all() and (wider & ~expected).sum() < 50
        seen = before.layers[0].rgba[before.layers[0].modal]
        assert (layer.rgba[layer.modal] == seen).all() and layer.uncertainty is None
        np.testing.assert_allclose(layer.motion, before.layers[0].motion)
        assert (fresh.order == before.order).all()
    first = on_photo(scene.layers[0], wider.shape, "amodal")
    back = pipeline.reshape(fresh, 0, first, keep_visible=True, filler="exemplar")
    if scene.rim:  # soft outlines are no longer tidy
        assert back.move(0, -5, -2).layers[0].equals(scene.layers[0])
    nothing = pipeline.reshape(scene, 0, np.zeros_like(wider), keep_visible=True).layers[0]
    assert (nothing.amodal == nothing.modal).all()


def test_a_shadow_stays_where_it_was(pipeline, scene):
    rows, columns = np.mgrid[: scene.layers[0].size[1] + 8, : scene.layers[0].size[0] + 8]
    shaded = replace(scene.layers[0], shadow=(1 + rows + columns).clip(0, 255).astype(np.uint8))
    scene = replace(scene, layers=(shaded, scene.layers[1]))
    wider = np.zeros(scene.photo.shape[:2], bool)
    wider[2:-2, 28:50] = True
    fresh = pipeline.reshape(scene, 0, wider, keep_visible=True, filler="smooth")
    for before, after in ((scene, fresh), (scene.move(0, 90), fresh.move(0, 90))):
        placed = [one.layers[0].shadow_layer() for one in (before, after)]
        images = [Scene(scene.background, (layer,)).layer_image(0, output_type="np") for layer in placed]
        np.testing.assert_array_equal(*images)


def test_what_has_no_hidden_part_stays(pipeline, scene):
    assert pipeline.repaint(scene, 1) is scene


def test_progress_and_cancelling(pipeline, scene):
    told = []
    pipeline.repaint(scene, 0, filler="smooth", progress_callback=lambda *report: told.append(report))
    assert told[0] == ("contents", 0.0) and told[-1] == ("done", 1.0)
    with pytest.raises(CallInterruptedError):
        pipeline.repaint(scene, 0, filler="smooth", progress_callback=lambda stage, share: share < 1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"i": 3}, IndexError, "`i` must be the index of one of 3 layers, got 3"),
        ({"i": "long"}, TypeError, "`i` must be the index of a layer, got 'long'"),
        ({"i": 2}, ValueError, "`i` must be of an object that the photo shows; layer 2 was added to the scene"),
        ({"filler": "magic"}, ValueError, "`filler` must be one of"),
        ({"filler": "inpainter"}, ValueError, "`filler` 'inpainter' needs the component `inpainter`"),
        ({"scene": Scene(np.zeros((4, 4, 3), np.uint8))}, ValueError, "`scene` must have a photo"),
        ({"scene": 3}, TypeError, "`scene` must be a Scene, got int"),
    ],
)
def test_calls_refused(pipeline, scene, arguments, error, message):
    added = scene.insert(tile((1, 2, 3)))
    with pytest.raises(error, match=message):
        pipeline.repaint(**{"scene": added, "i": 0, **arguments})


def raised(scene):
    """The long bar without its left end, which has become an arm that goes up."""
    mask = scene.layer_mask(0)
    start, stop = np.flatnonzero(mask.any(axis=0))[[0, -1]]
    mask[:, start : start + 8] = False
    mask[2:, stop - 6 : stop] |= np.arange(2, len(mask))[:, None] < np.flatnonzero(mask.any(axis=1))[0]
    return mask


@pytest.mark.parametrize("filler", ["exemplar", "smooth", "pcnet-c", "auto"])
def test_another_pose(pipeline, scene, filler):
    mask = raised(scene)
    for before in (scene, scene.move(0, 4, 3)):
        wanted = mask if before is scene else np.roll(mask, (3, 4), (0, 1))
        posed = pipeline.reshape(before, 0, wanted, filler=filler)
        assert (posed.layer_mask(0) == wanted).all() and posed.layers[1] is before.layers[1]
        old, new = (one.layer_image(0, output_type="np").astype(int) for one in (before, posed))
        both = before.layer_mask(0) & wanted & (old[..., 3] == 255) & (new[..., 3] == 255)
        assert both.sum() > 200 and (old[both] == new[both]).all()
        # The new arm has the colours of the bar (its red is far above its blue), not of the ground or the upright bar.
        arm = new[wanted & ~before.layer_mask(0)]
        if filler != "pcnet-c":  # which is not trained here
            assert len(arm) > 30 and (arm[:, 0] > arm[:, 2] + 60).all()
        # Its old place shows the background.
        gone = scene.layers[0]
        left = on_photo(gone, wanted.shape) & ~wanted & ~before.layer_mask(1)
        assert left.any() and (pixels(posed)[left] == posed.background[left]).all()


def test_a_pose_is_changed_again_and_what_is_not_changed_stays(pipeline, scene):
    posed = pipeline.reshape(scene, 0, raised(scene), filler="smooth")
    assert pipeline.reshape(posed, 0, posed.layer_mask(0)) is posed
    assert pipeline.reshape(scene, 0, scene.layer_mask(0)) is scene
    back = pipeline.reshape(posed, 0, scene.layer_mask(0), filler="smooth")
    assert (back.layer_mask(0) == scene.layer_mask(0)).all()
    elsewhere = np.zeros_like(scene.layer_mask(0))
    elsewhere[:4, :4] = True
    corner = pipeline.reshape(scene, 0, elsewhere, filler="smooth").layer_image(0, output_type="np").astype(int)
    assert (corner[:3, :3, 0] > corner[:3, :3, 2] + 60).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mask": np.ones((3, 3), bool)}, ValueError, "3"),
        ({"mask": np.ones((2, 60, 80), bool)}, ValueError, "`mask` must be one mask, got 2"),
        ({"mask": np.zeros((60, 80), bool)}, ValueError, "`mask` must leave something of the layer"),
        ({"i": 2, "keep_visible": True}, ValueError, "layer 2 was added to the scene, or has another shape"),
        ({"i": 9}, IndexError, "`i` must be the index of one of 3 layers, got 9"),
        ({"filler": "magic"}, ValueError, "`filler` must be one of"),
        ({"scene": 3}, TypeError, "`scene` must be a Scene, got int"),
    ],
)
def test_shapes_refused(pipeline, scene, arguments, error, message):
    given = {"scene": scene.insert(tile((1, 2, 3))), "i": 0, "mask": np.ones((60, 80), bool), **arguments}
    with pytest.raises(error, match=message):
        pipeline.reshape(given.pop("scene"), given.pop("i"), given.pop("mask"), **given)


@pytest.mark.parametrize("place", [0, 1], ids=["with a hidden part", "without"])
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"filler": "x"}, ValueError),
        ({"filler": 5}, ValueError),
        ({"prompt": 5}, TypeError),
        ({"category_id": "x"}, TypeError),
        ({"category_id": -1}, ValueError),
        ({"inpainter_kwargs": "x"}, TypeError),
        ({"inpainter_kwargs": {"strength": 1}}, ValueError),
        ({"generator": 5}, TypeError),
    ],
)
def test_options_are_checked_also_where_nothing_is_painted(pipeline, scene, place, options, error):
    (name,) = options
    for call in (
        lambda: pipeline.repaint(scene, place, **options),
        lambda: pipeline.reshape(scene, place, scene.layer_mask(place), **options),
    ):
        with pytest.raises(error, match=f"^`{name}` "):
            call()


@pytest.mark.parametrize("mask", [None, 5, "x", np.zeros((3, 3), bool), np.full((3, 3), np.nan)])
def test_reshape_names_its_mask(pipeline, scene, mask):
    with pytest.raises((TypeError, ValueError), match="^`mask`"):
        pipeline.reshape(scene, 0, mask)


def test_flags_and_texts_are_no_others(pipeline, scene):
    photo, masks = scene.render(), scene.layer_mask(0)
    for call, name in [
        (lambda: pipeline.reshape(scene, 0, masks, keep_visible="no"), "keep_visible"),
        (lambda: pipeline(photo, masks, background_prompt=5), "background_prompt"),
        (lambda: pipeline.content_pipeline.background(photo, masks, replace_rim="no"), "replace_rim"),
        (lambda: pipeline.content_pipeline(photo, masks, masks, clean_seams="no"), "clean_seams"),
        (lambda: ContentPipeline(filler="blend", erase_occluders="no"), "erase_occluders"),
        (lambda: ScenePipeline(pipeline.mask_pipeline, pipeline.content_pipeline, shadows="no"), "shadows"),
    ]:
        with pytest.raises(TypeError, match=f"^`{name}` must be"):
            call()


@pytest.mark.parametrize("given", [0, 3, np.int64(3), torch.tensor(3)])
def test_a_category_is_taken_as_the_whole_scene_takes_it(pipeline, scene, given):
    """0 stands for one that nobody knows, where the network does not ask."""
    assert pipeline.repaint(scene, 0, category_id=given).equals(pipeline.repaint(scene, 0))
