"""Mask R-CNN of torchvision, where a user has one, as the segmenter of [Z20] and [N21]: masks to score and to complete.

torchvision is no dependency: whoever has weights of it has it. Mask R-CNNs of other programs come as their results,
such as detectron2's `coco_instances_results.json`, see `DetectionResults.read`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from .detections import DetectionResults
from .samples import Detections

WEIGHTS_SUFFIXES = (".pth", ".pt", ".safetensors")
"""Of files that hold weights; others hold results."""

_CLASSES = "roi_heads.box_predictor.cls_score.weight"
_MASK = 0.5


class MaskRCNNDetections(DetectionResults):
    """What a Mask R-CNN finds in the photos, computed when an image's turn comes, in place of a file of results.

    Whether these are visible masks or whole ones is what the network was trained on: visible ones are completed
    ([Z20], Table 3), whole ones scored as they are (Table 4).

    Args:
        model: takes a list of photos (3, H, W) float32 in [0, 1] and gives for each a dictionary of `labels` (M,),
            `scores` (M,) and `masks` (M, 1, H, W) in [0, 1], as `torchvision.models.detection.MaskRCNN` does. Its
            labels are category ids.
        name: for errors.
        min_score: leaves out what has a lower score.
        device: of the model.

    Raises:
        ValueError: at an image without its photo.

    Example:
        >>> class Finder(nn.Module):
        ...     def forward(self, photos):
        ...         masks = torch.zeros(1, 1, *photos[0].shape[1:])
        ...         masks[..., :2] = 0.9
        ...         return [{"labels": torch.tensor([3]), "scores": torch.tensor([0.8]), "masks": masks}]
        >>> found = MaskRCNNDetections(Finder()).find("7", 4, 6, lambda: Image.new("RGB", (6, 4)))
        >>> found.masks.sum(), found.category_ids, found.scores.round(1)
        (np.int64(8), array([3]), array([0.8]))
    """

    def __init__(
        self,
        model: nn.Module,
        name: str = "Mask R-CNN",
        *,
        min_score: float = 0.0,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__({}, name)
        self.model = model.eval().to(device)
        self.min_score, self.device = min_score, torch.device(device)

    def __len__(self) -> int:
        raise TypeError("a Mask R-CNN does not know how many objects it will find.")

    @classmethod
    def from_weights(
        cls, path: str | os.PathLike[str], *, min_score: float = 0.0, device: str | torch.device = "cpu"
    ) -> MaskRCNNDetections:
        """Load weights of `torchvision.models.detection.maskrcnn_resnet50_fpn` from a file, without unpickling code.

        Args:
            path: a state dictionary (.pth, .pt, .safetensors), or a checkpoint that has it under `model`; the number of
                classes is read off it.
            min_score: see the class.
            device: of the network.

        Raises:
            ImportError: without torchvision.
            FileNotFoundError: no such file.
            ValueError: naming the file: it holds code, or weights of another network.
        """
        state = _read_weights(path)
        detection = _torchvision()
        model = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=len(state[_CLASSES]))
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"{os.fspath(path)} has weights of another network: {reason}") from error
        return cls(model, os.fspath(path), min_score=min_score, device=device)

    @torch.no_grad()
    def find(self, image_id: str, height: int, width: int, photo: Callable[[], Image.Image | None]) -> Detections:
        """The detections of one image, the most confident first."""
        image = photo()
        if image is None:
            raise ValueError(f"{self.name}: image {image_id} has no photo, which Mask R-CNN looks at.")
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255  # [1, 3, H, W]
        (found,) = self.model(list(pixels.to(self.device)))
        scores = found["scores"].float().cpu().numpy()
        order = np.argsort(-scores, kind="stable")
        kept = order[scores[order] >= self.min_score]
        masks = (found["masks"][:, 0] > _MASK).cpu().numpy()[kept]
        if masks.shape[1:] != (height, width):
            raise ValueError(f"{self.name}: masks of image {image_id} are {masks.shape[1:]}, not ({height}, {width}).")
        labels = found["labels"].cpu().numpy()[kept]
        some = masks.any(axis=(1, 2))
        return Detections(masks[some], scores[kept][some].astype(np.float64), labels[some].astype(np.int64))


def read_detections(
    path: str | os.PathLike[str], *, min_score: float = 0.0, device: str | torch.device = "cpu"
) -> DetectionResults:
    """Predicted masks by the file that says them: weights of Mask R-CNN (`WEIGHTS_SUFFIXES`), or COCO results.

    Raises:
        ImportError, FileNotFoundError, ValueError: as `MaskRCNNDetections.from_weights` and `DetectionResults.read`.

    Example:
        >>> read_detections("nowhere/model.pth")
        Traceback (most recent call last):
            ...
        FileNotFoundError: no file nowhere/model.pth
    """
    if Path(path).suffix.lower() in WEIGHTS_SUFFIXES:
        return MaskRCNNDetections.from_weights(path, min_score=min_score, device=device)
    return DetectionResults.read(path, min_score=min_score)


def _read_weights(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    try:
        if file.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{file} cannot be read as weights; nothing in it was run: {reason}") from error
    state = state.get("model", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not isinstance(state.get(_CLASSES), torch.Tensor):
        raise ValueError(
            f"{file} holds no Mask R-CNN of torchvision: it lacks {_CLASSES}. Give what another program finds, such as "
            "detectron2's coco_instances_results.json, as COCO results."
        )
    return dict(state)


def _torchvision() -> Any:
    try:
        from torchvision.models import detection
    except (ImportError, RuntimeError) as error:  # a build for another torch raises the latter
        raise ImportError(
            f"Mask R-CNN needs torchvision, in a build for this torch: pip install torchvision ({error})."
        ) from error
    return detection
