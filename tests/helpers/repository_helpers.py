"""Where to find what tests read: the repository, the published numbers in it, the shared data beside it."""

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
"""Top folder of the repository."""

PACKAGE = ROOT / "amodal_diffusion"

PARITY = ROOT / "tests" / "parity"
"""Numbers that the published implementations computed; its README explains each file."""

SHARED = Path(os.environ.get("AMODAL_DATA", ROOT.parent / "shared" / "data"))
"""Data that is not in the repository."""

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data; set AMODAL_DATA")


def _has_torchvision():
    if importlib.util.find_spec("torchvision") is None:
        return False
    from amodal_diffusion.conversion.detectron2 import torchvision_detection

    try:
        torchvision_detection()
    except ImportError:
        return False
    return True


HAS_TORCHVISION = _has_torchvision()
"""In a build for this torch."""

needs_torchvision = pytest.mark.skipif(not HAS_TORCHVISION, reason="needs torchvision, which is no dependency")
