"""How long ground truth from 3D takes a view, and how that grows with the faces and the number of objects.

python benchmarks/rooms_speed.py
python benchmarks/rooms_speed.py --scene room.obj --cameras poses.txt --convention opengl
"""

import argparse
import time

import numpy as np

from amodal_diffusion.data.rooms import Camera, ObjectMesh, PlacedObject, read_cameras, read_scene, trace_view
from amodal_diffusion.data.rooms.view_rows import view_row

WIDTH, HEIGHT = 640, 480


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


def measure(objects, cameras):
    """Seconds to build trees of boxes, and seconds a view for tracing and for the row."""
    start = time.perf_counter()
    for item in objects:
        _ = item.mesh.tracer
    built = time.perf_counter() - start
    traced, rows = [], []
    for camera in cameras:
        start = time.perf_counter()
        view = trace_view(objects, camera)
        middle = time.perf_counter()
        view_row(objects, view, "0")
        traced.append(middle - start)
        rows.append(time.perf_counter() - middle)
    return built, np.median(traced), np.median(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene")
    parser.add_argument("--cameras")
    parser.add_argument("--convention", default="opencv")
    options = parser.parse_args()
    print(f"{WIDTH}×{HEIGHT}, median of views; seconds")
    print(f"{'objects':>8} {'faces each':>11} {'trees':>8} {'trace':>8} {'row':>8}")
    camera = Camera(WIDTH, HEIGHT, 550.0, 550.0, WIDTH / 2, HEIGHT / 2, np.eye(4))
    for count, rows in ((5, 50), (20, 50), (80, 50), (20, 16), (20, 160), (20, 500)):
        mesh = ball(rows)
        built, traced, row = measure(scatter(mesh, count, np.random.default_rng(0)), [camera] * 5)
        print(f"{count:8d} {len(mesh.faces):11,d} {built:8.3f} {traced:8.3f} {row:8.3f}")
    if options.scene:
        objects = read_scene(options.scene)
        cameras = read_cameras(
            options.cameras, size=(WIDTH, HEIGHT), intrinsics=(540, 540), convention=options.convention
        )[::25]
        built, traced, row = measure(objects, cameras)
        faces = sum(len(item.mesh.faces) for item in objects)
        print(f"{options.scene}: {len(objects)} objects, {faces:,} faces, {len(cameras)} views")
        print(f"{'':20} {built:8.3f} {traced:8.3f} {row:8.3f}")


if __name__ == "__main__":
    main()
