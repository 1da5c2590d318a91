"""Find what no stack of layers can show, in rendered rooms: two things that hide each other, and three in a ring.

    python demos/show_rings.py furniture/ --first 57 --rooms 12 --output datasets/rooms-amodal

Cameras are drawn at random in room after room; about one in 1,500 sees a ring, most of them at a table: its top hides a
chair pushed under it, that chair hides another seat, and that seat a part of the table. Writes rings.jpg, and
the rows of both scenes as rings.json.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from amodal_diffusion.data import record_order
from amodal_diffusion.data.rooms import FurnitureLibrary, find_cycles, furnish, trace_view, view_row
from amodal_diffusion.data.rooms.furnishing import build_shell, candidate_camera, draw_lights, facing_shell
from amodal_diffusion.data.rooms.rendering import Lighting, render_view

PREVIEW, SIZE = 96, 480
COLORS = np.array([[235, 70, 60], [70, 190, 90], [70, 130, 240]])
SEED = 99


def objects_of(layout):
    return [place.placed for place in layout.placements]


def is_seen(view, share=0.1):
    """(N, N) bool: pairs of which both are seen well enough to be looked at."""
    modal, amodal = view.areas()
    seen = (modal >= 8) & (modal > share * amodal)
    return np.outer(seen, seen)


def is_cut(view, group):
    """How many of the objects the frame cuts off."""
    masks = view.amodal_masks()[list(group)]
    sides = masks[:, 0].any(1) | masks[:, -1].any(1) | masks[:, :, 0].any(1) | masks[:, :, -1].any(1)
    return int(sides.sum())


def search(library, rooms, views):
    """The clearest ring and the clearest pair, each as (pixels, room, camera, objects)."""
    best = {}
    for number in rooms:
        random = np.random.default_rng([SEED, number])
        layout = furnish(library, library.items, random)
        if len(layout.placements) < 6:
            continue
        for _ in range(views):
            camera = candidate_camera(layout, random, (PREVIEW, PREVIEW))
            if camera is None:
                continue
            view = trace_view(objects_of(layout), camera)
            front = view.front_pixels() * is_seen(view)
            found = find_cycles(front)
            for kind, groups in (("ring", found.cycles), ("pair", found.mutual)):
                for group in groups:
                    pixels = min(front[group[i], group[(i + 1) % len(group)]] for i in range(len(group)))
                    if is_cut(view, group) > (kind == "ring"):  # rather one that is in the photo as a whole
                        pixels //= 10
                    if pixels > best.get(kind, (1,))[0]:
                        best[kind] = pixels, number, camera, group
                        print(kind, number, pixels, [layout.placements[index].item.name for index in group])
    return best


def render(library, kind, number, camera):
    """The room in full: its photo, its view and its row."""
    layout = furnish(library, library.items, np.random.default_rng([SEED, number]))
    random = np.random.default_rng([SEED, number, 1])
    shell, lights = build_shell(layout, random), draw_lights(layout, random)
    camera = camera.resized(SIZE, SIZE)
    objects = objects_of(layout) + facing_shell(shell, camera)
    view = trace_view(objects, camera)
    made = render_view(objects, view, Lighting(tuple(lights), np.full(3, 0.25)), random, with_colors=False)
    name = f"{kind}-{number:06d}"
    row, kept = view_row(objects, view, name)
    return made.photo, view, row, kept


def draw_objects(photo, view, group):
    """The photo paled, the objects in colours, what is hidden of them in stripes."""
    picture = photo * 0.4 + 90
    modal, amodal = view.modal_masks(), view.amodal_masks()
    rows, columns = np.indices(view.owner.shape)
    stripes = (rows + columns) // 3 % 2 == 0
    for index, color in zip(group, COLORS, strict=False):
        picture[modal[index]] = 0.35 * photo[modal[index]] + 0.65 * color
    for index, color in zip(group, COLORS, strict=False):
        picture[amodal[index] & ~modal[index] & stripes] = color
    return np.clip(picture, 0, 255).astype(np.uint8)


def draw_matrices(names, front, order):
    """Both matrices as a picture."""
    sheet = Image.new("RGB", (SIZE, SIZE), "white")
    brush, font = ImageDraw.Draw(sheet), ImageFont.load_default(19)
    for title, matrix, top in (("pixels in front", front, 24), ("order", order, 250)):
        brush.text((16, top), title, "black", ImageFont.load_default(22))
        for place, name in enumerate(names):
            color = tuple(int(value) for value in COLORS[place] * 0.8)
            brush.text((16, top + 66 + 36 * place), name, color, font)
            brush.text((200 + 92 * place, top + 32), name[:9], color, font)
            for column in range(len(names)):
                text = "" if column == place else f"{matrix[place, column]}"
                brush.text((206 + 92 * column, top + 66 + 36 * place), text, "black", font)
    return sheet


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("furniture", type=Path, help="folder of furniture libraries (training/get_furniture.sh)")
    parser.add_argument("--libraries", nargs="+", default=["BlendSwap-CC-0"])
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--first", type=int, default=0, help="number of the first room")
    parser.add_argument("--rooms", type=int, default=100)
    parser.add_argument("--views", type=int, default=40, help="cameras a room")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    library = FurnitureLibrary(options.furniture, options.libraries, cache=options.cache)
    best = search(library, range(options.first, options.first + options.rooms), options.views)
    rows, lines = [], []
    for kind in sorted(best):
        _, number, camera, group = best[kind]
        photo, view, row, kept = render(library, kind, number, camera)
        rows.append(row)
        places = [kept.index(index) for index in group]
        names = [row["objects"][place]["name"] for place in places]
        front, order = view.front_pixels()[np.ix_(group, group)], record_order(row)[np.ix_(places, places)]
        print(row["image_id"], names, front.tolist(), order.tolist())
        pictures = photo, draw_objects(photo, view, group), np.asarray(draw_matrices(names, front, order))
        lines.append(np.concatenate(pictures, axis=1))
    if not rows:
        raise SystemExit("no such scene found; try more --rooms")
    Image.fromarray(np.concatenate(lines)).save(options.output / "rings.jpg", quality=88)
    text = json.dumps(rows, default=lambda value: value.decode("ascii"))  # the counts of masks are bytes
    (options.output / "rings.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
