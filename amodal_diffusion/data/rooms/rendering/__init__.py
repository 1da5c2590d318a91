"""How scenes look: surfaces, lights and shadows, and what a camera makes of them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
