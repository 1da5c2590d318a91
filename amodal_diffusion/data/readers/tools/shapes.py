"""From the shapes that people drew in an annotation tool to the objects of a row: pairs, pieces, order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as mask_utils

from ....display import plain_name, short_repr
from ....masks.rle import Rle, encode_rle, segmentation_to_rle
from ...schema import build_objects

AMODAL = "amodal"
"""The attribute, flag or label suffix by which a shape says that it is a whole mask."""
UNNAMED = "object"
"""Label of an object without a name, in tools whose shapes all have one."""


def label_of(name: str | None) -> str:
    """The label of an object in a tool: its name as every tool can hold it, or `UNNAMED`.

    Example:
        >>> label_of("tea  cup"), label_of(None)
        ('tea cup', 'object')
    """
    return plain_name(name or "") or UNNAMED


@dataclass
class Shape:
    """A mask that somebody drew.

    Args:
        label: class name, None where there is none.
        mask: of the whole frame.
        amodal: it is the whole mask of its object, with what is hidden; else the visible part.
        group: shapes of one group and label are parts of one object; None for an object of this one shape.
        z: place in the stack, larger is nearer to the viewer; None where the file has no order.

    Example:
        >>> from amodal_diffusion.masks import encode_rle
        >>> Shape("cup", encode_rle([[0, 1]])).amodal
        False
    """

    label: str | None
    mask: Rle
    amodal: bool = False
    group: Any = None
    z: float | None = None

    __repr__ = short_repr


def mask_in_box(inside: npt.NDArray[np.bool_], left: int, top: int, height: int, width: int) -> Rle:
    """The mask of a frame from what a tool keeps of it: the part in its box.

    Args:
        inside: (h, w) bool, the part.
        left: column of its first pixel in the frame.
        top: row of its first pixel.
        height: of the frame.
        width: of the frame.

    Raises:
        ValueError: the box reaches beyond the frame.

    Example:
        >>> mask_in_box(np.ones((1, 1), bool), left=1, top=0, height=1, width=2)["size"]
        [1, 2]
    """
    high, wide = inside.shape
    if left < 0 or top < 0 or left + wide > width or top + high > height:
        raise ValueError(f"the mask's box {[left, top, wide, high]} reaches beyond {width} x {height} pixels")
    mask = np.zeros((height, width), dtype=bool)
    mask[top : top + high, left : left + wide] = inside
    return encode_rle(mask)


def objects_from_shapes(
    shapes: Sequence[Shape], order: Sequence[tuple[int, int]] | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, int]] | None]:
    """Put shapes together to objects, in the order in which their first shapes were drawn.

    - Shapes of one group and one label are one object: its visible pieces together, and its whole mask where one of
      them is `amodal`. An amodal mask is made to hold what is visible.
    - An object that has an amodal shape alone, and a place in the stack, is visible where nothing is drawn in front of
      it, as in COCOA; without a place it is visible as a whole.
    - Of two objects whose masks overlap, the one that is higher in the stack is in front.

    Args:
        shapes: of one image.
        order: pairs of indices into `shapes`, the first of which occludes the second, in place of the stack's order.

    Returns:
        Objects of the schema, whose ids count from 1, and their relations; None where there is no `order` and all
        shapes lie at one height or say none, so that the order is unknown.

    Example:
        >>> from amodal_diffusion.masks import encode_rle
        >>> plate = Shape("plate", encode_rle([[1, 1, 1, 0]]), amodal=True, z=0)
        >>> cup = Shape("cup", encode_rle([[0, 0, 1, 1]]), z=1)
        >>> objects, relations = objects_from_shapes([plate, cup])
        >>> [(item["name"], item["modal_box"], item["amodal_box"]) for item in objects]
        [('plate', [0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 3.0, 1.0]), ('cup', [2.0, 0.0, 2.0, 1.0], None)]
        >>> relations
        [{'front': 1, 'behind': 0}]
    """
    groups: dict[Any, list[Shape]] = {}
    for index, shape in enumerate(shapes):
        key = ("alone", index) if shape.group is None else ("group", shape.group, shape.label)
        groups.setdefault(key, []).append(shape)
    parts = list(groups.values())
    drawn = [_union([shape.mask for shape in part]) for part in parts]
    heights = [max((shape.z for shape in part if shape.z is not None), default=None) for part in parts]
    ordered = None not in heights and len(set(heights)) > 1
    objects = []
    for index, part in enumerate(parts):
        visible = [shape.mask for shape in part if not shape.amodal]
        whole = any(shape.amodal for shape in part)
        amodal = drawn[index] if whole else None
        modal = _union(visible) if visible else drawn[index]
        if whole and not visible and ordered:
            front = [drawn[other] for other, z in enumerate(heights) if z > heights[index]]  # type: ignore[operator]
            modal = _without(modal, front)
        objects.append(
            {
                "id": index + 1,
                "name": part[0].label,
                "category_id": None,
                "is_stuff": False,
                "is_crowd": False,
                "modal_mask": modal,
                "amodal_mask": amodal,
            }
        )
    relations: list[dict[str, int]] | None = None
    if order is not None:
        home = {id(shape): index for index, part in enumerate(parts) for shape in part}
        pairs = {(home[id(shapes[front])], home[id(shapes[behind])]): None for front, behind in order}
        relations = [{"front": front, "behind": behind} for front, behind in pairs if front != behind]
    elif ordered:
        relations = _relations(drawn, [float(z) for z in heights if z is not None])
    return build_objects(objects), relations


def _relations(masks: list[Rle], heights: list[float]) -> list[dict[str, int]]:
    iou = mask_utils.iou(masks, masks, [0] * len(masks))
    level = np.array(heights)
    front, behind = np.nonzero((np.asarray(iou) > 0) & (level[:, None] > level[None]))
    return [{"front": int(i), "behind": int(j)} for i, j in zip(front, behind, strict=True)]


def _union(masks: Sequence[Rle]) -> Rle:
    if len(masks) == 1:
        return masks[0]
    return segmentation_to_rle(mask_utils.merge(list(masks)), *masks[0]["size"])


def _without(mask: Rle, others: Sequence[Rle]) -> Rle:
    if not others:
        return mask
    return encode_rle(mask_utils.decode(mask).astype(bool) & ~mask_utils.decode(_union(others)).astype(bool))
