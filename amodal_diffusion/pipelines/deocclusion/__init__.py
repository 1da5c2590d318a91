"""From a photo to a scene of whole layers."""
