"""Streams (`IterableDataset`) in banks, evaluation and training scripts give what reading the whole gives."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import IterableDataset
from datasets import load_dataset as hf_load_dataset
from safetensors.torch import load_file

from amodal_diffusion.baselines.nearest_mask import NearestMaskBank
from amodal_diffusion.data import amodal_features, load_amodal_dataset, read_annotations, save_parquet
from amodal_diffusion.data.samplers import split_stream
from amodal_diffusion.data.synthesis import MaskBank, PhotoBank, PhotoSynthesisConfig
from amodal_diffusion.evaluation import METHODS, evaluate_methods
from photo_helpers import write_photos
from training_helpers import run_main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), images=8).parent


@pytest.fixture(scope="module")
def whole(folder):
    return read_annotations(folder / "annotations.json", folder)


@pytest.fixture(scope="module")
def parquet(whole, tmp_path_factory):
    target = tmp_path_factory.mktemp("parquet")
    save_parquet(whole, target)
    return target


@pytest.fixture(params=["shards", "shards by load_dataset", "annotation file"])
def stream(request, folder, parquet):
    if request.param == "shards":
        rows = load_amodal_dataset(parquet, streaming=True)
    elif request.param == "shards by load_dataset":
        rows = hf_load_dataset(str(parquet), split="train", streaming=True)
    else:
        rows = read_annotations(folder / "annotations.json", folder, streaming=True)
    assert isinstance(rows, IterableDataset)
    return rows


def assert_same(one, two):
    for name, value in vars(one).items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, getattr(two, name), rtol=0, atol=0)
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(two, name))


def test_mask_bank(whole, stream):
    banks = [MaskBank.from_sources([rows], resolution=32, min_area=40) for rows in (whole, stream)]
    assert len(banks[0]) > 8
    assert_same(*banks)
    objects_alone = MaskBank.from_sources([stream.select_columns(["objects"])], resolution=32, min_area=40)
    assert_same(banks[0], objects_alone)


def test_photo_bank(whole, stream):
    banks = [PhotoBank.from_sources([rows], resolution=32, min_area=40) for rows in (whole, stream)]
    assert len(banks[0]) > 8
    assert_same(*banks)


def test_nearest_masks(whole, stream):
    # As if nothing were in front of anything, so that there are complete masks.
    options = {"size": 16, "occlusions": 1, "min_area": 20, "max_truncation": 1.0}
    options["order"] = lambda masks: np.zeros((len(masks), len(masks)), dtype=np.int8)
    banks = [NearestMaskBank.from_sources([rows], **options) for rows in (whole, stream)]
    assert len(banks[0])
    assert_same(*banks)


def test_evaluation(whole, stream):
    methods = [METHODS[name] for name in ("raw", "convex")]
    reports = [evaluate_methods(rows, methods, limit=5) for rows in (whole, stream)]
    assert reports[0].counts["images"] == 5
    for field in ("completion", "order", "counts"):
        np.testing.assert_equal(getattr(reports[1], field), getattr(reports[0], field))  # some are NaN


@pytest.fixture
def trainer(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    from trainer import photo_sources, synthetic_masks

    return SimpleNamespace(photos=photo_sources, masks=synthetic_masks)


def arguments(*datasets, streaming=True, **options):
    defaults = {"images": None, "dataset_weights": None, "on_error": "raise", "min_area": 40, "seed": 0}
    options = {**defaults, "validation_fraction": 0.25, **options}
    return SimpleNamespace(dataset=[str(path) for path in datasets], streaming=streaming, **options)


def test_training_reads_masks(trainer, folder, parquet):
    (rows,) = trainer.masks.read_mask_sources(arguments(parquet))
    assert isinstance(rows, IterableDataset)
    places = (parquet, folder / "annotations.json")
    bank, again = (
        MaskBank.from_sources(trainer.masks.read_mask_sources(arguments(*places, streaming=streaming)), min_area=40)
        for streaming in (False, True)
    )
    assert set(bank.sources.tolist()) == {0, 1}
    assert_same(bank, again)


def test_a_stream_is_split_the_same_way_each_time(parquet):
    rows = load_amodal_dataset(parquet, streaming=True)
    training, held_out = split_stream(rows, 0.25)
    assert len(training) == 0  # nobody knows yet
    for _ in range(2):
        ids = [[row["image_id"] for row in part] for part in (training, held_out)]
        assert ids == [["2", "3", "4", "6", "7", "8"], ["1", "5"]]
        assert (len(training), len(held_out)) == (6, 2)
    assert next(iter(held_out))["image"].size == next(iter(rows))["image"].size
    for fraction in (0.6, 0.99):  # something is left to train on
        training, _ = split_stream(rows, fraction)
        assert len(list(training)) == 4


def test_training_reads_photos(trainer, folder, parquet):
    accelerator = Accelerator(cpu=True)
    counts = []
    for place in (parquet, folder / "annotations.json"):
        samples, validation, found = trainer.photos.make_photo_synthesizers(
            arguments(place), PhotoSynthesisConfig(size=32), accelerator
        )
        ((_, photos, objects),) = found
        assert (photos, objects) == (6, len(samples.bank)) and len(validation.bank)
        counts.append((len(samples.bank), len(validation.bank)))
        assert samples.sample(0, 4).image.shape == (4, 3, 32, 32)
    assert counts[0] == counts[1]


def test_streams_without_photos_are_refused(trainer, tmp_path):
    masks = read_annotations(write_photos(tmp_path / "a", images=2))
    save_parquet(masks, tmp_path / "out")
    with pytest.raises(ValueError, match=r"has no photos \(no column 'image'\)"):
        trainer.photos.read_photo_sources(arguments(tmp_path / "out"))


def test_a_script_trains_on_a_stream_as_on_the_whole(trainer, parquet, tmp_path, monkeypatch):
    small = [
        "--block_out_channels", "8,16", "--sample_size", "32", "--patch_size", "2", "--train_batch_size", "4",
        "--validation_samples", "4", "--validation_fraction", "0.2", "--max_train_steps", "2", "--min_area", "40",
    ]  # fmt: skip
    for name, options in (("whole", []), ("stream", ["--streaming"])):
        monkeypatch.delitem(sys.modules, "train_pcnet_m", raising=False)
        run_main("train_pcnet_m", "--dataset", parquet, "--output_dir", tmp_path / name, *small, *options)
    weights = [
        load_file(tmp_path / name / "model" / "diffusion_pytorch_model.safetensors") for name in ("whole", "stream")
    ]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=0, atol=0)


def test_streams_have_the_schema(stream, whole):
    assert stream.features == amodal_features(with_image=True) == whole.features
    rows = [{key: value for key, value in row.items() if key != "image"} for row in stream]
    for row, wanted in zip(rows, whole.remove_columns("image").to_list(), strict=True):
        assert json.dumps(row | {"source": ""}, sort_keys=True) == json.dumps(wanted | {"source": ""}, sort_keys=True)
