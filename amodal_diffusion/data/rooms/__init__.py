"""Ground truth from 3D: meshes and cameras → photos with whole masks, occlusion order and hidden colours [Z24]."""
from .cameras import Camera, CameraError, read_cameras
from .meshes import Material, MeshError, ObjectMesh, PlacedObject
from .obj import read_obj
from .views import View, trace_view
