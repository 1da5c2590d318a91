"""Seams between a photo and what a network painted: a smooth correction that makes the colours meet."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...masks import dilate
from ...models.pull_push import pull_push

# Weight of a pixel that is believed only where nothing better is near.
_DOUBTFUL = 1e-3
# Weight of a pixel of the photo that is not of the object.
_OTHERS = 1e-3
_STEPS = 32


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
        near = F.max_pool2d(near, (2 * step + 1, 1), stride=1, padding=(step, 0))
        near = F.max_pool2d(near, (1, 2 * step + 1), stride=1, padding=(0, step))
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
    beside = F.max_pool2d(core.float(), 2 * reach + 1, stride=1, padding=reach)
    return rim.float() * torch.where(beside > 0, _DOUBTFUL, 1.0)


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
