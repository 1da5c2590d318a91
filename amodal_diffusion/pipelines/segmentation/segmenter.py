"""Objects of a photo by a segmentation model of transformers: all of them, what a text names, or what is clicked on."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import transformers
from PIL import Image
from transformers.models.auto.modeling_auto import MODEL_FOR_MASK_GENERATION_MAPPING_NAMES

from ...arguments.numeric import check_integer, check_number
from ...display import short_repr
from ...files import atomic_folder, read_json
from ...hub import HUB_KEYS, check_hub_id, resolve_subfolder
from ...images import load_image
from ...masks import BoolArray, mask_areas, mask_overlaps, to_mask_stack
from .interactive import InteractiveSegmenter, PhotoEmbedding, Prompt
from .sam import SamPrompts, SamText

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
# Of what a text names; `score_threshold` chooses among these.
_LEAST = 0.05
# By the type of a model's configuration: what is loaded without a pipeline of transformers, that for texts last.
_CLASSES: dict[str, tuple[str, ...]] = {
    "sam_hq": ("SamHQModel",),
    "sam2": ("Sam2Model",),
    "sam2_video": ("Sam2Model",),
    "edgetam": ("EdgeTamModel",),
    "edgetam_video": ("EdgeTamModel",),
    "sam3": ("Sam3Model",),
    "sam3_lite_text": ("Sam3LiteTextModel",),
    "sam3_tracker": ("Sam3TrackerModel",),
    "sam3_video": ("Sam3TrackerModel", "Sam3Model"),
}


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


class Segmenter(InteractiveSegmenter):
    """Finds objects with a SAM of transformers, or any model for image segmentation (Mask2Former, ...).

    SAM, SAM-HQ, SAM 2, SAM 3 (tracker) and EdgeTAM find everything, and answer to points, boxes and earlier masks
    (`embed`, `click`); SAM 3 finds what a text names.

    Args:
        model: the Hub id or folder of a model, a transformers pipeline for mask-generation or image-segmentation, or
            one of `SamModel`, `SamHQModel`, `Sam2Model`, `EdgeTamModel`, `Sam3TrackerModel`, `Sam3Model`.
        text_model: a `Sam3Model` beside one that takes points.
        tokenizer: of the text encoder of a `Sam3Model`.
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
        TypeError: `model` must be a SAM of transformers, a pipeline for mask-generation or image-segmentation, or ...
    """

    def __init__(
        self,
        model: Any,
        *,
        text_model: Any = None,
        tokenizer: Any = None,
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
        if isinstance(model, str | os.PathLike):
            model, loaded_text, loaded_tokenizer = _load(model)
            text_model, tokenizer = text_model or loaded_text, tokenizer or loaded_tokenizer
        self.pipeline = model if isinstance(model, transformers.Pipeline) else None
        self.model: Any = model if self.pipeline is None else getattr(model, "model", None)
        if not _is_segmenter(model):
            task = getattr(model, "task", None)
            what = f"one for {task!r}" if task else type(model).__name__
            raise TypeError(
                f"`model` must be a SAM of transformers, a pipeline for {' or '.join(TASKS)}, or an id, got {what}."
            )
        self.grid: dict[str, Any] = {"points_per_side": 32, "least_score": 0.88, "least_stability": 0.95}
        """How everything is asked for without a pipeline of transformers, whose defaults these are."""
        own = isinstance(self.model, transformers.Sam3Model | transformers.Sam3LiteTextModel)
        self.text_model = self.model if own else text_model
        self.tokenizer = tokenizer

    @property
    def eraser_dilation(self) -> int:
        """Pixels by which masks that hide others should grow in the completion."""
        return int(self.settings["eraser_dilation"])

    @property
    def can_click(self) -> bool:
        """`embed` and `click` work: the model takes points."""
        return _model_type(self.model) not in ("sam3", "sam3_lite_text") and SamPrompts.takes(_model_type(self.model))

    @property
    def takes_text(self) -> bool:
        """A call takes `text`."""
        return self.text_model is not None and self.tokenizer is not None

    @property
    def names(self) -> list[str]:
        """The classes that the model knows; none where it knows no classes."""
        if self.pipeline is None or self.pipeline.task != TASKS[1]:
            return []
        return [str(name) for name in (getattr(self.model.config, "id2label", None) or {}).values()]

    @property
    def maker(self) -> str:
        """What the embeddings of this segmenter are known by."""
        return f"{type(self).__name__} ({_model_type(self.model)})"

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

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
        model, text_model, tokenizer = _load(path, **options)
        given = {"text_model": text_model, "tokenizer": tokenizer, **_read_settings(path), **kwargs}
        return cls(model, **given)

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Write model, image processor or tokenizer, and settings into a folder; they appear together, and other files
        stay.

        Raises:
            ValueError: a `text_model` beside another model, which one folder cannot hold.
        """
        if self.text_model is not None and self.text_model is not self.model:
            raise ValueError("A segmenter of two models cannot be saved in one folder: save each of them by itself.")
        weights = ("model.safetensors", "model.safetensors.index.json")
        with atomic_folder(save_directory, replaces=(*weights, SETTINGS_NAME)) as staged:
            for part in (self.model if self.pipeline is None else self.pipeline, self.tokenizer):
                if part is not None:
                    part.save_pretrained(os.fspath(staged))
            text = json.dumps(self.settings, indent=2, sort_keys=True) + "\n"
            (staged / SETTINGS_NAME).write_text(text, encoding="utf-8")

    def to(self, *args: Any, **kwargs: Any) -> "Segmenter":
        """Move or convert the models, as `torch.nn.Module.to`."""
        options = {key: value for key, value in kwargs.items() if key != "silence_dtype_warnings"}
        for model in (self.model, self.text_model):
            if model is not None:
                model.to(*args, **options)
        if self.pipeline is not None:
            self.pipeline.device = self.model.device
        return self

    # Calls

    @torch.no_grad()
    def __call__(self, image: Any, text: str | None = None) -> SegmenterOutput:
        """Find all objects, or those that a text names.

        Args:
            image: the photo in any form that `load_image` reads.
            text: what to find, such as "yellow school bus"; needs a SAM 3.

        Raises:
            ValueError: `text` for a model that takes none, or none for one that takes nothing else.
        """
        photo = load_image(image)
        if text is not None:
            if not self.takes_text:
                raise ValueError(
                    "`text` needs a SAM 3 with its tokenizer; this segmenter has a model of type "
                    f"{_model_type(self.model)!r}."
                )
            found = SamText(self.text_model, self.tokenizer).find(np.asarray(photo), text, _LEAST)
        elif self.pipeline is not None:
            found = self._generate(photo) if self.pipeline.task == TASKS[0] else self.pipeline(photo)
        elif self.can_click:
            answers = SamPrompts(self.model).everything(self.embed(photo), **self.grid)
            found = [{"mask": mask, "score": score} for mask, score in answers]
        else:
            raise ValueError(f"`text` must be given: a model of type {_model_type(self.model)!r} finds what it names.")
        wanted = self.settings["labels"] if text is None else None
        found = [item for item in found if wanted is None or item.get("label", "") in wanted]
        scores = np.array([1.0 if item["score"] is None else float(item["score"]) for item in found], np.float32)
        best = np.argsort(-scores, kind="stable")[:_CANDIDATES]
        best = best[scores[best] >= self.settings["score_threshold"]]
        stack = [to_mask_stack(found[index]["mask"], height=photo.height, width=photo.width)[0] for index in best]
        masks = np.stack(stack) if stack else np.zeros((0, photo.height, photo.width), bool)
        kept = self._select(masks)
        names = [str(found[index].get("label") or "") for index in best[kept]]
        return SegmenterOutput(masks[kept], names, scores[best[kept]])

    def encode(self, photo: npt.NDArray[np.uint8]) -> Any:
        """What the model's image encoder makes of the photo."""
        return self._prompts().encode(photo)

    def answer(self, embedding: PhotoEmbedding, prompt: Prompt) -> BoolArray:
        """Of the answers of the model the one that it trusts most; see `click`."""
        return self._prompts().answer(embedding, prompt)

    def _prompts(self) -> SamPrompts:
        if not self.can_click:
            kind = self.model.config.model_type
            raise ValueError(f"`click` needs a SAM model, which takes points; this segmenter has one of type {kind!r}.")
        return SamPrompts(self.model)

    def _generate(self, photo: Image.Image) -> list[dict[str, Any]]:
        """What a pipeline for mask generation finds, its duplicates included, which it needs torchvision to remove."""
        pipeline = cast(transformers.Pipeline, self.pipeline)  # called only where there is one
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


def _model_type(model: Any) -> str:
    return str(getattr(getattr(model, "config", None), "model_type", ""))


def _is_segmenter(model: Any) -> bool:
    if isinstance(model, transformers.Pipeline):
        return model.task in TASKS
    kind = _model_type(model)
    return isinstance(model, torch.nn.Module) and (SamPrompts.takes(kind) or SamText.takes(kind))


def _load(path_or_id: str | os.PathLike[str], **options: Any) -> tuple[Any, Any, Any]:
    """The model or pipeline of a folder or Hub id, the model for texts beside it, and its tokenizer, or None."""
    path = os.fspath(path_or_id)
    if not os.path.isdir(path):
        check_hub_id(path_or_id, "the folder of a segmentation model")
    dtype = options.pop("dtype", None)
    dtype = torch.float32 if dtype is None else dtype
    options = {key: value for key, value in options.items() if value is not None}
    kind = transformers.AutoConfig.from_pretrained(path, **options).model_type
    if kind not in _CLASSES:
        return _load_pipeline(path, kind, dtype, options), None, None
    models = [
        getattr(transformers, name).from_pretrained(path, dtype=dtype, use_safetensors=True, **options).eval()
        for name in _CLASSES[kind]
    ]
    if not SamText.takes(kind):
        return models[0], None, None
    return models[0], models[-1], transformers.AutoTokenizer.from_pretrained(path, **options)


def _load_pipeline(path: str, kind: str, dtype: Any, options: dict[str, Any]) -> Any:
    make: Any = transformers.pipeline  # whose overloads know no task that is a variable
    return make(
        TASKS[0] if kind in MODEL_FOR_MASK_GENERATION_MAPPING_NAMES else TASKS[1],
        model=path,
        revision=options.pop("revision", None),
        token=options.pop("token", None),
        dtype=dtype,
        model_kwargs={"use_safetensors": True, **options},
    )


def _read_settings(folder: str) -> dict[str, Any]:
    """The settings beside a saved model; none where it is any model."""
    path = Path(folder, SETTINGS_NAME)
    if not path.is_file():
        return {}
    settings = read_json(path)
    if not isinstance(settings, dict) or set(settings) - set(_SETTINGS):
        raise ValueError(f"'{path}' must hold a JSON object of {', '.join(_SETTINGS)}.")
    return settings


def _check_share(name: str, value: Any) -> float:
    return check_number(name, value, least=0, most=1)


def _check_labels(labels: Any) -> list[str] | None:
    if labels is None:
        return None
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise TypeError(f"`labels` must be a list of names, got {labels!r}.")
    return list(labels)
