"""The losses of the training scripts against independent computations."""

import math

import pytest
import torch


def test_uncertainty_weighted_loss_pixel_by_pixel():
    from trainer.losses import uncertainty_weighted_loss

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 3, 4, generator=generator)
    target, occluder = ((torch.rand(2, 1, 3, 4, generator=generator) > 0.5).float() for _ in range(2))
    total = 0.0
    for b in range(2):
        for y in range(3):
            for x in range(4):
                m = 1 / (1 + math.exp(-float(logits[b, 0, y, x])))
                u = math.log1p(math.exp(float(logits[b, 1, y, x])))
                cost = 0.5 * (((float(target[b, 0, y, x]) - m) / (u + 1e-6)) ** 2 + u**2)
                total += cost * (5.0 if occluder[b, 0, y, x] else 1.0)
    assert float(uncertainty_weighted_loss(logits, target, occluder)) == pytest.approx(total / 24, rel=1e-5)


def test_the_best_uncertainty_is_the_root_of_the_error():
    """Setting the derivative by u to 0 gives u = sqrt(|target - m|), and then the cost is |target - m|."""
    from trainer.losses import uncertainty_weighted_loss

    probability = torch.tensor(0.3)
    spread = torch.linspace(-4, 4, 4001)
    logits = torch.stack([torch.logit(probability).expand_as(spread), spread]).view(1, 2, 1, -1)
    target, nothing = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    costs = torch.stack([uncertainty_weighted_loss(logits[..., i : i + 1], target, nothing) for i in range(4001)])
    best = torch.nn.functional.softplus(spread[costs.argmin()])
    assert float(best) == pytest.approx(math.sqrt(0.7), abs=2e-3)
    assert float(costs.min()) == pytest.approx(0.7, abs=1e-4)


def test_occluder_loss_looks_at_known_pixels_alone():
    from train_occamodal import occluder_loss

    logits = torch.zeros(1, 2, 2, 2)
    occluder = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    known = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    assert float(occluder_loss(logits, occluder, known)) == pytest.approx(math.log(2))
    logits[:, 1, 1] = 100.0  # wrong, but where nobody knows
    assert float(occluder_loss(logits, occluder, known)) == pytest.approx(math.log(2))
    logits[:, 1, 0, 1] = 10.0  # wrong where it is known
    assert float(occluder_loss(logits, occluder, known)) > 5
    assert float(occluder_loss(logits, occluder, known * 0)) == 0
