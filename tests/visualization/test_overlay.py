"""Overlays and their palette."""

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.visualization import draw_overlay, palette
from amodal_diffusion.visualization._drawing import Frame, deepest_points, signed_depth


def pixels(picture):
    return np.asarray(picture).astype(int)


class TestPalette:
    def test_colours_are_distinct(self):
        colours = palette(21)
        assert len(colours) == len(set(colours)) == 21
        assert all(0 <= value <= 255 for colour in colours for value in colour)

    def test_is_a_prefix_of_a_longer_one(self):
        assert palette(3) == palette(30)[:3]

    @pytest.mark.parametrize(
        "simulation",
        [
            # Machado et al. 2009, severity 1: protanopia, deuteranopia
            [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
            [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        ],
        ids=["protanopia", "deuteranopia"],
    )
    def test_first_seven_stay_apart_for_the_colour_blind(self, simulation):
        linear = (np.array(palette(7)) / 255) ** 2.2
        seen = 255 * (linear @ np.array(simulation).T).clip(0, 1) ** (1 / 2.2)
        distance = np.linalg.norm(seen[:, None] - seen[None], axis=2) + 1e3 * np.eye(7)
        assert distance.min() > 30

    def test_none_and_negative(self):
        assert palette(0) == []
        with pytest.raises(ValueError, match="`n` must be at least 0, got -1"):
            palette(-1)


class TestOverlay:
    def test_tells_background_visible_and_hidden_parts_apart(self, photo, masks):
        plain = pixels(draw_overlay(photo, np.zeros((0, 60, 90), bool), np.zeros((0, 60, 90), bool), size=900))
        drawn = pixels(draw_overlay(photo, *masks, size=900, legend=False))
        assert (drawn[5:55, 850:895] == plain[5:55, 850:895]).all()
        tinted = drawn[450:480, 650:780] - plain[450:480, 650:780]
        assert tinted[..., 0].mean() - tinted[..., 2].mean() > 40  # the second colour is orange
        assert tinted.reshape(-1, 3).std(axis=0).max() < 12  # an even tint
        hidden, front = drawn[220:380, 320:430], drawn[120:180, 120:280]
        assert hidden.std(axis=(0, 1)).max() > 3 * front.std(axis=(0, 1)).max()  # hatched

    def test_opacity(self, photo, masks):
        modal, _ = masks
        strong = pixels(draw_overlay(photo, modal, modal, alpha=1.0, size=900))
        none = pixels(draw_overlay(photo, modal, modal, alpha=0.0, size=900))
        assert (strong[430:440, 600:640] == palette(2)[1]).all()
        grey = none[430:440, 600:640]
        assert (grey.max(axis=-1) - grey.min(axis=-1)).max() <= 1

    @pytest.mark.parametrize(("size", "expected"), [(900, (900, 600)), (None, (90, 60)), (64, (64, 43))])
    def test_size(self, photo, masks, size, expected):
        assert draw_overlay(photo, *masks, size=size, legend=False).size == expected
        with_legend = draw_overlay(photo, *masks, size=size)
        assert with_legend.mode == "RGB"
        assert with_legend.width == expected[0]
        assert with_legend.height > expected[1]

    def test_is_deterministic_and_leaves_its_inputs(self, photo, masks):
        modal, amodal = masks
        before = photo.tobytes(), modal.copy(), amodal.copy()
        first = draw_overlay(photo, modal, amodal, names=["front", "back"], size=300)
        assert first.tobytes() == draw_overlay(photo, modal, amodal, names=["front", "back"], size=300).tobytes()
        assert photo.tobytes() == before[0]
        assert (modal == before[1]).all()
        assert (amodal == before[2]).all()

    def test_masks_in_other_forms(self, photo, masks):
        modal, amodal = masks
        expected = draw_overlay(photo, modal, amodal, size=200).tobytes()
        pictures = [Image.fromarray(mask.astype(np.uint8) * 255) for mask in amodal]
        assert draw_overlay(np.asarray(photo), modal.astype(np.float32), pictures, size=200).tobytes() == expected

    @pytest.mark.parametrize("fill", [False, True])
    def test_empty_and_full_frame_masks(self, photo, fill):
        mask = np.full((1, 60, 90), fill)
        assert draw_overlay(photo, mask, mask, names=["all or nothing"], size=200).width == 200

    def test_object_that_is_wholly_hidden(self, photo, masks):
        modal, amodal = masks
        modal = np.zeros_like(modal)
        assert draw_overlay(photo, modal, amodal, size=200) != draw_overlay(photo, modal, modal, size=200)

    def test_many_objects(self, photo):
        rows = np.zeros((30, 60, 90), bool)
        for index in range(30):
            rows[index, 2 * index : 2 * index + 2] = True
        assert draw_overlay(photo, rows, rows, names=[f"row {i}" for i in range(30)], size=300).width == 300

    def test_errors(self, photo, masks):
        modal, amodal = masks
        with pytest.raises(ValueError, match=r"amodal_masks must hold as many masks as modal_masks, 2, got 1"):
            draw_overlay(photo, modal, amodal[:1])
        with pytest.raises(ValueError, match=r"names must be a sequence of 2 strings.*got \['one'\]"):
            draw_overlay(photo, modal, amodal, names=["one"])
        with pytest.raises(ValueError, match=r"names must be a sequence of 2 strings.*got 'ab'"):
            draw_overlay(photo, modal, amodal, names="ab")
        with pytest.raises(ValueError, match=r"`alpha` must lie in \[0, 1\], got 1.5"):
            draw_overlay(photo, modal, amodal, alpha=1.5)
        with pytest.raises(ValueError, match=r"`alpha` must lie in \[0, 1\], got nan"):
            draw_overlay(photo, modal, amodal, alpha=float("nan"))
        with pytest.raises(ValueError, match=r"`size` must lie in \[64, 16384\], got 10"):
            draw_overlay(photo, modal, amodal, size=10)
        with pytest.raises(ValueError, match="60"):
            draw_overlay(photo, modal[:, :50], amodal)


class TestGeometry:
    @pytest.mark.parametrize("size", [45, 90, 900])
    def test_signed_depth_measures_the_distance_to_a_straight_edge(self, size):
        mask = np.zeros((60, 90), bool)
        mask[:, :45] = True
        frame = Frame.for_photo((90, 60), max(64, size))
        window, depth = signed_depth(mask, frame)
        columns = np.arange(window[1].start, window[1].stop) + 0.5
        exact = 45 * frame.scale - columns
        near = np.abs(exact) < max(1.0, frame.scale)
        assert near.any()
        error = np.abs(depth[depth.shape[0] // 2] - exact)
        assert (error < 0.5 + 0.15 * np.abs(exact))[near].all()

    def test_deepest_points_lie_inside_and_the_first_is_farthest_from_the_outline(self):
        mask = np.zeros((60, 90), bool)
        mask[10:50, 20:60] = True
        mask[10:50, 60:85] = False
        mask[28:30, 60:85] = True
        points = deepest_points(mask)
        assert mask[points[:, 1].astype(int), points[:, 0].astype(int)].all()
        assert np.abs(points[0] - (40, 30)).max() <= 1

    def test_deepest_point_of_masks_thinner_than_the_sampling(self):
        mask = np.zeros((1000, 1000), bool)
        mask[3, 5] = True
        assert deepest_points(mask).tolist() == [[5.5, 3.5]]
        assert deepest_points(np.zeros((9, 9), bool)).shape == (0, 2)
