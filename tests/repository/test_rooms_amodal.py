"""The data set that is shipped: what it promises, and that its masks, order and hidden colours belong together."""

import json

import numpy as np
import pytest

from amodal_diffusion.data import load_amodal_dataset, record_depths, record_masks, record_order
from amodal_diffusion.data.rooms import read_colors, record_occlusions
from repository_helpers import ROOT

FOLDER = ROOT / "datasets" / "rooms-amodal"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return load_amodal_dataset(FOLDER, "test", cache_dir=tmp_path_factory.mktemp("cache"))


def test_it_is_what_the_card_says(rows):
    assert len(rows) == 60
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 16 * 2**20
    manifest = json.loads((FOLDER / "rooms.json").read_text(encoding="utf-8"))
    for key in manifest["items"]:
        library, number = key.split("/")
        assert library == "BlendSwap-CC-0"  # in the public domain
        assert int(number) % 7 == 0  # for testing only
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "license: cc0-1.0" in card
    assert (FOLDER / "pictures.jpg").is_file()


def test_masks_order_and_colours_belong_together(rows):
    mutual, differences = 0, []
    for row in rows:
        modal, amodal = record_masks(row)
        assert modal.shape[1:] == row["image"].size[::-1]
        assert not (modal & ~amodal).any()
        assert (modal.sum(axis=0) <= 1).all()
        over, order = record_occlusions(row), record_order(row)
        mutual += int((over & over.T).sum()) // 2
        assert (order == over.astype(int) - over.T.astype(int)).all()
        # Where an object is seen and another one lies under it, it is in front of that one.
        hides = (modal[:, None] & amodal[None]).sum(axis=(2, 3)) - np.diag(modal.sum(axis=(1, 2)))
        assert over[hides > 0].all()
        colors = read_colors(FOLDER, "test", row["image_id"])
        assert colors.depth.shape == modal.shape[1:]
        photo = np.asarray(row["image"]).astype(float)
        for index in colors.objects:
            whole = colors.paint(index, *modal.shape[1:])
            assert ((whole[..., 3] > 0) == amodal[index]).all()
            if modal[index].sum() > 500:
                differences.append(np.abs(whole[modal[index], :3] - photo[modal[index]]).mean())
    assert mutual >= 10
    # Of 255: the photo has the lens, the noise and the JPEG besides, which most changes the leaves of plants.
    assert np.median(differences) < 7
    assert np.quantile(differences, 0.9) < 20


def test_depths_of_objects_are_those_of_the_picture(rows):
    checked = 0
    for row in rows:
        modal, amodal = record_masks(row)
        nearest, farthest = record_depths(row).T[[0, -1]]
        assert (nearest <= farthest).all() and (nearest > 0).all()
        depth = read_colors(FOLDER, "test", row["image_id"]).depth
        for index, mask in enumerate(modal):
            seen = depth[mask]
            assert seen.min() >= nearest[index] - 2e-3 and seen.max() <= farthest[index] + 2e-3
            if (modal[index] == amodal[index]).all():
                assert abs(seen.min() - nearest[index]) < 2e-3 and abs(seen.max() - farthest[index]) < 2e-3
                checked += 1
    assert checked > 300
