"""Ground truth from 3D: meshes and cameras → photos with whole masks, occlusion order and hidden colours [Z24].

Needs the extra `rooms`. Two doors: `read_scene`, `read_cameras` and `trace_view` for scenes that are there, `furnish`
and `generate_rooms` for rooms that are made.
"""

from .cameras import Camera, CameraError, read_cameras
from .furniture import FurnitureItem, FurnitureLibrary
from .generate import RoomSettings, generate_rooms, make_room
from .layers import HiddenColors, read_colors
from .layouts import RoomLayout, furnish
from .meshes import Material, MeshError, ObjectMesh, PlacedObject
from .obj import read_obj
from .rows import RowOptions, SceneStatistics, find_cycles, record_occlusions, view_row
from .scenes import SCENE_FORMATS, read_scene
from .views import View, trace_view

__all__ = [
    "Camera",
    "CameraError",
    "FurnitureItem",
    "FurnitureLibrary",
    "HiddenColors",
    "Material",
    "MeshError",
    "SCENE_FORMATS",
    "ObjectMesh",
    "PlacedObject",
    "RoomLayout",
    "RoomSettings",
    "RowOptions",
    "SceneStatistics",
    "View",
    "find_cycles",
    "furnish",
    "generate_rooms",
    "make_room",
    "read_cameras",
    "read_colors",
    "read_obj",
    "read_scene",
    "record_occlusions",
    "trace_view",
    "view_row",
]
