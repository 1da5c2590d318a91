"""Pictures of amodal masks over their photo.

Drawn with numpy and PIL alone. Colours come from the palette of Okabe and Ito, which stays distinct under the common
forms of colour blindness; hidden parts are hatched as well, so that no meaning rests on colour alone.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ..arguments.flags import check_flag
from ..images import load_image
from ..masks import MaskInput, to_mask_stack
from ._drawing import (
    INK,
    PAPER,
    BoolArray,
    Colour,
    Frame,
    Tag,
    check_alpha,
    check_names,
    deepest_points,
    draw_tags,
    fill_hidden,
    fill_visible,
    hidden_share,
    mix,
    muted,
    outline_hidden,
    outline_visible,
    palette,
    stack_pictures,
    swatch,
    text_width,
    to_picture,
)


def draw_overlay(
    image: Any,
    modal_masks: MaskInput,
    amodal_masks: MaskInput,
    *,
    names: Sequence[str] | None = None,
    alpha: float = 0.5,
    size: int | None = 1200,
    legend: bool = True,
) -> Image.Image:
    """Draws the visible part of each object as a tint, its hidden part hatched, and labels both.

    Args:
        image: The photo, in any form that [`~amodal_diffusion.images.load_image`] takes.
        modal_masks: Visible parts, (N, H, W) or any form of `to_mask_stack`, of the photo's size.
        amodal_masks: Whole objects, the same shape. The hidden part is what lies outside the modal mask.
        names: N names, drawn beside the numbers; "" for none. A number is the row of the mask, from 0.
        alpha: Opacity of the tint, 0 to 1.
        size: Pixels of the longer side of the picture; `None` keeps the photo's. Lines and text scale with it.
        legend: Whether a strip under the photo explains the tints and names the objects.

    Returns:
        An RGB picture. An object whose two masks are empty is named in the legend and not drawn.

    Raises:
        ValueError: Masks of another size or number, too many or few names, `alpha` outside [0, 1], or `size`
            outside [64, 16384].

    Example:
        >>> modal = np.zeros((1, 60, 90), bool)
        >>> modal[0, 10:40, 10:45] = True
        >>> picture = draw_overlay(np.zeros((60, 90, 3), np.uint8), modal, modal, names=["cup"], size=180)
        >>> picture.mode, picture.width
        ('RGB', 180)
    """
    photo = load_image(image)
    modal = to_mask_stack(modal_masks, height=photo.height, width=photo.width)
    amodal = to_mask_stack(amodal_masks, height=photo.height, width=photo.width)
    if len(modal) != len(amodal):
        raise ValueError(f"amodal_masks must hold as many masks as modal_masks, {len(modal)}, got {len(amodal)}")
    titles = check_names(names, len(modal))
    alpha, legend = check_alpha(alpha), check_flag("legend", legend)
    frame = Frame.for_photo(photo.size, size)
    colours = palette(len(modal))

    canvas = np.asarray(muted(photo.resize(frame.size, Image.Resampling.LANCZOS), colour=0.45), dtype=np.float32).copy()
    objects = list(zip(modal, amodal, colours, strict=True))
    for visible, _, colour in objects:
        fill_visible(canvas, frame, visible, colour, alpha)
    for index, (visible, whole, colour) in enumerate(objects):
        fill_hidden(canvas, frame, visible, whole, colour, leaning=index % 2 == 0)
    for visible, _, colour in objects:
        outline_visible(canvas, frame, visible, colour)
    for visible, whole, colour in objects:
        outline_hidden(canvas, frame, visible, whole, colour)
    picture = to_picture(canvas)
    _draw_labels(picture, frame, [m if m.any() else a for m, a in zip(modal, amodal, strict=True)], titles, colours)
    if not legend:
        return picture
    hidden = [hidden_share(m, a) for m, a in zip(modal, amodal, strict=True)]
    return stack_pictures(picture, _overlay_legend(frame, titles, colours, hidden, alpha))


def _draw_labels(
    picture: Image.Image, frame: Frame, masks: Sequence[BoolArray], titles: Sequence[str], colours: Sequence[Colour]
) -> None:
    """Puts a tag on each object, where it covers no earlier tag."""
    placed: list[tuple[float, float, float, float]] = []
    tags = []
    for index, mask in enumerate(masks):
        title = titles[index] if len(masks) <= 12 else ""
        tag = Tag(index, title, colours[index], frame)
        width, height = tag.size
        boxes = []
        for x, y in deepest_points(mask) * frame.scale:
            left = min(max(x - width / 2, 2.0), max(2.0, picture.width - width - 2))
            top = min(max(y - height / 2, 2.0), max(2.0, picture.height - height - 2))
            boxes.append((left, top, left + width, top + height))
        if boxes:
            best = min(boxes, key=lambda box: sum(_overlap(box, other) for other in placed))
            placed.append(best)
            tags.append((tag, best[0], best[1]))
    draw_tags(picture, tags)


def _overlap(box: tuple[float, ...], other: tuple[float, ...]) -> float:
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _overlay_legend(
    frame: Frame, titles: Sequence[str], colours: Sequence[Colour], hidden: Sequence[float | None], alpha: float
) -> Image.Image:
    """Rows of "(0) saucer: 31% hidden", and what the tint and the hatching stand for."""
    unit, font = frame.unit, frame.font(20)
    tags = []
    for index, colour in enumerate(colours):
        share = hidden[index]
        what = "not visible" if share is None else f"{100 * share:.0f}% hidden"
        title = f"{titles[index]}: {what}" if titles[index] else what
        tags.append(Tag(index, title, colour, frame, units=20))
    gap, row, margin = 26 * unit, 44 * unit, 16 * unit
    left, top, places = margin, margin, []
    for tag in tags:
        width = tag.size[0]
        if left + width > frame.size[0] - margin and left > margin:
            left, top = margin, top + row
        places.append((tag, left, top))
        left += width + gap
    texts = ["visible part", "hidden part, completed"]
    key_top = top + row if tags else top
    strip = Image.new("RGB", (frame.size[0], math.ceil(key_top + row + margin / 2)), PAPER)
    draw_tags(strip, places)
    left = margin
    for text, is_hidden in zip(texts, (False, True), strict=True):
        patch = swatch(frame, mix(INK, PAPER, 0.2), alpha, is_hidden=is_hidden)
        strip.paste(patch, (round(left), round(key_top)))
        left += patch.width + 10 * unit
        ImageDraw.Draw(strip).text((left, key_top + patch.height / 2), text, INK, font, anchor="lm")
        left += text_width(text, font) + 2 * gap
    return strip


# --- the order graph -----------------------------------------------------------------------------------------------
