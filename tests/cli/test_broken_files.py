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


@pytest.mark.parametrize("text", ["", "{", "[1,", "\ufeff"])
@pytest.mark.parametrize("door", _DOORS)
def test_a_broken_json_file_is_named(door, text, tmp_path, capsys):
    model = tmp_path / "model"
    tiny_pipeline().save_pretrained(model)
    for name, path in (("index", "model_index.json"), ("config", "model/config.json")):
        shutil.copytree(model, tmp_path / name)
        (tmp_path / name / path).write_text(text)
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "broken.json", tmp_path / "folder" / "broken.json"):
        path.write_text(text)
    Image.new("L", (60, 40), 255).save(tmp_path / "photo.png")
    write_coco(tmp_path / "good.json", images=1)
    places = {name: tmp_path / name for name in ("out", "model", "index", "config", "folder")}
    places |= {"file": tmp_path / "broken.json", "good": tmp_path / "good.json", "photo": tmp_path / "photo.png"}
    assert main(_DOORS[door].format(**places).split()) == 2
    assert (door.split()[-1] if door.endswith(".json") else "broken.json") in capsys.readouterr().err
