"""Crops of fixed size and back, by float boxes."""

import pytest
import torch

from amodal_diffusion.crops import (
    crop_images_to_boxes,
    crop_to_boxes,
    paste_from_boxes,
    tight_boxes,
    to_absolute_boxes,
    to_relative_boxes,
)


def rectangle(top, left, height, width, shape=(40, 60)):
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return mask


def test_a_crop_averages_over_its_cells():
    mask = torch.rand(1, 12, 20, generator=torch.Generator().manual_seed(0))
    crop = crop_to_boxes(mask, torch.tensor([[0.0, 0.0, 20.0, 12.0]]), 4)
    torch.testing.assert_close(crop[0], mask[0].view(4, 3, 4, 5).mean((1, 3)))


def test_a_fraction_of_a_pixel_counts_by_its_area():
    mask = torch.tensor([[[0.0, 1.0, 0.0, 0.0]]])
    crop = crop_to_boxes(mask, torch.tensor([[0.5, 0.0, 3.0, 1.0]]), 1)
    torch.testing.assert_close(crop, torch.tensor([[[1 / 3]]]))


def test_a_small_box_is_interpolated_linearly():
    ramp = torch.arange(8.0).expand(1, 8, 8)
    crop = crop_to_boxes(ramp, torch.tensor([[2.0, 2.0, 2.0, 2.0]]), 8)
    expected = 2 + (torch.arange(8) + 0.5) / 4 - 0.5  # the value at the centre of pixel k is k
    torch.testing.assert_close(crop[0], expected.expand(8, 8))


def test_photos_are_cropped_as_masks_are():
    generator = torch.Generator().manual_seed(0)
    photo = torch.rand(3, 20, 30, generator=generator)
    boxes = torch.tensor([
        [0.0, 0.0, 30.0, 20.0], [3.3, 4.7, 5.2, 11.9], [-7.5, 2.0, 20.0, 4.0], [25.0, 15.0, 20.0, 30.0],
        [40.0, 5.0, 4.0, 4.0], [-9.0, -9.0, 3.0, 3.0], [5.0, 5.0, 0.0, 0.0], [6.2, 7.1, 0.4, 0.3],
    ])  # fmt: skip
    crops = crop_images_to_boxes(photo, boxes, 8)
    for channel, plane in enumerate(photo):
        expected = crop_to_boxes(plane[None], boxes, 8, torch.zeros(len(boxes), dtype=torch.int64))
        torch.testing.assert_close(crops[:, channel], expected)
    assert crop_images_to_boxes(photo, boxes[:0], 8).shape == (0, 3, 8, 8)
    with pytest.raises(ValueError, match=r"`image` must have shape \(C, H, W\), got \(20, 30\)"):
        crop_images_to_boxes(photo[0], boxes, 8)
    with pytest.raises(ValueError, match="`size` must be at least 1, got 0"):
        crop_images_to_boxes(photo, boxes, 0)
    with pytest.raises(ValueError, match=r"`boxes` must be \(N, 4\) floats"):
        crop_images_to_boxes(photo, boxes.long(), 8)


def test_boxes_may_leave_the_mask():
    mask = torch.ones(1, 10, 10)
    crop = crop_to_boxes(mask, torch.tensor([[-10.0, 0.0, 20.0, 10.0]]), 4)[0]
    torch.testing.assert_close(crop, torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(4, 4))


def test_many_boxes_of_few_masks_equal_one_by_one():
    masks = torch.rand(3, 30, 40, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[1.5, 2.0, 10.0, 20.0], [-3.0, 5.0, 9.5, 4.0], [20.0, 20.0, 30.0, 3.0], [0.0, 0.0, 0.0, 5.0]])
    indices = torch.tensor([2, 0, 0, 1])
    together = crop_to_boxes(masks, boxes, 8, indices)
    for row in range(4):
        alone = crop_to_boxes(masks[indices[row]][None], boxes[row : row + 1], 8)[0]
        torch.testing.assert_close(together[row], alone)
    assert (together[3] == 0).all()  # a box without width


def test_more_masks_than_fit_at_once(monkeypatch):
    masks = torch.rand(5, 16, 16, generator=torch.Generator().manual_seed(2))
    boxes = torch.tensor([[1.0, 2.0, 9.0, 11.0]]).expand(5, 4)
    expected = crop_to_boxes(masks, boxes, 4)
    monkeypatch.setattr("amodal_diffusion.crops.boxes._CHUNK", 2 * 16 * 16)
    torch.testing.assert_close(crop_to_boxes(masks, boxes, 4), expected)


def test_pasting_a_tight_crop_gives_the_mask_again():
    masks = torch.stack([rectangle(3, 5, 21, 40), rectangle(30, 50, 10, 10)])
    boxes = tight_boxes(masks)
    back = paste_from_boxes(crop_to_boxes(masks, boxes, 16), boxes, 40, 60)
    assert torch.equal(back > 0.5, masks)


def test_pasting_stays_inside_of_the_box():
    boxes = torch.tensor([[4.5, 3.0, 10.0, 8.0], [50.0, -4.0, 30.0, 12.0], [5.0, 5.0, 0.0, 8.0]])
    pasted = paste_from_boxes(torch.ones(3, 4, 4), boxes, 40, 60)
    torch.testing.assert_close(pasted[0].sum(), torch.tensor(80.0))  # the whole area of the box, fractions with it
    torch.testing.assert_close(pasted[0, 5, 3:6], torch.tensor([0.0, 0.5, 1.0]))
    assert pasted[0, 11:].sum() == 0
    assert pasted[1, :8, 50:].eq(1).all()
    assert pasted[1].sum() == 80  # of the second, what lies on the photo
    assert pasted[2].sum() == 0


def test_gradients_move_a_box_to_where_the_shape_is():
    target = rectangle(12, 20, 16, 24).float()[None]
    boxes = torch.tensor([[14.0, 9.0, 20.0, 18.0]], requires_grad=True)
    optimizer = torch.optim.Adam([boxes], lr=0.3)
    for _ in range(150):
        loss = (paste_from_boxes(torch.ones(1, 8, 8), boxes, 40, 60) - target).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(boxes.detach(), torch.tensor([[20.0, 12.0, 24.0, 16.0]]), atol=0.3, rtol=0)


def test_tight_boxes():
    masks = torch.stack([rectangle(3, 5, 21, 40), torch.zeros(40, 60, dtype=torch.bool), rectangle(0, 0, 40, 60)])
    assert tight_boxes(masks).tolist() == [[5, 3, 40, 21], [0, 0, 0, 0], [0, 0, 60, 40]]


def test_relative_boxes():
    reference = torch.tensor([[10.0, 20.0, 30.0, 40.0], [5.0, 5.0, 0.0, 0.0]])
    itself = torch.tensor([[0.5, 0.5, 1.0, 1.0]])
    assert to_absolute_boxes(itself, reference[:1]).tolist() == [[10, 20, 30, 40]]
    boxes = torch.tensor([[4.0, 6.0, 60.0, 20.0], [1.0, 2.0, 3.0, 4.0]])
    relative = to_relative_boxes(boxes, reference)
    torch.testing.assert_close(relative[0], torch.tensor([0.8, -0.1, 2.0, 0.5]))
    torch.testing.assert_close(to_absolute_boxes(relative[:1], reference[:1]), boxes[:1])
    assert relative[1].isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, b: crop_to_boxes(m[0], b, 4), r"`masks` must have shape \(M, H, W\)"),
        (lambda m, b: crop_to_boxes(m, b, 0), "`size` must be at least 1, got 0"),
        (lambda m, b: crop_to_boxes(m, b, 4), "`indices` is needed: there are 2 masks and 3 boxes"),
        (lambda m, b: crop_to_boxes(m, b, 4, torch.tensor([0])), r"`indices` must have shape \(3,\)"),
        (lambda m, b: crop_to_boxes(m, b.long(), 4, torch.tensor([0])), r"`boxes` must be \(N, 4\) floats"),
        (lambda m, b: paste_from_boxes(m, b, 4, 4), r"`patches` must have shape \(3, s, s\)"),
        (lambda m, b: paste_from_boxes(m, b[:2], 0, 4), "`height` and `width` must be at least 1, got 0 and 4"),
    ],
)
def test_bad_inputs_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(2, 8, 8), torch.zeros(3, 4))
