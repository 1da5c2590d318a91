"""Scenes of every form, from small files that are made as the data sets make theirs."""

import json
import struct

import numpy as np
import pytest

from amodal_diffusion.data import AnnotationError
from amodal_diffusion.data.rooms import MeshError, read_obj, read_scene
from amodal_diffusion.data.rooms.scans.ply import read_ply, triangle_ids
from room_helpers import QUAD, box

OBJ = """\
mtllib look.mtl
o table
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl red
f 1/1 2/2 3/3 4/4
o floor
v 0 0 1
v 1 0 1
v 1 1 1
usemtl missing
f -3 -2 -1
"""
MTL = "newmtl red\nKd 1 0 0\nd 0.5\nmap_Kd -s 1 1 1 wood.png\n"


def square(shift):
    return np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=float) + (shift, 0, 0)


def write_ply(path, vertices, faces, face_values=None, vertex_values=None, *, kind="ascii", sizes=None):
    """A PLY file with the properties of faces after their indices, as data sets have them."""
    face_values, vertex_values = face_values or {}, vertex_values or {}
    header = ["ply", f"format {kind} 1.0", "comment made by hand", f"element vertex {len(vertices)}"]
    header += [f"property float {axis}" for axis in "xyz"] + [f"property uchar {name}" for name in vertex_values]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    header += [f"property int {name}" for name in face_values] + ["end_header"]
    content = ("\n".join(header) + "\n").encode()
    order = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}[kind]
    for index, point in enumerate(vertices):
        extra = [int(values[index]) for values in vertex_values.values()]
        if order:
            content += struct.pack(f"{order}3f{len(extra)}B", *point, *extra)
        else:
            content += (" ".join(str(value) for value in (*point, *extra)) + "\n").encode()
    for index, face in enumerate(faces):
        extra = [int(values[index]) for values in face_values.values()]
        if order:
            content += struct.pack(f"{order}B{len(face)}i{len(extra)}i", len(face), *face, *extra)
        else:
            content += (" ".join(str(value) for value in (len(face), *face, *extra)) + "\n").encode()
    path.write_bytes(content)


def test_obj_groups_materials_and_missing_files(tmp_path, caplog):
    (tmp_path / "room.obj").write_text(OBJ)
    (tmp_path / "look.mtl").write_text(MTL)
    table, floor = read_obj(tmp_path / "room.obj")
    assert (table.name, floor.name) == ("table", "floor")
    assert (table.is_stuff, floor.is_stuff) == (False, True)
    assert len(table.faces) == 2
    assert table.materials[0].color == (1, 0, 0)
    assert table.materials[0].opacity == 0.5
    assert floor.materials[0].color == (0.7, 0.7, 0.7)
    assert table.corner_uvs[0].tolist() == [[0, 0], [1, 0], [1, 1]]
    assert "no texture 'wood.png'" in caplog.text


def test_obj_without_objects_is_split_by_groups(tmp_path):
    lines = "v 0 0 0\nv 1 0 0\nv 0 1 0\ng cup\nf 1 2 3\nf 1 2\ng plate\nf 3 2 1\n"
    (tmp_path / "a.obj").write_text(lines)
    assert [(mesh.name, len(mesh.faces)) for mesh in read_obj(tmp_path / "a.obj")] == [("cup", 1), ("plate", 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v 0 0", "a.obj: line 1: a vertex has 3 coordinates"),
        ("v 0 0 x", "a.obj: line 1: could not convert"),
        ("v 0 0 0\nf 1 2 3", "line 2: face corner '2' names vertex 2 of 1"),
        ("v 0 0 0\nf 1 1 0", "line 2: face corner '0' names vertex 0 of 1"),
    ],
)
def test_bad_obj(tmp_path, text, message):
    (tmp_path / "a.obj").write_text(text)
    with pytest.raises(MeshError, match=message):
        read_obj(tmp_path / "a.obj")


def test_bad_objects_are_raised_or_skipped(tmp_path):
    (tmp_path / "a.obj").write_text("o bad\nv nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\no good\nv 0 0 0\nf 4 2 3\n")
    with pytest.raises(AnnotationError, match="object 'bad': object 'bad': vertices must be finite"):
        read_scene(tmp_path / "a.obj")
    bad = []
    objects = read_scene(tmp_path / "a.obj", on_error="skip", bad_records=bad, stuff=["good"], scale=2.0)
    assert [item.mesh.name for item in objects] == ["good"]
    assert objects[0].mesh.is_stuff
    assert objects[0].bounds[1].tolist() == [2, 2, 0]
    assert len(bad) == 1


def test_nothing_that_can_be_used(tmp_path):
    (tmp_path / "a.obj").write_text("o empty\nv 0 0 0\n")
    with pytest.raises(MeshError, match="expected at least one object"):
        read_scene(tmp_path / "a.obj")


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("none.obj", {}, FileNotFoundError, "no such file or folder"),
        ("a.stl", {}, MeshError, "scene must be one of"),
        (".", {}, MeshError, "expected a scene of Matterport3D, Replica or ScanNet"),
        ("a.stl", {"format": "usd"}, ValueError, "format must be 'auto' or one of"),
        ("a.stl", {"scale": 0}, ValueError, "scale must be positive, got 0"),
    ],
)
def test_wrong_scenes(tmp_path, name, options, error, message):
    (tmp_path / "a.stl").write_text("")
    with pytest.raises(error, match=message):
        read_scene(tmp_path / name, **options)


def test_gltf_nodes_stand_where_they_are_placed(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    scene = trimesh.Scene()
    mesh = trimesh.Trimesh(**{"vertices": box().vertices, "faces": box().faces}, process=False)
    for index in range(2):
        scene.add_geometry(
            mesh,
            node_name=f"chair {index}",
            geom_name="chair",
            transform=np.diag([1.0, 1, 1, 1]) + np.eye(4)[[0]].T @ np.array([[0, 0, 0, 3.0 * index]]),
        )
    scene.export(tmp_path / "a.glb")
    objects = read_scene(tmp_path / "a.glb")
    assert sorted(item.mesh.name for item in objects) == ["chair 0", "chair 1"]
    assert sorted(float(item.bounds[0][0]) for item in objects) == [-0.5, 2.5]


@pytest.mark.parametrize("content", [b"", b"glTF\x02\x00\x00\x00", b"{}"])
def test_broken_gltf(tmp_path, content):
    pytest.importorskip("trimesh")
    (tmp_path / "a.glb").write_bytes(content)
    with pytest.raises(MeshError, match=r"a.glb"):
        read_scene(tmp_path / "a.glb")


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_with_ids_of_faces(tmp_path, kind):
    vertices = np.concatenate([square(0), square(2)])
    write_ply(tmp_path / "a.ply", vertices, [[0, 1, 2, 3], [4, 5, 6, 7]], {"object_id": [3, 9]}, kind=kind)
    objects = read_scene(tmp_path / "a.ply")
    assert [item.mesh.name for item in objects] == ["a 3", "a 9"]
    assert [len(item.mesh.faces) for item in objects] == [2, 2]
    assert objects[1].bounds[0].tolist() == [2, 0, 0]


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian"])
def test_ply_with_faces_of_different_sizes(tmp_path, kind):
    write_ply(tmp_path / "a.ply", square(0), [[0, 1, 2], [0, 1, 2, 3]], {"object_id": [1, 2]}, kind=kind)
    mesh = read_ply(tmp_path / "a.ply")
    assert mesh.triangles.tolist() == [[0, 1, 2], [0, 1, 2], [0, 2, 3]]
    assert triangle_ids(mesh).tolist() == [1, 2, 2]


def test_ply_with_ids_of_vertices(tmp_path):
    write_ply(tmp_path / "a.ply", square(0), QUAD.tolist(), vertex_values={"instance": [5, 5, 6, 6]})
    assert triangle_ids(read_ply(tmp_path / "a.ply")).tolist() == [5, 6]


def test_ply_without_ids_is_one_object(tmp_path):
    colors = {name: [10, 20, 30, 40] for name in ("red", "green", "blue")}
    write_ply(tmp_path / "a.ply", square(0), QUAD.tolist(), vertex_values=colors)
    (item,) = read_scene(tmp_path / "a.ply")
    assert item.mesh.vertex_colors[1].tolist() == [20, 20, 20]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"obj", "expected a PLY file"),
        (b"ply\nformat ascii 1.0\n", "expected 'end_header'"),
        (b"ply\nend_header\n", "expected a format and an element 'vertex'"),
        (
            b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nend_header\n1",
            "a.ply",
        ),
    ],
)
def test_broken_ply(tmp_path, content, message):
    (tmp_path / "a.ply").write_bytes(content)
    with pytest.raises(MeshError, match=message):
        read_ply(tmp_path / "a.ply")


def test_ply_indices_beyond_its_vertices(tmp_path):
    write_ply(tmp_path / "a.ply", square(0), [[0, 1, 9]])
    with pytest.raises(MeshError, match="face indices must be from 0 to 3, got up to 9"):
        read_ply(tmp_path / "a.ply")


HOUSE = """\
ASCII 1.0
H house - 0 0 0 0 3 2 2 0 0 0 0 0 0 0 0 0 0 0 1 1 1 0 0 0 0 0
C 0 3 chair 5 chair 0 0 0 0 0
C 1 7 wall 1 wall 0 0 0 0 0
C 2 9 coffee#table 11 table 0 0 0 0 0
O 0 0 0 0 0 0 1 0 0 0 1 0 1 1 1 0 0 0 0 0 0 0 0
O 1 0 1 0 0 0 1 0 0 0 1 0 1 1 1 0 0 0 0 0 0 0 0
O 2 0 2 0 0 0 1 0 0 0 1 0 1 1 1 0 0 0 0 0 0 0 0
E 0 0 10 1 0 0 0 0 0 0 1 1 1 0 0 0 0 0
E 1 1 11 1 0 0 0 0 0 0 1 1 1 0 0 0 0 0
E 2 2 12 1 0 0 0 0 0 0 1 1 1 0 0 0 0 0
"""


def test_matterport(tmp_path):
    (tmp_path / "h1.house").write_text(HOUSE)
    vertices = np.concatenate([square(2 * index) for index in range(4)])
    faces = [row for index in range(4) for row in (QUAD + 4 * index).tolist()]
    values = {
        "material_id": np.repeat([10, 11, 12, 99], 2),
        "segment_id": np.repeat([0, 1, 2, -1], 2),
        "category_id": np.repeat([3, 7, 9, 0], 2),
    }
    write_ply(tmp_path / "h1.ply", vertices, faces, values, kind="binary_little_endian")
    objects = [item.mesh for item in read_scene(tmp_path)]
    assert [(mesh.label, mesh.category, mesh.category_id, mesh.is_stuff) for mesh in objects] == [
        ("chair", "chair", 5, False),
        ("wall", "wall", 1, True),
        ("coffee table", "table", 11, False),
        ("unlabelled", None, None, True),
    ]
    assert [len(mesh.faces) for mesh in objects] == [2, 2, 2, 2]


def test_replica(tmp_path):
    vertices = np.concatenate([square(0), square(2), square(4)])
    write_ply(
        tmp_path / "mesh_semantic.ply",
        vertices,
        [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]],
        {"object_id": [1, 2, 0]},
        kind="binary_little_endian",
    )
    entries = [{"id": 1, "class_id": 20, "class_name": "chair"}, {"id": 2, "class_id": 40, "class_name": "floor"}]
    (tmp_path / "info_semantic.json").write_text(json.dumps({"objects": entries}))
    objects = [item.mesh for item in read_scene(tmp_path)]
    assert [(mesh.label, mesh.category_id, mesh.is_stuff) for mesh in objects] == [
        ("chair", 20, False),
        ("floor", 40, True),
        ("unlabelled", None, True),
    ]


def scannet(tmp_path, segments):
    vertices = np.concatenate([square(0), square(2)])
    write_ply(
        tmp_path / "s_vh_clean_2.ply", vertices, [*QUAD.tolist(), *(QUAD + 4).tolist()], kind="binary_little_endian"
    )
    (tmp_path / "s_vh_clean_2.0.010000.segs.json").write_text(json.dumps({"segIndices": segments}))
    groups = [{"objectId": 0, "label": "chair", "segments": [7]}, {"objectId": 1, "label": "wall", "segments": [8]}]
    (tmp_path / "s.aggregation.json").write_text(json.dumps({"segGroups": groups}))


def test_scannet(tmp_path):
    scannet(tmp_path, [7, 7, 7, 7, 8, 8, 8, 8])
    objects = [item.mesh for item in read_scene(tmp_path)]
    assert [(mesh.label, mesh.is_stuff, len(mesh.faces)) for mesh in objects] == [
        ("chair", False, 2),
        ("wall", True, 2),
    ]


def test_scannet_with_another_mesh(tmp_path):
    scannet(tmp_path, [7, 7, 7])
    with pytest.raises(MeshError, match="expected 8 segments, one a vertex, got 3"):
        read_scene(tmp_path)
