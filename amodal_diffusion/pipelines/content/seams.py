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

    The error of the network is known where it painted pixels that it was not shown but the photo has: the rim by which
    the hole was dilated. That difference is continued as a membrane over the hole (`pull_push`) and added, fading out
    with the distance from the photo. Detail of the painting is kept, since the correction is smooth; a constant cast
    disappears; and no pixel of the photo is touched, which mixing over the seam could not do without.

    Args:
        painted: (B, 3, h, w) float32 in [0, 1], the network's answer everywhere.
        photo: (B, 3, h, w) float32 in [0, 1]; only looked at where `trusted`.
        trusted: (B, 1, h, w) float32 in [0, 1], pixels that the network painted unseen and whose colour is known.
        known: (B, 1, h, w) bool, the side of the seam that stays the photo.
        width: distance in pixels over which the correction fades out; 0 gives `painted` back.

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

    What a network paints at 256 pixels misses the photo's colours by a little along the whole seam. The difference
    there is continued over the hole as a membrane (`pull_push`) and added: the painting gives the detail, the photo
    the colours, as when a cut-out is blended in by its gradients.

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
    """Weights of the pixels of a rim: the inner half counts little, since colours of both sides mix next to the core.

    Args:
        rim: (B, 1, h, w) bool, painted unseen, colour known.
        core: (B, 1, h, w) bool, what is replaced.
        width: of the rim in pixels.

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
    """(h, w) float32 weights for `continue_photo`: `own` pixels before all others, none within `margin` of the hole.

    Args:
        own: (h, w) bool, pixels of what is continued.
        hole: (h, w) bool.
        margin: in pixels.

    Example:
        >>> own = np.array([[1, 1, 0, 0]], dtype=bool)
        >>> hole = np.array([[0, 0, 0, 1]], dtype=bool)
        >>> trusted_photo(own, hole, margin=1)
        tensor([[1., 1., 0., 0.]])
    """
    far = ~dilate(hole, kernel="square", size=2 * margin + 1) if margin else ~hole
    return torch.from_numpy(np.where(own, np.float32(1), np.float32(_OTHERS)) * far)
