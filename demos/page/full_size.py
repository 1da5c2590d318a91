"""The scene of a visitor at the size of the photo, or of the scene that was opened, where the page shows a preview."""

import threading
import weakref
from dataclasses import replace

import numpy as np
from PIL import Image

from amodal_diffusion import Scene
from amodal_diffusion.images import load_image
from page.models import Models, Progress
from page.work.edits import current_scene
from page.work.poses import on_canvas
from page.work.replay import enlarged, replay
from page.work.session import PageError, Session

MAX_PIXELS = 24_000_000
"""A photo of more is exported at this size."""


class FullSize:
    """Completes photos at their own size, as the command line does, and does the edits to what comes out.

    The last one is remembered, for visitors who take home several formats, as long as they are there.
    """

    def __init__(self, models: Models) -> None:
        self.models = models
        self._lock = threading.Lock()
        self._last: tuple[weakref.ref[Scene], Scene] | None = None

    def scene(self, session: Session, progress: Progress | None = None) -> Scene:
        """The scene as it is edited, large; that of the page where it is not larger."""
        now, base, source = current_scene(session), session.base, session.source
        if source is None or base is None:
            return now
        if source.is_scene and not session.recipe:
            large = Scene.load(source.path)
            enlarge = _photo_map(base, base.size, large, large.size)
            return replay(base, now, large, enlarge, poses=on_canvas(session, base))
        if session.completed is None or session.photo is None:
            raise PageError("Complete the objects first.")
        large = self._completed(session, progress)
        enlarge = _photo_map(base, session.photo.shape[1::-1], large, self.size(session)[::-1])
        layers = [
            enlarged(layer, base.layers[base.index(layer.id)], enlarge) if layer.id in session.shaped else layer
            for layer in large.layers
        ]
        edited = replace(large, layers=tuple(layers))
        return replay(base, now, edited, enlarge, poses=on_canvas(session, base))

    def size(self, session: Session) -> tuple[int, int]:
        """(height, width) of the photo in an export."""
        if session.source is None:
            return session.size
        height, width = session.source.size
        factor = min(1.0, (MAX_PIXELS / (height * width)) ** 0.5)
        return round(height * factor), round(width * factor)

    def _completed(self, session: Session, progress: Progress | None) -> Scene:
        """The objects as they were completed, large."""
        with self._lock:
            last = self._last
            if last is not None and last[0]() is session.completed:
                return last[1]
            self._last = None
        height, width = self.size(session)
        if session.source.is_scene:
            scene = Scene.load(session.source.path)
            photo = scene.render() if scene.photo is None else Image.fromarray(scene.photo)
        else:
            photo = load_image(session.source.path)
        if photo.size != (width, height):
            photo = photo.resize((width, height), Image.Resampling.LANCZOS)
        large = self.models.complete_at_size(session, np.asarray(photo), progress)
        with self._lock:
            self._last = weakref.ref(session.completed, self._forget), large
        return large

    def _forget(self, gone: weakref.ref[Scene]) -> None:
        """Called when nobody has a scene any more; without the lock, which whoever drops it may hold."""
        last = self._last
        if last is not None and last[0] is gone:
            self._last = None


def _photo_map(scene: Scene, photo: tuple[int, int], large: Scene, large_photo: tuple[int, int]) -> np.ndarray:
    """(2, 3), from one canvas to another, which have room around photos of these sizes (width, height)."""
    factor = np.divide(large_photo, photo)
    margin, wide = np.subtract(scene.size, photo) / 2, np.subtract(large.size, large_photo) / 2
    return np.hstack([np.diag(factor), (wide - margin * factor)[:, None]])
