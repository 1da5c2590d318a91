"""What every network must do: change its dtype without a word, and be offloaded in groups."""

import logging

import pytest
import torch

import amodal_diffusion.models
from amodal_diffusion import (
    AmodalVAE,
    ASBUPredictor,
    ClickSegmenter,
    EfficientNetLite0,
    ModelMixin,
    OccAmodalPredictor,
    OrderNet,
    PCNetContent,
    PCNetContentDiscriminator,
    PCNetMask,
    PhotoPCNetMask,
    PromptEmbedding,
    SDAmodalDecoder,
    ThingNet,
)

WIDTHS = {"block_out_channels": (4, 8, 8), "sample_size": 32}
RESNET = {"image_hidden_sizes": (4, 8), "image_depths": (1, 1), "image_embedding_size": 4, "image_feature_stages": (2,)}


def plane(channels=1):
    return torch.rand(2, channels, 32, 32, generator=torch.Generator().manual_seed(channels)).round()


NETWORKS = {
    "AmodalVAE": (lambda: AmodalVAE(sample_size=32, latent_channels=4, block_out_channels=(4, 8)), lambda: (plane(),)),
    "ASBUPredictor": (lambda: ASBUPredictor(**WIDTHS), lambda: (plane(), plane())),
    "ClickSegmenter": (
        lambda: ClickSegmenter((4, 4, 4, 8, 8), embedding_channels=4, sample_size=32), lambda: (plane(4), plane(3))
    ),
    "EfficientNetLite0": (lambda: EfficientNetLite0(num_classes=3), lambda: (plane(3),)),
    "OccAmodalPredictor": (
        lambda: OccAmodalPredictor(2, reduced_channels=4, **WIDTHS, **RESNET), lambda: (plane(), plane(3), plane())
    ),
    "OrderNet": (
        lambda: OrderNet(hidden_sizes=(4, 8), depths=(1, 1), embedding_size=4, sample_size=32, layer_type="basic"),
        lambda: (plane(), plane(), plane(3)),
    ),
    "PCNetContent": (lambda: PCNetContent(**WIDTHS), lambda: (plane(3), plane(), plane())),
    "PCNetContentDiscriminator": (lambda: PCNetContentDiscriminator((4, 4, 4, 4)), lambda: (plane(3), plane())),
    "PCNetMask": (lambda: PCNetMask(**WIDTHS), lambda: (plane(), plane())),
    "PhotoPCNetMask": (
        lambda: PhotoPCNetMask(reduced_channels=4, **WIDTHS), lambda: (plane(), plane(), plane(), plane(3))
    ),
    "PromptEmbedding": (lambda: PromptEmbedding(3, 4), lambda: ()),
    "SDAmodalDecoder": (
        lambda: SDAmodalDecoder(feature_channels=(4, 8), feature_sizes=(8, 16), reduced_channels=4, **WIDTHS),
        lambda: (plane(), (plane(4), plane(8))),
    ),
    "ThingNet": (lambda: ThingNet(decoder_channels=4, sample_size=32), lambda: (plane(3),)),
}  # fmt: skip


def make(name):
    torch.manual_seed(0)
    build, inputs = NETWORKS[name]
    return build().eval(), inputs()


def first_tensor(output):
    return output if isinstance(output, torch.Tensor) else output[0]


def test_every_network_is_here():
    exported = {name for name in amodal_diffusion.models.__all__ if _is_network(getattr(amodal_diffusion.models, name))}
    assert exported == set(NETWORKS)


def _is_network(value):
    return isinstance(value, type) and issubclass(value, ModelMixin)


@pytest.fixture
def messages():
    """What diffusers logs from warnings on."""
    found = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())
    logging.getLogger("diffusers").addHandler(handler)
    yield found
    logging.getLogger("diffusers").removeHandler(handler)


@pytest.mark.parametrize("name", NETWORKS)
def test_changes_its_dtype_without_a_warning(name, messages, tmp_path):
    model, _ = make(name)
    assert model.to(torch.bfloat16).dtype == model.to("cpu", torch.float32).to(dtype=torch.bfloat16).dtype
    model.save_pretrained(tmp_path)
    assert type(model).from_pretrained(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert messages == []


def test_a_warning_that_names_modules_is_kept(messages):
    class Sensitive(PCNetMask):
        _keep_in_fp32_modules = ["conv_out"]

    Sensitive(**WIDTHS).to(torch.bfloat16)
    assert len(messages) == 1 and "['conv_out']" in messages[0]


@pytest.mark.parametrize("options", [
    {"offload_type": "block_level", "num_blocks_per_group": 1},
    {"offload_type": "block_level", "num_blocks_per_group": 2},
    {"offload_type": "leaf_level"},
], ids=lambda options: "-".join(map(str, options.values())))  # fmt: skip
@pytest.mark.parametrize("name", NETWORKS)
def test_computes_the_same_offloaded_in_groups(name, options, tmp_path):
    model, inputs = make(name)
    with torch.no_grad():
        expected = first_tensor(model(*inputs))
        # Offloaded weights are not a number until they are onloaded from the disk: what no hook onloads would show.
        model.enable_group_offload(torch.device("cpu"), offload_to_disk_path=str(tmp_path), **options)
        for _ in range(2):
            for value in (*model.parameters(), *model.buffers()):
                value.data.fill_(float("nan") if value.is_floating_point() else 0)
            # The last bit may differ with where a tensor lies in memory.
            torch.testing.assert_close(first_tensor(model(*inputs)), expected, rtol=1e-5, atol=1e-6)
