"""Files of 3D scenes: OBJ, glTF, PLY, SDF, and the scanned houses of Matterport3D, Replica and ScanNet."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
