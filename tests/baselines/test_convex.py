import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_utils

from amodal_diffusion.baselines import complete_convex, complete_convex_refined, complete_raw
from amodal_diffusion.masks import convex_hull, dilate, mask_areas
from amodal_diffusion.metrics import CompletionMetrics, OrderMetrics, iou_counts
from amodal_diffusion.ordering import order_by_area, order_by_hull, order_by_y_axis, order_from_masks

COMPLETIONS = {
    "raw": complete_raw,
    "convex": complete_convex,
    "convex_refined": complete_convex_refined,
    "dilated": lambda masks: dilate(masks, kernel="square", size=7),
}


def hull_by_half_planes(mask):
    """The pixels whose centre is on the inner side of every edge of the hull, in whole numbers (half pixels)."""
    rows, columns = np.nonzero(mask)
    x, y = 2 * columns, 2 * rows
    points = np.concatenate([np.stack([x + dx, y + dy], axis=1) for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1))])
    corners = cv2.convexHull(points.astype(np.int32))[:, 0].astype(np.int64)
    place_y, place_x = 2 * np.mgrid[: mask.shape[0], : mask.shape[1]]
    sides = [
        (bx - ax) * (place_y - ay) - (by - ay) * (place_x - ax)
        for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True)
    ]
    return (np.stack(sides) >= 0).all(axis=0) | (np.stack(sides) <= 0).all(axis=0)


class TestConvexHull:
    @pytest.mark.parametrize("seed", range(25))
    def test_equals_half_planes(self, seed):
        rng = np.random.default_rng(seed)
        masks = rng.random((6, *rng.integers(1, 40, 2))) > rng.choice([0.3, 0.8, 0.97])
        hulls = convex_hull(masks)
        for mask, hull in zip(masks, hulls, strict=True):
            expected = hull_by_half_planes(mask) if mask.any() else np.zeros_like(mask)
            np.testing.assert_array_equal(hull, expected)

    def test_properties(self):
        masks = np.random.default_rng(0).random((8, 30, 50)) > 0.99
        hulls = convex_hull(masks)
        assert (hulls | ~masks).all()
        np.testing.assert_array_equal(convex_hull(masks[:, ::-1]), hulls[:, ::-1])
        np.testing.assert_array_equal(convex_hull(masks[:, :, ::-1]), hulls[:, :, ::-1])
        np.testing.assert_array_equal(convex_hull(masks.transpose(0, 2, 1)), hulls.transpose(0, 2, 1))

    def test_empty_and_full(self):
        masks = np.zeros((3, 7, 9), dtype=bool)
        masks[1], masks[2, 3, 4] = True, True
        np.testing.assert_array_equal(convex_hull(masks), masks)
        assert convex_hull(np.zeros((0, 7, 9))).shape == (0, 7, 9)

    def test_disjoint_parts_are_bridged(self):
        mask = np.zeros((1, 5, 12), dtype=bool)
        mask[0, 2, 0] = mask[0, 2, 11] = True
        assert convex_hull(mask)[0, 2].all()
        assert convex_hull(mask).sum() == 12


class TestPublishedScenes:
    def test_areas(self, published_scene):
        modal, _, numbers = published_scene
        assert mask_areas(complete_convex(modal)).tolist() == numbers["convex_area"]
        assert mask_areas(complete_convex_refined(modal)).tolist() == numbers["convex_refined_area"]

    @pytest.mark.parametrize("name", COMPLETIONS)
    def test_iou_counts(self, published_scene, name):
        modal, amodal, numbers = published_scene
        counts = iou_counts(COMPLETIONS[name](modal), amodal, modal)
        assert counts.sum(axis=0).tolist() == numbers[f"iou_counts_{name}"]


class TestCompletions:
    @pytest.mark.parametrize("name", COMPLETIONS)
    def test_grow_visible_masks_and_no_others(self, published_scene, name):
        modal, _, _ = published_scene
        completed = COMPLETIONS[name](modal)
        assert completed.dtype == np.bool_
        assert (completed | ~modal).all()
        assert not completed[~modal.any(axis=(1, 2))].any()

    def test_raw_is_a_copy(self):
        modal = np.ones((1, 2, 2), dtype=bool)
        complete_raw(modal)[:] = False
        assert modal.all()

    def test_refined_grows_under_ancestors_only(self, published_scene):
        modal, _, _ = published_scene
        count = len(modal)
        upper = np.triu(np.ones((count, count), dtype=np.int8), k=1)
        np.testing.assert_array_equal(complete_convex_refined(modal, np.zeros((count, count))), modal)
        last_in_front = complete_convex_refined(modal, upper.T - upper)
        np.testing.assert_array_equal(last_in_front[-1], modal[-1])
        grown = last_in_front & ~modal
        assert (grown <= modal.any(axis=0)).all()
        assert grown.any()

    def test_order_is_checked(self):
        with pytest.raises(ValueError, match=r"`order` must have shape \(1, 1\), got \(2, 2\)"):
            complete_convex_refined(np.ones((1, 2, 2), dtype=bool), np.zeros((2, 2)))


@pytest.mark.slow
def test_figures_on_real_ground_truth(shared_data):
    """The figures in percent that the published code reaches on the photos with amodal ground truth."""
    content = json.loads((shared_data / "amodal_gt" / "annotations.json").read_text(encoding="utf-8"))
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    orders = {"area": order_by_area, "y_axis": order_by_y_axis, "hull": order_by_hull}
    completion = {name: CompletionMetrics() for name in ("raw", "convex", "convex_refined")}
    ordering = {name: OrderMetrics() for name in orders}
    for annotation in content["annotations"]:
        height, width = sizes[annotation["image_id"]]

        def decode(segmentation, height=height, width=width):
            if isinstance(segmentation, list):
                (segmentation,) = mask_utils.frPyObjects([segmentation], height, width)
            return mask_utils.decode(segmentation).astype(bool)

        amodal = np.stack([decode(region["segmentation"]) for region in annotation["regions"]])
        modal = np.stack(
            [decode(region.get("visible_mask", region["segmentation"])) for region in annotation["regions"]]
        )
        for name, metrics in completion.items():
            metrics.update(COMPLETIONS[name](modal), amodal, modal)
        target = order_from_masks(modal, amodal)
        for name, metrics in ordering.items():
            metrics.update(orders[name](modal), target)

    def percent(metrics, *keys):
        computed = metrics.compute()
        return [round(100 * computed[key], 1) for key in keys]

    keys = ("miou_pooled", "inv_miou_pooled", "miou_mean", "inv_miou_mean")
    assert percent(completion["raw"], *keys) == [74.8, 0.0, 81.6, 0.0]
    assert percent(completion["convex"], *keys) == [81.3, 49.6, 79.5, 35.6]
    assert percent(completion["convex_refined"], *keys) == [86.6, 59.3, 86.1, 40.2]
    assert [percent(ordering[name], "order_accuracy") for name in orders] == [[75.5], [46.0], [78.5]]
    assert ordering["area"].state_dict()["related"] == 163
