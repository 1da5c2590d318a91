"""Synthetic regions that stand for "stuff" (road, sky, wall, table top) in occlusion synthesis.

Data sets of modal masks label countable objects, but amodal annotators also complete the ground behind them. A region
is a convex piece of a photo's frame, bounded by one to four lines that may wave a little.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...display import short_repr

_MAX_LINES = 4


@dataclass
class Regions:
    """N regions as intersections of half-planes in box coordinates ([-0.5, 0.5]² over the box).

    Args:
        angles: (N, L) direction of each bounding line's normal in radians; the region lies on its negative side.
        offsets: (N, L) distance of each line from the centre along its normal; +inf where the line is not used.
        amplitudes, frequencies, phases: (N, L) of the lines' waves.

    Example:
        >>> regions = sample_regions(2, torch.Generator().manual_seed(0))
        >>> regions.render(torch.tensor([[-0.5, -0.5, 0.5, 0.5]]).expand(2, 4), size=16).shape
        torch.Size([2, 16, 16])
    """

    angles: Tensor
    offsets: Tensor
    amplitudes: Tensor
    frequencies: Tensor
    phases: Tensor

    __repr__ = short_repr

    def render(self, boxes: Tensor, size: int) -> Tensor:
        """(N, S, S) bool for a crop of `size` pixels; boxes (N, 4) [left, top, right, bottom] in crop units."""
        axis = (torch.arange(size, device=boxes.device, dtype=torch.float32) + 0.5) / size - 0.5
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        extent = boxes[:, 2:] - boxes[:, :2]
        x = ((axis - centre[:, :1]) / extent[:, :1])[:, None, :]  # [N, 1, S]
        y = ((axis - centre[:, 1:]) / extent[:, 1:])[:, :, None]  # [N, S, 1]
        region = (x.abs() <= 0.5) & (y.abs() <= 0.5)
        for line in range(self.angles.shape[1]):
            cos, sin = (f(self.angles[:, line])[:, None, None] for f in (torch.cos, torch.sin))
            along = x * -sin + y * cos
            wave = self.amplitudes[:, line, None, None] * torch.sin(
                along * self.frequencies[:, line, None, None] + self.phases[:, line, None, None]
            )
            region &= x * cos + y * sin + wave <= self.offsets[:, line, None, None]
        return region


def sample_regions(count: int, generator: torch.Generator) -> Regions:
    """Draw regions: mostly level or upright edges, one to four of them, half of them straight.

    Example:
        >>> sample_regions(3, torch.Generator().manual_seed(0)).angles.shape
        torch.Size([3, 4])
    """
    shape, device = (count, _MAX_LINES), generator.device

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(shape, generator=generator, device=device) * (high - low) + low

    quarter = torch.randint(4, shape, generator=generator, device=device) * (math.pi / 2)
    tilt = torch.randn(shape, generator=generator, device=device) * math.radians(8)
    free = uniform(0, 2 * math.pi)
    angles = torch.where(uniform(0, 1) < 0.75, quarter + tilt, free)
    lines = 1 + torch.randint(_MAX_LINES, (count, 1), generator=generator, device=device)
    unused = torch.arange(_MAX_LINES, device=device)[None] >= lines
    offsets = uniform(-0.1, 0.55).masked_fill(unused, math.inf)
    amplitudes = uniform(0.0, 0.06) * (uniform(0, 1) < 0.5)
    return Regions(angles, offsets, amplitudes, uniform(4, 40), uniform(0, 2 * math.pi))


def sample_frames(count: int, cut: Tensor, generator: torch.Generator) -> Tensor:
    """Frames (N, 4) [left, top, right, bottom] in crop units around the crop's centre, (-1, -1, 1, 1) where not `cut`.

    Crops reach beyond the photo for objects that fill it, so a frame cuts off up to a third of the crop on each side.

    Example:
        >>> sample_frames(2, torch.tensor([True, False]), torch.Generator().manual_seed(0))[1]
        tensor([-1., -1.,  1.,  1.])
    """
    device = generator.device
    margins = torch.rand((count, 4), generator=generator, device=device) * 0.33
    signs = torch.tensor([-1.0, -1.0, 1.0, 1.0], device=device)
    keep = torch.rand((count, 4), generator=generator, device=device) < 0.25
    frames = signs * torch.where(keep, 0.5, 0.5 - margins)
    return torch.where(cut[:, None], frames, signs)


def sample_region_boxes(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Boxes of regions as the crop rule would frame them, and frames of photos around those boxes.

    The crop rule gives a box of w x h at most a third of the crop's area and at most 1 / 1.1 of its side. Each side of
    the photo's frame coincides with the box (the ground ends where the photo ends) or lies up to 0.6 from the centre.

    Returns:
        boxes, frames: (N, 4) [left, top, right, bottom] in crop units around the crop's centre.

    Example:
        >>> boxes, frames = sample_region_boxes(2, torch.Generator().manual_seed(0))
        >>> boxes.shape, frames.shape
        (torch.Size([2, 4]), torch.Size([2, 4]))
    """
    device = generator.device

    def uniform(shape: tuple[int, ...], low: float, high: float) -> Tensor:
        return torch.rand(shape, generator=generator, device=device) * (high - low) + low

    aspect = torch.exp(uniform((count,), -1.0, 1.0))
    zoom = uniform((count,), 0.85, 1.3)
    half = torch.stack([(aspect / 3).sqrt(), (1 / (3 * aspect)).sqrt()], 1).clamp(max=1 / 1.1) * zoom[:, None] / 2
    centre = uniform((count, 2), -0.1, 0.1)
    boxes = torch.cat([centre - half, centre + half], 1)
    signs = torch.tensor([-1.0, -1.0, 1.0, 1.0], device=device)
    beyond = (boxes * signs).maximum(uniform((count, 4), 0.2, 0.6)) * signs
    frames = torch.where(uniform((count, 4), 0, 1) < 0.5, boxes, beyond)
    return boxes, frames
