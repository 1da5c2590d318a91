"""Curves over a number, with bands for their intervals. Internal; `visualization` has the public names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from ..arguments.numeric import check_number
from ..display import describe, short_repr
from ._drawing import INK, PAPER, SUPERSAMPLING, Frame, check_size, check_text, mix, palette, scaled_font, text_width

_BAR = 0.6  # half the width of a bar, in units of the axis
_MARKS = ("disc", "square", "diamond", "triangle")


@dataclass(frozen=True)
class Curve:
    """A line of a plot.

    Args:
        name: in the legend.
        x: N positions from 0 to 100.
        y: N values from 0 to 100.
        intervals: N (low, high) of the values, NaN for none; or no entries.

    Example:
        >>> Curve("PCNet-M", x=[0, 50], y=[90, 40]).name
        'PCNet-M'
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    intervals: Sequence[tuple[float, float]] = field(default_factory=list)

    __repr__ = short_repr

    def __post_init__(self) -> None:
        check_text("name of a curve", self.name)
        for name in ("x", "y", "intervals"):
            if not hasattr(getattr(self, name), "__len__"):
                raise TypeError(f"curve {self.name!r}: `{name}` must be a list, got {describe(getattr(self, name))}")
        if len(self.x) != len(self.y) or len(self.intervals) not in (0, len(self.x)):
            raise ValueError(
                f"curve {self.name!r} must have as many values and intervals as positions, got {len(self.x)} "
                f"positions, {len(self.y)} values and {len(self.intervals)} intervals"
            )


def draw_curves(curves: Sequence[Curve], *, x_label: str, y_label: str, size: int = 1000) -> Image.Image:
    """Draws curves of percentages over percentages, with a legend below; each has its own colour and mark.

    Args:
        curves: The lines; one without points is in the legend alone.
        x_label: Under the horizontal axis.
        y_label: Over the vertical axis.
        size: Pixels of the width; lines and text scale with it.

    Returns:
        An RGB picture, two thirds as high as wide, and the legend.

    Raises:
        ValueError: `size` outside [64, 16384], or a value or position outside of 0 to 100.

    Example:
        >>> picture = draw_curves([Curve("a", [0, 50, 100], [90, 70, 20])], x_label="hidden", y_label="IoU", size=300)
        >>> picture.mode, picture.width
        ('RGB', 300)
    """
    check_text("x_label", x_label), check_text("y_label", y_label)
    for curve in curves:
        for number in (*curve.x, *curve.y):
            check_number(f"curve {curve.name!r}", number, least=0, most=100)
    size = check_size(size)
    frame = Frame.for_photo((3, 2), size)
    plot = _Plot(frame)
    sheet = Image.new("RGB", (frame.size[0] * SUPERSAMPLING, plot.height(len(curves)) * SUPERSAMPLING), PAPER)
    draw = ImageDraw.Draw(sheet, "RGBA")
    _draw_axes(draw, plot, x_label, y_label)
    colours = palette(len(curves))
    for curve, colour in zip(curves, colours, strict=True):
        _draw_band(draw, plot, curve, (*colour, 45))
    for index, (curve, colour) in enumerate(zip(curves, colours, strict=True)):
        points = [plot.point(x, y) for x, y in zip(curve.x, curve.y, strict=True)]
        if len(points) > 1:
            draw.line(points, fill=colour, width=round(4 * plot.unit), joint="curve")
        for point in points:
            _draw_mark(draw, point, 7 * plot.unit, index, colour)
        _draw_key(draw, plot, index, curve.name, colour)
    return sheet.reduce(SUPERSAMPLING)


@dataclass(frozen=True)
class _Plot:
    """Where percentages lie on the sheet, which is drawn larger and then reduced."""

    frame: Frame

    @property
    def unit(self) -> float:
        return self.frame.unit * SUPERSAMPLING

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the area of the curves."""
        width, height = (side * SUPERSAMPLING for side in self.frame.size)
        return 75 * self.unit, 60 * self.unit, width - 30 * self.unit, height - 75 * self.unit

    def point(self, x: float, y: float) -> tuple[float, float]:
        left, top, right, bottom = self.box
        return left + (right - left) * x / 100, bottom - (bottom - top) * y / 100

    def height(self, curves: int) -> int:
        return self.frame.size[1] + math.ceil((34 * curves + 15) * self.frame.unit)


def _draw_axes(draw: ImageDraw.ImageDraw, plot: _Plot, x_label: str, y_label: str) -> None:
    left, top, right, bottom = plot.box
    font = scaled_font(plot.frame.font(20), SUPERSAMPLING)
    grey = mix(INK, PAPER, 0.8)
    line = max(1, round(1.5 * plot.unit))
    for tick in range(0, 101, 20):
        x, y = plot.point(tick, tick)
        draw.line([(left, y), (right, y)], fill=grey, width=line)
        draw.line([(x, bottom), (x, bottom + 8 * plot.unit)], fill=INK, width=line)
        draw.text((left - 12 * plot.unit, y), str(tick), INK, font, anchor="rm")
        draw.text((x, bottom + 12 * plot.unit), str(tick), INK, font, anchor="mt")
    draw.line([(left, top), (left, bottom), (right, bottom)], fill=INK, width=line)
    draw.text(((left + right) / 2, bottom + 42 * plot.unit), x_label, INK, font, anchor="mt")
    draw.text((10 * plot.unit, 15 * plot.unit), y_label, INK, font, anchor="lt")


def _draw_band(draw: ImageDraw.ImageDraw, plot: _Plot, curve: Curve, colour: tuple[int, ...]) -> None:
    """The intervals: runs of points that have one are joined, a point alone gets an upright bar."""
    run: list[tuple[float, float, float]] = []
    ends = [(x, low, high) for x, (low, high) in zip(curve.x, curve.intervals, strict=False)]
    for x, low, high in [*ends, (math.nan,) * 3]:
        if not math.isnan(low):
            run.append((x, low, high))
            continue
        if len(run) == 1:
            ((middle, bottom, top),) = run
            run = [(middle - _BAR, bottom, top), (middle + _BAR, bottom, top)]
        if run:
            upper = [plot.point(x, top) for x, _, top in run]
            lower = [plot.point(x, bottom) for x, bottom, _ in reversed(run)]
            draw.polygon([*upper, *lower], fill=colour)
        run = []


def _draw_mark(
    draw: ImageDraw.ImageDraw, point: tuple[float, float], radius: float, index: int, colour: tuple[int, int, int]
) -> None:
    """Another shape for each curve, so that no meaning rests on colour alone."""
    x, y = point
    shape = _MARKS[index % len(_MARKS)]
    if shape == "disc":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=PAPER)
    elif shape == "square":
        draw.rectangle((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=PAPER)
    elif shape == "diamond":
        far = 1.3 * radius
        draw.polygon([(x, y - far), (x + far, y), (x, y + far), (x - far, y)], fill=colour, outline=PAPER)
    else:
        draw.polygon([(x, y - radius), (x + radius, y + radius), (x - radius, y + radius)], fill=colour, outline=PAPER)


def _draw_key(draw: ImageDraw.ImageDraw, plot: _Plot, index: int, name: str, colour: tuple[int, int, int]) -> None:
    left, _, right, _ = plot.box
    y = plot.frame.size[1] * SUPERSAMPLING + (34 * index + 15) * plot.unit
    draw.line([(left, y), (left + 45 * plot.unit, y)], fill=colour, width=round(4 * plot.unit))
    _draw_mark(draw, (left + 22 * plot.unit, y), 7 * plot.unit, index, colour)
    font = scaled_font(plot.frame.font(20), SUPERSAMPLING)
    room = right - left - 60 * plot.unit
    while text_width(name, font) > room and len(name) > 4:  # the end of a path says more than its start
        name = "…" + name[2:]
    draw.text((left + 58 * plot.unit, y), name, INK, font, anchor="lm")
