"""Pipelines that fill hidden parts and backgrounds with colour."""

__all__ = ["cutouts", "inpainting", "inputs", "output", "pipeline", "seams"]
