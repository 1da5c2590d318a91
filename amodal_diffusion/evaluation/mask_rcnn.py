"""Mask R-CNN of torchvision or detectron2, where a user has one, as the segmenter of [Z20] and [N21].

It finds masks to score and to complete. torchvision computes both and is no dependency. Mask R-CNNs of other programs
come as their results, such as detectron2's `coco_instances_results.json`, see `DetectionResults.read`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..checkpoints import load_published_state_dict
from ..conversion.detectron2 import convert_detectron2_weights, is_detectron2, torchvision_detection
from .detections import DetectionResults
from .samples import Detections

WEIGHTS_SUFFIXES = (".pth", ".pt", ".safetensors", ".pkl")
"""Of files that hold weights; others hold results."""

_SAVE_TENSORS = (
    "python -c \"import pickle, torch; found = pickle.load(open('{0}', 'rb'))['model']; "
    "torch.save({{'model': {{name: torch.as_tensor(value) for name, value in found.items()}}}}, '{1}')\""
)

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
        cls,
        path: str | os.PathLike[str],
        *,
        category_ids: Sequence[int] | None = None,
        min_score: float = 0.0,
        device: str | torch.device = "cpu",
    ) -> MaskRCNNDetections:
        """Load a Mask R-CNN from a file, without unpickling code.

        Args:
            path: a state dictionary (.pth, .pt, .safetensors), or a checkpoint that has it under `model`: of
                `torchvision.models.detection.maskrcnn_resnet50_fpn`, or of detectron2's R50-FPN or R101-FPN, see
                `convert_detectron2_weights`. The number of classes is read off it.
            category_ids: of detectron2's classes, in its order; None: of 80 classes COCO's, of others 1, 2, and so on.
            min_score: see the class.
            device: of the network.

        Raises:
            ImportError: without torchvision.
            FileNotFoundError: no such file.
            ValueError: naming the file: it holds code, such as detectron2's .pkl, or weights of another network.
        """
        name = os.fspath(path)
        if Path(path).suffix.lower() == ".pkl" and Path(path).is_file():
            command = _SAVE_TENSORS.format(name, Path(path).with_suffix(".pth"))
            raise ValueError(
                f"{name} is a pickle, which may run code, so it is not read. Where you trust it, save its weights as "
                f"tensors, and give these: {command}"
            )
        state = load_published_state_dict(path)
        if is_detectron2(state):
            try:
                model = convert_detectron2_weights(state, category_ids)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            return cls(model, name, min_score=min_score, device=device)
        if category_ids is not None:
            raise ValueError(f"`category_ids` are of detectron2's classes, and {name} has none of its weights.")
        if _CLASSES not in state:
            raise ValueError(
                f"{name} holds no Mask R-CNN of torchvision or detectron2: it lacks {_CLASSES}. Give what another "
                "program finds as COCO results, such as detectron2's coco_instances_results.json."
            )
        classes = len(state[_CLASSES])
        model = torchvision_detection().maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=classes)
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"{name} has weights of another network: {reason}") from error
        return cls(model, name, min_score=min_score, device=device)

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
        FileNotFoundError: There is no checkpoint 'nowhere/model.pth'.
    """
    if Path(path).suffix.lower() in WEIGHTS_SUFFIXES:
        return MaskRCNNDetections.from_weights(path, min_score=min_score, device=device)
    return DetectionResults.read(path, min_score=min_score)
