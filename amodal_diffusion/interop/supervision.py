"""Objects as `supervision.Detections`, for its annotators, trackers and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..data import record_masks
from ..masks import encode_rle, mask_areas, mask_boxes
from ..ordering import order_pairs
from ..pipelines import AmodalPipelineOutput


def to_detections(
    objects: AmodalPipelineOutput | Mapping[str, Any],
    masks: Any = None,
    *,
    names: Sequence[str] | None = None,
    compact: bool = False,
) -> Any:
    """Make `supervision.Detections` of the objects of a photo.

    Args:
        objects: what a mask pipeline returned for one photo (`output_type` "np" or "compact"), or a row of the schema.
        masks: (N, H, W) bool modal masks that went into the pipeline, for `modal_mask` and `occlusion_rate`; None
            leaves these out. A row has its own.
        names: N names; None takes those of `objects`.
        compact: `mask` is a `supervision.CompactMask`, which holds run lengths of crops, and "modal_mask" a list of N
            COCO run lengths, as `data` takes no such mask: for many objects on large photos.

    Returns:
        Detections whose `mask` (N, H, W) bool and `xyxy` are of the whole objects (the visible ones where a row knows
        no whole ones), with `data` under "class_name", "modal_mask" (N, H, W) bool, "occlusion_rate" (N,) float in
        [0, 1] and "occluded_by" (N lists of indices).

    Raises:
        ImportError: the extra `interop` is not installed.
        ValueError: `masks` or `names` of another number than the objects; an output of several photos.

    Example:
        >>> from amodal_diffusion.pipelines import AmodalPipelineOutput
        >>> whole = np.ones((1, 2, 3), bool)
        >>> to_detections(AmodalPipelineOutput(whole, whole.astype(np.float32)), whole[:, :, :2])  # doctest: +SKIP
        Detections(xyxy=array([[0., 0., 3., 2.]], dtype=float32), ...)
    """
    try:
        import supervision
    except ImportError as error:
        raise ImportError("`to_detections` needs pip install 'amodal-diffusion[interop]'") from error
    if isinstance(objects, AmodalPipelineOutput):
        if objects.is_batched:
            raise ValueError("`objects` must be of one photo: `out.split()` gives one output a photo.")
        amodal = np.stack([np.asarray(mask) for mask in objects.amodal_masks]) if len(objects.amodal_masks) else None
        if amodal is None:
            return supervision.Detections.empty()
        modal, order = (None if masks is None else np.asarray(masks, bool)), objects.order
        found = names if names is not None else objects.names
        relations = [] if order is None else order_pairs(order)
        categories = None
    else:
        if not objects["objects"]:
            return supervision.Detections.empty()
        modal, whole = record_masks(objects)
        amodal = modal if whole is None else whole
        found = names if names is not None else [item["name"] or "" for item in objects["objects"]]
        relations = [(pair["front"], pair["behind"]) for pair in objects["order_relations"] or []]
        ids = [item["category_id"] for item in objects["objects"]]
        categories = None if None in ids else np.array(ids, int)
    count = len(amodal)
    if modal is not None and modal.shape != amodal.shape:
        raise ValueError(f"`masks` must have the shape of the amodal masks {amodal.shape}, got {modal.shape}.")
    if found is not None and len(found) != count:
        raise ValueError(f"`names` must have one entry for each of {count} objects, got {len(found)}.")
    boxes = mask_boxes(amodal).astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    data: dict[str, Any] = {}
    if found is not None:
        data["class_name"] = np.array([str(name) for name in found])
    if modal is not None:
        hidden = mask_areas(amodal & ~modal)
        visible = [dict(encode_rle(mask)) for mask in modal] if compact else modal
        data |= {"modal_mask": visible, "occlusion_rate": hidden / np.maximum(mask_areas(amodal), 1)}
    behind: list[list[int]] = [[] for _ in range(count)]
    for front, back in relations:
        behind[back].append(int(front))
    data["occluded_by"] = behind
    kept: Any = amodal
    if compact:  # whose boxes end with their last pixel
        kept = supervision.CompactMask.from_dense(amodal, boxes - [0, 0, 1, 1], image_shape=amodal.shape[1:])
    return supervision.Detections(xyxy=boxes, mask=kept, class_id=categories, data=data)
