"""AmodalPipeline: the class that the index names, and clear words where there is none."""

import json
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

import amodal_diffusion.hub
from amodal_diffusion import AmodalPipeline, PCNetMaskPipeline
from amodal_diffusion.pipelines import list_pipelines, register_pipeline
from amodal_diffusion.pipelines.registry import find_pipeline
from pipeline_helpers import tiny_pipeline
from repository_helpers import ROOT

SHIPPED = ROOT / "pipelines"

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
    names = ["ASBUPipeline", "AmodalVAEPipeline", "ClickSegmenterPipeline", "ContentPipeline", "OccAmodalPipeline"]
    assert list_pipelines() == [
        *names,
        "OrderNetPipeline",
        "PCNetMaskPipeline",
        "PhotoPCNetMaskPipeline",
        "SDAmodalPipeline",
        "ScenePipeline",
        "SingleStagePipeline",
    ]
    for name in list_pipelines():
        assert find_pipeline(name).__name__ == name
        assert getattr(amodal_diffusion, name) is find_pipeline(name)  # which pipeline.py imports
    assert list_pipelines("PCNet*") == ["PCNetMaskPipeline"] and list_pipelines("nothing") == []


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in SHIPPED.glob("*/model_index.json")))
def test_every_shipped_folder_loads_by_the_class_that_it_names(folder):
    index = json.loads((SHIPPED / folder / "model_index.json").read_text())
    module, name = index["_class_name"]
    assert module == "pipeline" and f"import {name} " in (SHIPPED / folder / "pipeline.py").read_text()
    assert type(AmodalPipeline.from_pretrained(SHIPPED / folder)).__name__ == name


def test_a_recipe_says_so():
    with pytest.raises(FileNotFoundError, match="holds no model_index.json: it is a recipe without weights"):
        AmodalPipeline.from_pretrained(SHIPPED / "sdamodal")


def test_registration_is_checked():
    with pytest.raises(TypeError, match="must derive from a pipeline of amodal_diffusion"):
        register_pipeline(AmodalPipeline)
    with pytest.raises(ValueError, match="`PCNetMaskPipeline` of .*: .* has a pipeline of that name"):
        register_pipeline(type("PCNetMaskPipeline", (PCNetMaskPipeline,), {}))


def test_options_reach_the_pipeline(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        PCNetMaskPipeline, "from_folder", classmethod(lambda cls, folder, **options: seen.update(options))
    )
    folder = folder_with(tmp_path, {**INDEX, "_class_name": ["pipeline", "PCNetMaskPipeline"]})
    options = {"dtype": "x", "revision": "v1", "cache_dir": "c", "token": "t", "mask_threshold": 0.3}
    AmodalPipeline.from_pretrained(folder, **options)
    assert seen == options


def test_cannot_be_made():
    with pytest.raises(TypeError, match="use `AmodalPipeline.from_pretrained"):
        AmodalPipeline()


WRONG_INDICES = {
    "foreign pipeline": (
        {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]},
        "holds `StableDiffusionPipeline`, which is no pipeline of amodal_diffusion; these are .*PCNetMaskPipeline",
    ),
    "class name of ours that is no pipeline": ({**INDEX, "_class_name": "PCNetMask"}, "holds `PCNetMask`"),
    "list": (
        {**INDEX, "_class_name": ["subprocess", "PCNetMaskPipeline"]},
        r"`_class_name` must be the name.*got \['subprocess'",
    ),
    "no class": (
        {"model": ["amodal_diffusion", "PCNetMask"]},
        "`_class_name` must be the name of a pipeline class, got None",
    ),
    "empty class": ({"_class_name": ""}, "`_class_name` must be the name"),
    "no object": ([1, 2], "must hold a JSON object, got list"),
    "no JSON": ('{"_class_name": "PCNet', "is no valid JSON"),
    "no text": (b"\xff\xfe\x00", "is no valid JSON"),
    "empty": ("", "is no valid JSON"),
    "other library": (
        {**INDEX, "model": ["subprocess", "Popen"]},
        "component `model` comes from the library 'subprocess'",
    ),
    "component that is a text": ({**INDEX, "model": "x"}, r"must hold `model` as \[library, class\], got 'x'"),
    "component that is missing": (
        {"_class_name": "PCNetMaskPipeline"},
        r"must hold `model` as \[library, class\], got None",
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


def answer(kind, status):
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    error = kind.__new__(kind)
    Exception.__init__(error, "the Hub's words")
    error.response = response
    return error


NO_ANSWERS = {
    "no network": (OSError("no route to host"), r"the Hub cannot be reached for .* \(no route to host\)"),
    "no repository": (answer(RepositoryNotFoundError, 404), "the Hub has no repository of that name"),
    "gated": (answer(GatedRepoError, 403), "accepted its terms"),
    "no revision": (answer(RevisionNotFoundError, 404), "no such `revision`"),
    "no index": (answer(EntryNotFoundError, 404), "holds no model_index.json"),
    "fault": (answer(HfHubHTTPError, 503), "the Hub answers 503"),
}


@pytest.mark.parametrize("case", NO_ANSWERS)
def test_a_name_that_is_neither_a_folder_nor_on_the_hub_says_both(case, tmp_path, monkeypatch):
    """The Hub is asked once: what `hf_hub_download` does about an unreachable one takes 23 seconds."""
    error, message = NO_ANSWERS[case]
    asked = []

    def head(url, **_):
        asked.append(url)
        raise error

    monkeypatch.setattr("amodal_diffusion.hub.get_hf_file_metadata", head)
    with pytest.raises(OSError, match=f"There is no folder 'org/gone' here, and .*{message}"):
        AmodalPipeline.from_pretrained("org/gone", cache_dir=tmp_path)
    assert len(asked) == 1 and "org/gone" in asked[0]


def test_offline_mode_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("amodal_diffusion.hub.get_hf_file_metadata", None)
    with pytest.raises(OSError, match="no folder 'org/gone' here, and the Hub may not be asked"):
        AmodalPipeline.from_pretrained("org/gone", cache_dir=tmp_path, local_files_only=True)


def test_what_is_no_name_is_named():
    with pytest.raises(TypeError, match="`pretrained_model_name_or_path` must be a folder or a Hub id, got None"):
        AmodalPipeline.from_pretrained(None)


def test_a_subfolder_that_is_missing_here_is_not_looked_for_on_the_hub(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no `subfolder` 'nope'"):
        AmodalPipeline.from_pretrained(tmp_path, subfolder="nope")
