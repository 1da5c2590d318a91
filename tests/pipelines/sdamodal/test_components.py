"""Components and settings that give no features: each is refused by its name."""

import pytest
import torch
from diffusers import AutoencoderTiny

from amodal_diffusion import DiffusionFeatureExtractor
from amodal_diffusion.pipelines.sdamodal.components import load_components
from diffusion_helpers import photo, tiny_components, tiny_extractor, tiny_stable_diffusion, tiny_unet, tiny_vae

NAMES = ("unet", "vae", "scheduler", "text_encoder", "tokenizer")


@pytest.fixture(scope="module")
def extractor():
    return tiny_extractor()


WRONG_SETTINGS = {
    "time step": ({"time_step": 1000}, ValueError, r"`time_step` must lie in \[0, 1000\), .* got 1000"),
    "negative step": ({"time_step": -1}, ValueError, "`time_step` must be at least 0, got -1"),
    "no draws": ({"num_draws": 0}, ValueError, "`num_draws` must be at least 1, got 0"),
    "half a draw": ({"num_draws": 1.5}, TypeError, "`num_draws` must be an integer, got 1.5"),
    "seed": ({"noise_seed": -1}, ValueError, "`noise_seed` must be at least 0"),
    "resolution": ({"resolution": 72}, ValueError, "`resolution` must be a multiple of 16, .* got 72"),
    "no resolution": ({"resolution": 0}, ValueError, "`resolution` must be at least 1"),
    "block 4": ({"up_blocks": (0, 4)}, ValueError, r"`up_blocks` must lie in \[0, 4\), .* got \(0, 4\)"),
    "unordered": ({"up_blocks": (1, 0)}, ValueError, r"`up_blocks` must be ascending and different, got \(1, 0\)"),
    "twice": ({"up_blocks": (1, 1)}, ValueError, "`up_blocks` must be ascending"),
    "none": ({"up_blocks": ()}, TypeError, r"`up_blocks` must be a list of indices, got \(\)"),
    "a number": ({"up_blocks": 3}, TypeError, "`up_blocks` must be a list of indices, got 3"),
    "batch": ({"draw_batch_size": 0}, ValueError, "`draw_batch_size` must be at least 1"),
    "embeds": ({"prompt_embeds": [1]}, TypeError, "`prompt_embeds` must be a tensor, got list"),
    "width": ({"prompt_embeds": torch.ones(1, 7, 9)}, ValueError, r"`prompt_embeds` must have shape \(1, tokens, 8\)"),
}


@pytest.mark.parametrize("case", WRONG_SETTINGS)
def test_wrong_settings(extractor, case):
    settings, error, message = WRONG_SETTINGS[case]
    components = {name: getattr(extractor, name) for name in NAMES}
    with pytest.raises(error, match=message):
        tiny_extractor(components, **settings)


WRONG_COMPONENTS = {
    "no unet": ({"unet": None}, ValueError, "`unet` must be given"),
    "no vae": ({"vae": None}, ValueError, "`vae` must be given"),
    "no scheduler": ({"scheduler": None}, ValueError, "`scheduler` must be given"),
    "no text encoder": ({"text_encoder": None}, ValueError, "`text_encoder` must be given, or else `prompt_embeds`"),
    "no tokenizer": ({"tokenizer": None}, ValueError, "`tokenizer` must be given, or else `prompt_embeds`"),
    "other unet": ({"unet": torch.nn.Linear(1, 1)}, TypeError, "`unet` must be a UNet2DConditionModel .* got Linear"),
    "other vae": ({"vae": AutoencoderTiny}, TypeError, "`vae` must be an AutoencoderKL .* got"),
    "other scheduler": ({"scheduler": 3}, TypeError, "`scheduler` must be a diffusers scheduler .* got int"),
}


@pytest.mark.parametrize("case", WRONG_COMPONENTS)
def test_wrong_components(extractor, case):
    change, error, message = WRONG_COMPONENTS[case]
    components = {name: getattr(extractor, name) for name in NAMES}
    with pytest.raises(error, match=message):
        tiny_extractor({**components, **change})


def test_other_checkpoints_are_refused_by_name(extractor, tmp_path):
    rest = {name: getattr(extractor, name) for name in NAMES[1:]}
    xl = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4, "projection_class_embeddings_input_dim": 8}
    others = {
        r"`unet` is no Stable Diffusion 1.x/2.x U-Net: `addition_embed_type` is 'text_time' \(as SDXL\)": xl,
        r"`num_class_embeds` is 10 \(as the upscaler\)": {"num_class_embeds": 10},
        "text to image .4 input channels. or inpainting .9.: it takes 5": {"in_channels": 5},
    }
    for message, config in others.items():
        with pytest.raises(ValueError, match=message):
            tiny_extractor({"unet": tiny_unet(**config), **rest})
    with pytest.raises(ValueError, match="`vae` must make 4 latent channels .* got 16"):
        tiny_extractor({**rest, "unet": extractor.unet, "vae": tiny_vae(latent_channels=16)})
    tiny_stable_diffusion(unet=tiny_unet(**xl)).save_pretrained(tmp_path)
    for path in tmp_path.rglob("*.safetensors"):
        path.unlink()  # it is found out before any weights are read
    with pytest.raises(ValueError, match="is no Stable Diffusion 1.x/2.x U-Net: `addition_embed_type`"):
        DiffusionFeatureExtractor.from_pretrained(tmp_path)


def test_text_encoder_of_another_checkpoint_is_refused():
    made = tiny_extractor(tiny_components(unet=tiny_unet(cross_attention_dim=16)))
    with pytest.raises(ValueError, match=r"\(1, tokens, 16\).*got \(1, 7, 8\): are U-Net and text encoder of one"):
        made([photo()])


def test_wrong_calls(extractor):
    with pytest.raises(TypeError, match="`images` must be a list of photos, got ndarray"):
        extractor(photo())
    with pytest.raises(ValueError, match="`generator` must be one, or one for each of the 2 photos, got 1"):
        extractor([photo(), photo()], generator=[torch.Generator()])
    with pytest.raises(ValueError, match="`num_draws` must be at least 1, got 0"):
        extractor([photo()], num_draws=0)
    with pytest.raises(FileNotFoundError, match="gone.jpg"):
        extractor(["gone.jpg"])
    with pytest.raises(ValueError, match="`pipeline` must have the component `unet`, got Namespace without it"):
        DiffusionFeatureExtractor.from_pipe(type("Namespace", (), {})())


def test_wrong_places(tmp_path):
    load = DiffusionFeatureExtractor.from_pretrained
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="file' is a file; expected the folder of a Stable Diffusion pipeline"):
        load(tmp_path / "file")
    (tmp_path / "unet").mkdir()
    with pytest.raises(ValueError, match="holds no vae/, so it is no Stable Diffusion"):
        load(tmp_path)
    for place in (tmp_path / "gone", "./gone", "/gone/away", "a/b/c", " "):
        with pytest.raises(FileNotFoundError, match="There is no folder .*, and it is no Hub id"):
            load(place)


def test_pickled_weights_are_never_read(tmp_path):
    tiny_stable_diffusion().save_pretrained(tmp_path)
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    torch.save(tiny_unet().state_dict(), weights.with_suffix(".bin"))
    with pytest.raises(OSError, match="safetensors"):
        DiffusionFeatureExtractor.from_pretrained(tmp_path)


def test_only_what_is_needed_is_asked_of_the_hub(monkeypatch):
    asked = []

    class Asked:
        @classmethod
        def from_pretrained(cls, place, *, subfolder, **options):
            asked.append((place, subfolder, options))
            return subfolder

    module = "amodal_diffusion.pipelines.sdamodal.components"
    monkeypatch.setattr(f"{module}._CLASSES", dict.fromkeys(NAMES, Asked))
    monkeypatch.setattr(f"{module}.UNet2DConditionModel.load_config", lambda *_, **options: asked.append(options) or {})
    dtypes = {"unet": torch.bfloat16, "default": torch.float16}
    options = {"dtype": dtypes, "revision": "v1", "variant": "fp16", "token": "hf_x", "cache_dir": None}
    assert load_components("org/name", skip=("tokenizer",), **options) == {
        name: name for name in ("unet", "vae", "text_encoder", "scheduler")
    }
    hub = {"revision": "v1", "token": "hf_x"}
    weights = {**hub, "use_safetensors": True, "variant": "fp16"}
    assert asked == [
        {"subfolder": "unet", **hub},
        ("org/name", "unet", {**weights, "dtype": torch.bfloat16}),
        ("org/name", "vae", {**weights, "dtype": torch.float16}),
        ("org/name", "text_encoder", {**weights, "dtype": torch.float16}),
        ("org/name", "scheduler", hub),
    ]
