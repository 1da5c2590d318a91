"""Rooms to photograph: furniture, what stands where, floors, walls and lights, and where a camera stands."""

from .catalogue import FurnitureItem, FurnitureLibrary, attributions
from .layouts import PLANS, Placement, RoomLayout, RoomPlan, furnish
from .roles import role_of
from .shells import build_shell, draw_lights
from .viewpoints import Framing, draw_camera, facing_shell, look_at

__all__ = [
    "PLANS",
    "Framing",
    "FurnitureItem",
    "FurnitureLibrary",
    "Placement",
    "RoomLayout",
    "RoomPlan",
    "attributions",
    "build_shell",
    "draw_camera",
    "draw_lights",
    "facing_shell",
    "furnish",
    "look_at",
    "role_of",
]
