"""Results by data set, by what objects are and by hidden share; what one method has more than another."""

import json
import math

import numpy as np
import pytest

from amodal_diffusion.evaluation import METHODS, Prediction, evaluate_methods
from amodal_diffusion.masks import encode_rle


def make_row(number, source):
    """A cup behind a box of another width in each image, and a box alone."""
    whole, front, alone = np.zeros((3, 24, 32), bool)
    whole[4:20, 4:20], front[2:22, 18 - 2 * number : 28], alone[:2, :4] = True, True, True
    objects = [
        {"modal_mask": encode_rle(modal), "amodal_mask": encode_rle(amodal), "category_id": kind, "name": name}
        for modal, amodal, kind, name in (
            (whole & ~front, whole, 1, "cup"),
            (front, front, 2, "box"),
            (alone, alone, 3, None),
        )
    ]
    return {"image_id": number, "height": 24, "width": 32, "objects": objects, "source": source}


ROWS = [make_row(number, "left" if number < 3 else "right") for number in range(5)]


def oracle(sample):
    return Prediction(masks=sample.amodal, order=sample.order)


oracle.name = "oracle"


def by_name(report, kind):
    return {group.name: group for group in report.groups if group.kind == kind}


def evaluate(**options):
    return evaluate_methods(ROWS, [METHODS["raw"], METHODS["convex"], oracle], resamples=50, **options)


def test_groups_share_the_objects_out():
    report = evaluate(groups=("source", "category", "hidden"))
    sources, kinds, shares = (by_name(report, kind) for kind in ("source", "category", "hidden"))
    assert {name: (group.images, group.objects) for name, group in sources.items()} == {"left": (3, 9), "right": (2, 6)}
    assert {name: (group.objects, group.occluded) for name, group in kinds.items()} == {
        "cup": (5, 5),
        "box": (5, 0),
        "class 3": (5, 0),
    }
    assert list(kinds)[0] == "cup"  # of which most are hidden in part
    assert sum(group.objects for group in shares.values()) == 5
    # The cup's columns 18 - 2n to 20 of 16 are hidden.
    hidden = [(2 + 2 * number) / 16 for number in range(5)]
    for name, group in shares.items():
        low, high = (float(part) / 100 for part in name.removesuffix(" %").split(" to "))
        assert group.objects == sum(low < share <= high for share in hidden)
    cup = kinds["cup"].metrics
    assert cup["raw"]["miou_mean"] == pytest.approx(np.mean([1 - share for share in hidden]))
    assert cup["oracle"]["inv_miou_mean"] == 1
    low, high = kinds["cup"].intervals["raw"]["miou_mean"]
    assert low < cup["raw"]["miou_mean"] < high
    assert math.isnan(kinds["box"].metrics["raw"]["inv_miou_mean"])
    assert sources["left"].metrics["oracle"]["order_accuracy_large"] == 1
    assert "order_accuracy" not in cup["oracle"]
    whole = report.completion["raw"]["miou_pooled"]
    assert min(g.metrics["raw"]["miou_pooled"] for g in sources.values()) < whole
    values = json.loads(report.to_json())["groups"]
    assert {entry["kind"] for entry in values} == {"source", "category", "hidden"}
    text = report.to_text()
    assert "By data set, percent" in text and "By what the object is, 1 of 3 groups, percent" in text
    assert "10 to 30 %" in text


def test_differences_to_a_method():
    report = evaluate(reference="raw")
    mine = report.differences["completion"]["oracle"]["miou_mean"]
    assert mine.value == pytest.approx(1 - report.completion["raw"]["miou_mean"])
    low, high = mine.interval
    assert 0 < low < mine.value < high
    assert "raw" not in report.differences["completion"] and "order" not in report.differences
    values = json.loads(report.to_json())
    assert values["reference"] == "raw"
    assert values["differences"]["completion"]["convex"]["ap"]["interval"] is not None
    text = report.to_text()
    assert "More than raw, in points" in text and f"{100 * mine.value:+.1f}" in text
    order = evaluate(reference="y-axis").differences["order"]
    assert set(order) == {"area-smaller", "hull", "oracle"}
    assert order["oracle"]["order_accuracy_large"].value >= 0
    without = evaluate_methods(ROWS, [METHODS["raw"], oracle], reference="raw")
    assert math.isnan(without.differences["completion"]["oracle"]["miou_mean"].interval[0])
    assert "Of a difference" not in without.to_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": ["colour"]}, "`groups` must be of source, category, hidden, got 'colour'"),
        ({"reference": "best"}, "`reference` must be one of .*'raw', 'convex', 'oracle', got 'best'"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(**options)
