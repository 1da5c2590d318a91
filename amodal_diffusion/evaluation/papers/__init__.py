"""The tables and curves of papers: their published numbers, and ours beside them; and the question of InstaOrder."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
