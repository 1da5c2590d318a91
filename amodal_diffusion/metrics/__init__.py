"""Metrics of amodal completion and occlusion order: pure functions and accumulators over a data set."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
