"""ASBU, completion from the occlusion boundary with a map of uncertainty [N21]."""

from collections.abc import Sequence

import torch
from diffusers import ConfigMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from ..arguments.choices import check_choice
from ..arguments.flags import check_flag
from ..masks import occlusion_boundary
from .checks import CheckedModel, check_positive_integers, graph_call, stack_planes
from .mask_unet import MaskUNet
from .outputs import MaskModelOutput
from .pcnet_mask import PCNetMask

OCCLUDER_INPUTS = ("boundary", "mask", "both")
_OUTPUTS = 2


def occluder_plane(modal: Tensor, occluder: Tensor, kind: str = "boundary", *, size: int = 5) -> Tensor:
    """What the network sees of all that may hide an object.

    Args:
        modal: (..., h, w) bool or {0, 1}, the visible part.
        occluder: (..., h, w) bool or {0, 1}, all that may hide the object.
        kind: "boundary": where both meet (published: the photo shows the rest). "mask": the occluder as PCNet-M has
            it. "both": their mean, so that a network without photo knows how far the occluder reaches as well.
        size: side in pixels of the square that both masks are dilated by for their boundary, odd.

    Returns:
        (..., h, w) float32 in [0, 1].

    Raises:
        ValueError: an unknown `kind`; and as `occlusion_boundary` says.

    Example:
        >>> modal = torch.tensor([[1, 1, 0, 0, 0, 0]])
        >>> occluder = torch.tensor([[0, 0, 1, 1, 1, 1]])
        >>> occluder_plane(modal, occluder, size=3)
        tensor([[0., 1., 1., 0., 0., 0.]])
        >>> occluder_plane(modal, occluder, "both", size=3)
        tensor([[0.0000, 0.5000, 1.0000, 0.5000, 0.5000, 0.5000]])
    """
    check_choice("kind", kind, OCCLUDER_INPUTS)
    if kind == "mask":
        return occluder.float()
    boundary = occlusion_boundary(modal, occluder, size=size).float()
    return boundary if kind == "boundary" else (boundary + occluder.float()) / 2


class ASBUPredictor(CheckedModel, ConfigMixin):
    """Completes the mask of an object given where it meets what may hide it, and says where it is unsure [N21].

    The U-Net of `PCNetMask`. Its second plane is not the occluder but the occlusion boundary, so an occluder may itself
    be hidden, and no order has to be known. Its first output is the logit of P(object), its second one gives the
    uncertainty by softplus: about the root of the error that the network expects.

    Args:
        block_out_channels: channels per level, from full resolution down; the published network has
            (32, 64, 128, 256, 256).
        sample_size: side in pixels of the square crops that the network was trained on; the pipelines crop to it.
        class_conditioned: multiply the mask plane by the category id (KINS) instead of 1 (COCOA).
        use_rgb: take three image planes, ImageNet-normalised by the caller, after the two mask planes.
        patch_size: side of the pixel blocks that are folded into channels before the first level and unfolded after
            the last. 1 is the published network.

    Raises:
        ValueError: sizes that are no positive integers, fewer than 2 levels, a `patch_size` that does not divide
            `sample_size`.

    Example:
        >>> model = ASBUPredictor(block_out_channels=(4, 8), sample_size=32).eval()
        >>> logits = model(torch.ones(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)).logits
        >>> probability, uncertainty = logits[:, 0].sigmoid(), torch.nn.functional.softplus(logits[:, 1])
        >>> probability.shape
        torch.Size([1, 32, 32])
    """

    _group_offload_block_modules = ["unet"]

    @register_to_config
    def __init__(
        self,
        block_out_channels: Sequence[int] = (32, 64, 128, 256, 256),
        sample_size: int = 256,
        class_conditioned: bool = False,
        use_rgb: bool = False,
        patch_size: int = 1,
    ) -> None:
        super().__init__()
        check_flag("class_conditioned", class_conditioned)
        check_flag("use_rgb", use_rgb)
        check_positive_integers(block_out_channels=block_out_channels, sample_size=sample_size, patch_size=patch_size)
        if sample_size % patch_size:
            raise ValueError(f"`patch_size` must divide `sample_size`, got {patch_size} and {sample_size}.")
        self.unet = MaskUNet(
            in_channels=5 if use_rgb else 2,
            out_channels=_OUTPUTS,
            block_out_channels=block_out_channels,
            patch_size=patch_size,
        )

    @torch.no_grad()
    def load_mask_network(self, network: PCNetMask, *, eraser_value: float = 1.0) -> None:
        """Start from the weights of PCNet-M, whose eraser plane then carries the boundary.

        The two logits become one, their difference; the output for the uncertainty stays as it is.

        Args:
            network: without RGB and with 2 logits; of the same `block_out_channels` and `patch_size`.
            eraser_value: what the second plane will hold where PCNet-M's holds 1.

        Raises:
            ValueError: where it is another kind of network, or of other sizes.
        """
        for name in ("block_out_channels", "patch_size"):
            theirs, ours = (
                [*value] if isinstance(value, list | tuple) else value
                for value in (network.config[name], self.config[name])
            )
            if theirs != ours:
                raise ValueError(f"`network` must have the `{name}` of this network, {ours}, got {theirs}.")
        if self.config.use_rgb or network.config.use_rgb or network.config.out_channels != _OUTPUTS:
            raise ValueError("Both networks must take two mask planes and no photo, and `network` have 2 logits.")
        pixels = self.config.patch_size**2
        state = {name: value.clone() for name, value in network.state_dict().items()}
        for name, old in self.unet.conv_out.state_dict().items():
            value = state[f"conv_out.{name}"]
            state[f"conv_out.{name}"] = torch.cat([value[pixels:] - value[:pixels], old[pixels:]])
        state["conv_in.0.weight"][:, pixels:] /= eraser_value
        self.unet.load_state_dict(state)

    @graph_call
    def forward(
        self,
        mask: Tensor,
        boundary: Tensor,
        image: Tensor | None = None,
        category_ids: Tensor | None = None,
        return_dict: bool = True,
    ) -> MaskModelOutput | tuple[Tensor]:
        """Predict the logits of the completed mask and of the uncertainty.

        Args:
            mask: (B, 1, h, w) values in {0, 1}: the modal mask, cropped.
            boundary: (B, 1, h, w) values in [0, 1]: where the object meets what may hide it (`occluder_plane`).
            image: (B, 3, h, w) ImageNet-normalised RGB, where the network was made with `use_rgb`.
            category_ids: (B,) positive integers, where the network was made with `class_conditioned`.
            return_dict: return a `MaskModelOutput` instead of a tuple.

        Returns:
            `MaskModelOutput` with `logits` (B, 2, h, w) in the dtype of the network: P(object) is the sigmoid of the
            first, the uncertainty, in [0, inf), the softplus of the second.

        Raises:
            ValueError: where shapes differ, h or w is no multiple of `patch_size`, or an input that the configuration
                asks for is missing (or one that it does not know is given).
        """
        planes = stack_planes(self.config, mask, image, category_ids, self.dtype, boundary=boundary)
        logits = self.unet(planes)
        return MaskModelOutput(logits=logits) if return_dict else (logits,)
