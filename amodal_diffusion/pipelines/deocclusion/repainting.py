"""One object of a scene painted anew: what the content pipeline is asked, and the layer that its answer becomes."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ...display import short_repr
from ...masks import BoolArray, mask_boxes
from ...scene import Layer, Scene
from ...scene.layer import FloatArray, compose, integer_shift, translation
from ...scene.reshaping import moved_shadow, soft_alpha


@dataclass
class RepaintInputs:
    """What the content pipeline is asked for one object; `of_scene` makes it.

    Args:
        photo: (H, W, 3) uint8, with the colours of the objects alone along their soft outlines.
        masks: (K, H, W) bool, visible parts: of the object, then of others of its name.
        amodal_masks: (K, H, W) bool, the object whole; the others have no hidden part here.
        names: of the K objects.
        occluders: (H, W) bool, the visible parts of other objects that lie on the whole object.
        unknown: (H, W) bool, where the scene no longer knows the photo.

    Example:
        >>> photo, mask = np.zeros((4, 6, 3), np.uint8), np.ones((2, 2), bool)
        >>> layer = Layer(np.full((2, 2, 4), 255, np.uint8), mask, mask, name="cup", origin=translation(1, 1))
        >>> inputs = RepaintInputs.of_scene(Scene(photo, (layer,), photo=photo), 0, np.ones((4, 6), bool))
        >>> inputs.masks.sum(axis=(1, 2)), inputs.amodal_masks.sum(axis=(1, 2)), inputs.names
        (array([4]), array([24]), ['cup'])
    """

    photo: npt.NDArray[np.uint8]
    masks: BoolArray
    amodal_masks: BoolArray
    names: list[str]
    occluders: BoolArray
    unknown: BoolArray

    __repr__ = short_repr

    @classmethod
    def of_scene(cls, scene: Scene, i: int, amodal: BoolArray) -> "RepaintInputs":
        """Of layer i of a scene with a photo, whose whole mask on the photo is `amodal`, (H, W) bool."""
        photo = np.array(scene.photo)
        known = {index: on_photo(layer, photo.shape[:2]) for index, layer in enumerate(scene.layers)}
        masks = {index: mask for index, mask in known.items() if mask is not None}
        occluders, seen = np.zeros((2, *photo.shape[:2]), bool)
        for index, mask in masks.items():
            layer = scene.layers[index]
            x, y = _corner(layer)
            part = photo[y : y + layer.size[1], x : x + layer.size[0]]
            part[layer.modal] = layer.rgba[..., :3][layer.modal]
            seen |= mask
            if index != i and (mask & amodal).any():
                occluders |= mask
        name = scene.layers[i].name
        rows = [i, *(index for index in masks if index != i and name and scene.layers[index].name == name)]
        modal = np.stack([masks[index] for index in rows])
        whole = modal.copy()
        whole[0] |= amodal
        return cls(photo, modal, whole, [scene.layers[index].name for index in rows], occluders, scene.replaced & ~seen)


def on_photo(layer: Layer, shape: tuple[int, ...], name: str = "modal") -> BoolArray | None:
    """(H, W) bool, a mask of a layer where the photo shows it; None for one that the photo does not show.

    Args:
        layer: of a scene.
        shape: (H, W) of the photo.
        name: of the mask, "modal" or "amodal".

    Example:
        >>> mask = np.ones((1, 2), bool)
        >>> layer = Layer(np.zeros((1, 2, 4), np.uint8), mask, mask, origin=translation(1, 0))
        >>> on_photo(layer, (2, 4)).astype(int)
        array([[0, 1, 1, 0],
               [0, 0, 0, 0]])
    """
    if layer.origin is None or integer_shift(layer.origin, max(layer.size)) is None:
        return None
    x, y = _corner(layer)
    if min(x, y) < 0 or y + layer.size[1] > shape[0] or x + layer.size[0] > shape[1]:
        return None
    mask = np.zeros(shape, bool)
    mask[y : y + layer.size[1], x : x + layer.size[0]] = getattr(layer, name)
    return mask


def repainted(layer: Layer, tile: npt.NDArray[np.uint8], amodal: BoolArray, soft: bool) -> Layer:
    """A layer with its hidden part as it was painted anew; all that the photo shows of it stays.

    Args:
        layer: that the photo shows.
        tile: (h, w, 4) uint8, the whole object.
        amodal: (H, W) bool, its whole mask on the photo, around which the tile is tight.
        soft: its outlines are soft.

    Example:
        >>> mask = np.ones((1, 2), bool)
        >>> layer = Layer(np.full((1, 2, 4), 9, np.uint8), mask, mask, origin=translation(1, 0))
        >>> whole = np.zeros((2, 4), bool)
        >>> whole[0, 1:] = True
        >>> repainted(layer, np.full((1, 3, 4), 255, np.uint8), whole, soft=False).rgba[0, :, 0]
        array([  9,   9, 255], dtype=uint8)
    """
    x, y, w, h = (int(value) for value in mask_boxes(amodal[None])[0])
    left, top = (place - corner for place, corner in zip(_corner(layer), (x, y), strict=True))
    # A new mask may be smaller than the old one: then the tile has lost what was painted, never what the photo shows.
    old = tuple(
        slice(max(0, -start), min(side, full - start))
        for start, side, full in ((top, layer.size[1], h), (left, layer.size[0], w))
    )
    inner = tuple(slice(part.start + start, part.stop + start) for part, start in zip(old, (top, left), strict=True))
    modal = np.zeros((h, w), bool)
    modal[inner] = layer.modal[old]
    whole = amodal[y : y + h, x : x + w]
    rgba = tile.copy()
    if soft:
        hidden = whole & ~modal
        rgba[hidden, 3] = soft_alpha(whole)[hidden]
    rgba[inner][layer.modal[old]] = layer.rgba[old][layer.modal[old]]
    same = (left, top, w, h) == (0, 0, *layer.size) and np.array_equal(whole, layer.amodal)
    home = translation(x, y)
    return replace(
        layer,
        rgba=rgba,
        modal=modal,
        amodal=whole,
        uncertainty=layer.uncertainty if same else None,
        transform=home if layer.motion is None else compose(layer.motion, home),
        origin=home,
        shadow=moved_shadow(layer, (left, top), (w, h)),
    )


def _corner(layer: Layer) -> tuple[int, int]:
    """Where the tile of a layer that the photo shows has its top left corner on the photo."""
    origin: FloatArray = layer.origin  # type: ignore[assignment]
    return round(float(origin[0, 2])), round(float(origin[1, 2]))
