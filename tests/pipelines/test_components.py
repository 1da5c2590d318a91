"""Components, settings and options that are none: every pipeline names them, where it is made, loaded or saved."""

import pytest
import torch

from amodal_diffusion import (
    AmodalPipeline,
    AmodalVAE,
    AmodalVAEPipeline,
    ASBUPipeline,
    ASBUPredictor,
    ClickSegmenter,
    ClickSegmenterPipeline,
    ContentPipeline,
    OccAmodalPipeline,
    OrderNetPipeline,
    PCNetContent,
    PCNetMaskPipeline,
    PhotoPCNetMaskPipeline,
    ScenePipeline,
    SDAmodalPipeline,
    SingleStagePipeline,
)
from photo_helpers import tiny_order_net, tiny_photo_pcnet, tiny_predictor
from pipeline_helpers import crossing_bars, tiny_model, tiny_pipeline

NETWORKS = {
    "PCNetMaskPipeline": (PCNetMaskPipeline, {"model": tiny_model}),
    "ASBUPipeline": (ASBUPipeline, {"model": lambda: ASBUPredictor((4, 8), sample_size=16)}),
    "AmodalVAEPipeline": (
        AmodalVAEPipeline,
        {"model": lambda: AmodalVAE(sample_size=16, latent_channels=2, block_out_channels=(2, 4))},
    ),
    "OccAmodalPipeline": (
        OccAmodalPipeline,
        {"occluder_predictor": lambda: tiny_predictor(1), "amodal_predictor": lambda: tiny_predictor(2)},
    ),
    "SingleStagePipeline": (SingleStagePipeline, {"model": lambda: tiny_predictor(1)}),
    "PhotoPCNetMaskPipeline": (
        PhotoPCNetMaskPipeline,
        {"model": lambda: tiny_photo_pcnet().model, "order_model": tiny_model, "mask_model": tiny_model},
    ),
    "OrderNetPipeline": (OrderNetPipeline, {"model": tiny_order_net}),
    "ClickSegmenterPipeline": (ClickSegmenterPipeline, {"model": lambda: ClickSegmenter((4,) * 5, 4, 32)}),
    "ContentPipeline": (ContentPipeline, {"model": lambda: PCNetContent((4, 4), sample_size=32)}),
}
OPTIONAL = {"amodal_predictor", "order_model", "mask_model"}
CASES = [(name, component) for name, (_, components) in NETWORKS.items() for component in components]


@pytest.mark.parametrize(("name", "component"), CASES)
@pytest.mark.parametrize("given", [None, "model", torch.nn.Linear(2, 2), PCNetContent((4, 4), sample_size=32)])
def test_networks_of_another_kind(name, component, given):
    cls, components = NETWORKS[name]
    if name == "ContentPipeline" and (given is None or isinstance(given, PCNetContent)):
        pytest.skip("it takes that")
    networks = {key: make() for key, make in components.items()}
    if given is None and component in OPTIONAL:
        assert cls(**{**networks, component: None}).components[component] is None
        return
    with pytest.raises(TypeError, match=f"^`{component}` must be of "):
        cls(**{**networks, component: given})


def test_a_decoder_of_another_kind():
    with pytest.raises(TypeError, match="`decoder` must be of SDAmodalDecoder, got None"):
        SDAmodalPipeline(None, None, None, None, None, None)


def test_a_network_that_torch_compiles_is_of_its_kind():
    assert PCNetMaskPipeline(torch.compile(tiny_model())).model.config.sample_size == 32


def test_from_a_folder_and_from_another_pipeline(tmp_path):
    pipe = tiny_pipeline()
    pipe.save_pretrained(tmp_path)
    for load in (AmodalPipeline.from_pretrained, PCNetMaskPipeline.from_pretrained):
        with pytest.raises(TypeError, match="`model` must be of PCNetMask, got None"):
            load(tmp_path, model=None)
    with pytest.raises(TypeError, match="`model` must be of PCNetMask, got None"):
        AmodalPipeline.from_pipe(pipe, model=None)


FLAGS = {
    "PCNetMaskPipeline": ("keep_modal", "confine_to_occluders", "test_time_flip"),
    "ASBUPipeline": ("keep_modal", "confine_to_occluders", "test_time_flip"),
    "OccAmodalPipeline": ("keep_modal", "confine_to_occluders", "test_time_flip"),
    "SingleStagePipeline": ("keep_modal", "test_time_flip"),
    "PhotoPCNetMaskPipeline": ("keep_modal", "test_time_flip"),
    "ClickSegmenterPipeline": ("keep_pointed_at",),
}


@pytest.mark.parametrize(("name", "flag"), [(name, flag) for name, flags in FLAGS.items() for flag in flags])
def test_settings_that_are_flags(name, flag):
    cls, components = NETWORKS[name]
    networks = {key: make() for key, make in components.items()}
    with pytest.raises(TypeError, match=f"`{flag}` must be True or False, got 'no'"):
        cls(**networks, **{flag: "no"})


@pytest.mark.parametrize("make", [tiny_pipeline, tiny_photo_pcnet])
def test_options_that_are_flags(make):
    masks, _ = crossing_bars()
    pipe = make()
    photo = torch.zeros(3, *masks.shape[1:])
    with pytest.raises(TypeError, match="`return_order` must be True or False, got 'no'"):
        pipe(photo, masks, return_order="no")
    assert pipe(photo, masks, return_order=False).amodal_masks.shape == masks.shape


WRONG_VARIANTS = [(3, TypeError), ("", ValueError), ("../x", ValueError), ("a b", ValueError)]


@pytest.mark.parametrize(("variant", "error"), WRONG_VARIANTS)
@pytest.mark.parametrize("is_scene", [False, True])
def test_variants_that_are_none(tmp_path, variant, error, is_scene):
    pipe = ScenePipeline(tiny_pipeline(), ContentPipeline(filler="smooth")) if is_scene else tiny_pipeline()
    with pytest.raises(error, match="`variant` must be "):
        pipe.save_pretrained(tmp_path / "new", variant=variant)
    assert not (tmp_path / "new").exists()
    pipe.save_pretrained(tmp_path / "kept")
    with pytest.raises(error, match="`variant` must be "):
        type(pipe).from_pretrained(tmp_path / "kept", variant=variant)


@pytest.mark.parametrize("is_scene", [False, True])
def test_an_option_of_saving_that_is_none(tmp_path, is_scene):
    pipe = ScenePipeline(tiny_pipeline(), ContentPipeline(filler="smooth")) if is_scene else tiny_pipeline()
    with pytest.raises(TypeError, match="save_pretrained takes no `varient`; its options are variant, max_shard_size"):
        pipe.save_pretrained(tmp_path / "new", varient="fp16")
    assert not (tmp_path / "new").exists()
    # As training scripts of diffusers have it: what is for the Hub does nothing where it is not wanted.
    pipe.save_pretrained(tmp_path / "new", push_to_hub=False, repo_id="me/mine", token=None, private=True)
    assert (tmp_path / "new" / "model_index.json").is_file()
