"""`ScenePipeline` as steps of Modular Diffusers, which can be left out, put in between or replaced.

    pipe = SceneBlocks().init_pipeline()
    pipe.update_components(mask_pipeline=..., content_pipeline=...)
    pipe(image="kitchen.jpg", masks=masks, output="scene")

A step declares what it reads, what it gives and which components it needs. Together the steps do what a call of
`ScenePipeline` does, to the bit, but for a larger canvas (`extend_canvas`), crowds and masks of occluders. Modular
Diffusers may still change.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from diffusers.modular_pipelines import ModularPipelineBlocks, PipelineState, SequentialPipelineBlocks
from diffusers.modular_pipelines.modular_pipeline_utils import ComponentSpec, InputParam, OutputParam

from ...images import load_image
from ...masks import mask_boxes, to_mask_stack
from ...ordering import check_order, order_from_masks
from ...scene import Scene
from ..completion.mask_pipeline import MaskPipeline
from ..content.inpainting import split_generators
from ..content.pipeline import ContentPipeline
from ..inputs import read_generator, to_numpy
from ..segmentation.segmenter import Segmenter
from .layers import cut_by_front, make_layer, order_with, read_names, split_overlaps, tidy_hidden
from .matting import SoftOutlines, soft_outlines
from .scene_background import paint_background
from .shadows import find_shadows

_MASK_PIPELINE = ComponentSpec("mask_pipeline", MaskPipeline, description="Completes masks and knows who is in front.")
_CONTENT_PIPELINE = ComponentSpec("content_pipeline", ContentPipeline, description="Paints what is hidden.")
_SEGMENTER = ComponentSpec("segmenter", Segmenter, description="Finds the objects where no masks are given.")
_PHOTO = InputParam("photo", np.ndarray, required=True, description="(H, W, 3) uint8.")
_MASKS = InputParam("masks", np.ndarray, required=True, description="(N, H, W) bool, visible parts.")
_AMODAL = InputParam("amodal_masks", np.ndarray, required=True, description="(N, H, W) bool, whole objects.")
_ORDER = InputParam("order", np.ndarray, required=True, description="(N, N) int8, 1 where i occludes j.")
_OUTLINES = InputParam("outlines", SoftOutlines, required=True, description="Of `OutlineStep`.")
_EDGE_WIDTH = InputParam("edge_width", float, 0.0, description="See `ScenePipeline`; 0 keeps outlines hard.")
_NAMES = InputParam("names", list, required=True, description="N names.")


class _Step(ModularPipelineBlocks):
    """A step: what it declares, and `run`, which changes the fields of the state that it declares."""

    description = ""
    expected_components: list[ComponentSpec] = []
    inputs: list[InputParam] = []
    intermediate_outputs: list[OutputParam] = []

    def run(self, components: Any, fields: Any) -> None:
        raise NotImplementedError

    def __call__(self, components: Any, state: PipelineState) -> tuple[Any, PipelineState]:
        fields = self.get_block_state(state)
        self.run(components, fields)
        self.set_block_state(state, fields)
        return components, state


class SegmentStep(_Step):
    """Reads the photo and finds its objects, or takes the masks as given.

    Example:
        >>> SegmentStep().input_names, SegmentStep().component_names
        (['image', 'masks', 'names'], ['segmenter'])
    """

    description = "Reads the photo and finds its objects, or takes the masks as given."
    expected_components = [_SEGMENTER]
    inputs = [
        InputParam("image", required=True, description="The photo in any form that `load_image` reads."),
        InputParam("masks", description="Modal masks in any form that `to_mask_stack` reads; None: the segmenter's."),
        InputParam("names", list, description="N names; None: the segmenter's, or numbers."),
    ]
    intermediate_outputs = [
        OutputParam("photo", np.ndarray, "(H, W, 3) uint8."),
        OutputParam("masks", np.ndarray, "(N, H, W) bool, visible parts."),
        OutputParam("names", list, "N names."),
        OutputParam("eraser_dilation", int, "Pixels by which masks that hide others grow."),
    ]

    def run(self, components: Any, fields: Any) -> None:
        """See the class."""
        fields.photo = np.array(load_image(fields.image))
        fields.eraser_dilation = 0
        if fields.masks is None:
            if components.segmenter is None:
                raise ValueError("`masks` must be given: these steps have no segmenter that finds the objects.")
            found = components.segmenter(fields.photo)
            fields.masks, fields.eraser_dilation = found.masks, components.segmenter.eraser_dilation
            fields.names = found.names if fields.names is None else fields.names
        else:
            height, width = fields.photo.shape[:2]
            fields.masks = to_mask_stack(fields.masks, height=height, width=width)
        fields.names = read_names(fields.names, len(fields.masks))


class CompleteStep(_Step):
    """Completes the masks, in the order that is given or that the mask pipeline finds in the same passes.

    Example:
        >>> CompleteStep().intermediate_output_names
        ['amodal_masks', 'uncertainty', 'order']
    """

    description = "Completes the masks, in the order that is given or that the mask pipeline finds in the same passes."
    expected_components = [_MASK_PIPELINE]
    inputs = [
        _PHOTO,
        _MASKS,
        InputParam("names", list, description="N names, for mask pipelines that know `categories` by name."),
        InputParam("order", description="(N, N), 1 where i occludes j; None: the mask pipeline's."),
        InputParam("eraser_dilation", int, 0, description="Pixels by which masks that hide others grow."),
        InputParam("category_ids", description="(N,), for mask pipelines that need them."),
    ]
    intermediate_outputs = [
        OutputParam("amodal_masks", np.ndarray, "(N, H, W) bool, whole objects."),
        OutputParam("uncertainty", np.ndarray, "(N, H, W) float32, or None where the pipeline does not know it."),
        OutputParam("order", np.ndarray, "(N, N) int8, or None where nobody knows it."),
    ]

    def run(self, components: Any, fields: Any) -> None:
        """See the class."""
        pipeline, masks = components.mask_pipeline, fields.masks
        if fields.order is not None:
            fields.order = check_order(to_numpy(fields.order), len(masks))
        if not len(masks):
            fields.amodal_masks, fields.uncertainty, fields.order = masks, None, np.zeros((0, 0), np.int8)
            return
        options = {name: getattr(fields, name) for name in ("order", "eraser_dilation", "category_ids")}
        if pipeline.categories:
            options["category_ids"] = fields.names
        taken = {name: value for name, value in options.items() if value is not None and pipeline.takes_option(name)}
        cut, before = cut_by_front(masks, fields.order)
        found = pipeline(fields.photo, cut, output_type="compact", **taken)
        fields.amodal_masks = np.asarray(found.amodal_masks) | masks
        fields.uncertainty = None if found.uncertainty is None else np.asarray(found.uncertainty)
        order = found.order if fields.order is None else fields.order
        fields.order = order if order is None else order_with(before, order)


class OrderStep(_Step):
    """Orders the objects by their masks where nobody did, gives each pixel to one of them, and tidies hidden parts.

    Example:
        >>> OrderStep().component_names, OrderStep().intermediate_output_names
        ([], ['order', 'masks', 'amodal_masks'])
    """

    description = "Orders the objects by their masks where nobody did, gives each pixel to one, tidies hidden parts."
    inputs = [
        _MASKS,
        _AMODAL,
        InputParam("order", np.ndarray, description="(N, N) int8; None: from the masks."),
        InputParam("min_hidden_width", int, 3, description="Hidden parts that are narrower are left out, pixels."),
    ]
    intermediate_outputs = [
        OutputParam("order", np.ndarray, "(N, N) int8, 1 where i occludes j."),
        OutputParam("masks", np.ndarray, "(N, H, W) bool, no pixel in two of them."),
        OutputParam("amodal_masks", np.ndarray, "(N, H, W) bool."),
    ]

    def run(self, components: Any, fields: Any) -> None:
        """See the class."""
        del components
        if fields.order is None:
            fields.order = order_from_masks(fields.masks, fields.amodal_masks)
        fields.masks = split_overlaps(fields.masks, fields.order)
        fields.amodal_masks = tidy_hidden(fields.amodal_masks, fields.masks, fields.min_hidden_width)


class OutlineStep(_Step):
    """Softens the outlines; by default they stay hard.

    Example:
        >>> OutlineStep().input_names
        ['photo', 'masks', 'amodal_masks', 'order', 'edge_width']
    """

    description = "Softens the outlines; by default they stay hard."
    inputs = [
        _PHOTO,
        _MASKS,
        _AMODAL,
        _ORDER,
        _EDGE_WIDTH,
    ]
    intermediate_outputs = [
        OutputParam("outlines", SoftOutlines, "Photo, visible and whole masks, and the alpha of rims."),
    ]

    def run(self, components: Any, fields: Any) -> None:
        """See the class."""
        del components
        fields.outlines = soft_outlines(
            fields.photo, fields.masks, fields.amodal_masks, fields.order, fields.edge_width
        )


class PaintStep(_Step):
    """Paints the hidden parts of the objects and the background without them; shadows stay on the ground by default.

    Example:
        >>> PaintStep().component_names, PaintStep().intermediate_output_names
        (['content_pipeline'], ['contents', 'background', 'rim', 'object_shadows'])
    """

    description = (
        "Paints the hidden parts of the objects and the background without them; shadows stay on the ground by default."
    )
    expected_components = [_CONTENT_PIPELINE]
    inputs = [
        _PHOTO,
        _OUTLINES,
        _ORDER,
        _NAMES,
        _EDGE_WIDTH,
        InputParam("shadows", bool, False, description="See `ScenePipeline`."),
        InputParam("category_ids", description="(N,), for content pipelines that need them."),
        InputParam("filler", description="What fills hidden parts, see `ContentPipeline`."),
        InputParam("background_filler", str, description="What fills the background, likewise."),
        InputParam("prompts", description="One for each object, where the content pipeline takes any."),
        InputParam("background_prompt", str, "", description="For an inpainter."),
        InputParam("generator", description="Of the random numbers that are drawn; None: the same every time."),
    ]
    intermediate_outputs = [
        OutputParam("contents", list, "N tiles (h, w, 4) uint8, one for each object's box."),
        OutputParam("background", np.ndarray, "(H, W, 3) uint8, the photo without the objects."),
        OutputParam("rim", int, "Pixels around an object in which the background differs from the photo as well."),
        OutputParam("object_shadows", list, "N shadows, None where there is none."),
    ]

    def run(self, components: Any, fields: Any) -> None:
        """See the class."""
        paint, outlines = components.content_pipeline, fields.outlines
        for_contents, for_background = split_generators(read_generator(fields.generator), 2) or (None, None)
        found = paint(
            outlines.photo, outlines.seen, outlines.amodal, order=fields.order, names=fields.names,
            prompts=fields.prompts, category_ids=fields.category_ids, generator=for_contents, filler=fields.filler,
            clean_seams=fields.edge_width > 0,
        )  # fmt: skip
        fields.contents = found.objects
        boxes, fields.object_shadows = mask_boxes(outlines.amodal), [None] * len(outlines.seen)
        things = paint.find_things(fields.photo, fields.background_filler) if outlines.seen.any() else None
        if fields.shadows:
            fields.object_shadows = find_shadows(fields.photo, outlines.seen, boxes, things=things)
        fields.background, fields.rim = paint_background(
            paint, fields.photo, outlines.seen, fields.object_shadows, boxes,
            hard=fields.edge_width == 0, prompt=fields.background_prompt, generator=for_background,
            filler=fields.background_filler, things=things,
        )  # fmt: skip


class ComposeStep(_Step):
    """Puts the scene together.

    Example:
        >>> ComposeStep().intermediate_output_names
        ['scene']
    """

    description = "Puts the scene together."
    inputs = [
        _PHOTO,
        _OUTLINES,
        InputParam("object_shadows", list, description="N shadows, None where there is none; None: nowhere."),
        _ORDER,
        _NAMES,
        _EDGE_WIDTH,
        InputParam("contents", list, required=True, description="N tiles (h, w, 4) uint8."),
        InputParam("background", np.ndarray, required=True, description="(H, W, 3) uint8."),
        InputParam("rim", int, 0, description="See `Scene`."),
        InputParam("uncertainty", np.ndarray, description="(N, H, W) float32, or None."),
    ]
    intermediate_outputs = [OutputParam("scene", Scene, "One layer for each object, and the background.")]

    def run(self, components: Any, fields: Any) -> None:
        """See the class."""
        del components
        outlines, hard = fields.outlines, fields.edge_width == 0
        boxes = mask_boxes(outlines.amodal)
        shadows = [None] * len(boxes) if fields.object_shadows is None else fields.object_shadows
        layers = [
            make_layer(
                index, name, fields.contents[index], boxes[index], outlines.seen, outlines.amodal, fields.uncertainty,
                None if hard else outlines, shadows[index],
            )
            for index, name in enumerate(fields.names)
        ]  # fmt: skip
        fields.scene = Scene(fields.background, tuple(layers), fields.order, fields.photo, rim=fields.rim)


class SceneBlocks(SequentialPipelineBlocks):
    """All steps from a photo to a `Scene`: segment, complete, order, outline, paint, compose.

    Example:
        >>> SceneBlocks().component_names
        ['segmenter', 'mask_pipeline', 'content_pipeline']
        >>> list(SceneBlocks().sub_blocks)
        ['segment', 'complete', 'order', 'outline', 'paint', 'compose']
    """

    block_classes = [SegmentStep, CompleteStep, OrderStep, OutlineStep, PaintStep, ComposeStep]
    block_names = ["segment", "complete", "order", "outline", "paint", "compose"]
    description = "From a photo to a scene of whole objects in layers."
    outputs = [OutputParam("scene", Scene, "One layer for each object, and the background.")]
