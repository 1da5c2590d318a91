"""Figures of fills: against OpenCV, scikit-image and SciPy, by hand, at the edges."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from skimage.metrics import structural_similarity

from amodal_diffusion.metrics import FillMetrics, fill_gradient, fill_leak, fill_psnr, fill_ssim

FIGURES = (fill_psnr, fill_ssim, fill_gradient, lambda *args: fill_leak(*args, (10, 200, 30)))


def pictures(seed, hole=None):
    rng = np.random.default_rng(seed)
    truth, fill = (rng.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(2))
    if hole is None:
        hole = np.zeros((40, 50), bool)
        hole[5:30, 10:45] = rng.random((25, 35)) > 0.02
    return fill, truth, hole


HOLES = {
    "inside": None,
    "everything": np.ones((40, 50), bool),
    "corner": np.eye(40, 50, dtype=bool) | (np.arange(50) > 30),
}


@pytest.mark.parametrize("name", HOLES)
def test_equal_the_definitions(name):
    fill, truth, hole = pictures(0, HOLES[name])
    square = np.square(fill.astype(float) - truth)[hole].mean()
    assert fill_psnr(fill, truth, hole) == pytest.approx(10 * np.log10(255**2 / square))

    _, similarity = structural_similarity(truth, fill, win_size=7, channel_axis=2, data_range=255, full=True)
    assert fill_ssim(fill, truth, hole) == pytest.approx(similarity[hole].mean(), rel=1e-6)

    inside = cv2.erode(hole.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0

    def sobel(picture):
        grey = cv2.cvtColor(picture.astype(np.float32), cv2.COLOR_RGB2GRAY)
        slopes = [
            cv2.Sobel(grey, cv2.CV_64F, *axes, ksize=3, borderType=cv2.BORDER_REPLICATE) for axes in ((1, 0), (0, 1))
        ]
        return np.hypot(*slopes)[inside].mean()

    if inside.any():
        assert fill_gradient(fill, truth, hole) == pytest.approx(sobel(fill) / sobel(truth), rel=1e-5)
    else:
        assert np.isnan(fill_gradient(fill, truth, hole))

    if not hole.all():
        rim = hole & (distance_transform_edt(hole) <= 6)
        toward, error = np.array([10, 200, 30]) - truth[rim].astype(float), fill[rim].astype(float) - truth[rim]
        assert fill_leak(fill, truth, hole, (10, 200, 30)) == pytest.approx((toward * error).sum() / (toward**2).sum())


def test_leak_is_the_share_of_the_occluder():
    _, truth, hole = pictures(1)
    color = np.array([10.0, 200, 30])
    for share in (0, 0.25, 1):
        assert fill_leak(truth + share * (color - truth), truth, hole, color) == pytest.approx(share, abs=1e-9)


@pytest.mark.parametrize("figure", FIGURES)
def test_look_inside_the_hole_alone(figure):
    fill, truth, hole = pictures(2)
    reach = cv2.dilate(hole.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0  # of a window of SSIM
    changed = np.where(reach[..., None], fill, np.uint8(0))
    assert figure(changed, truth, hole) == figure(fill, truth, hole)


@pytest.mark.parametrize("figure", FIGURES)
def test_nothing_to_measure(figure):
    fill, truth, hole = pictures(3)
    assert np.isnan(figure(fill, truth, np.zeros_like(hole)))


def test_nothing_wrong():
    _, truth, hole = pictures(4)
    assert [figure(truth, truth, hole) for figure in FIGURES] == [pytest.approx(68.13, abs=0.01), 1, 1, 0]


def test_edges_of_the_definitions():
    fill, truth, hole = pictures(5)
    assert np.isnan(fill_gradient(fill, np.full_like(truth, 7), hole))  # nothing to compare with
    assert np.isnan(fill_leak(fill, truth, np.ones_like(hole), (0, 0, 0)))  # a hole without an edge
    assert np.isnan(fill_leak(fill, np.full_like(truth, 7), hole, (7, 7, 7)))


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize(
    "shapes", [((4, 4), (4, 4, 3), (4, 4)), ((4, 4, 3), (4, 5, 3), (4, 4)), ((4, 4, 3), (4, 4, 3), (4, 5))]
)
def test_wrong_shapes(figure, shapes):
    with pytest.raises(ValueError, match=r"`fill` and `truth` must have shape \(H, W, 3\)"):
        figure(*map(np.zeros, shapes))


def test_wrong_color():
    with pytest.raises(ValueError, match=r"`occluder_color` must have shape \(3,\), got \(4,\)"):
        fill_leak(*pictures(0), (1, 2, 3, 4))


def test_accumulates_means_over_holes():
    metrics, color = FillMetrics(), (10, 200, 30)
    assert all(np.isnan(value) for value in metrics.compute().values())
    holes = [pictures(seed) for seed in (6, 7)]
    for hole in holes:
        metrics.update(*hole, color)
    speck = np.zeros((40, 50), bool)
    speck[3, 3] = True  # no gradient can be taken there
    holes.append((*holes[0][:2], speck))
    metrics.update(*holes[-1])
    found = metrics.compute()
    assert found["psnr"] == pytest.approx(np.mean([fill_psnr(*hole) for hole in holes]))
    assert found["ssim"] == pytest.approx(np.mean([fill_ssim(*hole) for hole in holes]))
    assert found["gradient"] == pytest.approx(np.mean([fill_gradient(*hole) for hole in holes[:2]]))
    assert found["leak"] == pytest.approx(np.mean([fill_leak(*hole, color) for hole in holes[:2]]))
    squares = np.concatenate([np.square(fill[hole].astype(float) - truth[hole]).ravel() for fill, truth, hole in holes])
    assert found["psnr_pooled"] == pytest.approx(10 * np.log10(255**2 / squares.mean()))
