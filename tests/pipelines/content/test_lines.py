"""Straight edges go on across holes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from amodal_diffusion import ContentPipeline
from amodal_diffusion.pipelines.content import sources
from amodal_diffusion.pipelines.content.exemplar import fill_hole
from amodal_diffusion.pipelines.content.inputs import read_content_scene
from amodal_diffusion.pipelines.content.lines import WIDTH, Line, draw_lines, find_lines, photo_lines
from amodal_diffusion.pipelines.content.shifts import Level
from amodal_diffusion.pipelines.content.sources import object_hole

DARK, LIGHT = np.array([0.2, 0.3, 0.4]), np.array([0.7, 0.6, 0.5])


def two_sides(angle, height=90, width=120, noise=0.02):
    """(3, h, w): dark and light on both sides of an edge through the middle, and the distance of each pixel from it."""
    rows, columns = np.mgrid[:height, :width]
    away = (columns - width / 2) * np.cos(angle) + (rows - height / 2) * np.sin(angle)
    share = (away + 0.5).clip(0, 1)[..., None]
    image = (1 - share) * DARK + share * LIGHT
    image += np.random.default_rng(0).normal(0, noise, (height, width, 1))
    return image.transpose(2, 0, 1).astype(np.float32), away


def middle(height=90, width=120, side=30):
    target = np.zeros((height, width), bool)
    target[height // 2 - side // 2 : height // 2 + side // 2, width // 2 - side // 2 : width // 2 + side // 2] = True
    return target


def closed(lines):
    """Those that are seen on both sides of the hole."""
    return [line for line in lines if not line.open]


def off(line, away):
    """The largest distance of an end of a line from the edge, in pixels."""
    return max(abs(away[round(y), round(x)]) for y, x in (line.start, line.stop))


@pytest.mark.parametrize("degrees", range(0, 360, 33))
def test_an_edge_goes_on_in_any_direction(degrees):
    image, away = two_sides(np.radians(degrees))
    target = middle()
    [line] = find_lines(image, ~target, target)
    assert off(line, away) <= 1.5 and 28 <= line.length <= 46
    profile = line.profiles.mean(0)
    assert np.abs(profile[0] - DARK).max() < 0.05 and np.abs(profile[-1] - LIGHT).max() < 0.05


def test_noise_has_no_lines():
    target = middle()
    for seed in range(5):
        image = np.random.default_rng(seed).random((3, 90, 120)).astype(np.float32)
        assert not find_lines(image, ~target, target)
    assert not find_lines(np.zeros((3, 90, 120), np.float32), ~target, target)
    assert not find_lines(image, target & ~target, target)


def test_an_edge_that_ends_or_turns_at_the_hole_does_not_go_on():
    image, away = two_sides(np.pi / 2, noise=0.0)
    target = middle()
    image[:, :, 60:] = DARK[:, None, None]  # nothing on the right
    assert not closed(find_lines(image, ~target, target))
    image, _ = two_sides(np.pi / 2, noise=0.0)
    image[:, :, 60:] = image[:, ::-1, 60:]  # light above, there
    assert not closed(find_lines(image, ~target, target))


@pytest.mark.parametrize("degrees", [60, 90, 120, 240, 270, 300])
@pytest.mark.parametrize("mirrored", [False, True])
def test_an_edge_that_is_seen_on_one_side_goes_on_as_an_open_line(degrees, mirrored):
    """It starts at the hole, keeps its light side, and its colours fade where it goes on."""
    image, away = two_sides(np.radians(degrees), noise=0.005)
    target = middle(side=40)
    image[:, :, 62:] = (DARK[:, None, None] + LIGHT[:, None, None]) / 2  # nothing on the right
    if mirrored:
        image, away = np.ascontiguousarray(image[:, :, ::-1]), away[:, ::-1]
    [line] = find_lines(image, ~target, target)
    assert line.open and off(line, away) <= 1 and line.length <= 2 * 16
    assert abs(abs(line.start[1] - 59.5) - 20) <= 1.5 and abs(line.stop[1] - 59.5) < 20
    colours, shares = draw_lines([line], target)
    for side, color in ((-4, DARK), (4, LIGHT)):
        there = (shares > 0) & (np.abs(away - side) < 1)
        assert np.abs(colours[:, there] - color[:, None]).max() < 0.1
    along = np.hypot(*(np.nonzero(shares) - np.array(line.start)[:, None]))
    assert np.corrcoef(along, shares[shares > 0])[0, 1] < -0.8 and shares.max() <= 1


def test_different_edges_on_both_sides_go_on_to_the_middle():
    image, away = two_sides(np.pi / 2, noise=0.0)
    image[:, 45:, :60] = np.array([0.8, 0.1, 0.1])[:, None, None]
    image[:, 45:, 60:] = np.array([0.1, 0.1, 0.9])[:, None, None]
    target = np.zeros((90, 120), bool)
    target[:, 45:75] = True
    lines = find_lines(image, ~target, target)
    assert len(lines) == 2 and all(line.open and line.length <= 15 and off(line, away) <= 1.5 for line in lines)
    assert sorted(round(line.start[1]) for line in lines) == [45, 74]


def test_an_edge_that_hides_its_own_side_does_not_go_on():
    """The hole runs along it, so that nobody knows the colour of that side."""
    image, _ = two_sides(np.pi / 2, noise=0.0)
    target = np.zeros((90, 120), bool)
    target[47:60, 20:60] = target[20:80, 60:100] = True
    image[:, :, 90:] = 0.5
    assert all(line.strength < 1 for line in find_lines(image, ~target, target))


@pytest.mark.parametrize("amid", [False, True])
def test_the_edge_of_a_thing_goes_on_amid_things_alone(amid):
    """A table top from the left that ends behind the hole."""
    photo = np.full((120, 160, 3), 90, np.uint8)
    photo[50:60, :60] = 200
    photo += np.random.default_rng(0).integers(0, 4, photo.shape, np.uint8)
    hole, things = np.zeros((2, 120, 160), bool)
    hole[30:80, 50:110] = True
    things[45:65, :50] = True
    if amid:
        things[:] = True
    [turn] = sources.background_holes(photo, [hole], None, None, 0, things)
    assert bool(turn.lines) == amid and all(line.open for line in turn.lines)
    [turn] = sources.background_holes(photo, [hole], None, None, 0)  # nobody knows what is a thing
    assert not turn.lines


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("shown", ["ground", "thing", "nobody knows"])
def test_the_edge_of_a_thing_does_not_go_on_to_the_frame(left, shown):
    """What is held into the photo is removed, and the rim of what was held is level where it was held."""
    photo = np.full((100, 160, 3), 60, np.uint8)
    photo[50:] = 180
    hole, things = np.zeros((2, 100, 160), bool)
    hole[20:90, 105:], things[50:60, :105] = True, shown == "thing"
    if left:
        photo, hole, things = (plane[:, ::-1].copy() for plane in (photo, hole, things))
    [turn] = sources.background_holes(photo, [hole], None, None, 0, None if shown == "nobody knows" else things)
    assert len(turn.lines) == (shown != "thing")
    for line in turn.lines:
        assert line.framed and not line.open and line.start[1] == pytest.approx(54 if left else 105, abs=2)
        dark, light = line.profiles[:, [0, -1], 0].mean(0) if left else line.profiles[:, [-1, 0], 0].mean(0)
        assert dark == pytest.approx(60 / 255, abs=0.02) and light == pytest.approx(180 / 255, abs=0.02)


@pytest.mark.parametrize(("degrees", "found"), [(90, 1), (80, 1), (40, 0), (0, 0)])
def test_where_a_hole_goes_on_to_the_frame_level_edges_do(degrees, found):
    image, away = two_sides(np.radians(degrees))
    target = np.zeros((90, 120), bool)
    target[25:, 70:] = True
    if degrees < 80:  # it would come out of the lower frame
        target[:] = False
        target[50:, :110] = True
    lines = closed(find_lines(image, ~target, target))
    assert len(lines) == found
    assert all(off(line, away) <= 3 for line in lines)


def test_an_edge_goes_on_behind_each_of_two_things():
    image, away = two_sides(np.radians(80))
    target = np.roll(middle(side=16), -35, axis=1) | np.roll(middle(side=16), 35, axis=1)
    lines = closed(find_lines(image, ~target, target))
    assert len(lines) == 2 and max(off(line, away) for line in lines) <= 1.5


@pytest.mark.parametrize("scale", [1, 3])
def test_lines_of_a_large_photo_are_in_its_pixels(scale):
    image, away = two_sides(np.radians(70), 240 * scale, 320 * scale)
    photo = (255 * image.transpose(1, 2, 0)).clip(0, 255).astype(np.uint8)
    target = middle(240 * scale, 320 * scale, 80 * scale)
    [line] = photo_lines(photo, ~target, target)
    assert off(line, away) <= 1.5 * scale + 1 and line.unit > scale
    seen, (y, x) = line.moved(-10, 4).scaled(0.5), line.start
    assert np.allclose(seen.start, ((y - 10 + 0.5) / 2 - 0.5, (x + 4 + 0.5) / 2 - 0.5)) and seen.unit == line.unit / 2


def test_colours_along_a_line_change_from_one_end_to_the_other():
    profiles = np.zeros((2, 2 * WIDTH + 1, 3), np.float32)
    profiles[1] = 1
    colours, drawn = draw_lines([Line((20.0, 0.0), (20.0, 40.0), 1.0, profiles)], np.ones((41, 41), bool))
    assert drawn.sum() == (2 * WIDTH + 1) * 41 and np.allclose(colours[0, 20], np.linspace(0, 1, 41), atol=1e-5)
    target = torch.zeros(41, 41, dtype=torch.bool)
    level = Level(torch.zeros(3, 41, 41), ~target, target, torch.zeros(3, 41, 41), ~target, torch.zeros(41, 41, 2))
    assert level.with_lines([]) is level
    assert level.with_lines([Line((20.0, 0.0), (20.0, 40.0), 1.0, profiles)]) is level  # it does not cross the hole


def hall(seed=0):
    """A wall with a frieze that falls a little to the right, and two people before it, one with a bag."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:180, :260]
    below = rows - 90 - 0.08 * (columns - 130)
    picture = np.where(
        below[..., None] < 0, (150, 140, 130), np.where(below[..., None] < 14, (60, 40, 90), (200, 200, 190))
    )
    picture = (picture + rng.integers(-6, 7, (180, 260, 1))).astype(np.uint8)
    places = np.zeros((3, 180, 260), bool)
    places[0, 40:, 70:120] = places[1, 50:, 120:160] = places[2, 80:110, 130:150] = True
    places[1] &= ~places[2]
    return picture, places, np.abs(below - 7) < 14


def test_a_frieze_goes_on_behind_two_people(monkeypatch):
    picture, places, frieze = hall()
    covered = np.where(places.any(0)[..., None], np.uint8([250, 0, 250]), picture)
    pipe = ContentPipeline(filler="exemplar")

    def error():
        wrong = np.abs(pipe.background(covered, places).astype(int) - picture).mean(-1)
        return wrong[places.any(0) & frieze].mean()

    with_lines = error()
    monkeypatch.setattr(sources, "photo_lines", lambda *_, through=False: [])
    assert with_lines < 8 and with_lines < 0.9 * error()


def test_what_is_held_before_a_larger_place_is_filled_with_it():
    picture, places, _ = hall()
    turns = list(sources.background_holes(picture, places, None, None, margin=0))
    assert [int(turn.hole.sum()) for turn in turns] == [int(places[0].sum()), int(places[1:].any(0).sum())]


def test_a_smooth_filling_has_the_edge_too():
    image, away = two_sides(np.pi / 2, noise=0.0)
    photo = (255 * image.transpose(1, 2, 0)).astype(np.uint8)
    hole = middle()
    covered = np.where(hole[..., None], np.uint8(0), photo)
    found = fill_hole(covered, hole, ~hole, hole & ~hole, lines=photo_lines(covered, ~hole, hole))
    without = fill_hole(covered, hole, ~hole, hole & ~hole)
    wrong = [np.abs(filled.astype(int) - photo)[hole].mean() for filled in (found, without)]
    assert wrong[0] < 6 and wrong[0] < 0.5 * wrong[1]


def slats(height=120, width=200, slope=0.06):
    """A slanted board of dark and light slats, (H, W, 3) uint8, and its whole mask."""
    rows, columns = np.mgrid[:height, :width]
    across = rows + slope * columns
    photo = np.where((across % 12 < 4)[..., None], (30, 20, 25), (140, 60, 70)).astype(np.uint8)
    board = (across > 36) & (across < 96)
    photo[~board] = (90, 140, 90)
    return photo, board


def hidden_board(photo, board, bar):
    """The hole of a board behind a bar, bool (H, W), that is white."""
    seen = np.where(bar[..., None], 255, photo).astype(np.uint8)
    masks = np.stack([board & ~bar, bar])
    scene = read_content_scene(seen, masks, np.stack([board, bar]), order=[[0, -1], [1, 0]])
    return object_hole(scene, 0, margin=1)


def test_edges_of_an_object_go_on_behind_what_hides_it():
    photo, board = slats()
    bar = np.zeros_like(board)
    bar[:, 80:120] = True
    hole = hidden_board(photo, board, bar)
    assert len(hole.lines) >= 3 and not any(line.open or line.framed for line in hole.lines)
    truth, wanted = photo[hole.window], hole.hole
    error = np.abs(hole.fill("blend").astype(int) - truth)[wanted].mean()
    without = np.abs(replace(hole, lines=[]).fill("blend").astype(int) - truth)[wanted].mean()
    assert error < 0.7 * without


def test_edges_that_an_object_shows_on_one_side_alone_end_there():
    photo, board = slats()
    bar = np.zeros_like(board)
    bar[:, 120:] = True
    assert not hidden_board(photo, board, bar).lines


def test_a_single_edge_of_an_object_may_be_a_fold():
    photo, board = slats(slope=0)
    photo[board] = (140, 60, 70)
    photo[60:96][board[60:96]] = (30, 20, 25)
    bar = np.zeros_like(board)
    bar[:, 80:120] = True
    assert len(photo_lines(photo, board & ~bar, board & bar, through=True)) == 1
    assert not hidden_board(photo, board, bar).lines


def test_edges_of_other_objects_do_not_go_on_in_this_one():
    photo, board = slats()
    photo[board] = (140, 60, 70)  # without slats, so that its outline is all that is straight
    bar = np.zeros_like(board)
    bar[40:90, 80:120] = True
    hole = hidden_board(photo, board, bar)
    assert all(board[hole.window][round(y), round(x)] for line in hole.lines for y, x in (line.start, line.stop))
