"""The losses of Amodal-VAE's stages."""

import pytest
import torch

from amodal_diffusion.data.samplers import PartialBatch
from amodal_diffusion.losses import ShapeWeights, expected_distance, partial_loss
from amodal_diffusion.models import AmodalVAE, DiagonalGaussian


def test_expected_distance_is_that_of_samples():
    generator = torch.Generator().manual_seed(0)
    first = DiagonalGaussian(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.3, -1.0]]))
    second = DiagonalGaussian(torch.tensor([[0.0, 1.0]]), torch.tensor([[-0.5, 0.2]]))
    exact = float(expected_distance(first, second))
    draws = [
        DiagonalGaussian(one.mean.expand(40000, 2), one.log_variance.expand(40000, 2)).sample(generator)
        for one in (first, second)
    ]
    assert exact == pytest.approx(float(0.5 * (draws[0] - draws[1]).square().sum(1).mean()), rel=0.02)


def test_stage_three_looks_at_visible_pixels_alone():
    torch.manual_seed(0)
    model = AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(8, 16))
    visible, frame, front = torch.ones(2, 1, 16, 16), torch.zeros(2, 24, 24), torch.zeros(2, 24, 24)
    frame[:, 8:16, 8:16] = 1
    front[:, :, 16:] = 1

    def nll(weights, front=front):
        batch = PartialBatch(visible, frame, front, torch.zeros(2, dtype=torch.int64))
        logs = partial_loss(model, batch, None, torch.Generator().manual_seed(0), weights)[1]
        return float(logs["visible_nll"])

    plain, wide = ShapeWeights(), ShapeWeights(background=1.0)
    assert nll(plain) == nll(plain, front * 0)  # what lies beside the object does not matter
    assert nll(wide) > nll(plain)
    assert nll(wide, front * 0) > nll(wide)  # and with the background, what is in front does not
