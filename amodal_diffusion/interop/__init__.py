"""Ways into the tools that people label and look with, and back: a module for each tool, imported when it is used.

What a tool's package gives is imported inside the functions, so nothing here needs to be installed that is not used.
The tools' own files are read by `amodal_diffusion.data`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
