"""Losses of masks against independent computations."""

import itertools
import math

import pytest
import torch
from torch.distributions import Bernoulli

from amodal_diffusion.losses import (
    bernoulli_nll,
    binary_completion_loss,
    click_loss,
    completion_loss,
    decoupled_loss,
    gaussian_loss,
    occluder_loss,
    placed_nll,
    question_loss,
    uncertainty_weighted_entropy,
    uncertainty_weighted_loss,
)


def test_uncertainty_weighted_loss_pixel_by_pixel():
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
    probability = torch.tensor(0.3)
    spread = torch.linspace(-4, 4, 4001)
    logits = torch.stack([torch.logit(probability).expand_as(spread), spread]).view(1, 2, 1, -1)
    target, nothing = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    costs = torch.stack([uncertainty_weighted_loss(logits[..., i : i + 1], target, nothing) for i in range(4001)])
    best = torch.nn.functional.softplus(spread[costs.argmin()])
    assert float(best) == pytest.approx(math.sqrt(0.7), abs=2e-3)
    assert float(costs.min()) == pytest.approx(0.7, abs=1e-4)


def test_occluder_loss_looks_at_known_pixels_alone():
    logits = torch.zeros(1, 2, 2, 2)
    occluder = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    known = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    assert float(occluder_loss(logits, occluder, known)) == pytest.approx(math.log(2))
    logits[:, 1, 1] = 100.0  # wrong, but where nobody knows
    assert float(occluder_loss(logits, occluder, known)) == pytest.approx(math.log(2))
    logits[:, 1, 0, 1] = 10.0  # wrong where it is known
    assert float(occluder_loss(logits, occluder, known)) > 5
    assert float(occluder_loss(logits, occluder, known * 0)) == 0


def test_completion_loss_is_the_published_one():
    logits = torch.tensor([[[[0.0, 2.0]], [[0.0, 0.0]]]])  # object: 0.5, 1 / (1 + e²)
    target, eraser = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[1.0, 0.0]]]])
    expected = (5 * torch.log(torch.tensor(2.0)) + torch.log1p(torch.exp(torch.tensor(-2.0)))) / 2
    torch.testing.assert_close(completion_loss(logits, target, eraser), expected)


@pytest.mark.parametrize(
    ("loss", "cost"),
    [
        (gaussian_loss, lambda t, m, u: 0.5 * ((t - m) ** 2 / u**2 + math.log(u**2))),
        (uncertainty_weighted_entropy, lambda t, m, u: 0.5 * (-math.log(m if t else 1 - m) / u**2 + u**2)),
    ],
)
def test_rivals_of_the_uncertainty_weighted_loss_pixel_by_pixel(loss, cost):
    """[N21], Eq. 2 and 4."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 3, 4, generator=generator, dtype=torch.float64)
    target, occluder = ((torch.rand(2, 1, 3, 4, generator=generator) > 0.5).double() for _ in range(2))
    total = 0.0
    for place in itertools.product(range(2), range(3), range(4)):
        b, y, x = place
        first, second = logits[b, :, y, x].tolist()
        m, u = 1 / (1 + math.exp(-first)), math.log1p(math.exp(second))
        total += cost(target[b, 0, y, x].item(), m, u) * (5 if occluder[b, 0, y, x] else 1)
    assert float(loss(logits, target, occluder)) == pytest.approx(total / 24, rel=1e-4)
    sure = torch.tensor([60.0, -60.0]).view(1, 2, 1, 1).requires_grad_()  # right, and no uncertainty left
    value = loss(sure, torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    assert value.isfinite() and torch.autograd.grad(value, sure)[0].isfinite().all()


def test_decoupled_loss_teaches_the_uncertainty_without_moving_the_mask():
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 4, 4, requires_grad=True)
    target, occluder = (torch.rand(2, 1, 4, 4) < 0.5).float(), (torch.rand(2, 1, 4, 4) < 0.5).float()
    loss = decoupled_loss(logits, target, occluder)
    parts = binary_completion_loss(logits, target, occluder) + uncertainty_weighted_loss(logits, target, occluder)
    torch.testing.assert_close(loss, parts)
    (both,) = torch.autograd.grad(loss, logits)
    (mask,) = torch.autograd.grad(binary_completion_loss(logits, target, occluder), logits)
    (spread,) = torch.autograd.grad(uncertainty_weighted_loss(logits, target, occluder), logits)
    torch.testing.assert_close(both[:, :1], mask[:, :1])
    torch.testing.assert_close(both[:, 1:], spread[:, 1:])


def test_clicks_are_learned_by_focal_and_dice_loss_object_by_object():
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(3, 1, 3, 4, generator=generator)
    target = (torch.rand(3, 1, 3, 4, generator=generator) > 0.5).float()
    focal, dice = 0.0, 0.0
    for row, truth in zip(logits.flatten(1).tolist(), target.flatten(1).tolist(), strict=True):
        sure = [1 / (1 + math.exp(-value)) for value in row]
        focal -= sum((1 - q) * math.log(q) for q in (p if t else 1 - p for p, t in zip(sure, truth, strict=True)))
        both = sum(p * t for p, t in zip(sure, truth, strict=True))
        dice += 1 - (2 * both + 1) / (sum(sure) + sum(truth) + 1)
    for weight in (2.0, 0.5):
        expected = weight * focal / 36 + dice / 3
        assert float(click_loss(logits, target, weight)) == pytest.approx(expected, rel=1e-5)
    assert float(click_loss(logits, target)) == float(click_loss(logits, target, 2.0))


def test_questions_weigh_pixels_of_the_mask_and_of_what_is_in_front():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 3, 3, 4, generator=generator)
    target, front = ((torch.rand(2, 1, 3, 4, generator=generator) > 0.5).float() for _ in range(2))
    weight, front_weight = (torch.rand(2, 1, 3, 4, generator=generator) for _ in range(2))
    mask = torch.nn.functional.cross_entropy(logits[:, :2], target[:, 0].long(), reduction="none")
    ahead = -Bernoulli(logits=logits[:, 2]).log_prob(front[:, 0])
    for factor in (0.3, 1.0):
        expected = (mask * weight[:, 0]).mean() + factor * (ahead * front_weight[:, 0]).mean()
        torch.testing.assert_close(question_loss(logits, target, weight, front, front_weight, factor), expected)
    default = question_loss(logits, target, weight, front, front_weight)
    torch.testing.assert_close(default, question_loss(logits, target, weight, front, front_weight, 0.3))


def test_loss_without_uncertainty_is_weighted_cross_entropy():
    logits, target, occluder = torch.zeros(1, 2, 1, 2), torch.ones(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]])
    assert float(binary_completion_loss(logits, target, occluder)) == pytest.approx((5 + 1) / 2 * 0.693147, rel=1e-5)
    logits[:, 1] = 30.0  # the uncertainty is not looked at
    assert float(binary_completion_loss(logits, target, occluder)) == pytest.approx((5 + 1) / 2 * 0.693147, rel=1e-5)
    sharp = torch.tensor([[[[2.0, -2.0]], [[0.0, 0.0]]]])
    by_hand = (5 * -torch.log(torch.sigmoid(torch.tensor(2.0))) - torch.log(torch.sigmoid(torch.tensor(-2.0)))) / 2
    assert float(binary_completion_loss(sharp, target, occluder)) == pytest.approx(float(by_hand), rel=1e-5)


def test_likelihoods_are_those_of_torch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 1, 4, 4, generator=generator)
    target = (torch.rand(3, 1, 4, 4, generator=generator) > 0.5).float()
    expected = -Bernoulli(logits=logits).log_prob(target).sum((1, 2, 3))
    torch.testing.assert_close(bernoulli_nll(logits, target), expected)
    found = placed_nll(logits.sigmoid(), target, epsilon=1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    weight = torch.zeros_like(target)
    weight[:, :, 0] = 2
    row = -Bernoulli(logits=logits[:, :, :1]).log_prob(target[:, :, :1]).sum((1, 2, 3))
    torch.testing.assert_close(placed_nll(logits.sigmoid(), target, weight, 1e-6), 2 * row, rtol=1e-4, atol=1e-4)
    certain = torch.zeros(1, 2, requires_grad=True)
    placed_nll(certain, torch.ones(1, 2)).sum().backward()
    assert (certain.grad < 0).all()  # also where a pixel is impossible, the gradient makes it more probable
