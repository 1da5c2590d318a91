"""Training samples whose answer is known: banks of masks and photos, occlusion, holes and regions made with them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
