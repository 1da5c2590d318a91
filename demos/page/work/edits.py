"""What a visitor does to a scene, as values of the page turned into calls of `Scene`."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from amodal_diffusion import Layer, Scene
from page.work.files.photos import MAX_PIXELS
from page.work.session import MAX_NAME, MAX_OBJECTS, PageError, Session, check_name, check_number

REACH = 4
"""How many canvas sides an object may stand away from the canvas."""
SCALES = (2.0, 1000.0)
"""Least and greatest size of an object, in percent of its size in the photo."""

MAX_INSERTED = 4 * MAX_PIXELS
"""Pixels that a picture keeps that is put into a scene."""

Event = Mapping[str, Any]
Edit = Callable[[Scene, int, Event], Scene]


# What an object's transform means


def scale_of(layer: Layer) -> float:
    """Size in percent of that in the photo."""
    return 100 * math.sqrt(abs(float(np.linalg.det(layer.transform[:, :2]))))


def sides_of(layer: Layer) -> tuple[float, float]:
    """Width and height in percent of those in the photo, along the object's own sides."""
    width, height = 100 * np.linalg.norm(layer.transform[:, :2], axis=0)
    return float(width), float(height)


def is_mirrored(layer: Layer) -> bool:
    return bool(np.linalg.det(layer.transform[:, :2]) < 0)


def rotation_of(layer: Layer) -> float:
    """Degrees counter-clockwise, above -180 and up to 180."""
    linear = layer.transform[:, :2] @ np.diag([-1.0 if is_mirrored(layer) else 1.0, 1.0])
    degrees = math.degrees(math.atan2(-linear[1, 0], linear[0, 0]))  # of the upper side: sides may differ in scale
    return 180.0 if degrees <= -180 else degrees


# Edits


def find_layer(scene: Scene, number: Any) -> int:
    for index, layer in enumerate(scene.layers):
        if layer.id == number:
            return index
    raise PageError("Choose an object first.")


def within_reach(scene: Scene, index: int) -> Scene:
    """The scene, unless its object stands so far out that nobody would find it again."""
    width, height = scene.size
    x, y, w, h = scene.layers[index].box
    far = REACH * max(width, height)
    if x + w < -far or y + h < -far or x > width + far or y > height + far:
        raise PageError("That is too far away from the picture.")
    return scene


def carries(event: Event) -> bool:
    """The edit takes along what stands on the object; `scene_event` says so."""
    return bool(event.get("carried"))


def move(scene: Scene, index: int, event: Event) -> Scene:
    dx, dy = (check_number(name, event.get(name, 0), -1e5, 1e5) for name in ("dx", "dy"))
    return within_reach(scene, index).move(index, round(dx), round(dy), carried=carries(event)) if dx or dy else scene


def place(scene: Scene, index: int, event: Event) -> Scene:
    x, y, _, _ = scene.layers[index].box
    left = check_number("x", event.get("x", x), -1e5, 1e5)
    top = check_number("y", event.get("y", y), -1e5, 1e5)
    return scene.place(index, left, top, carried=carries(event))


def scale(scene: Scene, index: int, event: Event) -> Scene:
    percent = check_number("size", event.get("percent"), *SCALES)
    factor = percent / scale_of(scene.layers[index])
    return scene if abs(factor - 1) < 1e-4 else scene.scale(index, factor, carried=carries(event))


def stretch(scene: Scene, index: int, event: Event) -> Scene:
    """Give the width or the height of an object a new size; with `keep` both change alike."""
    side = event.get("side")
    if side not in ("width", "height"):
        raise PageError("There is no such side.")
    sides = sides_of(scene.layers[index])
    factor = check_number(str(side), event.get("percent"), *SCALES) / sides[side == "height"]
    if event.get("keep"):
        for value in sides:
            check_number("size", value * factor, *SCALES)
        return scene if abs(factor - 1) < 1e-4 else scene.scale(index, factor, carried=carries(event))
    return scene if abs(factor - 1) < 1e-4 else scene.stretch(index, **{str(side): factor})


def restack(scene: Scene, index: int, event: Event) -> Scene:
    """Put an object at a place of the list, 0 at the back."""
    place = int(check_number("the place", event.get("place"), 0, len(scene) - 1))
    return scene if scene.stacking().index(index) == place else scene.restack(index, place)


def fade(scene: Scene, index: int, event: Event) -> Scene:
    opacity = check_number("opacity", event.get("percent"), 0, 100) / 100
    if opacity == scene.layers[index].opacity:
        return scene
    return scene.set_opacity(index, opacity, carried=carries(event))


def rotate(scene: Scene, index: int, event: Event) -> Scene:
    degrees = check_number("rotation", event.get("degrees"), -3600, 3600) - rotation_of(scene.layers[index])
    return scene if abs(degrees) < 1e-3 else scene.rotate(index, degrees, carried=carries(event))


def overlapping(scene: Scene, index: int) -> list[int]:
    """Layers whose boxes overlap that of one, back to front."""
    x, y, w, h = scene.layers[index].box
    found = []
    for other in scene.stacking():
        a, b, c, d = scene.layers[other].box
        if other != index and a < x + w and x < a + c and b < y + h and y < b + d:
            found.append(other)
    return found


def step_forward(scene: Scene, index: int, event: Event) -> Scene:
    above = [other for other in overlapping(scene, index) if not scene.in_front(index, other)]
    if not above:
        raise PageError("Nothing is in front of this object.")
    return scene.swap_order(index, above[0])


def step_backward(scene: Scene, index: int, event: Event) -> Scene:
    below = [other for other in overlapping(scene, index) if scene.in_front(index, other)]
    if not below:
        raise PageError("This object is in front of nothing.")
    return scene.swap_order(index, below[-1])


def swap(scene: Scene, index: int, event: Event) -> Scene:
    other = find_layer(scene, event.get("other"))
    if other == index:
        raise PageError("Choose another object to swap with.")
    return scene.swap_order(index, other)


def duplicate(scene: Scene, index: int, event: Event) -> Scene:
    check_room(scene)
    copy = scene.duplicate(index, round(0.04 * scene.size[0]), round(0.04 * scene.size[1]))
    return copy.rename(len(copy) - 1, f"{scene.layers[index].name} copy"[:MAX_NAME])


def rename(scene: Scene, index: int, event: Event) -> Scene:
    return scene.rename(index, check_name(event.get("name")))


EDITS: dict[str, Edit] = {
    "move": move,
    "place": place,
    "scale": scale,
    "rotate": rotate,
    "flip": lambda scene, index, event: scene.flip(index, not event.get("vertical"), carried=carries(event)),
    "front": lambda scene, index, event: scene.bring_to_front(index, carried=carries(event)),
    "back": lambda scene, index, event: scene.send_to_back(index, carried=carries(event)),
    "forward": step_forward,
    "backward": step_backward,
    "swap": swap,
    "duplicate": duplicate,
    "remove": lambda scene, index, event: scene.remove(index, carried=carries(event)),
    "rename": rename,
    "stretch": stretch,
    "restack": restack,
    "fade": fade,
    "show": lambda scene, index, event: scene.set_visible(index, bool(event.get("visible")), carried=carries(event)),
    "lock": lambda scene, index, event: scene.set_locked(index, bool(event.get("locked"))),
}


ALONE = ("move", "place", "scale", "stretch", "rotate", "flip")
"""Edits that change nothing but where one object is."""
FREE = ("lock", "show", "rename", "duplicate")
"""What can be done to a locked object."""
TAKING = ("move", "place", "scale", "rotate", "flip", "front", "back", "fade", "remove")
"""Edits that take along what stands on an object; of `stretch` those that keep the ratio of its sides do."""


def check_room(scene: Scene) -> None:
    if len(scene) >= MAX_OBJECTS:
        raise PageError(f"A scene can have {MAX_OBJECTS} objects.")


def current_scene(session: Session) -> Scene:
    if session.scene is None:
        raise PageError("Complete the objects first.")
    return session.scene.present


def with_scene(session: Session, scene: Scene, layer: int | None) -> Session:
    """The next state of the scene, in its history."""
    if session.scene is None or scene is session.scene.present:
        return session.step(layer=layer)
    return session.step(scene=session.scene.push(scene), layer=layer)


def scene_event(session: Session, event: Event) -> Session:
    """What happened on the picture or in the list while the scene is edited."""
    scene, kind = current_scene(session), event.get("op")
    history = session.scene
    if history is not None and kind in ("undo", "redo", "reset"):
        if kind == "reset":
            history = history if history.first is history.present else history.push(history.first)
        else:
            history = history.undo() if kind == "undo" else history.redo()
        known = any(layer.id == session.layer for layer in history.present.layers)
        return session.step(scene=history, layer=session.layer if known else None)
    if kind == "select":
        known = any(layer.id == event.get("id") for layer in scene.layers)
        return session.step(layer=event.get("id") if known else None)
    if kind == "carry":
        return session.step(carry=bool(event.get("on")))
    if not isinstance(kind, str) or kind not in EDITS:
        raise PageError("There is no such action.")
    index = find_layer(scene, event.get("id"))
    if scene.layers[index].locked and kind not in FREE:
        raise PageError(f"{scene.layers[index].name} is locked. The lock in the list opens it again.")
    if session.carry and (kind in TAKING or (kind == "stretch" and event.get("keep"))):
        fixed = [scene.layers[other].name for other in scene.carried(index) if scene.layers[other].locked]
        if fixed:
            raise PageError(f"{fixed[0]} is locked and stands on it. The lock in the list opens it again.")
    edited = EDITS[kind](scene, index, {**event, "carried": session.carry})
    if kind in ("move", "place", "scale", "stretch"):
        edited = within_reach(edited, index)
    chosen: int | None = scene.layers[index].id
    if kind in ("show", "lock"):  # switches of the list, which choose nothing
        chosen = session.layer
    elif kind == "remove":
        chosen = None
    elif kind == "duplicate":
        chosen = edited.layers[-1].id
    return with_scene(session, edited, chosen)


def insert_picture(session: Session, picture: Image.Image, name: str) -> Session:
    """Put a picture (transparent where it is nothing) in the middle, at most half as large as the canvas.

    It keeps pixels of its own beyond those that the canvas shows: for an export at the photo's own size, and for a
    visitor who makes it larger.
    """
    scene = current_scene(session)
    check_room(scene)
    width, height = scene.size
    picture = picture.convert("RGBA")
    fit = min(0.5 * width / picture.width, 0.5 * height / picture.height, 1.0)
    detail = max(2.0, session.source_size[0] / session.size[0])
    kept = min(1.0, detail * fit, math.sqrt(MAX_INSERTED / (picture.width * picture.height)))
    shown = fit * picture.width, fit * picture.height
    if kept < 1:
        size = [max(1, round(side * kept)) for side in picture.size]
        picture = resized(picture, (size[0], size[1]))
    if picture.getchannel("A").getextrema()[1] < 128:
        raise PageError("That picture is transparent everywhere.")
    x, y = (round((side - own) / 2) for side, own in zip(scene.size, shown, strict=True))
    edited = scene.insert(picture, x, y, check_name(name or "picture"))
    last = len(edited) - 1
    if picture.width > shown[0]:
        edited = edited.scale(last, shown[0] / picture.width, about=(x, y))
    return with_scene(session, edited, edited.layers[last].id)


def resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A picture with straight alpha at another size: colours count by their alpha."""
    return picture.convert("RGBa").resize(size, Image.Resampling.BICUBIC).convert("RGBA")
