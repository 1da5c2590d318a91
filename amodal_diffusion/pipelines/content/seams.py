"""Seams between a photo and what fills a hole: colours that meet, and no outline of what was removed."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...masks import BoolArray, dilate, erode, mask_boxes, mask_pixels
from ...models.pull_push import pull_push

# Weight of a pixel that is believed only where nothing better is near.
_DOUBTFUL = 1e-3
# Weight of a pixel of the photo that is not of the object.
_OTHERS = 1e-3
_STEPS = 32

_MOST_AWAY = 6  # pixels from what was removed that are looked at
_LINE_BESIDE = 5  # pixels around one beside a hole: of what lies on both sides
_LINE_ALONG = 3  # likewise, of the line that it may belong to
_ODD_LINE, _ODD_PIXEL = (1.2, 4.0), (2.5, 8.0)  # difference from both sides: standard deviations, and of 255
_TOWARDS = 0.7  # cosine between that and the difference of what was removed from what lies around it
_AT_ONCE = 4096  # pixels that are looked at at a time
_FEW = 4  # pixels that say nothing of a colour


def nearness(mask: Tensor, width: int) -> Tensor:
    """1 on the mask, falling in up to 32 steps to 0 at a distance of more than `width` pixels.

    Args:
        mask: (B, 1, h, w) bool.
        width: 0 gives the mask itself.

    Returns:
        (B, 1, h, w) float32.

    Example:
        >>> mask = torch.tensor([1, 0, 0, 0, 0], dtype=torch.bool).view(1, 1, 1, 5)
        >>> nearness(mask, 2)[0, 0, 0]
        tensor([1.0000, 0.7407, 0.2593, 0.0000, 0.0000])
    """
    step = -(-width // _STEPS) or 1
    count = width // step
    near = mask.float()
    total = near.clone()
    for _ in range(count):
        near = dilate(near, kernel="square", size=2 * step + 1)
        total += near
    share = total / (count + 1)
    return share * share * (3 - 2 * share)


def match_seam(painted: Tensor, photo: Tensor, trusted: Tensor, known: Tensor, width: int) -> Tensor:
    """Shift what a network painted so that its colours meet those of the photo at the seam.

    On the rim by which the hole was dilated, the network painted pixels that it did not see but the photo has, so its
    error is known there. The difference is continued smoothly over the hole (`pull_push`) and added, fading out with
    the distance from the photo. Because the correction is smooth, the detail of the painting is kept and a constant
    colour cast disappears. No pixel of the photo is changed.

    Args:
        painted: (B, 3, h, w) float32 in [0, 1], the network's answer everywhere.
        photo: (B, 3, h, w) float32 in [0, 1]; only looked at where `trusted`.
        trusted: (B, 1, h, w) float32 in [0, 1], weights of pixels that the network did not see but the photo has.
        known: (B, 1, h, w) bool, the pixels that keep the photo's colours.
        width: distance in pixels over which the correction fades out; 0 corrects nothing.

    Returns:
        (B, 3, h, w) float32 in [0, 1].

    Example:
        >>> known = torch.tensor([1, 1, 0, 0], dtype=torch.bool).view(1, 1, 1, 4)
        >>> photo, painted = torch.full((1, 3, 1, 4), 0.5), torch.full((1, 3, 1, 4), 0.4)
        >>> match_seam(painted, photo, trusted=known.float(), known=known, width=64)[0, 0, 0].round(decimals=1)
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """
    if width == 0:
        return painted.clamp(0, 1)
    correction = pull_push(photo - painted, trusted)
    return (painted + correction * nearness(known, width)).clamp(0, 1)


def continue_photo(painted: Tensor, photo: Tensor, weights: Tensor) -> Tensor:
    """Shift what was painted so that it meets the photo pixel by pixel, at the photo's own resolution.

    What a network paints at 256 pixels differs a little from the photo along the seam. The difference is continued
    smoothly over the hole (`pull_push`) and added, as in gradient-domain blending: detail comes from the painting,
    colours from the photo.

    Args:
        painted: (3, h, w) float32 in [0, 1].
        photo: (3, h, w) float32 in [0, 1].
        weights: (h, w) float32 in [0, 1], how far each pixel of the photo is to be trusted; 0 in the hole.

    Returns:
        (3, h, w) float32 in [0, 1]; `painted` where nothing is trusted.

    Example:
        >>> photo, painted = torch.full((3, 1, 4), 0.5), torch.full((3, 1, 4), 0.4)
        >>> continue_photo(painted, photo, torch.tensor([[1.0, 1.0, 0.0, 0.0]]))[0].round(decimals=1)
        tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """
    correction = pull_push((photo - painted)[None], weights[None, None])[0]
    return (painted + correction).clamp(0, 1)


def trusted_rim(rim: Tensor, core: Tensor, width: int) -> Tensor:
    """Weights of the pixels of a rim: the inner half counts little, because colours of both sides mix next to the core.

    Args:
        rim: (B, 1, h, w) bool, pixels that the network did not see but the photo has.
        core: (B, 1, h, w) bool, pixels that are replaced.
        width: width of the rim in pixels.

    Returns:
        (B, 1, h, w) float32 in [0, 1].

    Example:
        >>> rim = torch.tensor([0, 1, 1, 1], dtype=torch.bool).view(1, 1, 1, 4)
        >>> core = torch.tensor([1, 0, 0, 0], dtype=torch.bool).view(1, 1, 1, 4)
        >>> trusted_rim(rim, core, width=3)[0, 0, 0]
        tensor([0.0000, 0.0010, 0.0010, 1.0000])
    """
    reach = (width + 1) // 2
    beside = dilate(core, kernel="square", size=2 * reach + 1)
    return rim.float() * torch.where(beside, _DOUBTFUL, 1.0)


def trusted_photo(own: np.ndarray, hole: np.ndarray, margin: int) -> Tensor:
    """Weights for `continue_photo`: high for `own` pixels, low for all others, 0 within `margin` of the hole.

    Args:
        own: (h, w) bool, pixels of the object that is continued.
        hole: (h, w) bool, the pixels to fill.
        margin: in pixels.

    Returns:
        (h, w) float32 in [0, 1].

    Example:
        >>> own = np.array([[1, 1, 0, 0]], dtype=bool)
        >>> hole = np.array([[0, 0, 0, 1]], dtype=bool)
        >>> trusted_photo(own, hole, margin=1)
        tensor([[1., 1., 0., 0.]])
    """
    far = ~dilate(hole, kernel="square", size=2 * margin + 1) if margin else ~hole
    return torch.from_numpy(np.where(own, np.float32(1), np.float32(_OTHERS)) * far)


def erase_outline(
    filled: npt.NDArray[np.uint8],
    photo: npt.NDArray[np.uint8],
    removed: BoolArray,
    hole: BoolArray,
    margin: int,
    avoid: BoolArray | None = None,
) -> None:
    """Take the lines along a filled hole out of a picture that show the outline of what was removed.

    Sharpening draws a bright line around what is dark, and a mask that ends too early leaves a line of the object: it
    differs from what lies on both sides of it, towards the colours of the object or away from them.

    Args:
        filled: (H, W, 3) uint8, the photo with its hole filled; changed in place.
        photo: (H, W, 3) uint8, the photo.
        removed: (H, W) bool, what was removed.
        hole: (H, W) bool, what was filled: that, and what of its rim was filled with it.
        margin: pixels around what was removed that are looked at, at most 6.
        avoid: (H, W) bool, what belongs to others, or None.

    Example:
        >>> photo, hole = np.full((40, 40, 3), 90, np.uint8), np.zeros((40, 40), bool)
        >>> photo[10:30, 10:30], hole[11:29, 11:29] = 160, True
        >>> filled = np.where(hole[..., None], np.uint8([[[95]]]), photo)
        >>> photo[11:29, 11:29] = 20
        >>> erase_outline(filled, photo, hole, hole, 2)
        >>> filled[20, 8:13, 0]
        array([90, 90, 92, 95, 95], dtype=uint8)
    """
    margin = min(margin, _MOST_AWAY)
    reach = margin + _LINE_BESIDE
    if not margin or not hole.any():
        return
    x, y, w, h = mask_boxes(hole[None])[0].tolist()
    where = (slice(max(0, y - reach), y + h + reach), slice(max(0, x - reach), x + w + reach))
    filled, photo, removed, hole = filled[where], photo[where], removed[where], hole[where]
    free = ~hole if avoid is None else ~(hole | dilate(avoid[where], kernel="square", size=3))
    reached = dilate(removed, kernel="square", size=2 * margin + 1)
    further, core = free & ~reached, erode(removed, kernel="square", size=3)
    across, along = 3 * np.arange(-(reach // 3), reach // 3 + 1), np.arange(-_LINE_ALONG, _LINE_ALONG + 1)
    changes, inside = [], hole
    for _ in range(margin):
        wider = dilate(inside, kernel="square", size=3)
        ring = wider & ~inside & reached & free
        inside = wider
        y, x = mask_pixels(ring)
        for start in range(0, len(y), _AT_ONCE):
            here = y[start : start + _AT_ONCE], x[start : start + _AT_ONCE]
            outer, spread = _colours_near(photo, further, here, across)
            odd = ((photo[here] - outer) ** 2).sum(axis=1) > _ODD_PIXEL[0] ** 2 * spread + 3 * _ODD_PIXEL[1] ** 2
            here, outer, spread = (here[0][odd], here[1][odd]), outer[odd], spread[odd]
            inner, spread_inner = _colours_near(filled, hole, here, across)
            front, known = _colours_near(photo, core, here, across)
            spread = np.maximum(spread, spread_inner)
            line = _colours_near(photo, ring, here, along)[0]
            differs = np.isfinite(spread) & np.isfinite(known)
            for shown, (times, least) in ((line, _ODD_LINE), (photo[here].astype(np.float32), _ODD_PIXEL)):
                alike = ((shown - outer) * (shown - inner)).sum(axis=1)
                differs &= alike > times**2 * spread + 3 * least**2
            towards, step = front - outer, line - outer
            lengths = np.sqrt((towards**2).sum(axis=1) * (step**2).sum(axis=1))
            differs &= np.abs((towards * step).sum(axis=1)) > _TOWARDS * lengths
            changes.append(((here[0][differs], here[1][differs]), (outer + inner)[differs] / 2))
    for places, colours in changes:
        filled[places] = np.rint(colours)


def _colours_near(
    photo: npt.NDArray[np.uint8],
    mask: BoolArray,
    places: tuple[npt.NDArray[np.intp], ...],
    steps: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean (n, 3) and variance (n,) of a mask's colours at some steps around places; infinite where there are few."""
    y, x = places[0][:, None, None] + steps[:, None], places[1][:, None, None] + steps
    inside = (y >= 0) & (y < mask.shape[0]) & (x >= 0) & (x < mask.shape[1])
    y, x = y.clip(0, mask.shape[0] - 1), x.clip(0, mask.shape[1] - 1)
    weights = (mask[y, x] & inside).astype(np.float32)
    counts = weights.sum(axis=(1, 2))
    weights /= np.maximum(counts, 1)[:, None, None]
    colours = photo[y, x].astype(np.float32)
    mean = np.einsum("nyx,nyxc->nc", weights, colours)
    square = np.einsum("nyx,nyxc,nyxc->n", weights, colours, colours)
    return mean, np.where(counts < _FEW, np.inf, np.maximum(square - np.square(mean).sum(axis=1), 0))
