"""Ground truth from 3D: meshes and cameras → photos with amodal masks, occlusion order and hidden colours [Z24].

Needs the extra `rooms`. Two doors: `read_scene`, `read_cameras` and `write_ground_truth` for scenes that exist;
`furnish` and `generate_rooms` for rooms that are made up.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
