"""docs/tools.md, docs/labelling.md, docs/editors.md: their commands are commands, their Python runs."""

import re
import shlex
import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.cli.main import build_parser
from amodal_diffusion.interop import label_studio_task
from interop_helpers import FakeSegmenter, kitchen_row, open_fiftyone
from repository_helpers import ROOT

GUIDES = [ROOT / "docs" / f"{name}.md" for name in ("tools", "labelling", "editors")]


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_commands(path):
    found = 0
    for line in "\n".join(blocks(path, "bash")).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["amodal-diffusion"]:
            build_parser().parse_args(words[1:])
            found += 1
        elif words[:1] == ["python"]:
            assert (ROOT / words[1]).is_file()
    assert found


def run(word, monkeypatch, folder):
    """Runs the only block of docs/tools.md with a word in it, in a folder."""
    (recipe,) = [block for block in blocks(GUIDES[0], "python") if word in block]
    monkeypatch.chdir(folder)
    namespace = {}
    exec(compile(recipe, "docs/tools.md", "exec"), namespace)
    return namespace


def test_every_block_of_python_runs_in_a_test():
    words = [("label_studio_ml", "fiftyone", "rosbags"), (), ()]
    for path, known in zip(GUIDES, words, strict=True):
        assert all(any(word in block for word in known) for block in blocks(path, "python"))


def test_label_studio_backend(monkeypatch):
    """The package of backends comes from its repository; its base class is stood in for."""
    model = ModuleType("label_studio_ml.model")
    model.LabelStudioMLBase = object
    monkeypatch.setitem(sys.modules, "label_studio_ml", ModuleType("label_studio_ml"))
    monkeypatch.setitem(sys.modules, "label_studio_ml.model", model)
    backend = run("label_studio_ml", monkeypatch, ROOT)["Amodal"]()
    regions = [item for item in label_studio_task(kitchen_row())["predictions"][0]["result"] if "value" in item]
    drawn = [region for region in regions if region["from_name"] == "modal"]
    (answer,) = backend.predict([{"id": 1}], {"result": drawn})
    assert {item["from_name"] for item in answer["result"] if "value" in item} == {"amodal"}
    assert backend.predict([{"id": 1}]) == [{"result": []}]


def test_fiftyone(tmp_path, monkeypatch):
    fiftyone = open_fiftyone()
    dataset = fiftyone.Dataset("kitchen", overwrite=True)
    try:
        for number in range(2):
            Image.new("RGB", (16, 12)).save(tmp_path / f"{number}.png")
            sample = fiftyone.Sample(filepath=str(tmp_path / f"{number}.png"))
            found = [fiftyone.Detection.from_mask(mask, label="cup") for mask in FakeSegmenter.masks]
            sample["ground_truth"] = fiftyone.Detections(detections=found)
            dataset.add_sample(sample)
        namespace = run("fiftyone", monkeypatch, ROOT)
        dataset.reload()
        assert [len(sample["whole"].detections) for sample in dataset] == [2, 2]
        assert len(namespace["mostly_hidden"]) <= 2
    finally:
        dataset.delete()


def test_ros(tmp_path, monkeypatch):
    writer = pytest.importorskip("rosbags.rosbag2").Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    image, header, time = (
        store.types[name] for name in ("sensor_msgs/msg/Image", "std_msgs/msg/Header", "builtin_interfaces/msg/Time")
    )
    photo = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    padded = np.zeros((4, 24), np.uint8)
    monkeypatch.chdir(tmp_path)
    with writer("drive", version=9) as bag:
        camera = bag.add_connection("/camera/image_raw", "sensor_msgs/msg/Image", typestore=store)
        for number, encoding in enumerate(("rgb8", "bgr8"), start=10):
            padded[:, :18] = (photo if encoding == "rgb8" else photo[..., ::-1]).reshape(4, 18)
            message = image(header(time(1, 2), "camera"), 4, 6, encoding, 0, 24, padded.ravel())
            bag.write(camera, number, store.serialize_cdr(message, "sensor_msgs/msg/Image"))
    run("rosbags", monkeypatch, tmp_path)
    for number in (10, 11):
        np.testing.assert_array_equal(np.asarray(Image.open(f"photos/{number}.png")), photo)
