"""Whole masks in FiftyOne: a model for `dataset.apply_model`, and the labels of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..data import record_masks, record_order
from ..data.readers.tools.shapes import mask_in_box
from ..data.schema import decode_masks
from ..masks import BoolArray, mask_areas, mask_boxes
from ..pipelines import MaskPipeline
from ..scene.render import stacking

FIELD = "modal"
"""Under this name FiftyOne hands the field of the visible masks to the model."""


def fiftyone_model(pipeline: MaskPipeline, **options: Any) -> Any:
    """A model that completes the visible masks of a field, in a data set of FiftyOne.

        dataset.apply_model(model, label_field="amodal", modal="ground_truth", batch_size=8)

    `modal` names the field: detections with masks. The field `label_field` gets detections with whole masks and, where
    the pipeline tells who is in front, the order. Each has the label of its visible detection and

    - `modal_id`: its id, by which the two fields belong together;
    - `occlusion_rate`: share of the whole object that is hidden, in [0, 1];
    - `occluded_by`: ids of the visible detections that hide it;
    - `z_order`: place in the stack, larger is nearer to the viewer.

    Detections without a pixel are left out. Photos of a batch go through the network together.

    Args:
        pipeline: completes the masks.
        options: of its call, such as `mask_threshold`.

    Returns:
        A `fiftyone.Model` for images. Its `predict` raises ValueError where `modal` was not named or a detection has no
        mask, and TypeError for a field of another kind; FiftyOne logs both, unless `skip_failures=False`.

    Raises:
        TypeError: an option that the pipeline does not take.
        ModuleNotFoundError: `fiftyone` is not installed.

    Example:
        >>> from amodal_diffusion import PCNetMask, PCNetMaskPipeline
        >>> pipeline = PCNetMaskPipeline(PCNetMask((4, 4), sample_size=32))
        >>> model = fiftyone_model(pipeline, mask_threshold=0.4)  # doctest: +SKIP
        >>> model.media_type  # doctest: +SKIP
        'image'
    """
    pipeline.check_options(options)
    import fiftyone

    class AmodalModel(fiftyone.SamplesMixin, fiftyone.Model):
        """Completes the masks of the field that `needs_fields` names."""

        config = None
        media_type = "image"
        ragged_batches = True
        transforms = None
        preprocess = False

        def predict(self, arg: Any, sample: Any = None) -> Any:
            return self.predict_all([arg], [sample])[0]

        def predict_all(self, args: Any, samples: Any = None) -> list[Any]:
            field = (self.needs_fields or {}).get(FIELD)
            if field is None or samples is None or None in samples:
                raise ValueError(
                    f"`{FIELD}` must name the field of the visible masks: apply_model(..., {FIELD}='...')."
                )
            photos = [np.asarray(photo) for photo in args]
            found = [_detections(sample.get_field(field), field) for sample in samples]
            masks = [_masks(items, *photo.shape[:2]) for items, photo in zip(found, photos, strict=True)]
            outputs = pipeline(photos, masks, **options).split()
            results = []
            for items, modal, output in zip(found, masks, outputs, strict=True):
                ids, labels = [str(item.id) for item in items], [item.label for item in items]
                amodal = np.stack([np.asarray(mask) for mask in output.amodal_masks]) if items else modal
                results.append(_whole(modal, amodal, output.order, ids, labels))
            return results

    return AmodalModel()


def fiftyone_labels(row: Mapping[str, Any]) -> dict[str, Any]:
    """The objects of a row of the schema as detections: `sample.add_labels(fiftyone_labels(row))`.

    Args:
        row: of the schema.

    Returns:
        "modal", detections of the visible masks, and "amodal", those of the whole ones, with the attributes that
        `fiftyone_model` gives them; the latter where the row knows whole masks. Both are empty without objects.

    Raises:
        ModuleNotFoundError: `fiftyone` is not installed.

    Example:
        >>> from amodal_diffusion.masks import encode_rle
        >>> from amodal_diffusion.data import build_objects
        >>> item = {"id": 5, "name": "cup", "category_id": None, "is_stuff": False, "is_crowd": False,
        ...         "modal_mask": encode_rle([[1, 0]]), "amodal_mask": encode_rle([[1, 1]])}
        >>> row = {"height": 1, "width": 2, "objects": build_objects([item]), "order_relations": None}
        >>> fiftyone_labels(row)["amodal"].detections[0].occlusion_rate  # doctest: +SKIP
        0.5
    """
    import fiftyone

    if not row["objects"]:
        return {"modal": fiftyone.Detections(), "amodal": fiftyone.Detections()}
    modal, amodal = record_masks(row)
    labels = [item["name"] for item in row["objects"]]
    visible = [_detection(mask, label) for mask, label in zip(modal, labels, strict=True)]
    found = {"modal": fiftyone.Detections(detections=[item for item in visible if item is not None])}
    if amodal is not None:
        ids = ["" if item is None else str(item.id) for item in visible]
        found["amodal"] = _whole(modal, amodal, record_order(row), ids, labels)
    return found


def _whole(
    modal: BoolArray,
    amodal: BoolArray,
    order: npt.NDArray[np.int8] | None,
    ids: Sequence[str],
    labels: Sequence[str | None],
) -> Any:
    import fiftyone

    rates = mask_areas(amodal & ~modal) / np.maximum(mask_areas(amodal), 1)
    attributes: list[dict[str, Any]] = [
        {"modal_id": number, "occlusion_rate": float(rate)} for number, rate in zip(ids, rates, strict=True)
    ]
    if order is not None:
        for place, index in enumerate(stacking(order)):
            hidden_by = [ids[front] for front in np.flatnonzero(order[:, index] == 1).tolist()]
            attributes[index] |= {"z_order": place, "occluded_by": hidden_by}
    found = [_detection(mask, label, **more) for mask, label, more in zip(amodal, labels, attributes, strict=True)]
    return fiftyone.Detections(detections=[item for item in found if item is not None])


def _detection(mask: BoolArray, label: str | None, **attributes: Any) -> Any:
    """A detection with the part of the mask in its box; None for a mask without a pixel."""
    import fiftyone

    x, y, w, h = (int(value) for value in mask_boxes(mask[None])[0])
    if not w:
        return None
    height, width = mask.shape
    box = [x / width, y / height, w / width, h / height]
    return fiftyone.Detection(label=label, bounding_box=box, mask=mask[y : y + h, x : x + w], **attributes)


def _detections(value: Any, field: str) -> list[Any]:
    import fiftyone

    if value is None:
        return []
    if not isinstance(value, fiftyone.Detections):
        raise TypeError(f"the field {field!r} must hold Detections, got {type(value).__name__}.")
    return list(value.detections)


def _masks(items: Sequence[Any], height: int, width: int) -> BoolArray:
    """The masks (N, H, W) of detections; one that is kept at another size is resized to its box."""
    masks = []
    for item in items:
        inside = item.get_mask()
        if inside is None:
            raise ValueError(f"detection {item.id} ({item.label!r}) has no mask.")
        x, y, w, h = (float(value) for value in item.bounding_box)
        left, top = round(x * width), round(y * height)
        size = (max(1, round((x + w) * width) - left), max(1, round((y + h) * height) - top))
        part = Image.fromarray((np.asarray(inside) != 0).astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
        masks.append(mask_in_box(np.asarray(part) != 0, left, top, height, width))
    return decode_masks(masks, height, width)
