"""Objects in another pose, at the photo's own size: what the photo shows of them is as sharp as in the photo.

A layer in another pose is none that the photo shows, and says no more where its pixels come from. So the page notes
where its tile lies on the photo, under the digest of its pixels, which edits keep.
"""

import hashlib
from dataclasses import replace

import numpy as np
from PIL import Image

from amodal_diffusion import Layer, Scene
from amodal_diffusion.scene.layer import compose, invert, translation
from amodal_diffusion.scene.reshaping import moved_shadow
from page.work.edits import resized
from page.work.session import Pose, Session


def digest_of(layer: Layer) -> str:
    """Of the pixels of a layer."""
    pixels = np.ascontiguousarray(layer.rgba)
    return hashlib.blake2b(pixels.tobytes(), digest_size=16, key=str(pixels.shape).encode("ascii")).hexdigest()


def with_pose(session: Session, before: Layer, after: Layer) -> Session:
    """The session that knows where a layer lies that came of another by `Scene.reshape`."""
    home = _home_of(session, before)
    if home is None:
        return session
    x, y = np.rint(compose(invert(before.transform), after.transform)[:, 2]).tolist()
    pose = Pose(home.id, home.x + x, home.y + y)
    return replace(session, poses={**session.poses, digest_of(after): pose})


def on_canvas(session: Session, scene: Scene) -> dict[str, Pose]:
    """The poses of a session on the canvas of a scene, which may have room around the photo."""
    left, top = _margin(session, scene)
    return {digest: Pose(pose.id, pose.x + left, pose.y + top) for digest, pose in session.poses.items()}


def enlarged_pose(layer: Layer, old: Layer, new: Layer, pose: Pose, larger: np.ndarray) -> Layer | None:
    """A layer in another pose on a larger canvas.

    Args:
        layer: of the same object on the larger canvas, as the photo shows it.
        old: likewise on the smaller one.
        new: in another pose, on the smaller one.
        pose: of `new`, on the smaller canvas.
        larger: (2, 3), map of the smaller canvas to the larger one, without a turn.

    Returns:
        `new` with the pixels of `layer`, and enlarged ones where its pose has changed them; None where `layer` or
        `old` is nowhere in the photo.
    """
    if layer.origin is None or old.origin is None:
        return None
    small, home = np.array([pose.x, pose.y]), translation(pose.x, pose.y)
    corner = np.rint(compose(larger, home)[:, 2])
    width, height = np.maximum(1, np.rint(np.multiply(new.size, np.diag(larger)))).astype(int).tolist()
    was = _on_tile(old.rgba, old.origin[:, 2] - small, new.rgba.shape[:2])
    changed = resized_mask((new.rgba != was).any(axis=2), (width, height))
    rgba, modal, amodal = (
        _on_tile(getattr(layer, name), layer.origin[:, 2] - corner, (height, width))
        for name in ("rgba", "modal", "amodal")
    )
    painted = np.asarray(resized(Image.fromarray(np.asarray(new.rgba)), (width, height)))
    whole = np.where(changed, resized_mask(new.amodal, (width, height)), amodal)
    motion = compose(new.transform, invert(home))
    place = compose(compose(larger, compose(motion, invert(larger))), translation(*corner))
    start = np.rint(layer.origin[:, 2] - corner).astype(int).tolist()
    return replace(
        new,
        rgba=np.where(changed[..., None], painted, rgba),
        modal=modal & whole & ~changed,
        amodal=whole,
        uncertainty=None,
        transform=place,
        shadow=moved_shadow(layer, (start[0], start[1]), (width, height)),
    )


def resized_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w) bool at another size (width, height)."""
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(grey) > 127


def _home_of(session: Session, layer: Layer) -> Pose | None:
    """Where on the photo the tile of a layer lies, or that of the one that it is a copy of; None for no place."""
    scene = session.base
    if layer.origin is None and digest_of(layer) in session.poses:
        return session.poses[digest_of(layer)]
    if layer.origin is None and scene is not None:
        same = (other for other in scene.layers if np.array_equal(other.rgba, layer.rgba))
        layer = next(same, layer)
    if scene is None or layer.origin is None or not np.allclose(layer.origin[:, :2], np.eye(2)):
        return None
    x, y = (layer.origin[:, 2] - _margin(session, scene)).tolist()
    return Pose(layer.id, x, y)


def _margin(session: Session, scene: Scene) -> np.ndarray:
    """(left, top), room around the photo on the canvas of a scene."""
    return (np.array(scene.size) - session.size[::-1]) / 2


def _on_tile(pixels: np.ndarray, corner: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels of a tile, whose corner (x, y) is given on another one, on that one of `shape`; 0 beyond them."""
    x, y = np.rint(corner).astype(int).tolist()
    tile = np.zeros((*shape, *pixels.shape[2:]), pixels.dtype)
    top, left = max(0, y), max(0, x)
    bottom, right = min(shape[0], y + pixels.shape[0]), min(shape[1], x + pixels.shape[1])
    if top < bottom and left < right:
        tile[top:bottom, left:right] = pixels[top - y : bottom - y, left - x : right - x]
    return tile
