"""Amodal-VAE: mask completion as inference in a space of shapes, by the photo too where it is made for it [L20]."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from ..arguments.flags import check_flag
from ..display import short_repr
from .checks import (
    CheckedModel,
    check_condition,
    check_mask_plane,
    check_positive_integers,
    graph_call,
)
from .photo.encoders import (
    ImageEncoder,
    check_encoder_type,
    image_maps,
    load_encoder_weights,
    make_image_encoder,
    map_channels,
)

# Beyond these the exponential of a log-variance says nothing more, and in half precision it would overflow.
_LOG_VARIANCE = (-20.0, 10.0)
# A whole object is at most e^3 = 20 times as wide as its visible part, or as small a part of it.
_LOG_EXTENT = 3.0


class DiagonalGaussian:
    """A normal distribution with independent entries.

    Args:
        mean: (B, L) floats; kept as float32.
        log_variance: (B, L) floats, clamped to [-20, 10]; kept as float32.

    Example:
        >>> posterior = DiagonalGaussian(torch.zeros(1, 4), torch.zeros(1, 4))
        >>> posterior.sample(torch.Generator().manual_seed(0)).shape, posterior.kl()
        (torch.Size([1, 4]), tensor([0.]))
    """

    def __init__(self, mean: Tensor, log_variance: Tensor) -> None:
        self.mean = mean.float()
        self.log_variance = log_variance.float().clamp(*_LOG_VARIANCE)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One draw (B, L) float32, with gradients with respect to mean and variance.

        Args:
            generator: on the device of the distribution, or on the CPU, which gives the same draw on every device.
        """
        device = self.mean.device if generator is None else generator.device
        noise = torch.randn(self.mean.shape, generator=generator, device=device, dtype=torch.float32)
        return self.mean + (0.5 * self.log_variance).exp() * noise.to(self.mean.device)

    def kl(self) -> Tensor:
        """Kullback-Leibler divergence from the standard normal distribution in nats: (B,) float32.

        `expm1` keeps `var - 1 - log(var)` exact and non-negative near var = 1, where the plain form cancels.
        """
        spread = torch.expm1(self.log_variance) - self.log_variance
        return 0.5 * (self.mean.square() + spread).sum(1)


@dataclass
class AmodalVAEOutput(BaseOutput):
    """What `AmodalVAE` returns.

    Args:
        logits: (B, 1, s, s) floating point, of the whole mask in its own tight box.
        boxes: (B, 4) float32 [cx, cy, w, h], that box in units of the visible mask's tight box; see `AmodalVAE.place`.
        posterior: distribution of the latent code given the visible mask.

    Example:
        >>> model = AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(4, 8))
        >>> output = model(torch.ones(1, 1, 16, 16))
        >>> output.logits.shape, output.boxes.shape, output.posterior.mean.shape
        (torch.Size([1, 1, 16, 16]), torch.Size([1, 4]), torch.Size([1, 4]))
    """

    logits: Tensor
    boxes: Tensor
    posterior: DiagonalGaussian

    __repr__ = short_repr


class ShapeEncoder(nn.Module):
    """(B, 1, s, s) mask and (B,) category ids or None -> (B, 2 * L): mean and log-variance. Source: [L20].

    With `image_channels` it also takes a feature map (B, `image_channels`, h, w) of the photo, which two convolutions
    merge with what it makes of the mask.

    Example:
        >>> ShapeEncoder(16, 4, (4, 8), num_categories=0)(torch.ones(1, 1, 16, 16), None).shape
        torch.Size([1, 8])
        >>> encoder = ShapeEncoder(16, 4, (4, 8), num_categories=0, image_channels=3)
        >>> encoder(torch.ones(1, 1, 16, 16), None, torch.ones(1, 3, 2, 2)).shape
        torch.Size([1, 8])
    """

    def __init__(
        self,
        sample_size: int,
        latent_channels: int,
        block_out_channels: Sequence[int],
        num_categories: int,
        image_channels: int = 0,
    ) -> None:
        super().__init__()
        widths = [1, *block_out_channels]
        self.down_blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 4, stride=2, padding=1), *_activation(b))
            for a, b in zip(widths, widths[1:], strict=False)
        )
        side, hidden = sample_size >> len(block_out_channels), widths[-1]
        merged = [hidden + image_channels, hidden, hidden] if image_channels else []
        self.merge_blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), *_activation(b))
            for a, b in zip(merged, merged[1:], strict=False)
        )
        self.linear_in = nn.Linear(widths[-1] * side * side, hidden)
        embedding = max(16, hidden // 4) if num_categories else 0
        self.class_embedding = nn.Embedding(num_categories + 1, embedding) if num_categories else None
        self.linear_hidden = nn.Linear(hidden + embedding, hidden)
        self.linear_out = nn.Linear(hidden, 2 * latent_channels)

    def forward(self, mask: Tensor, category_ids: Tensor | None, features: Tensor | None = None) -> Tensor:
        """Mean and log-variance, one after the other, along the last axis."""
        hidden = 2 * mask - 1
        for block in self.down_blocks:
            hidden = block(hidden)
        if features is not None:
            features = F.interpolate(features, hidden.shape[-2:], mode="bilinear")
            hidden = torch.cat([hidden, features], dim=1)
            for block in self.merge_blocks:
                hidden = block(hidden)
        hidden = F.silu(self.linear_in(hidden.flatten(1)))
        if self.class_embedding is not None:
            if category_ids is None:
                category_ids = torch.zeros(mask.shape[0], dtype=torch.int64, device=mask.device)
            hidden = torch.cat([hidden, self.class_embedding(category_ids)], dim=1)
        return self.linear_out(F.silu(self.linear_hidden(hidden)))


class ShapeDecoder(nn.Module):
    """(B, L) latent code -> (B, 1, s, s) logits of a whole mask, a factorial Bernoulli distribution. Source: [L20].

    Example:
        >>> ShapeDecoder(16, 4, (4, 8))(torch.zeros(1, 4)).shape
        torch.Size([1, 1, 16, 16])
    """

    def __init__(self, sample_size: int, latent_channels: int, block_out_channels: Sequence[int]) -> None:
        super().__init__()
        widths = list(reversed(block_out_channels))
        self.shape = (widths[0], *[sample_size >> len(block_out_channels)] * 2)
        self.linear_in = nn.Linear(latent_channels, math.prod(self.shape))
        self.up_blocks = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(a, b, 4, stride=2, padding=1),
                *_activation(b),
                nn.Conv2d(b, b, 3, padding=1),
                *_activation(b),
            )
            for a, b in zip(widths, widths[1:], strict=False)
        )
        # Four logits a position at half the resolution: no level has to run at the full one.
        self.conv_out = nn.Sequential(nn.Conv2d(widths[-1], 4, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, latents: Tensor) -> Tensor:
        """Logits at full resolution."""
        hidden = F.silu(self.linear_in(latents)).unflatten(1, self.shape)
        for block in self.up_blocks:
            hidden = block(hidden)
        return self.conv_out(hidden)


class SpatialTransformer(nn.Module):
    """Reads off where a completed mask lies from (its probabilities, the visible mask). Source: [L20].

    (B, 2, s, s) -> (B, 4): shift of the centre and log of the extent, all 0 at first.

    Example:
        >>> SpatialTransformer(16, (4, 8))(torch.ones(1, 2, 16, 16)).tolist()
        [[0.0, 0.0, 0.0, 0.0]]
    """

    def __init__(self, sample_size: int, block_out_channels: Sequence[int]) -> None:
        super().__init__()
        widths = [2, *(max(8, width // 2) for width in block_out_channels)]
        self.down_blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), *_activation(b))
            for a, b in zip(widths, widths[1:], strict=False)
        )
        side = sample_size >> len(block_out_channels)
        self.linear_in = nn.Linear(widths[-1] * side * side, widths[-1])
        self.linear_out = nn.Linear(widths[-1], 4)
        nn.init.zeros_(self.linear_out.weight)
        nn.init.zeros_(self.linear_out.bias)

    def forward(self, planes: Tensor) -> Tensor:
        """Shift and log-extent, [dx, dy, log w, log h]."""
        hidden = planes
        for block in self.down_blocks:
            hidden = block(hidden)
        return self.linear_out(F.silu(self.linear_in(hidden.flatten(1))))


class AmodalVAE(CheckedModel, ConfigMixin):
    """Completes a mask by the shape it most likely is a part of, or by several such shapes. Source: [L20].

    The visible mask, cropped tightly and squeezed to a square, is encoded into a distribution over a latent space of
    whole shapes; a code of it is decoded into a whole mask in its own tight box, and the spatial transformer reads off
    where that box lies. No occluder is needed. Encoder, decoder and spatial transformer are submodules of their own
    (`encoder`, `decoder`, `spatial_transformer`), because training freezes them one by one.

    With `use_rgb` it is RGB-Amodal-VAE: an `image_encoder` looks at the photo in the same box, its last feature map
    joins what the encoder makes of the mask, and two convolutions merge them.

    The paper leaves sizes and layers to its supplement; these here are ours. Group norm keeps what is frozen frozen:
    it has no statistics of past batches.

    Args:
        sample_size: side s in pixels of the squeezed masks, a multiple of 2 to the number of levels.
        latent_channels: size L of the latent code.
        block_out_channels: channels per level of the encoder, each at half the resolution of the one before; the
            decoder mirrors them.
        num_categories: C > 0 joins an embedding of the category to the encoder: ids 1 to C, 0 = unknown. 0 makes the
            network class-agnostic.
        use_rgb: look at the photo.
        image_encoder_type: "resnet" (published) or "efficientnet-lite0", see `models.photo.encoders`.
        image_size: side in pixels of the squeezed crops of the photo. The paper does not give it; at 128 the last
            feature map of a ResNet is as large as that of the mask, 4 x 4.
        image_hidden_sizes: channels of the stages of the ResNet; (256, 512, 1024, 2048) is ResNet-50.
        image_depths: number of its residual blocks of each stage.
        image_embedding_size: channels of its first convolution.
        image_layer_type: "bottleneck" as in ResNet-50, or "basic" as in ResNet-18.

    Raises:
        ValueError, TypeError: for sizes that are no positive integers (`num_categories` may be 0) or do not fit
            together, and other settings that are out of range; naming the setting.

    Example:
        >>> model = AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(4, 8)).eval()
        >>> mask = torch.ones(1, 1, 16, 16)
        >>> model(mask).logits.shape
        torch.Size([1, 1, 16, 16])
        >>> codes = [model.encode(mask).sample() for _ in range(3)]  # several shapes that the mask may be a part of
        >>> model.decode(torch.cat(codes)).shape
        torch.Size([3, 1, 16, 16])
        >>> model = AmodalVAE(
        ...     sample_size=16, latent_channels=4, block_out_channels=(4, 8), use_rgb=True, image_size=32,
        ...     image_hidden_sizes=(4, 8), image_depths=(1, 1), image_embedding_size=4, image_layer_type="basic",
        ... )
        >>> model(mask, image=torch.zeros(1, 3, 32, 32)).logits.shape
        torch.Size([1, 1, 16, 16])
    """

    # A call may use one of them alone.
    _group_offload_block_modules = ["image_encoder", "encoder", "decoder", "spatial_transformer"]

    @register_to_config
    def __init__(
        self,
        sample_size: int = 64,
        latent_channels: int = 64,
        block_out_channels: Sequence[int] = (32, 64, 128, 256),
        num_categories: int = 0,
        use_rgb: bool = False,
        image_encoder_type: str = "resnet",
        image_size: int = 128,
        image_hidden_sizes: Sequence[int] = (256, 512, 1024, 2048),
        image_depths: Sequence[int] = (3, 4, 6, 3),
        image_embedding_size: int = 64,
        image_layer_type: str = "bottleneck",
    ) -> None:
        super().__init__()
        check_flag("use_rgb", use_rgb)
        check_positive_integers(
            sample_size=sample_size, latent_channels=latent_channels, block_out_channels=block_out_channels,
            image_size=image_size, image_hidden_sizes=image_hidden_sizes, image_depths=image_depths,
            image_embedding_size=image_embedding_size,
        )  # fmt: skip
        if not isinstance(num_categories, int) or isinstance(num_categories, bool) or num_categories < 0:
            raise ValueError(f"`num_categories` must be a non-negative integer, got {num_categories!r}.")
        if not block_out_channels:
            raise ValueError("`block_out_channels` needs at least 1 level, got none.")
        factor = 2 ** len(block_out_channels)
        if sample_size % factor:
            raise ValueError(
                f"`sample_size` must be a multiple of {factor} for {len(block_out_channels)} levels of "
                f"`block_out_channels`, got {sample_size}."
            )
        check_encoder_type(image_encoder_type)
        if image_layer_type not in ("bottleneck", "basic"):
            raise ValueError(f"`image_layer_type` must be 'bottleneck' or 'basic', got {image_layer_type!r}.")
        if len(image_depths) != len(image_hidden_sizes):
            raise ValueError(
                f"`image_depths` must have {len(image_hidden_sizes)} entries like `image_hidden_sizes`, "
                f"got {len(image_depths)}."
            )
        self.image_encoder: ImageEncoder | None = None
        channels = 0
        if use_rgb:
            self.image_encoder = make_image_encoder(
                image_encoder_type, image_hidden_sizes, image_depths, image_embedding_size, image_layer_type
            )
            channels = map_channels(image_encoder_type, image_hidden_sizes)[-1]
        self.encoder = ShapeEncoder(sample_size, latent_channels, block_out_channels, num_categories, channels)
        self.decoder = ShapeDecoder(sample_size, latent_channels, block_out_channels)
        self.spatial_transformer = SpatialTransformer(sample_size, block_out_channels)

    def load_image_encoder(self, name_or_path: str | None = None, **kwargs: Any) -> None:
        """Take the ImageNet weights of the image encoder.

        Args:
            name_or_path: a ResNet of transformers, such as "microsoft/resnet-50": Hub id or folder, of which only
                safetensors are read. None for EfficientNet-lite0, whose weights come with a package; see
                `EfficientNetLite0.from_package`.
            kwargs: `revision`, `token`, `cache_dir`, `local_files_only`; see `ResNetModel.from_pretrained`.

        Raises:
            OSError: where there is no such model.
            ImportError: the package is missing.
            ValueError: where it is no ResNet of the sizes of this network, `name_or_path` is given for EfficientNet or
                not for a ResNet, or the network looks at no photo.
        """
        if self.image_encoder is None:
            raise ValueError("The network has no image encoder: its `use_rgb` is False.")
        load_encoder_weights(self.image_encoder, name_or_path, **kwargs)

    def encode_image(self, image: Tensor) -> Tensor:
        """(B, 3, i, i) ImageNet-normalised RGB -> the last feature map of the image encoder, with `use_rgb`."""
        return image_maps(cast(ImageEncoder, self.image_encoder), image.to(self.dtype))[-1]

    @apply_forward_hook
    @graph_call
    def encode(self, mask: Tensor, category_ids: Tensor | None = None, image: Tensor | None = None) -> DiagonalGaussian:
        """Distribution of the latent code.

        Args:
            mask: (B, 1, s, s) in [0, 1], the visible mask in its tight box (or in the box of the whole object, where
                that is known).
            category_ids: (B,) int64 in [0, num_categories], 0 = unknown; None = all unknown.
            image: (B, 3, i, i) ImageNet-normalised RGB of side `image_size`, the photo in the same boxes; exactly where
                `use_rgb` is True.

        Raises:
            ValueError: for another shape, ids out of range, ids where the network is class-agnostic, or an image that
                is missing or unwanted.
        """
        self._check_mask("mask", mask)
        self._check_categories(category_ids, mask.shape[0])
        side = self.config.image_size
        check_condition("image", image, "use_rgb", self.config.use_rgb, (mask.shape[0], 3, side, side))
        features = None if image is None else self.encode_image(image)
        mean, log_variance = self.encoder(mask.to(self.dtype), category_ids, features).chunk(2, dim=1)
        return DiagonalGaussian(mean, log_variance)

    @apply_forward_hook
    @graph_call
    def decode(self, latents: Tensor) -> Tensor:
        """Logits (B, 1, s, s) of the whole mask in its own tight box, from codes (B, L).

        Raises:
            ValueError: for another shape.
        """
        if latents.ndim != 2 or latents.shape[1] != self.config.latent_channels:
            raise ValueError(
                f"`latents` must have shape (B, {self.config.latent_channels}), got {tuple(latents.shape)}."
            )
        return self.decoder(latents.to(self.dtype))

    @apply_forward_hook
    @graph_call
    def place(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Where the decoded mask lies.

        Args:
            logits: (B, 1, s, s), from `decode`.
            mask: (B, 1, s, s) in [0, 1], the visible mask in its tight box.

        Returns:
            (B, 4) float32 [cx, cy, w, h], the box of the whole mask in units of the visible mask's tight box: that box
            is [0, 1]², and [0.5, 0.5, 1, 1] is the same box, which is what an untrained network answers.

        Raises:
            ValueError: for other shapes, or batches of different sizes.
        """
        self._check_mask("mask", mask)
        if logits.shape != mask.shape:
            raise ValueError(f"`logits` must have the shape of `mask` {tuple(mask.shape)}, got {tuple(logits.shape)}.")
        planes = torch.cat([logits.sigmoid().to(self.dtype), mask.to(self.dtype)], dim=1)
        shift, extent = self.spatial_transformer(planes).float().chunk(2, dim=1)
        return torch.cat([0.5 + shift, extent.clamp(-_LOG_EXTENT, _LOG_EXTENT).exp()], dim=1)

    def forward(
        self,
        mask: Tensor,
        category_ids: Tensor | None = None,
        image: Tensor | None = None,
        generator: torch.Generator | None = None,
        sample_posterior: bool = False,
        return_dict: bool = True,
    ) -> AmodalVAEOutput | tuple[Tensor, Tensor, DiagonalGaussian]:
        """Complete masks by the mean code, or by a sampled one.

        Args:
            mask: (B, 1, s, s) in [0, 1], the visible mask in its tight box.
            category_ids: (B,) int64 in [0, num_categories], 0 = unknown; None = all unknown.
            image: (B, 3, i, i), the photo in the same boxes; exactly where `use_rgb` is True, see `encode`.
            generator: of the sampled code.
            sample_posterior: decode a sample of the posterior instead of its mean.
            return_dict: return an `AmodalVAEOutput` instead of a tuple.

        Returns:
            `AmodalVAEOutput` with `logits`, `boxes` and `posterior`.

        Raises:
            ValueError: as `encode`.
        """
        posterior = self.encode(mask, category_ids, image)
        logits = self.decode(posterior.sample(generator) if sample_posterior else posterior.mean)
        boxes = self.place(logits, mask)
        if not return_dict:
            return logits, boxes, posterior
        return AmodalVAEOutput(logits=logits, boxes=boxes, posterior=posterior)

    def _check_mask(self, name: str, mask: Tensor) -> None:
        size = self.config.sample_size
        check_mask_plane(name, mask, 1)
        if mask.shape[2:] != (size, size):
            raise ValueError(f"`{name}` must have sides of `sample_size` {size}, got {tuple(mask.shape[2:])}.")

    def _check_categories(self, category_ids: Tensor | None, batch: int) -> None:
        if category_ids is None:
            return
        count = self.config.num_categories
        if not count:
            raise ValueError("`category_ids` must be None: the network is class-agnostic (`num_categories` is 0).")
        if category_ids.shape != (batch,):
            raise ValueError(f"`category_ids` must have shape {(batch,)}, got {tuple(category_ids.shape)}.")
        if torch.compiler.is_compiling():  # what a graph cannot ask
            return
        if batch and (int(category_ids.min()) < 0 or int(category_ids.max()) > count):
            raise ValueError(
                f"`category_ids` must lie in [0, {count}], got {int(category_ids.min())} to {int(category_ids.max())}."
            )


def _activation(channels: int) -> list[nn.Module]:
    return [nn.GroupNorm(math.gcd(8, channels), channels), nn.SiLU()]
