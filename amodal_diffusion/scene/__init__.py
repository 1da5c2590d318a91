"""Scenes: a photo as layers that can be moved, removed and reordered, and files that hold them."""

from .layer import Layer
from .scene import Scene

__all__ = [
    "Layer",
    "Scene",
]
