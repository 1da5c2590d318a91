"""What networks run on: processors and the precision that suits them, ONNX files, engines that answer for torch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
