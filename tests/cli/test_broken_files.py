"""Files that are broken, at every door of the command line."""

import shutil

import pytest
from PIL import Image

from amodal_diffusion.cli.main import main
from pipeline_helpers import tiny_pipeline
from training_helpers import write_coco

_DOORS = {
    "complete --masks": "complete {photo} --masks {file} --model {model} --output {out}",
    "annotate": "annotate {file} --model {model} --output {out}",
    "annotate --method": "annotate {file} --method convex --output {out}",
    "evaluate": "evaluate --annotations {file} --methods raw",
    "evaluate --detections": "evaluate --annotations {good} --table z20-2 --detections {file} --methods {model}",
    "evaluate --results": "evaluate --annotations {good} --table z20-2 --results x={file}",
    "deocclude --masks": "deocclude {photo} --masks {file} --model {model} --output {out}.ora",
    "dataset stats": "dataset stats {file}",
    **{
        f"dataset convert --format {name}": "dataset convert {file} --output {out} --format " + name
        for name in ("auto", "coco", "cocoa", "cocoa-cls", "d2sa", "kins", "label-studio", "lvis")
    },
    "dataset convert --format labelme": "dataset convert {folder} --output {out} --format labelme",
    "model_index.json": "complete {photo} --masks {photo} --model {index} --output {out}",
    "config.json": "complete {photo} --masks {photo} --model {config} --output {out}",
    "export model_index.json": "export onnx {index} {out}",
    "export config.json": "export onnx {config} {out}",
}


@pytest.fixture(scope="module", params=["", "{"], ids=["empty", "cut off"])
def places(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("places")
    tiny_pipeline().save_pretrained(folder / "model")
    for name, path in (("index", "model_index.json"), ("config", "model/config.json")):
        shutil.copytree(folder / "model", folder / name)
        (folder / name / path).write_text(request.param)
    (folder / "folder").mkdir()
    for path in (folder / "broken.json", folder / "folder" / "broken.json"):
        path.write_text(request.param)
    Image.new("L", (60, 40), 255).save(folder / "photo.png")
    write_coco(folder / "good.json", images=1)
    named = {"file": folder / "broken.json", "good": folder / "good.json", "photo": folder / "photo.png"}
    return named | {name: folder / name for name in ("out", "model", "index", "config", "folder")}


@pytest.mark.parametrize("door", _DOORS)
def test_a_broken_json_file_is_named(door, places, capsys):
    assert main(_DOORS[door].format(**places).split()) == 2
    assert (door.split()[-1] if door.endswith(".json") else "broken.json") in capsys.readouterr().err
