"""Fixtures that several test modules share: the published numbers, and the data beside the repository."""

import importlib.util
import json
from pathlib import Path

import pytest

from data_helpers import SHARED

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def parity_dir():
    """Folder of the numbers that the published implementations computed; its README explains each file."""
    return ROOT / "tests" / "parity"


@pytest.fixture(scope="session")
def parity(parity_dir):
    """The module that makes the inputs and weights of those numbers from their names."""
    spec = importlib.util.spec_from_file_location("parity", parity_dir / "parity.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def published_scenes(parity, parity_dir):
    """Six scenes: (modal, amodal, published numbers), masks as (N, H, W) bool."""
    numbers = json.loads((parity_dir / "scenes.json").read_text(encoding="utf-8"))
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
