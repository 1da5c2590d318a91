"""What is behind all objects of a photo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...masks import BoolArray
from ..content.pipeline import ContentPipeline
from .remains import with_remains
from .shadows import light, with_shadows


def paint_background(
    content: ContentPipeline,
    photo: npt.NDArray[np.uint8],
    seen: BoolArray,
    shadows: Sequence[npt.NDArray[np.uint8] | None],
    boxes: npt.NDArray[np.int64],
    *,
    hard: bool,
    overwrite: bool = False,
    **options: Any,
) -> tuple[npt.NDArray[np.uint8], int]:
    """A photo without its objects and their shadows.

    Hard outlines leave a rim of each object, which is painted, too; soft ones at most what the masks left out.

    Args:
        content: paints it.
        photo: (H, W, 3) uint8.
        seen: (N, H, W) bool, the objects.
        shadows: of the objects, see `find_shadows`.
        boxes: (N, 4) int64 (x, y, w, h), their tiles.
        hard: the outlines are.
        overwrite: `seen` may be changed, which saves a copy of it.
        options: further ones of `ContentPipeline.background`.

    Returns:
        (H, W, 3) uint8, and how many pixels around the objects differ from the photo as well, as `Scene.rim` counts
        them.

    Example:
        >>> photo, seen = np.full((40, 40, 3), 90, np.uint8), np.zeros((1, 40, 40), bool)
        >>> seen[0, 10:20, 10:20], photo[10:20, 10:20] = True, 200
        >>> found = paint_background(
        ...     ContentPipeline(filler="smooth"), photo, seen, [None], np.array([[10, 10, 10, 10]]), hard=False
        ... )
        >>> found[0][15, 15], found[1]
        (array([90, 90, 90], dtype=uint8), 0)
    """
    lit = light(photo, shadows, boxes)
    places = with_shadows(seen, shadows, boxes, overwrite=overwrite)
    if hard:
        rim = content.background_rim(*photo.shape[:2])
    else:
        places, rim = with_remains(lit, places, overwrite=overwrite or places is not seen)
    return content.background(lit, places, replace_rim=hard, **options), rim
