"""Small scenes: tiles that face the camera, a box, woven bars; a furniture library; one of the rendered rooms."""

import shutil

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


_ITEMS = {
    # name: category, width, depth, height in cm, and what else the catalogue says
    "Oak chair": ("Living room", 45, 45, 90, {}),
    "Oak table": ("Living room", 140, 80, 74, {}),
    "Sofa": ("Living room", 180, 80, 80, {}),
    "Bookcase": ("Living room", 90, 35, 180, {}),
    "Cup": ("Kitchen", 10, 10, 12, {}),
    "Book": ("Office", 20, 14, 4, {}),
    "Test cup": ("Kitchen", 9, 9, 11, {}),  # the seventh, for testing
    "Plant": ("Living room", 50, 50, 100, {}),
    "Wall clock": ("Living room", 30, 8, 30, {"elevation": 150}),
    "Window": ("Doors and windows", 100, 20, 120, {"elevation": 90, "doorOrWindow": "true"}),
    "Bus": ("Vehicles", 280, 1404, 367, {}),
    "Test table": ("Living room", 140, 80, 74, {}),
    "Test chair": ("Living room", 45, 45, 90, {}),
    "Test vase": ("Living room", 20, 20, 30, {}),  # the fourteenth
}


def write_boxes(folder):
    """A box before a box, and two cameras: (scene, poses)."""
    lines, offset = [], 1
    for name, half, center in (("near box", 0.3, (0, 0, 3)), ("far box", 0.5, (0.4, 0, 5))):
        mesh = box(half=half, center=center)
        lines.append(f"o {name}")
        lines += [f"v {x} {y} {z}" for x, y, z in mesh.vertices]
        lines += ["f " + " ".join(str(index + offset) for index in face) for face in mesh.faces]
        offset += len(mesh.vertices)
    (folder / "scene.obj").write_text("\n".join(lines))
    poses = [np.eye(4)[:3], np.eye(4)[:3] + np.array([[0, 0, 0, 0.2], [0, 0, 0, 0], [0, 0, 0, 0]])]
    np.savetxt(folder / "poses.txt", np.concatenate(poses))
    return folder / "scene.obj", folder / "poses.txt"


def write_library(folder, name="Small"):
    """A furniture library of boxes, with a table on legs."""
    import zipfile

    folder.mkdir(parents=True, exist_ok=True)
    lines = ["id=small", "name=Small"]
    with zipfile.ZipFile(folder / f"{name}.sh3f", "w") as archive:
        for number, (title, (category, width, depth, height, extra)) in enumerate(_ITEMS.items(), 1):
            fields = {"name": title, "category": category, "width": width, "depth": depth, "height": height}
            fields |= {"model": f"/models/{number}.obj", "creator": "Someone", **extra}
            lines += [f"{key}#{number}={value}" for key, value in fields.items()]
            archive.writestr(f"models/{number}.obj", _table_obj() if "table" in title else _obj([box()]))
        archive.writestr("PluginFurnitureCatalog.properties", "\n".join(lines))
    return folder


def _obj(meshes):
    lines, offset = [], 1
    for mesh in meshes:
        lines += [f"v {x} {y} {z}" for x, y, z in mesh.vertices]
        lines += ["f " + " ".join(str(index + offset) for index in face) for face in mesh.faces]
        offset += len(mesh.vertices)
    return "\n".join(lines)


def _table_obj():
    top = box(half=np.array([0.7, 0.02, 0.4]), center=(0, 0.72, 0))
    legs = [box(half=np.array([0.03, 0.35, 0.03]), center=(x, 0.35, z)) for x in (-0.6, 0.6) for z in (-0.3, 0.3)]
    return _obj([top, *legs])


def copy_rooms(source, target):
    """The scene of the first shard that has the fewest objects, with its hidden colours."""
    import pyarrow.parquet as parquet

    for part in ("data", "layers"):
        (target / part).mkdir(parents=True)
    table = parquet.read_table(source / "data" / "test-00000-of-00003.parquet")
    place = int(np.argmin([len(objects) for objects in table["objects"]]))
    parquet.write_table(table.slice(place, 1), target / "data" / "test-00000-of-00001.parquet")
    shutil.copy(source / "layers" / "test-00000-of-00003.zip", target / "layers" / "test-00000-of-00001.zip")
