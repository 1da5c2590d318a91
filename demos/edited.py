"""The end of `make demo`: the photo taken apart, changed, and put together again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from amodal_diffusion import ContentPipeline, Scene, ScenePipeline
from amodal_diffusion.images import save_image

REMOVED = "coffee"
"""What was hidden beneath shows: the inside of the cup."""
MOVED, OFFSET = "cup", (-60, -10)
"""To the left and up, in pixels; what the saucer and the spoon had hidden beneath shows."""
SHOWN = ("saucer", "cup", "spoon")
"""Those whose whole pictures are drawn."""

_SQUARE = 12  # of the checkerboard, in pixels


def load_scene_pipeline(folder: str | Path, content_model: str | Path | None) -> ScenePipeline:
    """The pipeline, with the content pipeline of `content_model` instead of its own where that is given.

    Raises:
        SystemExit: saying what is missing.
    """
    given: dict[str, Any] = {}
    try:
        if content_model is not None:
            given["content_pipeline"] = ContentPipeline.from_pretrained(content_model)
        pipe = ScenePipeline.from_pretrained(folder, **given)
    except OSError as error:
        raise SystemExit(
            f"make_demo: the edited scene cannot be made without its networks: {error}\n"
            "make_demo: `--content-model FOLDER` takes another folder of a content pipeline."
        ) from error
    pipe.set_progress_bar_config(disable=True)
    return pipe


def give_shape(pipe: ScenePipeline, scene: Scene, name: str, mask: np.ndarray) -> Scene:
    """With another whole mask (H, W) of an object, whose hidden part is painted anew."""
    return pipe.reshape(scene, scene.index(name), mask, keep_visible=True)


def edit(scene: Scene) -> Scene:
    """Without one object, with another moved."""
    scene = scene.remove(scene.index(REMOVED))
    return scene.move(scene.index(MOVED), *OFFSET)


def draw_objects(scene: Scene, names: Sequence[str] = SHOWN, columns: int = 1) -> Image.Image:
    """Objects alone, whole, in one scale, on a checkerboard, with their names."""
    width, height = (2 * side // columns for side in scene.size)
    shown = [scene.index(name) for name in names]
    tiles = [scene.layer_image(index, canvas=False) for index in shown]
    scale = 0.9 * min(min(width / tile.width, height / tile.height) for tile in tiles)
    rows = -(-len(tiles) // columns)
    sheet = _checkerboard(columns * width, rows * height)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=height / 16)
    for index, (tile, layer) in enumerate(zip(tiles, [scene.layers[index] for index in shown], strict=True)):
        left, top = index % columns * width, index // columns * height
        size = (max(1, round(tile.width * scale)), max(1, round(tile.height * scale)))
        large = tile.resize(size, Image.Resampling.BICUBIC)
        sheet.paste(large, (left + (width - size[0]) // 2, top + (height - size[1]) // 2), large)
        draw.text((left + height / 32, top + height / 40), layer.name, fill="#333333", font=font)
    return sheet


def write_scene(scene: Scene, folder: Path) -> list[Path]:
    """The scene as a picture, as an OpenRaster file and as a folder of PNG layers; gives what was written."""
    paths = [folder / name for name in ("scene.png", "scene.ora", "layers")]
    save_image(scene.render(), paths[0])
    for path in paths[1:]:
        scene.save(path)
    return paths


def _checkerboard(width: int, height: int) -> Image.Image:
    rows, columns = np.mgrid[:height, :width] // _SQUARE
    return Image.fromarray(np.where((rows + columns) % 2, 225, 250).astype(np.uint8)).convert("RGB")
