"""Pictures of the occlusion order: arrows from each occluder to what it occludes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ..arguments.flags import check_flag
from ..images import load_image
from ..masks import MaskInput, to_mask_stack
from ..ordering import check_order, order_pairs
from ._drawing import (
    INK,
    PAPER,
    SUPERSAMPLING,
    BoolArray,
    Colour,
    Frame,
    Tag,
    blend,
    check_names,
    check_size,
    deepest_points,
    draw_tags,
    ink_on,
    mix,
    muted,
    outline,
    palette,
    scaled_font,
    signed_depth,
    stack_pictures,
    to_picture,
)

Points = npt.NDArray[np.float64]


def draw_order_graph(
    order: npt.ArrayLike,
    *,
    names: Sequence[str] | None = None,
    masks: MaskInput | None = None,
    image: Any = None,
    size: int = 1200,
    legend: bool = True,
) -> Image.Image:
    """Draws the occlusion order as arrows that run from each occluder to what it occludes.

    Args:
        order: Order matrix, (N, N) of -1, 0, 1, antisymmetric; `order[i, j] = 1` means that i occludes j. Cycles are
            allowed.
        names: N names; "" for none. A number is the row of the object in `order`, from 0.
        masks: Visible parts, (N, H, W); with them each node lies on its object, otherwise the nodes form a circle. An
            object with an empty mask keeps its place on the circle.
        image: The photo to draw over, dimmed. Needs `masks`.
        size: Pixels of the longer side of the picture.
        legend: Whether a strip below says how to read an arrow.

    Returns:
        An RGB picture. Without objects it is the dimmed photo, or an empty sheet.

    Raises:
        ValueError: `order` is not such a matrix, the number of masks or names is not N, `image` comes without `masks`,
            or `size` lies outside [64, 16384].

    Example:
        >>> picture = draw_order_graph(np.array([[0, 1], [-1, 0]]), names=["cup", "plate"], size=200)
        >>> picture.mode, picture.width
        ('RGB', 200)
    """
    matrix = np.asarray(order)
    count = matrix.shape[0] if matrix.ndim else 0
    matrix = check_order(matrix, count)
    titles, size, legend = check_names(names, count), check_size(size), check_flag("legend", legend)
    if image is not None and masks is None:
        raise ValueError("masks must be given with image: the nodes are placed on the objects")
    photo = None if image is None else load_image(image)
    stack: BoolArray | None = None
    if masks is not None:
        height, width = (None, None) if photo is None else (photo.height, photo.width)
        stack = to_mask_stack(masks, height=height, width=width)
        if len(stack) != count:
            raise ValueError(f"masks must hold one mask for each of the {count} objects of order, got {len(stack)}")
    photo_size = photo.size if photo else (size, size) if stack is None else (stack.shape[2], stack.shape[1])
    frame = Frame.for_photo(photo_size, size)
    colours = palette(count)

    sheet = Image.new("RGB", frame.size, PAPER)
    if photo is not None:
        faded = muted(photo.resize(frame.size, Image.Resampling.LANCZOS), colour=0.15)
        sheet = Image.blend(faded, sheet, 0.5)
    if stack is not None:
        sheet = _with_silhouettes(sheet, frame, stack, colours)
    places = _node_places(frame, count, stack)
    picture = _draw_graph(sheet, frame, places, order_pairs(matrix), titles, colours)
    return stack_pictures(picture, _order_legend(frame)) if legend else picture


def _with_silhouettes(sheet: Image.Image, frame: Frame, masks: BoolArray, colours: Sequence[Colour]) -> Image.Image:
    canvas = np.asarray(sheet, dtype=np.float32).copy()
    for mask, colour in zip(masks, colours, strict=True):
        window, depth = signed_depth(mask, frame)
        blend(canvas, window, (depth + 0.5).clip(0, 1), colour, 0.3)
        blend(canvas, window, outline(depth - frame.unit, frame.unit), colour, 0.9)
    return to_picture(canvas)


def _node_radius(frame: Frame, count: int) -> float:
    crowding = math.sqrt(frame.size[0] * frame.size[1] / max(1, count)) / frame.unit
    return frame.unit * min(26.0, 0.09 * crowding)


def _node_places(frame: Frame, count: int, masks: BoolArray | None) -> Points:
    """Centres (x, y) of the nodes in the picture: on the objects or on a circle, pushed apart where they collide."""
    extent = np.array(frame.size, dtype=np.float64)
    turn = 2 * math.pi * np.arange(count) / max(1, count) - math.pi / 2
    directions = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    places = extent / 2 + 0.36 * extent * directions
    if masks is None:
        return places
    for index, mask in enumerate(masks):
        points = deepest_points(mask, 1)
        if len(points):
            places[index] = points[0] * frame.scale
    radius = _node_radius(frame, count)
    apart, margin = 3.4 * radius, np.minimum(1.6 * radius, extent / 2)
    for _ in range(60):
        # Nodes on the same spot have no direction to part in; a hair of their circle's gives each its own.
        offset = places[:, None] - places[None] + 1e-3 * (directions[:, None] - directions[None])
        distance = np.hypot(offset[..., 0], offset[..., 1])
        push = np.where(distance < apart, (apart - distance) / 2, 0.0)
        np.fill_diagonal(push, 0.0)
        if not push.any():
            break
        places = places + (offset / np.maximum(distance, 1e-9)[..., None] * push[..., None]).sum(axis=1)
        places = np.clip(places, margin, extent - margin)
    return places


def _arrow_path(start: Points, end: Points, others: Points, radius: float) -> Points:
    """Points (P, 2) of a bent arrow between the rims of two nodes, clear of the other nodes where it can be."""
    along = end - start
    across = np.array([-along[1], along[0]])
    t = np.linspace(0, 1, 96)[:, None]
    paths, costs = [], []
    for bend in (0.12, -0.12, 0.3, -0.3, 0.5, -0.5):
        control = (start + end) / 2 + bend * across
        path = (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end
        gap = np.hypot(*(path[:, None] - others[None]).transpose(2, 0, 1)).min() if len(others) else math.inf
        paths.append(path)
        costs.append(abs(bend) + max(0.0, 2.0 - gap / radius))
    best = paths[int(np.argmin(costs))]
    clear = (np.hypot(*(best - start).T) > 1.15 * radius) & (np.hypot(*(best - end).T) > 1.25 * radius)
    return best[clear] if clear.sum() >= 2 else np.stack([start, end])


def _draw_arrow(draw: ImageDraw.ImageDraw, path: Points, colour: Colour, width: float) -> None:
    tip = path[-1]
    length = 4.6 * width
    behind = path[np.hypot(*(path - tip).T) > 0.8 * length]
    neck = behind[-1] if len(behind) else path[0]
    back = (neck - tip) / max(1e-9, float(np.hypot(*(neck - tip))))
    side = np.array([-back[1], back[0]])
    shaft = [tuple(point) for point in [*behind, tip + 0.6 * length * back]]
    for grow, tone in ((1.0, PAPER), (0.0, colour)):
        pad = grow * 0.55 * width
        head = np.stack(
            [
                tip - 1.6 * pad * back,
                tip + (length + pad) * back + (0.46 * length + 1.5 * pad) * side,
                tip + (0.78 * length) * back,
                tip + (length + pad) * back - (0.46 * length + 1.5 * pad) * side,
            ]
        )
        if len(shaft) > 1:
            draw.line(shaft, tone, max(1, round(width + 2 * pad)), joint="curve")
        draw.polygon([tuple(point) for point in head], tone)


def _draw_graph(
    sheet: Image.Image,
    frame: Frame,
    places: Points,
    pairs: Sequence[tuple[int, int]],
    titles: Sequence[str],
    colours: Sequence[Colour],
) -> Image.Image:
    zoom, count = SUPERSAMPLING, len(places)
    radius = _node_radius(frame, count)
    large = sheet.resize((sheet.width * zoom, sheet.height * zoom), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(large)
    paths = []
    for front, behind in pairs:
        others = np.delete(places, [front, behind], axis=0)
        paths.append(_arrow_path(places[front], places[behind], others, radius))
        _draw_arrow(draw, paths[-1] * zoom, mix(colours[front], INK, 0.3), 0.17 * radius * zoom)
    font = scaled_font(frame.font(radius / frame.unit), zoom)
    for index, (x, y) in enumerate(places * zoom):
        for size, tone in ((1.12, PAPER), (1.0, mix(colours[index], INK, 0.3)), (0.9, colours[index])):
            reach = size * radius * zoom
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), tone)
        draw.text((x, y), str(index), ink_on(colours[index]), font, anchor="mm")
    picture = large.reduce(zoom)
    _draw_node_names(picture, frame, places, paths, titles)
    return picture


def _draw_node_names(
    picture: Image.Image, frame: Frame, places: Points, paths: Sequence[Points], titles: Sequence[str]
) -> None:
    """Puts each name below, above, right or left of its node, where it covers the fewest arrows and nodes."""
    radius = _node_radius(frame, len(places))
    taken = np.concatenate([places, *paths]) if len(places) else places
    tags = []
    for (x, y), title in zip(places, titles, strict=True):
        if not title:
            continue
        tag = Tag(None, title, PAPER, frame, units=min(20.0, 0.8 * radius / frame.unit))
        width, height = tag.size
        reach = 1.2 * radius
        corners = np.array([
            (x - width / 2, y + reach),
            (x - width / 2, y - reach - height),
            (x + reach, y - height / 2),
            (x - reach - width, y - height / 2),
        ])  # fmt: skip
        limit = np.maximum(np.array(frame.size) - (width, height), 0)
        outside = np.abs(corners - np.clip(corners, 0, limit)).sum(axis=1)
        inside = (taken[None] > corners[:, None] - 0.2 * radius) & (
            taken[None] < corners[:, None] + (width, height) + np.full(2, 0.2 * radius)
        )
        covered = inside.all(axis=2).sum(axis=1)
        best = corners[np.argmin(covered + 10 * outside)]
        left, top = np.clip(best, 0, limit)
        taken = np.concatenate([taken, [(left + width / 2, top + height / 2)]])
        tags.append((tag, float(left), float(top)))
    draw_tags(picture, tags)


def _order_legend(frame: Frame) -> Image.Image:
    unit, font = frame.unit, frame.font(20)
    strip = Image.new("RGB", (frame.size[0], math.ceil(56 * unit)), PAPER)
    middle, zoom = strip.height / 2, SUPERSAMPLING
    large = strip.resize((strip.width * zoom, strip.height * zoom))
    path = np.stack([np.linspace(16 * unit, 90 * unit, 32), np.full(32, middle)], axis=1) * zoom
    _draw_arrow(ImageDraw.Draw(large), path, mix(INK, PAPER, 0.2), 4 * unit * zoom)
    strip = large.reduce(zoom)
    text = "runs from an object to one that it hides in part"
    ImageDraw.Draw(strip).text((108 * unit, middle), text, INK, font, anchor="lm")
    return strip
