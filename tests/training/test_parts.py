"""Parts of the scripts: reading data sets by flags, pictures."""

import pytest
import torch
from trainer.photo_sources import open_sources
from trainer.pictures import photo_grid

from photo_helpers import write_photos


def test_data_sets_without_photos_are_named(tmp_path):
    path = str(write_photos(tmp_path, images=1))
    with pytest.raises(ValueError, match=r"`--dataset` .*annotations.json has no photos; .* by `--images`"):
        open_sources([path], None, "skip")
    with pytest.raises(ValueError, match="`--validation_images` must name one folder for each of the 1 data sets"):
        open_sources([path], ["x", "y"], "skip", "--validation_dataset")


def test_pictures_show_truth_above_and_prediction_below():
    images = torch.zeros(2, 3, 8, 8)
    mask, target = torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    mask[:, :, 2:6, 2:4], target[:, :, 2:6, 2:6] = 1, 1
    picture = photo_grid(images, mask, target, torch.zeros(2, 1, 8, 8))
    assert picture.shape == (16, 16, 3)
    assert picture[4, 5, 0] > 150 > picture[4, 5, 2]  # orange
    assert (picture[12, 5] == 0).all()  # nothing predicted
    assert picture[4, 3].min() > 130  # visible
    assert (picture[12, 3] == picture[4, 3]).all()
