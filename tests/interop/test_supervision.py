"""`supervision.Detections` of a row and of what a pipeline returned."""

import numpy as np
import pytest

from amodal_diffusion.data import build_objects, record_masks
from amodal_diffusion.interop import to_detections
from amodal_diffusion.masks import decode_rle, encode_rle
from interop_helpers import FakeSegmenter, kitchen_row
from pipeline_helpers import gap_filler

supervision = pytest.importorskip("supervision")


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


def test_compact_masks():
    """As many pixels as dense, also of an object without any, and through the package's own selection."""
    row = kitchen_row()
    nothing = encode_rle(np.zeros((row["height"], row["width"]), bool))
    row["objects"] += build_objects([{**row["objects"][2], "modal_mask": nothing, "amodal_mask": nothing}])
    found, dense = to_detections(row, compact=True), to_detections(row)
    assert isinstance(found.mask, supervision.CompactMask)
    np.testing.assert_array_equal(np.asarray(found.mask), dense.mask)
    np.testing.assert_array_equal(found.area, dense.area)
    for rle, mask in zip(found.data["modal_mask"], dense.data["modal_mask"], strict=True):
        np.testing.assert_array_equal(decode_rle(rle), mask)
    some = found[np.array([False, True, True, False])]
    np.testing.assert_array_equal(np.asarray(some.mask), dense.mask[1:3])
    assert len(some.data["modal_mask"]) == 2 and some.data["occluded_by"] == [[2], []]
    output = gap_filler()(None, FakeSegmenter.masks, output_type="compact")
    np.testing.assert_array_equal(np.asarray(to_detections(output, compact=True).mask), np.asarray(output.amodal_masks))


def test_errors():
    with pytest.raises(ValueError, match="`names` must have one entry for each of 3"):
        to_detections(kitchen_row(), names=["a"])
