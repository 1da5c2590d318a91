"""Hidden parts of objects go on as the materials beside them, and are copied from what looks like these."""

import numpy as np
import pytest
import torch

from amodal_diffusion import ContentPipeline
from amodal_diffusion.models.pull_push import pull_push
from amodal_diffusion.pipelines.content import materials, sources
from amodal_diffusion.pipelines.content.exemplar import fill_hole
from amodal_diffusion.pipelines.content.joins import blurred
from amodal_diffusion.pipelines.content.materials import continue_materials, detail_strength, like_beside
from amodal_diffusion.pipelines.content.sources import within_outline


def shirt_and_arm(width=96, height=64):
    """(3, h, w) in [0, 1] with a border in the middle, and what is known of it: all but a square."""
    image = torch.where(torch.arange(width) < width / 2, torch.tensor([[0.9], [0.8], [0.1]]), 0.3)
    image = image[:, None].expand(3, height, width) + 0.02 * torch.rand(3, height, width)
    known = torch.ones(height, width, dtype=torch.bool)
    known[16:48, 24:72] = False
    return image, known


def test_two_materials_keep_a_border_where_a_membrane_blends_them():
    image, known = shirt_and_arm()
    membrane = pull_push(image[None], known[None, None].float())[0]
    found = continue_materials(image, known)
    torch.testing.assert_close(found[:, known], image[:, known])
    errors = [(picture - image)[:, ~known].square().mean() for picture in (membrane, found)]
    assert errors[1] < 0.75 * errors[0]


def test_what_is_rare_does_not_go_on():
    image = 0.8 + 0.02 * torch.rand(3, 64, 64)
    image[:, 28:36, 12:16] = 0.1  # the tip of a pen
    known = torch.ones(64, 64, dtype=torch.bool)
    known[16:48, 16:48] = False
    membrane = pull_push(image[None], known[None, None].float())[0]
    dark = [
        float((0.8 - picture)[:, ~known].clamp(min=0).mean())
        for picture in (membrane, continue_materials(image, known))
    ]
    assert dark[1] < 0.25 * dark[0]


@pytest.mark.parametrize("pixels", [0, 1, 9])
def test_next_to_nothing_that_is_known(pixels):
    known = torch.zeros(20, 30, dtype=torch.bool)
    known[3, :pixels] = True
    found = continue_materials(torch.full((3, 20, 30), 0.4), known)
    assert bool(torch.isfinite(found).all()) and (not pixels or float(found.mean()) == pytest.approx(0.4, abs=1e-3))
    seen, hole = known.numpy(), ~known.numpy()
    assert (like_beside(np.zeros((20, 30, 3), np.uint8), hole, seen, seen) <= seen).all()


def cloth_with_a_buckle():
    """(h, w, 3) uint8 with something pink in front, and the masks of the cloth: visible, hidden; the buckle's place."""
    picture = np.random.default_rng(0).integers(60, 120, (120, 160, 1)).repeat(3, axis=2).astype(np.uint8)
    hidden, buckle = np.zeros((2, 120, 160), bool)
    hidden[30:90, :60], buckle[50:70, 120:140] = True, True
    picture[buckle], picture[hidden] = (230, 200, 20), (250, 0, 250)
    return picture, ~hidden, hidden, buckle


def test_what_looks_like_nothing_beside_the_hole_is_not_copied():
    picture, seen, hidden, buckle = cloth_with_a_buckle()
    found = like_beside(picture, hidden, seen, seen)
    assert not found[buckle].any() and found[seen & ~buckle].mean() > 0.8
    tile = ContentPipeline(filler="blend")(picture, seen[None], (seen | hidden)[None], occluder_masks=hidden).objects[0]
    painted = tile[hidden].astype(int)
    assert (painted[:, 0] - painted[:, 2]).max() < 60 and painted[:, :3].std() > 10


def test_some_sources_stay_in_any_case():
    picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    hole = np.zeros((60, 80), bool)
    hole[:, :20], picture[:, 20:32] = True, 90
    found = like_beside(picture, hole, ~hole, ~hole & (np.arange(80) > 40))
    assert found.sum() >= 0.3 * hole.sum()


def test_outlines_are_left_out_but_towards_the_hole():
    known, hole = np.zeros((2, 60, 80), bool)
    known[10:50, 10:50] = hole[10:50, 50:70] = True
    inner = within_outline(known, hole, 4)
    rows, columns = (np.flatnonzero(inner.any(axis)) for axis in (1, 0))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (14, 45, 14, 49)
    thin = np.zeros_like(known)
    thin[10:13, 10:50] = True
    np.testing.assert_array_equal(within_outline(thin, hole & ~thin, 4), thin)


def test_what_the_mask_holds_of_its_surroundings_hardly_goes_on(monkeypatch):
    """A white dog on grass: its mask reaches four pixels beyond it, the hole beyond these."""
    picture = np.random.default_rng(0).integers(0, 12, (100, 140, 3)).astype(np.uint8) + np.uint8([40, 110, 30])
    dog, hidden = np.zeros((2, 100, 140), bool)
    dog[20:80, 20:110] = True
    picture[dog] = np.random.default_rng(1).integers(215, 245, (int(dog.sum()), 1), np.uint8)
    hidden[20:84, 80:110] = True
    seen = np.zeros_like(dog)
    seen[16:84, 16:110] = True
    picture[hidden], seen = (120, 30, 200), seen & ~hidden
    pipe, green = ContentPipeline(filler="blend"), []
    for strayed in (sources.strayed, lambda photo, mask, others, step: np.zeros_like(mask)):
        monkeypatch.setattr(sources, "strayed", strayed)
        tile = pipe(picture, seen[None], (seen | hidden)[None], occluder_masks=hidden).objects[0]
        painted = tile[4:68, 64:94, :3].astype(int)
        green.append((painted[..., 1] > painted[..., 0] + 15).mean())
    assert green[0] < 0.3 and green[0] < 0.4 * green[1]


def test_likeness_of_a_long_thin_hole_takes_no_more_than_its_window_allows(monkeypatch):
    """A scratch across a large object: its window is nearly all of it."""
    sides = []
    monkeypatch.setattr(materials, "_MOST_AROUND", 2000)
    monkeypatch.setattr(materials, "_AT_ONCE", 300)
    monkeypatch.setattr(
        materials, "pull_push", lambda image, known: (sides.append(image.shape[-2:]), pull_push(image, known))[1]
    )
    photo, hole = np.full((200, 400, 3), 90, np.uint8), np.zeros((200, 400), bool)
    hole[100, 10:390], photo[20:60, 300:360] = True, 200
    found = like_beside(photo, hole, ~hole, ~hole)
    assert len(sides) == 1 and sides[0][0] * sides[0][1] <= 2100
    assert found[90, 200] and not found[40, 330] and not found[hole].any()


@pytest.mark.parametrize("most", [6000, 500])
@pytest.mark.parametrize(("grain", "least", "greatest"), [(8, 1.2, 1.6), (60, 0.1, 0.5)])
def test_detail_is_as_strong_as_beside_the_hole(most, grain, least, greatest):
    """Copied from where the grain is finer or coarser than the 12 levels that it has beside the hole."""
    draws = np.random.default_rng(0)
    picture = 120 + draws.integers(-6, 7, (64, 128, 1)).repeat(3, axis=2)
    picture[:, 64:] = 120 + draws.integers(-grain // 2, grain // 2 + 1, (64, 64, 1))
    hole, usable = np.zeros((2, 64, 128), bool)
    hole[16:48, 8:40], usable[:, 64:] = True, True
    filled = fill_hole(picture.astype(np.uint8), hole, ~hole, usable, most=most)
    strength = filled[20:44, 12:36].std() / picture[:, 64:].std()
    assert least < strength < greatest


def test_an_edge_that_is_copied_leaves_no_lines_where_nothing_beside_the_hole_has_one():
    image = torch.full((3, 40, 60), 0.5) + 0.02 * torch.rand(3, 40, 60)
    target = torch.zeros(40, 60, dtype=torch.bool)
    target[10:30, 10:50] = True
    copied = torch.where(torch.arange(60) < 30, image, image + 0.4)
    detail = copied - blurred(copied, target, 2.0)
    strength = detail_strength(detail, image, ~target, target, 2.0)
    assert float(strength[20, 29:31].max()) < 0.3 and float(strength[20, 14]) > 0.7
    assert bool((strength[~target] == 1).all())
    assert bool((detail_strength(detail, image, target & False, target, 2.0) == 1).all())
