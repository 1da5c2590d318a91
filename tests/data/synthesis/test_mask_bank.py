"""The packed bank of masks."""

import numpy as np
import pytest
import torch

from amodal_diffusion.data.synthesis import MaskBank
from amodal_diffusion.masks import encode_rle


def make_row(masks, *, crowd=(), categories=None):
    objects = [
        {
            "modal_mask": encode_rle(mask),
            "is_crowd": index in crowd,
            "category_id": categories[index] if categories else 1,
        }
        for index, mask in enumerate(masks)
    ]
    return {"objects": objects}


def square(top, left, height, width, shape=(80, 100)):
    mask = np.zeros(shape, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def unpack(bank):
    return np.unpackbits(bank.bits.numpy(), axis=-1).astype(bool)


def test_an_object_fills_its_square():
    bank = MaskBank.from_sources([[make_row([square(10, 20, 30, 15)])]], resolution=32, min_area=1)
    stored = unpack(bank)[0]
    assert stored.any(1).all()  # as high as the square
    assert stored.any(0).sum() == 16  # half as wide
    assert bank.box_sizes.tolist() == [[15, 30]]


def test_what_lies_outside_the_photo_is_empty():
    bank = MaskBank.from_sources([[make_row([square(0, 0, 5, 60)])]], resolution=64, min_area=1)
    stored = unpack(bank)[0]
    assert stored.any(1).sum() == pytest.approx(64 * 5 / 60, abs=1)


def test_filters_and_sources():
    small, big, cut = square(5, 5, 3, 3), square(10, 10, 40, 40), square(0, 0, 80, 30)
    rows = [[make_row([small, big], categories=[7, 8])], [make_row([big, cut], crowd={0})]]
    bank = MaskBank.from_sources(rows, resolution=16, min_area=10, max_truncation=0.3)
    assert bank.category_ids.tolist() == [8]
    assert bank.sources.tolist() == [0]
    everything = MaskBank.from_sources(rows, resolution=16, min_area=1, keep_crowd=True)
    assert everything.sources.tolist() == [0, 0, 1, 1]
    assert len(everything.subset(torch.tensor([3, 0]))) == 2


def test_an_empty_bank_is_refused():
    with pytest.raises(ValueError, match="holds no mask"):
        MaskBank.from_sources([[make_row([square(5, 5, 3, 3)])]], min_area=100)


@pytest.mark.parametrize("resolution", [0, 12])
def test_the_resolution_must_be_whole_bytes(resolution):
    with pytest.raises(ValueError, match="multiple of 8"):
        MaskBank.from_sources([], resolution=resolution)


def test_shapes_must_belong_together():
    bits = torch.zeros(2, 16, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match="must describe the 2 masks"):
        MaskBank(bits, torch.ones(2, 2), torch.ones(3), torch.ones(2))
    with pytest.raises(ValueError, match=r"shape \(N, r, r / 8\)"):
        MaskBank(bits.float(), torch.ones(2, 2), torch.ones(2), torch.ones(2))


def test_an_object_without_category_gets_one():
    row = make_row([square(10, 10, 20, 20)])
    row["objects"][0]["category_id"] = None
    assert MaskBank.from_sources([[row]], resolution=16).category_ids.tolist() == [1]


def test_empty_masks_are_never_taken():
    with pytest.raises(ValueError, match="`min_area` must be at least 1"):
        MaskBank.from_sources([[make_row([square(0, 0, 0, 0)])]], min_area=0)
    with pytest.raises(ValueError, match="holds no mask"):
        MaskBank.from_sources([[make_row([square(0, 0, 0, 0)])]], min_area=1)
