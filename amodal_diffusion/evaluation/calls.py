"""Calls of mask pipelines over whole data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..pipelines import AmodalPipeline, AmodalPipelineOutput, MaskPipeline
from ..pipelines.contexts import warnings_silenced


def load_pipeline(name: str, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> MaskPipeline:
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
    pipeline = AmodalPipeline.from_pretrained(name, dtype=dtype)
    if not isinstance(pipeline, MaskPipeline):
        raise ValueError(f"'{name}' holds `{type(pipeline).__name__}`, which completes no masks.")
    return pipeline.prepare(device)


def call_pipeline(
    pipeline: MaskPipeline,
    image: Image.Image | None,
    masks: np.ndarray,
    category_ids: Sequence[int],
    *,
    alone: bool = False,
    output_type: str = "np",
    **call_options: Any,
) -> AmodalPipelineOutput:
    """Call a mask pipeline on one photo.

    Args:
        pipeline: a pipeline of this package.
        image: the photo, or None for a network that needs none.
        masks: (N, H, W) bool modal masks.
        category_ids: N ids, 0 where unknown, which becomes the `unknown_category_id` of the pipeline.
        alone: every object is completed as if it had been given alone: a pipeline that takes occluders from the other
            masks of a call (`needs_occluders`) gets one scene an object, and no order comes back.
        output_type: of the call; numpy arrays where the objects are completed in scenes of their own.
        call_options: further keyword arguments of the call.

    Raises:
        TypeError: naming an option that the pipeline's call does not take.
        ValueError, TypeError: as the pipeline says.

    Example:
        >>> from amodal_diffusion import AmodalVAE, AmodalVAEPipeline
        >>> pipe = AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=2, block_out_channels=(2, 4)))
        >>> call_pipeline(pipe, None, np.ones((2, 8, 8), bool), [0, 0]).amodal_masks.shape
        (2, 8, 8)
    """
    apart = alone and pipeline.needs_occluders and len(masks) > 0
    ids = np.asarray(category_ids, np.int64)
    ids = np.where(ids < 1, pipeline.unknown_category_id, ids)
    call_options["category_ids"] = list(ids[:, None]) if apart else ids
    if not apart:
        output: AmodalPipelineOutput = pipeline(image, masks, output_type=output_type, **call_options)
        return replace(output, order=None) if alone else output
    with warnings_silenced():
        scenes = pipeline([image] * len(masks), list(masks[:, None]), output_type="np", **call_options)
    return AmodalPipelineOutput(
        amodal_masks=np.concatenate(scenes.amodal_masks),
        probabilities=np.concatenate(scenes.probabilities),
        uncertainty=None if scenes.uncertainty is None else np.concatenate(scenes.uncertainty),
        occluder_masks=None if scenes.occluder_masks is None else np.concatenate(scenes.occluder_masks),
        samples=None if scenes.samples is None else np.concatenate(scenes.samples),
        sample_scores=None if scenes.sample_scores is None else np.concatenate(scenes.sample_scores),
    )
