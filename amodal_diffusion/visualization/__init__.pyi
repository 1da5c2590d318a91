from ._drawing import palette as palette
from .bars import draw_bars as draw_bars
from .curves import Curve as Curve
from .curves import draw_curves as draw_curves
from .order_graph import draw_order_graph as draw_order_graph
from .overlay import draw_overlay as draw_overlay
from .samples import draw_samples as draw_samples
from .samples import draw_uncertainty as draw_uncertainty
