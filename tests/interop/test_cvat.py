"""CVAT: files round, as CVAT's own package decodes them; its functions with tiny networks."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion import ClickSegmenterPipeline
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
        seen = function.preprocess_image(None, photo)
        (shape,) = function.detect(None, seen, prompts)
        mask = masks.decode_mask(shape.points, image_width=16, image_height=12)
        assert mask[FakeSegmenter.masks[0]].all()
    assert FakeSegmenter.asked == ([(3, 3), (15, 11)], [1, 0])
    nothing = SimpleNamespace(pos_points=[(0, 11)], neg_points=[], bounding_box=None)
    assert function.detect(None, seen, nothing) == []
    unsaid = SimpleNamespace(pos_points=[], neg_points=[(3, 3)], bounding_box=None)
    assert function.detect(None, seen, unsaid) == []
    boxed = SimpleNamespace(pos_points=[], neg_points=[], bounding_box=((1, 1), (7, 7)))
    (shape,) = function.detect(None, seen, boxed)
    assert masks.decode_mask(shape.points, image_width=16, image_height=12)[FakeSegmenter.masks[0]].all()


def test_interaction_by_the_shipped_networks(photo):
    masks = pytest.importorskip("cvat_sdk.masks")
    function = create(str(ROOT / "pipelines/occamodal"), str(ROOT / "pipelines/click-segmenter"), kind="click")
    prompts = SimpleNamespace(pos_points=[(3, 3)], neg_points=[], bounding_box=None)
    for shape in function.detect(None, function.preprocess_image(None, photo), prompts):
        assert masks.decode_mask(shape.points, image_width=16, image_height=12).shape == (12, 16)


def test_clicks_by_a_pipeline_of_the_hub(hub):
    pytest.importorskip("cvat_sdk")
    completes = str(ROOT / "pipelines/occamodal")
    hub.fill(ROOT / "pipelines/click-segmenter")
    assert isinstance(create(completes, "org/name", kind="click").segmenter, ClickSegmenterPipeline)
    with pytest.raises(ValueError, match="`segmenter` must take clicks"):
        create(completes, completes, kind="click")


class SameProcess:
    """In place of the process in which an agent runs its function."""

    def submit(self, job, *call):
        return job(*call)

    def result(self, answer):
        return answer


def test_an_agent_of_the_package(photo, pipeline, monkeypatch):
    """What CVAT's agent does with a request of its editor; the photo is looked at once for all clicks."""
    driver_module = pytest.importorskip("cvat_cli._internal.agent_driver_interaction")
    from cvat_cli._internal.agent_driver import set_worker_current_function

    function = AmodalInteraction(pipeline, FakeSegmenter())
    driver_class = driver_module.AgentInteractionFunctionDriver
    monkeypatch.setattr(driver_class, "_get_sample_from_ar_params", lambda self, request: (None, None))
    monkeypatch.setattr(driver_class, "_load_image_for_ar", lambda self, sample, request: photo)
    set_worker_current_function(function)
    driver_class.init_worker(None)
    driver = driver_class(None, SameProcess(), function.spec)
    fields = driver_class.get_remote_function_fields(function.spec)
    assert fields == {"min_pos_points": 0, "min_neg_points": 0, "startswith_box_optional": True}
    driver.validate_function_compatibility({"startswith_box": False, **fields})
    request = {"type": "interact", "task": 42, "frame": 0, "pos_points": [[3, 3]], "neg_points": [], "obj_bbox": []}
    for more in ({}, {"neg_points": [[15, 11]]}, {"obj_bbox": [[1, 1], [7, 8]]}):
        (shape,) = driver.calculate_result_for_ar({**request, **more}, None)["shapes"]
        assert shape["type"] == "mask" and len(shape["points"]) > 4
    assert function.segmenter.embedded == 1
    driver.calculate_result_for_ar({**request, "frame": 1}, None)
    assert function.segmenter.embedded == 2


class Server:
    """What CVAT's driver asks of its client, and keeps what it uploads."""

    def __init__(self):
        self.logger = logging.getLogger("cvat")
        self.tasks = SimpleNamespace(api=SimpleNamespace(partial_update_annotations=self._keep))

    def _keep(self, action, task, patched_labeled_data_request):
        assert (action, task) == ("create", 42)
        self.shapes = patched_labeled_data_request.shapes


def task_labels(names):
    """The labels of `cvat_labels` as a task of CVAT has them once it has given them ids."""
    models = pytest.importorskip("cvat_sdk.models")
    labels = []
    for number, label in enumerate(cvat_labels(names), start=100):
        attributes = [
            models.Attribute(**{**attribute, "input_type": models.InputTypeEnum("checkbox")}, id=number + 50)
            for attribute in label["attributes"]
        ]
        labels.append(
            models.Label(
                name=label["name"], id=number, type="any", attributes=attributes, sublabels=[], _check_type=False
            )
        )
    return labels


def test_the_driver_of_the_package(photo, pipeline, monkeypatch):
    """CVAT's own `annotate_task` checks what the function gives and maps it to a task with the labels that we write."""
    driver = pytest.importorskip("cvat_sdk.auto_annotation.driver")
    media = SimpleNamespace(load_image=lambda: photo)
    samples = [SimpleNamespace(frame_name=f"{number}.png", frame_index=number, media=media) for number in range(2)]
    dataset = SimpleNamespace(labels=task_labels(["cup", "plate"]), samples=samples)
    monkeypatch.setattr(driver, "TaskDataset", lambda *call, **options: dataset)
    function = AmodalDetection(pipeline, FakeSegmenter(), labels=["cup", "plate"])
    for polygons in (False, True):
        server = Server()
        driver.annotate_task(server, 42, function, conv_mask_to_poly=polygons)
        assert [shape.frame for shape in server.shapes] == [0] * 4 + [1] * 4
        assert {shape.label_id for shape in server.shapes} == {100, 101}
        assert {shape.type.value for shape in server.shapes} == {"polygon" if polygons else "mask"}
        assert {(shape.attributes[0].spec_id, shape.label_id) for shape in server.shapes} == {(150, 100), (151, 101)}
        assert sorted(shape.attributes[0].value for shape in server.shapes) == ["false"] * 4 + ["true"] * 4
    dataset.labels = task_labels(["cup"])
    with pytest.raises(driver.BadFunctionError, match="label 'plate' is not in dataset"):
        driver.annotate_task(Server(), 42, function)
    server = Server()
    driver.annotate_task(server, 42, function, allow_unmatched_labels=True)
    assert {shape.label_id for shape in server.shapes} == {100} and len(server.shapes) == 4


def test_wrong_choices():
    with pytest.raises(ValueError, match="`masks` must be one of 'both', 'amodal', 'modal'"):
        AmodalDetection(None, None, masks="x")
    with pytest.raises(ValueError, match="must take clicks"):
        AmodalInteraction(None, SimpleNamespace(can_click=False))
    with pytest.raises(ValueError, match="`labels` are of `kind` 'objects'"):
        create("a", "b", kind="click", labels="cup")
