"""Fillers to compare with: each takes a `PastedScene` and returns the photo with its hole filled.

OpenCV's inpainting removes the whole occluder: none of its pixels are looked at. SHIFTMAP and FSR are in OpenCV's
contrib modules (`xphoto`), whose package takes the place of `opencv-python-headless` and cannot be installed beside it;
`CONTRIB_HINT` says how to see them all the same.
"""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np

from amodal_diffusion import ContentPipeline
from amodal_diffusion.masks import mask_boxes
from amodal_diffusion.pipelines.deocclusion.matting import soft_outlines

from .pasted import PastedScene

Filler = Callable[[PastedScene], np.ndarray]

CONTRIB = ("SHIFTMAP", "FSR")
CONTRIB_HINT = (
    "SHIFTMAP and FSR are skipped: this OpenCV has no module xphoto. `pip install --no-deps --target contrib "
    "opencv-contrib-python-headless`, then run the benchmark with PYTHONPATH=contrib."
)

_RADIUS = 3  # of OpenCV's methods, in pixels: the value of its documentation
_SURROUNDINGS = 64  # pixels around a hole that the slow methods look at


def mean_colour(scene: PastedScene) -> np.ndarray:
    """The mean of what is seen of the object, or of the photo."""
    seen = ~scene.occluder if scene.target is None else scene.masks[scene.target]
    return _filled(scene, np.broadcast_to(scene.photo[seen].mean(0).round(), scene.photo.shape))


def telea(scene: PastedScene) -> np.ndarray:
    return _filled(scene, cv2.inpaint(scene.photo, scene.occluder.astype(np.uint8), _RADIUS, cv2.INPAINT_TELEA))


def navier_stokes(scene: PastedScene) -> np.ndarray:
    return _filled(scene, cv2.inpaint(scene.photo, scene.occluder.astype(np.uint8), _RADIUS, cv2.INPAINT_NS))


def shift_map(scene: PastedScene) -> np.ndarray:
    """He and Sun, ECCV 2012, in CIELAB, as OpenCV asks for."""
    lab = cv2.cvtColor(scene.photo, cv2.COLOR_RGB2LAB)
    found = np.zeros_like(lab)
    cv2.xphoto.inpaint(lab, 255 * (~scene.occluder).astype(np.uint8), found, cv2.xphoto.INPAINT_SHIFTMAP)
    return _filled(scene, cv2.cvtColor(found, cv2.COLOR_LAB2RGB))


def frequency_selective(scene: PastedScene) -> np.ndarray:
    """Genser et al., 2018, the fast variant, on the occluder's surroundings."""
    x, y, w, h = (int(value) for value in mask_boxes(scene.occluder[None])[0])
    rows = slice(max(0, y - _SURROUNDINGS), y + h + _SURROUNDINGS)
    columns = slice(max(0, x - _SURROUNDINGS), x + w + _SURROUNDINGS)
    photo = cv2.cvtColor(scene.photo[rows, columns], cv2.COLOR_RGB2BGR)
    found = np.zeros_like(photo)
    known = 255 * (~scene.occluder[rows, columns]).astype(np.uint8)
    cv2.xphoto.inpaint(photo, known, found, cv2.xphoto.INPAINT_FSR_FAST)
    picture = scene.photo.copy()
    picture[rows, columns] = cv2.cvtColor(found, cv2.COLOR_BGR2RGB)
    return _filled(scene, picture)


def opencv_fillers() -> dict[str, Filler]:
    """Those that the installed OpenCV has."""
    fillers: dict[str, Filler] = {"Telea": telea, "Navier-Stokes": navier_stokes}
    if hasattr(cv2, "xphoto"):
        fillers |= dict(zip(CONTRIB, (shift_map, frequency_selective), strict=True))
    return fillers


def pipeline_fillers(pipe: ContentPipeline) -> dict[str, Filler]:
    """Those of a content pipeline that need no other component than it has, by their names there.

    "blend, network" takes the low frequencies of the blend from the pipeline's network.
    """
    names = ["auto", "blend", "exemplar", "smooth"]
    network = pipe.network
    fillers = {name: pipeline_filler(pipe, name) for name in [*names, *([network] if network else [])]}
    if network:
        fillers["blend, network"] = pipeline_filler(ContentPipeline.from_pipe(pipe, blend_prior="network"), "blend")
    return fillers


def pipeline_filler(pipe: ContentPipeline, name: str | None = None, *, avoid_objects: bool = True) -> Filler:
    """The hidden part of the object by a call of the pipeline, background by its `background`.

    Args:
        pipe: the pipeline.
        name: of one of its fillers; None for its setting.
        avoid_objects: the background is not copied from objects.
    """

    def fill(scene: PastedScene) -> np.ndarray:
        if scene.target is None:
            avoid = scene.masks.any(0) if avoid_objects else None
            return np.asarray(pipe.background(scene.photo, scene.occluder[None], avoid=avoid, filler=name))
        output = pipe(
            scene.photo, scene.masks, scene.amodal_masks, order=scene.order, names=scene.names,
            category_ids=scene.category_ids, filler=name,
        )  # fmt: skip
        x, y, w, h = (int(value) for value in output.boxes[scene.target])
        picture = scene.photo.copy()
        picture[y : y + h, x : x + w] = output.objects[scene.target][..., :3]
        return _filled(scene, picture)

    return fill


def patched(filler: Filler, module: Any, **values: Any) -> Filler:
    """The filler with other values of some names of a module while it runs: a part of it left out."""

    def fill(scene: PastedScene) -> np.ndarray:
        with patch.multiple(module, **values):
            return filler(scene)

    return fill


def matted_filler(pipe: ContentPipeline, name: str, edge_width: float = 3.0) -> Filler:
    """The same behind soft outlines (`soft_outlines`), as scenes are filled; background likewise."""

    def fill(scene: PastedScene) -> np.ndarray:
        order = scene.order
        if scene.target is None:  # whatever is beside the occluder lies behind it
            order[-1, :-1], order[:-1, -1] = 1, -1
        found = soft_outlines(scene.photo, scene.masks, scene.amodal_masks, order, edge_width)
        if scene.target is None:
            background = pipe.background(scene.photo, found.seen[-1:], avoid=scene.masks.any(0), filler=name)
            return _filled(scene, np.asarray(background))
        output = pipe(
            found.photo, found.seen, found.amodal, order=order, names=scene.names,
            category_ids=scene.category_ids, filler=name, clean_seams=True,
        )  # fmt: skip
        x, y, w, h = (int(value) for value in output.boxes[scene.target])
        picture, tile = scene.photo.copy(), output.objects[scene.target]
        window = picture[y : y + h, x : x + w]
        window[tile[..., 3] > 0] = tile[..., :3][tile[..., 3] > 0]
        return _filled(scene, picture)

    return fill


def _filled(scene: PastedScene, picture: np.ndarray) -> np.ndarray:
    """The photo outside of the hole, the picture in it."""
    return np.where(scene.hole[..., None], picture, scene.photo).astype(np.uint8)
