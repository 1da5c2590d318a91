"""From a photo to a scene of whole layers."""

__all__ = ["layers", "loading", "pipeline", "repainting", "steps"]
