"""Pictures of what a completion leaves open: several completions of one object, and where a model is unsure.

Internal; `amodal_diffusion.visualization` has the public names.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ..arguments.flags import check_flag
from ..display import describe
from ..images import load_image
from ..masks import MaskInput, mask_boxes, to_mask_stack
from ._drawing import (
    INK,
    PAPER,
    SMALLEST,
    BoolArray,
    Colour,
    FloatArray,
    Frame,
    Tag,
    blend,
    check_alpha,
    check_integer,
    check_number,
    check_size,
    draw_tags,
    fill_hidden,
    fill_visible,
    muted,
    outline,
    outline_hidden,
    outline_visible,
    palette,
    signed_depth,
    stack_pictures,
    text_width,
    to_picture,
)

# From pale yellow to near black, ever darker: the order is read without colour too.
_HEAT: tuple[Colour, ...] = ((255, 247, 188), (254, 196, 79), (236, 112, 20), (165, 15, 60), (60, 0, 50))
_MARGIN = 0.15


def draw_samples(
    image: Any,
    mask: MaskInput,
    samples: MaskInput,
    *,
    scores: Sequence[float] | None = None,
    columns: int | None = None,
    alpha: float = 0.5,
    size: int = 1200,
) -> Image.Image:
    """Draws several completions of one object side by side: its visible part tinted, each hidden part hatched.

    All panels show the same part of the photo, that around the union of the completions.

    Args:
        image: The photo, in any form that [`~amodal_diffusion.images.load_image`] takes.
        mask: The visible part, (H, W) or any form of `to_mask_stack` with one mask, of the photo's size.
        samples: K completions, (K, H, W) or any form of `to_mask_stack`.
        scores: K numbers, e.g. `sample_scores` of the object, written beside the number of each sample in percent.
        columns: Panels in a row; `None` takes four, or as many as there are samples where these are fewer.
        alpha: Opacity of the tint, 0 to 1.
        size: Width of the picture in pixels.

    Returns:
        An RGB picture with the samples in rows, the first on the left at the top.

    Raises:
        ValueError: No sample, masks of another size, more than one mask, too many or few scores, `columns` below 1,
            `alpha` outside [0, 1], scores that are not finite, `size` outside [64, 16384] or below 64 pixels a panel.

    Example:
        >>> mask = np.zeros((60, 90), bool)
        >>> mask[10:40, 10:45] = True
        >>> draw_samples(np.zeros((60, 90, 3), np.uint8), mask, np.stack([mask, mask]), size=200).mode
        'RGB'
    """
    photo = load_image(image)
    modal = to_mask_stack(mask, height=photo.height, width=photo.width)
    if len(modal) != 1:
        raise ValueError(f"mask must be the visible part of one object, got {len(modal)} masks")
    stack = to_mask_stack(samples, height=photo.height, width=photo.width)
    if not len(stack):
        raise ValueError("samples must hold at least one mask, got none")
    if scores is not None:
        found = np.asarray(scores).tolist()
        count = len(found) if isinstance(found, list) else describe(scores)
        if count != len(stack):
            raise ValueError(f"`scores` must hold one number for each of the {len(stack)} samples, got {count}")
        scores = [check_number("scores", score) for score in found]
    columns = min(4, len(stack)) if columns is None else check_integer("columns", columns, 1)
    size = check_size(size)
    alpha = check_alpha(alpha)
    gap = max(2, size // 200)
    width = (size - (columns - 1) * gap) // columns
    if width < SMALLEST:
        raise ValueError(f"`size` must be at least {SMALLEST} pixels a panel, got {size} for {columns} columns")
    left, top, right, bottom = _window(modal[0] | stack.any(axis=0))
    view = photo.crop((left, top, right, bottom))
    frame = Frame.for_photo(view.size, max(SMALLEST, round(width * max(view.size) / view.width)))
    # Letters and lines have one size, whatever the shape of the panels.
    frame = Frame((width, frame.size[1]), frame.scale, width / 500)
    modal, stack = modal[:, top:bottom, left:right], stack[:, top:bottom, left:right]
    rows = math.ceil(len(stack) / columns)
    height = frame.size[1]
    sheet = Image.new("RGB", (columns * width + (columns - 1) * gap, rows * height + (rows - 1) * gap), PAPER)
    backdrop = np.asarray(muted(view.resize(frame.size, Image.Resampling.LANCZOS), colour=0.45), dtype=np.float32)
    for index, sample in enumerate(stack):
        panel = _sample_panel(backdrop.copy(), frame, modal[0], sample, alpha)
        title = f"sample {index}" if scores is None else f"sample {index}: {100 * float(scores[index]):.0f}%"
        tag = Tag(None, title, PAPER, frame)
        draw_tags(panel, [(tag, 0.012 * width, 0.012 * width)])
        row, column = divmod(index, columns)
        sheet.paste(panel, (column * (width + gap), row * (height + gap)))
    return sheet


def draw_uncertainty(
    image: Any,
    uncertainty: npt.ArrayLike,
    masks: MaskInput | None = None,
    *,
    highest: float | None = None,
    size: int | None = 1200,
    legend: bool = True,
) -> Image.Image:
    """Draws where a model is unsure as a heat map over the photo: pale and transparent where little, dark where much.

    Args:
        image: The photo, in any form that [`~amodal_diffusion.images.load_image`] takes.
        uncertainty: (H, W) or (N, H, W) floats, not below 0, of the photo's size; of N objects the largest counts.
        masks: Objects to outline, (N, H, W) or any form of `to_mask_stack`, e.g. the visible or the whole masks.
        highest: The value at the dark end; `None` takes the largest of `uncertainty`. Values above it count as it.
        size: Pixels of the longer side of the photo in the picture; `None` keeps the photo's.
        legend: Whether a strip under the photo shows the colours with their values.

    Returns:
        An RGB picture.

    Raises:
        ValueError: Arrays of another size, negative or not finite values, `highest` not above 0, or `size`
            outside [64, 16384].

    Example:
        >>> unsure = np.linspace(0, 1, 90, dtype=np.float32) * np.ones((60, 1), np.float32)
        >>> draw_uncertainty(np.zeros((60, 90, 3), np.uint8), unsure, size=180).width
        180
    """
    photo = load_image(image)
    values = _highest_of_objects(uncertainty, photo.height, photo.width)
    if highest is None:
        highest = float(values.max(initial=0)) or 1.0
    else:
        highest = check_number("highest", highest, above=0)
    legend = check_flag("legend", legend)
    stack = None if masks is None else to_mask_stack(masks, height=photo.height, width=photo.width)
    frame = Frame.for_photo(photo.size, size)
    grey = muted(photo.resize(frame.size, Image.Resampling.LANCZOS), colour=0.1)
    faded = Image.blend(
        grey, Image.new("RGB", frame.size, PAPER), 0.4
    )  # so that the dark end stands out on a dark photo
    canvas = np.asarray(faded, dtype=np.float32).copy()
    scaled = Image.fromarray(values).resize(frame.size, Image.Resampling.BILINEAR)
    _blend_heat(canvas, (np.asarray(scaled, np.float64) / highest).clip(0, 1))
    for mask in () if stack is None else stack:
        window, depth = signed_depth(mask, frame)
        blend(canvas, window, outline(depth, 2.0 * frame.unit), PAPER, 0.8)
        blend(canvas, window, outline(depth, 0.9 * frame.unit), INK, 1.0)
    picture = to_picture(canvas)
    return stack_pictures(picture, _heat_legend(frame, highest)) if legend else picture


def _window(mask: BoolArray) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) around a mask with a margin, inside the photo and not thin; the photo if it is empty.

    Panels that are very wide or very high would leave nothing to see of the others.
    """
    height, width = mask.shape
    x, y, w, h = (int(value) for value in mask_boxes(mask[None])[0])
    if w == 0:
        return 0, 0, width, height
    margin = math.ceil(_MARGIN * max(w, h)) + 2
    wide, high = max(w + 2 * margin, (h + 2 * margin) // 2), max(h + 2 * margin, (w + 2 * margin) // 2)
    left, top = x - (wide - w) // 2, y - (high - h) // 2
    return max(0, left), max(0, top), min(width, left + wide), min(height, top + high)


def _sample_panel(canvas: FloatArray, frame: Frame, modal: BoolArray, sample: BoolArray, alpha: float) -> Image.Image:
    visible, hidden = palette(2)
    fill_visible(canvas, frame, modal, visible, alpha)
    fill_hidden(canvas, frame, modal, sample | modal, hidden, leaning=True)
    outline_visible(canvas, frame, modal, visible)
    outline_hidden(canvas, frame, modal, sample | modal, hidden)
    return to_picture(canvas)


def _highest_of_objects(uncertainty: npt.ArrayLike, height: int, width: int) -> FloatArray:
    try:
        values = np.asarray(uncertainty, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise TypeError(f"uncertainty must hold numbers: {error}") from error
    if values.ndim not in (2, 3) or values.shape[-2:] != (height, width):
        raise ValueError(
            f"uncertainty must have shape ({height}, {width}) or (N, {height}, {width}), the size of the photo, "
            f"got {values.shape}"
        )
    if not np.isfinite(values).all() or values.min(initial=0) < 0:
        raise ValueError("uncertainty must be finite and not below 0")
    return values if values.ndim == 2 else values.max(axis=0, initial=0)


def _heat(level: FloatArray) -> FloatArray:
    """Colours (..., 3) of levels (...) in [0, 1]."""
    stops = np.linspace(0, 1, len(_HEAT))
    channels = np.array(_HEAT, np.float32).T
    return np.stack([np.interp(level, stops, channel) for channel in channels], axis=-1).astype(np.float32)


def _blend_heat(canvas: FloatArray, level: FloatArray) -> None:
    opacity = (4 * level).clip(0, 0.85)[..., None]
    canvas += opacity * (_heat(level) - canvas)


def _heat_legend(frame: Frame, highest: float) -> Image.Image:
    """A bar from "sure, 0" to "unsure" with the value of its dark end, on the grey of a photo."""
    unit, font = frame.unit, frame.font(20)
    strip = Image.new("RGB", (frame.size[0], math.ceil(56 * unit)), PAPER)
    draw, middle, left = ImageDraw.Draw(strip), strip.height / 2, 16 * unit
    for text, is_bar in (("sure, 0", False), ("", True), (f"{highest:.2g}, unsure", False)):
        if is_bar:
            width, height = max(8, round(frame.size[0] * 0.4)), max(4, round(24 * unit))
            canvas = np.full((height, width, 3), 170, np.float32)
            _blend_heat(canvas, np.tile(np.linspace(0, 1, width, dtype=np.float32), (height, 1)))
            strip.paste(to_picture(canvas), (round(left), round(middle - height / 2)))
            left += width + 12 * unit
        else:
            draw.text((left, middle), text, INK, font, anchor="lm")
            left += text_width(text, font) + 12 * unit
    return strip
