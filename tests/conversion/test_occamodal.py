"""Published OccAmodal checkpoints: two files, the published networks' answers, and every way in which one is wrong."""

import json

import numpy as np
import pytest
import torch

import parity
from amodal_diffusion import AmodalPipeline, OccAmodalPipeline, OccAmodalPredictor
from amodal_diffusion.conversion import CONVERTERS, convert_occamodal, convert_occamodal_weights
from amodal_diffusion.conversion.occamodal import published_key
from repository_helpers import PARITY

FILES = {1: "occluder.pth.tar", 2: "amodal.pth.tar"}
TINY = {
    "block_out_channels": (4, 6, 8),
    "reduced_channels": 5,
    "image_hidden_sizes": (6, 8, 10),
    "image_depths": (1, 2, 1),
    "image_embedding_size": 6,
    "image_feature_stages": (3,),
    "sample_size": 32,
}


def tiny(planes):
    torch.manual_seed(planes)
    network = OccAmodalPredictor(mask_channels=planes, **TINY)
    for name, value in network.named_buffers():  # statistics that a swap of two of them would show
        if name.endswith(("running_mean", "running_var")):
            value.copy_(torch.rand_like(value) + 0.5)
    return network.eval()


def published(network):
    return {published_key(key): value for key, value in network.state_dict().items()}


def write(folder, planes, weights=None):
    state = {f"module.{key}": value for key, value in (weights or published(tiny(planes))).items()}
    torch.save({"step": 56000, "state_dict": state}, folder / FILES[planes])
    return folder / FILES[planes]


# the published networks


@pytest.mark.parametrize(("name", "planes"), [("occamodal_occluder", 1), ("occamodal_amodal", 2)])
def test_converted_network_answers_as_the_published_one(name, planes):
    keys = json.loads((PARITY / f"{name}.keys.json").read_text(encoding="utf-8"))
    model = convert_occamodal_weights(parity.state_dict(keys))
    assert not model.training and model.dtype == torch.float32
    default = OccAmodalPredictor(mask_channels=planes).config  # the defaults are the published network
    for key in TINY:
        expected = default[key]
        assert model.config[key] == (expected if isinstance(expected, int) else tuple(expected)), key
    inputs = {"mask": parity.tensor(f"{name}/mask", (1, 1, 128, 128), binary=True)}
    inputs["image"] = parity.tensor(f"{name}/image", (1, 3, 128, 128))
    if planes == 2:
        inputs["boundary"] = parity.tensor(f"{name}/boundary", (1, 1, 128, 128), binary=True)
    with torch.no_grad():
        logits = model(**inputs).logits
    expected = torch.from_numpy(np.load(PARITY / f"{name}.npz")["logits"]).float()
    assert expected.std() > 0.1  # or the comparison would say nothing
    torch.testing.assert_close(logits, expected, rtol=0, atol=5e-3)


# the folder


def test_converted_folder_loads_and_runs(tmp_path):
    paths = [write(tmp_path, planes) for planes in (1, 2)]
    folder = CONVERTERS["occamodal"](*paths, tmp_path / "deep" / "occamodal", sample_size=32)
    assert folder == tmp_path / "deep" / "occamodal"
    assert [path.name for path in folder.parent.iterdir()] == ["occamodal"]  # nothing is left beside it
    pipeline = AmodalPipeline.from_pretrained(folder)
    assert isinstance(pipeline, OccAmodalPipeline)
    for network, planes in ((pipeline.occluder_predictor, 1), (pipeline.amodal_predictor, 2)):
        assert network.config.mask_channels == planes and network.config.sample_size == 32
        for key, value in tiny(planes).state_dict().items():
            torch.testing.assert_close(network.state_dict()[key], value, rtol=0, atol=0)
    mask = np.zeros((40, 50), bool)
    mask[10:30, 10:30] = True
    output = pipeline(np.zeros((40, 50, 3), np.uint8), mask)
    assert output.amodal_masks.shape == output.occluder_masks.shape == (1, 40, 50)


@pytest.mark.parametrize("planes", [1, 2])
def test_sizes_are_read_off_the_weights(planes):
    network = tiny(planes)
    model = convert_occamodal_weights(published(network), sample_size=32)
    assert model.config.mask_channels == planes
    for key, value in TINY.items():
        assert model.config[key] == value, key
    mask, image = torch.ones(1, 1, 32, 32), torch.rand(1, 3, 32, 32)
    boundary = {"boundary": mask} if planes == 2 else {}
    with torch.no_grad():
        torch.testing.assert_close(model(mask, image, **boundary).logits, network(mask, image, **boundary).logits)


def test_classifier_of_the_image_encoder_is_left_out():
    weights = published(tiny(1))
    classifier = {"image_encoder.fc.weight": torch.ones(1000, 10), "image_encoder.fc.bias": torch.ones(1000)}
    model = convert_occamodal_weights({**weights, **classifier})
    assert {published_key(key) for key in model.state_dict()} == set(weights)
    with pytest.raises(ValueError, match=r"unexpected \(1\): fc\.weight"):
        convert_occamodal_weights({**weights, "fc.weight": torch.ones(2, 2)})


def test_published_key_refuses_other_names():
    for name in ("unet.nothing.weight", "image_encoder.fc.weight", "model.weight", "unet.reduce_blocks.1.0.weight"):
        with pytest.raises(KeyError, match=name.partition(".")[2].replace(".", r"\.") if "model" not in name else name):
            published_key(name)


# what is refused


def test_swapped_files_are_refused_by_name(tmp_path):
    occluder, amodal = write(tmp_path, 1), write(tmp_path, 2)
    for arguments, message in (
        ((amodal, occluder), "amodal.pth.tar' holds the amodal predictor of OccAmodal, not the occluder predictor"),
        ((occluder, occluder), "occluder.pth.tar' holds the occluder predictor of OccAmodal, not the amodal predictor"),
        ((amodal, amodal), r"The file of the occluder predictor comes first, then that of the amodal predictor\."),
    ):
        with pytest.raises(ValueError, match=message):
            convert_occamodal(*arguments, tmp_path / "out", sample_size=32)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["amodal.pth.tar", "occluder.pth.tar"]


@pytest.mark.parametrize("broken", [1, 2])
def test_all_wrong_keys_in_one_error_that_names_the_file(broken, tmp_path):
    wrong = published(tiny(broken))
    del wrong["outc.conv.bias"], wrong["image_encoder.layer2.1.conv2.weight"], wrong["reduce_dim.1.running_mean"]
    wrong["extra.weight"] = torch.ones(1)
    wrong["down1.mpconv.1.conv.1.weight"] = torch.ones(3)
    paths = [write(tmp_path, planes, wrong if planes == broken else None) for planes in (1, 2)]
    with pytest.raises(ValueError) as caught:
        convert_occamodal(*paths, tmp_path / "out", sample_size=32)
    message = str(caught.value)
    assert message.startswith(f"'{paths[broken - 1]}': ")
    role = {1: "occluder predictor", 2: "amodal predictor"}[broken]
    assert f"the weights of OccAmodal's {role} with (4, 6, 8) channels" in message
    for key in ("outc.conv.bias", "image_encoder.layer2.1.conv2.weight", "reduce_dim.1.running_mean"):
        assert key in message.partition("missing (3): ")[2].partition(";")[0]
    assert "unexpected (1): extra.weight" in message
    assert "of another shape (1): down1.mpconv.1.conv.1.weight: (3,) instead of (6,)" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inc.conv.conv.0.weight": None}, "weights of OccAmodal: it has no key 'inc.conv.conv.0.weight'"),
        (
            {"inc.conv.conv.0.weight": torch.ones(4, 3, 3, 3)},
            r"must take 1 \(modal mask\) or 2 \(modal mask, occlusion boundary\) planes; .* takes 3",
        ),
        ({"reduce_dim.0.weight": None}, "weights of OccAmodal: it has no key 'reduce_dim.0.weight'"),
        ({"image_encoder.conv1.weight": None}, "weights of OccAmodal: it has no key 'image_encoder.conv1.weight'"),
        (
            {"image_encoder.layer1.0.conv1.weight": None},
            "weights of OccAmodal: it has no key 'image_encoder.layer1.0.conv1.weight'",
        ),
        (
            {"image_encoder.layer2.0.conv1.weight": torch.tensor(1.0)},
            r"weights of OccAmodal: 'image_encoder.layer2.0.conv1.weight' has shape \(\)",
        ),
        (
            {"image_encoder.conv1.weight": torch.ones(0, 3, 7, 7)},
            r"weights of OccAmodal: 'image_encoder.conv1.weight' has shape \(0, 3, 7, 7\)",
        ),
        (
            {"image_encoder.layer3.0.conv1.weight": None},
            r"unexpected \(\d+\): image_encoder\.layer3\.0\.",  # a ResNet of two stages and some keys of a third
        ),
    ],
)
def test_other_networks_are_refused(change, message):
    weights = {**published(tiny(1)), **change}
    with pytest.raises(ValueError, match=message):
        convert_occamodal_weights({key: value for key, value in weights.items() if value is not None})


def test_bad_files_and_full_folders_are_named(tmp_path):
    occluder, amodal = write(tmp_path, 1), write(tmp_path, 2)
    with pytest.raises(FileNotFoundError, match="no checkpoint.*gone.pth"):
        convert_occamodal(occluder, tmp_path / "gone.pth", tmp_path / "out")
    (tmp_path / "text.pth").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"text\.pth' is neither a torch checkpoint nor"):
        convert_occamodal(tmp_path / "text.pth", amodal, tmp_path / "out")
    with pytest.raises(ValueError, match=r"occluder\.pth\.tar': `sample_size` must hold positive integers, got 0"):
        convert_occamodal(occluder, amodal, tmp_path / "out", sample_size=0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="full' exists already"):
        convert_occamodal(occluder, amodal, tmp_path / "full", sample_size=32)
    assert not (tmp_path / "out").exists() and (tmp_path / "full" / "notes.txt").read_text() == "mine"
