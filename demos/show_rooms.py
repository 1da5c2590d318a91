"""Pictures of a data set with hidden colours: each photo, what is hidden in it, and its most hidden object whole.

python demos/show_rooms.py datasets/rooms-amodal --split test --count 10 --output datasets/rooms-amodal/pictures.jpg
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from amodal_diffusion.data import load_amodal_dataset, record_masks
from amodal_diffusion.data.rooms import find_cycles, read_colors, record_occlusions
from amodal_diffusion.images import save_image

SIDE = 320
COLORS = np.array(
    [[230, 60, 60], [60, 140, 230], [250, 180, 40], [60, 190, 110], [170, 80, 210], [40, 200, 210], [240, 120, 180]]
)


def outline(mask):
    """(H, W) bool: pixels of a mask beside others."""
    inner = mask.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            inner &= np.roll(mask, step, axis)
    return mask & ~inner


def draw_hidden(photo, modal, amodal):
    """The photo with whole outlines, hidden parts in the colour of their object."""
    picture = photo.astype(float) * 0.75
    hidden = amodal & ~modal
    for index in np.argsort(-hidden.sum(axis=(1, 2))):
        if hidden[index].sum() < 30:
            continue
        color = COLORS[index % len(COLORS)]
        picture[hidden[index]] = 0.5 * picture[hidden[index]] + 0.5 * color
        picture[outline(amodal[index])] = color
    return picture.astype(np.uint8)


def draw_whole(photo, modal, amodal, colors):
    """The photo, paled, with the object of which most is hidden in its whole colours."""
    picture = photo.astype(float) * 0.35 + 150
    hidden = {index: (amodal[index] & ~modal[index]).sum() for index in colors.objects}
    for index in sorted(hidden, key=hidden.get)[-2:]:
        whole = colors.paint(index, *modal.shape[1:])
        picture[amodal[index]] = whole[amodal[index], :3]
        picture[outline(amodal[index])] = COLORS[index % len(COLORS)]
    return picture.astype(np.uint8)


def fitted(picture):
    tile = Image.new("RGB", (SIDE, SIDE), "white")
    shown = Image.fromarray(picture)
    shown.thumbnail((SIDE, SIDE))
    tile.paste(shown, ((SIDE - shown.width) // 2, (SIDE - shown.height) // 2))
    return tile


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    rows = load_amodal_dataset(options.folder, options.split)
    plain = rows.remove_columns("image")
    hidden = [sum(item["occlusion_rate"] > 0.1 for item in row["objects"]) for row in plain]
    shown = sorted(np.argsort(hidden, kind="stable")[::-1][: options.count].tolist())  # those that hide most objects
    sheet = Image.new("RGB", (6 * SIDE, -(-len(shown) // 2) * SIDE), "white")
    for place, number in enumerate(shown):
        row = rows[number]
        photo = np.asarray(row["image"])
        modal, amodal = record_masks(row)
        colors = read_colors(options.folder, options.split, row["image_id"])
        pictures = photo, draw_hidden(photo, modal, amodal), draw_whole(photo, modal, amodal, colors)
        for column, picture in enumerate(pictures):
            sheet.paste(fitted(picture), ((place % 2 * 3 + column) * SIDE, place // 2 * SIDE))
    save_image(sheet, options.output, quality=85)
    for row in plain:
        found = find_cycles(record_occlusions(row).astype(int))
        names = [obj["name"] for obj in row["objects"]]
        for cycle in found.cycles:
            print(row["image_id"], "cycle:", " > ".join(f"{names[index]} [{index}]" for index in cycle))
        for one, other in found.mutual:
            print(row["image_id"], "mutual:", f"{names[one]} [{one}] and {names[other]} [{other}]")


if __name__ == "__main__":
    main()
