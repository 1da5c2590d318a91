"""What a mask is: stacks of masks read from anything, run lengths, morphology, convex hulls."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
