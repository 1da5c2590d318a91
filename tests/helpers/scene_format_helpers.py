"""Scenes for the tests of files: random, edited in every way, with orders that no plain stack can show."""

import dataclasses

import numpy as np

from amodal_diffusion.scene import Layer, Scene

HEIGHT, WIDTH = 36, 48
NAMES = ["", "cat", "naïve 猫 🐈", "a/b\\c: <&\"'>\t\x01", "cat", "x" * 300, " "]


def shift(x, y):
    return np.array([[1, 0, x], [0, 1, y]], np.float64)


def make_layer(rng, photo, identity, name, *, soft=False):
    height, width = rng.integers(5, 16, 2)
    x, y = rng.integers(0, WIDTH - width), rng.integers(0, HEIGHT - height)
    amodal = rng.random((height, width)) > 0.1
    modal = amodal & (rng.random((height, width)) > 0.3)
    rgba = rng.integers(0, 256, (height, width, 4)).astype(np.uint8)  # colours under alpha 0, too
    rgba[..., 3] = amodal * (rng.integers(1, 256, (height, width)) if soft else 255)
    rgba[modal, 3] = 255
    rgba[modal, :3] = photo[y : y + height, x : x + width][modal]
    uncertainty = rng.random((height, width), np.float32) if identity % 2 else None
    return Layer(rgba, modal, amodal, uncertainty, shift(x, y), name, identity, shift(x, y))


def with_shadow(scene, index, margin=3):
    """The scene, in which layer `index` throws a shadow."""
    layer = scene.layers[index]
    height, width = layer.modal.shape
    rows, columns = np.mgrid[: height + 2 * margin, : width + 2 * margin]
    layer = dataclasses.replace(layer, shadow=(3 * rows + 2 * columns + 1).astype(np.uint8))
    return dataclasses.replace(scene, layers=(*scene.layers[:index], layer, *scene.layers[index + 1 :]))


def make_scene(seed=0, count=4, *, photo=True):
    """A scene as a pipeline gives it, whose visible masks exclude each other."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    background = np.where(rng.random((HEIGHT, WIDTH, 1)) > 0.5, picture, rng.integers(0, 256, picture.shape))
    layers, seen = [], np.zeros((HEIGHT, WIDTH), bool)
    for index in range(count):
        layer = make_layer(rng, picture, 3 * index, NAMES[index % len(NAMES)], soft=index == 2)
        x, y = layer.transform[:, 2].astype(int)
        place = (slice(y, y + layer.modal.shape[0]), slice(x, x + layer.modal.shape[1]))
        layers.append(dataclasses.replace(layer, modal=layer.modal & ~seen[place]))
        seen[place] |= layer.modal
    upper = np.triu(rng.integers(-1, 2, (count, count)), 1)
    order = (upper - upper.T).astype(np.int8)
    return Scene(background.astype(np.uint8), tuple(layers), order, picture if photo else None, rim=2)


def edited_scenes(seed=0):
    """Scenes by the edit that they show."""
    scene = make_scene(seed)
    cycle = np.array([[0, 1, -1, 0], [-1, 0, 1, 0], [1, -1, 0, 0], [0, 0, 0, 0]], np.int8)
    box = np.zeros((HEIGHT, WIDTH), bool)
    box[5:20, 8:30] = True
    stamp = np.random.default_rng(seed).integers(0, 256, (6, 7, 4)).astype(np.uint8)
    return {
        "untouched": scene,
        "shadows": with_shadow(with_shadow(scene, 0), 1).move(0, 3, 2),
        "shadows turned": with_shadow(scene, 2).rotate(2, 20).bring_to_front(1),
        "without photo": make_scene(seed, photo=False),
        "no layers": make_scene(seed, count=0),
        "moved": scene.move(0, 3, -2).move(1, 4, 4),
        "rotated": scene.rotate(0, 30).scale(1, 1.7).flip(2),
        "fractional": scene.move(2, 0.37, 1 / 3).rotate(3, -12.5),
        "outside": scene.move(0, -500, 0).move(1, -6, -5).move(2, 0, HEIGHT - 3),
        "cycle": dataclasses.replace(scene, order=cycle, evidence=np.zeros((4, 4), bool)),
        "reordered": scene.bring_to_front(0).send_to_back(2).swap_order(1, 3),
        "removed": scene.remove(1),
        "reshaped": with_shadow(scene, 3).reshape(0, np.roll(scene.layer_mask(0), 4, 1)).reshape(3, box).move(3, 2, 1),
        "added": scene.duplicate(0, 5, 6).insert(stamp, 4, 5, name="stämp"),
        "states": scene.set_visible(0, False).set_opacity(1, 0.3).set_locked(2).move(3, 2, 2).set_opacity(3, 0.7),
        "faded shadow": with_shadow(with_shadow(scene, 0), 1).set_opacity(0, 0.5).set_visible(1, False).move(0, 3, 2),
        "many": make_scene(seed, count=9),
    }


CASES = list(edited_scenes())
