"""The nearest-neighbour-mask baseline: what is in its bank, what it finds, where it puts it."""

import numpy as np
import pytest
import torch

from amodal_diffusion.baselines import nearest_mask as nearest_masks
from amodal_diffusion.baselines.nearest_mask import NearestMaskBank
from amodal_diffusion.crops import crop_to_boxes, tight_boxes
from amodal_diffusion.masks import encode_rle
from amodal_diffusion.ordering import order_by_area
from mask_helpers import random_masks

HEIGHT, WIDTH = 60, 80


def disc(x, y, radius):
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def bar(left, top, width, height):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def row(*masks, crowd=()):
    return {
        "objects": [
            {"modal_mask": encode_rle(mask), "is_crowd": index in crowd, "category_id": None}
            for index, mask in enumerate(masks)
        ]
    }


@pytest.fixture(scope="module")
def rows():
    """Discs and bars, each alone in its photo."""
    return [row(disc(40, 30, 18)), row(bar(10, 20, 50, 16)), row(bar(30, 5, 14, 48))]


@pytest.fixture(scope="module")
def bank(rows):
    return NearestMaskBank.from_sources([rows], occlusions=40, seed=1)


def test_pairs_are_what_the_sources_hold(bank):
    assert len(bank) == 120 and bank.size == 64
    wholes = np.unpackbits(bank.whole, axis=-1).astype(bool)
    full = wholes.all(axis=(1, 2))  # a bar fills its box, a disc does not
    assert full.sum() == 80
    assert wholes[~full].mean() == pytest.approx(disc(40, 30, 18).sum() / 37**2, abs=0.02)
    # A partial mask never reaches out of its whole one, and the first is a part of the second.
    low, high = bank.boxes[:, :2] - bank.boxes[:, 2:] / 2, bank.boxes[:, :2] + bank.boxes[:, 2:] / 2
    assert (low <= 1e-5).all() and (high >= 1 - 1e-5).all()
    assert (bank.boxes[:, 2:] > 1.2).any()


def test_similarity_is_the_cosine_and_the_largest_wins(bank):
    masks = random_masks(2, count=6, height=HEIGHT, width=WIDTH)
    masks[2:4] = [disc(30, 30, 9) & ~bar(0, 0, 25, 60), bar(3, 7, 40, 8)]
    found, similarity = bank.find(masks)
    stack = torch.from_numpy(masks)
    crops = (crop_to_boxes(stack, tight_boxes(stack), 64) > 0.5).flatten(1).numpy().astype(np.float64)
    entries = np.unpackbits(bank.partial.view(np.uint8), axis=1).astype(np.float64)
    norms = np.linalg.norm(crops, axis=1)[:, None] * np.linalg.norm(entries, axis=1)
    cosine = crops @ entries.T / np.maximum(norms, 1)
    np.testing.assert_allclose(similarity[1:], cosine.max(axis=1)[1:], rtol=1e-5)
    np.testing.assert_allclose(cosine[np.arange(6), found][1:], cosine.max(axis=1)[1:], rtol=1e-5)
    assert found[0] == -1 and similarity[0] == 0  # the empty mask


def test_small_parts_change_nothing(bank, monkeypatch):
    masks = random_masks(2, count=6, height=HEIGHT, width=WIDTH)
    expected = bank.find(masks), bank.complete(masks)
    monkeypatch.setattr(nearest_masks, "_CHUNK_WORDS", 7 * 6 * 64)
    monkeypatch.setattr(nearest_masks, "_CHUNK_PIXELS", 2 * HEIGHT * WIDTH)
    for part, whole in zip(bank.find(masks), expected[0], strict=True):
        np.testing.assert_array_equal(part, whole)
    np.testing.assert_array_equal(bank.complete(masks), expected[1])


@pytest.mark.parametrize("radius", [8, 16])
def test_cut_disc_becomes_a_disc_of_its_size_and_place(bank, radius):
    whole = disc(38, 28, radius)
    visible = whole & ~bar(38 + radius // 3, 0, 40, HEIGHT)
    completed = bank.complete(visible[None])[0]
    raw = (visible & whole).sum() / whole.sum()
    iou = (completed & whole).sum() / (completed | whole).sum()
    assert iou > max(0.8, raw + 0.05)
    np.testing.assert_array_equal(
        bank.complete(np.roll(visible, (3, -5), (0, 1))[None])[0], np.roll(completed, (3, -5), (0, 1))
    )


def test_one_pair_is_placed_as_it_lay():
    """A bank of one pair: the left half of a bar is known, so everything is taken for the left half of a bar."""
    cells = np.ones((1, 64, 64), bool)
    partial = np.packbits(cells.reshape(1, -1), axis=1).view(np.uint64)
    bank = NearestMaskBank(partial, np.packbits(cells, axis=-1), np.array([[1.0, 0.5, 2.0, 1.0]], np.float32))
    completed = bank.complete(np.stack([bar(10, 20, 12, 6), bar(70, 50, 8, 10), bar(0, 0, 0, 0)]))
    np.testing.assert_array_equal(completed[0], bar(10, 20, 24, 6))
    np.testing.assert_array_equal(completed[1], bar(70, 50, 10, 10))  # and cut off by the photo
    assert not completed[2].any()


def test_visible_pixels_stay_and_objects_do_not_know_of_each_other(bank):
    masks = random_masks(5, count=5, height=HEIGHT, width=WIDTH)
    completed = bank.complete(masks)
    assert not (masks & ~completed).any() and not completed[0].any() and completed[1].all()
    np.testing.assert_array_equal(bank.complete(masks[::-1]), completed[::-1])
    np.testing.assert_array_equal(bank.complete(masks[3:4]), completed[3:4])
    assert bank.complete(masks[:0]).shape == (0, HEIGHT, WIDTH)


def test_thin_objects_are_found_too(bank):
    line = np.eye(HEIGHT, WIDTH, dtype=bool)
    found, similarity = bank.find(line[None])
    assert found[0] >= 0 and similarity[0] > 0
    assert (bank.complete(line[None])[0] & line).sum() == line.sum()


def test_seed_decides_and_the_limit_holds(rows):
    def made(**options):
        return NearestMaskBank.from_sources([rows], size=16, **options)

    same, other = made(seed=3), made(seed=4)
    assert len(same) == 15
    np.testing.assert_array_equal(made(seed=3).partial, same.partial)
    assert (same.partial != other.partial).any()
    few = made(seed=3, limit=7)
    assert len(few) == 7
    np.testing.assert_array_equal(made(seed=3, limit=7).partial, few.partial)
    assert len(made(limit=100)) == 15


def test_only_complete_masks_are_taken():
    """Of a crowd, an object on the frame, two that touch and one by itself, the last one serves."""
    masks = [bar(2, 2, 20, 10), bar(40, 50, 30, 10), bar(30, 10, 10, 15), bar(40, 10, 10, 14), disc(16, 36, 10)]
    bank = NearestMaskBank.from_sources([[row(*masks, crowd={0})]], occlusions=3)
    assert len(bank) == 3
    assert np.unpackbits(bank.whole, axis=-1).mean() == pytest.approx(masks[4].sum() / 21**2, abs=0.03)

    def smaller_in_front(modal):
        return order_by_area(modal, front="smaller")

    ordered = NearestMaskBank.from_sources([[row(*masks, crowd={0})]], occlusions=3, order=smaller_in_front)
    assert len(ordered) == 6  # and the one in front of the two that touch


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 12}, "`size` must be a positive multiple of 8, got 12"),
        ({"occlusions": 0}, "`occlusions` must be at least 1, got 0"),
        ({"limit": 0}, "`limit` must be at least 1, got 0"),
        ({"max_truncation": 2.0}, r"`max_truncation` must lie in \[0, 1\], got 2.0"),
    ],
)
def test_wrong_options_are_named(rows, options, message):
    with pytest.raises(ValueError, match=message):
        NearestMaskBank.from_sources([rows], **options)


def test_wrong_columns_are_named(bank):
    with pytest.raises(ValueError, match="`partial` holds no mask: the sources have no complete one"):
        NearestMaskBank(bank.partial[:0], bank.whole[:0], bank.boxes[:0])
    with pytest.raises(ValueError, match=r"`partial` \(120, 64\) and `whole` \(3, 64, 8\) must describe the same"):
        NearestMaskBank(bank.partial, bank.whole[:3], bank.boxes)
    with pytest.raises(ValueError, match=r"`boxes` must have shape \(120, 4\), got \(120, 3\)"):
        NearestMaskBank(bank.partial, bank.whole, bank.boxes[:, :3])
    with pytest.raises(ValueError, match="`sources` hold no complete mask: .*, since no order is known"):
        NearestMaskBank.from_sources([[row(bar(0, 0, 80, 60))]])
