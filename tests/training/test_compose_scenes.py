"""`training/compose_scenes.py`: scenes with true whole masks from modal masks alone, as a data set; refused flags."""

import importlib

import numpy as np
import pytest

from amodal_diffusion.data import read_annotations, record_masks
from amodal_diffusion.data.synthesis import compose_scene
from amodal_diffusion.ordering import order_from_masks
from photo_helpers import write_photos


@pytest.fixture(scope="module")
def script():
    return importlib.import_module("compose_scenes")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), images=6, amodal=False)


def test_leaves_a_data_set_that_follows_from_the_seed(script, photos, tmp_path):
    rows = []
    for name, seed in (("one", "3"), ("again", "3"), ("other", "4")):
        given = ["--dataset", str(photos), "--scenes", "9", "--min_area", "40", "--seed", seed]
        script.main([*given, "--output", str(tmp_path / name)])
        rows.append(list(read_annotations(str(tmp_path / name))))
    assert rows[0] == rows[1] != rows[2] and 1 < len(rows[0]) <= 9
    assert all(row["source"] == "composed" and len(row["objects"]) >= 2 for row in rows[0])
    related = 0
    for row in rows[0]:
        modal, amodal = record_masks(row)
        assert not (modal & ~amodal).any() and modal.sum(0).max() == 1
        related += int((order_from_masks(modal, amodal) == 1).sum())
    assert related > 0


def test_a_data_set_that_is_there_stays(script, photos, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(FileExistsError, match="exists; choose another `--output`"):
        script.main(["--dataset", str(photos), "--output", str(tmp_path), "--scenes", "2"])


def test_objects_lie_on_each_other_as_a_stack():
    own = np.zeros((2, 80, 100), bool)
    own[0, 30:60, 10:90], own[1, 40:50, 40:60] = True, True
    for seed in range(20):
        modal, amodal = compose_scene(np.random.default_rng(seed), own, [np.ones((10, 12), bool)])
        order = order_from_masks(modal, amodal)
        left = list(range(len(modal)))
        while left:  # of what is left one is in front of all else
            front = [index for index in left if not (order[left, index] == 1).any()]
            assert front, "a ring"
            left = [index for index in left if index not in front]
        big, small = (
            [i for i in range(len(amodal)) if (modal[i] <= mask).all()] for mask in (own[0] & ~own[1], own[1])
        )
        assert all(order[j, i] != 1 for i in small for j in big if j not in small), "the smaller one is in front"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--validation_fraction", "0.1", "0.2"], "`--validation_fraction` must have one share for each of the 1 data"),
        (["--validation_fraction", "1.5"], r"`--validation_fraction` must lie in \[0, 1\), got 1.5"),
        (["--validation_fraction", "-0.1"], r"`--validation_fraction` must lie in \[0, 1\), got -0.1"),
        (["--validation_fraction", "nan"], "`--validation_fraction` must be finite, got nan"),
        (["--seed", "-1"], "`--seed` must not be negative, got -1"),
        (["--scenes", "0"], "`--scenes` must be at least 1, got 0"),
        (["--min_area", "100000"], "`--dataset` has no photo with 2 to 14 masks of 100000 pixels"),
    ],
)
def test_refused_flags(script, flags, message, photos, tmp_path):
    with pytest.raises(ValueError, match=message):
        script.main(["--dataset", str(photos), "--output", str(tmp_path / "out"), *flags])
