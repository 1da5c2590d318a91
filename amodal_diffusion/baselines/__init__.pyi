from .convex import complete_convex as complete_convex
from .convex import complete_convex_refined as complete_convex_refined
from .convex import complete_raw as complete_raw
from .nearest_mask import NearestMaskBank as NearestMaskBank
