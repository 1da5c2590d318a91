"""Offloading in groups of layers, and changes of dtype, by every pipeline of the package."""

import logging

import numpy as np
import pytest
import torch

from amodal_diffusion import (
    AmodalVAE,
    AmodalVAEPipeline,
    ASBUPipeline,
    ASBUPredictor,
    ClickSegmenter,
    ClickSegmenterPipeline,
    ContentPipeline,
    ModelMixin,
    OrderNetPipeline,
    ScenePipeline,
    SingleStagePipeline,
)
from content_helpers import tiny_content
from diffusion_helpers import photo, tiny_inpainting, tiny_sdamodal
from photo_helpers import tiny_occamodal, tiny_order_net, tiny_predictor
from pipeline_helpers import crossing_bars, tiny_pipeline

MODAL, AMODAL = crossing_bars()
PHOTO = photo(1, 60, 80)


def asbu():
    return ASBUPipeline(ASBUPredictor(block_out_channels=(4, 8, 8), sample_size=32).eval())


def amodal_vae():
    return AmodalVAEPipeline(AmodalVAE(sample_size=32, latent_channels=4, block_out_channels=(4, 8)).eval())


def inpainting():
    return ContentPipeline(inpainter=tiny_inpainting(), inpainter_size=64)


def clicks():
    model = ClickSegmenter((4, 4, 4, 8, 8), embedding_channels=4, sample_size=32).eval()
    return ClickSegmenterPipeline(model, side=64, crop_side=32)


def mask_of(pipeline):
    return pipeline.click(PHOTO, (30, 20))


def masks_of(pipeline):
    return pipeline(PHOTO, MODAL, output_type="np").probabilities


def contents_of(pipeline):
    options = {} if pipeline.inpainter is None else {"inpainter_kwargs": {"num_inference_steps": 2}}
    generator = None if pipeline.inpainter is None else torch.Generator().manual_seed(0)
    return pipeline(PHOTO, MODAL, AMODAL, generator=generator, **options).objects[0]


def scene_of(pipeline):
    return np.asarray(pipeline(PHOTO, MODAL).remove(1).render())


PIPELINES = {
    "AmodalVAEPipeline": (amodal_vae, masks_of),
    "ASBUPipeline": (asbu, masks_of),
    "ClickSegmenterPipeline": (clicks, mask_of),
    "ContentPipeline": (tiny_content, contents_of),
    "ContentPipeline, inpainter": (inpainting, contents_of),
    "OccAmodalPipeline": (tiny_occamodal, masks_of),
    "OrderNetPipeline": (
        lambda: OrderNetPipeline(tiny_order_net()), lambda pipeline: pipeline(PHOTO, MODAL).probabilities
    ),
    "PCNetMaskPipeline": (tiny_pipeline, masks_of),
    "ScenePipeline": (lambda: ScenePipeline(tiny_pipeline(), tiny_content()), scene_of),
    "SDAmodalPipeline": (tiny_sdamodal, masks_of),
    "SingleStagePipeline": (lambda: SingleStagePipeline(tiny_predictor(1)), masks_of),
}  # fmt: skip


def make(name):
    torch.manual_seed(0)
    build, call = PIPELINES[name]
    pipeline = build()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, call


def networks_of(pipeline):
    """All networks below a pipeline, those of pipelines inside it too."""
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            yield component
        elif hasattr(component, "components"):
            yield from networks_of(component)


@pytest.mark.parametrize(
    "options", [{"offload_type": "block_level", "num_blocks_per_group": 1}, {"offload_type": "leaf_level"}], ids=str
)
@pytest.mark.parametrize("name", PIPELINES)
def test_answers_the_same_offloaded_in_groups(name, options):
    pipeline, call = make(name)
    expected = call(pipeline)
    pipeline.enable_group_offload(torch.device("cpu"), **options)
    assert any(hasattr(module, "_diffusers_hook") for net in networks_of(pipeline) for module in net.modules())
    np.testing.assert_array_equal(call(pipeline), expected)


@pytest.mark.parametrize("name", PIPELINES)
def test_changes_its_dtype_without_a_warning(name, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    pipeline, _ = make(name)
    pipeline.to(torch.bfloat16)
    assert {network.dtype for network in networks_of(pipeline) if isinstance(network, ModelMixin)} == {torch.bfloat16}
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
