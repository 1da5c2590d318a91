"""Networks as ONNX graphs, and the engines that answer for torch."""

import copy
import json
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from amodal_diffusion import (
    AmodalPipeline,
    AmodalVAE,
    AmodalVAEPipeline,
    ASBUPredictor,
    OccAmodalPredictor,
    PCNetContent,
    PCNetMask,
    PhotoPCNetMask,
    ScenePipeline,
    SDAmodalDecoder,
    ThingNet,
)
from amodal_diffusion.cli import main as cli
from amodal_diffusion.models.pull_push import _pull_push
from amodal_diffusion.runtimes import export_onnx, export_pipeline, runtime_of, use_runtime
from content_helpers import tiny_content
from diffusion_helpers import tiny_sdamodal
from photo_helpers import tiny_order_net
from pipeline_helpers import crossing_bars, tiny_pipeline

ENGINES = ("onnx", "openvino")
TOLERANCE = 1e-4
SMALL = {"block_out_channels": (4, 8), "sample_size": 32}
RESNET = {"image_hidden_sizes": (4, 8), "image_depths": (1, 1), "image_embedding_size": 4, "image_feature_stages": (2,)}


def plane(batch, height, width, channels=1):
    values = torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(channels + height))
    return values.round() if channels == 1 else values


def two(batch, height, width):
    return {"mask": plane(batch, height, width), "eraser": 1 - plane(batch, height, width)}


def boundary(batch, height, width):
    return {"mask": plane(batch, height, width), "boundary": 1 - plane(batch, height, width)}


def photo(batch, height, width):
    return {"image": plane(batch, height, width, 3)}


def ids(batch):
    return {"category_ids": torch.arange(batch) % 2 + 1}


def features(batch):
    return {"features": [plane(batch, 8, 8, 4), plane(batch, 16, 12, 8)]}


def painted(batch, height, width):
    return {"visible": plane(batch, height, width), "mask": plane(batch, height, width), **photo(batch, height, width)}


# Network, and what its forward is given for a batch of a size; those without sizes take one alone.
NETWORKS = {
    "PCNetMask": (lambda: PCNetMask(**SMALL), two),
    "PCNetMask, folded": (lambda: PCNetMask(**SMALL, patch_size=2), two),
    "PCNetMask, photo and classes": (
        lambda: PCNetMask(**SMALL, use_rgb=True, class_conditioned=True),
        lambda b, h, w: {**two(b, h, w), **photo(b, h, w), **ids(b)},
    ),
    "PhotoPCNetMask, categories": (
        lambda: PhotoPCNetMask((4, 8, 8), reduced_channels=4, sample_size=32, categories=["cat", "dog"]),
        lambda b, h, w: {**two(b, h, w), **photo(b, h, w), **ids(b)},
    ),
    "PhotoPCNetMask": (
        lambda: PhotoPCNetMask((4, 8, 8), reduced_channels=4, sample_size=32),
        lambda b, h, w: {
            **two(b, h, w),
            "front": plane(b, h, w),
            **photo(b, h, w),
            "shown": torch.arange(b) % 2 == 0,
        },
    ),
    "ASBUPredictor": (lambda: ASBUPredictor(**SMALL), boundary),
    "OccAmodalPredictor, occluder": (
        lambda: OccAmodalPredictor(1, reduced_channels=4, **SMALL, **RESNET),
        lambda b, h, w: {"mask": plane(b, h, w), **photo(b, h, w)},
    ),
    "OccAmodalPredictor, amodal": (
        lambda: OccAmodalPredictor(2, reduced_channels=4, **SMALL, **RESNET),
        lambda b, h, w: {**boundary(b, h, w), **photo(b, h, w)},
    ),
    "OccAmodalPredictor, EfficientNet": (
        lambda: OccAmodalPredictor(1, reduced_channels=4, **SMALL, image_encoder_type="efficientnet-lite0"),
        lambda b, h, w: {"mask": plane(b, h, w), **photo(b, h, w)},
    ),
    "OccAmodalPredictor, masks alone": (
        lambda: OccAmodalPredictor(1, **SMALL, image_feature_stages=()), lambda b, h, w: {"mask": plane(b, h, w)}
    ),
    "OrderNet": (
        tiny_order_net, lambda b, h, w: {"first": plane(b, h, w), "second": plane(b, h, w), **photo(b, h, w)}
    ),
    "SDAmodalDecoder": (
        lambda: SDAmodalDecoder(
            feature_channels=(4, 8), feature_sizes=(8, 16), reduced_channels=4, block_out_channels=(4, 8, 8),
            sample_size=32,
        ),
        lambda b, h, w: {"mask": plane(b, h, w), **features(b)},
    ),
    "ThingNet": (lambda: ThingNet(decoder_channels=4, sample_size=32), photo),
    "PCNetContent": (lambda: PCNetContent(**SMALL), painted),
    "PCNetContent, prior": (lambda: PCNetContent(**SMALL, use_prior=True), painted),
    "AmodalVAE": (
        lambda: AmodalVAE(sample_size=32, latent_channels=4, block_out_channels=(4, 8), num_categories=9),
        lambda b, h, w: {"mask": plane(b, 32, 32), **ids(b)},
    ),
    "AmodalVAE, photo": (
        lambda: AmodalVAE(
            sample_size=32, latent_channels=4, block_out_channels=(4, 8), use_rgb=True, image_size=64,
            image_hidden_sizes=(4, 8), image_depths=(1, 1), image_embedding_size=4, image_layer_type="basic",
        ),
        lambda b, h, w: {"mask": plane(b, 32, 32), "image": torch.randn(b, 3, 64, 64)},
    ),
    "AmodalVAE, EfficientNet": (
        lambda: AmodalVAE(
            sample_size=32, latent_channels=4, block_out_channels=(4, 8), use_rgb=True, image_size=64,
            image_encoder_type="efficientnet-lite0",
        ),
        lambda b, h, w: {"mask": plane(b, 32, 32), "image": torch.randn(b, 3, 64, 64)},
    ),
}  # fmt: skip


def make(name):
    torch.manual_seed(0)
    network = NETWORKS[name][0]().eval()
    if "prior" in name:  # its last layer starts at 0, so the rest of it would not be seen
        nn.init.normal_(network.decoder[-1].conv.conv.weight, std=0.1)
    return network


def answers(network, given):
    """All tensors that a network answers."""
    with torch.no_grad():
        values = network(**given, return_dict=False)
    return [x for x in values if isinstance(x, torch.Tensor)] + [
        tensor for x in values if not isinstance(x, torch.Tensor) for tensor in (x.mean, x.log_variance)
    ]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", NETWORKS)
def test_answers_as_torch_does_at_every_size(name, engine):
    network, inputs = make(name), NETWORKS[name][1]
    cases = [inputs(*size) for size in ((2, 32, 32), (1, 32, 32), (3, 96, 64))]
    expected = [answers(network, given) for given in cases]
    use_runtime(network, engine)
    for given, wanted in zip(cases, expected, strict=True):
        for found, value in zip(answers(network, given), wanted, strict=True):
            assert found.dtype == value.dtype
            torch.testing.assert_close(found, value, rtol=0, atol=TOLERANCE)
    use_runtime(network, "torch")
    torch.testing.assert_close(answers(network, cases[0]), expected[0], rtol=0, atol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_torch_exports_a_batch_of_any_size(name):
    network, inputs = make(name), NETWORKS[name][1]
    given = inputs(3, 32, 32)
    any_batch = {
        key: [{0: torch.export.Dim.DYNAMIC}] * len(value) if isinstance(value, list) else {0: torch.export.Dim.DYNAMIC}
        for key, value in given.items()
    }
    if "shown" in given:  # picks rows of the batch, which a graph cannot
        del given["shown"], any_batch["shown"]
    exported = torch.export.export(_Tensors(network), (given,), dynamic_shapes=(any_batch,), strict=False).module()
    for batch in (2, 5):
        again = {key: value for key, value in inputs(batch, 32, 32).items() if key in given}
        for found, value in zip(exported(again), answers(network, again), strict=True):
            torch.testing.assert_close(found, value, rtol=0, atol=1e-5)


class _Tensors(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, given):
        return answers(self.network, given)


def test_an_amodal_vae_checks_categories_outside_of_graphs():
    network = make("AmodalVAE")
    for engine in ("torch", "onnx"):
        use_runtime(network, engine)
        assert network.encode(plane(2, 32, 32)).mean.shape == (2, 4)  # all unknown
    with pytest.raises(ValueError, match="`category_ids` must have shape"):
        network.encode(plane(2, 32, 32), torch.ones(3, dtype=torch.int64))


def test_more_levels_than_a_picture_has_change_nothing():
    values, weights = plane(2, 20, 13, 3), plane(2, 20, 13)
    torch.testing.assert_close(_pull_push(values, weights, 12), _pull_push(values, weights, None), rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_half_precision(engine):
    network = make("PCNetMask")
    (expected,) = answers(network, two(2, 32, 32))
    use_runtime(network.to(torch.bfloat16), engine)
    (found,) = answers(network, two(2, 32, 32))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_copies_answer_too(engine, make_copy):
    network = make("PCNetMask")
    use_runtime(network, engine)
    given = two(2, 32, 32)
    expected = answers(network, given)
    twin = make_copy(network)
    use_runtime(network, "torch")
    assert twin.graphs is not None
    torch.testing.assert_close(answers(twin, given), expected, rtol=0, atol=0)


@pytest.mark.parametrize("engine", ["torch", *ENGINES])
def test_threads_that_call_at_once_get_their_own_answers(engine):
    """Crops of one size and of two, from the first call on, when the engine's graph is made."""
    network, threads = make("PCNetMask"), 4
    given = [two(1 + index, 32, 32 + 32 * (index == 3)) for index in range(threads)]
    for index, planes in enumerate(given):
        planes["mask"] = planes["mask"].roll(5 * index, 3)
    expected = [answers(network, planes)[0] for planes in given]
    use_runtime(network, engine)
    together = Barrier(threads, timeout=60)

    def furthest(index):
        together.wait()
        return max(float((answers(network, given[index])[0] - expected[index]).abs().max()) for _ in range(30))

    with ThreadPoolExecutor(threads) as pool:
        assert max(pool.map(furthest, range(threads))) < TOLERANCE
    if engine != "torch":
        assert len(network.graphs["forward"].sessions) == 1


def test_in_training_mode_torch_computes():
    network = make("PCNetMask")
    use_runtime(network, "onnx")
    network.train()(**two(2, 32, 32)).logits.sum().backward()
    assert network.conv_out.weight.grad is not None


@pytest.mark.parametrize("engine", ENGINES)
def test_what_computes_is_told(engine):
    network = make("PCNetMask")
    assert runtime_of(network) == "torch"
    use_runtime(network, engine)
    assert runtime_of(network) == runtime_of(copy.deepcopy(network)) == engine
    use_runtime(network, "torch")
    assert runtime_of(network) == "torch"


def test_an_empty_batch():
    network = make("PCNetMask")
    use_runtime(network, "onnx")
    assert network(**two(0, 32, 32)).logits.shape == (0, 2, 32, 32)


def test_wrong_inputs_are_named():
    network = make("PCNetMask, folded")
    use_runtime(network, "onnx")
    given = two(2, 32, 32)
    for change, message in (
        ({"eraser": given["eraser"][:, :, :16]}, r"`eraser` must have shape \(2, 1, 32, 32\), got \(2, 1, 16, 32\)"),
        ({"mask": given["mask"][:1]}, r"`eraser` must have shape \(1, 1, 32, 32\)"),
        ({"image": torch.zeros(2, 3, 32, 32)}, "`image` must be None"),
        ({"eraser": None}, "`eraser` must be given"),
        (
            {name: value[..., :31] for name, value in given.items()},
            "`mask` must have a width .* multiple of 2 .*, got 31",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            network(**{**given, **change})


def test_unknown_runtimes_and_networks_are_named(monkeypatch):
    with pytest.raises(ValueError, match="`runtime` must be one of 'torch', 'onnx', 'openvino', got 'tensorrt'"):
        use_runtime(make("PCNetMask"), "tensorrt")
    with pytest.raises(TypeError, match="`network` must be one of PCNetMask.*, got Linear"):
        use_runtime(nn.Linear(2, 2), "onnx")
    for module, runtime in (("onnxruntime", "onnx"), ("openvino", "openvino"), ("onnx", "onnx")):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, module, None)
            with pytest.raises(ImportError, match=r"pip install 'amodal-diffusion\[" + runtime):
                use_runtime(make("PCNetMask"), runtime)


# Pipelines


@pytest.mark.parametrize("engine", ENGINES)
def test_a_folder_loads_for_a_runtime_and_saves_as_ever(tmp_path, engine):
    _, modal = crossing_bars()[::-1]
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path / "one")
    expected = pipeline(None, modal)
    loaded = AmodalPipeline.from_pretrained(tmp_path / "one", runtime=engine)
    assert loaded.model.graphs is not None
    np.testing.assert_allclose(loaded(None, modal).probabilities, expected.probabilities, atol=TOLERANCE)
    loaded.save_pretrained(tmp_path / "two")
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*")) for folder in tmp_path.iterdir()]
    assert files[0] == files[1]
    again = AmodalPipeline.from_pretrained(tmp_path / "two")
    assert again.model.graphs is None
    np.testing.assert_array_equal(again(None, modal).probabilities, expected.probabilities)
    with pytest.raises(ValueError, match="`runtime` must be one of"):
        AmodalPipeline.from_pretrained(tmp_path / "one", runtime="tensorrt")


@pytest.mark.parametrize("engine", ENGINES)
def test_eight_bits(engine):
    modal = crossing_bars()[0]
    pipeline = tiny_pipeline()
    expected = pipeline(None, modal)
    pipeline.use_runtime(engine, calibration=lambda: pipeline(None, modal))
    graph = onnx.load_from_string(pipeline.model.graphs["forward"].onnx).graph
    coarse = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    in_8_bits = [coarse.issuperset(node.input[:2]) for node in graph.node if node.op_type == "Conv"]
    first, last = len(in_8_bits) // 4, len(in_8_bits) * 3 // 4  # the finest levels of the U-Net stay in float32
    assert first and in_8_bits == [first <= place < last for place in range(len(in_8_bits))]
    found = pipeline(None, modal)
    np.testing.assert_array_equal(found.order, expected.order)
    assert 0 < abs(found.probabilities - expected.probabilities).mean() < 0.02


def test_a_calibration_without_calls_or_engine_is_refused():
    pipeline = tiny_pipeline()
    with pytest.raises(ValueError, match="`calibration` must call the pipeline so that PCNetMask is asked"):
        pipeline.use_runtime("onnx", calibration=lambda: None)
    with pytest.raises(TypeError, match="`calibration` must be a function or None, got str"):
        pipeline.use_runtime("onnx", calibration="photos")
    with pytest.raises(ValueError, match="`calibration` must be None where torch computes"):
        pipeline.use_runtime("torch", calibration=lambda: None)
    assert pipeline.model.graphs is None
    scene = ScenePipeline(pipeline, tiny_content())
    with pytest.raises(ValueError, match="so that PCNetContent is asked"):
        scene.use_runtime("onnx", calibration=lambda: pipeline(None, crossing_bars()[0]))
    assert [network.graphs for network in scene.networks] == [None, None]


def test_both_parts_of_a_scene_pipeline(tmp_path):
    ScenePipeline(tiny_pipeline(), tiny_content()).save_pretrained(tmp_path)
    loaded = ScenePipeline.from_pretrained(tmp_path, runtime="onnx")
    assert all(network.graphs is not None for network in loaded.networks) and len(loaded.networks) == 2


# Files


def test_files_of_a_pipeline_for_other_programs(tmp_path, capsys):
    tiny_pipeline().save_pretrained(tmp_path / "pcnet-m")
    out = tmp_path / "onnx"
    assert cli.main(["export", "onnx", str(tmp_path / "pcnet-m"), str(out)]) == 0
    assert capsys.readouterr().out.split() == [str(out / "model.onnx"), str(out / "onnx.json")]
    onnx.checker.check_model(out / "model.onnx")
    record = json.loads((out / "onnx.json").read_text(encoding="utf-8"))
    assert record["pipeline"] == "PCNetMaskPipeline" and record["settings"]["crop"] == "nearest"
    described = record["networks"]["model.onnx"]
    assert described["inputs"]["mask"] == {"shape": ["batch", 1, "height", "width"], "dtype": "float32"}
    model = onnx.load(out / "model.onnx").graph
    assert [value.name for value in model.input] == list(described["inputs"])
    assert [value.name for value in model.output] == described["outputs"] == ["logits"]


def test_every_kind_of_folder_is_exported(tmp_path):
    vae = AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=2, block_out_channels=(2, 4)))
    sdamodal = tiny_sdamodal()
    for name, pipeline, files in (
        ("vae", vae, ["model_encode.onnx", "model_decode.onnx", "model_place.onnx"]),
        ("sdamodal", sdamodal, ["decoder.onnx"]),
        ("content", tiny_content(), ["model.onnx"]),
    ):
        pipeline.save_pretrained(tmp_path / name)
        written = export_pipeline(tmp_path / name, tmp_path / f"{name}-onnx")
        assert [path.name for path in written] == [*files, "onnx.json"]
        assert all(path.is_file() for path in written)
    with pytest.raises(FileNotFoundError, match=r"it holds ONNX files .* Load the pipeline .* runtime=.onnx"):
        type(vae).from_pretrained(tmp_path / "vae-onnx", runtime="onnx")
    ScenePipeline(tiny_pipeline(), tiny_content()).save_pretrained(tmp_path / "scene")
    with pytest.raises(ValueError, match="holds `ScenePipeline`, which has no networks of its own to export"):
        export_pipeline(tmp_path / "scene", tmp_path / "out")


def test_the_files_of_an_earlier_export_go(tmp_path):
    """Which another program would take for a part of the new one; those of others stay."""
    vae = AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=2, block_out_channels=(2, 4)))
    vae.save_pretrained(tmp_path / "vae")
    tiny_pipeline().save_pretrained(tmp_path / "pcnet-m")
    out, kept = tmp_path / "onnx", tmp_path / "kept.onnx"
    export_pipeline(tmp_path / "vae", out)
    for path in (kept, out / "mine.onnx", out / "notes.txt"):
        path.write_text("mine")
    record = json.loads((out / "onnx.json").read_text())
    record["networks"] |= {"../kept.onnx": {}, "notes.txt": {}}
    (out / "onnx.json").write_text(json.dumps(record))
    export_pipeline(tmp_path / "pcnet-m", out)
    assert sorted(path.name for path in out.iterdir()) == ["mine.onnx", "model.onnx", "notes.txt", "onnx.json"]
    assert kept.read_text() == "mine"
    for broken in ("{", '{"networks": [1, "mine.onnx"]}'):  # nobody knows which files it was of
        (out / "onnx.json").write_text(broken)
        with pytest.raises(FileExistsError, match=r"holds other files, such as 'onnx\.json'; choose a new folder"):
            export_pipeline(tmp_path / "vae", out)
        assert not (out / "model_encode.onnx").exists()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "model.onnx").write_text("mine")
    with pytest.raises(FileExistsError, match=r"such as 'model\.onnx'"):
        export_pipeline(tmp_path / "pcnet-m", tmp_path / "new")
    assert (tmp_path / "new" / "model.onnx").read_text() == "mine"


def test_exporting_changes_nothing(tmp_path):
    network = make("PCNetMask").to(torch.bfloat16).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    files = export_onnx(network)
    assert list(files) == ["forward"] and network.training and network.dtype == torch.bfloat16
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
