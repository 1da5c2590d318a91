"""Scattered values continued over a picture."""

import pytest
import torch

from amodal_diffusion import PCNetContent
from amodal_diffusion.models import pull_push as module
from amodal_diffusion.models.pull_push import pull_push


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (33, 20), (64, 64)])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_stopping_where_all_is_known_changes_nothing(size, share, monkeypatch):
    draws = torch.Generator().manual_seed(0)
    values = torch.rand(2, 3, *size, generator=draws)
    weights = (torch.rand(2, 1, *size, generator=draws) < share).float()
    early = pull_push(values, weights)
    monkeypatch.setattr(module, "_all_known", lambda weights: False)
    assert torch.equal(pull_push(values, weights), early)
    known = weights.expand_as(values) == 1
    assert torch.equal(early[known], values[known])


@pytest.mark.parametrize("trust", [0.5, 0.9])
def test_less_than_full_trust_is_no_reason_to_stop(trust):
    values, weights = torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), trust)
    values[..., 0, 0] = 1
    assert 0 < float(pull_push(values, weights)[0, 0, 0, 1]) < 1


def test_values_and_weights_have_gradients():
    values, weights = torch.rand(1, 2, 5, 5, requires_grad=True), torch.ones(1, 1, 5, 5, requires_grad=True)
    pull_push(values, weights).square().sum().backward()
    assert values.grad.abs().sum() > 0 and weights.grad is not None


def test_compiled_without_a_break():
    network = PCNetContent(block_out_channels=(2, 4, 4), sample_size=16, use_prior=True).eval()
    inputs = {
        "image": torch.rand(1, 3, 16, 16),
        "visible": torch.rand(1, 1, 16, 16).round(),
        "mask": torch.ones(1, 1, 16, 16),
    }
    with torch.no_grad():
        expected = network(**inputs).image
        network.compile(fullgraph=True, backend="eager")
        torch.testing.assert_close(network(**inputs).image, expected)
