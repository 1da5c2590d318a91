"""Scattered values continued over a picture."""

import pytest
import torch

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


def test_less_than_full_trust_is_no_reason_to_stop():
    values, weights = torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 0.5)
    values[..., 0, 0] = 1
    assert 0 < float(pull_push(values, weights)[0, 0, 0, 1]) < 1
