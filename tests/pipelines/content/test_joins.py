"""Copies are joined: they meet the photo and one another, and take nothing of what lies beside what is copied."""

import numpy as np
import pytest
import torch

from amodal_diffusion import ContentPipeline
from amodal_diffusion.pipelines.content.exemplar import fill_hole
from amodal_diffusion.pipelines.content.joins import join_copies
from amodal_diffusion.pipelines.content.shifts import Level, Matches, Sheet


def grain(shape, seed=0, size=4):
    return np.random.default_rng(seed).integers(-size, size + 1, (*shape, 1))


def steps(picture, hole):
    """Mean difference of colours across the hole's border, and inside of the hole."""
    values, found = picture.astype(float), []
    for border in (True, False):
        chosen = []
        for axis in (0, 1):
            both = np.stack([np.delete(hole, -1, axis), np.delete(hole, 0, axis)])
            where = both[0] ^ both[1] if border else both.all(0)
            chosen.append(np.abs(np.diff(values, axis=axis)).mean(2)[where])
        found.append(np.concatenate(chosen).mean())
    return found


@pytest.mark.parametrize(
    "place", [(slice(30, 70), slice(40, 90)), (slice(60, 120), slice(40, 90)), (slice(50, 51), slice(9, 99))]
)
@pytest.mark.parametrize("filler", ["exemplar", "blend"])
def test_a_plain_surface_goes_on_without_a_seam(place, filler):
    """A wall in the light of a lamp, with some grain; the second hole is cut by the frame."""
    y, x = np.mgrid[:120, :160]
    wall = (120 - 0.5 * y[..., None] + 0.3 * x[..., None] + np.array([0, 20, 40]) + grain(y.shape)).astype(np.uint8)
    hole = np.zeros(wall.shape[:2], bool)
    hole[place] = True
    covered = np.where(hole[..., None], np.uint8([250, 0, 250]), wall)
    found = ContentPipeline(filler=filler).background(covered, hole, filler=filler)
    assert np.abs(found[hole].astype(int) - wall[hole]).mean() < 6
    border, inside = steps(found, hole)
    truth = steps(wall, hole)
    assert border < 1.6 * truth[0] and inside < 1.4 * truth[1]


@pytest.mark.parametrize("darker", [30, 60])
def test_copies_of_another_brightness_fit_at_the_border(darker):
    """The only place to copy from lies in the shade."""
    picture = (130 + grain((100, 200), size=8) + np.zeros(3)).astype(np.uint8)
    picture[:, 120:] -= np.uint8(darker)
    hole, usable = np.zeros((2, 100, 200), bool)
    hole[30:70, 30:70], usable[:, 125:] = True, True
    found = fill_hole(picture, hole, ~hole, usable, blend=False)
    assert np.abs(found[hole].mean() - 130) < 6
    border, inside = steps(found, hole)
    assert border < 1.3 * inside
    assert inside > 0.8 * steps(picture, hole)[1]


@pytest.mark.parametrize("frame", [False, True])
def test_without_anything_known_beside_the_hole_copies_keep_their_colours(frame):
    picture = (130 + grain((80, 160), size=8) + np.zeros(3)).astype(np.uint8)
    hole, known = np.zeros((2, 80, 160), bool)
    hole[30:50, 20:40], known[:, 100:] = True, True
    if frame:
        hole[:, :60] = True
    found = fill_hole(np.where(known[..., None], picture, np.uint8(0)), hole, known, known, blend=False)
    assert np.abs(found[hole].mean() - 130) < 8 and found[hole].min() > 100


def two_copies(height, width):
    """The left half from the left, where a white thing stands beyond what is copied; the right half from the right."""
    sheet = torch.full((3, height, 3 * width), 0.4)
    sheet[:, :, width // 2 :] = 0.95
    sheet[:, :, 2 * width :] = 0.5
    target = torch.zeros(height, width, dtype=torch.bool)
    target[:, 4:-4] = True
    usable = torch.ones(height, 3 * width, dtype=torch.bool)
    y, x = torch.arange(height)[:, None], torch.arange(width)
    index = y * 3 * width + torch.where(x < width // 2, x, 2 * width + x)
    image = torch.where(x < width // 2, 0.4, 0.5).expand(3, height, width).clone()
    places = Sheet.of_picture(np.zeros((height, 3 * width, 3), np.uint8), usable.numpy()).places
    return Level(image, ~target, target, sheet, usable, places), Matches(index, torch.ones_like(target))


@pytest.mark.parametrize("size", [(20, 24), (37, 51), (90, 70)])
def test_what_stands_beside_a_copy_does_not_enter_the_seam(size):
    """By the copy on the left, the next pixel after the seam is white: no dent in an even wall."""
    level, found = two_copies(*size)
    copied = level.sheet.flatten(1)[:, found.index.flatten()].view_as(level.image)
    joined = copied + join_copies(copied, found, level, torch.zeros_like(copied))
    assert 0.38 < joined.min() and joined.max() < 0.52
    assert joined.diff(dim=2).abs().max() < 0.02  # of 0.1, and of 0.55 to the white thing


def test_where_nothing_may_be_copied_beyond_either_copy_the_seam_is_even():
    level, found = two_copies(30, 40)
    level.usable[:, 20:100] = False
    copied = level.sheet.flatten(1)[:, found.index.flatten()].view_as(level.image)
    joined = copied + join_copies(copied, found, level, torch.zeros_like(copied))
    assert joined.diff(dim=2).abs().max() < 0.02


def test_different_things_stay_apart():
    """A black copy beside a white one: the border of two things, not a mist between them."""
    level, found = two_copies(30, 40)
    level.sheet[:, :, :20], level.sheet[:, :, 80:] = 0.1, 0.9
    level.image[:, :, :20], level.image[:, :, 20:] = 0.1, 0.9
    copied = level.sheet.flatten(1)[:, found.index.flatten()].view_as(level.image)
    added = join_copies(copied, found, level, torch.zeros_like(copied))
    assert added.abs().max() < 0.04


def test_nothing_is_added_where_nothing_is_copied():
    level, found = two_copies(30, 40)
    found.matched[:, :10] = False
    copied = level.sheet.flatten(1)[:, found.index.flatten()].view_as(level.image)
    added = join_copies(torch.where(found.matched, copied, level.image), found, level, torch.zeros_like(copied))
    assert not added[:, :, :10].any() and added[:, :, 10:].any() and bool(torch.isfinite(added).all())
    assert torch.equal(added, join_copies(torch.where(found.matched, copied, level.image), found, level, 0 * copied))


@pytest.mark.parametrize("holes", ["one pixel", "everything", "scattered"])
def test_holes_of_every_kind_are_filled(holes):
    picture = (130 + grain((70, 90), size=8) + np.zeros(3)).astype(np.uint8)
    hole = np.zeros((70, 90), bool)
    if holes == "one pixel":
        hole[69, 89] = True
    elif holes == "scattered":
        hole = np.random.default_rng(0).random((70, 90)) < 0.02
    else:
        hole[:] = True
    found = fill_hole(picture, hole, ~hole, ~hole, blend=False)
    assert np.array_equal(found[~hole], picture[~hole])
    assert found[hole].max() == 0 if holes == "everything" else np.abs(found[hole].astype(int) - 130).max() < 30


def test_copies_of_different_light_leave_no_line_where_they_meet():
    """A wall that is darker below, filled in blocks of several pixels: their seams are neither lit nor dark."""
    y, x = np.mgrid[:240, :320]
    wall = (180 - 0.5 * y[..., None] + grain(y.shape, size=2) + np.zeros(3)).astype(np.uint8)
    hole = np.zeros(wall.shape[:2], bool)
    hole[60:, 60:260] = True
    found = (
        ContentPipeline(filler="exemplar").background(np.where(hole[..., None], np.uint8(0), wall), hole).astype(int)
    )
    inner = (slice(70, None), slice(70, 250))
    bends = np.abs(2 * found[:, 1:-1] - found[:, 2:] - found[:, :-2]).max(-1)[inner]
    usual = np.abs(2 * wall[:, 1:-1].astype(int) - wall[:, 2:] - wall[:, :-2]).max(-1)[inner]
    assert np.quantile(bends, 0.999) <= 1.5 * np.quantile(usual, 0.999)


def test_what_the_photo_shows_beside_other_things_does_not_shine_into_the_hole():
    """A yellow line on asphalt ends at a hole, in which asphalt is copied."""
    road = (90 + grain((100, 140)) + np.zeros(3)).astype(np.uint8)
    hole = np.zeros((100, 140), bool)
    hole[30:70, 60:110] = True
    painted = road.copy()
    painted[30:70, 50:60] = (230, 160, 30)
    found = fill_hole(painted, hole, ~hole, ~hole & (np.arange(140) > 70), blend=False).astype(int)
    assert np.abs(found[30:70, 66:110, 0] - found[30:70, 66:110, 2]).mean() < 10
