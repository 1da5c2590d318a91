"""Published ASBU checkpoints become pipelines."""

import pytest
import torch

from amodal_diffusion import AmodalPipeline, ASBUPipeline
from amodal_diffusion.cli.main import main
from amodal_diffusion.conversion import convert_asbu, convert_asbu_weights
from pipeline_helpers import crossing_bars, published_weights


@pytest.fixture(scope="module")
def published():
    return published_weights(scale=8)


@pytest.fixture
def checkpoint(published, tmp_path):
    path = tmp_path / "KINS_ASBU.pth.tar"
    torch.save({"step": 1, "state_dict": {f"module.{key}": value for key, value in published.items()}}, path)
    return path


@pytest.mark.parametrize(("category_aware", "thresholds"), [(False, (0.5, 0.5)), (True, (0.4, 0.3))])
def test_converted_folder_loads(category_aware, thresholds, checkpoint, published, tmp_path):
    folder = convert_asbu(checkpoint, tmp_path / "asbu", category_aware=category_aware, sample_size=32)
    pipe = AmodalPipeline.from_pretrained(folder)
    assert type(pipe) is ASBUPipeline and not pipe.model.training
    assert (pipe.config.order_threshold, pipe.config.mask_threshold) == thresholds
    assert pipe.model.config.class_conditioned is category_aware and pipe.model.config.sample_size == 32
    torch.testing.assert_close(pipe.model.unet.conv_out.weight, published["outc.conv.weight"])
    ids = [1, 2] if category_aware else None
    assert pipe(None, crossing_bars()[0], category_ids=ids).uncertainty.shape == (2, 60, 80)


def test_command(checkpoint, tmp_path):
    assert main(["convert", "asbu", str(checkpoint), str(tmp_path / "out"), "--category-aware"]) == 0
    assert AmodalPipeline.from_pretrained(tmp_path / "out").config.mask_threshold == 0.3


def test_another_network_is_refused(published, tmp_path):
    renamed = {f"other.{key}": value for key, value in published.items()}
    with pytest.raises(ValueError, match="weights of ASBU: it has no key 'inc.conv.conv.0.weight'"):
        convert_asbu_weights(renamed)
    missing = {key: value for key, value in published.items() if key != "outc.conv.bias"}
    with pytest.raises(ValueError, match=r"(?s)ASBU with .*outc\.conv\.bias"):
        convert_asbu_weights(missing)
    wide = {**published, "inc.conv.conv.0.weight": torch.zeros(4, 4, 3, 3)}
    torch.save({"state_dict": wide}, tmp_path / "wide.pth")
    with pytest.raises(ValueError, match=r"wide.pth.*must take 2 planes \(mask, occluder\), or 5 with RGB.* takes 4"):
        convert_asbu(tmp_path / "wide.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_network_that_sees_the_photo(published):
    first = published["inc.conv.conv.0.weight"]
    wide = {**published, "inc.conv.conv.0.weight": torch.cat([first, torch.zeros(len(first), 3, 3, 3)], dim=1)}
    seeing, blind = convert_asbu_weights(wide), convert_asbu_weights(published)
    assert seeing.config.use_rgb and not blind.config.use_rgb
    mask, boundary = torch.rand(2, 1, 1, 64, 64)
    torch.testing.assert_close(  # the photo's weights are 0
        seeing(mask, boundary, image=torch.rand(1, 3, 64, 64)).logits, blind(mask, boundary).logits
    )
