"""What diffusers does to the networks of a pipeline reaches those of the pipelines in it."""

import copy

import pytest
import torch
from diffusers import DiffusionPipeline

from amodal_diffusion import AmodalPipeline, ContentPipeline, ScenePipeline, SDAmodalPipeline
from content_helpers import tiny_content
from diffusion_helpers import tiny_mask_decoder, tiny_stable_diffusion
from pipeline_helpers import tiny_pipeline

KINDS = ("enable_", "disable_", "set_", "remove_", "reset_", "maybe_free_")
METHODS = [name for name, value in vars(DiffusionPipeline).items() if name.startswith(KINDS) and callable(value)]
ARGUMENTS = {"set_attention_slice": (1,), "set_use_memory_efficient_attention_xformers": (True,)}


@pytest.fixture(scope="module")
def inpainter():
    return tiny_stable_diffusion()


def leaves(pipeline):
    """The pipelines that hold the networks."""
    inner = getattr(pipeline, "pipelines", None)
    return [leaf for part in inner for leaf in leaves(part)] if inner else [pipeline]


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


def dtypes(pipeline):
    networks = [value for value in pipeline.components.values() if isinstance(value, torch.nn.Module)]
    return {network.dtype for network in networks}


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
@pytest.mark.parametrize(
    "make",
    [
        lambda options: (mine := tiny_pipeline(), AmodalPipeline.from_pipe(mine, mask_threshold=0.3, **options)),
        lambda options: (mine := tiny_content(), ContentPipeline.from_pipe(mine, **options)),
        lambda options: (mine := tiny_stable_diffusion(), ContentPipeline.from_pipe(mine, **options)),
        lambda options: (
            mine := tiny_stable_diffusion(),
            SDAmodalPipeline.from_pipe(mine, decoder=tiny_mask_decoder(), **options),
        ),
        lambda options: (
            mine := ScenePipeline(tiny_pipeline(), tiny_content()),
            AmodalPipeline.from_pipe(mine, **options),
        ),
    ],
)
def test_a_dtype_goes_for_what_two_pipelines_share(make, name):
    """As in diffusers the networks are converted where they are; without a dtype they stay as they are."""
    first, second = make({name: torch.bfloat16})
    for leaf in (leaf for pipeline in (first, second) for leaf in leaves(pipeline)):
        assert dtypes(leaf) == {torch.bfloat16}
    first, second = make({})
    assert all(dtypes(leaf) == {torch.float32} for leaf in leaves(second))
    twin = type(second).from_pipe(copy.deepcopy(second), **{name: torch.bfloat16})
    assert all(dtypes(leaf) == {torch.bfloat16} for leaf in leaves(twin))
    assert all(dtypes(leaf) == {torch.float32} for leaf in (*leaves(first), *leaves(second)))
    with pytest.raises(TypeError, match="`dtype` must be a torch.dtype, got 'bf16'"):
        make({name: "bf16"})
    with pytest.raises(ValueError, match="`dtype` must be given by this name or as `torch_dtype`, got both"):
        make({"dtype": torch.bfloat16, "torch_dtype": torch.bfloat16})
