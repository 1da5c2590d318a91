"""ContentPipeline with an inpainting pipeline of diffusers; saving and loading with either component."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForInpainting, StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline

from amodal_diffusion import AmodalPipeline, ContentPipeline, PCNetContent
from amodal_diffusion.pipelines.base import CallInterruptedError
from amodal_diffusion.pipelines.content import inpainting
from amodal_diffusion.pipelines.content.inpainting import trained_size
from content_helpers import check_tiles, tiny_content, tiny_content_model
from diffusion_helpers import photo, tiny_inpainting, tiny_stable_diffusion, tiny_unet
from fresh_process import run_fresh
from pipeline_helpers import crossing_bars, stacked_bars

STEPS = {"num_inference_steps": 2, "guidance_scale": 1.0}


def plain_inpainting():
    """A `StableDiffusionInpaintPipeline` whose U-Net takes the 4 channels of a text-to-image checkpoint."""
    return AutoPipelineForInpainting.from_pipe(tiny_stable_diffusion())


def image_to_image():
    return StableDiffusionImg2ImgPipeline(**tiny_stable_diffusion().components, requires_safety_checker=False)


MAKERS = {
    "9 channels": tiny_inpainting,
    "4 channels": plain_inpainting,
    "text to image": tiny_stable_diffusion,
    "image to image": image_to_image,
}


def with_inpainter(inpainter=None, **settings):
    pipeline = ContentPipeline(inpainter=inpainter or tiny_inpainting(), **{"inpainter_size": 64, **settings})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pipeline():
    return with_inpainter()


def call(pipeline, seed=0, **options):
    modal, amodal = crossing_bars()
    options = {"generator": seeded(seed), "inpainter_kwargs": STEPS, **options}
    return pipeline(photo(1, 60, 80), modal, amodal, **options)


class Recorder(StableDiffusionInpaintPipeline):
    """Fills with grey and remembers how it was called; `size` answers at another size, `flags` as a safety checker."""

    size, value, flags = None, 0.5, None

    def __call__(self, prompt=None, image=None, mask_image=None, strength=1.0, negative_prompt=None, **options):
        named = {"prompt": prompt, "image": image, "mask": mask_image, "negative_prompt": negative_prompt}
        self.calls.append({**named, **options})
        height, width = self.size or (options["height"], options["width"])
        images = np.full((len(prompt), height, width, 3), self.value, np.float32)
        return SimpleNamespace(images=images, nsfw_content_detected=self.flags)


def recorder(**settings):
    inpainter = Recorder(**tiny_inpainting().components, requires_safety_checker=False)
    inpainter.calls = []
    return with_inpainter(inpainter, **settings)


# the call


@pytest.mark.parametrize("name", MAKERS)
def test_every_kind_of_inpainter(name):
    pipe = with_inpainter(MAKERS[name]())
    assert isinstance(pipe.inpainter, StableDiffusionInpaintPipeline)
    modal, amodal = stacked_bars()
    picture = photo(1, 64, 96)
    output = pipe(picture, modal, amodal, generator=seeded(), inpainter_kwargs=STEPS)
    check_tiles(output, picture, modal, amodal)
    hidden = (amodal & ~modal)[0, 20:40, 4:90]
    assert output.objects[0][hidden][:, :3].std() > 0  # painted
    found = pipe.background(picture, modal, generator=seeded(), inpainter_kwargs=STEPS)
    hole = modal.any(axis=0)
    np.testing.assert_array_equal(found[~hole], picture[~hole])
    assert (found[hole] != picture[hole]).any()


def test_image_to_image_with_less_strength():
    pipe = with_inpainter(plain_inpainting())
    weak = call(pipe, inpainter_kwargs={**STEPS, "strength": 0.5}).objects[0]
    assert (weak != call(pipe).objects[0]).any()


def test_seeds_repeat_whatever_the_batches(pipeline):
    first = call(pipeline)
    for options in ({"batch_size": 1}, {"batch_size": 2}):
        np.testing.assert_array_equal(call(pipeline, **options).objects[0], first.objects[0])
    assert (call(pipeline, seed=1).objects[0] != first.objects[0]).any()
    modal, amodal = stacked_bars()
    answers = []
    for batch_size in (1, 3):
        generators = [seeded(seed) for seed in (3, 4, 5)]
        options = {"generator": generators, "batch_size": batch_size, "inpainter_kwargs": STEPS}
        answers.append(pipeline(photo(1, 64, 96), modal, amodal, **options).objects)
    for one, many in zip(*answers, strict=True):
        assert np.abs(one.astype(int) - many).max() <= 2


def test_backgrounds_repeat(pipeline):
    modal, _ = crossing_bars()
    first, second, other = (
        pipeline.background(photo(1, 60, 80), modal, generator=seeded(seed), inpainter_kwargs=STEPS)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_what_the_inpainter_is_given():
    modal, amodal = stacked_bars()
    pipe = recorder(hole_dilation=0, feather=0)
    options = {"inpainter_kwargs": {"num_inference_steps": 7, "negative_prompt": "people"}, "batch_size": 8}
    with pytest.raises(TypeError, match="`inpainter_kwargs` has 'num_inference_steps', which a Recorder does not take"):
        pipe(photo(1, 64, 96), modal, amodal, **options)
    options["inpainter_kwargs"].pop("num_inference_steps")
    output = pipe(photo(1, 64, 96), modal, amodal, names=["car", None, "tree"], **options)
    (given,) = pipe.inpainter.calls  # both in one call
    assert given["prompt"] == ["car", ""] and given["negative_prompt"] == ["people"] * 2
    assert given["generator"] is None and given["output_type"] == "np"
    for picture, mask in zip(given["image"], given["mask"], strict=True):
        assert picture.mode == "RGB" and picture.size == (64, 64)
        assert mask.mode == "L" and mask.size == (64, 64) and set(np.unique(mask)) == {0, 255}
    hidden = (amodal & ~modal)[0, 20:40, 4:90]
    assert (output.objects[0][hidden] == (128, 128, 128, 255)).all()


@pytest.mark.parametrize(
    ("options", "prompts"),
    [
        ({"names": ["car", "dog", "tree"]}, ["car", "dog"]),
        ({"names": ["car", "dog", "tree"], "prompts": ["a red car", None, "x"]}, ["a red car", "dog"]),
        ({"names": ["car", "dog", "tree"], "prompts": "a street"}, ["a street", "a street"]),
        ({"prompts": ["", None, None]}, ["", ""]),
        ({}, ["", ""]),
    ],
)
def test_prompts(options, prompts):
    modal, amodal = stacked_bars()
    pipe = recorder()
    pipe(photo(1, 64, 96), modal, amodal, batch_size=1, **options)
    assert [text for given in pipe.inpainter.calls for text in given["prompt"]] == prompts


def test_nothing_of_the_occluder_is_left_to_start_from():
    modal, amodal = crossing_bars()
    picture = np.full((60, 80, 3), 200, np.uint8)
    picture[modal[1]] = 0
    pipe = recorder(inpainter_size=256)
    pipe(picture, modal, amodal, order=[[0, -1], [1, 0]])
    start = np.asarray(pipe.inpainter.calls[0]["image"][0])
    assert start[100:156, 40:216].min() > 190  # around the middle of the crop, across the hidden part
    seen = np.asarray(pipe.inpainter.calls[0]["mask"][0]) == 0
    assert start[seen].min() > 150  # the rest of the occluder is erased too


@pytest.mark.parametrize(("height", "width", "size"), [(60, 80, (48, 64)), (80, 60, (64, 48)), (10, 400, (16, 64))])
def test_background_keeps_the_shape_of_the_photo(height, width, size):
    pipe = recorder()
    hole = np.zeros((height, width), bool)
    hole[2:8, 5:20] = True
    found = pipe.background(photo(1, height, width), hole, prompt="a street", replace_rim=True)
    (given,) = pipe.inpainter.calls
    assert given["prompt"] == ["a street"] and (given["height"], given["width"]) == size
    assert given["image"][0].size == size[::-1] and found.shape == (height, width, 3)


def test_an_answer_of_another_size_is_resized():
    pipe = recorder(feather=0)
    pipe.inpainter.size = (32, 40)
    modal, amodal = crossing_bars()
    hidden = (amodal & ~modal)[0, 20:40, 5:75]
    assert (pipe(photo(1, 60, 80), modal, amodal).objects[0][hidden] == (128, 128, 128, 255)).all()


def test_nan_is_not_painted():
    pipe = recorder()
    pipe.inpainter.value = np.nan
    with pytest.raises(ValueError, match="returned NaN or infinity"):
        call(pipe, inpainter_kwargs=None)


def test_a_picture_that_the_safety_checker_blacks_out_is_told(monkeypatch):
    warnings = []
    monkeypatch.setattr(inpainting.logger, "warning", warnings.append)
    pipe = recorder()
    call(pipe, inpainter_kwargs=None)
    assert not warnings
    pipe.inpainter.flags = [True]
    call(pipe, inpainter_kwargs=None)
    assert len(warnings) == 1 and "safety checker" in warnings[0]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"image": 1}, ValueError, "`inpainter_kwargs` must not have 'image': the content pipeline sets it"),
        ({"generator": 1}, ValueError, "`inpainter_kwargs` must not have 'generator'"),
        (
            {"steps": 1},
            TypeError,
            "`inpainter_kwargs` has 'steps', which a StableDiffusionInpaintPipeline does not take",
        ),
        ("strength", TypeError, "`inpainter_kwargs` must be a dictionary, got str"),
    ],
)
def test_wrong_options(options, kind, message, pipeline):
    with pytest.raises(kind, match=message):
        call(pipeline, inpainter_kwargs=options)


# the component


def test_size_is_what_the_inpainter_was_trained_on():
    assert trained_size(tiny_inpainting()) == 64  # latents of 32, a VAE that halves once
    assert ContentPipeline(inpainter=tiny_inpainting()).size == 64
    assert trained_size(SimpleNamespace(vae_scale_factor=8, default_sample_size=128)) == 1024
    assert trained_size(SimpleNamespace()) == 512


def test_other_components_are_refused(tmp_path):
    with pytest.raises(TypeError, match="`inpainter` must be a diffusers pipeline, a Hub id or .* got UNet2D"):
        ContentPipeline(inpainter=tiny_unet())
    with pytest.raises(ValueError, match="`inpainter` must be a pipeline that diffusers can inpaint with.*ContentPipe"):
        ContentPipeline(inpainter=tiny_content())
    with pytest.raises(ValueError, match="`inpainter_size` must be a multiple of 8, got 60"):
        ContentPipeline(inpainter=tiny_inpainting(), inpainter_size=60)
    with pytest.raises(ValueError, match="holds no model_index.json, so it is no saved diffusers pipeline"):
        ContentPipeline(inpainter=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="There is no folder './gone'"):
        ContentPipeline(inpainter="./gone")
    (tmp_path / "file.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match="is a file"):
        ContentPipeline(inpainter=tmp_path / "file.safetensors")


def test_pipelines_share_components():
    diffusion = tiny_stable_diffusion()
    pipe = ContentPipeline.from_pipe(diffusion, inpainter_size=64, feather=3.0)
    assert pipe.inpainter.unet is diffusion.unet and pipe.config.feather == 3
    again = ContentPipeline.from_pipe(pipe, hole_dilation=2.0)
    assert again.inpainter is pipe.inpainter
    assert (again.config.feather, again.config.hole_dilation, again.config.inpainter_size) == (3, 2, 64)


def test_moving_goes_to_the_inpainter():
    pipe = with_inpainter()
    assert pipe.to(torch.bfloat16) is pipe
    assert pipe.dtype == pipe.inpainter.unet.dtype == torch.bfloat16 and pipe.device == torch.device("cpu")
    pipe.enable_attention_slicing()
    modal, amodal = crossing_bars()
    check_tiles(call(pipe), photo(1, 60, 80), modal, amodal)


def test_offloading_the_inpainter():
    pipe = with_inpainter()
    expected = call(pipe).objects[0]
    pipe.enable_model_cpu_offload(device="cpu")
    assert hasattr(pipe.inpainter.unet, "_hf_hook")
    np.testing.assert_array_equal(call(pipe).objects[0], expected)


def test_a_call_can_be_ended_between_the_steps_of_the_inpainter():
    pipe, mine = with_inpainter(), []
    steps = {"num_inference_steps": 3, "strength": 1.0}
    modal, amodal = crossing_bars()
    picture = photo(1, 60, 80)
    pipe.enable_model_cpu_offload(device="cpu")

    def background(callback=None, **more):
        options = {**steps, **more}
        return pipe.background(picture, modal, generator=seeded(), inpainter_kwargs=options, callback=callback)

    def objects(callback=None):
        return pipe(picture, modal, amodal, generator=seeded(), inpainter_kwargs=steps, callback=callback).objects[0]

    for run, shares in ((background, [0, 25, 50, 75, 100]), (objects, [0, 0, 0, 0, 1])):
        expected, told = run(), []
        np.testing.assert_array_equal(run(lambda *said, told=told: told.append(said[1:])), expected)
        assert [done for _, done, _ in told] == shares
        for last in (2, 3):
            calls = iter(range(last))
            with pytest.raises(CallInterruptedError, match="`callback` ended the call"):
                run(lambda *said, calls=calls: next(calls, None) is not None)
        np.testing.assert_array_equal(run(), expected)

    def theirs(_pipeline, step, _time, tensors):
        mine.append(step)
        return tensors

    np.testing.assert_array_equal(background(lambda *said: True, callback_on_step_end=theirs), background())
    assert mine == [0, 1, 2]


# folders


@pytest.fixture(scope="module")
def saved(pipeline, tmp_path_factory):
    """Folders of a pipeline with its inpainter, of one that names it, of one with a network."""
    root = tmp_path_factory.mktemp("saved")
    pipeline.save_pretrained(root / "whole")
    named = ContentPipeline(inpainter=str(root / "whole" / "inpainter"), inpainter_size=64, feather=4.0)
    named.save_pretrained(root / "named")
    tiny_content(feather=4.0).save_pretrained(root / "network")
    return root


def loaded(path, **options):
    pipeline = ContentPipeline.from_pretrained(path, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_folder_with_the_inpainter(saved, pipeline):
    index = json.loads((saved / "whole" / "model_index.json").read_text())
    assert index["inpainter"] == ["diffusers", "StableDiffusionInpaintPipeline"]
    assert index["model"] == [None, None] and index["inpainter_id"] is None
    again = loaded(saved / "whole")
    np.testing.assert_array_equal(call(again).objects[0], call(pipeline).objects[0])
    assert loaded(saved, subfolder="whole", dtype=torch.bfloat16).inpainter.unet.dtype == torch.bfloat16


def test_folder_that_names_the_inpainter(saved, pipeline):
    names = sorted(path.name for path in (saved / "named").iterdir())
    assert names == ["model_index.json", "pipeline.py"]
    assert (
        saved / "named" / "pipeline.py"
    ).read_text() == "from amodal_diffusion import ContentPipeline  # noqa: F401\n"
    again = loaded(saved / "named", dtype=torch.float64)
    assert again.config.inpainter_id == str(saved / "whole" / "inpainter") and again.config.feather == 4
    assert again.inpainter.unet.dtype == torch.float64


def test_saving_again(saved, tmp_path):
    named = loaded(saved / "named")
    named.save_pretrained(tmp_path / "light")
    assert not (tmp_path / "light" / "inpainter").exists()
    named.save_pretrained(tmp_path / "whole", include_inpainter=True)
    index = json.loads((tmp_path / "whole" / "model_index.json").read_text())
    assert index["inpainter_id"] is None and (tmp_path / "whole" / "inpainter" / "unet").is_dir()
    assert named.config.inpainter_id is not None and named.inpainter is not None  # saving changes nothing
    for folder in ("light", "whole"):
        np.testing.assert_array_equal(call(loaded(tmp_path / folder)).objects[0], call(named).objects[0])
    loaded(tmp_path / "whole").save_pretrained(tmp_path / "third")
    assert (tmp_path / "third" / "inpainter" / "unet").is_dir()


def test_variant(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "whole", variant="fp16")
    assert list(tmp_path.glob("whole/inpainter/unet/*.fp16.safetensors"))
    np.testing.assert_array_equal(
        call(loaded(tmp_path / "whole", variant="fp16")).objects[0], call(pipeline).objects[0]
    )
    tiny_content().save_pretrained(tmp_path / "network", variant="ema")
    assert loaded(tmp_path / "network", variant="ema").model is not None


def test_folder_with_a_network(saved):
    modal, amodal = crossing_bars()
    again = loaded(saved / "network", hole_dilation=2.0)
    assert isinstance(again.model, PCNetContent) and again.inpainter is None
    assert (again.config.feather, again.config.hole_dilation, again.config.background_size) == (4, 2, 64)
    expected = tiny_content(feather=4.0, hole_dilation=2.0)(photo(1, 60, 80), modal, amodal)
    np.testing.assert_array_equal(again(photo(1, 60, 80), modal, amodal).objects[0], expected.objects[0])
    assert loaded(saved / "network", dtype=torch.float16).dtype == torch.float16


def test_a_component_that_is_given_takes_the_place_of_the_folders(saved):
    model, inpainter = tiny_content_model(1), tiny_inpainting()
    for folder in ("whole", "named", "network"):
        pipe = loaded(saved / folder, model=model, background_size=64)
        assert pipe.model is model and pipe.inpainter is None and pipe.config.inpainter_id is None
        pipe = loaded(saved / folder, inpainter=inpainter)
        assert pipe.inpainter is inpainter and pipe.model is None and pipe.config.inpainter_id is None
    path = str(saved / "whole" / "inpainter")
    pipe = loaded(saved / "network", inpainter=path)
    assert pipe.config.inpainter_id == path and pipe.model is None and pipe.inpainter is not None


def test_a_hub_id_is_handed_to_diffusers(monkeypatch, saved):
    seen = []

    def load(name, **options):
        seen.append((name, options))
        return tiny_inpainting()

    monkeypatch.setattr(AutoPipelineForInpainting, "from_pretrained", load)
    assert ContentPipeline(inpainter="org/inpainting").config.inpainter_id == "org/inpainting"
    loaded(saved / "network", inpainter="org/inpainting", dtype=torch.float16, variant="fp16", token="t", revision="v1")
    first, second = seen
    assert first == ("org/inpainting", {"use_safetensors": True})
    options = {"use_safetensors": True, "dtype": torch.float16, "variant": "fp16", "token": "t"}
    assert second == ("org/inpainting", options)  # the revision is one of the other repository


def test_what_cannot_be_saved(pipeline, tmp_path):
    with pytest.raises(ValueError, match="`include_inpainter` may be False only where the setting `inpainter_id`"):
        pipeline.save_pretrained(tmp_path / "out", include_inpainter=False)
    with pytest.raises(ValueError, match="`inpainter` cannot be saved: Recorder is no class of diffusers"):
        recorder().save_pretrained(tmp_path / "out")
    with pytest.raises(ValueError, match="`safe_serialization` must be True"):
        pipeline.save_pretrained(tmp_path / "out", safe_serialization=False)
    assert not (tmp_path / "out").exists()


def test_pickled_weights_of_an_inpainter_are_never_read(tmp_path):
    tiny_inpainting().save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(OSError, match="safetensors"):
        ContentPipeline(inpainter=str(tmp_path))


def test_amodal_pipeline_loads_it(saved):
    assert type(AmodalPipeline.from_pretrained(saved / "network")) is ContentPipeline


@pytest.mark.parametrize("folder", ["whole", "network"])
def test_download_from_the_hub(folder, hub, saved):
    hub.fill(saved / folder)
    pipe = loaded("org/name", revision="v1")
    assert all(options["revision"] == "v1" for _, options in hub.calls)
    modal, amodal = crossing_bars()
    options = {"generator": seeded(), "inpainter_kwargs": STEPS} if folder == "whole" else {}
    first, second = (one(photo(1, 60, 80), modal, amodal, **options) for one in (pipe, loaded(saved / folder)))
    if folder == "network":
        np.testing.assert_array_equal(first.objects[0], second.objects[0])
    assert type(pipe.model) is type(loaded(saved / folder).model)


def test_fresh_process_and_plain_diffusers(saved, tmp_path):
    """diffusers alone first, when nothing of ours is imported yet; then our own class."""
    code = """
import sys
from diffusers import DiffusionPipeline
for folder in sys.argv[1:]:
    by_diffusers = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    from amodal_diffusion import ContentPipeline
    for pipeline in (by_diffusers, ContentPipeline.from_pretrained(folder)):
        assert type(pipeline) is ContentPipeline and (pipeline.model is None) != (pipeline.inpainter is None)
print("loaded all")
"""
    folders = (saved / name for name in ("network", "named", "whole"))
    assert "loaded all" in run_fresh(code, *folders, folder=tmp_path)
