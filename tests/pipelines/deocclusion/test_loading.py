"""Folders of ScenePipelines: with their components in them, elsewhere by reference, on the Hub, by diffusers itself."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

import amodal_diffusion.hub
from amodal_diffusion import ScenePipeline, Segmenter
from fresh_process import run_fresh
from pipeline_helpers import crossing_bars, tiny_pipeline
from repository_helpers import ROOT
from scene_helpers import photo_like, pixels, tiny_content
from segmenter_helpers import mask2former_pipeline

SHIPPED = ROOT / "pipelines" / "deocclusion"


@pytest.fixture(scope="module")
def plain():
    return ScenePipeline(tiny_pipeline(), tiny_content(), min_hidden_width=2, edge_width=1.5, shadows=True)


@pytest.fixture(scope="module")
def saved(plain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "deocclusion"
    plain.save_pretrained(folder)
    return folder


def check(loaded, plain):
    modal, _ = crossing_bars()
    loaded.set_progress_bar_config(disable=True)
    photo = photo_like(modal)
    assert type(loaded) is ScenePipeline and loaded(photo, modal).equals(plain(photo, modal))


def test_saved_folder(saved, plain):
    index = json.loads((saved / "model_index.json").read_text())
    assert index.pop("_diffusers_version")
    assert index == {
        "_class_name": ["pipeline", "ScenePipeline"],
        "mask_pipeline": ["amodal_diffusion", "PCNetMaskPipeline"],
        "content_pipeline": ["amodal_diffusion", "ContentPipeline"],
        "segmenter": [None, None],
        "min_hidden_width": 2,
        "edge_width": 1.5,
        "shadows": True,
    }
    assert (saved / "pipeline.py").read_text() == "from amodal_diffusion import ScenePipeline  # noqa: F401\n"
    loaded = ScenePipeline.from_pretrained(saved)
    assert (loaded.config.min_hidden_width, loaded.config.edge_width) == (2, 1.5) and loaded.segmenter is None
    check(loaded, plain)
    check(ScenePipeline.from_pretrained(saved.parent, subfolder="deocclusion"), plain)


def test_second_save(saved, plain, tmp_path):
    ScenePipeline.from_pretrained(saved).save_pretrained(tmp_path)
    check(ScenePipeline.from_pretrained(tmp_path), plain)


def test_segmenter_is_saved(tmp_path):
    pipeline = ScenePipeline(tiny_pipeline(), tiny_content(), Segmenter(mask2former_pipeline(), max_objects=3))
    pipeline.save_pretrained(tmp_path)
    loaded = ScenePipeline.from_pretrained(tmp_path)
    assert loaded.segmenter.settings == pipeline.segmenter.settings


def test_components_and_settings_can_be_replaced(saved):
    content = tiny_content()
    loaded = ScenePipeline.from_pretrained(saved, content_pipeline=content, min_hidden_width=5)
    assert loaded.content_pipeline is content and loaded.config.min_hidden_width == 5


def test_dtype(saved):
    loaded = ScenePipeline.from_pretrained(saved, dtype=torch.bfloat16)
    assert {next(network.parameters()).dtype for network in loaded.networks} == {torch.bfloat16}


def refer(saved, folder, references, move=True):
    """A folder like `saved` whose components lie elsewhere."""
    shutil.copytree(saved, folder)
    if move:
        for name in ("mask_pipeline", "content_pipeline"):
            shutil.move(folder / name, folder.parent / name)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "references": references}))
    return folder


BESIDE = {"mask_pipeline": "../mask_pipeline", "content_pipeline": "../content_pipeline"}


def test_references(saved, plain, tmp_path):
    folder = refer(saved, tmp_path / "scene", BESIDE)
    loaded = ScenePipeline.from_pretrained(folder)
    check(loaded, plain)
    check(ScenePipeline.from_pretrained(tmp_path, subfolder="scene"), plain)
    loaded.save_pretrained(tmp_path / "whole")  # holds everything
    (tmp_path / "elsewhere").mkdir()
    check(ScenePipeline.from_pretrained(shutil.move(tmp_path / "whole", tmp_path / "elsewhere")), plain)


def test_reference_to_the_hub(saved, plain, tmp_path, monkeypatch):
    folder = refer(saved, tmp_path / "scene", {**BESIDE, "mask_pipeline": "someone/pcnet-m"})
    asked = []

    def load(path, **options):
        asked.append((path, options))
        return plain.mask_pipeline

    monkeypatch.setattr("amodal_diffusion.pipelines.deocclusion.loading.AmodalPipeline.from_pretrained", load)
    check(ScenePipeline.from_pretrained(folder, token="secret", revision="v1"), plain)
    assert asked == [("someone/pcnet-m", {"subfolder": None, "token": "secret"})]  # the revision is of this repository


@pytest.mark.parametrize(
    ("references", "error", "message"),
    [
        (
            {"mask_pipeline": "../nowhere"},
            FileNotFoundError,
            "`mask_pipeline` refers to '.*nowhere', where there is no",
        ),
        (
            {"mask_pipeline": "/etc"},
            ValueError,
            "`mask_pipeline` must refer to a relative path or a Hub id",
        ),
        ({"mask_pipeline": "..\\asbu"}, FileNotFoundError, "`mask_pipeline` refers to"),
        ({"colour": "../x"}, ValueError, r"`references` names \['colour'\]"),
        ({"mask_pipeline": 3}, ValueError, "`references` must map names"),
        ("../x", ValueError, "`references` must map names"),
    ],
)
def test_broken_references(saved, tmp_path, references, error, message):
    folder = refer(saved, tmp_path / "scene", references, move=False)
    with pytest.raises(error, match=f"model_index.json of '.*scene'.*{message}"):
        ScenePipeline.from_pretrained(folder)


def test_broken_folders(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        ScenePipeline.from_pretrained(tmp_path / "missing")
    with pytest.raises(
        ValueError,
        match="holds `PCNetMaskPipeline`, not `ScenePipeline`: load it by `PCNetMaskPipeline.from_pretrained`",
    ):
        ScenePipeline.from_pretrained(saved / "mask_pipeline")
    folder = refer(saved, tmp_path / "scene", {}, move=False)
    index = json.loads((folder / "model_index.json").read_text())
    del index["content_pipeline"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="names no `content_pipeline`"):
        ScenePipeline.from_pretrained(folder)
    shutil.rmtree(folder / "mask_pipeline")
    with pytest.raises(FileNotFoundError, match="`mask_pipeline` refers to"):
        ScenePipeline.from_pretrained(folder, content_pipeline=tiny_content())


def test_unsafe_weights_are_refused(saved, plain, tmp_path):
    with pytest.raises(ValueError, match="`use_safetensors` must be True"):
        ScenePipeline.from_pretrained(saved, use_safetensors=False)
    with pytest.raises(ValueError, match="`safe_serialization` must be True"):
        plain.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(ValueError, match=r"call the method `push_to_hub\(repo_id\)`"):
        plain.save_pretrained(tmp_path, push_to_hub=True)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        plain.save_pretrained(tmp_path / "file")


def fake_hub(monkeypatch, repository):
    """Downloads come from a folder; what they ask for is recorded."""
    patterns = []

    def snapshot_download(repo_id, allow_patterns=None, **options):
        patterns.append((repo_id, allow_patterns[0]))
        return str(repository)

    monkeypatch.setattr(amodal_diffusion.hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(amodal_diffusion.hub, "get_hf_file_metadata", lambda url, **options: None)
    monkeypatch.setattr(amodal_diffusion.hub, "hf_hub_download", lambda repo_id, name, **options: repository / name)
    return patterns


def test_from_the_hub(saved, plain, monkeypatch):
    asked = fake_hub(monkeypatch, saved)
    check(ScenePipeline.from_pretrained("someone/scene"), plain)
    assert asked == [("someone/scene", "mask_pipeline/*.json"), ("someone/scene", "content_pipeline/*.json")]


def test_references_within_a_hub_repository(saved, plain, tmp_path, monkeypatch):
    refer(saved, tmp_path / "deocclusion", BESIDE)
    asked = fake_hub(monkeypatch, tmp_path)
    check(ScenePipeline.from_pretrained("someone/all", subfolder="deocclusion"), plain)
    assert [pattern for _, pattern in asked] == [
        "deocclusion/*.json",
        "mask_pipeline/*.json",
        "content_pipeline/*.json",
    ]


def test_references_that_leave_a_hub_repository(saved, tmp_path, monkeypatch):
    fake_hub(monkeypatch, refer(saved, tmp_path / "scene", BESIDE))
    with pytest.raises(ValueError, match=r"`mask_pipeline` to '../mask_pipeline' leaves the repository"):
        ScenePipeline.from_pretrained("someone/scene")


BY_DIFFUSERS = """
import sys
from diffusers import DiffusionPipeline
loaded = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
print(*[type(part).__name__ for part in (loaded, *loaded.components.values())], loaded.config.edge_width)
"""


def test_diffusers_loads_the_folder(saved):
    names = run_fresh(BY_DIFFUSERS, saved).split()[-5:]
    assert names == ["ScenePipeline", "PCNetMaskPipeline", "ContentPipeline", "NoneType", "1.5"]


def test_diffusers_loads_a_folder_with_references_and_a_segmenter(saved, plain, tmp_path):
    """Both are unknown to diffusers: our loaders stand for the components in the index that it reads."""
    folder = refer(saved, tmp_path / "scene", BESIDE)
    Segmenter(mask2former_pipeline(), max_objects=3).save_pretrained(folder / "segmenter")
    index = json.loads((folder / "model_index.json").read_text())
    index["segmenter"] = ["amodal_diffusion", "Segmenter"]
    (folder / "model_index.json").write_text(json.dumps(index))
    said = run_fresh(BY_DIFFUSERS, folder)
    assert said.split()[-5:] == ["ScenePipeline", "PCNetMaskPipeline", "ContentPipeline", "Segmenter", "1.5"]
    loaded = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    assert loaded.segmenter.settings["max_objects"] == 3
    check(loaded, plain)
    given = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True, mask_pipeline=plain.mask_pipeline)
    assert given.mask_pipeline is plain.mask_pipeline


def test_what_diffusers_is_told_goes_for_the_components(saved, plain, tmp_path):
    def load(folder, **options):
        loaded = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True, **options)
        return [getattr(loaded, name).dtype for name in ("mask_pipeline", "content_pipeline")]

    halves = [torch.bfloat16] * 2
    for folder in (saved, refer(saved, tmp_path / "scene", BESIDE)):
        assert load(folder) == [torch.float32] * 2
        assert load(folder, dtype=torch.bfloat16) == load(folder, torch_dtype=torch.bfloat16) == halves
        assert load(folder, dtype={"content_pipeline": torch.bfloat16}) == [torch.float32, torch.bfloat16]
        with pytest.raises(ValueError, match="`use_safetensors` must be True"):
            load(folder, use_safetensors=False)
        given = DiffusionPipeline.from_pretrained(
            folder, trust_remote_code=True, mask_pipeline=plain.mask_pipeline, dtype=torch.bfloat16
        )
        assert given.mask_pipeline.dtype == torch.float32 and given.content_pipeline.dtype == torch.bfloat16


def test_a_device_that_diffusers_is_told_goes_for_the_components(saved, monkeypatch):
    asked = []

    def load(folder, **options):
        asked.append(options)
        return tiny_content()

    monkeypatch.setattr("amodal_diffusion.pipelines.deocclusion.loading.ContentPipeline.from_pretrained", load)
    DiffusionPipeline.from_pretrained(saved, trust_remote_code=True, device_map="cpu")
    assert [options["device_map"] for options in asked] == ["cpu"]


def test_diffusers_names_a_reference_that_leads_nowhere(saved, tmp_path):
    folder = refer(saved, tmp_path / "scene", {**BESIDE, "mask_pipeline": "../nowhere"})
    with pytest.raises(FileNotFoundError, match="`mask_pipeline` refers to '.*nowhere', where there is no folder"):
        DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)


def test_diffusers_loads_the_shipped_folder():
    names = run_fresh(BY_DIFFUSERS, SHIPPED).split()[-5:]
    assert names == ["ScenePipeline", "PhotoPCNetMaskPipeline", "ContentPipeline", "NoneType", "3.0"]


def test_shipped_folder():
    index = json.loads((SHIPPED / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline", "ScenePipeline"]
    assert set(index["references"]) == {"mask_pipeline", "content_pipeline"}
    for reference in index["references"].values():
        if not Path(SHIPPED, reference).is_dir():
            pytest.skip(f"{reference} is not here yet")
    pipeline = ScenePipeline.from_pretrained(SHIPPED)
    modal, _ = crossing_bars()
    photo = photo_like(modal)
    pipeline.set_progress_bar_config(disable=True)
    np.testing.assert_array_equal(pixels(pipeline(photo, modal)), photo)
