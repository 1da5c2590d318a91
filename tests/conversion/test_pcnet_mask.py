"""Published checkpoints: every file format they come in, every way in which one can be wrong."""

import collections
import os
import pickle
import threading
import warnings

import pytest
import torch
from safetensors.torch import save_file

from amodal_diffusion import AmodalPipeline, PCNetMask
from amodal_diffusion.checkpoints import load_published_state_dict
from amodal_diffusion.conversion import (
    CONVERTERS,
    convert_pcnet_mask,
    convert_pcnet_mask_weights,
)
from amodal_diffusion.conversion.checkpoint import save_pipeline
from amodal_diffusion.conversion.pcnet_mask import published_key
from pipeline_helpers import crossing_bars, published_weights, tiny_model, tiny_pipeline


@pytest.fixture(scope="module")
def published():
    """Published keys, an eighth of the published widths."""
    return published_weights(scale=8)


def test_threads_that_read_at_once_leave_the_warnings_as_they_were(tmp_path, monkeypatch):
    path, load, before = tmp_path / "weights.pth", torch.load, list(warnings.filters)
    torch.save({"weight": torch.ones(2)}, path)
    begun = [threading.Event(), threading.Event()]

    def slowly(*arguments, **options):
        number = int(threading.current_thread().name)
        begun[number].set()
        threads[0].join(20) if number else begun[1].wait(0.5)  # the thread that began later ends later
        return load(*arguments, **options)

    threads = [
        threading.Thread(target=load_published_state_dict, args=(path,), name=str(number)) for number in range(2)
    ]
    monkeypatch.setattr(torch, "load", slowly)
    threads[0].start()
    assert begun[0].wait(20)
    threads[1].start()
    for thread in threads:
        thread.join(20)
    assert begun[1].is_set() and list(warnings.filters) == before


def checkpoint(weights, prefix="module."):
    state = collections.OrderedDict((prefix + key, value) for key, value in weights.items())
    return {"step": 32000, "state_dict": state, "optimizer": {"state": {0: {"m": torch.ones(3)}}, "param_groups": []}}


def write(path, content, legacy=False):
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


FORMATS = {
    "zip": lambda path, weights: write(path, checkpoint(weights)),
    "legacy": lambda path, weights: write(path, checkpoint(weights), legacy=True),
    "entry model, no prefix": lambda path, weights: write(path, {"n_iter": 3, "model": weights, "optimizer": {}}),
    "bare": lambda path, weights: write(path, weights),
    "safetensors": lambda path, weights: save_file({f"module.{k}": v for k, v in weights.items()}, path),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name, published, tmp_path):
    path = tmp_path / "COCOA_pcnet_m.pth.tar"  # ".tar" is only a name
    FORMATS[name](path, published)
    loaded = load_published_state_dict(path)
    assert loaded.keys() == published.keys()
    assert all(torch.equal(loaded[key], value) for key, value in published.items())


def test_cuda_tensors_come_to_the_cpu(published, tmp_path):
    # A file as saved from a GPU differs in the location that its storages name.
    path = write(tmp_path / "cuda.pth", checkpoint({"weight": torch.ones(3)}), legacy=True)
    path.write_bytes(path.read_bytes().replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"))
    assert b"cuda:0" in path.read_bytes()
    assert load_published_state_dict(path)["weight"].device.type == "cpu"


@pytest.mark.parametrize("category_aware", [False, True])
def test_converted_folder_loads(category_aware, published, tmp_path):
    path = write(tmp_path / "checkpoint.pth.tar", checkpoint(published))
    folder = CONVERTERS["pcnet-m"](path, tmp_path / "deep" / "pcnet-m", category_aware=category_aware, sample_size=64)
    assert folder == tmp_path / "deep" / "pcnet-m"
    assert [path.name for path in folder.parent.iterdir()] == ["pcnet-m"]  # nothing is left beside it
    assert os.stat(folder).st_mode & 0o077 == 0o077 & ~_umask()
    pipeline = AmodalPipeline.from_pretrained(folder)
    assert isinstance(pipeline.model, PCNetMask)
    assert pipeline.model.config.class_conditioned is category_aware
    assert pipeline.model.config.block_out_channels == [4, 8, 16, 32, 32]
    assert pipeline.model.config.sample_size == 64
    assert (pipeline.config.order_threshold, pipeline.config.mask_threshold) == (0.1, 0.2)
    for key, value in pipeline.model.state_dict().items():
        torch.testing.assert_close(value, published[published_key(key)], rtol=0, atol=0)
    modal, _ = crossing_bars()
    assert pipeline(None, modal, category_ids=[1, 2]).amodal_masks.shape == modal.shape


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_depth_is_read_off_the_keys():
    weights = {published_key(key): value for key, value in tiny_model().state_dict().items()}
    model = convert_pcnet_mask_weights(weights, sample_size=32)
    assert tuple(model.config.block_out_channels) == (4, 8, 8)


def test_all_wrong_keys_in_one_error(published):
    wrong = dict(published)
    del wrong["outc.conv.bias"], wrong["up1.conv.conv.0.bias"]
    wrong["extra.weight"] = torch.ones(1)
    wrong["down1.mpconv.1.conv.1.weight"] = torch.ones(3)
    with pytest.raises(ValueError) as caught:
        convert_pcnet_mask_weights(wrong)
    message = str(caught.value)
    assert "missing (2): up1.conv.conv.0.bias, outc.conv.bias" in message
    assert "unexpected (1): extra.weight" in message
    assert "of another shape (1): down1.mpconv.1.conv.1.weight: (3,) instead of (8,)" in message


def test_error_names_the_file_and_leaves_no_folder(published, tmp_path):
    del (weights := dict(published))["outc.conv.bias"]
    path = write(tmp_path / "broken.pth", checkpoint(weights))
    with pytest.raises(ValueError, match=r"broken\.pth.*missing \(1\): outc\.conv\.bias"):
        convert_pcnet_mask(path, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["broken.pth"]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"encoder.weight": torch.ones(1)}, "weights of PCNet-M.*'encoder.weight'"),
        ({"inc.conv.conv.0.weight": torch.ones(4, 4, 3, 3)}, "must take 2 planes.*takes 4"),
        (
            {"inc.conv.conv.0.weight": torch.ones(4)},
            r"'inc.conv.conv.0.weight' has shape \(4,\), which",
        ),
        ({"inc.conv.conv.0.weight": torch.ones(4, 2, 3, 3)}, "no key 'down1.mpconv.1.conv.0.weight'"),
        (
            {"inc.conv.conv.0.weight": torch.ones(4, 2, 3, 3), "down1.mpconv.1.conv.0.weight": torch.tensor(1.0)},
            r"'down1.mpconv.1.conv.0.weight' has shape \(\), which no convolution has",
        ),
        (
            {"inc.conv.conv.0.weight": torch.ones(0, 2, 3, 3), "down1.mpconv.1.conv.0.weight": torch.ones(4, 0, 3, 3)},
            r"'inc.conv.conv.0.weight' has shape \(0, 2, 3, 3\), which no convolution has",
        ),
    ],
)
def test_other_networks_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        convert_pcnet_mask_weights(weights)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_hostile_pickle_is_refused_and_not_run(legacy, published, tmp_path):
    path = write(tmp_path / "hostile.pth", {**checkpoint(published), "extra": Hostile(tmp_path / "ran")}, legacy)
    with pytest.raises(ValueError, match=r"hostile\.pth' is refused.*asks for `\w+\.mkdir`") as caught:
        load_published_state_dict(path)
    assert "weights_only=False" not in str(caught.value) and "False" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_bare_hostile_pickle(protocol, tmp_path):
    path = tmp_path / "hostile.pkl"
    path.write_bytes(pickle.dumps(Hostile(tmp_path / "ran"), protocol=protocol))
    with pytest.raises(ValueError, match=r"hostile\.pkl' is (refused|truncated or damaged)"):
        load_published_state_dict(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", ["zip", "legacy", "safetensors"])
def test_truncated_file_is_named(name, share, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut.pth"
    FORMATS[name](whole, {"weight": torch.ones(100, 100)})
    content = whole.read_bytes()
    cut.write_bytes(content[: max(9, int(len(content) * share))])
    with pytest.raises(ValueError, match=r"cut\.pth' is (truncated or damaged|refused)"):
        load_published_state_dict(cut)


WRONG_FILES = {
    "empty": (b"", "is empty"),
    "text": (b"<!DOCTYPE html><html>", "neither a torch checkpoint nor a safetensors file"),
    "tar": (b"checkpoint/" + bytes(600), "neither a torch checkpoint nor a safetensors file"),
    "zip of another kind": (b"PK\x03\x04" + bytes(40), "truncated or damaged"),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_other_files(case, tmp_path):
    content, message = WRONG_FILES[case]
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(ValueError, match=rf"file\.pth.*{message}"):
        load_published_state_dict(tmp_path / "file.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "must hold a dictionary, got list"),
        ({"step": 3}, "got entries step that are no tensors"),
        ({"state_dict": {}}, "got an empty one"),
        ({"state_dict": {"a": torch.ones(1), "b": 3}}, "got entries b that are no tensors"),
        ({"state_dict": {"module.a": torch.ones(1), "a": torch.ones(1)}}, "both with and without the prefix 'module.'"),
        ({"state_dict": {"a": torch.tensor([1.0, float("nan")])}}, "NaN or infinity in a"),
    ],
)
def test_other_contents(content, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_published_state_dict(write(tmp_path / "file.pth", content))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint.*gone.pth"):
        load_published_state_dict(tmp_path / "gone.pth")
    with pytest.raises(ValueError, match="is a folder"):
        load_published_state_dict(tmp_path)


def test_output_that_exists_is_kept(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="out' exists already"):
        save_pipeline(tiny_pipeline(), tmp_path / "out")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_empty_output_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    assert (save_pipeline(tiny_pipeline(), tmp_path / "out") / "model_index.json").is_file()


def test_failed_save_leaves_nothing(tmp_path, monkeypatch):
    pipeline = tiny_pipeline()
    monkeypatch.setattr(
        pipeline, "save_config", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")), raising=False
    )
    with pytest.raises(OSError, match="disk full"):
        save_pipeline(pipeline, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_sees_the_photo(published, tmp_path):
    first = published["inc.conv.conv.0.weight"]
    torch.manual_seed(0)
    wide = {**published, "inc.conv.conv.0.weight": torch.cat([first, torch.rand(len(first), 3, 3, 3)], dim=1)}
    folder = convert_pcnet_mask(write(tmp_path / "rgb.pth", checkpoint(wide)), tmp_path / "out", sample_size=64)
    pipe = AmodalPipeline.from_pretrained(folder)
    assert pipe.model.config.use_rgb and pipe.needs_image
    torch.testing.assert_close(pipe.model.conv_in[0].weight, wide["inc.conv.conv.0.weight"])
    with pytest.raises(ValueError, match="or 5 with RGB after them; 'inc.conv.conv.0.weight' takes 3"):
        convert_pcnet_mask_weights({**published, "inc.conv.conv.0.weight": torch.zeros(len(first), 3, 3, 3)})
