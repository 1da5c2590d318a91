"""CVAT: files round, as CVAT's own package decodes them; its functions with tiny networks."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.data import build_objects, iter_cvat, record_masks, record_order
from amodal_diffusion.interop import AmodalDetection, AmodalInteraction, cvat_labels, write_cvat
from amodal_diffusion.interop.cvat import mask_attributes
from amodal_diffusion.interop.cvat_functions import create
from amodal_diffusion.masks import encode_rle
from interop_helpers import FakeSegmenter, kitchen_row
from pipeline_helpers import gap_filler
from repository_helpers import ROOT


def test_round_trip(tmp_path):
    row = kitchen_row()
    assert write_cvat([row], tmp_path / "a.xml") == ["plate", "cup & <saucer>", "object"]
    (back,) = iter_cvat(tmp_path / "a.xml")
    assert [item["name"] for item in back["objects"]] == ["plate", "cup & <saucer>", "object"]
    for mine, theirs in zip(record_masks(row), record_masks(back), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(record_order(back), record_order(row))
    assert (back["file_name"], back["height"], back["width"]) == (row["file_name"], row["height"], row["width"])


def test_no_order_and_empty_masks(tmp_path):
    row = kitchen_row()
    row["order_relations"] = None
    row["objects"][0]["modal_mask"] = encode_rle(np.zeros((row["height"], row["width"])))
    row["objects"] = build_objects([{**item, "amodal_mask": None} for item in row["objects"]])
    write_cvat([row], tmp_path / "a.xml")
    (back,) = iter_cvat(tmp_path / "a.xml")
    assert len(back["objects"]) == 2 and back["order_relations"] is None


def test_a_failed_row_leaves_the_old_file(tmp_path):
    write_cvat([kitchen_row()], tmp_path / "a.xml")
    before = (tmp_path / "a.xml").read_bytes()
    with pytest.raises(ValueError, match="size"):
        write_cvat([kitchen_row(), {**kitchen_row(), "height": 3}], tmp_path / "a.xml")
    assert (tmp_path / "a.xml").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_text_that_xml_cannot_hold(tmp_path):
    row = kitchen_row()
    row["objects"][0]["name"] = "a\x00b\ud800"
    assert write_cvat([row], tmp_path / "a.xml")[0] == "a\ufffdb\ufffd"
    assert next(iter_cvat(tmp_path / "a.xml"))["objects"][0]["name"] == "a\ufffdb\ufffd"


def test_masks_as_cvat_encodes_them():
    masks = pytest.importorskip("cvat_sdk.masks")
    rng = np.random.default_rng(0)
    for share in (0.1, 0.5, 1.0):
        mask = rng.random((9, 13)) < share
        found = mask_attributes(mask)
        left, top = int(found["left"]), int(found["top"])
        corner = [left + int(found["width"]) - 1, top + int(found["height"]) - 1]
        encoded = [*map(int, found["rle"].split(",")), left, top, *corner]
        assert encoded == masks.encode_mask(mask)


def test_labels_fit_the_package():
    models = pytest.importorskip("cvat_sdk.models")
    for label in cvat_labels(["cup", "plate", "cup"]):
        fields = [dict(attribute) for attribute in label["attributes"]]
        models.PatchedLabelRequest(
            name=label["name"], attributes=[models.AttributeRequest(**field) for field in fields]
        )
    assert [label["name"] for label in cvat_labels(["cup", "plate", "cup"])] == ["cup", "plate"]


@pytest.fixture
def photo():
    return Image.new("RGB", (16, 12))


def context(**fields):
    return SimpleNamespace(**{"frame_name": "a.png", "conf_threshold": None, "conv_mask_to_poly": False, **fields})


@pytest.fixture
def pipeline():
    return gap_filler()


def test_detection(photo, pipeline):
    masks = pytest.importorskip("cvat_sdk.masks")
    function = AmodalDetection(pipeline, FakeSegmenter(), labels=["cup", "plate"])
    assert [label.name for label in function.spec.labels] == ["cup", "plate"]
    shapes = function.detect(context(), photo)
    assert len(shapes) == 4 and {shape.group for shape in shapes} == {1, 2}
    assert sorted({shape.z_order for shape in shapes}) == [0, 1]
    visible = [shape for shape in shapes if shape.attributes[0].value == "false"]
    size = {"image_width": 16, "image_height": 12}
    found = {shape.label_id: masks.decode_mask(shape.points, **size) for shape in visible}
    np.testing.assert_array_equal(found[1], FakeSegmenter.masks[0])
    np.testing.assert_array_equal(found[2], FakeSegmenter.masks[1])
    for whole, seen in zip(shapes[1::2], shapes[::2], strict=True):
        inside = masks.decode_mask(seen.points, **size)
        assert (masks.decode_mask(whole.points, **size) & inside).sum() == inside.sum()


def test_detection_choices(photo, pipeline):
    pytest.importorskip("cvat_sdk")
    only = AmodalDetection(pipeline, FakeSegmenter(), labels=["cup"], masks="amodal")
    (shape,) = only.detect(context(), photo)
    assert shape.type.value == "mask" and shape.attributes[0].value == "true"
    assert only.detect(context(conf_threshold=0.95), photo) == []
    (shape,) = only.detect(context(conv_mask_to_poly=True), photo)
    assert shape.type.value == "polygon" and len(shape.points) >= 6 and min(shape.points) >= 0


def test_interaction(photo, pipeline):
    masks = pytest.importorskip("cvat_sdk.masks")
    prompts = SimpleNamespace(pos_points=[(3, 3)], neg_points=[(15, 11)], bounding_box=None)
    for kind in ("amodal", "modal"):
        function = AmodalInteraction(pipeline, FakeSegmenter(), masks=kind)
        (shape,) = function.detect(None, photo, prompts)
        mask = masks.decode_mask(shape.points, image_width=16, image_height=12)
        assert mask[FakeSegmenter.masks[0]].all()
    assert FakeSegmenter.asked == ([(3, 3), (15, 11)], [1, 0])
    nothing = SimpleNamespace(pos_points=[(0, 11)], neg_points=[], bounding_box=None)
    assert function.detect(None, photo, nothing) == []
    unsaid = SimpleNamespace(pos_points=[], neg_points=[(3, 3)], bounding_box=None)
    assert function.detect(None, photo, unsaid) == []
    boxed = SimpleNamespace(pos_points=[], neg_points=[], bounding_box=((1, 1), (7, 7)))
    before = FakeSegmenter.embedded
    (shape,) = function.detect(None, photo, boxed)
    assert masks.decode_mask(shape.points, image_width=16, image_height=12)[FakeSegmenter.masks[0]].all()
    assert FakeSegmenter.embedded == before  # the photo of the last question


def test_interaction_by_the_shipped_networks(photo):
    masks = pytest.importorskip("cvat_sdk.masks")
    function = create(str(ROOT / "pipelines/occamodal"), str(ROOT / "pipelines/click-segmenter"), kind="click")
    prompts = SimpleNamespace(pos_points=[(3, 3)], neg_points=[], bounding_box=None)
    for shape in function.detect(None, photo, prompts):
        assert masks.decode_mask(shape.points, image_width=16, image_height=12).shape == (12, 16)


def test_wrong_choices():
    with pytest.raises(ValueError, match="`masks` must be one of both, amodal, modal"):
        AmodalDetection(None, None, masks="x")
    with pytest.raises(ValueError, match="must take clicks"):
        AmodalInteraction(None, SimpleNamespace(can_click=False))
    with pytest.raises(ValueError, match="`labels` are of `kind` 'objects'"):
        create("a", "b", kind="click", labels="cup")
