"""The pipelines behind the page: found beside the demo, loaded when they are first needed, shared by all visitors."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from amodal_diffusion import AmodalPipeline, ContentPipeline, Layer, MaskPipeline, Scene, ScenePipeline
from page.segmenters import Segmenters
from page.work.completed import canvas_masks
from page.work.edits import find_layer, with_scene
from page.work.session import History, PageError, Session

SCENE_FOLDER = "deocclusion"
SAMPLES_FOLDER = "amodal-vae"


@dataclass(frozen=True)
class Choice:
    """A mask pipeline that a visitor can choose."""

    key: str
    label: str
    about: str


CHOICES = (
    Choice("pcnet-m", "PCNet-M", "Order first, then each object behind what is in front of it. The quickest."),
    Choice("asbu", "ASBU", "Completes from the occlusion boundary, and says where it is unsure."),
    Choice("occamodal", "OccAmodal", "Looks at the photo, and finds by itself what hides an object."),
    Choice("amodal-vae", "Amodal-VAE", "Draws the likeliest of the shapes that an object may have."),
)

Progress = Callable[[str, float], None]


class Models:
    """Loads each pipeline once. Calls are one at a time; the page's queue sees to that too.

    Args:
        folder: of the pipelines, one folder each.
        segmenters: what marks objects; None for nothing.
        device: of torch.
    """

    def __init__(self, folder: str | Path, segmenters: Segmenters | None = None, device: str = "cpu") -> None:
        self.folder = Path(folder)
        self.segmenters = segmenters or Segmenters()
        self.device = torch.device(device)
        self._loaded: dict[str, Any] = {}
        self._lock = threading.RLock()
        self.busy = threading.Lock()

    def has(self, name: str) -> bool:
        return (self.folder / name / "model_index.json").is_file()

    @property
    def choices(self) -> list[Choice]:
        """The mask pipelines that are there, that of the scene pipeline first."""
        usual = Path(self._references().get("mask_pipeline", "")).name
        return sorted((choice for choice in CHOICES if self.has(choice.key)), key=lambda choice: choice.key != usual)

    @property
    def missing(self) -> str:
        """What keeps the page from completing photos, "" for nothing."""
        if not self.has(SCENE_FOLDER):
            return (
                f"`pipelines/{SCENE_FOLDER}` is not there, so the hidden parts cannot be given colours. "
                "It is part of the repository; put it beside the others, or start with --pipelines FOLDER."
            )
        content = self._references().get("content_pipeline", "")
        if content.startswith("..") and not self.has(Path(content).name):
            return (
                f"`pipelines/{SCENE_FOLDER}` paints hidden parts with `pipelines/{Path(content).name}`, which is not "
                "there. Put it beside the others."
            )
        if not self.choices:
            return "There is no mask pipeline, such as `pipelines/pcnet-m`, to complete masks with."
        return ""

    def _references(self) -> dict[str, str]:
        """Where the components of the scene pipeline lie that it does not hold itself."""
        if not self.has(SCENE_FOLDER):
            return {}
        index = json.loads((self.folder / SCENE_FOLDER / "model_index.json").read_text(encoding="utf-8"))
        return dict(index.get("references") or {})

    def _load(self, name: str, make: Callable[[], Any]) -> Any:
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = make()
            return self._loaded[name]

    def mask_pipeline(self, key: str) -> MaskPipeline:
        if not self.has(key):
            raise PageError(f"The pipeline {key} is not there.")

        def make() -> MaskPipeline:
            pipe = AmodalPipeline.from_pretrained(self.folder / key).to(self.device)
            pipe.set_progress_bar_config(disable=True)
            return pipe

        return self._load(key, make)

    def content_pipeline(self) -> ContentPipeline:
        return self.scene_pipeline(self.choices[0].key if self.choices else "").content_pipeline

    def scene_pipeline(self, key: str) -> ScenePipeline:
        """The shipped scene pipeline, with the mask pipeline `key`; all share one content pipeline."""
        if self.missing:
            raise PageError(self.missing)

        def make() -> ScenePipeline:
            parts = {"mask_pipeline": self.mask_pipeline(key)}
            if "content" in self._loaded:
                parts["content_pipeline"] = self._loaded["content"]
            pipe = ScenePipeline.from_pretrained(self.folder / SCENE_FOLDER, **parts).to(self.device)
            pipe.set_progress_bar_config(disable=True)
            self._loaded["content"] = pipe.content_pipeline
            return pipe

        return self._load(f"scene:{key}", make)

    def complete(
        self, session: Session, key: str, extend_canvas: float = 0.0, progress: Progress | None = None
    ) -> Scene:
        """The photo and the marks of a session to a scene.

        Args:
            session: with a photo and marks.
            key: of the mask pipeline.
            extend_canvas: room around the photo, as a share of its longer side.
            progress: called with the stage and the share of the work that is done.
        """
        marks = session.marks.present
        if session.photo is None or not marks:
            raise PageError("Mark at least one object first.")
        masks = np.stack([mark.mask for mark in marks])
        return self._complete(session, key, session.photo, masks, extend_canvas, progress)

    def complete_at_size(self, session: Session, photo: np.ndarray, progress: Progress | None = None) -> Scene:
        """The completed objects of a session once more, in its photo at its own size (H, W, 3)."""
        completed = session.completed
        if completed is None:
            raise PageError("Complete the objects first.")
        key, room = session.recipe[:2]
        size = photo.shape[1], photo.shape[0]
        masks = np.stack([enlarged_mask(mark.mask, size) for mark in session.made_of])
        return self._complete(
            session.step(marks=History(session.made_of)), key, photo, masks, room, progress, order=completed.order
        )

    def _complete(
        self,
        session: Session,
        key: str,
        photo: np.ndarray,
        masks: np.ndarray,
        extend_canvas: float,
        progress: Progress | None,
        order: np.ndarray | None = None,
    ) -> Scene:
        marks = session.marks.present
        predicted = any(mark.predicted for mark in marks)
        pipe = self.scene_pipeline(key)
        with self._lock, torch.inference_mode():
            scene = pipe(
                photo,
                masks,
                names=[mark.name for mark in marks],
                is_crowd=[mark.is_crowd for mark in marks],
                order=order,
                extend_canvas=float(extend_canvas),
                eraser_dilation=self.segmenters.eraser_dilation if predicted else None,
                generator=_generator(),
                progress_callback=progress,
            )
        # An object has one number from its mark to its layer.
        layers = [replace(layer, id=mark.id) for layer, mark in zip(scene.layers, marks, strict=True)]
        return replace(scene, layers=tuple(layers))

    def shapes(self, photo: np.ndarray, mask: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Shapes (K, H, W) bool that an object may have, and their scores (K,), best first."""
        pipe = self.mask_pipeline(SAMPLES_FOLDER)
        with self._lock, torch.inference_mode():
            out = pipe(Image.fromarray(photo), mask, num_samples=count, generator=_generator())
        best = np.argsort(-out.sample_scores[0], kind="stable")
        return out.samples[0][best], out.sample_scores[0][best]

    def use_shape(self, session: Session, chosen: int | None) -> Session:
        """Give the object `samples_of` the chosen shape, with its hidden part painted anew, in the scene too."""
        if session.photo is None or session.completed is None or session.scene is None or session.samples is None:
            raise PageError("Draw shapes first.")
        if chosen is None or not 0 <= chosen < len(session.samples):
            raise PageError("Choose a shape first.")
        first, scene = session.completed, session.scene.present
        index, now = find_layer(first, session.samples_of), find_layer(scene, session.samples_of)
        modal, _ = canvas_masks(first)
        amodal = modal.copy()
        amodal[index] |= session.samples[chosen]
        with self._lock, torch.inference_mode():
            out = self.content_pipeline()(
                first.photo,
                modal,
                amodal,
                order=first.order,
                unknown=first.replaced if first.replaced.any() else None,
                names=[layer.name for layer in first.layers],
            )
        tile, (x, y, w, h) = out.objects[index], out.boxes[index].tolist()
        window = (index, slice(y, y + h), slice(x, x + w))
        home = np.array([[1.0, 0, x], [0, 1.0, y]])
        fresh = replace(
            first.layers[index],
            rgba=tile,
            modal=modal[window],
            amodal=amodal[window],
            uncertainty=None,
            transform=home,
            origin=home,
        )
        kept = scene.layers[now]
        motion = kept.motion
        moved = home if motion is None else motion @ np.vstack([home, [0, 0, 1]])
        used = with_scene(
            session, with_layer(scene, now, replace(fresh, transform=moved, name=kept.name)), session.samples_of
        )
        shaped = with_layer(first, index, fresh)
        base = shaped if session.base is first else session.base
        changed = session.shaped | {session.samples_of}
        return replace(used, completed=shaped, base=base, shaped=changed, look="Parts")


def enlarged_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool, smooth along the outline; `size` is (width, height)."""
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(grey) > 127


def with_layer(scene: Scene, index: int, layer: Layer) -> Scene:
    return replace(scene, layers=(*scene.layers[:index], layer, *scene.layers[index + 1 :]))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
