"""Samples of Amodal-VAE: complete masks under simulated occlusion, and truly partial ones."""

import numpy as np
import pytest
import torch

from amodal_diffusion.crops import tight_boxes
from amodal_diffusion.data.samplers import PartialSampler, PartialShapes, ShapeSampler, collect_shapes
from amodal_diffusion.data.synthesis import MaskBank
from amodal_diffusion.losses import place_in_frame
from amodal_diffusion.masks import encode_rle


def ellipse(height, width, shape=(60, 80)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return ((y - 30) / height) ** 2 + ((x - 40) / width) ** 2 < 1


@pytest.fixture
def bank():
    rng = np.random.default_rng(0)
    masks = [ellipse(*rng.uniform(8, 28, 2)) for _ in range(20)]
    objects = [{"modal_mask": encode_rle(mask), "is_crowd": False, "category_id": 1} for mask in masks]
    return MaskBank.from_sources([[{"objects": objects}]], resolution=32)


def make_sampler(bank, **options):
    options = {"size": 16, "frame_size": 24, "seed": 0, "synthesis_size": 48} | options
    return ShapeSampler(bank, **options)


def test_complete_samples_touch_all_sides(bank):
    whole, ids = make_sampler(bank).complete(0, 32)
    assert whole.shape == (32, 1, 16, 16)
    assert set(whole.unique().tolist()) == {0.0, 1.0}
    assert (ids == 1).all()
    for edge in (whole[:, 0, 0], whole[:, 0, -1], whole[:, 0, :, 0], whole[:, 0, :, -1]):
        assert edge.any(1).float().mean() > 0.9


def test_simulated_samples_are_what_they_say(bank):
    batch = make_sampler(bank, box_probability=0.5, recipe="improved").simulated(0, 64)
    assert (batch.scene_visible <= batch.scene_whole).all()
    hidden = (batch.scene_whole & ~batch.scene_visible).flatten(1).any(1)
    assert 0.7 < hidden.float().mean() < 1
    for edge in (
        batch.scene_whole[:, 0],
        batch.scene_whole[:, -1],
        batch.scene_whole[..., 0],
        batch.scene_whole[..., -1],
    ):
        assert not edge.any()  # the crop cuts nothing off
    assert torch.equal(batch.visible_boxes, tight_boxes(batch.scene_visible))
    assert 0.2 < batch.by_box.float().mean() < 0.8
    # Placed by the true box, the whole mask fills its frame as the truth does.
    logits = (batch.whole * 2 - 1) * 20
    placed = place_in_frame(logits, batch.boxes, 24)
    inside = (batch.boxes[:, 2:] < 2).all(1)
    assert (placed - batch.frame)[inside].abs().mean() < 0.01
    # Cropped by its own box an object fills the crop; by the whole one it need not.
    filled = (batch.visible[:, 0] > 0.2).any(1).float().mean(1)
    assert filled[~batch.by_box].min() > filled[batch.by_box].min()


def test_samples_repeat(bank):
    first, again, other = (make_sampler(bank, box_probability=0.5).simulated(step, 8) for step in (3, 3, 4))
    for name, value in vars(first).items():
        assert torch.equal(value, getattr(again, name)), name
    assert not torch.equal(first.visible, other.visible)


def test_shapes_are_sorted_by_the_order():
    front, behind, alone = np.zeros((3, 60, 80), bool)
    front[10:30, 10:30], behind[15:40, 30:50], alone[45:55, 60:75] = True, True, True
    objects = [
        {"modal_mask": encode_rle(mask), "is_crowd": False, "category_id": category}
        for mask, category in ((front, 3), (behind, 4), (alone, None))
    ]
    options = {"size": 16, "frame_size": 24, "resolution": 32, "min_area": 10, "max_truncation": 0.05}
    order = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 0]], np.int8)
    asked = []

    def find_order(masks):
        asked.append(len(masks))
        return order[: len(masks), : len(masks)]

    found = collect_shapes(
        [[{"objects": objects}], [{"objects": objects[2:]}]], known_categories=[0], find_order=find_order,
        collect_partial=True, **options,
    )  # fmt: skip
    assert asked == [2]  # only those that touch
    assert found.counts == [(3, 2, 1), (1, 1, 0)]
    assert found.complete.category_ids.tolist() == [3, 0, 0]
    assert found.complete.sources.tolist() == [0, 0, 1]
    assert found.partial.category_ids.tolist() == [4]
    assert (found.partial.visible == 255).all()  # a rectangle fills its own box
    frame = found.partial.frame_visible[0] > 127
    assert frame[8:16, 8:16].all()
    assert frame.sum() == 64
    in_front = found.partial.frame_front[0] > 127
    assert in_front[:, :8].any()
    assert not in_front[:, 8:].any()
    without = collect_shapes(
        [[{"objects": objects}]], known_categories=[], find_order=None, collect_partial=True, **options
    )
    assert without.counts == [(3, 1, 0)]
    assert without.partial is None
    assert without.complete.category_ids.tolist() == [0]


def test_partial_samples_are_mirrored_together():
    ramp = torch.arange(4).expand(1, 4, 4).to(torch.uint8)
    shapes = PartialShapes(ramp, ramp * 2, ramp * 3, torch.tensor([7]), torch.tensor([0]))
    batch = PartialSampler(shapes, seed=0).sample(0, 16)
    assert batch.visible.shape == (16, 1, 4, 4)
    rising = batch.visible[:, 0, 0, 0] == 0
    assert 0 < rising.sum() < 16
    torch.testing.assert_close(batch.frame, batch.visible[:, 0] * 2)
    torch.testing.assert_close(batch.front, batch.visible[:, 0] * 3)
    assert (batch.category_ids == 7).all()


def test_partial_samples_follow_the_source_weights():
    plane = torch.zeros(3, 4, 4, dtype=torch.uint8)
    shapes = PartialShapes(plane, plane, plane, torch.tensor([1, 1, 2]), torch.tensor([0, 0, 1]))
    ids = PartialSampler(shapes, seed=0, source_weights=[0, 1]).sample(0, 32).category_ids
    assert (ids == 2).all()
