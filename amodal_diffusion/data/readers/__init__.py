"""Readers of annotation files, a module for each format, which all yield rows of the one schema."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
