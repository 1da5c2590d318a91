"""Distances of fills to the truth on the features of EfficientNet-lite0, whose weights come with a package.

They are made like LPIPS (Zhang et al., CVPR 2018) and FID (Heusel et al., NeurIPS 2017), but by another network: no
value is comparable with published ones. Use them to compare fillers with each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ..crops import crop_boxes, crop_images, crop_masks
from ..images import normalize_images
from ..masks import mask_boxes

if TYPE_CHECKING:
    from ..models import EfficientNetLite0
from .functional import ratio

_SIDE = 224  # of the crops, in pixels: what the network was trained on
_ENLARGE = 2.0  # area of a crop over that of the hole's box
_TEXTURE_LEVEL = 2  # stride 8


class LiteDistances:
    """Distances over a data set of holes; each is seen in a square crop of 224 pixels around it.

    `compute` gives, 0 for the truth itself and NaN without holes:

    - `lite_lpips`: squared distance of the feature maps, unit length along the channels, mean over the hole and the
      five levels, mean over holes
    - `lite_fid`: Fréchet distance of the pooled features of all crops
    - `lite_texture`: Fréchet distance of the features at stride 8 of all cells in the holes, whatever their places

    The two Fréchet distances grow where there are few holes: compare fillers on the same ones.

    Args:
        network: None takes `EfficientNetLite0.from_package()`.

    Example:
        >>> from amodal_diffusion.models import EfficientNetLite0
        >>> distances = LiteDistances(EfficientNetLite0())
        >>> truth, hole = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), dtype=bool)
        >>> hole[8:24, 8:24] = True
        >>> for _ in range(2):
        ...     distances.update(truth, truth, hole)
        >>> sorted(distances.compute())
        ['lite_fid', 'lite_lpips', 'lite_texture']
    """

    def __init__(self, network: EfficientNetLite0 | None = None) -> None:
        from ..models import EfficientNetLite0  # here, since it brings diffusers in

        self.network = (EfficientNetLite0.from_package() if network is None else network).eval()
        self.reset()

    def reset(self) -> None:
        """Forget everything counted so far."""
        self._distances: list[float] = []
        self._pooled: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._cells: tuple[list[Tensor], list[Tensor]] = ([], [])

    @torch.no_grad()
    def update(self, fill: npt.ArrayLike, truth: npt.ArrayLike, hole: npt.ArrayLike) -> None:
        """Count one hole; an empty one counts nothing.

        Args:
            fill: (H, W, 3) uint8; outside of the hole the truth is taken.
            truth: (H, W, 3) uint8.
            hole: (H, W) bool.

        Raises:
            ValueError: other shapes.
        """
        fill, truth, hole = np.asarray(fill), np.asarray(truth), np.asarray(hole, dtype=bool)
        if hole.ndim != 2 or fill.shape != (*hole.shape, 3) or truth.shape != fill.shape:
            raise ValueError(
                "`fill` and `truth` must have shape (H, W, 3) and `hole` (H, W), got "
                f"{fill.shape}, {truth.shape} and {hole.shape}."
            )
        if not hole.any():
            return
        box = torch.from_numpy(crop_boxes(mask_boxes(hole[None]), enlarge_box=_ENLARGE))
        crops = []
        for picture in (np.where(hole[..., None], fill, truth), truth):
            planes = torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)
            crops.append(crop_images(planes, box, _SIDE).clamp(0, 1))
        inside = crop_masks(torch.from_numpy(hole)[None], box, _SIDE)[:, None].float()  # [1, 1, s, s]
        output = self.network(normalize_images(torch.cat(crops)))
        levels = []
        for level, maps in enumerate(output.feature_maps):
            share = F.adaptive_avg_pool2d(inside, maps.shape[-2:])  # [1, 1, h, w]
            unit = F.normalize(maps, dim=1)
            squares = (unit[:1] - unit[1:]).square().sum(1, keepdim=True)
            levels.append(ratio((squares * share).sum(), share.sum()))
            if level == _TEXTURE_LEVEL:
                cells = share[0, 0] > 0.5
                for kept, found in zip(self._cells, maps, strict=True):
                    kept.append(found[:, cells].T)
        self._distances.append(float(np.mean(levels)))
        for kept, found in zip(self._pooled, output.pooled, strict=True):
            kept.append(found[None])

    def compute(self) -> dict[str, float]:
        """The distances of everything counted so far."""
        pooled, cells = (
            float("nan") if not parts[0] else frechet_distance(*(torch.cat(part) for part in parts))
            for parts in (self._pooled, self._cells)
        )
        perceptual = float(np.mean(self._distances)) if self._distances else float("nan")
        return {"lite_lpips": perceptual, "lite_fid": pooled, "lite_texture": cells}


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Fréchet distance of the Gaussians that have the mean and the covariance of two sets of features.

    |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½), exact for fewer features than dimensions too. Source: Heusel et al., 2017.

    Args:
        first: (N, D) floating point.
        second: (M, D).

    Returns:
        The distance, at least 0; NaN with fewer than two features on a side.

    Raises:
        ValueError: other shapes.

    Example:
        >>> features = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        >>> round(frechet_distance(features, features + 2), 4)
        8.0
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(
            f"`first` and `second` must have shapes (N, D) and (M, D), got {tuple(first.shape)} and "
            f"{tuple(second.shape)}."
        )
    if min(len(first), len(second)) < 2:
        return float("nan")
    means = [features.double().mean(0) for features in (first, second)]
    # The eigenvalues of C1 C2 are the squared singular values of the product of their square roots; with more features
    # than dimensions these are reduced to D rows first.
    roots = []
    for features, mean in zip((first, second), means, strict=True):
        root = (features.double() - mean) / (len(features) - 1) ** 0.5
        roots.append(torch.linalg.qr(root).R if len(root) > root.shape[1] else root)
    shared = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    spread = sum(root.square().sum() for root in roots)
    distance = (means[0] - means[1]).square().sum() + spread - 2 * shared
    return max(0.0, float(distance))
