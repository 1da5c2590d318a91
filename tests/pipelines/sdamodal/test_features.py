"""Features of a frozen Stable Diffusion: against the U-Net's own blocks, random draws, dtypes, offloading."""

import json
import threading

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, PNDMScheduler
from PIL import Image

from amodal_diffusion import DiffusionFeatureExtractor, ImageFeatures
from diffusion_helpers import (
    FEATURE_CHANNELS,
    FEATURE_SIZES,
    RESOLUTION,
    offload,
    photo,
    tiny_components,
    tiny_extractor,
    tiny_inpainting,
    tiny_scheduler,
    tiny_stable_diffusion,
    tiny_text_encoder,
    tiny_unet,
    tiny_vae,
)


@pytest.fixture(scope="module")
def extractor():
    return tiny_extractor()


@pytest.fixture(scope="module")
def features(extractor):
    return extractor([photo()])[0]


def assert_same(first, second, **tolerance):
    for one, other in zip(first.maps, second.maps, strict=True):
        torch.testing.assert_close(one, other, **(tolerance or {"rtol": 0, "atol": 0}))


# What the features are


def test_shapes(extractor, features):
    assert extractor.feature_channels == FEATURE_CHANNELS and extractor.feature_sizes == FEATURE_SIZES
    shapes = [(1, c, s, s) for c, s in zip(FEATURE_CHANNELS, FEATURE_SIZES, strict=True)]
    assert [feature.shape for feature in features.maps] == shapes
    assert (features.height, features.width, features.num_draws) == (48, 64, 1)
    assert features.channels == FEATURE_CHANNELS
    assert all(feature.is_contiguous(memory_format=torch.channels_last) for feature in features.maps)
    assert not any(feature.requires_grad or feature.is_inference() for feature in features.maps)


def test_published_shapes_of_stable_diffusion():
    """Of the real configuration, without its weights: 2.1 at 768 pixels."""
    with torch.device("meta"):
        unet = tiny_unet(block_out_channels=(320, 640, 1280, 1280), norm_num_groups=32, attention_head_dim=64)
        vae = tiny_vae(
            block_out_channels=(4, 4, 4, 4),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
    components = {**tiny_components(unet=unet, vae=vae)}
    made = DiffusionFeatureExtractor(**components)
    assert made.feature_channels == (1280, 1280, 640, 320) and made.feature_sizes == (24, 48, 96, 96)
    assert (made.time_step, made.num_draws, made.resolution) == (181, 8, 768)


@torch.no_grad()
def test_equals_the_steps_written_plainly(extractor):
    """The latent and the noise from the seed, the whole U-Net, its blocks recorded."""
    kept = extractor([photo()], keep_draws=True)[0]
    squashed = Image.fromarray(photo()).resize((RESOLUTION, RESOLUTION), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(squashed)).permute(2, 0, 1)[None] / 255 * 2 - 1
    distribution = extractor.vae.encode(pixels).latent_dist
    generator = torch.Generator().manual_seed(0)
    prompt = extractor.text_encoder(torch.tensor([[0] + [1] * 6]))[0]
    alpha = extractor.scheduler.alphas_cumprod[181]
    for draw in range(2):
        numbers = torch.randn(2, *distribution.mean.shape[1:], generator=generator)
        latent = (distribution.mean + distribution.std * numbers[0]) * extractor.vae.config.scaling_factor
        noisy = alpha**0.5 * latent + (1 - alpha) ** 0.5 * numbers[1]
        recorded = []
        keep = lambda _module, _inputs, output, recorded=recorded: recorded.append(output)  # noqa: E731
        handles = [block.register_forward_hook(keep) for block in extractor.unet.up_blocks]
        extractor.unet(noisy, 181, encoder_hidden_states=prompt)
        for handle in handles:
            handle.remove()
        for feature, expected in zip(kept.maps, recorded, strict=True):
            torch.testing.assert_close(feature[draw, None], expected, rtol=1e-4, atol=1e-5)


def test_mean_over_the_draws(extractor, features):
    kept = extractor([photo()], keep_draws=True)[0]
    assert kept.num_draws == 2
    assert_same(kept.mean(), features, rtol=1e-5, atol=1e-6)
    assert features.mean() is features
    assert not torch.equal(kept.maps[0][0], kept.maps[0][1])


def test_photo_text_time_and_noise_matter(features):
    components = tiny_components()
    for change in ({"time_step": 500}, {"noise_seed": 1}, {"num_draws": 1}):
        other = tiny_extractor(components, **change)([photo()])[0]
        assert not torch.equal(other.maps[0], features.maps[0]), change
    embeds = tiny_extractor(components).prompt_embeds + 1
    other = DiffusionFeatureExtractor(**components, prompt_embeds=embeds, resolution=RESOLUTION, num_draws=2)
    assert not torch.equal(other([photo()])[0].maps[0], features.maps[0])
    assert not torch.equal(tiny_extractor(components)([photo(1)])[0].maps[0], features.maps[0])


@pytest.mark.parametrize("blocks", [(0,), (1,), (0, 2), (3,), (1, 2, 3)])
def test_chosen_up_blocks(features, blocks):
    made = tiny_extractor(up_blocks=list(blocks))
    chosen = made([photo()])[0]
    assert (
        made.feature_sizes
        == tuple(FEATURE_SIZES[block] for block in blocks)
        == tuple(feature.shape[-1] for feature in chosen.maps)
    )
    assert_same(chosen, ImageFeatures(tuple(features.maps[block] for block in blocks), 48, 64))


@pytest.mark.parametrize("last", [0, 1, 3])
def test_nothing_runs_after_the_last_block(last):
    made = tiny_extractor(up_blocks=(last,))
    ran = []
    unet = made.unet
    parts = {f"up {index}": block for index, block in enumerate(unet.up_blocks)}
    for name, part in {**parts, "norm": unet.conv_norm_out, "act": unet.conv_act, "out": unet.conv_out}.items():
        part.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    made([photo()])
    assert ran == [f"up {index}" for index in range(last + 1)]


def test_the_unet_is_left_as_it_was(features):
    components = tiny_components()
    unet, vae = components["unet"].train(), components["vae"].train()
    made = tiny_extractor(components)
    assert_same(made([photo()])[0], features)
    assert unet.training and unet.up_blocks[0].training and vae.training
    assert not any(block._forward_hooks for block in unet.up_blocks)
    whole = unet(torch.zeros(1, 4, 32, 32), 1, encoder_hidden_states=torch.zeros(1, 7, 8)).sample
    assert whole.shape == (1, 4, 32, 32)


def test_hooks_go_where_the_pass_fails():
    made = tiny_extractor()

    def broken(*_):
        raise RuntimeError("broken block")

    handle = made.unet.up_blocks[1].register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="broken block"):
        made([photo()])
    handle.remove()
    assert not any(block._forward_hooks for block in made.unet.up_blocks)


def test_another_thread_may_use_the_unet_meanwhile(features):
    made = tiny_extractor()
    samples = []

    def work():
        with torch.no_grad():
            samples.append(made.unet(torch.zeros(1, 4, 32, 32), 1, encoder_hidden_states=torch.zeros(1, 7, 8)).sample)

    def in_the_middle(*_):
        handle.remove()  # the other thread comes by here too
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    handle = made.unet.mid_block.register_forward_pre_hook(in_the_middle)
    assert_same(made([photo()])[0], features)
    assert len(samples) == 1 and samples[0].shape == (1, 4, 32, 32)


# Random draws


def test_a_call_repeats_and_photos_do_not_mix(extractor, features):
    photos = [photo(1, 30, 20), photo(), photo(2)]
    assert_same(extractor(photos)[1], features)
    assert [(found.height, found.width) for found in extractor(photos)] == [(30, 20), (48, 64), (48, 64)]
    assert extractor([]) == []


def test_fewer_draws_are_the_first_of_more(extractor):
    one = extractor([photo()], num_draws=1, keep_draws=True)[0]
    three = extractor([photo()], num_draws=3, keep_draws=True)[0]
    assert one.num_draws == 1 and three.num_draws == 3
    for first, more in zip(one.maps, three.maps, strict=True):
        torch.testing.assert_close(first[0], more[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("draw_batch_size", [1, 2, 4, 5])
@pytest.mark.parametrize("keep_draws", [False, True])
def test_draws_in_batches(draw_batch_size, keep_draws):
    components, photos = tiny_components(), [photo(), photo(1), photo(2)]
    expected = tiny_extractor(components, num_draws=3)(photos, keep_draws=keep_draws)
    passes = []
    components["unet"].conv_in.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    chunked = tiny_extractor(components, num_draws=3, draw_batch_size=draw_batch_size)
    for found, wanted in zip(chunked(photos, keep_draws=keep_draws), expected, strict=True):
        assert_same(found, wanted, rtol=1e-4, atol=1e-5)
    assert sum(passes) == 9 and max(passes) == draw_batch_size and len(passes) == -(-9 // draw_batch_size)


def test_a_cpu_takes_one_draw_at_a_time_by_default():
    components = tiny_components()
    expected = tiny_extractor(components)([photo()])[0]
    passes = []
    components["unet"].conv_in.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    assert_same(tiny_extractor(components, draw_batch_size=None)([photo()])[0], expected, rtol=1e-4, atol=1e-5)
    assert passes == [1, 1]


def test_generators(extractor, features):
    def seeded(seed):
        return torch.Generator().manual_seed(seed)

    assert_same(extractor([photo()], generator=seeded(0))[0], features)
    one_each = extractor([photo(), photo()], generator=[seeded(0), seeded(1)])
    assert_same(one_each[0], features)
    assert not torch.equal(one_each[1].maps[0], features.maps[0])
    in_turn = extractor([photo(), photo()], generator=seeded(0))
    assert_same(in_turn[0], features)
    assert not torch.equal(in_turn[1].maps[0], features.maps[0])


# Prompt


def test_empty_prompt_is_encoded_once():
    made = tiny_extractor()
    calls = []
    made.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    made([photo()])
    made([photo()])
    assert len(calls) == 1
    assert made.prompt_embeds.shape == (1, 7, 8)


def test_text_encoder_can_go(features):
    made = tiny_extractor()
    made.drop_text_encoder()
    assert made.text_encoder is None and made.tokenizer is None
    assert_same(made([photo()])[0], features)
    made.drop_text_encoder()  # again does nothing
    components = {**tiny_components(), "text_encoder": None, "tokenizer": None}
    given = tiny_extractor(components, prompt_embeds=made.prompt_embeds)
    assert_same(given([photo()])[0], features)


# Schedulers, dtypes, checkpoints


@pytest.mark.parametrize("kind", [PNDMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler])
def test_any_scheduler_of_the_checkpoint_gives_the_same_noise(features, kind):
    scheduler = kind.from_config(tiny_scheduler().config)
    assert_same(tiny_extractor(tiny_components(scheduler=scheduler))([photo()])[0], features)


def test_kind_of_prediction_makes_no_difference(features):
    scheduler = tiny_scheduler(prediction_type="v_prediction")
    assert_same(tiny_extractor(tiny_components(scheduler=scheduler))([photo()])[0], features)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(features, dtype):
    components = tiny_components()
    for name in ("unet", "vae", "text_encoder"):
        components[name].to(dtype)
    found = tiny_extractor(components)([photo()])[0]
    assert all(feature.dtype == dtype for feature in found.maps)
    for one, other in zip(found.maps, features.maps, strict=True):
        assert (one.float() - other).abs().mean() < 0.05 * other.abs().mean()


@pytest.mark.parametrize(("dtype", "upcast"), [(torch.float16, True), (torch.bfloat16, False)])
@pytest.mark.parametrize("force_upcast", [True, False])
def test_vae_that_would_overflow_works_in_float32(dtype, upcast, force_upcast):
    components = tiny_components(vae=tiny_vae(force_upcast=force_upcast))
    for name in ("unet", "vae", "text_encoder"):
        components[name].to(dtype)
    seen = []
    components["vae"].encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    tiny_extractor(components)([photo()])
    assert seen == [torch.float32 if upcast and force_upcast else dtype]
    assert components["vae"].dtype == dtype


def test_threads_that_share_a_vae_that_would_overflow():
    components = tiny_components(vae=tiny_vae(force_upcast=True))
    for name in ("unet", "vae", "text_encoder"):
        components[name].to(torch.float16)
    extractor, begun, found = tiny_extractor(components), threading.Event(), {}
    expected = extractor([photo()])[0]

    def run():
        found[threading.current_thread().name] = extractor([photo()])[0]

    threads = [threading.Thread(target=run, name=str(number)) for number in range(2)]

    def wait(*_):
        if threading.current_thread() is threads[1]:
            begun.set()
            threads[0].join(20)
        else:
            begun.wait(0.5)  # where the other thread may begin: the one that began later ends later

    components["vae"].encoder.register_forward_pre_hook(wait)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert sorted(found) == ["0", "1"] and components["vae"].dtype == torch.float16
    for one in found.values():
        assert_same(one, expected)


def test_autocast_around_changes_nothing(extractor, features):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(extractor([photo()])[0], features)


def test_moving_features(features):
    half = features.to(dtype=torch.float16)
    assert half.maps[0].dtype == torch.float16 and (half.height, half.width) == (48, 64)
    assert_same(features.to("cpu"), features)


def test_from_a_folder(features, tmp_path):
    tiny_stable_diffusion().save_pretrained(tmp_path)
    for place in (tmp_path, str(tmp_path)):
        made = DiffusionFeatureExtractor.from_pretrained(place, resolution=RESOLUTION, num_draws=2, draw_batch_size=2)
        assert_same(made([photo()])[0], features)
    made = DiffusionFeatureExtractor.from_pretrained(
        tmp_path, dtype=torch.bfloat16, device="cpu", resolution=RESOLUTION
    )
    assert made.dtype == made.vae.dtype == made.text_encoder.dtype == torch.bfloat16


def test_options_of_the_hub_are_passed_on(monkeypatch):
    seen = []

    def load(id_or_path, **options):
        seen.append((id_or_path, options))
        return tiny_components()

    monkeypatch.setattr("amodal_diffusion.pipelines.sdamodal.features.load_components", load)
    DiffusionFeatureExtractor.from_pretrained(
        "org/name", revision="v1", token="hf_x", variant="fp16", resolution=RESOLUTION, time_step=5
    )
    assert seen == [("org/name", {"dtype": None, "variant": "fp16", "revision": "v1", "token": "hf_x"})]


def test_shared_with_another_pipeline(features):
    pipeline = tiny_stable_diffusion()
    made = DiffusionFeatureExtractor.from_pipe(pipeline, resolution=RESOLUTION, num_draws=2, draw_batch_size=2)
    assert made.unet is pipeline.unet and made.vae is pipeline.vae and made.text_encoder is pipeline.text_encoder
    assert_same(made([photo()])[0], features)


@torch.no_grad()
def test_inpainting_unet_is_told_that_nothing_is_masked():
    pipeline = tiny_inpainting()
    made = DiffusionFeatureExtractor.from_pipe(pipeline, resolution=RESOLUTION, num_draws=1)
    seen = []
    pipeline.unet.conv_in.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert made([photo()])[0].channels == FEATURE_CHANNELS
    (sample,) = seen
    squashed = Image.fromarray(photo()).resize((RESOLUTION, RESOLUTION), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(squashed)).permute(2, 0, 1)[None] / 255 * 2 - 1
    latent = pipeline.vae.encode(pixels).latent_dist.mean * pipeline.vae.config.scaling_factor
    assert sample.shape[1] == 9 and not sample[:, 4].any()
    torch.testing.assert_close(sample[:, 5:], latent)


# The key of a cache


def test_description_is_the_same_for_the_same_features(extractor, tmp_path):
    described = extractor.describe()
    assert json.loads(json.dumps(described)) == described
    tiny_stable_diffusion().save_pretrained(tmp_path)
    loaded = DiffusionFeatureExtractor.from_pretrained(tmp_path, resolution=RESOLUTION, num_draws=2)
    assert loaded.describe() == described
    loaded.unet.to(memory_format=torch.channels_last)
    fresh = tiny_extractor(
        {name: getattr(loaded, name) for name in ("unet", "vae", "scheduler", "text_encoder", "tokenizer")}
    )
    assert fresh.describe() == described


def test_description_tells_apart_what_changes_the_features(extractor):
    described = extractor.describe()
    for change in ({"time_step": 5}, {"num_draws": 3}, {"noise_seed": 3}, {"resolution": 128}, {"up_blocks": (0,)}):
        other = tiny_extractor(tiny_components(), **change).describe()
        assert [key for key in described if other[key] != described[key]] == list(change)
    replaced = (
        {"unet": tiny_unet(seed=5)}, {"vae": tiny_vae(seed=5)}, {"text_encoder": tiny_text_encoder(seed=5)},
        {"vae": tiny_vae(scaling_factor=1.0)},
    )  # fmt: skip
    for change in replaced:
        assert tiny_extractor(tiny_components(**change)).describe()["checkpoint"] != described["checkpoint"]
    components = tiny_components()
    components["unet"].to(torch.bfloat16)
    assert tiny_extractor(components).describe()["dtype"] == "bfloat16"


# Offloading: accelerate's hooks on the CPU. With sequential offloading a weight that no hook brings has no values.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("sequential", [False, True])
def test_offloaded_components(sequential, dtype):
    def make():
        pipeline = tiny_stable_diffusion()
        for name in ("unet", "vae", "text_encoder"):
            getattr(pipeline, name).to(dtype)
        return pipeline, DiffusionFeatureExtractor.from_pipe(pipeline, resolution=RESOLUTION, num_draws=2)

    expected = make()[1]([photo()])[0]
    pipeline, made = make()
    offload(pipeline, sequential)
    assert made.device.type == "cpu"
    for _ in range(2):
        assert_same(made([photo()])[0], expected)
    if sequential:
        assert pipeline.unet.conv_in.weight.is_meta and pipeline.unet.up_blocks[3].resnets[0].conv1.weight.is_meta
        with pytest.raises(ValueError, match="weights of `unet` are offloaded; take the description before"):
            made.describe()
