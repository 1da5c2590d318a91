"""Samples of Amodal-VAE: complete masks under simulated occlusion, and truly partial ones."""

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion.crops import crop_to_boxes, tight_boxes
from amodal_diffusion.data.samplers import PartialSampler, PartialShapes, ShapeSampler, collect_shapes
from amodal_diffusion.data.synthesis import MaskBank
from amodal_diffusion.images import denormalize_images
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
        if isinstance(value, torch.Tensor):
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


def test_true_shapes_are_complete_though_hidden():
    whole = np.zeros((4, 40, 60), bool)
    whole[0, 10:30, 5:25], whole[1, 15:35, 20:40], whole[2, 5:12, 45:55] = True, True, True
    whole[3, 20:30, 50:] = True  # cut off by the frame
    masks = whole.copy()
    masks[0] &= ~whole[1]
    objects = [
        {"modal_mask": encode_rle(modal), "amodal_mask": encode_rle(amodal), "is_crowd": False, "category_id": 1}
        for modal, amodal in zip(masks, whole, strict=True)
    ]
    options = {
        "size": 16, "frame_size": 24, "resolution": 16, "min_area": 20, "max_truncation": 0.05, "known_categories": [],
        "find_order": None, "collect_partial": True,
    }  # fmt: skip
    found = collect_shapes([[{"objects": objects}]], true_shapes=True, **options)
    assert found.counts == [(4, 3, 1)]
    assert found.complete.box_sizes[0].tolist() == [20, 20]  # though its visible part is smaller
    assert (found.complete.bits[0] == 255).all()
    assert not (found.partial.visible[0] == 255).all()
    assert collect_shapes([[{"objects": objects}]], **options).counts == [(4, 1, 0)]
    del objects[0]["amodal_mask"]  # where one is missing, the visible masks of its photo count
    assert collect_shapes([[{"objects": objects}]], true_shapes=True, **options).counts == [(4, 1, 0)]


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


# With photos

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], np.uint8)
GREY = 128


def coloured_rows(count=4):
    """A photo for each object, which has a colour of its own on grey, and touches nothing."""
    rng = np.random.default_rng(1)
    rows = []
    for number in range(count):
        mask = np.roll(ellipse(*rng.uniform(14, 26, 2)), number - 3, axis=1)
        photo = np.where(mask[..., None], COLOURS[number], GREY).astype(np.uint8)
        item = {"modal_mask": encode_rle(mask), "is_crowd": False, "category_id": number + 1}
        rows.append({
            "image_id": number, "source": "drawn", "file_name": f"{number}.png", "height": 60, "width": 80,
            "image": Image.fromarray(photo), "objects": [item],
        })  # fmt: skip
    return rows


def collect(rows, image_size=64, **options):
    options = {
        "size": 64, "frame_size": 24, "resolution": 64, "min_area": 10, "max_truncation": 1.0, "known_categories": [0],
        "find_order": None, "collect_partial": True, "image_size": image_size, **options,
    }  # fmt: skip
    return collect_shapes([rows], **options)


def rgb(image):
    """(B, i, i, 3) in [0, 255]."""
    return (denormalize_images(image) * 255).movedim(1, -1)


@pytest.mark.parametrize("recipe", ["published", "improved"])
def test_photos_lie_where_the_masks_do(recipe):
    """Every visible pixel has its object's colour, in the sheared crops too, and what hides it has another's."""
    bank = collect(coloured_rows()).complete
    assert bank.pixels.shape == (4, 3, 64, 64)
    sampler = make_sampler(bank, size=64, synthesis_size=96, recipe=recipe, whole_images=True)
    batch = sampler.simulated(0, 64)
    own = torch.from_numpy(COLOURS)[batch.category_ids - 1].float()[:, None, None]
    same = (rgb(batch.image) - own).abs().amax(-1) < 60
    visible = batch.visible[:, 0] > 0.99
    assert same[visible].float().mean() > 0.97
    whole = rgb(batch.whole_image)
    alone = (whole - own).abs().amax(-1) < 60
    assert alone[batch.whole[:, 0] > 0].float().mean() > 0.96
    assert not alone[batch.whole[:, 0] == 0].float().mean() > 0.1
    # What hides it: within the box of what is visible, the whole mask less the visible one.
    boxes = batch.visible_boxes
    hidden = crop_to_boxes(batch.scene_whole & ~batch.scene_visible, boxes, 64) > 0.99
    others = (rgb(batch.image)[:, :, :, None] - torch.from_numpy(COLOURS).float()).abs().amax(-1).argmin(-1)
    foreign = (others + 1 != batch.category_ids[:, None, None])[hidden]
    repeated = (batch.placement.others == batch.category_ids - 1)[:, None, None].expand_as(hidden)[hidden]
    assert hidden.any() and (foreign | repeated).float().mean() > 0.95
    by_box = sampler.crop_photos(batch, batch.whole_boxes)
    assert by_box.shape == batch.image.shape and not torch.equal(by_box, batch.whole_image)


def test_photos_change_no_mask(bank):
    with_photos = collect(coloured_rows()).complete
    without = MaskBank(with_photos.bits, with_photos.box_sizes, with_photos.category_ids, with_photos.sources)
    first, second = (make_sampler(one, recipe="improved").simulated(3, 16) for one in (with_photos, without))
    assert torch.equal(first.visible, second.visible) and torch.equal(first.frame, second.frame)
    assert second.image is None and second.whole_image is None and first.whole_image is None
    part = with_photos.subset(torch.tensor([2])).to("cpu")
    assert torch.equal(part.pixels, with_photos.pixels[2:3])
    with pytest.raises(ValueError, match="`bank` must have `pixels`"):
        make_sampler(without)._occluded.read_photos(first.placement, torch.zeros(16, 2, 2, 2))
    with pytest.raises(ValueError, match=r"`pixels` must have shape \(4, 3, p, p\) and dtype uint8, got \(3, 3, 64"):
        MaskBank(
            with_photos.bits,
            with_photos.box_sizes,
            with_photos.category_ids,
            with_photos.sources,
            with_photos.pixels[:3],
        )


def test_partly_hidden_objects_have_their_photos():
    front, behind = np.zeros((2, 60, 80), bool)
    front[10:30, 10:30], behind[15:40, 30:50] = True, True
    photo = np.full((60, 80, 3), GREY, np.uint8)
    photo[front], photo[behind] = COLOURS[0], COLOURS[1]
    photo[15:40, 30:40] = COLOURS[2]  # its left half
    row = coloured_rows(1)[0] | {
        "image": Image.fromarray(photo),
        "objects": [{"modal_mask": encode_rle(mask), "is_crowd": False, "category_id": 1} for mask in (front, behind)],
    }
    found = collect([row], image_size=16, find_order=lambda masks: np.array([[0, 1], [-1, 0]], np.int8))
    assert found.counts == [(2, 1, 1)]
    assert (found.complete.pixels == torch.from_numpy(COLOURS[0])[None, :, None, None]).all()
    batch = PartialSampler(found.partial.to("cpu"), seed=0).sample(0, 16)
    seen = rgb(batch.image)
    left, right = (torch.from_numpy(COLOURS[index]).float() for index in (2, 1))
    mirrored = (seen[:, 8, 2] - right).abs().amax(-1) < 2
    assert 0 < mirrored.sum() < 16
    torch.testing.assert_close(seen[~mirrored][:, :, :8], left.expand(int((~mirrored).sum()), 16, 8, 3), atol=1, rtol=0)
    torch.testing.assert_close(seen[mirrored][:, :, 8:], left.expand(int(mirrored.sum()), 16, 8, 3), atol=1, rtol=0)


def test_a_source_without_photos_is_named():
    row = {name: value for name, value in coloured_rows(1)[0].items() if name != "image"}
    with pytest.raises(ValueError, match="image 0 of 'drawn' has no photo"):
        collect([row])
    assert collect([row], image_size=None).complete.pixels is None
    with pytest.raises(ValueError, match="`sources`: source 0 has no photo with objects"):
        collect([])
