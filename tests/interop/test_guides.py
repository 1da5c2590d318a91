"""docs/tools.md, docs/labelling.md, docs/editors.md: their commands are commands, the recipe for ROS 2 reads a bag."""

import re
import shlex

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.cli.main import build_parser
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


def test_python_compiles():
    for path in GUIDES:
        for block in blocks(path, "python"):
            compile(block, str(path), "exec")


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
    (recipe,) = [block for block in blocks(GUIDES[0], "python") if "rosbags" in block]
    exec(compile(recipe, "recipe", "exec"), {})
    for number in (10, 11):
        np.testing.assert_array_equal(np.asarray(Image.open(f"photos/{number}.png")), photo)
