"""Pictures of validation samples."""

import numpy as np
import torch
from torch import Tensor

_VISIBLE = torch.tensor([0.96, 0.96, 0.94])
_ERASER = torch.tensor([0.36, 0.42, 0.52])
_HIDDEN = torch.tensor([0.95, 0.55, 0.15])


def mask_grid(mask: Tensor, eraser: Tensor, target: Tensor, probability: Tensor, *, count: int = 8) -> np.ndarray:
    """Two rows of samples (H, W, 3) uint8: truth above, prediction below.

    White is what was seen of the object, grey the eraser, orange what is hidden (below: as far as it is probable).
    All inputs (B, 1, S, S) in [0, 1].
    """
    rows = [_paint(mask[:count], eraser[:count], hidden[:count]) for hidden in (target, probability)]
    picture = torch.cat([torch.cat(list(row), dim=1) for row in rows], dim=0)
    return (picture * 255).round().to(torch.uint8).numpy()


def _paint(mask: Tensor, eraser: Tensor, hidden: Tensor) -> Tensor:
    """(B, S, S, 3) in [0, 1], with a thin border so that neighbours stay apart."""
    mask, eraser, hidden = (plane[:, 0, :, :, None].float().cpu() for plane in (mask, eraser, hidden))
    picture = eraser * _ERASER
    picture = picture * (1 - hidden) + hidden * _HIDDEN
    picture = picture * (1 - mask) + mask * _VISIBLE
    picture[:, [0, -1]] = 0.25
    picture[:, :, [0, -1]] = 0.25
    return picture


def completion_grid(mask: Tensor, rows: list[Tensor], *, count: int = 12) -> np.ndarray:
    """Rows of masks completed in several ways, one object a column: (H, W, 3) uint8.

    White is what was seen of the object, orange what each row adds, as far as it is probable. All (B, 1, S, S) in
    [0, 1].
    """
    nothing = torch.zeros_like(mask[:count])
    painted = [_paint(mask[:count], nothing, row[:count]) for row in rows]
    picture = torch.cat([torch.cat(list(row), dim=1) for row in painted], dim=0)
    return (picture * 255).round().to(torch.uint8).numpy()


def photo_grid(images: Tensor, mask: Tensor, target: Tensor, probability: Tensor) -> np.ndarray:
    """Two rows of crops (H, W, 3) uint8 on the photo: truth above, prediction below.

    White is what was seen of the object, orange what is hidden (below: as far as it is probable).

    Args:
        images: (B, 3, s, s) crops of the photos in [0, 1].
        mask: (B, 1, s, s) modal masks.
        target: (B, 1, s, s) amodal masks.
        probability: (B, 1, s, s) P(object).
    """
    photo = images.permute(0, 2, 3, 1).float()
    seen, truth, guess = (plane[:, 0, :, :, None].float() for plane in (mask, target, probability))
    rows = []
    for hidden in (truth, guess):
        hidden = 0.7 * hidden * (1 - seen)
        picture = photo * (1 - hidden) + hidden * _HIDDEN
        picture = picture * (1 - 0.6 * seen) + 0.6 * seen * _VISIBLE
        picture[:, [0, -1]] = 0.25
        picture[:, :, [0, -1]] = 0.25
        rows.append(torch.cat(list(picture), dim=1))
    return (torch.cat(rows, dim=0).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
