"""A photo and masks for pictures."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photo():
    gradient = np.linspace(60, 200, 90, dtype=np.uint8)
    return Image.fromarray(np.stack([np.tile(gradient, (60, 1))] * 3, axis=2))


@pytest.fixture
def masks():
    """A square in front of another: modal and amodal masks (2, 60, 90)."""
    amodal = np.zeros((2, 60, 90), bool)
    amodal[0, 10:40, 10:45] = True
    amodal[1, 20:50, 30:80] = True
    modal = amodal.copy()
    modal[1] &= ~amodal[0]
    return modal, amodal
