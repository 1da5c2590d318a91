"""AmodalPipeline: the class that the index names, and clear words where there is none."""

import json

import pytest

import amodal_diffusion.hub
from amodal_diffusion import AmodalPipeline, PCNetMaskPipeline
from amodal_diffusion.pipelines.auto import PIPELINES
from pipeline_helpers import tiny_pipeline

INDEX = {"_class_name": "PCNetMaskPipeline", "_diffusers_version": "0.42.1", "model": ["amodal_diffusion", "PCNetMask"]}


def folder_with(tmp_path, index):
    text = index if isinstance(index, str | bytes) else json.dumps(index)
    (tmp_path / "model_index.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path


def test_dispatches_on_the_index(tmp_path):
    tiny_pipeline().save_pretrained(tmp_path)
    for path in (tmp_path, str(tmp_path)):
        assert type(AmodalPipeline.from_pretrained(path)) is PCNetMaskPipeline


def test_every_pipeline_is_known_by_its_own_name():
    assert PIPELINES
    for name, pipeline_class in PIPELINES.items():
        assert pipeline_class.__name__ == name
        assert getattr(amodal_diffusion, name) is pipeline_class  # which pipeline.py imports


def test_options_reach_the_pipeline(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        PCNetMaskPipeline, "from_pretrained", classmethod(lambda cls, path, **options: seen.update(options))
    )
    folder = folder_with(tmp_path, INDEX)
    options = {"dtype": "x", "revision": "v1", "cache_dir": "c", "token": "t", "mask_threshold": 0.3}
    AmodalPipeline.from_pretrained(folder, **options)
    assert seen == options


def test_cannot_be_made():
    with pytest.raises(TypeError, match="use `AmodalPipeline.from_pretrained"):
        AmodalPipeline()


WRONG_INDICES = {
    "foreign pipeline": (
        {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]},
        "holds a `StableDiffusionPipeline`, which is no pipeline of amodal_diffusion; these are .*PCNetMaskPipeline",
    ),
    "class name of ours that is no pipeline": ({**INDEX, "_class_name": "PCNetMask"}, "holds a `PCNetMask`"),
    "list": (
        {**INDEX, "_class_name": ["pipeline", "PCNetMaskPipeline"]},
        r"`_class_name` must be the name.*got \['pipeline'",
    ),
    "no class": (
        {"model": ["amodal_diffusion", "PCNetMask"]},
        "`_class_name` must be the name of a pipeline class, got None",
    ),
    "empty class": ({"_class_name": ""}, "`_class_name` must be the name"),
    "no object": ([1, 2], "must hold a JSON object, got list"),
    "no JSON": ('{"_class_name": "PCNet', "is not valid JSON"),
    "no text": (b"\xff\xfe\x00", "is not valid JSON"),
    "empty": ("", "is not valid JSON"),
    "other library": (
        {**INDEX, "model": ["subprocess", "Popen"]},
        "component `model` comes from the library 'subprocess'",
    ),
}


@pytest.mark.parametrize("case", WRONG_INDICES)
def test_wrong_index(case, tmp_path):
    index, message = WRONG_INDICES[case]
    with pytest.raises(ValueError, match=message):
        AmodalPipeline.from_pretrained(folder_with(tmp_path, index))


def test_folder_without_index(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no model_index.json"):
        AmodalPipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize("path", ["./gone", "/gone/away", "a/b/c", "~/gone", "..", " "])
def test_missing_folder(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder|no model_index.json"):
        AmodalPipeline.from_pretrained(path)


def test_path_object_is_never_a_hub_id(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        AmodalPipeline.from_pretrained(tmp_path / "gone")


def test_file_instead_of_a_folder(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"weights\.safetensors' is a file"):
        AmodalPipeline.from_pretrained(tmp_path / "weights.safetensors")


def test_missing_repository_is_named(monkeypatch):
    def not_there(*_, **__):
        raise OSError("org/gone is not a local folder and is not a valid model identifier")

    monkeypatch.setattr("amodal_diffusion.hub.DiffusionPipeline.load_config", not_there)
    with pytest.raises(OSError, match="org/gone"):
        AmodalPipeline.from_pretrained("org/gone")
