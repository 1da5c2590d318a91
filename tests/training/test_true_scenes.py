"""Scenes with true whole masks beside what is synthesised: `--true_dataset` of PCNet-M and ASBU."""

import json

import pytest
import torch

from amodal_diffusion.data import read_annotations
from photo_helpers import write_photos
from training_helpers import run_main, saved_weights, write_coco

SMALL = [
    "--block_out_channels", "8,16", "--sample_size", "32", "--patch_size", "2", "--train_batch_size", "4",
    "--validation_samples", "8", "--validation_fraction", "0.2", "--logging_steps", "1", "--recipe", "improved",
    "--min_area", "40", "--true_validation_photos", "2", "--max_train_steps", "4",
]  # fmt: skip
SCRIPTS = ("train_pcnet_m", "train_asbu")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    return ["--dataset", write_coco(folder / "masks.json"), "--true_dataset", write_photos(folder, images=5)]


@pytest.mark.parametrize("script", SCRIPTS)
def test_learns_from_both_and_resumes_exactly(script, sources, tmp_path):
    whole, parts = ([*sources, "--output_dir", tmp_path / name, *SMALL] for name in ("whole", "parts"))
    run_main(script, *whole)
    curve = json.loads((tmp_path / "whole" / "learning_curve.json").read_text(encoding="utf-8"))
    assert {"miou", "inv_miou", "true_miou", "true_inv_miou"} < set(curve[-1])
    card = (tmp_path / "whole" / "README.md").read_text(encoding="utf-8")
    assert "in 3 scenes, whole" in card and "25% of the samples are pairs of these." in card
    run_main(script, *parts, "--resume_from_checkpoint", "latest", "--stop_after_steps", 2)
    run_main(script, *parts, "--resume_from_checkpoint", "latest")
    expected = saved_weights(tmp_path / "whole")
    for name, value in saved_weights(tmp_path / "parts").items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--true_share", "1"], "`--true_share` must lie between 0 and 1, got 1.0"),
        (["--use_rgb"], "`--true_dataset` does not go with `--use_rgb`"),
        (["--class_conditioned"], "`--true_dataset` does not go with `--class_conditioned`"),
        (["--true_validation_photos", "5"], "`--true_validation_photos` must lie in .1, 4. for the 5 photos of"),
        (["--true_validation_photos", "-1"], "`--true_validation_photos` must be at least 1, got -1"),
    ],
)
def test_refused_flags(script, flags, message, sources, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_main(script, *sources, "--output_dir", tmp_path / "run", *SMALL, *flags)


def test_masks_alone_are_no_true_scenes(sources, tmp_path):
    folder = tmp_path / "masks"
    read_annotations(sources[3]).to_parquet(folder / "train.parquet")
    with pytest.raises(ValueError, match="`--true_dataset` .* has no photos"):
        run_main("train_pcnet_m", *sources[:2], "--true_dataset", folder, "--output_dir", tmp_path / "run", *SMALL)
