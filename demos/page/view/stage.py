"""The value of the picture, for assets/stage."""

from typing import Any

import numpy as np
from PIL import Image

from amodal_diffusion import Layer, Scene
from page.view.drawing import colour_of, data_url, draw_before, draw_shape, draw_under, draw_view, drawn
from page.work.completed import canvas_masks
from page.work.edits import find_layer, resized, rotation_of, scale_of, sides_of
from page.work.session import Session

EDIT_HINT = "Drag an object; corners change its size, the knob turns it."
EDIT_KEYS = "Arrow keys move it, B shows the photo."
SHAPE_HINT = (
    "White: all shapes have it. Orange: this one has it and others do not. Blue: others have it. Line: as it is now."
)

Value = dict[str, Any]


def stage_value(session: Session) -> Value | None:
    """What the picture shows, for assets/stage; None without a photo."""
    if session.photo is None:
        return None
    if session.view == "mark" or session.scene is None:
        return _mark_stage(session)
    if session.view == "edit":
        return _edit_stage(session, session.scene.present)
    return _look_stage(session, session.completed or session.scene.present)


def _frame(session: Session, mode: str, picture: str, size: tuple[int, int], **more: Any) -> Value:
    width, height = size
    return {
        "mode": mode,
        "stamp": session.stamp,
        "seq": session.seq,
        "width": width,
        "height": height,
        "picture": picture,
        "title": session.title,
        "isPreview": session.source is not None,
        "dims": "" if mode == "look" else f"{width} × {height} px",
        **more,
    }


def _mark_stage(session: Session) -> Value:
    photo = Image.fromarray(session.photo)
    ids = np.zeros(session.size, np.uint8)
    objects = []
    for index, mark in enumerate(session.marks.present):
        ids[mark.mask] = index + 1
        objects.append({"id": mark.id, "name": mark.name, "rgb": colour_of(mark.id)})
    return _frame(
        session,
        "mark",
        data_url(photo),
        photo.size,
        ids=data_url(Image.fromarray(ids), "PNG"),
        objects=objects,
        selected=session.selected,
        canClick=session.can_click,
        canUndo=bool(session.marks.past),
        clicks=_clicks(session),
        notice=None if session.notice is None else {"text": session.notice.text, "ways": session.notice.ways},
    )


def _clicks(session: Session) -> Value | None:
    """What the chosen object was made of."""
    chosen = next((mark for mark in session.marks.present if mark.id == session.selected), None)
    if chosen is None or chosen.clicks is None:
        return None
    points = [list(point) for point in chosen.clicks.points]
    return {"id": chosen.id, "points": points, "box": chosen.clicks.box}


def _edit_stage(session: Session, scene: Scene) -> Value:
    objects = []
    for layer in scene.layers:
        objects.append(
            {
                "id": layer.id,
                "name": layer.name,
                "tile": list(layer.size),
                "transform": layer.transform.T.ravel().tolist(),  # as DOMMatrix counts
                "centre": list(layer.centre),
                "scale": scale_of(layer),
                "rotation": rotation_of(layer),
                "locked": layer.locked,
                "opacity": layer.opacity if layer.visible else 0,
            }
        )
    chosen = next((index for index, layer in enumerate(scene.layers) if layer.id == session.layer), None)
    more: Value = {}
    if chosen is not None:
        along = set(scene.carried(chosen)) if session.carry else set()
        more["under"] = draw_under(scene, chosen, bool(along))
        more["tile"] = data_url(_tile(scene.layers[chosen]), "PNG")
        more["along"] = [
            {"id": scene.layers[index].id, "tile": data_url(_tile(scene.layers[index]), "PNG")}
            for index in scene.stacking()
            if index in along
        ]
    pictures = drawn(scene)
    return _frame(
        session,
        "edit",
        pictures.picture,
        scene.size,
        ids=pictures.codes,
        objects=objects,
        selected=session.layer,
        hint=EDIT_HINT,
        keys=EDIT_KEYS,
        before=None if scene.photo is None else draw_before(session.base or scene),
        **more,
    )


def _tile(layer: Layer) -> Image.Image:
    """A layer as it is drawn while it is dragged, no finer than the canvas shows it."""
    tile, share = Image.fromarray(layer.rgba), max(sides_of(layer)) / 100
    if share > 0.8:
        return tile
    return resized(tile, (max(1, round(share * tile.width)), max(1, round(share * tile.height))))


def _look_stage(session: Session, scene: Scene) -> Value:
    hints = {
        "Parts": "Tinted: what the photo shows. Hatched: what was hidden.",
        "Order": "An arrow runs from an object to what it hides in part.",
        "Uncertainty": "Dark: it is unsure whether the object is there.",
        "Whole objects": "Each object with its hidden part, as it can be moved.",
    }
    if session.samples is not None and session.shape is not None:
        index = find_layer(scene, session.samples_of)
        modal, amodal = (masks[index] for masks in canvas_masks(scene))
        drawing = draw_shape(np.asarray(scene.photo), modal, amodal, session.samples, session.shape)
        return _frame(session, "look", data_url(drawing), drawing.size, hint=SHAPE_HINT)
    drawing = draw_view(scene, session.look)
    return _frame(session, "look", data_url(drawing), drawing.size, hint=hints[session.look])
