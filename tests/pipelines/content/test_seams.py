"""The correction at seams: pyramid, fade, what is trusted."""

import pytest
import torch

from amodal_diffusion.models.pull_push import pull_push
from amodal_diffusion.pipelines.content.seams import continue_photo, match_seam, nearness, trusted_rim


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (8, 8), (13, 21)])
def test_a_few_values_of_one_colour_fill_everything(size):
    values = torch.randn(2, 3, *size)
    weights = torch.zeros(2, 1, *size)
    weights[:, :, -1, -1] = 1
    values[:, :, -1, -1] = torch.tensor([0.25, -0.5, 1.0])
    filled = pull_push(values, weights)
    torch.testing.assert_close(filled, torch.tensor([0.25, -0.5, 1.0]).view(1, 3, 1, 1).expand(2, 3, *size))


def test_trusted_values_stay_and_the_rest_lies_between():
    weights = torch.zeros(1, 1, 16, 16)
    weights[..., 0], weights[..., -1] = 1, 1
    values = torch.zeros(1, 1, 16, 16)
    values[..., -1] = 1
    filled = pull_push(values, weights)
    assert torch.equal(filled[..., 0], values[..., 0]) and torch.equal(filled[..., -1], values[..., -1])
    middle = filled[0, 0, 8]
    assert (middle >= 0).all() and (middle <= 1).all()
    assert (middle.diff() > -1e-6).all() and middle[4] < 0.4 and middle[11] > 0.6


def test_without_weights_nothing_is_known():
    assert not pull_push(torch.randn(1, 3, 9, 5), torch.zeros(1, 1, 9, 5)).any()


def test_pictures_of_a_batch_do_not_mix():
    values, weights = torch.randn(2, 3, 12, 12), (torch.rand(2, 1, 12, 12) < 0.2).float()
    torch.testing.assert_close(pull_push(values, weights)[1:], pull_push(values[1:], weights[1:]))


def test_nearness_falls_to_nothing():
    mask = torch.zeros(1, 1, 5, 12, dtype=torch.bool)
    mask[..., :2] = True
    near = nearness(mask, 4)[0, 0, 2]
    assert (near[:2] == 1).all() and (near[2:6].diff() < 0).all() and (near[6:] == 0).all() and near[5] > 0
    assert torch.equal(nearness(mask, 0), mask.float())


def test_nearness_over_long_ways_is_as_smooth():
    mask = torch.zeros(1, 1, 3, 150, dtype=torch.bool)
    mask[..., 0] = True
    near = nearness(mask, 100)[0, 0, 1]
    assert near[0] == 1 and near[96] > 0 and (near[101:] == 0).all()
    assert (near.diff() <= 0).all() and near.diff().abs().max() < 0.06


def test_a_cast_is_taken_off_at_the_seam_and_kept_far_away():
    photo = torch.full((1, 3, 32, 32), 0.5)
    painted = torch.full((1, 3, 32, 32), 0.7)
    known = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    known[..., :12] = True
    rim = known.clone()
    rim[..., :8] = False
    matched = match_seam(painted, photo, trusted_rim(rim, ~known, 4), known, 8)
    torch.testing.assert_close(matched[..., :12], photo[..., :12])
    assert 0.5 < matched[0, 0, 16, 12] < 0.53  # the first hidden pixel
    torch.testing.assert_close(matched[..., 20:], painted[..., 20:])
    torch.testing.assert_close(match_seam(painted, photo, rim.float(), known, 0), painted)


def test_the_answer_stays_a_colour():
    ones = torch.ones(1, 1, 4, 4)
    matched = match_seam(torch.full((1, 3, 4, 4), 1.5), torch.full((1, 3, 4, 4), 3.0), ones, ones > 0, 2)
    assert (matched == 1).all()
    assert (match_seam(torch.full((1, 3, 4, 4), -1.0), ones.expand(1, 3, 4, 4), ones, ones > 0, 0) == 0).all()


@pytest.mark.parametrize(("width", "little"), [(0, 0), (1, 1), (4, 2), (5, 3)])
def test_pixels_beside_the_core_count_little(width, little):
    core = torch.zeros(1, 1, 6, 6, dtype=torch.bool)
    core[..., 0] = True
    weights = trusted_rim(~core, core, width)[0, 0, 3]
    torch.testing.assert_close(weights, torch.tensor([0.0, *[1e-3] * little, *[1.0] * (5 - little)]))


def test_painting_meets_the_photo_at_its_own_resolution():
    """A cast that changes over the picture disappears; detail of the painting stays; what is far is not looked at."""
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    photo = (0.3 + 0.005 * columns).expand(3, 40, 40).clone()
    detail = 0.05 * torch.sin(rows * 1.3)
    painted = photo + 0.1 + 0.004 * rows + detail
    hole = torch.zeros(40, 40, dtype=torch.bool)
    hole[12:28, 12:28] = True
    photo[:, hole] = 0  # nobody knows it
    found = continue_photo(painted, photo, (~hole).float())
    truth = 0.3 + 0.005 * columns + detail
    assert (painted[0] - truth)[hole].abs().mean() > 0.15
    assert (found[0] - truth)[hole].abs().mean() < 0.03
    torch.testing.assert_close(found[:, ~hole], photo[:, ~hole], atol=1e-5, rtol=0)
    assert torch.equal(continue_photo(painted, photo, torch.zeros(40, 40)), painted.clamp(0, 1))
