"""Distances on features of EfficientNet-lite0: Fréchet's by SciPy, what they tell apart, the edges."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from skimage import data, filters

from amodal_diffusion.metrics import LiteDistances, frechet_distance


@pytest.mark.parametrize("counts", [(50, 40), (6, 9), (50, 5)])
def test_frechet_distance(counts):
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(count, 8, generator=generator) * (1 + k) + k for k, count in enumerate(counts))
    (a, c), (b, d) = ((part.numpy().mean(0), np.cov(part.numpy(), rowvar=False)) for part in (first, second))
    expected = ((a - b) ** 2).sum() + np.trace(c + d - 2 * sqrtm(c @ d).real)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-3)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_at_the_edges():
    assert np.isnan(frechet_distance(torch.zeros(1, 3), torch.zeros(4, 3)))
    with pytest.raises(ValueError, match=r"must have shapes \(N, D\) and \(M, D\), got \(2, 3\) and \(2, 4\)"):
        frechet_distance(torch.zeros(2, 3), torch.zeros(2, 4))


@pytest.fixture(scope="module")
def distances():
    return LiteDistances()


def found(distances, change):
    distances.reset()
    photo = data.chelsea()
    for top, left in ((40, 60), (120, 200), (150, 90)):
        hole = np.zeros(photo.shape[:2], bool)
        hole[top : top + 70, left : left + 90] = True
        distances.update(change(photo), photo, hole)
    return distances.compute()


def test_a_blur_is_further_from_the_truth_than_a_shift(distances):
    same = found(distances, lambda photo: photo)
    blur = found(distances, lambda photo: 255 * filters.gaussian(photo, 6, channel_axis=2))
    shift = found(distances, lambda photo: np.roll(photo, 6, axis=(0, 1)))
    assert same["lite_lpips"] == 0 and same["lite_fid"] < 1e-6 and same["lite_texture"] < 1e-6
    assert blur["lite_lpips"] > shift["lite_lpips"] > 0.01
    assert blur["lite_texture"] > 3 * shift["lite_texture"] and blur["lite_fid"] > shift["lite_fid"] > 0


def test_nothing_counts_outside_of_the_hole(distances):
    def change(photo):
        changed = photo.copy()
        changed[:30] = 0
        return changed

    assert found(distances, change)["lite_lpips"] == 0


def test_edges(distances):
    distances.reset()
    distances.update(np.zeros((9, 9, 3)), np.zeros((9, 9, 3)), np.zeros((9, 9), bool))
    assert all(np.isnan(value) for value in distances.compute().values())
    with pytest.raises(ValueError, match=r"`fill` and `truth` must have shape \(H, W, 3\)"):
        distances.update(np.zeros((9, 9)), np.zeros((9, 9, 3)), np.zeros((9, 9), bool))
