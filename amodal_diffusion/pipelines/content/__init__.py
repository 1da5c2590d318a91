"""Pipelines that fill hidden parts and backgrounds with colour."""

__all__ = [
    "cutouts",
    "exemplar",
    "fillers",
    "inpainting",
    "inputs",
    "output",
    "pipeline",
    "seams",
    "shifts",
    "sources",
]
