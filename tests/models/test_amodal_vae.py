"""Amodal-VAE's network: shapes, conditioning, the start of the placement, the divergence, saving, errors."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from transformers import ResNetConfig, ResNetModel

from amodal_diffusion import AmodalVAE
from amodal_diffusion.models import DiagonalGaussian, EfficientNetLite0

SMALL = {"sample_size": 16, "latent_channels": 6, "block_out_channels": (8, 16)}


def make(seed=0, **options):
    torch.manual_seed(seed)
    return AmodalVAE(**SMALL | options).eval()


def masks(count=3, size=16):
    return (torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(3)) > 0.5).float()


def test_default_network_fits_its_file():
    model = AmodalVAE()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert 2e6 < parameters < 4e6  # under 16 MB as float32
    assert model(masks(2, 64)).logits.shape == (2, 1, 64, 64)


def test_forward_is_encode_decode_place():
    model, mask = make(), masks()
    with torch.no_grad():
        found = model(mask)
        posterior = model.encode(mask)
        logits = model.decode(posterior.mean)
        assert found.logits.shape == mask.shape
        assert torch.equal(found.logits, logits)
        assert torch.equal(found.boxes, model.place(logits, mask))
        assert torch.equal(found.posterior.mean, posterior.mean)
        parts = model(mask, return_dict=False)
        assert torch.equal(parts[0], logits)
        drawn = model(mask, generator=torch.Generator().manual_seed(5), sample_posterior=True)
        again = model(mask, generator=torch.Generator().manual_seed(5), sample_posterior=True)
    assert torch.equal(drawn.logits, again.logits)
    assert not torch.equal(drawn.logits, logits)


def test_the_batch_does_not_matter():
    model, mask = make(num_categories=3), masks(4)
    ids = torch.tensor([1, 0, 3, 2])
    with torch.no_grad():
        together = model(mask, ids).logits
        alone = torch.cat([model(mask[row : row + 1], ids[row : row + 1]).logits for row in range(4)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_placement_starts_as_the_identity_and_stays_positive():
    model, mask = make(), masks()
    with torch.no_grad():
        assert torch.equal(model(mask).boxes, torch.tensor([[0.5, 0.5, 1.0, 1.0]]).expand(3, 4))
        model.spatial_transformer.linear_out.bias.copy_(torch.tensor([0.2, -0.1, -50.0, 50.0]))
        boxes = model(mask).boxes
    assert boxes[0, :2].tolist() == pytest.approx([0.7, 0.4])
    assert 0 < boxes[0, 2] < 1 < boxes[0, 3] < 100


def test_category_changes_the_code_and_unknown_is_id_zero():
    model, mask = make(num_categories=2), masks()
    with torch.no_grad():
        known = model.encode(mask, torch.tensor([1, 1, 2])).mean
        unknown = model.encode(mask).mean
        assert torch.equal(unknown, model.encode(mask, torch.zeros(3, dtype=torch.int64)).mean)
    assert not torch.isclose(known, unknown).all(1).any()


def test_divergence_is_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = (2 * torch.randn(5, 7, generator=generator) for _ in range(2))
    own = DiagonalGaussian(mean, log_variance)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(torch.zeros(1), torch.ones(1))).sum(1)
    torch.testing.assert_close(own.kl(), expected, rtol=1e-5, atol=1e-5)


def test_divergence_is_stable():
    near = DiagonalGaussian(torch.zeros(1, 4), torch.full((1, 4), 1e-4))
    assert float(near.kl()) == pytest.approx(4 * 0.25e-8, rel=0.2)  # the plain form rounds this to a multiple of 6e-8
    extreme = torch.tensor([[1e4, -1e4]], requires_grad=True)
    divergence = DiagonalGaussian(torch.zeros(1, 2), extreme).kl()
    divergence.sum().backward()
    assert divergence.isfinite().all()
    assert extreme.grad.isfinite().all()
    half = DiagonalGaussian(torch.zeros(2, 3).half(), torch.ones(2, 3).half())
    assert half.mean.dtype == half.kl().dtype == half.sample().dtype == torch.float32


def test_samples_follow_the_distribution():
    gaussian = DiagonalGaussian(torch.full((20000, 1), 2.0), torch.full((20000, 1), -1.0))
    drawn = gaussian.sample(torch.Generator().manual_seed(1))
    assert float(drawn.mean()) == pytest.approx(2.0, abs=0.02)
    assert float(drawn.var()) == pytest.approx(0.3679, abs=0.02)


def test_gradients_reach_every_part():
    model = make(num_categories=2).train()
    logits, boxes, posterior = model(masks(), torch.tensor([1, 2, 0]), sample_posterior=True, return_dict=False)
    (logits.square().sum() + (boxes - 2).square().sum() + posterior.kl().sum()).backward()
    silent = {name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()}
    # The last layer of the placement is 0 at first, so that nothing before it learns in the first update.
    assert {name.split(".")[0] for name in silent} <= {"spatial_transformer"}
    assert model.spatial_transformer.linear_out.weight.grad.any()


def test_keeps_no_statistics_of_batches():
    model = make().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(masks())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not list(model.buffers())


def test_saves_and_loads(tmp_path):
    model = make(num_categories=4)
    model.save_pretrained(tmp_path)
    loaded = AmodalVAE.from_pretrained(tmp_path).eval()
    assert dict(loaded.config)["num_categories"] == 4
    with torch.no_grad():
        assert torch.equal(loaded(masks()).logits, model(masks()).logits)


def test_half_precision():
    model = make().to(torch.bfloat16)
    with torch.no_grad():
        found = model(masks())
    assert found.logits.dtype == torch.bfloat16
    assert found.boxes.dtype == torch.float32


# With the photo


def with_photo(encoder="resnet", seed=0, **options):
    small = {"image_size": 32, "image_hidden_sizes": (4, 8), "image_depths": (1, 1), "image_embedding_size": 4}
    model = make(seed, use_rgb=True, image_encoder_type=encoder, image_layer_type="basic", **small | options)
    if encoder != "resnet":  # with random weights next to nothing of a photo reaches its last map
        model.load_image_encoder()
    return model


def photos(count=3, size=32):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(4))


def test_the_published_photo_encoder_is_resnet_50():
    with torch.device("meta"):
        model = AmodalVAE(use_rgb=True)
    assert sum(value.numel() for value in model.image_encoder.parameters()) == 25_557_032 - 2048 * 1000 - 1000
    assert [block[0].in_channels for block in model.encoder.merge_blocks] == [256 + 2048, 256]
    assert model.image_encoder.config.layer_type == "bottleneck"


@pytest.mark.parametrize("encoder", ["resnet", "efficientnet-lite0"])
def test_the_photo_changes_the_code_alone(encoder, tmp_path):
    model = with_photo(encoder, num_categories=2)
    with torch.no_grad():
        code = model.encode(masks(), None, photos()).mean
        assert not torch.isclose(code, model.encode(masks(), None, -photos()).mean).all(1).any()
        assert not torch.isclose(code, model.encode(1 - masks(), None, photos()).mean).all(1).any()
        alone = model.encode(masks()[1:2], None, photos()[1:2]).mean
        torch.testing.assert_close(alone, code[1:2], atol=1e-5, rtol=1e-4)
        found = model(masks(), image=photos())
        torch.testing.assert_close(found.logits, model.decode(code), rtol=1e-5, atol=1e-6)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        again = AmodalVAE.from_pretrained(tmp_path).eval()(masks(), image=photos()).logits
        torch.testing.assert_close(again, found.logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("encoder", ["resnet", "efficientnet-lite0"])
def test_the_photo_encoder_learns_with_the_rest(encoder):
    model = with_photo(encoder).train()
    model.encode(masks(), None, photos()).mean.square().sum().backward()
    named = dict(model.named_parameters())
    parts = {name.split(".")[0] for name, value in named.items() if value.grad is not None and value.grad.any()}
    assert parts == {"encoder", "image_encoder"}
    still = {name for name, value in named.items() if value.requires_grad and value.grad is None}
    assert {name.split(".")[0] for name in still} == {
        "decoder",
        "spatial_transformer",
    }  # so that processes may share it


def test_the_photo_encoder_takes_pretrained_weights(tmp_path):
    torch.manual_seed(1)
    sizes = {"layer_type": "basic", "hidden_sizes": [4, 8], "depths": [1, 1], "embedding_size": 4}
    encoder = ResNetModel(ResNetConfig(**sizes))
    encoder.save_pretrained(tmp_path)
    model = with_photo()
    model.load_image_encoder(str(tmp_path))
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, model.image_encoder.state_dict()[name])
    with pytest.raises(ValueError, match="does not fit the image encoder of this network"):
        with_photo(image_hidden_sizes=(8, 8)).load_image_encoder(str(tmp_path))
    with pytest.raises(ValueError, match="`name_or_path` must be given: `image_encoder_type` is 'resnet'"):
        model.load_image_encoder()
    with pytest.raises(ValueError, match="`name_or_path` must be None: `image_encoder_type` is 'efficientnet-lite0'"):
        with_photo("efficientnet-lite0").load_image_encoder(str(tmp_path))
    with pytest.raises(ValueError, match="no image encoder: its `use_rgb` is False"):
        make().load_image_encoder(str(tmp_path))
    with pytest.raises(OSError, match="nowhere"):
        model.load_image_encoder(str(tmp_path / "nowhere"))


def test_efficientnet_comes_with_its_weights():
    model = with_photo("efficientnet-lite0")
    expected = EfficientNetLite0.from_package().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.image_encoder.state_dict().items())


@pytest.mark.parametrize("encoder", ["resnet", "efficientnet-lite0"])
@pytest.mark.parametrize("kind", ["block_level", "leaf_level"])
def test_with_the_photo_it_is_offloaded_in_groups(encoder, kind, tmp_path):
    model = with_photo(encoder)
    options = {"num_blocks_per_group": 1} if kind == "block_level" else {}
    with torch.no_grad():
        expected = model.encode(masks(), None, photos()).mean
        model.enable_group_offload(
            torch.device("cpu"), offload_type=kind, offload_to_disk_path=str(tmp_path), **options
        )
        for value in (*model.parameters(), *model.buffers()):
            value.data.fill_(float("nan") if value.is_floating_point() else 0)
        torch.testing.assert_close(model.encode(masks(), None, photos()).mean, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_encoder_type": "vit"}, "`image_encoder_type` must be one of 'resnet', 'efficientnet-lite0', got 'vit"),
        ({"image_layer_type": "wide"}, "`image_layer_type` must be 'bottleneck' or 'basic', got 'wide'"),
        ({"image_depths": (1,)}, "`image_depths` must have 4 entries like `image_hidden_sizes`, got 1"),
        ({"image_size": 0}, "`image_size` must hold positive integers, got 0"),
        ({"sample_size": 18}, "`sample_size` must be a multiple of 4 for 2 levels"),
        ({"sample_size": 0}, "`sample_size` must hold positive integers, got 0"),
        ({"latent_channels": -1}, "`latent_channels` must hold positive integers, got -1"),
        ({"block_out_channels": ()}, "`block_out_channels` needs at least 1 level"),
        ({"block_out_channels": (8, 0)}, "`block_out_channels` must hold positive integers, got 0"),
        ({"num_categories": -1}, "`num_categories` must be a non-negative integer, got -1"),
        ({"num_categories": True}, "`num_categories` must be a non-negative integer, got True"),
    ],
)
def test_bad_configurations_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: m(x[:, 0]), r"`mask` must have shape \(B, 1, h, w\)"),
        (lambda m, x: m(x[:, :, :8]), "`mask` must have sides of `sample_size` 16"),
        (lambda m, x: m(x, torch.tensor([1, 2])), r"`category_ids` must have shape \(3,\), got \(2,\)"),
        (lambda m, x: m(x, torch.tensor([0, 3, 1])), r"`category_ids` must lie in \[0, 2\], got 0 to 3"),
        (lambda m, x: m(x, torch.tensor([0, -1, 1])), r"`category_ids` must lie in \[0, 2\], got -1 to 1"),
        (lambda m, x: make()(x, torch.tensor([1, 1, 1])), "`category_ids` must be None: the network is class-agnostic"),
        (lambda m, x: m.decode(torch.zeros(3, 5)), r"`latents` must have shape \(B, 6\), got \(3, 5\)"),
        (lambda m, x: m.place(x[:2], x), "`logits` must have the shape of `mask`"),
        (lambda m, x: m(x, image=photos()), "`image` must be None: `use_rgb` is False"),
        (lambda m, x: with_photo()(x), "`image` must be given: `use_rgb` is True"),
        (lambda m, x: with_photo()(x, image=photos(size=16)), r"`image` must have shape \(3, 3, 32, 32\), got \(3, 3"),
    ],
)
def test_bad_inputs_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call(make(num_categories=2), masks())


def test_use_rgb_is_a_switch():
    with pytest.raises(TypeError, match="`use_rgb` must be True or False, got 1"):
        make(use_rgb=1)
