from .exposure import Development as Development
from .exposure import draw_development as draw_development
from .photographs import Rendering as Rendering
from .photographs import render_view as render_view
from .shading import AreaLight as AreaLight
from .shading import Lighting as Lighting
from .shading import Quality as Quality
from .shading import Shader as Shader
