"""Bars of counts. Internal; `visualization` has the public names."""

from __future__ import annotations

import math
from collections.abc import Mapping

from PIL import Image, ImageDraw

from ..arguments.numeric import check_number
from ..display import describe
from ._drawing import (
    INK,
    PAPER,
    SUPERSAMPLING,
    Font,
    Frame,
    check_size,
    check_text,
    mix,
    palette,
    scaled_font,
    text_width,
)

_ROW, _TITLE, _GAP = 30, 56, 24  # heights in thousandths of the width
_BAR = 0.66  # height of a bar in rows
_NAMES = 0.3  # share of the width for the names, at most


def draw_bars(charts: Mapping[str, Mapping[str, float]], *, size: int = 1000) -> Image.Image:
    """Draws charts of horizontal bars, one below the other, each with its own scale and colour.

    Args:
        charts: By title, the values by name, in the order in which they are drawn.
        size: Pixels of the width; bars and text scale with it.

    Returns:
        An RGB picture as high as the bars need.

    Raises:
        ValueError: No chart, a chart without bars, a value that is negative or not finite, or `size` outside
            [64, 16384].

    Example:
        >>> picture = draw_bars({"objects": {"cup": 12, "spoon": 3}}, size=300)
        >>> picture.mode, picture.width
        ('RGB', 300)
    """
    if not charts or not isinstance(charts, Mapping) or not all(charts.values()):
        raise ValueError("`charts` must have at least one chart, and each at least one bar.")
    for title, values in charts.items():
        if not isinstance(values, Mapping):
            raise TypeError(f"chart {check_text('charts', title)!r} must be a dictionary, got {describe(values)}.")
        for name in values:
            check_text(f"bar of {check_text('charts', title)!r}", name)
    charts = {
        title: {name: check_number(f"bar {name!r} of {title!r}", value, least=0) for name, value in values.items()}
        for title, values in charts.items()
    }
    size = check_size(size)
    frame = Frame.for_photo((1, 1), size)
    unit = frame.unit * SUPERSAMPLING
    heights = [_TITLE + _ROW * len(values) + _GAP for values in charts.values()]
    sheet = Image.new("RGB", (size * SUPERSAMPLING, math.ceil(sum(heights) * unit)), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = 0.0
    for (title, values), height, colour in zip(charts.items(), heights, palette(len(charts)), strict=True):
        _draw_chart(draw, frame, title, values, top * unit, colour)
        top += height
    return sheet.reduce(SUPERSAMPLING)


def _draw_chart(
    draw: ImageDraw.ImageDraw,
    frame: Frame,
    title: str,
    values: Mapping[str, float],
    top: float,
    colour: tuple[int, int, int],
) -> None:
    unit, width = frame.unit * SUPERSAMPLING, 1000 * frame.unit * SUPERSAMPLING
    font, heading = (scaled_font(frame.font(points), SUPERSAMPLING) for points in (18, 24))
    draw.text((20 * unit, top + 16 * unit), title, INK, heading, anchor="lt")
    names = [_shortened(name, font, _NAMES * width) for name in values]
    left = 30 * unit + max(text_width(name, font) for name in names)
    room = width - left - 110 * unit  # the number stands behind the bar
    largest = max(values.values()) or 1
    grey = mix(INK, PAPER, 0.75)
    for row, (name, value) in enumerate(zip(names, values.values(), strict=True)):
        middle = top + (_TITLE + _ROW * (row + 0.5)) * unit
        half = _ROW * _BAR / 2 * unit
        draw.text((left - 10 * unit, middle), name, INK, font, anchor="rm")
        draw.rectangle([left, middle - half, left + room * value / largest, middle + half], fill=colour)
        draw.text((left + room * value / largest + 8 * unit, middle), f"{value:,g}", INK, font, anchor="lm")
    bottom = top + (_TITLE + _ROW * len(values)) * unit
    draw.line([(left, top + _TITLE * unit), (left, bottom)], fill=grey, width=max(1, round(1.5 * unit)))


def _shortened(name: str, font: Font, width: float) -> str:
    """The name in one line, cut off where it is longer than `width` pixels."""
    name = " ".join(name.split())
    if text_width(name, font) <= width:
        return name
    while name and text_width(name + "…", font) > width:
        name = name[:-1]
    return name + "…"
