"""Pipelines that fill hidden parts and backgrounds with colour."""

__all__ = [
    "cutouts",
    "exemplar",
    "fillers",
    "inpainting",
    "inputs",
    "output",
    "patch_matching",
    "pipeline",
    "seams",
    "sources",
]
