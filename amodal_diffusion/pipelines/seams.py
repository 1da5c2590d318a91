"""Seams between a photo and what a network painted: a smooth correction that makes the colours meet."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Weight of a pixel that is believed only where nothing better is near.
_DOUBTFUL = 1e-3


def pull_push(values: Tensor, weights: Tensor) -> Tensor:
    """Continue scattered values smoothly over the whole picture.

    A pyramid of weighted means takes the place of solving for a membrane: near the values it follows them, further off
    it tends to the mean of what is nearest. Linear in the number of pixels.

    Args:
        values: (B, C, h, w) floats.
        weights: (B, 1, h, w) floats in [0, 1], how far each value is to be trusted; 0 where there is none.

    Returns:
        (B, C, h, w); zeros for a picture without any weight.
    """
    if values.shape[-2:] == (1, 1):
        return values * (weights > 0)
    # Divided by the number of pixels in the frame: the last row and column of an odd size have windows of fewer.
    mean_weights = F.avg_pool2d(weights, 2, ceil_mode=True, count_include_pad=False)
    means = F.avg_pool2d(values * weights, 2, ceil_mode=True, count_include_pad=False)
    means = means / mean_weights.clamp(min=1e-8)
    coarse = pull_push(means, (4 * mean_weights).clamp(max=1))
    smooth = F.interpolate(coarse, size=values.shape[-2:], mode="bilinear", align_corners=False)
    return weights * values + (1 - weights) * smooth


def nearness(mask: Tensor, width: int) -> Tensor:
    """1 on the mask, falling smoothly to 0 at a distance of more than `width` pixels.

    Args:
        mask: (B, 1, h, w) bool.
        width: 0 gives the mask itself.

    Returns:
        (B, 1, h, w) float32.
    """
    near = mask.float()
    total = near.clone()
    for _ in range(width):
        near = F.max_pool2d(near, 3, stride=1, padding=1)
        total += near
    share = total / (width + 1)
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
    """
    if width == 0:
        return painted.clamp(0, 1)
    correction = pull_push(photo - painted, trusted)
    return (painted + correction * nearness(known, width)).clamp(0, 1)


def trusted_rim(rim: Tensor, core: Tensor, width: int) -> Tensor:
    """Weights of the pixels of a rim: the inner half counts little, since colours of both sides mix next to the core.

    Args:
        rim: (B, 1, h, w) bool, painted unseen, colour known.
        core: (B, 1, h, w) bool, what is replaced.
        width: of the rim in pixels.

    Returns:
        (B, 1, h, w) float32 in [0, 1].
    """
    reach = (width + 1) // 2
    beside = F.max_pool2d(core.float(), 2 * reach + 1, stride=1, padding=reach)
    return rim.float() * torch.where(beside > 0, _DOUBTFUL, 1.0)
