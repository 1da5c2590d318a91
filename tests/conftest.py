"""Fixtures that several test modules share: the published numbers, the data beside the repository, a Hub."""

import fnmatch
import json
import shutil
from types import SimpleNamespace

import pytest
import torch

import amodal_diffusion.hub
import parity
from repository_helpers import PARITY, SHARED

collect_ignore = ["helpers", "parity"]  # which hold no tests


@pytest.fixture(scope="session")
def published_scenes():
    """Six scenes: (modal, amodal, published numbers), masks as (N, H, W) bool."""
    numbers = json.loads((PARITY / "scenes.json").read_text(encoding="utf-8"))
    return [(*(masks.astype(bool) for masks in parity.scene(k)), numbers[f"scene{k}"]) for k in range(6)]


@pytest.fixture(params=range(6), ids=lambda k: f"scene{k}")
def published_scene(request, published_scenes):
    """One of `published_scenes` after the other."""
    return published_scenes[request.param]


@pytest.fixture(scope="session")
def shared_data():
    """Folder of the shared data, `AMODAL_DATA` or `../shared/data` beside the repository; skips where it is missing."""
    if not SHARED.is_dir():
        pytest.skip(f"no shared data at {SHARED}; set AMODAL_DATA")
    return SHARED


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub of one repository, "org/name", filled by `fill`; what is downloaded from it is copied to a cache."""
    repository, cache = tmp_path / "repository", tmp_path / "cache"
    repository.mkdir()
    calls = []

    def listed():
        return sorted(path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file())

    def fetch(name):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, cache / name)

    def file_download(repo_id, filename, **options):
        assert repo_id == "org/name"
        calls.append((filename, options))
        fetch(filename)
        return str(cache / filename)

    def snapshot(repo_id, *, allow_patterns=None, ignore_patterns=None, **options):
        assert repo_id == "org/name"
        calls.append(("snapshot", options))
        for name in listed():
            if any(fnmatch.fnmatch(name, p) for p in allow_patterns or ["*"]):
                if not any(fnmatch.fnmatch(name, p) for p in ignore_patterns or []):
                    fetch(name)
        return str(cache)

    info = SimpleNamespace(siblings=None, sha="0" * 40)

    def model_info(repo_id, **_):
        info.siblings = [SimpleNamespace(rfilename=name) for name in listed()]
        return info

    for module in ("diffusers.pipelines.pipeline_utils", "diffusers.configuration_utils"):
        monkeypatch.setattr(f"{module}.hf_hub_download", file_download)
    monkeypatch.setattr("diffusers.pipelines.pipeline_utils.model_info", model_info)
    monkeypatch.setattr("diffusers.pipelines.pipeline_utils.snapshot_download", snapshot)
    monkeypatch.setattr(
        "diffusers.pipelines.pipeline_utils._resolve_revision", lambda *_, revision=None, **__: revision
    )
    monkeypatch.setattr(amodal_diffusion.hub, "get_hf_file_metadata", lambda url, **_: None)
    monkeypatch.setattr(amodal_diffusion.hub, "hf_hub_download", file_download)
    monkeypatch.setattr(amodal_diffusion.hub, "snapshot_download", snapshot)

    def fill(folder, inside="."):
        shutil.copytree(folder, repository / inside, dirs_exist_ok=True)

    return SimpleNamespace(fill=fill, repository=repository, cache=cache, calls=calls)


@pytest.fixture
def offline(monkeypatch):
    """The Hub is not asked for anything in this process."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session", autouse=True)
def plain_processor():
    """A processor without units for bf16, so that commands that ask it compute in float32 on every machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
        yield
