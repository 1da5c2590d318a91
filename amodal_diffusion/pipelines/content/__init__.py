"""Pipelines that fill hidden parts and backgrounds with colour."""

__all__ = ["components", "inpainting", "inputs", "output", "pipeline", "seams"]
