"""`HiddenParts`: training samples whose hidden colours a rendering knows."""

import numpy as np
import pytest
import torch

from amodal_diffusion.data import read_annotations, record_masks
from amodal_diffusion.data.rooms import ColorArchives, HiddenParts
from amodal_diffusion.data.synthesis import ContentSynthesisConfig, join_content
from amodal_diffusion.images import denormalize_images
from repository_helpers import ROOT

ROOMS = ROOT / "datasets" / "rooms-amodal"
STILL = ContentSynthesisConfig(size=64, dilation=0.0, shift=(0, 0), scale=(1, 1))


@pytest.fixture(scope="module")
def rows():
    return read_annotations(ROOMS).select(range(6))


@pytest.fixture(scope="module")
def colors():
    return ColorArchives(ROOMS)


def test_what_is_drawn_is_hidden_and_its_colours_are_the_renderings(rows, colors):
    parts = HiddenParts([(rows, colors)], STILL, min_area=300)
    for part in parts.parts:
        modal, amodal = record_masks(rows[part.row])
        hidden = amodal[part.object] & ~modal[part.object]
        assert modal[part.object].sum() >= 300 and hidden.sum() >= 100
    batch = parts.sample(0, 16)
    assert (batch.hole.sum((1, 2, 3)) > 0).all() and not (batch.hole * batch.mask).any()
    assert not (batch.hole * batch.visible).any() and (batch.mask <= batch.visible).all()
    # A picture whose hole shows what hides the object would differ from the layer.
    part = parts.parts[0]
    alone = HiddenParts([(rows.select([part.row]), colors)], STILL, min_area=300)
    alone.parts = [part._replace(row=0)]
    sample = alone.sample(0, 1)
    modal, amodal = (stack[part.object] for stack in record_masks(rows[part.row]))
    layer = colors.read(rows[part.row]["image_id"], [part.object]).paint(part.object, *modal.shape)
    truth = layer[amodal & ~modal][:, :3].mean(axis=0)
    painted = denormalize_images(sample.image)[0][:, sample.hole[0, 0] > 0].mean(dim=1) * 255
    np.testing.assert_allclose(painted.numpy(), truth, atol=12)


def test_a_batch_follows_from_seed_step_and_process(rows, colors):
    recipe = ContentSynthesisConfig.improved(32)

    def draw(step=3, **options):
        return HiddenParts([(rows, colors)], recipe, **options).sample(step, 4).image

    assert torch.equal(draw(), draw())
    for other in (draw(4), draw(seed=1), draw(process_index=1)):
        assert not torch.equal(draw(), other)


def test_beyond_the_frame_and_beside_the_object_nothing_is_known(rows, colors):
    recipe = ContentSynthesisConfig(size=64, dilation=0.2, shift=(0.4, 0.4), scale=(0.7, 0.7))
    batch = HiddenParts([(rows, colors)], recipe, min_area=300).sample(1, 16)
    outside = (batch.known == 0) & (batch.visible == 1)
    assert not outside.any()  # what is seen is known
    assert ((batch.known == 0) & (batch.visible == 0)).any()  # the frame, and what hides the object beside its hole
    assert (batch.hole <= 1 - batch.visible).all()


def test_nothing_that_is_hidden(rows, tmp_path):
    with pytest.raises(ValueError, match="no object has a hidden part whose colours are known"):
        HiddenParts([(rows, ColorArchives(tmp_path))], STILL)


def test_archives(rows, colors):
    name = rows[0]["image_id"]
    whole, some = colors.read(name), colors.read(name, colors.objects(name)[:1])
    assert sorted(whole.objects) == colors.objects(name) and whole.depth is not None
    assert list(some.objects) == colors.objects(name)[:1] and some.depth is None
    assert len(colors) == 60 and colors.objects("nowhere") == []
    with pytest.raises(FileNotFoundError, match="no depth and colours of image 'nowhere'$"):
        colors.read("nowhere")
    with pytest.raises(FileNotFoundError, match="of image 'room' of split 'train'"):
        ColorArchives(ROOMS, "train").read("room")


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04 and no more"])
def test_an_archive_that_is_not_whole_is_named(tmp_path, content):
    (tmp_path / "layers").mkdir()
    (tmp_path / "layers" / "test-00000-of-00001.zip").write_bytes(content)
    with pytest.raises(ValueError, match="test-00000-of-00001.zip' is no whole zip archive"):
        ColorArchives(tmp_path)


def test_joined(rows, colors):
    batch = HiddenParts([(rows, colors)], STILL).sample(0, 2)
    both = join_content([batch, batch])
    assert len(both.image) == 4 and torch.equal(both.hole[:2], batch.hole) and both.category_ids.tolist() == [0] * 4
