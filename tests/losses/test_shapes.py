"""The losses of Amodal-VAE's stages."""

import numpy as np
import pytest
import torch

from amodal_diffusion.data.samplers import PartialBatch, ShapeBatch, ShapeSampler
from amodal_diffusion.data.synthesis import MaskBank
from amodal_diffusion.losses import ShapeWeights, complete_loss, expected_distance, partial_loss, simulated_loss
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


def test_both_codes_may_be_those_of_the_encoder_that_learns():
    """[L20], Eq. 3: the distance of the codes of partial and whole masks, which then moves the codes of both."""
    torch.manual_seed(0)
    model = AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(8, 16))
    bank = MaskBank.from_masks([(np.ones((20, 30), bool), 1, 0), (np.ones((9, 30), bool), 1, 0)], resolution=16)
    batch = ShapeSampler(bank, size=16, frame_size=16, seed=0, synthesis_size=32).simulated(step=0, batch_size=3)

    def codes(**options):
        generator, weights = torch.Generator().manual_seed(0), ShapeWeights()
        return simulated_loss(model, batch, None, options.pop("codes", None), generator, weights, **options)[1]

    partial, whole = model.encode(batch.visible), model.encode(batch.whole)
    expected = expected_distance(partial, whole).mean()
    torch.testing.assert_close(codes(own_codes=True)["code"], expected.detach())
    torch.testing.assert_close(codes(codes=whole)["code"], expected.detach())
    torch.testing.assert_close(codes(own_codes=True)["kl"], partial.kl().mean().detach())
    assert "code" not in codes()
    with pytest.raises(ValueError, match="`codes` must be None with `own_codes`"):
        codes(codes=whole, own_codes=True)

    generator, weights = torch.Generator().manual_seed(0), ShapeWeights(code=1e6)
    loss, _ = simulated_loss(model, batch, None, None, generator, weights, own_codes=True)
    (learned,) = torch.autograd.grad(loss, [model.encoder.linear_out.weight])
    torch.testing.assert_close(
        learned / learned.norm(), _direction(expected, model.encoder.linear_out.weight), rtol=0, atol=1e-2
    )


def test_both_codes_may_see_their_photos():
    """Each mask's own: the partial one's with what is pasted, the whole one's without."""
    torch.manual_seed(0)
    model = AmodalVAE(
        sample_size=16, latent_channels=4, block_out_channels=(8, 16), use_rgb=True, image_size=32,
        image_hidden_sizes=(4, 8), image_depths=(1, 1), image_embedding_size=4, image_layer_type="basic",
    ).eval()  # fmt: skip
    bank = MaskBank.from_masks([(np.ones((20, 30), bool), 1, 0), (np.ones((9, 30), bool), 1, 0)], resolution=16)
    bank.pixels = torch.randint(256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    sampler = ShapeSampler(bank, size=16, frame_size=16, seed=0, synthesis_size=32, whole_images=True)
    batch = sampler.simulated(step=0, batch_size=3)
    generator = torch.Generator().manual_seed(0)
    _, logs = simulated_loss(model, batch, None, None, generator, ShapeWeights(), own_codes=True)
    partial, whole = model.encode(batch.visible, None, batch.image), model.encode(batch.whole, None, batch.whole_image)
    torch.testing.assert_close(logs["code"], expected_distance(partial, whole).mean().detach())
    batch.whole_image = None
    with pytest.raises(ValueError, match="`batch` must have its `whole_image` with `own_codes`"):
        simulated_loss(model, batch, None, None, generator, ShapeWeights(), own_codes=True)


def _direction(loss, weight):
    (gradient,) = torch.autograd.grad(loss, [weight])
    return gradient / gradient.norm()


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


def stages(weights):
    """The loss of each stage by these weights, with its figures; of one network, with the same random numbers."""
    torch.manual_seed(0)
    model = AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(8, 16)).eval()
    whole = torch.zeros(2, 1, 16, 16)
    whole[:, :, 2:13, 3:14] = 1
    visible, frame, front = whole.clone(), torch.zeros(2, 24, 24), torch.zeros(2, 24, 24)
    visible[..., 9:] = 0
    frame[:, 6:17, 5:11], front[:, :, 16:] = 1, 1
    boxes = torch.tensor([[0.2, 0.2, 0.7, 0.7]]).repeat(2, 1)
    ids, by_box = torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.bool)
    codes = DiagonalGaussian(torch.ones(2, 4), torch.zeros(2, 4))
    scene = torch.zeros(2, 24, 24, dtype=torch.bool)
    simulated = ShapeBatch(visible, whole, frame, boxes, by_box, ids, scene, scene, boxes, boxes)
    partial = PartialBatch(visible, frame, front, ids)
    return (
        complete_loss(model, whole, None, torch.Generator().manual_seed(1), weights),
        simulated_loss(model, simulated, None, codes, torch.Generator().manual_seed(1), weights),
        partial_loss(model, partial, None, torch.Generator().manual_seed(1), weights),
    )


@pytest.mark.parametrize("part", ["kl", "code", "placement", "box"])
def test_each_part_is_added_by_its_weight(part):
    """[L20], equations 1 to 5: all parts are costs; a sign that is wrong would let training run away from the prior."""
    for (low, logs), (high, again) in zip(
        stages(ShapeWeights(**{part: 0.0})), stages(ShapeWeights(**{part: 3.0})), strict=True
    ):
        assert logs.keys() == again.keys()
        assert (high - low).item() == pytest.approx(3 * float(logs.get(part, 0.0)) / 256, rel=1e-4, abs=1e-6)


def test_stage_one_is_the_negative_elbo():
    """By torch's distributions: the cross-entropy of the pixels, and the divergence from a normal prior."""
    torch.manual_seed(0)
    model = AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(8, 16)).eval()
    whole = (torch.rand(3, 1, 16, 16) > 0.5).float()
    loss, _ = complete_loss(model, whole, None, torch.Generator().manual_seed(1), ShapeWeights())
    logits, _, code = model(whole, None, None, torch.Generator().manual_seed(1), True, False)
    likelihood = torch.distributions.Bernoulli(logits=logits).log_prob(whole).sum((1, 2, 3))
    posterior = torch.distributions.Normal(code.mean, (0.5 * code.log_variance).exp())
    prior = torch.distributions.Normal(torch.zeros_like(code.mean), torch.ones_like(code.mean))
    divergence = torch.distributions.kl_divergence(posterior, prior).sum(1)
    assert (divergence > 0).all()
    assert loss.item() == pytest.approx((divergence - likelihood).mean().item() / 256, rel=1e-5)


@pytest.mark.parametrize("use_rgb", [False, True])
def test_stages_two_and_three_by_the_distributions_of_torch(use_rgb):
    """Of one code each; an untrained spatial transformer leaves the mask in the box of its crop."""
    torch.manual_seed(0)
    sees = {"use_rgb": use_rgb, "image_size": 32, "image_hidden_sizes": (4, 8), "image_depths": (1, 1)}
    sees |= {"image_embedding_size": 4, "image_layer_type": "basic"}
    model = AmodalVAE(sample_size=8, latent_channels=4, block_out_channels=(8, 16), **sees).eval()
    visible, whole = (torch.rand(2, 3, 1, 8, 8) > 0.5).float()
    image = torch.randn(3, 3, 32, 32) if use_rgb else None
    frame, front, middle = torch.zeros(3, 24, 24), torch.zeros(3, 24, 24), (slice(None), slice(8, 16), slice(8, 16))
    frame[middle], front[:, :, 16:] = visible[:, 0], 1
    ids, boxes = torch.zeros(3, dtype=torch.int64), torch.tensor([[0.5, 0.5, 1, 1]]).repeat(3, 1)
    by_box, scene = torch.tensor([False, True, False]), torch.zeros(3, 24, 24, dtype=torch.bool)
    truth = torch.zeros(3, 24, 24)
    truth[middle] = whole[:, 0]
    simulated = ShapeBatch(visible, whole, truth, boxes, by_box, ids, scene, scene, boxes, boxes, image)
    partial = PartialBatch(visible, frame, front, ids, image)
    teacher = DiagonalGaussian(torch.ones(3, 4), torch.full((3, 4), -1.0))

    with torch.no_grad():
        second = simulated_loss(model, simulated, None, teacher, torch.Generator().manual_seed(1), ShapeWeights())[0]
        third = partial_loss(model, partial, None, torch.Generator().manual_seed(1), ShapeWeights())[0]
        logits, _, code = model(visible, None, image, torch.Generator().manual_seed(1), True, False)
    pixels = torch.distributions.Bernoulli(logits=logits[:, 0])
    posterior = torch.distributions.Normal(code.mean, (0.5 * code.log_variance).exp())
    divergence = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1)
    likelihood = pixels.log_prob(whole[:, 0]).sum((1, 2))
    apart = 0.5 * ((code.mean - 1).square() + code.log_variance.exp() + np.exp(-1)).sum(1)
    kept = torch.distributions.Bernoulli(pixels.probs * 0.998 + 0.001)  # so that no placed pixel is ruled out
    placed = kept.log_prob(whole[:, 0]).sum((1, 2)) + (24 * 24 - 8 * 8) * np.log(0.999)
    placed = torch.where(by_box, 0.0, placed)
    assert second.item() == pytest.approx((divergence - likelihood - placed + apart).mean().item() / 64, rel=1e-5)
    seen = (kept.log_prob(torch.ones(8, 8)) * visible[:, 0]).sum((1, 2))
    assert third.item() == pytest.approx((divergence - seen).mean().item() / 64, rel=1e-5)
