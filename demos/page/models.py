"""The pipelines behind the page: found beside the demo, loaded when they are first needed, shared by all visitors."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from amodal_diffusion import AmodalPipeline, Layer, MaskPipeline, Scene, ScenePipeline
from page.segmenters import Segmenters
from page.work.completed import canvas_masks, may_be_hidden, unlike
from page.work.edits import current_scene, find_layer, with_scene
from page.work.marks import draw_stroke
from page.work.poses import with_pose
from page.work.session import History, PageError, Session

SCENE_FOLDER = "deocclusion"
SAMPLES_FOLDER = "amodal-vae"
PHOTO_FOLDER = "pcnet-m-photo"
"""The mask pipeline that sees the photo and all marked objects at once."""
ALONE_FOLDER = "occamodal"
"""The one that sees the photo and one object alone, and is not told what hides it."""


@dataclass(frozen=True)
class Choice:
    """A mask pipeline that a visitor can choose."""

    key: str
    label: str
    about: str


# What sees the photo comes first; the page begins with the pipeline of the scene pipeline, which is that one, for what
# demos/README.md says under "Which network".
CHOICES = (
    Choice(
        PHOTO_FOLDER,
        "Looks at the photo too (PCNet-M with the photo)",
        "Looks at the photo and at the outlines of the objects, and says where it is unsure. Who is in front: 92% "
        "right in rooms, the others 84%. Where you marked floor, sky and walls too, 79%, the others 86%.",
    ),
    Choice(
        "asbu",
        "By the outlines, where floor and walls are marked too (ASBU)",
        "Goes by the outlines of the objects, and says where it is unsure.",
    ),
    Choice(
        "pcnet-m",
        "By the outlines, the quickest (PCNet-M)",
        "Goes by the outlines: first who is in front, then each object behind what is in front of it.",
    ),
    Choice(
        "occamodal",
        "Looks at the photo, at each object alone (OccAmodal)",
        "Finds by itself what hides an object, also where you have not marked that.",
    ),
    Choice(
        "amodal-vae",
        "The likeliest of many shapes (Amodal-VAE)",
        "Draws the likeliest of the shapes that an object may have.",
    ),
)

Progress = Callable[[str, float], None]


class Models:
    """Loads each pipeline once. Calls are one at a time; the page's queue sees to that too.

    Args:
        folder: of the pipelines, one folder each.
        segmenters: what marks objects; None for nothing.
        device: of torch.
        dtype: precision of the networks.
    """

    def __init__(
        self,
        folder: str | Path,
        segmenters: Segmenters | None = None,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.folder = Path(folder)
        self.segmenters = segmenters or Segmenters()
        self.device = torch.device(device)
        self.dtype = dtype
        self._loaded: dict[str, Any] = {}
        self._lock = threading.RLock()
        self.busy = threading.Lock()

    def has(self, name: str) -> bool:
        return (self.folder / name / "model_index.json").is_file()

    @property
    def choices(self) -> list[Choice]:
        """The mask pipelines that are there, the one that sees the photo first."""
        return [choice for choice in CHOICES if self.has(choice.key)]

    @property
    def usual(self) -> str | None:
        """Key of the one that the page begins with: that of the scene pipeline, where it is there; None without any."""
        wanted = Path(self._references().get("mask_pipeline", "")).name
        keys = [choice.key for choice in self.choices]
        return wanted if wanted in keys else next(iter(keys), None)

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
            raise PageError(f"{key} is not there.")

        def make() -> MaskPipeline:
            return AmodalPipeline.from_pretrained(self.folder / key, dtype=self.dtype).prepare(self.device)

        return self._load(key, make)

    def scene_pipeline(self, key: str) -> ScenePipeline:
        """The shipped scene pipeline, with the mask pipeline `key`; all share one content pipeline."""
        if self.missing:
            raise PageError(self.missing)

        def make() -> ScenePipeline:
            parts = {"mask_pipeline": self.mask_pipeline(key)}
            if "content" in self._loaded:
                parts["content_pipeline"] = self._loaded["content"]
            pipe = ScenePipeline.from_pretrained(self.folder / SCENE_FOLDER, dtype=self.dtype, **parts)
            pipe.prepare(self.device)
            self._loaded["content"] = pipe.content_pipeline
            return pipe

        return self._load(f"scene:{key}", make)

    def complete(
        self,
        session: Session,
        key: str,
        extend_canvas: float = 0.0,
        progress: Progress | None = None,
        filler: str | None = None,
    ) -> Scene:
        """The photo and the marks of a session to a scene.

        Args:
            session: with a photo and marks.
            key: of the mask pipeline.
            extend_canvas: room around the photo, as a share of its longer side.
            progress: called with the stage and the share of the work that is done.
            filler: what fills hidden parts and the background; None for the checkpoint's own choice.
        """
        filler = self.check_filler(filler)
        marks = session.marks.present
        if session.photo is None or not marks:
            raise PageError("Mark at least one object first.")
        masks = np.stack([mark.mask for mark in marks])
        return self._complete(session, key, session.photo, masks, extend_canvas, progress, filler=filler)

    def complete_at_size(self, session: Session, photo: np.ndarray, progress: Progress | None = None) -> Scene:
        """The completed objects of a session once more, in its photo at its own size (H, W, 3)."""
        completed = session.completed
        if completed is None:
            raise PageError("Complete the objects first.")
        key, room, *rest = session.recipe
        size = photo.shape[1], photo.shape[0]
        masks = np.stack([enlarged_mask(mark.mask, size) for mark in session.made_of])
        return self._complete(
            session.step(marks=History(session.made_of)),
            key,
            photo,
            masks,
            room,
            progress,
            order=completed.order,
            filler=self.check_filler(rest[0] if rest else None),
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
        filler: str | None = None,
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
                filler=filler,
                background_filler=filler,
            )
        # An object has one number from its mark to its layer.
        layers = [replace(layer, id=mark.id) for layer, mark in zip(scene.layers, marks, strict=True)]
        return replace(scene, layers=tuple(layers))

    def shapes(
        self, photo: np.ndarray, mask: np.ndarray, hidden: np.ndarray, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Shapes (K, H, W) bool that an object may have by its outline, and their scores (K,), the likeliest first.

        Hidden parts lie in `hidden` (H, W). K is `count`, or less where shapes would be alike.
        """
        pipe = self.mask_pipeline(SAMPLES_FOLDER)
        with self._lock, torch.inference_mode():
            out = pipe(
                Image.fromarray(photo), mask, occluder_masks=hidden, num_samples=count, sample_choice="diverse",
                generator=_generator(),
            )  # fmt: skip
        kept = unlike(out.samples[0])
        return out.samples[0][kept], out.sample_scores[0][kept]

    def shapes_by_photo(self, scene: Scene, index: int) -> list[tuple[str, np.ndarray]]:
        """Shapes (H, W) bool of one object of a scene as it was completed, by the networks that see the photo.

        Each with the words that say what it goes by: all objects, where what is in front of what stays as the scene has
        it, and the object on its own. Those that are alike are left out, and those whose network is not there.
        """
        if scene.photo is None:
            return []
        photo, (modal, _) = Image.fromarray(scene.photo), canvas_masks(scene)
        found = []
        with self._lock, torch.inference_mode():
            if self.has(PHOTO_FOLDER):
                names = [layer.name for layer in scene.layers]
                out = self.mask_pipeline(PHOTO_FOLDER)(photo, modal, order=scene.order, category_ids=names)
                found.append(("From the photo", np.asarray(out.amodal_masks[index], dtype=bool)))
            if self.has(ALONE_FOLDER):
                out = self.mask_pipeline(ALONE_FOLDER)(photo, modal[index])
                whole = np.asarray(out.amodal_masks[0], dtype=bool) & may_be_hidden(scene, index)
                found.append(("On its own", whole | modal[index]))
        return [found[number] for number in unlike(np.array([shape for _, shape in found], dtype=bool))]

    def use_shape(
        self, session: Session, chosen: int | None, progress: Progress | None = None, pose: bool = False
    ) -> Session:
        """Give the object `samples_of` the chosen shape, with its hidden part painted anew, in the scene too.

        With `pose` the shape goes for what is seen of the object as well, in the scene alone.
        """
        if session.photo is None or session.completed is None or session.scene is None or session.samples is None:
            raise PageError("Draw shapes first.")
        if chosen is None or not 0 <= chosen < len(session.samples):
            raise PageError("Choose a shape first.")
        first, scene = session.completed, session.scene.present
        index, now = find_layer(first, session.samples_of), find_layer(scene, session.samples_of)
        if pose:
            mask = moved_mask(session.samples[chosen], scene.layers[now].motion)
            return self._posed(session, now, mask, progress).step(look="Parts", shape=None)
        with self._lock, torch.inference_mode():
            painted = self.scene_pipeline(self._key(session)).reshape(
                first, index, session.samples[chosen], keep_visible=True, progress_callback=progress
            )
        fresh, kept = painted.layers[index], scene.layers[now]
        motion = kept.motion
        moved = fresh.transform if motion is None else motion @ np.vstack([fresh.origin, [0, 0, 1]])
        own = {name: getattr(kept, name) for name in ("name", "visible", "opacity", "locked")}
        layers = (*scene.layers[:now], replace(fresh, transform=moved, **own), *scene.layers[now + 1 :])
        used = with_scene(session, replace(scene, layers=layers), session.samples_of)
        base = painted if session.base is first else session.base
        return replace(
            used,
            completed=painted,
            base=base,
            shaped=session.shaped | {session.samples_of},
            look="Parts",
            shape=None,
        )

    def reshape(self, session: Session, event: Mapping[str, Any], progress: Progress | None = None) -> Session:
        """Add a stroke to the shape of an object of the scene, or take it away; its colours are carried over."""
        scene = current_scene(session)
        index = find_layer(scene, event.get("id"))
        kind = event.get("kind")
        if kind not in ("brush", "erase"):
            raise PageError("There is no such tool.")
        stroke = draw_stroke(scene.size[::-1], event.get("points"), kind, event.get("width", 1))
        mask = scene.layer_mask(index)
        return self._posed(session, index, mask | stroke if kind == "brush" else mask & ~stroke, progress)

    def _posed(self, session: Session, index: int, mask: np.ndarray, progress: Progress | None) -> Session:
        """With another shape, on the canvas, of one object of the scene."""
        scene = current_scene(session)
        layer = scene.layers[index]
        if layer.locked:
            raise PageError(f"{layer.name} is locked. The lock in the list opens it again.")
        if not mask.any():
            raise PageError(f"That would leave nothing of {layer.name}.")
        with self._lock, torch.inference_mode():
            posed = self.scene_pipeline(self._key(session)).reshape(scene, index, mask, progress_callback=progress)
        after = with_scene(session, posed, layer.id)
        return after if posed is scene else with_pose(after, layer, posed.layers[index])

    def repaint(self, session: Session, number: Any, filler: str | None, progress: Progress | None = None) -> Session:
        """Paint the hidden part of one object of the scene anew; again with the same filler, it comes out otherwise."""
        scene = current_scene(session)
        index = find_layer(scene, number)
        layer = scene.layers[index]
        if layer.locked:
            raise PageError(f"{layer.name} is locked. The lock in the list opens it again.")
        if layer.origin is None or not (layer.amodal & ~layer.modal).any():
            raise PageError(f"Nothing of {layer.name} was hidden in the photo.")
        with self._lock, torch.inference_mode():
            painted = self.scene_pipeline(self._key(session)).repaint(
                scene,
                index,
                filler=self.check_filler(filler),
                generator=_generator(session.edits),
                progress_callback=progress,
            )
        return with_scene(session, painted, layer.id)

    @property
    def fillers(self) -> tuple[str, ...]:
        """What can fill hidden parts, the checkpoint's own choice first."""
        if self.missing:
            return ()
        pipe = self.scene_pipeline(self.usual or "")
        usual = pipe.content_pipeline.config.filler or pipe.content_pipeline.network
        return tuple(sorted(pipe.fillers, key=lambda filler: filler != usual))

    def check_filler(self, filler: Any) -> str | None:
        """One of `fillers`, or None for that of the checkpoint."""
        if filler in (None, ""):
            return None
        if filler not in self.fillers:
            raise PageError("There is no such filler.")
        return str(filler)

    def _key(self, session: Session) -> str:
        """Of the mask pipeline that a scene came from."""
        key = session.recipe[0] if session.recipe else ""
        return key if any(choice.key == key for choice in self.choices) else self.usual or ""


def moved_mask(mask: np.ndarray, motion: np.ndarray | None) -> np.ndarray:
    """A mask (H, W) of an object in the photo where its layer stands now."""
    if motion is None:
        return mask
    layer = Layer(np.zeros((*mask.shape, 4), np.uint8), mask, mask, transform=motion)
    return Scene(np.zeros((*mask.shape, 3), np.uint8), (layer,)).layer_mask(0)


def enlarged_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool, smooth along the outline; `size` is (width, height)."""
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(grey) > 127


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
