r"""Functions for CVAT's auto-annotation: objects found with their whole masks, and one click that gives a whole object.

    cvat-cli task auto-annotate TASK --function-module amodal_diffusion.interop.cvat_functions \
        -p pipeline=str:pipelines/pcnet-m -p segmenter=str:facebook/mask2former-swin-tiny-coco-instance
    cvat-cli function create-native "Amodal click" --function-module amodal_diffusion.interop.cvat_functions \
        -p kind=str:click -p pipeline=str:pipelines/occamodal -p segmenter=str:pipelines/click-segmenter

Needs `cvat-sdk` (`pip install cvat-cli` has it).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..arguments.choices import check_choice
from ..data.readers.tools.shapes import AMODAL, UNNAMED
from ..hub import read_model_index
from ..pipelines import AmodalPipeline, InteractiveSegmenter, MaskPipeline, PhotoEmbedding, Segmenter
from ..scene.render import stacking

MASKS = ("both", "amodal", "modal")
KINDS = ("objects", "click")
_AMODAL_ID = 1


class AmodalDetection:
    """CVAT's detection function: all objects that a segmenter finds, completed, in their order of depth.

    Args:
        pipeline: completes the masks.
        segmenter: finds the objects.
        labels: names of the labels that it may give; None takes the classes of the segmenter's model, or "object"
            where it knows none.
        masks: which masks CVAT gets: "both" gives each object a group of two, the whole one with the checkbox
            attribute `amodal`.

    Raises:
        ValueError: unknown `masks`.
        ModuleNotFoundError: `cvat-sdk` is not installed.

    Example:
        >>> AmodalDetection(None, None, masks="whole")
        Traceback (most recent call last):
        ...
        ValueError: `masks` must be one of 'both', 'amodal', 'modal', got 'whole'.
    """

    def __init__(
        self, pipeline: MaskPipeline, segmenter: Segmenter, *, labels: Sequence[str] | None = None, masks: str = "both"
    ) -> None:
        check_choice("masks", masks, MASKS)
        import cvat_sdk.auto_annotation as cvataa

        self.pipeline, self.segmenter, self.masks = pipeline, segmenter, masks
        if labels is None:
            labels = segmenter.names or [UNNAMED]
        self._ids = {name: number for number, name in enumerate(dict.fromkeys(labels), start=1)}
        attribute = cvataa.checkbox_attribute_spec(AMODAL, _AMODAL_ID)
        self._spec = cvataa.DetectionFunctionSpec(
            labels=[cvataa.label_spec(name, number, attributes=[attribute]) for name, number in self._ids.items()]
        )

    @property
    def spec(self) -> Any:
        """What CVAT asks for: the labels."""
        return self._spec

    def detect(self, context: Any, image: Image.Image) -> list[Any]:
        """The shapes of one photo, back to front, those in front with the higher `z_order`."""
        import cvat_sdk.auto_annotation as cvataa
        from cvat_sdk import models

        found = self.segmenter(image)
        least = context.conf_threshold
        kept = [
            index
            for index, (name, score) in enumerate(zip(found.names, found.scores, strict=True))
            if (name or UNNAMED) in self._ids and (least is None or score >= least)
        ]
        if not kept:
            return []
        modal = found.masks[kept]
        output = self.pipeline(image, modal)
        order = output.order if output.order is not None else np.zeros((len(kept), len(kept)), np.int8)
        shapes = []
        for z, index in enumerate(stacking(order)):
            label = self._ids[found.names[kept[index]] or UNNAMED]
            for mask, whole in ((modal[index], False), (output.amodal_masks[index], True)):
                if self.masks not in ("both", AMODAL if whole else "modal") or not mask.any():
                    continue
                flag = models.AttributeValRequest(spec_id=_AMODAL_ID, value="true" if whole else "false")
                pair = {"group": index + 1} if self.masks == "both" else {}
                shapes.append(_shape(cvataa, context, label, mask, z_order=z, attributes=[flag], **pair))
        return shapes


class AmodalInteraction:
    """CVAT's interaction function: clicks on an object, or a box around it, give its whole mask.

    CVAT asks with all points of the object at every click. Its agent keeps what `preprocess_image` gives, so a photo is
    embedded once for all clicks on it.

    Args:
        pipeline: completes the mask; one that needs no other masks, such as OccAmodal.
        segmenter: takes clicks: `ClickSegmenterPipeline`, or a `Segmenter` with a SAM.
        masks: "amodal" gives the whole mask, "modal" what the segmenter found.

    Raises:
        ValueError: unknown `masks`, or a segmenter that takes no clicks.
        ModuleNotFoundError: `cvat-sdk` is not installed.

    Example:
        >>> AmodalInteraction(None, None, masks="both")
        Traceback (most recent call last):
        ...
        ValueError: `masks` must be amodal or modal, got 'both'.
    """

    def __init__(self, pipeline: MaskPipeline, segmenter: InteractiveSegmenter, *, masks: str = "amodal") -> None:
        if masks not in ("amodal", "modal"):
            raise ValueError(f"`masks` must be amodal or modal, got {masks!r}.")
        if not getattr(segmenter, "can_click", False):  # a folder may hold any pipeline
            raise ValueError("`segmenter` must take clicks, which `ClickSegmenterPipeline` and a SAM do.")
        import cvat_sdk.auto_annotation as cvataa

        self.pipeline, self.segmenter, self.masks = pipeline, segmenter, masks
        self._spec = cvataa.InteractionFunctionSpec(min_pos_points=0, min_neg_points=0, min_bounding_boxes=0)

    @property
    def spec(self) -> Any:
        """What CVAT asks for: how many points and boxes there must be."""
        return self._spec

    def preprocess_image(self, context: Any, image: Image.Image) -> PhotoEmbedding:
        """What the segmenter keeps of a photo, for any number of clicks."""
        del context
        return self.segmenter.embed(image)

    def detect(self, context: Any, pp_image: PhotoEmbedding, prompts: Any) -> list[Any]:
        """The object that is meant, as one shape; none where nothing says where it is, or nothing is found there."""
        del context
        import cvat_sdk.auto_annotation as cvataa

        points = [*prompts.pos_points, *prompts.neg_points]
        labels = [1] * len(prompts.pos_points) + [0] * len(prompts.neg_points)
        box = prompts.bounding_box
        if box is not None:
            (left, top), (right, lower) = box
            box = (left, top, right - left, lower - top)
        elif not prompts.pos_points:
            return []
        mask = self.segmenter.click(pp_image, points or None, labels or None, box=box)
        if mask.any() and self.masks == "amodal":
            mask = self.pipeline(pp_image.photo, mask).amodal_masks[0]
        if not mask.any():
            return []
        return [cvataa.InteractionResultShape(type="mask", points=_encode(mask))]


def create(
    pipeline: str,
    segmenter: str,
    kind: str = "objects",
    labels: str | None = None,
    masks: str | None = None,
    device: str = "cpu",
) -> AmodalDetection | AmodalInteraction:
    """Make the function that `cvat-cli` and CVAT's agents ask a module for.

    Args:
        pipeline: folder or Hub id of a mask pipeline.
        segmenter: folder or Hub id of a segmentation model of transformers, or, for clicks, of a
            `ClickSegmenterPipeline`.
        kind: "objects" or "click".
        labels: names with commas between them, of `kind` "objects"; None takes the segmenter's.
        masks: see the two classes; None takes their default.
        device: of torch.

    Raises:
        ValueError: unknown `kind` or `masks`, or `labels` for clicks.
        FileNotFoundError, OSError: a folder or Hub id cannot be loaded.

    Example:
        >>> create("pipelines/pcnet-m", "facebook/sam-vit-base", kind="box")
        Traceback (most recent call last):
        ...
        ValueError: `kind` must be objects or click, got 'box'.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be objects or click, got {kind!r}.")
    if kind == "click" and labels is not None:
        raise ValueError("`labels` are of `kind` 'objects' alone: a click gets the label that is chosen in CVAT.")
    completes = AmodalPipeline.from_pretrained(pipeline).to(device)
    options: dict[str, Any] = {} if masks is None else {"masks": masks}
    if kind == "click":
        kinds: Any = AmodalPipeline if _holds_pipeline(segmenter) else Segmenter
        return AmodalInteraction(completes, kinds.from_pretrained(segmenter).to(device), **options)
    if labels is not None:
        options["labels"] = [name.strip() for name in labels.split(",") if name.strip()]
    return AmodalDetection(completes, Segmenter.from_pretrained(segmenter).to(device), **options)


def _holds_pipeline(segmenter: str) -> bool:
    """A folder or repository holds a pipeline; what is wrong with another one, its own loading says."""
    try:
        read_model_index(segmenter)
    except OSError:
        return False
    return True


def _encode(mask: npt.NDArray[np.bool_]) -> list[float]:
    from cvat_sdk.masks import encode_mask

    return [float(number) for number in encode_mask(np.ascontiguousarray(mask))]


def _shape(cvataa: Any, context: Any, label: int, mask: npt.NDArray[np.bool_], **fields: Any) -> Any:
    if context.conv_mask_to_poly:
        return cvataa.polygon(label, _outline(mask), **fields)
    return cvataa.mask(label, _encode(mask), **fields)


def _outline(mask: npt.NDArray[np.bool_]) -> list[float]:
    """The outline of the largest piece of a mask, (x, y) one after the other, within half a pixel."""
    from skimage.measure import approximate_polygon, find_contours

    contours = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
    largest = max(contours, key=_enclosed_area)
    points = approximate_polygon(largest, 0.5)[:-1, ::-1] - 0.5
    return [float(value) for value in points.ravel()]


def _enclosed_area(points: npt.NDArray[np.float64]) -> float:
    y, x = points.T
    return float(abs((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) / 2)
