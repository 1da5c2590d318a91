"""Objects of a photo by a segmentation model of transformers: as a whole, or the one that is clicked on."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from PIL import Image
from transformers.models.auto.modeling_auto import MODEL_FOR_MASK_GENERATION_MAPPING_NAMES

from ...display import short_repr
from ...files import atomic_folder
from ...hub import HUB_KEYS, check_hub_id, resolve_subfolder
from ...images import load_image
from ...masks import BoolArray, mask_areas, mask_overlaps, to_mask_stack
from ..inputs import check_integer, check_number, to_numpy

TASKS = ("mask-generation", "image-segmentation")
SETTINGS_NAME = "segmenter_config.json"
_SETTINGS = (
    "score_threshold",
    "min_area",
    "max_overlap",
    "max_containment",
    "max_objects",
    "labels",
    "eraser_dilation",
)
# Of more masks than these only the ones with the best scores are compared with each other.
_CANDIDATES = 400


@dataclass
class SegmenterOutput:
    """The objects that were found, best score first.

    Args:
        masks: (N, H, W) bool, visible masks; they may overlap.
        names: N labels; "" where the model knows none.
        scores: (N,) float32; 1 where the model gives none.

    Example:
        >>> SegmenterOutput(np.zeros((1, 4, 6), bool), ["cup"], np.ones(1, np.float32))
        SegmenterOutput(masks=bool (1, 4, 6), names=['cup'], scores=float32 (1,))
    """

    masks: BoolArray
    names: list[str]
    scores: npt.NDArray[np.float32]

    __repr__ = short_repr


class Segmenter:
    """Finds objects with any transformers pipeline for mask generation (SAM) or image segmentation (Mask2Former, ...).

    Args:
        model: a transformers pipeline of one of these tasks, or the Hub id or folder of a model for one.
        score_threshold: least score of an object, in [0, 1].
        min_area: least area of an object as a share of the photo.
        max_overlap: of two masks whose IoU is above this, the one with the better score stays.
        max_containment: a mask of which a greater share than this lies in a larger one is taken for a part of that and
            left out; 1 keeps parts.
        max_objects: the best of more.
        labels: names of the classes to keep; None keeps all.
        eraser_dilation: pixels by which masks that hide others should grow in the completion, since such masks leave
            gaps between neighbours; 3 to 5 [Z20].

    Raises:
        ValueError, TypeError: naming the argument.
        OSError: where the model cannot be loaded.

    Example:
        >>> Segmenter(None)
        Traceback (most recent call last):
        ...
        TypeError: `model` must be a transformers pipeline for mask-generation or image-segmentation, or an id, got ...
    """

    def __init__(
        self,
        model: Any,
        *,
        score_threshold: float = 0.5,
        min_area: float = 0.001,
        max_overlap: float = 0.7,
        max_containment: float = 0.9,
        max_objects: int = 40,
        labels: Sequence[str] | None = None,
        eraser_dilation: int = 4,
    ) -> None:
        self.settings: dict[str, Any] = {
            "score_threshold": _check_share("score_threshold", score_threshold),
            "min_area": _check_share("min_area", min_area),
            "max_overlap": _check_share("max_overlap", max_overlap),
            "max_containment": _check_share("max_containment", max_containment),
            "max_objects": check_integer("max_objects", max_objects, 1),
            "labels": _check_labels(labels),
            "eraser_dilation": check_integer("eraser_dilation", eraser_dilation, 0),
        }
        self.pipeline = _load_pipeline(model) if isinstance(model, str | os.PathLike) else model
        task = getattr(self.pipeline, "task", None)
        if task not in TASKS or not isinstance(self.pipeline, transformers.Pipeline):
            what = f"one for {task!r}" if task else type(model).__name__
            raise TypeError(f"`model` must be a transformers pipeline for {' or '.join(TASKS)}, or an id, got {what}.")

    @property
    def eraser_dilation(self) -> int:
        """See above."""
        return int(self.settings["eraser_dilation"])

    @property
    def can_click(self) -> bool:
        """`click` works: the model takes points."""
        return bool(self.pipeline.model.config.model_type == "sam")

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pipeline.model.device

    # Loading and saving

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], subfolder: str | None = None, **kwargs: Any
    ) -> "Segmenter":
        """Load what `save_pretrained` wrote, or any model for one of the two tasks.

        Args:
            pretrained_model_name_or_path: folder, or Hub id.
            subfolder: of the folder or repository.
            kwargs: `dtype`, `revision`, `cache_dir`, `token`, `local_files_only`, and the settings of a `Segmenter`.

        Raises:
            FileNotFoundError, OSError, ValueError: where the model cannot be read, or is for another task.
        """
        options = {key: kwargs.pop(key) for key in ("dtype", *HUB_KEYS) if key in kwargs}
        kwargs.pop("variant", None)
        hub_options = {key: value for key, value in options.items() if key in HUB_KEYS}
        path = resolve_subfolder(pretrained_model_name_or_path, subfolder, **hub_options)
        return cls(_load_pipeline(path, **options), **{**_read_settings(path), **kwargs})

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Write model, image processor and settings into a folder; they appear together, and other files stay."""
        weights = ("model.safetensors", "model.safetensors.index.json")
        with atomic_folder(save_directory, replaces=(*weights, SETTINGS_NAME)) as staged:
            self.pipeline.save_pretrained(os.fspath(staged), safe_serialization=True)
            text = json.dumps(self.settings, indent=2, sort_keys=True) + "\n"
            (staged / SETTINGS_NAME).write_text(text, encoding="utf-8")

    def to(self, *args: Any, **kwargs: Any) -> "Segmenter":
        """Move or convert the model, as `torch.nn.Module.to`."""
        self.pipeline.model.to(
            *args, **{key: value for key, value in kwargs.items() if key != "silence_dtype_warnings"}
        )
        self.pipeline.device = self.pipeline.model.device
        return self

    # Calls

    @torch.no_grad()
    def __call__(self, image: Any) -> SegmenterOutput:
        """Find all objects.

        Args:
            image: the photo in any form that `load_image` reads.
        """
        photo = load_image(image)
        found = self._generate(photo) if self.pipeline.task == TASKS[0] else self.pipeline(photo)
        wanted = self.settings["labels"]
        found = [item for item in found if wanted is None or item.get("label", "") in wanted]
        scores = np.array([1.0 if item["score"] is None else float(item["score"]) for item in found], np.float32)
        best = np.argsort(-scores, kind="stable")[:_CANDIDATES]
        best = best[scores[best] >= self.settings["score_threshold"]]
        stack = [to_mask_stack(found[index]["mask"], height=photo.height, width=photo.width)[0] for index in best]
        masks = np.stack(stack) if stack else np.zeros((0, photo.height, photo.width), bool)
        kept = self._select(masks)
        names = [str(found[index].get("label") or "") for index in best[kept]]
        return SegmenterOutput(masks[kept], names, scores[best[kept]])

    @torch.no_grad()
    def click(self, image: Any, points: Any, labels: Any = None) -> BoolArray:
        """The object that is clicked on.

        Args:
            image: the photo in any form that `load_image` reads.
            points: (P, 2) or (2,) numbers, (x, y) in pixels of the photo.
            labels: (P,), 1 for a point on the object, 0 for one beside it; None: all are on it.

        Returns:
            (H, W) bool, of the answers of the model the one that it trusts most; False everywhere where it finds none.

        Raises:
            ValueError: where the model takes no points, or naming the argument: no points, points beside the photo,
                labels of another number or other than 0 and 1.
        """
        if not self.can_click:
            kind = self.pipeline.model.config.model_type
            raise ValueError(f"`click` needs a SAM model, which takes points; this segmenter has one of type {kind!r}.")
        photo = load_image(image)
        where, which = _check_points(points, labels, photo.width, photo.height)
        model, processor = self.pipeline.model, transformers.SamProcessor(self.pipeline.image_processor)
        inputs = processor(photo, input_points=[where.tolist()], input_labels=[which.tolist()], return_tensors="pt")
        sizes = {name: inputs.pop(name) for name in ("original_sizes", "reshaped_input_sizes")}
        inputs = {
            name: value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)
            for name, value in inputs.items()
        }
        output = model(**inputs, multimask_output=True)
        masks = self.pipeline.image_processor.post_process_masks(
            output.pred_masks.float().cpu(), sizes["original_sizes"], reshaped_input_sizes=sizes["reshaped_input_sizes"]
        )[0][0]  # [3, H, W]
        return to_numpy(masks)[int(output.iou_scores[0, 0].argmax())].astype(bool)

    def _generate(self, photo: Image.Image) -> list[dict[str, Any]]:
        """What a pipeline for mask generation finds, its duplicates included, which it needs torchvision to remove."""
        pipeline = self.pipeline
        found = []
        for chunk in pipeline.preprocess(photo, **pipeline._preprocess_params):
            output = pipeline.forward(chunk, **pipeline._forward_params)
            found += [
                {"mask": mask, "score": score}
                for mask, score in zip(output["masks"], output["iou_scores"].tolist(), strict=True)
            ]
        return found

    def _select(self, masks: BoolArray) -> npt.NDArray[np.intp]:
        """Indices of the masks to keep, of masks with the best score first."""
        if not len(masks):
            return np.zeros(0, np.intp)
        areas = mask_areas(masks)
        common = mask_overlaps(masks, masks)
        union = np.maximum(areas[:, None] + areas[None] - common, 1)
        large = areas >= max(1, self.settings["min_area"] * masks[0].size)
        kept: list[int] = []
        for index in np.flatnonzero(large):
            if all(common[index, other] <= self.settings["max_overlap"] * union[index, other] for other in kept):
                kept.append(int(index))
        chosen = np.array(kept, np.intp)
        inner = common[np.ix_(chosen, chosen)] > self.settings["max_containment"] * areas[chosen, None]
        part = (inner & (areas[chosen, None] < areas[None, chosen])).any(axis=1)
        return chosen[~part][: self.settings["max_objects"]]


def _load_pipeline(path_or_id: str | os.PathLike[str], **options: Any) -> Any:
    dtype = options.pop("dtype", None)
    options = {key: value for key, value in options.items() if value is not None}
    path = os.fspath(path_or_id)
    if not os.path.isdir(path):
        check_hub_id(path_or_id, "the folder of a segmentation model")
    config = transformers.AutoConfig.from_pretrained(path, **options)
    generates = config.model_type in MODEL_FOR_MASK_GENERATION_MAPPING_NAMES
    make: Any = transformers.pipeline  # whose overloads know no task that is a variable
    return make(
        TASKS[0] if generates else TASKS[1],
        model=path,
        revision=options.pop("revision", None),
        token=options.pop("token", None),
        dtype=torch.float32 if dtype is None else dtype,
        model_kwargs={"use_safetensors": True, **options},
    )


def _read_settings(folder: str) -> dict[str, Any]:
    """The settings beside a saved model; none where it is any model."""
    path = Path(folder, SETTINGS_NAME)
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{path}' is not valid JSON: {error}") from error
    if not isinstance(settings, dict) or set(settings) - set(_SETTINGS):
        raise ValueError(f"'{path}' must hold a JSON object of {', '.join(_SETTINGS)}.")
    return settings


def _check_share(name: str, value: Any) -> float:
    return 1.0 if value == 1 and not isinstance(value, bool) else check_number(name, value, 0, 1)


def _check_labels(labels: Any) -> list[str] | None:
    if labels is None:
        return None
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise TypeError(f"`labels` must be a list of names, got {labels!r}.")
    return list(labels)


def _check_points(points: Any, labels: Any, width: int, height: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    where = np.atleast_2d(np.asarray(points, np.float64))
    if where.ndim != 2 or where.shape[1] != 2 or not len(where):
        raise ValueError(f"`points` must have shape (P, 2), (x, y) each, got {np.shape(points)}.")
    inside = (where >= 0).all() and (where <= (width, height)).all()
    if not inside:
        raise ValueError(f"`points` must lie on the photo of {width} x {height} pixels, got {where.tolist()}.")
    which = np.ones(len(where), np.int64) if labels is None else np.atleast_1d(np.asarray(labels))
    if which.shape != (len(where),):
        raise ValueError(f"`labels` must have one entry for each of the {len(where)} points, got {which.shape}.")
    if not np.isin(which, (0, 1)).all():
        raise ValueError(f"`labels` must be 1 (on the object) or 0 (beside it), got {which.tolist()}.")
    return where, which.astype(np.int64)
