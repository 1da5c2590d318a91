"""Pictures that explain results: overlays, order graphs, samples, uncertainty, curves."""

from ._drawing import palette
from .curves import Curve, draw_curves
from .order_graph import draw_order_graph
from .overlay import draw_overlay
from .samples import draw_samples, draw_uncertainty

__all__ = [
    "Curve",
    "draw_curves",
    "draw_order_graph",
    "draw_overlay",
    "draw_samples",
    "draw_uncertainty",
    "palette",
]
