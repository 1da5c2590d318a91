"""What `content_quality.py` is made of: scenes with pasted occluders, fillers to compare, pictures of them."""

__all__ = ["pasted", "pictures", "rivals"]
