"""How scenes look: surfaces, lights and shadows, and what a camera makes of them."""

from .exposure import Development, draw_development
from .photographs import Rendering, render_view
from .shading import AreaLight, Lighting, Quality, Shader

__all__ = [
    "AreaLight",
    "Development",
    "Lighting",
    "Quality",
    "Rendering",
    "Shader",
    "draw_development",
    "render_view",
]
