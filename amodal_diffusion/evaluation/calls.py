"""Calls of mask pipelines over whole data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..masks import IntArray, TileStack, tight_tile
from ..pipelines import AmodalPipeline, AmodalPipelineOutput, MaskPipeline
from ..pipelines.contexts import warnings_silenced


def load_pipeline(
    name: str,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    runtime: str = "torch",
) -> MaskPipeline:
    """Load a mask pipeline from a folder or the Hub for a run over many photos, see `SafePipeline.prepare`.

    Raises:
        OSError, ValueError: as `AmodalPipeline.from_pretrained` says.
        ValueError: a pipeline that completes no masks.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from amodal_diffusion import AmodalVAE, AmodalVAEPipeline
        >>> pipe = AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=2, block_out_channels=(2, 4)))
        >>> with TemporaryDirectory() as folder:
        ...     pipe.save_pretrained(folder)
        ...     type(load_pipeline(folder)).__name__
        'AmodalVAEPipeline'
    """
    pipeline = AmodalPipeline.from_pretrained(name, dtype=dtype, runtime=runtime)
    if not isinstance(pipeline, MaskPipeline):
        raise ValueError(f"'{name}' holds `{type(pipeline).__name__}`, which completes no masks.")
    return pipeline.prepare(device)


def call_pipeline(
    pipeline: MaskPipeline,
    image: Image.Image | None,
    masks: np.ndarray,
    category_ids: Sequence[int | None],
    *,
    names: Sequence[str | None] | None = None,
    alone: bool = False,
    is_crowd: Sequence[bool] | None = None,
    output_type: str = "np",
    **call_options: Any,
) -> AmodalPipelineOutput:
    """Call a mask pipeline on one photo.

    Args:
        pipeline: a pipeline of this package.
        image: the photo, or None for a network that needs none.
        masks: (N, H, W) bool modal masks.
        category_ids: N ids, None where unknown, which becomes the `unknown_category_id` of the pipeline.
        names: N names of what the objects are, used in place of the ids where the pipeline knows `categories` by name.
        alone: every object is completed as if it had been given alone: a pipeline that takes occluders from the other
            masks of a call (`sees_neighbours`, or diverse samples) gets one scene an object, and no order comes back.
        is_crowd: N flags: a crowd is seen as what it is, something that may hide others, and is not completed itself:
            its amodal mask and its samples are the modal mask.
        output_type: of the call; numpy arrays where the objects are completed in scenes of their own.
        call_options: further keyword arguments of the call.

    Raises:
        TypeError: naming an option that the pipeline's call does not take.
        ValueError: a known id below 1 for a class-conditioned network.
        ValueError, TypeError: as the pipeline says.

    Example:
        >>> from amodal_diffusion import AmodalVAE, AmodalVAEPipeline
        >>> pipe = AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=2, block_out_channels=(2, 4)))
        >>> call_pipeline(pipe, None, np.ones((2, 8, 8), bool), [None, None]).amodal_masks.shape
        (2, 8, 8)
    """
    sees_others = pipeline.sees_neighbours or call_options.get("sample_choice") == "diverse"
    apart = alone and sees_others and len(masks) > 0
    ids = _categories(pipeline, category_ids, names)
    call_options["category_ids"] = [ids[one : one + 1] for one in range(len(ids))] if apart else ids
    if not apart:
        output: AmodalPipelineOutput = pipeline(image, masks, output_type=output_type, **call_options)
        output = replace(output, order=None) if alone else output
        return output if is_crowd is None else _with_crowds(output, masks, is_crowd)
    with warnings_silenced():
        scenes = pipeline([image] * len(masks), list(masks[:, None]), output_type="np", **call_options)
    output = AmodalPipelineOutput(
        amodal_masks=np.concatenate(scenes.amodal_masks),
        probabilities=np.concatenate(scenes.probabilities),
        uncertainty=None if scenes.uncertainty is None else np.concatenate(scenes.uncertainty),
        occluder_masks=None if scenes.occluder_masks is None else np.concatenate(scenes.occluder_masks),
        samples=None if scenes.samples is None else np.concatenate(scenes.samples),
        sample_scores=None if scenes.sample_scores is None else np.concatenate(scenes.sample_scores),
    )
    return output if is_crowd is None else _with_crowds(output, masks, is_crowd)


def call_scenes(
    pipeline: MaskPipeline,
    images: Sequence[Image.Image | None] | None,
    masks: Sequence[np.ndarray],
    category_ids: Sequence[Sequence[int | None]],
    *,
    is_crowd: Sequence[Sequence[bool]],
    names: Sequence[Sequence[str | None]] | None = None,
    output_type: str = "np",
    **call_options: Any,
) -> list[AmodalPipelineOutput]:
    """Call a mask pipeline on several photos, whose objects go through its networks together.

    Args:
        pipeline: a pipeline of this package.
        images: the photos, or None for a network that needs none.
        masks: for each photo (N, H, W) bool modal masks.
        category_ids: see `call_pipeline`, for each photo.
        is_crowd: see `call_pipeline`, for each photo.
        names: see `call_pipeline`, for each photo.
        output_type: of the call.
        call_options: further keyword arguments of the call, the same for all photos.

    Returns:
        What `call_pipeline` gives for each photo.

    Raises:
        TypeError, ValueError: as `call_pipeline`; of which photo, the message need not say.

    Example:
        >>> from amodal_diffusion import AmodalVAE, AmodalVAEPipeline
        >>> pipe = AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=2, block_out_channels=(2, 4)))
        >>> masks = [np.ones((2, 8, 8), bool), np.ones((1, 4, 6), bool)]
        >>> [out.amodal_masks.shape for out in call_scenes(pipe, None, masks, [[1, 1], [None]], is_crowd=[[0, 0], [0]])]
        [(2, 8, 8), (1, 4, 6)]
    """
    called = [None] * len(category_ids) if names is None else names
    ids = [_categories(pipeline, some, those) for some, those in zip(category_ids, called, strict=True)]
    if images is not None:
        images = list(images)
    output = pipeline(images, list(masks), category_ids=ids, output_type=output_type, **call_options)
    columns = {field.name: getattr(output, field.name) for field in fields(output)}
    scenes = []
    for index, (stack, crowd) in enumerate(zip(masks, is_crowd, strict=True)):
        values: dict[str, Any] = {name: None if column is None else column[index] for name, column in columns.items()}
        scenes.append(_with_crowds(type(output)(**values), stack, crowd))
    return scenes


def _categories(
    pipeline: MaskPipeline, category_ids: Sequence[int | None], names: Sequence[str | None] | None
) -> IntArray | list[str | None]:
    """What the pipeline is told of the categories of N objects: names where it knows any, else ids of a data set."""
    if getattr(pipeline, "categories", ()):  # which a pipeline of others need not have
        return list(names or [None] * len(category_ids))
    conditioned = getattr(pipeline, "class_conditioned", False)
    return category_id_array(category_ids, pipeline.unknown_category_id, conditioned=conditioned)


def _with_crowds(output: AmodalPipelineOutput, masks: np.ndarray, is_crowd: Sequence[bool]) -> AmodalPipelineOutput:
    crowds = np.flatnonzero(np.asarray(is_crowd, bool))
    if not len(crowds):
        return output
    samples = None if output.samples is None else _replaced(output.samples, masks, crowds)
    return replace(output, amodal_masks=_replaced(output.amodal_masks, masks, crowds), samples=samples)


def _replaced(planes: np.ndarray | TileStack, masks: np.ndarray, rows: IntArray) -> Any:
    """Planes (N, ..., H, W) with the masks (N, H, W) in place of some."""
    if not isinstance(planes, TileStack):
        planes = planes.copy()
        for row in rows:
            planes[row] = masks[row]
        return planes
    tiles, boxes = list(planes.tiles), planes.boxes.copy()
    for row in rows:
        tile, boxes[row] = tight_tile(masks[row])
        tiles[row] = np.broadcast_to(tile, (*planes.shape[1:-2], *tile.shape)).astype(planes.dtype)
    height, width = planes.shape[-2:]
    return TileStack(tiles, boxes, height=height, width=width)


def category_id_array(category_ids: Sequence[int | None], unknown: int, *, conditioned: bool) -> IntArray:
    """The ids of N objects as a pipeline takes them.

    Args:
        category_ids: N ids, None where unknown.
        unknown: the id in place of None.
        conditioned: a network looks at them, and knows ids from 1 alone: it multiplies the mask by the id, or takes 0
            for an unknown class.

    Returns:
        (N,) int64.

    Raises:
        ValueError: an id below 1 where a network looks at it.

    Example:
        >>> category_id_array([0, None, 7], 1, conditioned=False)
        array([0, 1, 7])
    """
    known = [value for value in category_ids if value is not None]
    if conditioned and known and min(known) < 1:
        raise ValueError(
            f"`category_ids` must be at least 1 for a class-conditioned network, got {min(known)}: raise the ids of "
            "the data by one if the network was trained so, or leave them out."
        )
    return np.array([unknown if value is None else value for value in category_ids], np.int64)
