"""What is a thing is not copied into backgrounds, unless they lie amid things."""

import numpy as np
import pytest
import torch

from amodal_diffusion import ContentPipeline, MaskModelOutput, ScenePipeline, ThingNet
from amodal_diffusion.pipelines import SceneBlocks
from amodal_diffusion.pipelines.content.exemplar import fill_hole
from amodal_diffusion.pipelines.content.sources import amid_things, background_holes, window_besides
from content_helpers import tiny_content
from diffusion_helpers import tiny_inpainting
from pipeline_helpers import tiny_pipeline


class BlueIsAThing(ThingNet):
    """`seen` keeps the size of every photo that it is shown."""

    seen: list = []

    def forward(self, image, return_dict=True):
        type(self).seen.append(tuple(image.shape))
        return MaskModelOutput(logits=image[:, 2:3].float() - image[:, :1].float() - 1)


def blue_things(sample_size=64):
    BlueIsAThing.seen = []
    return BlueIsAThing(decoder_channels=4, sample_size=sample_size).eval()


def street(height=96, width=128):
    """A photo of grey grain, with two blue things to both sides of what leaves: photo, place (H, W) bool."""
    photo = np.random.default_rng(0).integers(90, 150, (height, width, 1)).repeat(3, axis=2).astype(np.uint8)
    place = np.zeros((height, width), bool)
    place[30:66, 52:76] = True
    for columns in (slice(6, 40), slice(88, 122)):
        photo[20:76, columns] = (20, 20, 250)
    photo[place] = (200, 30, 30)
    return photo, place


def blue(photo):
    return (photo[..., 2].astype(int) - photo[..., 0]) > 100


@pytest.mark.parametrize("filler", ["exemplar", "auto", "blend"])
def test_things_are_not_copied_into_a_background(filler):
    photo, place = street()
    grain = np.random.default_rng(1).integers(0, 40, photo.shape).astype(np.uint8)
    photo = np.where(blue(photo)[..., None], photo - grain // 2, photo)
    found = ContentPipeline(filler=filler, thing_model=blue_things()).background(photo, place)
    assert not blue(found)[place].any() and np.array_equal(found[~place][:50], photo[~place][:50])
    assert BlueIsAThing.seen == [(1, 3, 64, 64)]


def test_things_that_are_known_are_not_sought_again():
    photo, place = street()
    pipe = ContentPipeline(filler="exemplar", thing_model=blue_things())
    things = pipe.find_things(photo)
    assert np.array_equal(pipe.background(photo, place, things=things), pipe.background(photo, place))
    assert len(BlueIsAThing.seen) == 2
    alone = ContentPipeline(filler="exemplar")
    assert np.array_equal(alone.background(photo, place, things=things), pipe.background(photo, place, things=things))
    with pytest.raises(ValueError, match="`things`"):
        alone.background(photo, place, things=things[1:])
    assert alone.find_things(photo) is None and pipe.find_things(photo, "smooth") is None
    for each in (pipe, alone):
        with pytest.raises(ValueError, match="`filler`"):
            each.find_things(photo, "paint")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_scene_finds_its_things_once(threads, monkeypatch):
    """The same scene in one thread and in two; without an object nobody looks."""
    photo, place = street()
    pipe = ScenePipeline(tiny_pipeline(), ContentPipeline(filler="exemplar", thing_model=blue_things()))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert not blue(pipe(photo, place[None]).background)[place].any()
    assert BlueIsAThing.seen == [(1, 3, 64, 64)]
    pipe(photo, place[None] & False)
    pipe(photo, place[None], background_filler="smooth")
    blocks = SceneBlocks().init_pipeline()
    blocks.update_components(mask_pipeline=pipe.mask_pipeline, content_pipeline=pipe.content_pipeline)
    blocks(image=photo, masks=place[None] & False, output="scene")
    assert len(BlueIsAThing.seen) == 1
    blocks(image=photo, masks=place[None], output="scene")
    assert len(BlueIsAThing.seen) == 2


def test_amid_things_they_are_copied():
    photo, place = street()
    photo[~place] = (20, 20, 250)
    photo[:10] = 120
    assert blue(ContentPipeline(filler="exemplar", thing_model=blue_things()).background(photo, place))[place].all()


def test_networks_and_nothing_to_fill_ask_nobody():
    photo, place = street()
    pipe = tiny_content(filler="pcnet-c", thing_model=blue_things())
    pipe.background(photo, place)
    pipe.background(photo, place, filler="smooth")
    ContentPipeline(filler="auto", thing_model=pipe.thing_model).background(photo, place & False)
    assert not BlueIsAThing.seen


def test_what_lies_beside_a_hole_says_whether_it_is_amid_things():
    hole, things = np.zeros((2, 60, 80), bool)
    hole[20:40, 30:50] = True
    things[:, 60:] = True
    assert not amid_things(~hole, things, hole)
    things[:, 50:] = things[:20] = things[40:] = True  # on three sides of four
    assert amid_things(~hole, things, hole)
    assert not amid_things(~hole & ~things, things, hole)  # which may not be copied anyway


def test_a_thing_is_copied_where_nothing_else_may_be():
    photo = np.random.default_rng(0).integers(180, 220, (64, 96, 1)).repeat(3, axis=2).astype(np.uint8)
    hole, things = np.zeros((2, 64, 96), bool)
    hole[20:44, 20:44] = things[:, :80] = True
    photo[:, 80:] = 0
    assert fill_hole(photo, hole, ~hole, ~hole & things, blend=False, things=things)[hole].min() > 120


@pytest.mark.parametrize("width", [60, 400])
def test_what_is_no_thing_is_looked_for_further_away(width):
    """The window of a hole beside a thing goes on to where enough is none; where all is things, it stays as it is."""
    hole, things = np.zeros((2, 60, width), bool)
    hole[20:40, 20:30] = things[:, :200] = True
    near, wide = (window_besides(hole, ~hole, known) for known in (None, things))
    assert (wide == near) is (width == 60) and (width == 60 or (~things[wide]).sum() >= hole.sum())


def test_each_of_several_holes_has_its_own_surroundings():
    """One place is on the ground, one in the middle of a table; they leave together."""
    photo = np.random.default_rng(0).integers(90, 150, (200, 200, 1)).repeat(3, axis=2).astype(np.uint8)
    photo[110:190, 110:190] = (20, 20, 250)
    places = np.zeros((2, 200, 200), bool)
    places[0, 20:90, 20:90] = places[1, 135:165, 135:165] = True
    photo[places[0]] = photo[places[1]] = 255
    (hole,) = background_holes(photo.copy(), [*places], None, None, 0, blue(photo) | places[1])
    assert hole.things is not None
    found = ContentPipeline(filler="exemplar", thing_model=blue_things(224)).background(photo, places)
    assert not blue(found)[places[0]].any() and blue(found)[places[1]].all()


def test_is_saved_loaded_moved_and_refused(tmp_path):
    torch.manual_seed(0)
    pipe = tiny_content(filler="auto", thing_model=ThingNet(decoder_channels=4, sample_size=64).eval())
    assert [type(network).__name__ for network in pipe.networks] == ["PCNetContent", "ThingNet"]
    pipe.save_pretrained(tmp_path / "content")
    loaded = ContentPipeline.from_pretrained(tmp_path / "content", dtype=torch.bfloat16)
    assert loaded.thing_model.dtype == loaded.model.dtype == torch.bfloat16
    photo, place = street()
    again = ContentPipeline.from_pretrained(tmp_path / "content")
    np.testing.assert_array_equal(again.background(photo, place), pipe.background(photo, place))
    without = ContentPipeline.from_pretrained(tmp_path / "content", thing_model=None)
    assert without.thing_model is None and without.background(photo, place).shape == photo.shape
    scene = ScenePipeline(tiny_pipeline(), pipe)
    scene.save_pretrained(tmp_path / "scene")
    assert ScenePipeline.from_pretrained(tmp_path / "scene").content_pipeline.thing_model is not None
    for part in (pipe, ContentPipeline(inpainter=tiny_inpainting(), thing_model=pipe.thing_model)):
        part.save_pretrained(tmp_path / type(part.inpainter).__name__, variant="fp16")
        again = ContentPipeline.from_pretrained(tmp_path / type(part.inpainter).__name__, variant="fp16")
        assert (again.thing_model is None, again.model is None) == (False, part.model is None)
    with pytest.raises(TypeError, match="`thing_model` must be of ThingNet, got PCNetContent"):
        ContentPipeline(filler="auto", thing_model=pipe.model)


def test_goes_with_an_inpainter_where_that_goes():
    pipe = ContentPipeline(inpainter=tiny_inpainting(), filler="auto", thing_model=blue_things())
    assert pipe.to(dtype=torch.float64, silence_dtype_warnings=True).thing_model.dtype == torch.float64
    assert pipe.to(torch.float32).thing_model.dtype == torch.float32
    photo, place = street()
    assert not blue(pipe.background(photo, place, filler="exemplar"))[place].any() and BlueIsAThing.seen


def test_a_thing_beside_the_hole_shines_less_into_it():
    """A pink box on a wall of about its brightness, whose lower half is hidden by what is removed."""
    wall = (150 + np.random.default_rng(0).integers(-6, 7, (90, 120, 1)) + np.zeros(3)).astype(np.uint8)
    hole, things = np.zeros((2, 90, 120), bool)
    hole[45:75, 40:80] = things[25:45, 50:70] = True
    wall[things] = (180, 135, 150)
    below = slice(46, 52), slice(52, 68)
    found = {
        told: fill_hole(wall, hole, ~hole, ~(hole | things), blend=False, things=things if told else None)
        for told in (False, True)
    }
    pink = {told: float(np.ptp(picture[below].mean((0, 1)))) for told, picture in found.items()}
    assert pink[True] < 0.5 * pink[False], pink
    np.testing.assert_array_equal(found[True][things], wall[things])
