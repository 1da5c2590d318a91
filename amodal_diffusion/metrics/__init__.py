"""Metrics of amodal completion, occlusion order and fills: pure functions and accumulators over a data set."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
