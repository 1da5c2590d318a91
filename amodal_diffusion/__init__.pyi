from diffusers import DiffusionPipeline as DiffusionPipeline
from diffusers import ModelMixin as ModelMixin

from .models import *
from .pipelines import *
from .scene import *

__version__: str
