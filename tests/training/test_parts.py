"""Parts of the scripts: reading data sets by flags, pictures."""

import pytest
import torch
from trainer.photo_sources import open_sources
from trainer.pictures import photo_grid

from amodal_diffusion import AmodalVAE, AmodalVAEPipeline, OrderNet, OrderNetPipeline
from photo_helpers import tiny_occamodal, write_photos
from training_helpers import run_main


def test_data_sets_without_photos_are_named(tmp_path):
    path = str(write_photos(tmp_path, images=1))
    with pytest.raises(ValueError, match=r"`--dataset` .*annotations.json has no photos; .* by `--images`"):
        open_sources([path], None, "skip")
    with pytest.raises(ValueError, match="`--validation_images` must name one folder for each of the 1 data sets"):
        open_sources([path], ["x", "y"], "skip", "--validation_dataset")


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Photos, and folders of pipelines that tell something else than what scripts start from or ask."""
    folder = tmp_path_factory.mktemp("others")
    sizes = {"hidden_sizes": (4, 8), "depths": (1, 1), "embedding_size": 4, "layer_type": "basic"}
    OrderNetPipeline(OrderNet(False, **sizes)).save_pretrained(folder / "order")
    OrderNetPipeline(OrderNet(True, **sizes)).save_pretrained(folder / "order-by-photo")
    OrderNetPipeline(OrderNet(False, num_relations=3, answer="depth", **sizes)).save_pretrained(folder / "depth")
    vae = AmodalVAE(sample_size=16, latent_channels=2, block_out_channels=(2, 4))
    AmodalVAEPipeline(vae).save_pretrained(folder / "vae")
    tiny_occamodal().save_pretrained(folder / "occamodal")
    write_photos(folder, images=4)
    return folder


STAGE = ["--stage", "1", "--max_train_steps", "1"]


@pytest.mark.parametrize(
    ("script", "flag", "given", "more", "message"),
    [
        ("train_pcnet_m", "pretrained_pipeline", "order", [], "must be a PCNetMaskPipeline, got OrderNetPipeline"),
        ("train_asbu", "pretrained_pipeline", "order", [], "must be an ASBUPipeline, got OrderNetPipeline"),
        ("train_asbu", "mask_network", "order", [], "must be a PCNetMaskPipeline, got OrderNetPipeline"),
        ("train_single_stage", "pretrained_pipeline", "order", [], "must be a SingleStagePipeline, got Order"),
        ("train_click_segmenter", "pretrained_pipeline", "order", [], "must be a ClickSegmenterPipeline, got Order"),
        ("train_photo_pcnet_m", "mask_network", "order", ["--mask_dataset", "x"], "must be a PCNetMaskPipeline, got"),
        ("train_occamodal", "pretrained_pipeline", "order", ["--stage", "occluder"], "must be an OccAmodalPipeline"),
        ("train_occamodal", "pseudo_labels", "order", ["--stage", "occluder"], "must be a MaskPipeline, got Order"),
        ("train_occamodal", "pseudo_labels", "vae", ["--stage", "occluder"], "hides whom .*; AmodalVAEPipeline does"),
        ("train_occamodal", "pseudo_labels", "occamodal", ["--stage", "occluder"], "; OccAmodalPipeline does not"),
        ("train_order_net", "pretrained_pipeline", "vae", [], "must be an OrderNetPipeline, got AmodalVAEPipeline"),
        ("train_amodal_vae", "pretrained_pipeline", "order", STAGE, "must be an AmodalVAEPipeline, got Order"),
        ("train_amodal_vae", "order_pipeline", "vae", STAGE, "or an OrderNetPipeline, got AmodalVAEPipeline"),
        ("train_amodal_vae", "order_pipeline", "order-by-photo", STAGE, "by masks alone, and it looks at the photo"),
        ("train_amodal_vae", "order_pipeline", "depth", STAGE, "by masks alone, and it tells who is closer"),
    ],
)
def test_pipelines_of_another_kind_are_named(script, flag, given, more, message, others, tmp_path):
    path = str(others / given)
    small = ["--image_encoder", "none"] if script in ("train_single_stage", "train_occamodal") else []
    data = ["--dataset", others / "annotations.json", "--output_dir", tmp_path / "out"]
    with pytest.raises(ValueError, match=f"`--{flag}` '{path}' .*{message}"):
        run_main(script, *data, *small, *more, f"--{flag}", path)
    assert not (tmp_path / "out").exists()


def test_pictures_show_truth_above_and_prediction_below():
    images = torch.zeros(2, 3, 8, 8)
    mask, target = torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    mask[:, :, 2:6, 2:4], target[:, :, 2:6, 2:6] = 1, 1
    picture = photo_grid(images, mask, target, torch.zeros(2, 1, 8, 8))
    assert picture.shape == (16, 16, 3)
    assert picture[4, 5, 0] > 150 > picture[4, 5, 2]  # orange
    assert (picture[12, 5] == 0).all()  # nothing predicted
    assert picture[4, 3].min() > 130  # visible
    assert (picture[12, 3] == picture[4, 3]).all()
