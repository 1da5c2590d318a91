"""The photos with masks to begin with."""

import sys

import numpy as np
import pytest

from amodal_diffusion.io import EXAMPLES, load_example


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_has_a_photo_and_disjoint_masks(name):
    example = load_example(name)
    assert example.image.mode == "RGB"
    assert example.masks.dtype == bool and example.masks.shape[1:] == example.image.size[::-1]
    assert len(example.names) == len(example.masks) and all(example.names)
    assert example.masks.any(axis=(1, 2)).all() and example.masks.sum(axis=0).max() == 1


def test_another_name_is_told_what_there_is():
    with pytest.raises(ValueError, match=r"`name` must be one of 'coffee', 'astronaut', got 'tea'"):
        load_example("tea")


def test_without_scikit_image_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(ImportError, match=r"pip install 'amodal-diffusion\[demo\]'"):
        load_example("coffee")


def test_examples_do_not_share_memory():
    first = load_example("coffee")
    first.masks[:] = False
    assert load_example("coffee").masks.any() and not np.shares_memory(first.masks, load_example().masks)
