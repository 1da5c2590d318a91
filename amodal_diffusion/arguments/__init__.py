"""What callers give: checks that every door shares."""

__all__ = ["choices", "flags", "names", "numeric"]
