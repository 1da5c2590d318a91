"""What a scene says as it came out of the pipelines: masks on the canvas, who hides whom, where it is unsure."""

import html

import numpy as np

from amodal_diffusion import Scene
from amodal_diffusion.masks import mask_unions
from amodal_diffusion.ordering import ancestors
from page.work.session import MAX_OBJECTS, Session


def canvas_masks(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Visible and whole masks (N, H, W) bool of a scene as it was completed."""
    width, height = scene.size
    modal = np.zeros((len(scene), height, width), bool)
    amodal = np.zeros_like(modal)
    for index, layer in enumerate(scene.layers):
        x, y = (round(value) for value in layer.box[:2])
        w, h = layer.size
        modal[index, y : y + h, x : x + w] = layer.modal
        amodal[index, y : y + h, x : x + w] = layer.amodal
    return modal, amodal


def may_be_hidden(scene: Scene, index: int) -> np.ndarray:
    """(H, W) bool, where an object of a scene as it was completed may have hidden parts.

    Under what is in front of it, beyond the frame of the photo, and where it was completed to have some.
    """
    modal, amodal = canvas_masks(scene)
    front = mask_unions(modal, ancestors(scene.order)[index : index + 1])[0]
    beyond = np.zeros_like(front) if scene.replaced is None else scene.replaced
    return front | beyond | (amodal[index] & ~modal[index])


def unlike(samples: np.ndarray, least: float = 0.01) -> list[int]:
    """Which of the shapes (K, H, W) bool differ from each one before them by a share of both that can be seen."""
    kept: list[int] = []
    for number, sample in enumerate(samples):
        if all((sample ^ samples[other]).sum() >= least * (sample | samples[other]).sum() > 0 for other in kept):
            kept.append(number)
    return kept


def has_uncertainty(scene: Scene) -> bool:
    return any(layer.uncertainty is not None for layer in scene.layers)


def canvas_uncertainty(scene: Scene) -> np.ndarray:
    """(H, W) float32, of all objects the largest."""
    width, height = scene.size
    values = np.zeros((height, width), np.float32)
    for layer in scene.layers:
        if layer.uncertainty is not None:
            x, y = (round(value) for value in layer.box[:2])
            w, h = layer.size
            part = values[y : y + h, x : x + w]
            np.maximum(part, layer.uncertainty, out=part)
    return values


def partly_hidden(session: Session) -> list[tuple[str, int]]:
    """Names and ids of the objects that have a hidden part."""
    layers = () if session.completed is None else session.completed.layers
    return [(layer.name, layer.id) for layer in layers if (layer.amodal & ~layer.modal).any()]


def summary(session: Session) -> str:
    """What the second step says in words."""
    scene = session.completed
    if scene is None:
        return ""
    modal, amodal = canvas_masks(scene)
    lines = []
    for index, layer in enumerate(scene.layers):
        hidden = int((amodal[index] & ~modal[index]).sum()) / max(1, int(amodal[index].sum()))
        behind = [scene.layers[j].name for j in np.flatnonzero(scene.order[:, index] == 1)]
        if behind:
            text = f"**{_plain(layer.name)}**: {hidden:.0%} hidden, behind {', '.join(map(_plain, behind[:4]))}"
            lines.append(f"- {text}{' and more' if len(behind) > 4 else ''}")
    if not lines:
        return f"None of the {len(scene)} objects is hidden by another."
    return "\n".join(lines[:MAX_OBJECTS])


def _plain(name: str) -> str:
    """A name without what Markdown or HTML would read."""
    return html.escape("".join(sign for sign in name if sign not in "*_`[]()#<>|\\"))
