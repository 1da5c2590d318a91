"""PCNet-M with the photo as a pipeline: one pass an object, the order from it, objects alone, wrong settings."""

import numpy as np
import pytest
import torch

from amodal_diffusion import MaskModelOutput, PhotoPCNetMask
from photo_helpers import draw_scene, tiny_photo_pcnet
from pipeline_helpers import iou


class RedIsInFront(PhotoPCNetMask):
    """In front is what is red in the photo; an object goes on under it between the ends of its rows.

    `seen` keeps the inputs of every crop.
    """

    seen: list = []

    def forward(self, mask, eraser, front=None, image=None, shown=None, category_ids=None, return_dict=True):
        type(self).seen += [
            {"eraser": e, "front": f, "image": image is not None} for e, f in zip(eraser, front, strict=True)
        ]
        red = torch.zeros_like(mask)
        if image is not None:
            red = ((image[:, :1] > 1.5) & (image[:, 1:2] < 0)).to(mask.dtype)
        red = torch.maximum(red, front)
        between = mask.cummax(-1).values * mask.flip(-1).cummax(-1).values.flip(-1)
        whole = torch.maximum(mask, between * eraser * red)
        logits = torch.where(whole > 0, 8.0, -8.0)
        return MaskModelOutput(torch.cat([0 * logits, logits, torch.where(red > 0, 8.0, -8.0)], dim=1))


def ruled(**settings):
    RedIsInFront.seen = []
    model = RedIsInFront(block_out_channels=(4, 8), reduced_channels=4, sample_size=64)
    return tiny_photo_pcnet(model.eval(), **settings)


def bars(height=60, width=80):
    """A grey bar behind a red one, and a third object that touches neither: photo, modal and amodal (3, H, W)."""
    amodal = np.zeros((3, height, width), bool)
    amodal[0, 20:40, 5:75] = amodal[1, 10:50, 30:46] = amodal[2, 55:, :10] = True
    photo = np.full((height, width, 3), 30, np.uint8)
    photo[amodal[0]], photo[amodal[1]] = 150, (250, 10, 10)
    return photo, amodal & ~np.stack([amodal[1], np.zeros_like(amodal[1]), np.zeros_like(amodal[1])]), amodal


@pytest.mark.parametrize("passes", [1, 2])
def test_one_pass_an_object_gives_masks_and_order(passes):
    photo, modal, amodal = bars()
    output = ruled(passes=passes)(photo, modal)
    assert iou(output.amodal_masks, amodal).min() > 0.97
    assert output.order[1, 0] == 1 and output.order[0, 1] == -1 and np.abs(output.order).sum() == 2
    assert iou(output.occluder_masks[:1], amodal[1:2])[0] > 0.9 and not output.occluder_masks[1:].any()
    assert not (output.occluder_masks & modal).any()
    assert len(RedIsInFront.seen) == 2 + (passes - 1)  # nothing can hide the third; then, what has something in front
    assert not any(one["front"].any() for one in RedIsInFront.seen[:2])
    assert all(one["front"].any() for one in RedIsInFront.seen[2:])


def test_an_object_alone_is_completed_by_the_photo():
    photo, modal, amodal = bars()
    output = ruled()(photo, modal[0])
    assert iou(output.amodal_masks, amodal[:1])[0] > 0.97 and output.order.tolist() == [[0]]
    assert iou(output.occluder_masks, amodal[1:2])[0] > 0.9
    assert len(RedIsInFront.seen) == 1
    together = ruled()(photo, modal, occluder_rule="photo")
    np.testing.assert_array_equal(together.amodal_masks[0], output.amodal_masks[0])
    assert together.order is None
    kept = ruled()(photo, modal[1])  # what has nothing in front of it stays as it is, to the pixel
    np.testing.assert_array_equal(kept.amodal_masks[0], modal[1])


def test_what_the_caller_knows_is_told():
    photo, modal, amodal = bars()
    grey = np.full_like(photo, 90)
    assert not (ruled()(grey, modal).amodal_masks & ~modal).any()
    order = np.zeros((3, 3), int)
    order[1, 0], order[0, 1] = 1, -1
    for output in (ruled()(grey, modal, order=order), ruled()(grey, modal, occluder_masks=modal[1])):
        assert iou(output.amodal_masks, amodal)[0] > 0.97
        assert RedIsInFront.seen[0]["front"].equal(RedIsInFront.seen[0]["eraser"])
    np.testing.assert_array_equal(ruled()(grey, modal, order=order).order, order)
    assert ruled()(grey, modal, occluder_masks=modal[1]).order is None


def test_masks_do_without_a_photo():
    _, modal, _ = bars()
    output = ruled()(None, modal)
    assert not any(one["image"] for one in RedIsInFront.seen) and output.amodal_masks.shape == modal.shape
    photo, _, _ = draw_scene(1, 60, 80)
    mixed = ruled()([photo, None], [modal, modal])
    assert [masks.shape for masks in mixed.amodal_masks] == [modal.shape] * 2


def test_growth_reaches_no_further_than_what_may_hide():
    photo, modal, _ = bars()
    for rule in ("consistent", "ancestors", "neighbours"):
        output = tiny_photo_pcnet()(photo, modal, occluder_rule=rule, mask_threshold=0.0)
        others = np.stack([modal[np.arange(3) != index].any(axis=0) for index in range(3)])
        assert not (output.amodal_masks & ~modal & ~others).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"passes": 3}, "`passes` must be 1 or 2, got 3"),
        ({"occluder_rule": "growth"}, "`occluder_rule` must be one of consistent, .*got 'growth'"),
        ({"front_weight": -1}, "`front_weight` must lie in"),
        ({"rim_width": -1}, "`rim_width` must be at least 0"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny_photo_pcnet(**settings)
