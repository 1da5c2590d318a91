"""SDAmodal's pipeline saved, loaded, and refused: with Stable Diffusion in the folder, and with its id alone."""

import json
import shutil

import numpy as np
import pytest
import torch

from amodal_diffusion import AmodalPipeline, ImageFeatures, PromptEmbedding, SDAmodalPipeline
from diffusion_helpers import (
    RESOLUTION,
    count_passes,
    photo,
    tiny_components,
    tiny_mask_decoder,
    tiny_sdamodal,
    tiny_stable_diffusion,
    tiny_unet,
)
from fresh_process import run_fresh
from pipeline_helpers import crossing_bars

NAMES = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
NOTHING = dict.fromkeys(NAMES)
SIZE = (60, 80)
SETTINGS = {
    "mask_threshold": 0.4,
    "enlarge_box": 2.5,
    "crop": "bilinear",
    "feature_crop": "align",
    "paste": "binary",
    "keep_modal": False,
    "time_step": 101,
    "num_draws": 2,
    "noise_seed": 3,
    "resolution": RESOLUTION,
    "up_blocks": "0,1,2,3",
    "draw_batch_size": 1,
}


@pytest.fixture(scope="module")
def pipeline():
    return tiny_sdamodal(**SETTINGS)


@pytest.fixture(scope="module")
def scene():
    return photo(0, *SIZE), crossing_bars(*SIZE)[0]


@pytest.fixture(scope="module")
def expected(pipeline, scene):
    return pipeline(*scene)


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory):
    """A folder with Stable Diffusion, as diffusers saves it."""
    folder = tmp_path_factory.mktemp("stable-diffusion")
    tiny_stable_diffusion().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def full(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def light(pipeline, stable_diffusion, tmp_path_factory):
    folder = tmp_path_factory.mktemp("light")
    settings = {**SETTINGS, "stable_diffusion": str(stable_diffusion)}
    SDAmodalPipeline(**NOTHING, decoder=pipeline.decoder, **settings).save_pretrained(folder)
    return folder


def check(loaded, scene, expected):
    assert type(loaded) is SDAmodalPipeline and not loaded.decoder.training
    loaded.set_progress_bar_config(disable=True)
    np.testing.assert_allclose(loaded(*scene).probabilities, expected.probabilities, atol=1e-6)


def folders(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def index_of(folder):
    return json.loads((folder / "model_index.json").read_text(encoding="utf-8"))


# With Stable Diffusion


def test_index_and_folders(full):
    assert folders(full) == sorted([*NAMES, "decoder"])
    index = index_of(full)
    assert index.pop("_diffusers_version") and index.pop("_class_name") == ["pipeline", "SDAmodalPipeline"]
    assert {name: index.pop(name) for name in SETTINGS} == SETTINGS
    assert index == {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "decoder": ["amodal_diffusion", "SDAmodalDecoder"],
        "prompt_embedding": [None, None],
        "stable_diffusion": None,
    }


@pytest.mark.parametrize("loader", [AmodalPipeline, SDAmodalPipeline])
def test_load(full, scene, expected, loader, caplog):
    loaded = loader.from_pretrained(full)
    check(loaded, scene, expected)
    assert {name: loaded.config[name] for name in SETTINGS} == SETTINGS
    assert not [record for record in caplog.records if "Expected types" in record.message]


def test_settings_and_components_can_be_replaced(full):
    decoder, unet = tiny_mask_decoder(seed=8), tiny_unet(seed=8)
    loaded = AmodalPipeline.from_pretrained(full, num_draws=5, decoder=decoder, unet=unet)
    assert loaded.config.num_draws == 5 and loaded.decoder is decoder and loaded.unet is unet


def test_dtype(full):
    loaded = AmodalPipeline.from_pretrained(full, dtype=torch.bfloat16)
    assert {loaded.unet.dtype, loaded.vae.dtype, loaded.text_encoder.dtype, loaded.decoder.dtype} == {torch.bfloat16}


def test_dropped_text_encoder_is_not_in_the_folder(scene, expected, tmp_path):
    pipeline = tiny_sdamodal(**SETTINGS)
    pipeline.drop_text_encoder()
    pipeline.save_pretrained(tmp_path)
    assert folders(tmp_path) == ["decoder", "prompt_embedding", "scheduler", "unet", "vae"]
    assert index_of(tmp_path)["prompt_embedding"] == ["amodal_diffusion", "PromptEmbedding"]
    loaded = AmodalPipeline.from_pretrained(tmp_path)
    assert loaded.text_encoder is None and type(loaded.prompt_embedding) is PromptEmbedding
    check(loaded, scene, expected)


# Without


def test_light_folder_holds_the_decoder_alone(light, stable_diffusion):
    assert folders(light) == ["decoder"]
    index = index_of(light)
    assert index["stable_diffusion"] == str(stable_diffusion)
    assert all(index[name] == [None, None] for name in NAMES)


def test_light_folder_loads_from_where_it_says(light, scene, expected, tmp_path):
    loaded = AmodalPipeline.from_pretrained(light)
    check(loaded, scene, expected)
    loaded.save_pretrained(tmp_path / "again")  # stays light
    assert folders(tmp_path / "again") == ["decoder"]
    check(AmodalPipeline.from_pretrained(tmp_path / "again"), scene, expected)
    loaded.save_pretrained(tmp_path / "full", include_stable_diffusion=True)
    assert folders(tmp_path / "full") == sorted([*NAMES, "decoder"])


def test_light_folder_with_the_embedding_needs_no_text_encoder(light, stable_diffusion, scene, expected, tmp_path):
    loaded = AmodalPipeline.from_pretrained(light)
    loaded.drop_text_encoder()
    loaded.save_pretrained(tmp_path / "light")
    assert folders(tmp_path / "light") == ["decoder", "prompt_embedding"]
    shutil.copytree(stable_diffusion, tmp_path / "sd")
    shutil.rmtree(tmp_path / "sd" / "text_encoder")
    again = AmodalPipeline.from_pretrained(tmp_path / "light", stable_diffusion=str(tmp_path / "sd"))
    assert again.text_encoder is None and again.tokenizer is None
    assert again.config.stable_diffusion == str(tmp_path / "sd")
    check(again, scene, expected)


def test_given_components_are_not_loaded(light, scene, expected):
    components = tiny_components()
    loaded = AmodalPipeline.from_pretrained(light, stable_diffusion="org/not-asked-for", **components)
    assert all(getattr(loaded, name) is components[name] for name in NAMES)
    check(loaded, scene, expected)


def test_dtype_of_light_folders(light):
    loaded = AmodalPipeline.from_pretrained(light, dtype=torch.bfloat16)
    assert {loaded.unet.dtype, loaded.vae.dtype, loaded.text_encoder.dtype, loaded.decoder.dtype} == {torch.bfloat16}
    mixed = AmodalPipeline.from_pretrained(light, dtype={"unet": torch.bfloat16, "default": torch.float32})
    assert mixed.unet.dtype == torch.bfloat16 and mixed.vae.dtype == mixed.decoder.dtype == torch.float32


def test_fresh_process(light, full, scene, expected, tmp_path):
    np.savez(tmp_path / "scene.npz", image=scene[0], modal=scene[1], expected=expected.probabilities)
    code = """
import sys
import numpy as np
from amodal_diffusion import AmodalPipeline
scene = np.load(sys.argv[1])
for folder in sys.argv[2:]:
    found = AmodalPipeline.from_pretrained(folder)(scene["image"], scene["modal"]).probabilities
    np.testing.assert_allclose(found, scene["expected"], atol=1e-5)
print("loaded twice")
"""
    assert "loaded twice" in run_fresh(code, tmp_path / "scene.npz", light, full, folder=tmp_path)


@pytest.mark.parametrize("kind", ["full", "light"])
def test_download_from_the_hub(kind, request, hub, scene, expected):  # noqa: F811 - the fixture
    hub.fill(request.getfixturevalue(kind))
    check(AmodalPipeline.from_pretrained("org/name", revision="v1"), scene, expected)


def test_what_would_not_load_again_is_not_saved(pipeline, tmp_path):
    alone = SDAmodalPipeline(**NOTHING, decoder=pipeline.decoder)
    with pytest.raises(ValueError, match="`include_stable_diffusion` must be False: the pipeline has no `unet`"):
        alone.save_pretrained(tmp_path / "out", include_stable_diffusion=True)
    with pytest.raises(ValueError, match="`include_stable_diffusion` may be False only where .*`stable_diffusion`"):
        pipeline.save_pretrained(tmp_path / "out", include_stable_diffusion=False)
    with pytest.raises(ValueError, match="`safe_serialization` must be True"):
        pipeline.save_pretrained(tmp_path / "out", safe_serialization=False)
    assert not (tmp_path / "out").exists()


def test_missing_stable_diffusion_is_named(light, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder '.*gone'"):
        AmodalPipeline.from_pretrained(light, stable_diffusion=str(tmp_path / "gone"))


# What is refused

WRONG_SETTINGS = {
    "threshold": ({"mask_threshold": 1.0}, ValueError, r"`mask_threshold` must lie in \[0, 1\), got 1.0"),
    "box": ({"enlarge_box": 0.5}, ValueError, "`enlarge_box` must lie in"),
    "crop": ({"crop": "cubic"}, ValueError, "`crop` must be one of 'nearest', 'bilinear'"),
    "feature crop": ({"feature_crop": "roi"}, ValueError, "`feature_crop` must be one of 'cells', 'align', got 'roi'"),
    "paste": ({"paste": "glue"}, ValueError, "`paste` must be one of"),
    "draws": ({"num_draws": 0}, ValueError, "`num_draws` must be at least 1"),
    "step": ({"time_step": 1000}, ValueError, r"`time_step` must lie in \[0, 1000\)"),
    "resolution": ({"resolution": 65}, ValueError, "`resolution` must be a multiple of 16"),
    "blocks": ({"up_blocks": "0;1"}, ValueError, "`up_blocks` must be indices with commas, .* got '0;1'"),
    "fewer blocks": (
        {"up_blocks": (0, 1)},
        ValueError,
        r"`decoder` was made for feature maps of \(16, 12, 8, 4\) chan",
    ),
    "batch": ({"draw_batch_size": 0}, ValueError, "`draw_batch_size` must be at least 1"),
    "source": (
        {"stable_diffusion": 3},
        TypeError,
        "`stable_diffusion` must be a Hub id or the path of a folder, got 3",
    ),
}


@pytest.mark.parametrize("case", WRONG_SETTINGS)
def test_wrong_settings(pipeline, case):
    settings, error, message = WRONG_SETTINGS[case]
    components = {name: getattr(pipeline, name) for name in NAMES}
    with pytest.raises(error, match=message):
        tiny_sdamodal(components, pipeline.decoder, **settings)


def test_wrong_components(pipeline):
    components = {name: getattr(pipeline, name) for name in NAMES}
    for name in ("vae", "scheduler", "text_encoder", "tokenizer"):
        with pytest.raises(ValueError, match=f"`{name}` is missing"):
            tiny_sdamodal({**components, name: None}, pipeline.decoder)
    with pytest.raises(ValueError, match="`decoder` must give 2 logits .* got 3"):
        tiny_sdamodal(components, tiny_mask_decoder(out_channels=3))
    with pytest.raises(ValueError, match=r"up blocks \(0, 1, 2, 3\) of `unet` give \(16, 12, 8, 8\)"):
        tiny_sdamodal({**components, "unet": tiny_unet(block_out_channels=(8, 8, 12, 16))}, pipeline.decoder)


def test_without_stable_diffusion_only_given_features_work(pipeline, scene, expected):
    alone = SDAmodalPipeline(**NOTHING, decoder=pipeline.decoder, **{**SETTINGS, "stable_diffusion": "org/name"})
    output = alone(None, scene[1], features=pipeline.encode_image(scene[0]))
    np.testing.assert_allclose(output.probabilities, expected.probabilities, atol=1e-5)
    with pytest.raises(ValueError, match="`unet` is missing.*from_pretrained.*stable_diffusion`, here 'org/name'"):
        alone(*scene)


def test_wrong_calls(scene):
    image, modal = scene
    pipeline = tiny_sdamodal()
    features = pipeline.encode_image(image)
    narrow = ImageFeatures(features.maps[:3], *SIZE)
    other = ImageFeatures(features.maps, 60, 81)
    wrong = [
        ((None, modal), {}, ValueError, "`image` must be given, or `features` that `encode_image` made"),
        (([image, None], [modal, modal]), {}, ValueError, r"`image\[1\]` must be given"),
        ((image, modal[:, 1:]), {}, ValueError, "`masks`"),
        ((None, modal), {"features": other}, ValueError, r"`features` are of a photo of size .* \(60, 81\), `masks`"),
        ((None, modal), {"features": narrow}, ValueError, r"`features` must have maps of \(16, 12, 8, 4\) channels"),
        ((None, modal), {"features": features.maps[0]}, TypeError, "`features` must be ImageFeatures, got Tensor"),
        (([image], [modal]), {"features": features}, TypeError, "`features` must be a list with one entry a photo"),
        (
            ([image], [modal]),
            {"features": [features] * 2},
            ValueError,
            "`features` must have one entry for each of the 1",
        ),
        ((image, modal), {"features": features, "num_draws": 2}, ValueError, "`num_draws` has no influence on given"),
        (
            (None, modal),
            {"features": features, "generator": torch.Generator()},
            ValueError,
            "`generator` has no influence on given",
        ),
        ((image, modal), {"num_draws": 0}, ValueError, "`num_draws` must be at least 1"),
        (
            ([image], [modal]),
            {"generator": []},
            ValueError,
            "`generator` must hold one generator for each of the 1 photos, got 0",
        ),
        (
            (None, modal),
            {"features": features, "return_uncertainty": True},
            ValueError,
            "`return_uncertainty` needs two",
        ),
        ((image, modal), {"num_draws": 1, "return_uncertainty": True}, ValueError, "`return_uncertainty` needs two"),
        ((image, modal), {"mask_threshold": 2}, ValueError, "`mask_threshold` must lie in"),
        ((image, modal), {"batch_size": 0}, ValueError, "`batch_size` must be at least 1"),
        ((image, modal), {"output_type": "jpg"}, ValueError, "`output_type` must be one of"),
    ]
    passes = count_passes(pipeline)
    for arguments, options, error, message in wrong:
        with pytest.raises(error, match=message):
            pipeline(*arguments, **options)
    assert not passes  # each is found out before the work begins
