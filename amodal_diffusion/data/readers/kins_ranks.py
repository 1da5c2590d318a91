"""The occlusion order of KINS 2020: clusters of connected instances, and ranks in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from .records import to_int


def read_rank(annotation: Mapping[str, Any]) -> tuple[int, int] | None:
    """Read the cluster (`oco_id`) of an instance and its rank in it (`ico_id`); None for a file without them.

    Raises:
        ValueError: one of them without the other, or no whole number; a negative rank.

    Example:
        >>> read_rank({"oco_id": 2, "ico_id": 1}), read_rank({})
        ((2, 1), None)
    """
    cluster, rank = annotation.get("oco_id"), annotation.get("ico_id")
    if cluster is None and rank is None:
        return None
    place = to_int(rank, "ico_id")
    if place < 0:
        raise ValueError(f"ico_id must be at least 0, got {place}")
    return to_int(cluster, "oco_id"), place


def relations_from_ranks(
    objects: Sequence[Mapping[str, Any]], ranks: Mapping[int, tuple[int, int]]
) -> list[dict[str, int]]:
    """Turn ranks into relations: of two objects of a cluster whose masks overlap, the lower rank is in front.

    Rank 0 is for objects that overlap none. Ranks do not say which two objects meet; the masks do.

    Args:
        objects: the objects of one image, with `modal_mask` and `amodal_mask`.
        ranks: cluster and rank by index into `objects`.

    Example:
        >>> from amodal_diffusion.masks import encode_rle
        >>> masks = encode_rle([[1, 1, 0]]), encode_rle([[0, 1, 1]])
        >>> objects = [{"modal_mask": mask, "amodal_mask": mask} for mask in masks]
        >>> relations_from_ranks(objects, {0: (2, 2), 1: (2, 1)})
        [{'front': 1, 'behind': 0}]
    """
    clusters: dict[int, list[int]] = {}
    for index, (cluster, rank) in ranks.items():
        if rank:
            clusters.setdefault(cluster, []).append(index)
    relations = []
    for members in clusters.values():
        masks = [objects[index]["amodal_mask"] or objects[index]["modal_mask"] for index in members]
        overlap = mask_utils.iou(masks, masks, np.zeros(len(masks), dtype=np.uint8)) > 0  # (M, M)
        for front, behind in np.argwhere(overlap).tolist():
            if ranks[members[front]][1] < ranks[members[behind]][1]:
                relations.append({"front": members[front], "behind": members[behind]})
    return relations
