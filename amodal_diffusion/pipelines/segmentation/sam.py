"""The family of Segment Anything, as transformers has it: prompts in, the mask that the model trusts most out.

Photos are brought to the form of each model here, by torch alone: the image processors of the newer ones need
torchvision.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ...display import short_repr
from ...images import image_to_tensor, normalize_images
from ...masks import BoolArray
from ..inputs import to_numpy
from .interactive import PhotoEmbedding, Prompt

PADDED = ("sam", "sam_hq")
"""Models that take the photo with its longer side at their size, and zeros below or beside it."""

SQUARE = ("sam2", "sam2_video", "edgetam", "edgetam_video", "sam3_tracker", "sam3_tracker_video", "sam3_video")
"""Models that take the photo stretched to a square."""

TEXT = ("sam3", "sam3_video", "sam3_lite_text")
"""Models that find what a text names."""

_SURE = 8.0  # the logit that an earlier answer is given back with
_NOWHERE = -1  # label of a point that is none
_POINTS_AT_ONCE = 64
_TEXT_LENGTH = 32


@dataclass
class SamAnswers:
    """Masks of a model, before any choice.

    Args:
        logits: (K, h, w) float32, at the size of the model's answers, over the photo alone.
        scores: (K,) float32, the IoU that the model expects of each.

    Example:
        >>> SamAnswers(torch.zeros(3, 8, 8), torch.zeros(3)).logits.shape
        torch.Size([3, 8, 8])
    """

    logits: Tensor
    scores: Tensor

    __repr__ = short_repr

    def mask(self, index: int, height: int, width: int) -> BoolArray:
        """(H, W) bool, one of them at the size of the photo."""
        logits = F.interpolate(self.logits[None, index : index + 1], (height, width), mode="bilinear")
        return to_numpy(logits[0, 0] > 0)


class SamPrompts:
    """Asks a SAM of transformers for masks, by points, a box, and an earlier mask.

    Args:
        model: `SamModel`, `SamHQModel`, `Sam2Model`, `EdgeTamModel` or `Sam3TrackerModel`.

    Example:
        >>> SamPrompts.takes("sam2"), SamPrompts.takes("mask2former")
        (True, False)
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    @staticmethod
    def takes(model_type: str) -> bool:
        """Whether models of this type take points."""
        return model_type in PADDED or model_type in SQUARE

    @property
    def padded(self) -> bool:
        """The photo keeps its proportions."""
        return self.model.config.model_type in PADDED

    @property
    def side(self) -> int:
        """Height and width of what the model looks at."""
        return int(np.max(self.model.prompt_encoder.input_image_size))

    def inner_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a photo has within that square."""
        if not self.padded:
            return self.side, self.side
        scale = self.side / max(height, width)
        return int(height * scale + 0.5), int(width * scale + 0.5)

    def encode(self, photo: npt.NDArray[np.uint8]) -> dict[str, Any]:
        """What the image encoder makes of a photo (H, W, 3), by the names that the model takes it back with."""
        inner = self.inner_size(*photo.shape[:2])
        pixels = pixel_values(self.model, photo, inner)
        pixels = F.pad(pixels, (0, self.side - inner[1], 0, self.side - inner[0]))
        found = self.model.get_image_embeddings(pixels)
        if self.model.config.model_type == "sam_hq":
            return {"image_embeddings": found[0], "intermediate_embeddings": found[1]}
        return {"image_embeddings": found}

    def ask(
        self,
        embedding: PhotoEmbedding,
        points: npt.NDArray[np.float64],
        labels: npt.NDArray[np.int64],
        *,
        box: npt.NDArray[np.float64] | None = None,
        mask: BoolArray | None = None,
    ) -> SamAnswers:
        """The answers to B questions about one photo.

        Args:
            embedding: of the photo.
            points: (B, P, 2), (x, y) in pixels of the photo; P may be 0.
            labels: (B, P).
            box: (4,), (x, y, w, h), of a single question.
            mask: (H, W) bool, an earlier answer, likewise.
        """
        height, width = embedding.size
        inner = self.inner_size(height, width)
        scale = np.array([inner[1] / width, inner[0] / height])
        device, dtype = self.model.device, self.model.dtype
        inputs: dict[str, Any] = dict(embedding.features)
        if not points.shape[1] and box is None:
            points, labels = np.zeros((1, 1, 2)), np.full((1, 1), _NOWHERE)
        if points.shape[1]:
            inputs["input_points"] = torch.tensor(points * scale, dtype=dtype, device=device)[None]
            inputs["input_labels"] = torch.tensor(labels, dtype=torch.int64, device=device)[None]
        if box is not None:
            corners = np.concatenate([box[:2] * scale, (box[:2] + box[2:]) * scale])
            inputs["input_boxes"] = torch.tensor(corners, dtype=dtype, device=device)[None, None]
        if mask is not None:
            inputs["input_masks"] = self._mask_prompt(mask, inner).to(device, dtype)
        output = self.model(**inputs, multimask_output=True)
        logits = output.pred_masks[0].float()  # [B, 3, h, w]
        rows, columns = (max(1, round(logits.shape[-1] * side / self.side)) for side in inner)
        return SamAnswers(logits.flatten(0, 1)[:, :rows, :columns], output.iou_scores[0].float().flatten())

    def answer(self, embedding: PhotoEmbedding, prompt: Prompt) -> BoolArray:
        """(H, W) bool, of the answers the one that the model trusts most."""
        answers = self.ask(embedding, prompt.points[None], prompt.labels[None], box=prompt.box, mask=prompt.mask)
        return answers.mask(int(answers.scores.argmax()), *embedding.size)

    def everything(
        self, embedding: PhotoEmbedding, points_per_side: int, least_score: float, least_stability: float
    ) -> Iterator[tuple[BoolArray, float]]:
        """Masks at a grid of points, with their scores, duplicates included.

        Args:
            embedding: of the photo.
            points_per_side: of the grid.
            least_score: the IoU that the model expects of a mask must be above it.
            least_stability: the IoU of a mask with its logits cut at 1 and at -1 must be above it.
        """
        height, width = embedding.size
        middles = (np.arange(points_per_side) + 0.5) / points_per_side
        grid = np.stack(np.meshgrid(middles * width, middles * height), axis=-1).reshape(-1, 1, 2)
        for first in range(0, len(grid), _POINTS_AT_ONCE):
            some = grid[first : first + _POINTS_AT_ONCE]
            answers = self.ask(embedding, some, np.ones(some.shape[:2], np.int64))
            narrow, area, wide = ((answers.logits > cut).sum((1, 2)) for cut in (1.0, 0.0, -1.0))
            kept = (answers.scores > least_score) & (narrow / wide.clamp(min=1) > least_stability) & (area > 0)
            for index in kept.nonzero()[:, 0].tolist():
                yield answers.mask(index, height, width), float(answers.scores[index])

    def _mask_prompt(self, mask: BoolArray, inner: tuple[int, int]) -> Tensor:
        """(1, 1, s, s), an earlier mask as the model's own answers look."""
        rows, columns = self.model.prompt_encoder.image_embedding_size
        plane = torch.from_numpy(mask)[None, None].float()
        plane = F.interpolate(plane, inner, mode="bilinear", antialias=True)
        plane = F.pad(plane, (0, self.side - inner[1], 0, self.side - inner[0]))
        plane = F.interpolate(plane, (4 * rows, 4 * columns), mode="bilinear", antialias=True)
        return (2 * plane - 1) * _SURE


class SamText:
    """Asks a SAM 3 of transformers for what a text names.

    Args:
        model: `Sam3Model`.
        tokenizer: of its text encoder.

    Example:
        >>> SamText.takes("sam3"), SamText.takes("sam2")
        (True, False)
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer

    @staticmethod
    def takes(model_type: str) -> bool:
        """Whether models of this type take text."""
        return model_type in TEXT

    def find(self, photo: npt.NDArray[np.uint8], text: str, least_score: float) -> list[dict[str, Any]]:
        """The objects of a photo (H, W, 3) that a noun phrase names: `mask` (H, W) bool, `score`, and it as `label`."""
        model = self.model
        side = int(np.max(model.config.vision_config.image_size))
        tokens = self.tokenizer(
            text, return_tensors="pt", padding="max_length", max_length=_TEXT_LENGTH, truncation=True
        ).to(model.device)
        output = model(
            pixel_values=pixel_values(model, photo, (side, side)),
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
        )
        scores = output.pred_logits[0].float().sigmoid()
        if output.presence_logits is not None:
            scores = scores * output.presence_logits[0].float().sigmoid()
        kept = (scores >= least_score).nonzero()[:, 0]
        answers = SamAnswers(output.pred_masks[0].float()[kept], scores[kept])
        return [
            {"mask": answers.mask(index, *photo.shape[:2]), "score": float(score), "label": text}
            for index, score in enumerate(answers.scores)
        ]


def pixel_values(model: Any, photo: npt.NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    """(1, 3, *size), a photo as the encoder of `model` takes it.

    Example:
        >>> from types import SimpleNamespace
        >>> model = SimpleNamespace(device="cpu", dtype=torch.float32, config=SimpleNamespace(model_type="sam3"))
        >>> pixel_values(model, np.zeros((4, 6, 3), np.uint8), (8, 8))[0, :, 0, 0]
        tensor([-1., -1., -1.])
    """
    pixels = image_to_tensor(photo).to(model.device)[None]
    pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
    # SAM 3 takes values from -1 to 1, the others ImageNet's statistics.
    three = model.config.model_type.startswith("sam3")
    return (2 * pixels - 1 if three else normalize_images(pixels)).to(model.dtype)
