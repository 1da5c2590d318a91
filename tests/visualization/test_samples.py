"""Pictures of several completions of one object, and of uncertainty."""

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion import visualization
from amodal_diffusion.visualization import draw_samples, draw_uncertainty, palette
from amodal_diffusion.visualization._drawing import stack_pictures


@pytest.fixture
def photo():
    gradient = np.linspace(60, 200, 90, dtype=np.uint8)
    return Image.fromarray(np.stack([np.tile(gradient, (60, 1))] * 3, axis=2))


@pytest.fixture
def completions():
    """A visible square, and three wholes that go on to the right, to the left and not at all: (60, 90), (3, 60, 90)."""
    mask = np.zeros((60, 90), bool)
    mask[20:40, 35:55] = True
    samples = np.stack([mask] * 3)
    samples[0, 20:40, 55:75] = True
    samples[1, 20:40, 15:35] = True
    return mask, samples


def pixels(picture):
    return np.asarray(picture).astype(int)


def panels(picture, columns, rows=1):
    """The panels of a picture, as arrays of one size."""
    sheet = pixels(picture)
    gap = max(2, sheet.shape[1] // 200)
    width = (sheet.shape[1] - (columns - 1) * gap) // columns
    height = (sheet.shape[0] - (rows - 1) * gap) // rows
    return [
        sheet[r * (height + gap) :][:height, c * (width + gap) :][:, :width]
        for r in range(rows)
        for c in range(columns)
    ]


class TestSamples:
    def test_public_names(self):
        pictures = {"draw_samples", "draw_uncertainty", "draw_overlay", "draw_order_graph", "draw_curves", "draw_bars"}
        assert pictures | {"Curve", "palette"} == set(visualization.__all__)

    def test_panels_differ_where_the_samples_do_and_nowhere_else(self, photo, completions):
        right, left, none = panels(draw_samples(photo, *completions, size=1200), columns=3)
        height, width = none.shape[:2]
        middle, upper = width // 2, height // 3
        below = slice(upper, None)  # the labels lie above
        assert (right[below, : middle - 80] == none[below, : middle - 80]).all()
        assert (left[below, middle + 80 :] == none[below, middle + 80 :]).all()
        assert np.abs(right[below, middle + 80 :] - none[below, middle + 80 :]).max() > 60
        assert np.abs(left[below, : middle - 80] - none[below, : middle - 80]).max() > 60

    def test_visible_part_is_tinted_in_the_first_colour(self, photo, completions):
        mask, samples = completions
        (panel,) = panels(draw_samples(photo, mask, samples[2:], alpha=1.0, size=300), columns=1)
        assert (panel[140:160, 140:160] == palette(1)[0]).all()

    @pytest.mark.parametrize(
        ("count", "columns", "expected"), [(1, None, 1), (3, None, 3), (8, None, 4), (8, 3, 3), (2, 5, 5)]
    )
    def test_grid(self, photo, completions, count, columns, expected):
        mask, samples = completions
        picture = draw_samples(photo, mask, np.stack([samples[0]] * count), columns=columns, size=600)
        assert picture.mode == "RGB" and picture.width == pytest.approx(600, abs=expected)
        rows = -(-count // expected)
        parts = panels(picture, expected, rows)
        background = [part for part in parts if (part == 255).all()]
        assert len(background) == expected * rows - count  # the rest of the last row stays empty

    def test_scores_are_written(self, photo, completions):
        plain = pixels(draw_samples(photo, *completions))
        scored = pixels(draw_samples(photo, *completions, scores=np.array([0.1, 0.9, 1.0], np.float32)))
        other = pixels(draw_samples(photo, *completions, scores=[0.1, 0.8, 1.0]))
        assert plain.shape == scored.shape == other.shape
        assert (plain != scored).any() and (scored != other).any()
        lower = slice(plain.shape[0] // 3, None)
        np.testing.assert_array_equal(plain[lower], scored[lower])

    def test_is_deterministic_and_leaves_its_inputs(self, photo, completions):
        mask, samples = completions
        before = photo.tobytes(), mask.copy(), samples.copy()
        first = draw_samples(photo, mask, samples)
        assert first.tobytes() == draw_samples(np.asarray(photo), mask[None].astype(float), list(samples)).tobytes()
        assert photo.tobytes() == before[0] and (mask == before[1]).all() and (samples == before[2]).all()

    @pytest.mark.parametrize("fill", [False, True])
    def test_empty_and_full_frame_masks(self, photo, fill):
        mask = np.full((60, 90), fill)
        assert draw_samples(photo, mask, mask[None], size=90).size == (90, 60)

    def test_thin_objects_get_panels_that_are_not_thin(self):
        photo, mask = Image.new("RGB", (400, 400)), np.zeros((400, 400), bool)
        mask[200:203, 10:390] = True
        picture = draw_samples(photo, mask, mask[None], size=600)
        assert picture.height > 0.45 * picture.width
        assert draw_samples(photo, mask.T, mask.T[None], size=600).height < 2.2 * 600

    def test_errors(self, photo, completions):
        mask, samples = completions
        for arguments, options, message in (
            ((samples, samples), {}, "mask must be the visible part of one object, got 3 masks"),
            ((mask, samples[:0]), {}, "samples must hold at least one mask, got none"),
            ((mask, samples), {"scores": [1.0]}, "`scores` must hold one number for each of the 3 samples, got 1"),
            ((mask, samples), {"columns": 0}, "`columns` must be at least 1, got 0"),
            ((mask, samples), {"alpha": 1.5}, r"`alpha` must lie in \[0, 1\], got 1.5"),
            ((mask, samples), {"size": 100}, "`size` must be at least 64 pixels a panel, got 100 for 3 columns"),
            ((mask[:50], samples), {}, "60"),
            ((mask, samples[:, :50]), {}, "60"),
        ):
            with pytest.raises(ValueError, match=message):
                draw_samples(photo, *arguments, **options)


class TestUncertainty:
    def test_darker_where_it_is_higher_and_untouched_where_it_is_none(self, photo):
        values = np.zeros((60, 90), np.float32)
        plain = pixels(draw_uncertainty(photo, values, size=900, legend=False))
        values[:, 30:60], values[:, 60:] = 0.2, 0.4
        drawn = pixels(draw_uncertainty(photo, values, size=900, legend=False))
        np.testing.assert_array_equal(drawn[:, :280], plain[:, :280])
        half, most = drawn[100:500, 320:580], drawn[100:500, 620:880]
        assert most.mean() < half.mean() - 30
        assert half[..., 0].mean() - half[..., 2].mean() > 60  # orange, half way up

    def test_objects_are_joined_by_the_largest_value(self, photo):
        both = np.zeros((2, 60, 90), np.float32)
        both[0, 10:30], both[1, 20:50] = 0.3, 0.6
        first = draw_uncertainty(photo, both, size=200)
        assert first.tobytes() == draw_uncertainty(photo, both.max(axis=0), size=200).tobytes()
        assert first.tobytes() != draw_uncertainty(photo, both[1], size=200).tobytes()

    def test_the_end_of_the_scale(self, photo):
        values = np.full((60, 90), 0.2, np.float32)
        own = pixels(draw_uncertainty(photo, values, size=300, legend=False))
        wide = pixels(draw_uncertainty(photo, values, highest=2.0, size=300, legend=False))
        assert own.mean() < wide.mean() - 30
        low = draw_uncertainty(photo, values, highest=0.1, size=300, legend=False)  # more than the end is the end
        np.testing.assert_array_equal(pixels(low), own)

    def test_masks_are_outlined(self, photo, completions):
        mask, _ = completions
        values = np.zeros((60, 90), np.float32)
        plain = pixels(draw_uncertainty(photo, values, size=900, legend=False))
        drawn = pixels(draw_uncertainty(photo, values, mask, size=900, legend=False))
        changed = (plain != drawn).any(axis=2)
        assert changed[300, 340:360].any() and changed[190:210, 450].any()
        assert not changed[250:350, 400:500].any() and not changed[:150].any()

    @pytest.mark.parametrize(("size", "expected"), [(900, (900, 600)), (None, (90, 60)), (64, (64, 43))])
    def test_size_and_legend(self, photo, size, expected):
        values = np.linspace(0, 0.5, 5400, dtype=np.float32).reshape(60, 90)
        picture = draw_uncertainty(photo, values, size=size, legend=False)
        assert picture.mode == "RGB" and picture.size == expected
        with_legend = draw_uncertainty(photo, values, size=size)
        assert with_legend.width == expected[0] and with_legend.height > expected[1]
        legend = with_legend.crop((0, expected[1], *with_legend.size))
        assert stack_pictures(picture, legend).tobytes() == with_legend.tobytes()

    def test_no_object(self, photo):
        nothing = draw_uncertainty(photo, np.zeros((0, 60, 90)), np.zeros((0, 60, 90), bool), size=200)
        assert nothing.tobytes() == draw_uncertainty(photo, np.zeros((60, 90)), size=200).tobytes()

    def test_errors(self, photo):
        values = np.zeros((60, 90), np.float32)
        for arguments, options, message in (
            ((values.T,), {}, r"uncertainty must have shape \(60, 90\) or \(N, 60, 90\), .* got \(90, 60\)"),
            ((values[0],), {}, r"uncertainty must have shape"),
            ((values - 1,), {}, "uncertainty must be finite and not below 0"),
            ((values * np.nan,), {}, "uncertainty must be finite and not below 0"),
            ((values,), {"highest": 0.0}, "`highest` must be above 0, got 0.0"),
            ((values,), {"highest": float("nan")}, "`highest` must be above 0, got nan"),
            ((values,), {"size": 10}, r"`size` must lie in \[64, 16384\], got 10"),
            ((values, values[:50] > 0), {}, "60"),
        ):
            with pytest.raises(ValueError, match=message):
                draw_uncertainty(photo, *arguments, **options)
