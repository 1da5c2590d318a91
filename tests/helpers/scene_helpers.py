"""Small scenes for the tests of scenes, and a renderer that goes pixel by pixel."""

import numpy as np
import torch

from amodal_diffusion import ContentPipeline, Layer, PCNetContent, Scene
from amodal_diffusion.masks import dilate, mask_boxes


def shift(x, y):
    return np.array([[1, 0, x], [0, 1, y]], np.float64)


def tile(colour, height=4, width=4, alpha=255):
    """A tile of one colour."""
    return np.broadcast_to(np.array([*colour, alpha], np.uint8), (height, width, 4)).copy()


def make_layer(colour, x=0, y=0, index=0, *, size=(4, 4), alpha=255, home=False, modal=None):
    """An opaque square; with `home` the photo shows it there."""
    height, width = size
    mask = np.ones((height, width), bool)
    return Layer(
        tile(colour, height, width, alpha),
        mask if modal is None else modal,
        mask,
        transform=shift(x, y),
        name=f"layer {index}",
        id=index,
        origin=shift(x, y) if home else None,
    )


def scene_of_objects(modal, amodal, order=None, *, rim=1, seed=0):
    """A scene as a pipeline makes it from (N, H, W) masks: random photo, background and hidden colours."""
    rng = np.random.default_rng(seed)
    height, width = modal.shape[1:]
    photo, background = rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    hole = dilate(modal.any(axis=0), kernel="square", size=2 * rim + 1) if rim else modal.any(axis=0)
    background[~hole] = photo[~hole]
    layers = []
    for index, (x, y, w, h) in enumerate(mask_boxes(amodal | modal).tolist()):
        part = (slice(y, y + max(h, 1)), slice(x, x + max(w, 1)))
        seen, whole = modal[(index, *part)], (amodal | modal)[(index, *part)]
        rgba = np.zeros((*whole.shape, 4), np.uint8)
        rgba[..., :3] = np.where(seen[..., None], photo[part], rng.integers(0, 256, (*whole.shape, 3)))
        rgba[~whole] = 0
        rgba[..., 3] = 255 * whole
        place = shift(x, y)
        layers.append(Layer(rgba, seen, whole, transform=place, name=f"object {index}", id=index, origin=place))
    return Scene(background, tuple(layers), order, photo, rim=rim)


def random_scene(seed, count=4, height=18, width=22):
    """Overlapping blobs with visible masks that share no pixel, mutual occlusion and a random order with cycles."""
    rng = np.random.default_rng(seed)
    amodal = np.zeros((count, height, width), bool)
    for mask in amodal:
        w, h = rng.integers(5, 12, 2)
        x, y = rng.integers(0, width - 4), rng.integers(0, height - 4)
        mask[y : y + h, x : x + w] = rng.random(mask[y : y + h, x : x + w].shape) < 0.9
    owner = rng.random(amodal.shape).reshape(count, height // 6, 6, -1).max(axis=(2, 3))  # of rows of pixels
    owner = np.repeat(owner, 6, axis=1)[:, :, None] * amodal
    modal = amodal & (owner == owner.max(axis=0)) & (rng.random((height, width)) < 0.95)  # some belong to no object
    upper = np.triu(rng.integers(-1, 2, (count, count)), k=1)
    return scene_of_objects(modal, amodal, (upper - upper.T).astype(np.int8), seed=seed)


def _at(layer, transform, name, x, y):
    """A value of a layer's field at a pixel of the canvas, for shifts by whole pixels; None outside of the tile."""
    column, row = x - int(transform[0, 2]), y - int(transform[1, 2])
    values = getattr(layer, name)
    if 0 <= row < values.shape[0] and 0 <= column < values.shape[1]:
        return values[row, column]
    return None


def _near(layer, transform, x, y, rim):
    """A visible pixel of the layer lies within `rim` pixels, diagonals included."""
    around = range(-rim, rim + 1)
    return any(_at(layer, transform, "modal", x + dx, y + dy) for dx in around for dy in around)


def render_slowly(scene):
    """What `Scene.render` documents, pixel by pixel; for layers that are shifted by whole pixels."""
    width, height = scene.size
    out = np.zeros((height, width, 3), np.uint8)
    for y in range(height):
        for x in range(width):
            out[y, x] = _render_pixel(scene, x, y)
    return out


def _render_pixel(scene, x, y):
    layers, stack = scene.layers, scene.stacking()
    home = [layer.origin is not None and np.array_equal(layer.origin, layer.transform) for layer in layers]
    changed = [
        not (at_home and layer.visible and layer.opacity == 1) for at_home, layer in zip(home, layers, strict=True)
    ]
    left = [i for i, layer in enumerate(layers) if layer.origin is not None and changed[i]]
    replaced = scene.replaced[y, x] or any(_near(layers[i], layers[i].origin, x, y, scene.rim) for i in left)
    base = scene.background[y, x] if scene.photo is None or replaced else scene.photo[y, x]
    seen = [bool(_at(layer, layer.transform, "modal", x, y)) for layer in layers]

    def in_front(i, j):
        if scene.order[i, j]:
            return scene.order[i, j] == 1
        return stack.index(i) > stack.index(j)

    def first(i, j):
        if scene.evidence[i, j] and seen[i] != seen[j]:
            a, b = (layers[k].transform - layers[k].origin for k in (i, j))
            if np.array_equal(a, b):
                return seen[i]
        return in_front(i, j)

    photo_is_in_front = scene.photo is not None and not replaced and not any(np.array(seen) & home)
    cover = []
    for i, layer in enumerate(layers):
        rgba = _at(layer, layer.transform, "rgba", x, y)
        if rgba is None or not rgba[3] * layer.opacity or not layer.visible:
            continue
        if home[i] and photo_is_in_front:
            taken = [j for j in range(len(layers)) if j != i and home[j] and layers[j].visible and in_front(i, j)]
            taken = [j for j in taken if not scene.evidence[i, j]]
            if not any(_near(layers[j], layers[j].transform, x, y, scene.rim) for j in taken):
                continue
        cover.append((i, rgba * np.array([1, 1, 1, layer.opacity])))
    indices = [i for i, _ in cover]
    ranks = {i: sum(first(j, i) for j in indices if j != i) for i in indices}
    colour, light = np.zeros(3), 1.0
    for _, rgba in sorted(cover, key=lambda item: (ranks[item[0]], -stack.index(item[0]))):
        colour += light * rgba[3] / 255 * rgba[:3]
        light *= 1 - rgba[3] / 255
    return np.rint(colour + light * base).clip(0, 255).astype(np.uint8)


def tiny_content(**settings):
    torch.manual_seed(0)
    network = PCNetContent(block_out_channels=(8, 8, 8), sample_size=32).eval()
    return ContentPipeline(network, background_size=32, **settings)


def photo_like(masks, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*masks.shape[1:], 3), dtype=np.uint8)


def pixels(scene):
    return scene.render(output_type="np")
