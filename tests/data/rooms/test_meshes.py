"""What makes a mesh bad, and what is repaired."""

import numpy as np
import pytest

from amodal_diffusion.data.rooms import Material, MeshError, ObjectMesh
from amodal_diffusion.data.rooms.meshes import check_mesh, check_transform, is_stuff_name, repainted
from room_helpers import box

CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.0]])
FACE = np.array([[0, 1, 2]])


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (CORNERS, np.zeros((0, 3), dtype=int), "'cup': expected at least one face, got none"),
        (CORNERS, np.array([[0, 1, 5]]), "'cup': face indices must be from 0 to 2, got 0 to 5"),
        (CORNERS * np.nan, FACE, "'cup': vertices must be finite, got NaN or infinity in 1 faces"),
        (CORNERS * 1e9, FACE, r"'cup': must lie within 100000 metres, got 1e\+09"),
        (CORNERS * 0, FACE, "'cup': expected faces with an area, got 1 without"),
    ],
)
def test_bad_meshes_are_named(vertices, faces, message):
    with pytest.raises(MeshError, match=message):
        check_mesh(ObjectMesh("cup", vertices, faces))


def test_faces_without_area_and_unused_vertices_go():
    vertices = np.concatenate([CORNERS, [[np.nan] * 3]])
    mesh = check_mesh(ObjectMesh("cup", vertices, np.array([[0, 0, 1], [0, 1, 2]]), face_materials=np.array([4, 7])))
    assert mesh.faces.tolist() == [[0, 1, 2]]
    assert mesh.face_materials.tolist() == [7]
    assert len(mesh.vertices) == 3


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(3), r"'cup': transform must be a 3×4 or 4×4 matrix, got shape \(3, 3\)"),
        (np.full((4, 4), np.nan), "'cup': transform must be finite"),
        (np.diag([1.0, 1, 0, 1]), "'cup': transform must be invertible"),
    ],
)
def test_bad_transforms_are_named(matrix, message):
    with pytest.raises(MeshError, match=message):
        check_transform("cup", matrix)


def test_a_small_scale_is_no_degenerate_transform():
    assert check_transform("cup", np.diag([1e-3, 1e-3, 1e-3, 1.0])).shape == (4, 4)


def test_paint_shares_what_rays_need():
    mesh = box()
    painted = repainted(mesh, [Material((1, 0, 0))])
    assert painted.tracer is mesh.tracer
    assert painted.materials[0].color == (1, 0, 0)
    with pytest.raises(ValueError, match="materials must be 1, got 0"):
        repainted(mesh, [])


@pytest.mark.parametrize(("name", "stuff"), [("Floor.001", True), ("flooring lamp", False), ("dining room wall", True)])
def test_names_of_stuff(name, stuff):
    assert is_stuff_name(name) is stuff
