"""Results of segmenters: reading, matching by box, and what methods are given of them."""

import json

import numpy as np
import pytest

from amodal_diffusion.evaluation import (
    METHODS,
    DetectedMethod,
    DetectionResults,
    Prediction,
    ResultsMethod,
    Sample,
    match_boxes,
)
from amodal_diffusion.masks import encode_rle


def box_mask(top, left, bottom, right, size=(20, 30)):
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture
def sample():
    modal = np.stack([box_mask(2, 2, 10, 10), box_mask(2, 12, 10, 20)])
    amodal = np.stack([box_mask(2, 2, 10, 14), modal[1]])
    order = np.array([[0, -1], [1, 0]], np.int8)
    return Sample("7", modal, amodal, order, [3, 4], source="squares")


def write(path, results, **how):
    path.write_text(json.dumps(results), **({"encoding": "utf-8"} | how))
    return path


def result(mask, score=0.9, **more):
    return {"image_id": 7, "segmentation": encode_rle(mask), "score": score, **more}


def test_results_are_read_ranked_and_filtered(tmp_path, sample):
    polygon = [[2, 2, 10, 2, 10, 10, 2, 10]]
    content = [
        result(sample.modal[1], 0.3, category_id=4),
        {"image_id": "7", "segmentation": polygon, "score": 0.8},
        result(sample.modal[0], 0.1),
        {**result(sample.modal[0]), "image_id": 8},
    ]
    path = write(tmp_path / "r.json", content, encoding="utf-8-sig")
    results = DetectionResults.read(path, min_score=0.2)
    assert len(results) == 3
    found = results.of(sample)
    assert found.scores.tolist() == [0.8, 0.3] and found.category_ids.tolist() == [1, 4]
    np.testing.assert_array_equal(found.masks, sample.modal)
    assert len(DetectionResults({}).of(sample).masks) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"annotations": []}, "r.json holds no COCO results: expected a list, got dict"),
        ([3], "r.json: result 0 must be an object, got int"),
        ([{"segmentation": [], "score": 1}], "r.json: result 0 has no `image_id`"),
        ([{"image_id": 7, "score": 1}], "r.json: result 0 has no `segmentation`"),
        ([{"image_id": 7, "segmentation": []}], "r.json: result 0 has no `score`"),
        (
            [{"image_id": 7, "segmentation": [], "score": "high"}],
            "r.json: `score` of result 0 must be a finite number, got 'high'",
        ),
        (
            [{"image_id": 7, "segmentation": [], "score": float("nan")}],
            "`score` of result 0 must be a finite number, got nan",
        ),
    ],
)
def test_bad_results_are_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        DetectionResults.read(write(tmp_path / "r.json", content))


def test_bad_files_and_segmentations_are_named(tmp_path, sample):
    path = tmp_path / "r.json"
    path.write_text("[", encoding="utf-8")
    with pytest.raises(ValueError, match="r.json is no valid JSON"):
        DetectionResults.read(path)
    with pytest.raises(FileNotFoundError):
        DetectionResults.read(tmp_path / "none.json")
    wrong = DetectionResults.read(write(path, [result(np.ones((4, 4), bool))]))
    with pytest.raises(ValueError, match="r.json: image 7: segmentation: .*size"):
        wrong.of(sample)


def test_boxes_match_one_to_one_the_best_first():
    boxes = [[0, 0, 10, 10], [1, 0, 10, 10], [50, 50, 5, 5], [0, 0, 0, 0]]
    others = [[2, 0, 10, 10], [0, 0, 10, 10], [50, 50, 5, 9], [0, 0, 0, 0]]
    assert match_boxes(boxes, others).tolist() == [1, 0, 2, -1]
    assert match_boxes(boxes, others, min_iou=0.9).tolist() == [1, -1, -1, -1]
    assert match_boxes(boxes, others[:1]).tolist() == [-1, 0, -1, -1]
    assert match_boxes(boxes, np.zeros((0, 4))).tolist() == [-1] * 4
    assert match_boxes(np.zeros((0, 4)), others).shape == (0,)


class Looks:
    """Completes nothing, and keeps what it was given."""

    name = "looks"

    def __init__(self):
        self.seen = []

    def __call__(self, sample):
        self.seen.append(sample)
        return Prediction(masks=sample.modal)


def test_matched_predictions_alone_reach_the_method(sample):
    shifted = np.roll(sample.modal[0], 1, axis=1)
    litter = box_mask(15, 20, 19, 28)
    results = DetectionResults(
        {"7": [result(litter, 0.99, category_id=9), result(shifted, 0.5, category_id=5)]}, "r.json"
    )
    method = Looks()
    prediction = DetectedMethod(method, results)(sample)
    assert prediction.matched.tolist() == [True, False]
    np.testing.assert_array_equal(prediction.masks, [shifted, np.zeros_like(shifted)])
    np.testing.assert_array_equal(prediction.detections.masks, [shifted])
    assert prediction.detections.scores.tolist() == [0.5] and prediction.order is None
    (seen,) = method.seen
    np.testing.assert_array_equal(seen.modal, [shifted])
    np.testing.assert_array_equal(seen.amodal, seen.modal)  # no truth
    assert seen.order.tolist() == [[0]] and seen.category_ids == [5]


def test_all_predictions_are_completed_for_ap(sample):
    litter = box_mask(15, 20, 19, 28)
    results = DetectionResults({"7": [result(m, category_id=1) for m in (litter, sample.modal[0])]})
    prediction = DetectedMethod(METHODS["raw"], results, match=False)(sample)
    assert prediction.masks is None and prediction.matched is None
    np.testing.assert_array_equal(prediction.detections.masks, [litter, sample.modal[0]])


def test_classes_are_withheld_where_the_data_have_none(sample):
    sample.category_ids = [None, None]
    method = Looks()
    DetectedMethod(method, DetectionResults({"7": [result(sample.modal[0], category_id=5)]}))(sample)
    assert method.seen[0].category_ids == [None]
    sample.category_ids = [0, 0]  # 0 is an id like any other
    DetectedMethod(method, DetectionResults({"7": [result(sample.modal[0], category_id=0)]}))(sample)
    assert method.seen[1].category_ids == [0]


def test_nothing_found(sample):
    method = Looks()
    prediction = DetectedMethod(method, DetectionResults({}))(sample)
    assert not prediction.matched.any() and not prediction.masks.any() and not method.seen
    assert len(ResultsMethod("gt", DetectionResults({}))(sample).detections.masks) == 0


def test_methods_must_complete_masks(sample):
    results = DetectionResults({"7": [result(sample.modal[0], category_id=1)]})
    with pytest.raises(ValueError, match="method 'hull' completes no masks"):
        DetectedMethod(METHODS["hull"], results)(sample)

    def cut(given):
        return Prediction(masks=given.modal[:, :5])

    cut.name = "cut"
    with pytest.raises(ValueError, match=r"'cut' gave masks of shape \(1, 5, 30\) for image 7, expected \(1, 20, 30\)"):
        DetectedMethod(cut, results)(sample)
