import json
import math

import numpy as np
import pytest
import torch

from amodal_diffusion.metrics import (
    CompletionMetrics,
    OccluderMetrics,
    OrderMetrics,
    has_hidden_part,
    inv_miou_mean,
    inv_miou_pooled,
    iou_counts,
    miou_mean,
    miou_mean_all,
    miou_pooled,
    order_accuracy,
    order_counts,
    pixel_accuracy,
    sample_widths,
)

ORDER = np.array([[0, 1, 0], [-1, 0, 1], [0, -1, 0]])


def line(*pixels):
    """A mask (1, 10) with these pixels."""
    mask = np.zeros((1, 10), dtype=bool)
    mask[0, list(pixels)] = True
    return mask


# The first object has 2 hidden pixels, of which one is found, and one more is made up; the second is all visible, and
# one pixel is made up; the third is empty everywhere.
MODAL = np.stack([line(0, 1, 2), line(5, 6), line()])
TARGET = np.stack([line(0, 1, 2, 3, 4), line(5, 6), line()])
PRED = np.stack([line(1, 2, 3, 5), line(5, 6, 7), line()])


def random_image(seed):
    rng = np.random.default_rng(seed)
    return tuple(rng.random((4, 9, 70)) > threshold for threshold in (0.5, 0.4, 0.7))


def random_occluders(seed):
    """The first object has no occluder."""
    pred, target, modal = random_image(seed)
    pred[0, seed:] = target[0] = False
    return pred, target, modal


class TestCounts:
    def test_by_hand(self):
        assert iou_counts(PRED, TARGET, MODAL).tolist() == [[3, 6, 5, 1, 3], [2, 3, 2, 0, 1], [0, 0, 0, 0, 0]]
        assert has_hidden_part(TARGET, MODAL).tolist() == [True, False, False]

    @pytest.mark.parametrize("seed", range(3))
    def test_equals_plain_sums(self, seed):
        pred, target, modal = random_image(seed)
        expected = [
            [
                (p & t).sum(),
                (p | t).sum(),
                t.sum(),
                (p & t & ~m).sum(),
                ((p | t) & ~m).sum(),
            ]
            for p, t, m in zip(pred, target, modal, strict=True)
        ]
        counts = iou_counts(pred, target, modal)
        assert counts.dtype == np.int64
        assert counts.tolist() == expected

    def test_tensors(self):
        counts = iou_counts(*(torch.from_numpy(masks) for masks in (PRED, TARGET, MODAL)))
        np.testing.assert_array_equal(counts, iou_counts(PRED, TARGET, MODAL))

    def test_no_objects(self):
        none = np.zeros((0, 4, 4), dtype=bool)
        assert iou_counts(none, none, none).shape == (0, 5)

    def test_shapes_must_agree(self):
        message = r"same shape, got `pred` \(2, 1, 10\), `target` \(3, 1, 10\), `modal` \(3, 1, 10\)"
        with pytest.raises(ValueError, match=message):
            iou_counts(PRED[:2], TARGET, MODAL)


class TestCompletion:
    def test_by_hand(self):
        assert miou_pooled(PRED, TARGET) == pytest.approx(5 / 9)
        assert inv_miou_pooled(PRED, TARGET, MODAL) == pytest.approx(1 / 4)
        assert miou_mean(PRED, TARGET, MODAL) == pytest.approx(3 / 6)
        assert inv_miou_mean(PRED, TARGET, MODAL) == pytest.approx(1 / 3)
        assert pixel_accuracy(PRED, TARGET) == pytest.approx(26 / 30)

    def test_perfect_prediction(self):
        pred, target, modal = TARGET, TARGET, MODAL
        assert miou_pooled(pred, target) == inv_miou_pooled(pred, target, modal) == 1
        assert miou_mean(pred, target, modal) == inv_miou_mean(pred, target, modal) == pixel_accuracy(pred, target) == 1

    def test_nothing_to_measure(self):
        empty = np.zeros((2, 3, 3), dtype=bool)
        for value in (
            miou_pooled(empty, empty),
            inv_miou_pooled(empty, empty, empty),
            miou_mean(empty, empty, empty),
            inv_miou_mean(empty, empty, empty),
            pixel_accuracy(empty[:0], empty[:0]),
        ):
            assert math.isnan(value)
        assert pixel_accuracy(empty, empty) == 1

    def test_accumulator_equals_functions_on_all_objects(self):
        images = [random_image(seed) for seed in range(5)]
        metrics = CompletionMetrics()
        for image in images:
            metrics.update(*image)
        pred, target, modal = (np.concatenate(part) for part in zip(*images, strict=True))
        assert metrics.compute() == pytest.approx(
            {
                "miou_pooled": miou_pooled(pred, target),
                "inv_miou_pooled": inv_miou_pooled(pred, target, modal),
                "miou_mean": miou_mean(pred, target, modal),
                "inv_miou_mean": inv_miou_mean(pred, target, modal),
                "miou_mean_all": miou_mean_all(pred, target),
                "pixel_accuracy": pixel_accuracy(pred, target),
            }
        )

    def test_a_bad_update_changes_nothing(self):
        metrics = CompletionMetrics()
        metrics.update(PRED, TARGET, MODAL)
        before = metrics.state_dict()
        with pytest.raises(ValueError, match="same shape"):
            metrics.update(PRED, TARGET[:1], MODAL)
        assert metrics.state_dict() == before


class TestOrder:
    def test_counts(self):
        assert order_counts(ORDER, ORDER).tolist() == [3, 3, 2, 2, 0, 0]
        assert order_counts(-ORDER, ORDER).tolist() == [1, 3, 0, 2, 0, 0]
        assert order_counts(np.zeros((3, 3)), ORDER).tolist() == [1, 3, 0, 2, 0, 0]

    def test_large_pairs_hide_thirty_pixels_of_one_of_them(self):
        related = np.argwhere(np.triu(ORDER))
        overlaps = np.zeros(ORDER.shape, int)
        for (i, j), pixels in zip(related, (30, 29), strict=True):
            overlaps[j, i] = pixels  # whichever of the two is hidden
        assert order_counts(ORDER, ORDER, overlaps).tolist() == [3, 3, 2, 2, 1, 1]
        assert order_counts(-ORDER, ORDER, overlaps).tolist() == [1, 3, 0, 2, 0, 1]
        # A pair without relation is not asked for, however much they overlap.
        assert order_counts(ORDER * 0, ORDER * 0, np.full(ORDER.shape, 99)).tolist() == [3, 3, 0, 0, 0, 0]
        metrics = OrderMetrics()
        metrics.update(ORDER, ORDER, overlaps)
        assert metrics.compute()["order_accuracy_large"] == 1
        with pytest.raises(ValueError, match=r"`overlaps` must be \(3, 3\), got \(2, 3\)"):
            order_counts(ORDER, ORDER, overlaps[:2])

    def test_accuracy(self):
        pred = ORDER.copy()
        pred[0, 1], pred[1, 0], pred[0, 2], pred[2, 0] = -1, 1, 1, -1
        assert order_accuracy(pred, ORDER) == 1 / 2
        assert order_accuracy(pred, ORDER, related=False) == 1 / 3

    @pytest.mark.parametrize("size", [0, 1])
    def test_no_pairs(self, size):
        none = np.zeros((size, size))
        assert math.isnan(order_accuracy(none, none))
        assert math.isnan(order_accuracy(none, none, related=False))

    def test_accumulator(self):
        metrics = OrderMetrics()
        metrics.update(ORDER, ORDER)
        metrics.update(-ORDER, ORDER)
        found = metrics.compute()
        assert math.isnan(found.pop("order_accuracy_large"))
        assert found == {"order_accuracy": 2 / 4, "order_accuracy_all": 4 / 6}

    @pytest.mark.parametrize(
        ("pred", "target", "message"),
        [
            (ORDER, ORDER[:2, :2], r"must have shape \(2, 2\), got \(3, 3\)"),
            (ORDER * 2, ORDER, "-1, 0 and 1 only"),
            (ORDER, np.eye(3), "antisymmetric"),
        ],
    )
    def test_errors(self, pred, target, message):
        with pytest.raises(ValueError, match=message):
            order_counts(pred, target)
        with pytest.raises(ValueError, match=message):
            OrderMetrics().update(pred, target)


def box(rows, columns, height=20, width=30):
    mask = np.zeros((height, width), dtype=bool)
    mask[rows[0] : rows[1], columns[0] : columns[1]] = True
    return mask


class TestOccluders:
    """Objects of 6 x 6 pixels, whose crop is truncated to 10 x 10 and begins 3 pixels before them."""

    NONE = box((0, 0), (0, 0))
    OBJECT = box((8, 14), (8, 14))  # crop: rows and columns 5 to 14

    def compute(self, pred, target, modal):
        metrics = OccluderMetrics()
        metrics.update(np.stack(pred), np.stack(target), np.stack(modal))
        return metrics.compute()

    def test_by_hand(self):
        # Object 0: the occluder leaves the crop, of which half is found. Object 1: missed. Object 2: made up. 3: right.
        target = [box((8, 14), (14, 24)), box((8, 14), (2, 8)), self.NONE, self.NONE]
        pred = [box((8, 11), (14, 15)), self.NONE, box((8, 9), (6, 7)), self.NONE]
        metrics = self.compute(pred, target, [self.OBJECT] * 4)
        assert metrics == {
            "iou_pooled": pytest.approx(3 / (60 + 36)),
            "iou_mean": pytest.approx((3 / 60 + 0) / 2),
            "crop_iou_pooled": pytest.approx(3 / (6 + 18)),
            "crop_iou_mean": pytest.approx((3 / 6 + 0) / 2),
            "found": 1 / 2,
            "left_empty": 1 / 2,
        }

    def test_an_occluder_outside_of_the_crop_counts_in_the_photo_alone(self):
        far = box((0, 3), (25, 30))
        metrics = self.compute([self.NONE], [far], [self.OBJECT])
        assert metrics["iou_pooled"] == metrics["iou_mean"] == metrics["found"] == 0
        assert math.isnan(metrics["crop_iou_pooled"]) and math.isnan(metrics["crop_iou_mean"])
        assert math.isnan(metrics["left_empty"])

    def test_a_crop_may_leave_the_photo(self):
        corner = box((0, 6), (0, 6))
        metrics = self.compute([box((0, 2), (6, 8))], [box((0, 2), (6, 20))], [corner])
        assert metrics["crop_iou_pooled"] == 1 and metrics["iou_pooled"] == pytest.approx(4 / 28)

    def test_an_object_without_visible_pixels_has_no_crop(self):
        metrics = self.compute([self.OBJECT], [self.OBJECT], [self.NONE])
        assert metrics["iou_pooled"] == metrics["found"] == 1 and math.isnan(metrics["crop_iou_mean"])

    def test_no_objects(self):
        none = np.zeros((0, 4, 4), dtype=bool)
        metrics = OccluderMetrics()
        metrics.update(none, none, none)
        assert all(math.isnan(value) for value in metrics.compute().values())

    def test_a_bad_update_changes_nothing(self):
        metrics = OccluderMetrics()
        with pytest.raises(ValueError, match="same shape"):
            metrics.update(PRED[:2], TARGET, MODAL)
        assert metrics.state_dict() == OccluderMetrics().state_dict()


@pytest.mark.parametrize(
    ("make", "updates"),
    [
        (CompletionMetrics, [random_image(seed) for seed in range(4)]),
        (OccluderMetrics, [random_occluders(seed) for seed in range(4)]),
        (
            OrderMetrics,
            [(ORDER, ORDER, 40 * ORDER), (-ORDER, ORDER), (ORDER * 0, ORDER), (ORDER[:2, :2], ORDER[:2, :2])],
        ),
    ],
    ids=["completion", "occluders", "order"],
)
class TestAccumulators:
    def filled(self, make, updates):
        metrics = make()
        for update in updates:
            metrics.update(*update)
        return metrics

    def test_empty_is_nan(self, make, updates):
        assert all(math.isnan(value) for value in make().compute().values())

    def test_merge(self, make, updates):
        first, second = self.filled(make, updates[:1]), self.filled(make, updates[1:])
        before = second.state_dict()
        assert first.merge(second) is first
        assert second.state_dict() == before
        assert first.compute() == pytest.approx(self.filled(make, updates).compute())

    def test_reset(self, make, updates):
        metrics = self.filled(make, updates)
        metrics.reset()
        assert metrics.state_dict() == make().state_dict()

    def test_state_survives_json(self, make, updates):
        metrics, restored = self.filled(make, updates), make()
        restored.load_state_dict(json.loads(json.dumps(metrics.state_dict())))
        assert restored.compute() == metrics.compute()

    def test_state_is_a_copy(self, make, updates):
        metrics = self.filled(make, updates)
        metrics.state_dict().clear()
        assert metrics.compute()

    def test_errors(self, make, updates):
        other = OrderMetrics if make is CompletionMetrics else CompletionMetrics
        with pytest.raises(TypeError, match=f"`other` must be {make.__name__}, got {other.__name__}"):
            make().merge(other())
        state = make().state_dict()
        name = next(iter(state))
        with pytest.raises(ValueError, match=rf"`state` lacks \['{name}'\] and has unknown \['x'\]"):
            make().load_state_dict({**{key: value for key, value in state.items() if key != name}, "x": 1.0})


def test_widths_of_samples_pair_by_pair():
    rng = np.random.default_rng(0)
    samples = rng.random((5, 4, 6, 7)) > rng.random((5, 1, 1, 1))
    samples[3] = False
    samples[4] = samples[4, :1]
    for drawn, width in zip(samples, sample_widths(samples), strict=True):
        pairs = [(drawn[i], drawn[j]) for i in range(4) for j in range(i)]
        ious = [(a & b).sum() / (a | b).sum() if (a | b).any() else 1 for a, b in pairs]
        assert width == pytest.approx(1 - np.mean(ious), abs=1e-6)
    assert sample_widths(samples)[3:].tolist() == [0, 0] and sample_widths(samples[:0]).shape == (0,)
    with pytest.raises(ValueError, match="`samples` must hold at least 2 samples of each object, got 1"):
        sample_widths(samples[:, :1])
