"""Small scenes: tiles that face the camera, a box, woven bars."""

import numpy as np

from amodal_diffusion.data.rooms import Camera, ObjectMesh, PlacedObject

QUAD = np.array([[0, 1, 2], [0, 2, 3]])


def tile(name, x0, y0, x1, y1, depth, **fields):
    """A rectangle that faces a camera which looks along +z; the depth may be one for each corner."""
    corners = np.array([[x0, y0, 0], [x1, y0, 0], [x1, y1, 0], [x0, y1, 0]], dtype=float)
    corners[:, 2] = depth
    return PlacedObject(ObjectMesh(name, corners, QUAD, label=name, **fields))


def camera(size=64, focal=64.0):
    return Camera(size, size, focal, focal, size / 2, size / 2, np.eye(4))


def box(name="box", half=0.5, center=(0, 0, 0), **fields):
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
    faces = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6],
             [0, 6, 4], [1, 5, 7], [1, 7, 3]]  # fmt: skip
    return ObjectMesh(name, signs * half + center, np.array(faces), label=name, **fields)
