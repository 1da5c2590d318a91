"""What diffusers does to the networks of a pipeline reaches those of the pipelines in it."""

import pytest
import torch
from diffusers import DiffusionPipeline

from amodal_diffusion import ContentPipeline, ScenePipeline
from content_helpers import tiny_content
from diffusion_helpers import tiny_stable_diffusion
from pipeline_helpers import tiny_pipeline

KINDS = ("enable_", "disable_", "set_", "remove_", "reset_", "maybe_free_")
METHODS = [name for name, value in vars(DiffusionPipeline).items() if name.startswith(KINDS) and callable(value)]
ARGUMENTS = {"set_attention_slice": (1,), "set_use_memory_efficient_attention_xformers": (True,)}


@pytest.fixture(scope="module")
def inpainter():
    return tiny_stable_diffusion()


def leaves(pipeline):
    return [leaf for part in pipeline.pipelines for leaf in (getattr(part, "pipelines", None) or [part])]


@pytest.mark.parametrize("name", METHODS)
def test_every_such_method_of_diffusers(inpainter, name, monkeypatch):
    reached = []
    inner = ContentPipeline(inpainter=inpainter, inpainter_size=64)
    scene = ScenePipeline(tiny_pipeline(), inner)
    assert len(leaves(scene)) == 2 and leaves(scene)[1] is inner.inpainter
    for leaf in leaves(scene):
        for method in METHODS:
            monkeypatch.setattr(leaf, method, lambda *args, leaf=leaf, **options: reached.append(leaf))
    getattr(scene, name)(*ARGUMENTS.get(name, ()))
    assert all(any(leaf is one for one in reached) for leaf in leaves(scene))


@pytest.mark.parametrize("way", ["enable_model_cpu_offload", "enable_sequential_cpu_offload"])
@pytest.mark.parametrize("painter", ["model", "inpainter"])
def test_hooks_come_and_go(inpainter, way, painter):
    own = painter == "model"
    scene = ScenePipeline(tiny_pipeline(), tiny_content() if own else ContentPipeline(inpainter=inpainter))
    content = scene.content_pipeline
    networks = [scene.mask_pipeline.model, content.model if own else content.inpainter.unet]

    def hooked():
        return [any(hasattr(part, "_hf_hook") for part in network.modules()) for network in networks]

    getattr(scene, way)(device="cpu")
    assert hooked() == [True, True]
    scene.remove_all_hooks()
    assert hooked() == [False, False]
    if way == "enable_model_cpu_offload":
        scene.to(torch.device("cpu"))
        scene.enable_model_cpu_offload(device="cpu")
        scene.maybe_free_model_hooks()
        assert hooked() == [True, True]
        scene.remove_all_hooks()
