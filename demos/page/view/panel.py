"""The value of a list of objects, for assets/panel."""

from typing import Any

import numpy as np

from amodal_diffusion import Scene
from page.view.drawing import colour_of, css, layer_thumb, mark_thumb
from page.work.edits import is_mirrored, overlapping, rotation_of, sides_of
from page.work.session import Mark, Session

Value = dict[str, Any]

FILLERS = {
    "auto": "What suits each hole",
    "blend": "Copied detail on smooth colours",
    "exemplar": "Copied pixels",
    "smooth": "Smooth colours",
    "pcnet-c": "Painted by a network (PCNet-C)",
    "inpainter": "Painted by an inpainting model",
}
"""What the page calls the fillers of the library."""


def panel_value(session: Session, mode: str) -> Value | None:
    """What the list of objects shows, for assets/panel."""
    if session.photo is None:
        return None
    if mode == "mark":
        history: Any = session.marks
        objects = [_mark_row(mark, session.photo) for mark in reversed(session.marks.present)]
        selected, title = session.selected, f"Objects ({len(objects)})"
        none = "No object yet. Click the objects in the photo, or draw around them."
    elif session.scene is not None:
        history, scene = session.scene, session.scene.present
        objects = [_layer_row(scene, index, session) for index in reversed(scene.stacking())]
        selected, title = session.layer, f"Layers ({len(objects)})"
        none = "No object is left. Undo brings them back."
    else:
        return None
    return {
        "mode": mode,
        "stamp": session.stamp,
        "seq": session.seq,
        "title": title,
        "none": none,
        "objects": objects,
        "selected": selected,
        "canUndo": bool(history.past),
        "canRedo": bool(history.future),
    }


def _mark_row(mark: Mark, photo: np.ndarray) -> Value:
    share = 100 * mark.area / (mark.shape[0] * mark.shape[1])
    return {
        "id": mark.id,
        "name": mark.name,
        "colour": css(colour_of(mark.id)),
        "thumb": mark_thumb(mark, photo),
        "about": f"{share:.1f}% of the photo" if share < 10 else f"{share:.0f}% of the photo",
    }


def _layer_row(scene: Scene, index: int, session: Session) -> Value:
    layer = scene.layers[index]
    x, y, w, h = layer.box
    whole = int(layer.amodal.sum())
    hidden = 100 * int((layer.amodal & ~layer.modal).sum()) / max(1, whole)
    about = f"{w:.0f} × {h:.0f} px"
    if layer.origin is not None and hidden >= 0.5:
        about += f", {hidden:.0f}% was hidden"
    width, height = sides_of(layer)
    return {
        "id": layer.id,
        "name": layer.name,
        "colour": css(colour_of(layer.id)),
        "thumb": layer_thumb(layer),
        "about": about + (", mirrored" if is_mirrored(layer) else ""),
        "x": _short(x),
        "y": _short(y),
        "width": _short(width),
        "height": _short(height),
        "rotation": _short(rotation_of(layer)),
        "opacity": round(100 * layer.opacity),
        "visible": layer.visible,
        "locked": layer.locked,
        "paintable": bool(layer.origin is not None and hidden),
        "carry": session.carry,
        "carries": [scene.layers[other].name for other in scene.carried(index)] if layer.id == session.layer else [],
        "overlaps": [
            {"id": scene.layers[other].id, "name": scene.layers[other].name, "front": scene.in_front(index, other)}
            for other in reversed(overlapping(scene, index))
        ],
    }


def _short(value: float) -> float | int:
    rounded = round(value, 1) + 0.0
    return int(rounded) if rounded == int(rounded) else rounded
