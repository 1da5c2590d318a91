"""The command `amodal-diffusion`: one file for each of its commands."""

__all__ = ["main"]
