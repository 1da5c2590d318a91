"""What is a thing is not copied into backgrounds, unless they lie amid things."""

import numpy as np
import pytest
import torch

from amodal_diffusion import ContentPipeline, MaskModelOutput, ScenePipeline, ThingNet
from amodal_diffusion.pipelines.content.sources import background_holes, without_things
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
    assert BlueIsAThing.seen == [(1, 3, 64, 64)] or BlueIsAThing.seen == [(1, 3, 32, 64)]


def test_amid_things_they_are_copied():
    photo, place = street()
    photo[~place] = (20, 20, 250)
    photo[:10] = 120
    assert blue(ContentPipeline(filler="exemplar", thing_model=blue_things()).background(photo, place))[place].all()


def test_networks_and_nothing_to_fill_ask_nobody():
    photo, place = street()
    pipe = tiny_content(filler="pcnet-c", thing_model=blue_things())
    pipe.background(photo, place)
    ContentPipeline(filler="auto", thing_model=pipe.thing_model).background(photo, place & False)
    assert not BlueIsAThing.seen


def test_what_may_be_copied_into_which_hole():
    hole, things = np.zeros((2, 60, 80), bool)
    hole[20:40, 30:50] = True
    things[:, 60:] = True
    usable = ~hole
    left = without_things(usable, things, hole)
    assert not left[:, 59:].any() and left[:, :59][~hole[:, :59]].all()
    things[:, 50:] = things[:20] = things[40:] = True  # on three sides of four
    assert without_things(usable, things, hole) is usable
    assert without_things(usable & ~things, ~things, hole).any()  # nothing else is left


def test_each_of_several_holes_has_its_own_surroundings():
    photo, places, things = np.full((60, 120, 3), 90, np.uint8), np.zeros((2, 60, 120), bool), np.zeros((60, 120), bool)
    places[0, 20:40, 20:40], places[1, 22:38, 80:96], things[:, 60:] = True, True, True
    holes = list(background_holes(photo, [*places], None, None, 0, things))
    assert len(holes) == 1  # they leave together, and half of what lies beside them is things
    alone = [next(background_holes(photo, [place], None, None, 0, things)) for place in places]
    offered = [np.zeros((60, 120), bool) for _ in alone]
    for plane, hole in zip(offered, alone, strict=True):
        plane[hole.window] = hole.usable
    assert not (offered[0] & things).any() and (offered[1] & things).any()


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
    with pytest.raises(TypeError, match="`thing_model` must be a ThingNet, got PCNetContent"):
        ContentPipeline(filler="auto", thing_model=pipe.model)


def test_goes_with_an_inpainter_where_that_goes():
    pipe = ContentPipeline(inpainter=tiny_inpainting(), filler="auto", thing_model=blue_things())
    assert pipe.to(dtype=torch.float64, silence_dtype_warnings=True).thing_model.dtype == torch.float64
    assert pipe.to(torch.float32).thing_model.dtype == torch.float32
    photo, place = street()
    assert not blue(pipe.background(photo, place, filler="exemplar"))[place].any() and BlueIsAThing.seen
