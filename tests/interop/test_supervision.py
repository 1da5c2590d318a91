"""`supervision.Detections` of a row and of what a pipeline returned."""

import numpy as np
import pytest

from amodal_diffusion.data import record_masks
from amodal_diffusion.interop import to_detections
from interop_helpers import FakeSegmenter, kitchen_row
from pipeline_helpers import gap_filler

pytest.importorskip("supervision")


def test_row():
    row = kitchen_row()
    found = to_detections(row)
    modal, amodal = record_masks(row)
    np.testing.assert_array_equal(found.mask, amodal)
    np.testing.assert_array_equal(found.data["modal_mask"], modal)
    np.testing.assert_array_equal(found.xyxy[0], [0, 4, 12, 12])
    assert found.data["occluded_by"] == [[1, 2], [2], []]
    assert found.data["class_name"].tolist() == ["plate", "cup & <saucer>", ""]
    assert found.data["occlusion_rate"][2] == 0 and len(found[:2]) == 2


def test_output():
    pipeline = gap_filler()
    for kind in ("np", "compact"):
        output = pipeline(None, FakeSegmenter.masks, output_type=kind)
        found = to_detections(output, FakeSegmenter.masks, names=["cup", "plate"])
        np.testing.assert_array_equal(found.mask & FakeSegmenter.masks, FakeSegmenter.masks)
    assert len(to_detections(pipeline(None, np.zeros((0, 12, 16), bool)))) == 0


def test_errors():
    with pytest.raises(ValueError, match="`names` must have one entry for each of 3"):
        to_detections(kitchen_row(), names=["a"])
