"""The Fréchet Inception distance of pictures of objects, by torchmetrics, where a user has the weights."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..masks import mask_boxes


class ObjectFID:
    """Fréchet Inception distance between painted objects and true ones, each alone on black (Heusel et al., 2017).

    [L20] reports it of completed KINS objects, by a network of its own for the colours. The distance grows where there
    are few objects: compare methods on the same ones.

    Args:
        features: 2048 is the usual layer of Inception v3; 64, 192 and 768 are earlier ones, for few objects. A network
            that gives (B, D) features of (B, 3, h, w) uint8 pictures, and has `num_features`, takes Inception's place.
        weights: file with Inception's weights, `pt_inception-2015-12-05-6726825d.pth` of torch-fidelity; None lets that
            package look in its cache, or fetch them.

    Raises:
        ImportError: torchmetrics or torch-fidelity is not installed.
        FileNotFoundError: no `weights` there.
        ValueError: weights that do not load, or cannot be fetched; other `features`.

    Example:
        >>> class MeanColor(torch.nn.Module):
        ...     num_features = 3
        ...
        ...     def forward(self, pictures):
        ...         return pictures.float().mean((2, 3))
        >>> distance, mask = ObjectFID(MeanColor()), np.ones((8, 8), bool)
        >>> for value in (10, 30):
        ...     picture = np.full((8, 8, 3), value, np.uint8)
        ...     distance.update(picture + np.uint8(1), picture, mask)
        >>> round(distance.compute(), 3)
        3.0
    """

    def __init__(self, features: int | torch.nn.Module = 2048, weights: str | os.PathLike[str] | None = None) -> None:
        if weights is not None and not os.path.isfile(weights):
            raise FileNotFoundError(f"`weights` must be the file with Inception's weights, got {os.fspath(weights)!r}.")
        path = None if weights is None else os.fspath(weights)
        try:
            from torchmetrics.image.fid import FrechetInceptionDistance

            self._distance: Any = FrechetInceptionDistance(features, feature_extractor_weights_path=path)
        except ImportError as error:
            raise ImportError("the Inception distance needs pip install 'amodal-diffusion[fid]'") from error
        except (OSError, RuntimeError) as error:
            place = "could not be fetched" if path is None else f"in {path!r} do not load"
            raise ValueError(f"Inception's weights {place}: {error}") from error

    def update(self, fill: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> None:
        """Count one object; an empty mask counts nothing.

        Args:
            fill: (H, W, 3) uint8, the picture with the object as it was painted.
            truth: (H, W, 3) uint8, with the true one.
            mask: (H, W) bool, the whole object.

        Raises:
            ValueError: other shapes.
        """
        if mask.ndim != 2 or fill.shape != (*mask.shape, 3) or truth.shape != fill.shape:
            raise ValueError(
                "`fill` and `truth` must have shape (H, W, 3) and `mask` (H, W), got "
                f"{fill.shape}, {truth.shape} and {mask.shape}."
            )
        if not mask.any():
            return
        x, y, w, h = (int(value) for value in mask_boxes(mask[None])[0])
        window = (slice(y, y + h), slice(x, x + w))
        for picture, real in ((truth, True), (fill, False)):
            alone = picture[window] * mask[window][..., None]
            self._distance.update(torch.from_numpy(alone).permute(2, 0, 1)[None], real=real)

    def compute(self) -> float:
        """The distance; NaN with fewer than two objects."""
        if int(self._distance.real_features_num_samples) < 2:
            return float("nan")
        return float(self._distance.compute())
