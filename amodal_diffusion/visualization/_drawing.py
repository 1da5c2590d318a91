"""What the pictures of the package are painted with: outlines, hatching, tags. Internal; numpy and PIL alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageDraw, ImageFilter, ImageFont

from ..arguments.numeric import check_integer, check_number
from ..display import describe

Colour = tuple[int, int, int]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
Window = tuple[slice, slice]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

INK: Colour = (32, 36, 44)
PAPER: Colour = (255, 255, 255)
SUPERSAMPLING = 3
SMALLEST = 64
"""Pixels of a picture's side, or of a panel's."""
_THUMBNAIL = 160
_LARGEST = 16384  # pixels of a side, of which the drawing takes some gigabytes


@dataclass(frozen=True)
class Frame:
    """Size of the picture (width, height), its scale over the photo, and `unit`, a thousandth of its longer side."""

    size: tuple[int, int]
    scale: float
    unit: float

    @classmethod
    def for_photo(cls, photo_size: tuple[int, int], size: int | None) -> "Frame":
        longer = max(photo_size)
        size = longer if size is None else check_size(size)
        scale = size / longer
        width, height = (max(1, round(side * scale)) for side in photo_size)
        return cls((width, height), scale, size / 1000)

    def font(self, units: float) -> Font:
        return ImageFont.load_default(max(8.0, units * self.unit))


def check_size(size: Any) -> int:
    """`size` where it is a number of pixels that a picture may have; TypeError or ValueError otherwise."""
    return check_integer("size", size, SMALLEST, _LARGEST)


def check_alpha(alpha: Any) -> float:
    """`alpha` where it is a share; TypeError or ValueError otherwise."""
    return check_number("alpha", alpha, least=0, most=1)


def check_text(name: str, value: Any) -> str:
    """`value` where it is a text; TypeError naming it otherwise."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, got {describe(value)}")
    return value


def signed_depth(mask: BoolArray, frame: Frame) -> tuple[Window, FloatArray]:
    """Depth in picture pixels inside (positive) or outside a mask, exact within a few pixels of its outline.

    Returns the window (rows, columns) of the picture that the mask and its outline cover, and the depths there.
    """
    sigma = max(0.8 * frame.scale, frame.unit)
    margin = math.ceil(4 * sigma + 4 * frame.unit)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.float32)
    left = max(0, math.floor(columns[0] * frame.scale) - margin)
    top = max(0, math.floor(rows[0] * frame.scale) - margin)
    right = min(frame.size[0], math.ceil((columns[-1] + 1) * frame.scale) + margin)
    bottom = min(frame.size[1], math.ceil((rows[-1] + 1) * frame.scale) + margin)
    x, y = mask.shape[1] / frame.size[0], mask.shape[0] / frame.size[1]
    smooth = (
        Image.fromarray(mask.astype(np.uint8) * 255)
        .resize((right - left, bottom - top), Image.Resampling.BICUBIC, box=(left * x, top * y, right * x, bottom * y))
        .filter(ImageFilter.GaussianBlur(sigma))
    )
    coverage = np.asarray(smooth, dtype=np.float32).clip(0.5, 254.5) / 255
    # The blurred edge is the normal distribution function of the depth; its logistic approximation has an inverse.
    depth = sigma / 1.702 * np.log(coverage / (1 - coverage))
    return (slice(top, bottom), slice(left, right)), depth.astype(np.float32)


def depth_in(mask: BoolArray, frame: Frame, window: Window) -> FloatArray:
    """The depths of `mask` in another window of the picture."""
    own, depth = signed_depth(mask, frame)
    whole = np.full((frame.size[1], frame.size[0]), -1e3, np.float32)
    whole[own] = depth
    return whole[window]


def deepest_points(mask: BoolArray, count: int = 24) -> npt.NDArray[np.float64]:
    """Points (x, y) in a mask, in photo pixels, the one farthest from its outline first; (0, 2) for an empty mask."""
    step = max(1, math.ceil(max(mask.shape) / _THUMBNAIL))
    inside = np.pad(mask[::step, ::step], 1)
    if not inside.any():
        rows, columns = np.nonzero(mask)
        return np.array([[columns.mean() + 0.5, rows.mean() + 0.5]]) if rows.size else np.zeros((0, 2))
    depth = np.zeros(inside.shape, np.int32)
    while inside.any():
        depth += inside
        inner = inside[1:-1, 1:-1] & inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
        inside = np.pad(inner, 1)
    depth = depth[1:-1, 1:-1]
    rows, columns = np.nonzero(depth)
    middle = np.hypot(rows - rows.mean(), columns - columns.mean())
    ranked = np.lexsort((middle, -depth[rows, columns]))
    # The best point, then others spread over the ranking, so that a label that collides can go elsewhere.
    chosen = ranked[np.unique(np.linspace(0, len(ranked) - 1, count).astype(int))]
    return np.stack([columns[chosen] + 0.5, rows[chosen] + 0.5], axis=1) * step


def mix(colour: tuple[int, ...], other: tuple[int, ...], share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour[:3], other[:3], strict=True))
    return red, green, blue


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever reads better on a colour."""
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return INK if luminance > 128 else PAPER


def muted(photo: Image.Image, *, colour: float) -> Image.Image:
    """The photo with less colour, so that the tints stand out."""
    return Image.blend(photo.convert("L").convert("RGB"), photo, colour)


def blend(canvas: FloatArray, window: Window, coverage: FloatArray, colour: Colour, alpha: float) -> None:
    area = canvas[window]
    area += (coverage * alpha)[..., None] * (np.asarray(colour, np.float32) - area)


def outline(depth: FloatArray, half_width: float) -> FloatArray:
    return (half_width + 0.5 - np.abs(depth)).clip(0, 1)


def hatching(window: Window, period: float, width: float, *, leaning: bool) -> FloatArray:
    """Anti-aliased diagonal stripes, laid out over the whole picture so that they meet across windows."""
    rows = np.arange(window[0].start, window[0].stop, dtype=np.float32)[:, None]
    columns = np.arange(window[1].start, window[1].stop, dtype=np.float32)[None]
    along = (columns + rows if leaning else columns - rows) / math.sqrt(2)
    distance = np.abs(along % period - period / 2)
    return (width / 2 + 0.5 - distance).clip(0, 1)


def to_picture(canvas: FloatArray) -> Image.Image:
    """The RGB picture of a float canvas (H, W, 3) with values around 0 to 255."""
    return Image.fromarray(canvas.round().clip(0, 255).astype(np.uint8))


def scaled_font(font: Font, factor: float) -> Font:
    """The font at another size; the built-in bitmap font, which PIL uses without FreeType, has one size only."""
    return font.font_variant(size=font.size * factor) if isinstance(font, ImageFont.FreeTypeFont) else font


def text_width(text: str, font: Font) -> float:
    """Width of one line of text in pixels."""
    return float(font.getlength(text))


@dataclass(frozen=True)
class Tag:
    """A label: a numbered disc, a name, or a disc with a name beside it, on a light rounded ground.

    Args:
        number: What the disc shows; `None` for no disc.
        title: The name; "" for none.
        colour: Colour of the disc.
        frame: The picture that it belongs to.
        units: Height of the letters in thousandths of the picture's longer side.
    """

    number: int | None
    title: str
    colour: Colour
    frame: Frame
    units: float = 22

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in pixels of the picture."""
        height = self.units * 1.5 * self.frame.unit
        words = text_width(self.title, self.frame.font(self.units)) if self.title else 0.0
        if self.number is None:
            return words + 0.8 * height, height
        return (height + words + 0.45 * height if self.title else height), height

    def draw(self, draw: ImageDraw.ImageDraw, left: float, top: float, zoom: int) -> None:
        """Draws with its corner at (left, top), in pixels, on a sheet `zoom` times as large."""
        (width, height), font = self.size, self.frame.font(self.units)
        box = (zoom * left, zoom * top, zoom * (left + width), zoom * (top + height))
        draw.rounded_rectangle(box, zoom * height / 2, fill=(*PAPER, 235))
        middle, words_left = (box[1] + box[3]) / 2, box[0] + 0.4 * zoom * height
        if self.number is not None:
            inset = 0.09 * zoom * height
            disc = (box[0] + inset, box[1] + inset, box[0] + zoom * height - inset, box[3] - inset)
            draw.ellipse(disc, fill=(*self.colour, 255))
            centre = ((disc[0] + disc[2]) / 2, middle)
            draw.text(centre, str(self.number), ink_on(self.colour), scaled_font(font, 0.92 * zoom), anchor="mm")
            words_left = box[0] + 1.12 * zoom * height
        if self.title:
            draw.text((words_left, middle), self.title, INK, scaled_font(font, zoom), anchor="lm")


def draw_tags(picture: Image.Image, tags: Sequence[tuple[Tag, float, float]]) -> None:
    """Draws tags into a picture, each with its corner at (left, top), with smooth edges."""
    for tag, left, top in tags:
        width, height = (math.ceil(side) + 2 for side in tag.size)
        sheet = Image.new("RGBA", (width * SUPERSAMPLING, height * SUPERSAMPLING), (*PAPER, 0))
        x, y = math.floor(left), math.floor(top)
        tag.draw(ImageDraw.Draw(sheet), left - x, top - y, SUPERSAMPLING)
        small = sheet.reduce(SUPERSAMPLING)
        picture.paste(small.convert("RGB"), (x, y), small.getchannel("A"))


_OKABE_ITO = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00")


def check_names(names: Any, count: int) -> list[str]:
    """`names` as N strings, "" for none; ValueError for another number of them, TypeError for what is no text."""
    if names is None:
        return [""] * count
    if isinstance(names, str) or not hasattr(names, "__len__") or len(names) != count:
        raise ValueError(f"names must be a sequence of {count} strings, one for each object, got {describe(names)}")
    return ["" if name is None else _as_name(name) for name in names]


def _as_name(name: Any) -> str:
    """A text, or an integer such as a category's id as one."""
    if isinstance(name, int | np.integer) and not isinstance(name, bool):
        return describe(int(name))
    return check_text("names", name)


def palette(n: int) -> list[Colour]:
    """Colours for `n` objects, distinct under the common forms of colour blindness.

    The first seven are those of Okabe and Ito; later ones repeat them, in turn darker and lighter.

    Args:
        n: How many colours.

    Returns:
        `n` tuples (red, green, blue), each 0 to 255; an empty list for `n = 0`.

    Raises:
        TypeError: `n` is no integer.
        ValueError: `n` is negative.
    """
    check_integer("n", n, 0)
    colours = []
    for index in range(n):
        base = ImageColor.getrgb(_OKABE_ITO[index % len(_OKABE_ITO)])
        turn = index // len(_OKABE_ITO)
        towards = INK if turn % 2 else PAPER
        colours.append(mix(base, towards, min(0.75, 0.3 * ((turn + 1) // 2))))
    return colours


def fill_visible(canvas: FloatArray, frame: Frame, modal: BoolArray, colour: Colour, alpha: float) -> None:
    window, depth = signed_depth(modal, frame)
    blend(canvas, window, (depth + 0.5).clip(0, 1), colour, alpha)


def fill_hidden(
    canvas: FloatArray, frame: Frame, modal: BoolArray, amodal: BoolArray, colour: Colour, *, leaning: bool
) -> None:
    if not (amodal & ~modal).any():
        return
    window, whole = signed_depth(amodal, frame)
    area = (np.minimum(whole, -depth_in(modal, frame, window)) + 0.5).clip(0, 1)
    stripes = hatching(window, 11 * frame.unit, 3.6 * frame.unit, leaning=leaning)
    blend(canvas, window, area, mix(colour, PAPER, 0.55), 0.35)
    blend(canvas, window, area * stripes, colour, 0.95)


def outline_visible(canvas: FloatArray, frame: Frame, modal: BoolArray, colour: Colour) -> None:
    window, depth = signed_depth(modal, frame)
    inside = depth - 1.2 * frame.unit  # so that the outlines of two objects that touch lie side by side
    blend(canvas, window, outline(depth, 2.2 * frame.unit), PAPER, 0.75)
    blend(canvas, window, outline(inside, 1.1 * frame.unit), mix(colour, INK, 0.25), 1.0)


def outline_hidden(canvas: FloatArray, frame: Frame, modal: BoolArray, amodal: BoolArray, colour: Colour) -> None:
    """Outlines the whole object along its hidden part alone."""
    hidden = amodal & ~modal
    if not hidden.any():
        return
    window, whole = signed_depth(amodal, frame)
    near = (depth_in(hidden, frame, window) > -3.0 * frame.unit).astype(np.float32)
    blend(canvas, window, outline(whole, 3.0 * frame.unit) * near, PAPER, 0.9)
    blend(canvas, window, outline(whole, 1.7 * frame.unit) * near, mix(colour, INK, 0.25), 1.0)


def hidden_share(modal: BoolArray, amodal: BoolArray) -> float | None:
    whole = int((modal | amodal).sum())
    return None if whole == 0 else int((amodal & ~modal).sum()) / whole


def stack_pictures(picture: Image.Image, strip: Image.Image) -> Image.Image:
    both = Image.new("RGB", (picture.width, picture.height + strip.height), PAPER)
    both.paste(picture, (0, 0))
    both.paste(strip, (0, picture.height))
    return both


def swatch(frame: Frame, colour: Colour, alpha: float, *, is_hidden: bool) -> Image.Image:
    width, height = max(4, round(52 * frame.unit)), max(4, round(30 * frame.unit))
    canvas = np.full((height, width, 3), 170, np.float32)
    everywhere = (slice(0, height), slice(0, width))
    whole = np.ones((height, width), np.float32)
    if is_hidden:
        blend(canvas, everywhere, whole, mix(colour, PAPER, 0.55), 0.35)
        stripes = hatching(everywhere, 11 * frame.unit, 3.6 * frame.unit, leaning=True)
        blend(canvas, everywhere, stripes, colour, 0.95)
    else:
        blend(canvas, everywhere, whole, colour, max(alpha, 0.2))
    return to_picture(canvas)
