"""The edits of one scene done to another of the same objects: completed anew, or at the photo's own size."""

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
from PIL import Image

from amodal_diffusion import Layer, Scene
from amodal_diffusion.scene.layer import compose, invert
from amodal_diffusion.scene.reshaping import behind_outline
from page.work.edits import resized
from page.work.poses import digest_of, enlarged_pose, resized_mask
from page.work.session import Pose

Affine = np.ndarray

PLAIN = ("name", "visible", "opacity", "locked")
"""What edits change of a layer beside its place."""


def is_edited(first: Scene, now: Scene, number: int) -> bool:
    """Whether an object is no more as it was, or gone."""
    before, after = by_id(first).get(number), by_id(now).get(number)
    return before is not None and (after is None or not before.equals(after))


def replay(
    first: Scene,
    now: Scene,
    fresh: Scene,
    enlarge: Affine | None = None,
    changed: Collection[int] = (),
    poses: Mapping[str, Pose] | None = None,
) -> Scene:
    """Do to `fresh` what was done to `first` to make `now` of it.

    Objects are the same where their ids are. Of an object whose pixels were edited, such as by another shape, the
    visible pixels are those of `fresh`.

    Args:
        first: the scene that the edits began with.
        now: what they made of it.
        fresh: the scene to edit; it may lack objects of `first` and have others.
        enlarge: (2, 3), map of the canvas of `first` to that of `fresh`; None: they are the same.
        changed: ids of objects that are not edited: they are in the result as they are in `fresh`.
        poses: of layers of `now` on its canvas, for objects in another pose at another size, see `poses.py`.
    """
    larger = np.eye(2, 3) if enlarge is None else np.asarray(enlarge, np.float64)
    smaller = invert(larger)
    before, given = by_id(first), by_id(fresh)
    after = {layer.id: layer for layer in now.layers if layer.id in before and not is_posed(before[layer.id], layer)}
    for number in set(before) & set(given) - set(after) - set(changed):
        index = fresh.index(number)
        if number in by_id(now):  # in another pose
            fresh = uncovered(fresh, index)
        fresh = fresh.remove(index)
    layers, places = [], {}  # places: of layers that are edited, where they are in `now`
    indices = {layer.id: index for index, layer in enumerate(now.layers)}
    for layer in fresh.layers:
        old, new = before.get(layer.id), after.get(layer.id)
        if old is not None and new is not None and layer.id not in changed:
            places[len(layers)] = indices[layer.id]
            layer = _moved(layer, old, new, larger, smaller)
        layers.append(layer)
    next_id = max(fresh.next_id, now.next_id)
    for new in now.layers:
        if new.id not in after and not (new.id in changed and new.id in given):
            places[len(layers)] = indices[new.id]
            layer = _added(new, before, given, larger, smaller, poses or {})
            if any(new.id == other.id for other in layers):
                layer = replace(layer, id=next_id)
                next_id += 1
            layers.append(layer)
    return replace(_with_relations(fresh, now, layers, places), next_id=next_id)


def is_posed(old: Layer, new: Layer) -> bool:
    """Whether an object got another shape than the photo shows; it is then like a picture that was put in."""
    return old.origin is not None and new.origin is None


def by_id(scene: Scene) -> dict[int, Layer]:
    return {layer.id: layer for layer in scene.layers}


def _moved(layer: Layer, old: Layer, new: Layer, larger: Affine, smaller: Affine) -> Layer:
    """A layer of the fresh scene with what was done to the old one to become the new one."""
    if new.rgba is not old.rgba and not np.array_equal(new.rgba, old.rgba):
        if np.array_equal(larger, np.eye(2, 3)):
            return new
        layer = enlarged(layer, new, larger)
        old = replace(old, transform=new.origin) if new.origin is not None else old
        home = layer.origin if layer.origin is not None else layer.transform
        motion = compose(new.transform, invert(old.transform))
        transform = compose(compose(larger, compose(motion, smaller)), home)
        return replace(layer, transform=transform, **{name: getattr(new, name) for name in PLAIN})
    motion = compose(new.transform, invert(old.transform))
    still = old.same_place(old.transform, new.transform)
    transform = layer.transform if still else compose(compose(larger, compose(motion, smaller)), layer.transform)
    return replace(layer, transform=transform, **{name: getattr(new, name) for name in PLAIN})


def uncovered(scene: Scene, index: int) -> Scene:
    """With what the photo shows through the soft outline of a layer on the background, as `Scene.reshape` leaves it."""
    layer = scene.layers[index]
    if scene.photo is None or not layer.as_in_photo:
        return scene
    shadows = [each.shadow_layer() for each in scene.layers if each.visible]
    known = [shadow for shadow in shadows if shadow is not None]
    return replace(scene, background=behind_outline(scene.background, scene.photo, layer, known))


def _added(
    new: Layer,
    before: dict[int, Layer],
    given: dict[int, Layer],
    larger: Affine,
    smaller: Affine,
    poses: Mapping[str, Pose],
) -> Layer:
    """A copy of an object, an object in another pose, or a picture that was put in."""
    for number, old in before.items():
        if number in given and (new.rgba is old.rgba or np.array_equal(new.rgba, old.rgba)):
            moved = _moved(given[number], old, replace(new, rgba=old.rgba), larger, smaller)
            return replace(moved, id=new.id, origin=None)
    pose = None if np.array_equal(larger[:, :2], np.eye(2)) else poses.get(digest_of(new))
    if pose is not None and pose.id in before and pose.id in given:
        posed = enlarged_pose(given[pose.id], before[pose.id], new, pose, larger)
        if posed is not None:
            return posed
    return replace(new, transform=compose(larger, new.transform))


def enlarged(layer: Layer, new: Layer, larger: Affine) -> Layer:
    """A layer at home with the pixels of `new`, enlarged, where the photo does not show it."""
    home = new.origin if new.origin is not None else new.transform
    x, y = np.round(compose(larger, home)[:, 2]).astype(int).tolist()
    factor = float(larger[0, 0])
    size = max(1, round(new.size[0] * factor)), max(1, round(new.size[1] * factor))
    painted = np.asarray(resized(Image.fromarray(new.rgba), size))
    amodal = resized_mask(new.amodal, size)
    own = layer.origin if layer.origin is not None else layer.transform
    a, b = np.round(own[:, 2]).astype(int).tolist()
    left, top = min(x, a), min(y, b)
    width = max(x + size[0], a + layer.size[0]) - left
    height = max(y + size[1], b + layer.size[1]) - top
    rgba = np.zeros((height, width, 4), np.uint8)
    whole, modal = np.zeros((2, height, width), bool)
    there = (slice(y - top, y - top + size[1]), slice(x - left, x - left + size[0]))
    here = (slice(b - top, b - top + layer.size[1]), slice(a - left, a - left + layer.size[0]))
    rgba[there], whole[there], modal[here] = painted, amodal, layer.modal
    rgba[here] = np.where(layer.modal[..., None], layer.rgba, rgba[here])
    place = np.array([[1.0, 0, left], [0, 1.0, top]])
    origin = None if layer.origin is None else place
    return replace(
        layer,
        rgba=rgba,
        modal=modal,
        amodal=whole | modal,
        uncertainty=None,
        transform=place,
        origin=origin,
        shadow=None,
    )


def _with_relations(fresh: Scene, now: Scene, layers: list[Layer], places: dict[int, int]) -> Scene:
    """The fresh scene with these layers; who is in front of whom as it is now, where both were there."""
    count = len(layers)
    order, evidence = np.zeros((count, count), np.int8), np.zeros((count, count), bool)
    known = len(fresh)
    order[:known, :known], evidence[:known, :known] = fresh.order, fresh.evidence
    here, there = list(places), list(places.values())
    if here:
        order[np.ix_(here, here)] = now.order[np.ix_(there, there)]
        evidence[np.ix_(here, here)] = now.evidence[np.ix_(there, there)]
    return replace(fresh, layers=tuple(layers), order=order, evidence=evidence)


def shrink(scene: Scene, size: tuple[int, int]) -> Scene:
    """A scene on a smaller canvas (width, height), for a preview: tiles, masks and places are scaled down."""
    x, y = size[0] / scene.size[0], size[1] / scene.size[1]

    def picture(pixels: np.ndarray | None) -> np.ndarray | None:
        return None if pixels is None else np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))

    return replace(
        scene,
        background=picture(scene.background),
        photo=picture(scene.photo),
        replaced=resized_mask(scene.replaced, size),
        layers=tuple(_shrunk(layer, np.array([[x, 0, 0], [0, y, 0]])) for layer in scene.layers),
    )


def _shrunk(layer: Layer, smaller: Affine) -> Layer:
    """A tile that lay on whole pixels of the larger canvas lies on whole pixels of the smaller one."""
    x, y = float(smaller[0, 0]), float(smaller[1, 1])
    home = layer.origin if layer.origin is not None else layer.transform
    upright = np.allclose(home[:, :2], np.eye(2))
    corner = home[:, 2] * (x, y) if upright else np.zeros(2)
    left, top = np.floor(corner).astype(int).tolist()
    right, bottom = np.ceil(corner + np.multiply(layer.size, (x, y))).astype(int).tolist()
    width, height = max(1, right - left), max(1, bottom - top)
    start = (left / x - home[0, 2], top / y - home[1, 2]) if upright else (0.0, 0.0)  # of the new tile on the old one
    margin = int(np.ceil(max(1 / x, 1 / y))) + 1
    box = (start[0] + margin, start[1] + margin, start[0] + margin + width / x, start[1] + margin + height / y)

    def sampled(image: Image.Image) -> Image.Image:
        wider = Image.new(image.mode, (image.width + 2 * margin, image.height + 2 * margin))
        wider.paste(image, (margin, margin))
        return wider.resize((width, height), Image.Resampling.BOX, box=box)

    rgba = np.asarray(sampled(Image.fromarray(layer.rgba).convert("RGBa")).convert("RGBA"))
    modal, amodal = (
        np.asarray(sampled(Image.fromarray(mask.astype(np.uint8) * 255))) > 127 for mask in (layer.modal, layer.amodal)
    )
    tile = np.array([[1 / x, 0, start[0]], [0, 1 / y, start[1]]])
    origin = None if layer.origin is None else compose(smaller, compose(layer.origin, tile))
    transform = compose(smaller, compose(layer.transform, tile))
    return replace(
        layer, rgba=rgba, modal=modal & amodal, amodal=amodal, uncertainty=None, transform=transform, origin=origin,
        shadow=None,
    )  # fmt: skip
