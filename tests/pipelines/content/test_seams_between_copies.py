"""Seams between copies: short, curved, no sharper than what is near them; and no outline is left beside a hole."""

import numpy as np
import pytest
import torch

from amodal_diffusion import ContentPipeline
from amodal_diffusion.masks import dilate
from amodal_diffusion.pipelines.content.exemplar import _Copies
from amodal_diffusion.pipelines.content.joins import soften_seams
from amodal_diffusion.pipelines.content.seams import erase_outline
from amodal_diffusion.pipelines.content.shifts import _AROUND, _CUTS, Level, Matches, Sheet, _move_seams


def two_copies(picture, seam):
    """The right half of a picture (3, h, w) is a hole, covered by a copy of what lies 30 and one of 40 pixels away."""
    _, height, width = picture.shape
    known = (torch.arange(width) < width // 2).expand(height, width)
    level = Level(picture, known, ~known, picture, known, torch.zeros(height, width, 2))
    shifts = torch.where(seam, width // 2, width // 2 - 10)
    return level, Matches((torch.arange(height * width).view(height, width) - shifts).clamp(min=0), ~known)


def steepest(picture, rows, columns):
    return float(picture[:, rows, columns].diff(dim=2).square().sum(0).sqrt().max())


@pytest.mark.parametrize("width", [3, 6])
def test_a_seam_is_about_as_soft_as_the_edges_near_it(width):
    """A dark and a light copy meet; beside them is an edge that is so many pixels wide."""
    picture = torch.full((3, 60, 120), 0.8)
    picture[:, :, 90:] = 0.2
    away = (torch.arange(120) - (86 - width)).abs()
    picture[:, :, :90] = (0.2 + 0.6 * away / width).clamp(max=0.8)[:90]
    level, found = two_copies(picture, (torch.arange(120) >= 90).expand(60, 120))
    added = soften_seams(picture, found, level)
    slope = 0.6 * 3**0.5 / width
    soft = steepest(picture + added, slice(0, 60), slice(88, 94))
    assert 0.5 * slope < soft < 1.5 * slope
    assert torch.allclose(added, added[:, :1], atol=1e-5)  # as soft at the frame as elsewhere
    assert not added[:, :, :60].any() and float(added[:, :, 112:].abs().max()) < 0.02


def test_a_seam_in_texture_stays_as_it_is():
    picture = torch.rand(3, 60, 120, generator=torch.Generator().manual_seed(0))
    level, found = two_copies(picture, (torch.arange(120) >= 90).expand(60, 120))
    assert not soften_seams(picture, found, level).any()


def test_without_seams_nothing_is_softened():
    picture = torch.full((3, 60, 120), 0.5)
    level, found = two_copies(picture, torch.ones(60, 120, dtype=torch.bool))
    assert not soften_seams(picture, found, level).any()


@pytest.mark.parametrize("scale", [4, 8])
@pytest.mark.parametrize("slope", [1, 2])
def test_the_seam_of_blocks_is_a_curve_in_pixels(scale, slope):
    """Black and white copies whose seam goes down in steps of one block by one or two."""
    rows, columns = np.mgrid[:24, :48]
    white = columns > 12 + rows // slope
    pixels = np.zeros((24 * scale, 48 * scale, 3), np.uint8)
    pixels[:, 24 * scale :] = 255
    sheet = Sheet.of_picture(pixels, np.ones(pixels.shape[:2], bool), scale)
    index = rows * 48 + np.where(white, 40, 8)
    found = Matches(torch.from_numpy(index), torch.ones(24, 48, dtype=torch.bool))
    whole, nothing = torch.ones(24, 48, dtype=torch.bool), torch.zeros(3, 24, 48)
    copies = _Copies(found, sheet, nothing, whole, nothing, None)
    # So that each block has a shift of its own but for those beside it, the copies are of one column.
    colours = np.zeros((3, *pixels.shape[:2]), np.float32)
    copies.shifts = np.where(white, 1, 0)
    copies.around = np.pad(copies.shifts, 1, mode="edge")
    copies.even = np.zeros((25, 49), bool)
    copies.add_to(colours, (slice(0, 24), slice(0, 48)), np.ones(pixels.shape[:2], bool))
    inner = slice(4 * scale, -4 * scale)
    place = (colours[0, inner] < 128).sum(axis=1) - (np.arange(24 * scale)[inner] + 0.5) / slope  # of the seam
    assert np.ptp(place) <= 0.4 * scale + 1  # as blocks it is nearly 1


def test_seams_between_copies_that_are_alike_get_shorter():
    grey = torch.full((3, 40, 120), 0.5)
    zigzag = torch.arange(120) >= (88 + 3 * (torch.arange(40)[:, None] // 2 % 2))
    level, _ = two_copies(grey, zigzag)
    near = level.target
    y, x = near.nonzero(as_tuple=True)
    shifts = torch.stack([torch.zeros_like(x), torch.where(zigzag[y, x], -60, -50)], 1)

    def length(shifts):
        label = np.zeros((42, 122))
        label[y + 1, x + 1] = shifts[:, 1]
        inner = (slice(1, -1), slice(62, -1))
        return sum(
            cut * np.count_nonzero(label[inner] != np.roll(label, (-dy, -dx), (0, 1))[inner])
            for (dy, dx), cut in zip(_AROUND, _CUTS, strict=True)
        )

    assert length(_move_seams(level, near, shifts)) < 0.9 * length(shifts)


def test_unusable_copies_take_no_part_in_a_seam():
    """Of blocks that all differ the one of the pixel itself must not be copied."""
    scale = 16
    pixels = np.full((3 * scale, 9 * scale, 3), 200, np.uint8)
    pixels[scale : 2 * scale, scale : 2 * scale] = 0
    usable = pixels[..., 0] > 0
    index = torch.tensor([[12, 14, 16], [13, 10, 15], [15, 13, 14]])
    copies = _Copies(
        Matches(index, torch.ones(3, 3, dtype=torch.bool)), Sheet.of_picture(pixels, usable, scale),
        torch.zeros(3, 3, 3), torch.arange(27).view(3, 9) != 10, torch.zeros(3, 3, 3), None,
    )  # fmt: skip
    y, x = (side.ravel() for side in np.mgrid[scale : 2 * scale, scale : 2 * scale])
    assert copies._mixed(y, x).min() > 199


def wall(line, away=1, thickness=1, seed=0):
    """A wall with a dark thing that leans, a line around it, and its mask."""
    rows, columns = np.mgrid[:120, :160]
    mask = np.abs(columns - 70 - rows // 4) + np.abs(rows - 60) // 3 < 30
    photo = np.full((120, 160, 3), 140, np.uint8)
    photo += np.random.default_rng(seed).integers(0, 6, photo.shape, np.uint8)
    outer, inner = (dilate(mask, kernel="square", size=2 * reach + 1) for reach in (away + thickness - 1, away - 1))
    photo[outer & ~inner] = line
    photo[mask] = 20
    return photo, mask


@pytest.mark.parametrize("filler", ["exemplar", "smooth", "auto"])
@pytest.mark.parametrize("line", [60, 240])
@pytest.mark.parametrize("away", [1, 2])
def test_no_outline_is_left_beside_a_hole(filler, line, away):
    photo, mask = wall(line, away)
    rim = dilate(mask, kernel="square", size=5) & ~mask
    found = ContentPipeline(filler=filler).background(photo, mask)
    assert (np.abs(found[rim].astype(int) - 142).max(axis=1) > 20).mean() < 0.03
    kept = ContentPipeline(filler=filler, source_margin=0).background(photo, mask)
    assert np.array_equal(kept[~mask], photo[~mask])


def test_an_outline_in_pieces_goes_and_nothing_else():
    """Over a third of its length alone, so that no wider rim is filled."""
    photo, mask = wall(240)
    photo[40:] = wall(140, away=2)[0][40:]
    photo[mask] = 20
    filled = np.where(mask[..., None], np.uint8([[[142]]]), photo)
    found = filled.copy()
    erase_outline(found, photo, mask, mask, 2)
    bright = [np.count_nonzero(picture[~mask] > 200) for picture in (filled, found)]
    assert bright[0] > 300 and bright[1] < 0.05 * bright[0]
    changed = (found != filled).any(axis=-1)
    assert not (changed & ~(dilate(mask, kernel="square", size=5) & ~mask)).any()
    assert changed[42:].mean() == 0
    for avoid in (None, filled.max(axis=-1) > 200):
        mirrored, flipped = np.ascontiguousarray(filled[:, ::-1]), None if avoid is None else avoid[:, ::-1]
        erase_outline(mirrored, np.ascontiguousarray(photo[:, ::-1]), mask[:, ::-1], mask[:, ::-1], 2, flipped)
        apart = np.abs(mirrored[:, ::-1].astype(int) - (found if avoid is None else filled))
        assert apart.max() <= 1 and np.array_equal(apart > 0, (apart > 0) & changed[..., None])


@pytest.mark.parametrize("margin", [0, 2])
def test_odd_holes_have_no_outline(margin):
    photo = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    for hole in (np.zeros((5, 7), bool), np.ones((5, 7), bool), np.eye(5, 7, dtype=bool)):
        filled = photo.copy()
        erase_outline(filled, photo, hole, hole, margin)
        assert np.array_equal(filled[hole], photo[hole])


def test_an_edge_of_the_photo_along_a_hole_stays():
    """Where a floor begins right beside the hole it differs from one side alone; and a line of another colour."""
    photo = np.full((120, 160, 3), (140, 140, 140), np.uint8)
    photo[80:] = 220
    photo[29] = (140, 240, 40)
    mask = np.zeros((120, 160), bool)
    mask[30:80, 50:110] = True
    filled = photo.copy()
    photo[mask] = (160, 40, 40)
    found = filled.copy()
    erase_outline(found, photo, mask, mask, 2)
    assert np.array_equal(found, filled)


def test_the_frame_of_a_photo_has_no_outline():
    """Beyond it the canvas is unknown and black; a bright line along it is the photo's."""
    photo = np.full((60, 80, 3), 140, np.uint8)
    photo += np.random.default_rng(0).integers(0, 6, photo.shape, np.uint8)
    photo[:, 40], photo[:, 41:] = 240, 0
    unknown, mask = np.zeros((2, 60, 80), bool)
    unknown[:, 41:] = mask[20:30, 10:20] = True
    found = ContentPipeline(filler="smooth").background(photo, mask, unknown=unknown)
    assert np.array_equal(found[:, 40], photo[:, 40])
