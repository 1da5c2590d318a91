from .layer import Layer as Layer
from .scene import Scene as Scene
