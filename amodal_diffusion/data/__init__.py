"""Data sets: annotation files of any format as rows of one schema, and these rows on disk and on the Hub.

`readers` has a module for each format, `synthesis` makes training samples of masks and photos, `samplers` draws what
training sees.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
