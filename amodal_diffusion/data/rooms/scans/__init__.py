"""Files of 3D scenes: OBJ, glTF, PLY, and the scanned houses of Matterport3D, Replica and ScanNet."""

from .obj import parse_obj, read_obj
from .ply import read_ply
from .scanned_houses import read_matterport, read_replica, read_scannet
from .scene_files import SCENE_FORMATS, detect_scene_format, read_scene

__all__ = [
    "SCENE_FORMATS",
    "detect_scene_format",
    "parse_obj",
    "read_matterport",
    "read_obj",
    "read_ply",
    "read_replica",
    "read_scannet",
    "read_scene",
]
