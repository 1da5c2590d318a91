"""How long ground truth from 3D takes a view, and how that grows with the faces and the number of objects.

    python benchmarks/rooms_speed.py
    python benchmarks/rooms_speed.py --scene room.obj --cameras poses.txt --convention opengl
    python benchmarks/rooms_speed.py --furniture furniture/ --cache furniture/cache

Seconds are those of the processor, so that other work does not count. The baseline traces every object over the whole
frame, as one does without its projected box; the ratio is its time over ours.
"""

import argparse
import time

import numpy as np
from common import environment, format_environment

from amodal_diffusion.data.rooms import (
    Camera,
    FurnitureLibrary,
    ObjectMesh,
    PlacedObject,
    RoomSettings,
    make_room,
    read_cameras,
    read_scene,
    trace_view,
)
from amodal_diffusion.data.rooms.view_rows import view_row
from amodal_diffusion.data.rooms.views import cast_object

WIDTH, HEIGHT = 640, 480
HEADER = f"{'objects':>8} {'faces each':>11} {'trees':>8} {'trace':>8} {'row':>8} {'baseline':>9} {'ratio':>6}"


def ball(rows):
    """A sphere of 2 · rows · rows triangles or so."""
    down, across = np.meshgrid(np.linspace(0, np.pi, rows + 1), np.linspace(0, 2 * np.pi, rows + 1), indexing="ij")
    points = np.stack([np.sin(down) * np.cos(across), np.sin(down) * np.sin(across), np.cos(down)], axis=-1)
    index = np.arange((rows + 1) ** 2).reshape(rows + 1, rows + 1)
    corners = [index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]]
    a, b, c, d = (corner.ravel() for corner in corners)
    faces = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    return ObjectMesh("ball", points.reshape(-1, 3), faces.astype(np.int32))


def scatter(mesh, count, random):
    objects = []
    for _ in range(count):
        to_world = np.diag([0.4, 0.4, 0.4, 1.0])
        to_world[:3, 3] = random.uniform((-2, -1.5, 4), (2, 1.5, 8))
        objects.append(PlacedObject(mesh, to_world))
    return objects


def trace_everywhere(objects, camera):
    """The baseline: all rays for all objects, then the nearest."""
    directions = camera.directions((0, 0, camera.width, camera.height)).reshape(-1, 3)
    depths = np.stack([cast_object(item, camera.position, directions).distance for item in objects])
    return depths.argmin(axis=0)


def seconds(function):
    start = time.process_time()
    function()
    return time.process_time() - start


def measure(objects, cameras):
    """Seconds to build trees of boxes, and a view, mean over the cameras: for tracing, the row, the baseline."""
    built = seconds(lambda: [item.mesh.tracer for item in objects])
    trace_view(objects, cameras[0])  # world coordinates are computed once
    times = []
    for camera in cameras:
        traced = seconds(lambda camera=camera: trace_view(objects, camera))
        view = trace_view(objects, camera)
        row = seconds(lambda view=view: view_row(objects, view, "0"))
        times.append((traced, row, seconds(lambda camera=camera: trace_everywhere(objects, camera))))
    return built, *np.mean(times, axis=0)


def show(count, faces, built, traced, row, baseline):
    ratio = baseline / (traced + row)
    print(f"{count:8d} {faces:11,d} {built:8.3f} {traced:8.3f} {row:8.3f} {baseline:9.3f} {ratio:6.1f}", flush=True)


def measure_rooms(options):
    """Rooms with and without photos, after models were read: views, seconds a view, views an hour."""
    library = FurnitureLibrary(options.furniture, cache=options.cache)
    kinds = {
        "masks alone, 256 px": RoomSettings(masks_only=True, views=4, size=256),
        "photos and hidden colours, 448 px": RoomSettings(views=2, size=448),
    }
    for name, settings in kinds.items():
        for number in range(options.rooms):
            make_room(library, settings, number)
        views = 0
        start = time.process_time()
        for number in range(options.rooms):
            views += len(make_room(library, settings, number))
        each = (time.process_time() - start) / views
        print(f"{name}: {views} views, {each:.3f} s a view, {3600 / each:,.0f} views an hour", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene")
    parser.add_argument("--cameras")
    parser.add_argument("--convention", default="opencv")
    parser.add_argument("--furniture", help="folder of furniture libraries: time rooms too")
    parser.add_argument("--cache", help="folder of models as arrays")
    parser.add_argument("--rooms", type=int, default=4)
    options = parser.parse_args()
    print(format_environment(environment()))
    print(f"{WIDTH}×{HEIGHT}, processor seconds a view")
    print(HEADER)
    camera = Camera(WIDTH, HEIGHT, 550.0, 550.0, WIDTH / 2, HEIGHT / 2, np.eye(4))
    for count, rows in ((5, 50), (20, 50), (80, 50), (20, 16), (20, 160), (20, 500)):
        mesh = ball(rows)
        show(count, len(mesh.faces), *measure(scatter(mesh, count, np.random.default_rng(0)), [camera] * 3))
    if options.scene:
        objects = read_scene(options.scene)
        cameras = read_cameras(
            options.cameras, size=(WIDTH, HEIGHT), intrinsics=(540, 540), convention=options.convention
        )[::25]
        faces = sum(len(item.mesh.faces) for item in objects)
        print(f"{options.scene}: {faces:,} faces in all, {len(cameras)} views")
        show(len(objects), faces // len(objects), *measure(objects, cameras))
    if options.furniture:
        measure_rooms(options)


if __name__ == "__main__":
    main()
