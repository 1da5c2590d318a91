"""Results of instance segmenters in COCO's format."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def group_results(results: Sequence[Any], where: str, *, needed: Sequence[str] = ()) -> dict[str, list[dict[str, Any]]]:
    """The results of an instance segmenter, in COCO's format, for each image.

    Args:
        results: objects with `image_id`, `segmentation`, `score` and `category_id`.
        where: what they are called in errors, such as the path of their file.
        needed: keys that none may lack.

    Returns:
        Image id, as a text, → its results, with `score` as a float, 1.0 where there is none.

    Raises:
        ValueError: naming the first result that is none.

    Example:
        >>> group_results([{"image_id": 7, "segmentation": [], "score": 1}], "found.json")
        {'7': [{'image_id': 7, 'segmentation': [], 'score': 1.0}]}
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for index, result in enumerate(results):
        if not isinstance(result, dict):
            raise ValueError(f"{where}: result {index} must be an object, got {type(result).__name__}.")
        for key in needed:
            if result.get(key) is None:
                raise ValueError(f"{where}: result {index} has no `{key}`.")
        score = check_score(result, f"{where}: `score` of result {index}")
        groups.setdefault(str(result.get("image_id")), []).append({**result, "score": score})
    return groups


def check_score(record: Mapping[str, Any], what: str) -> float:
    """The `score` of a record, 1.0 where it has none or null; ValueError beginning with `what` for no finite number.

    Example:
        >>> check_score({"score": 1}, "`score` of result 3"), check_score({"score": None}, "`score` of result 4")
        (1.0, 1.0)
    """
    score = record.get("score")
    if score is None:
        return 1.0
    score = score.item() if hasattr(score, "item") else score
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise ValueError(f"{what} must be a finite number, got {score!r}.")
    return float(score)
