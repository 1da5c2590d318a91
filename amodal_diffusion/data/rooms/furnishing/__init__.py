"""Rooms to photograph: furniture, what stands where, floors, walls and lights, and where a camera stands."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
