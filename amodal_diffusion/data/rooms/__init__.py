"""Ground truth from 3D: meshes and cameras → photos with amodal masks, occlusion order and hidden colours [Z24].

Needs the extra `rooms`. Two doors: `read_scene`, `read_cameras` and `write_ground_truth` for scenes that exist;
`furnish` and `generate_rooms` for rooms that are made up.
"""

from .cameras import CONVENTIONS, Camera, CameraError, read_cameras
from .furnishing import FurnitureItem, FurnitureLibrary, RoomLayout, furnish
from .generate import RoomSettings, generate_rooms, make_room
from .ground_truth import GroundTruthOptions, write_ground_truth
from .hidden_colors import HiddenColors, read_colors
from .meshes import Material, MeshError, ObjectMesh, PlacedObject
from .scans import SCENE_FORMATS, read_obj, read_scene
from .view_rows import RowOptions, SceneStatistics, find_cycles, record_occlusions, view_row
from .views import View, trace_view

__all__ = [
    "CONVENTIONS",
    "SCENE_FORMATS",
    "Camera",
    "CameraError",
    "FurnitureItem",
    "FurnitureLibrary",
    "GroundTruthOptions",
    "HiddenColors",
    "Material",
    "MeshError",
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
    "write_ground_truth",
]
