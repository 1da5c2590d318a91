"""OrderNet: which of two objects is in front [Z20], or closer, by a classifier of their masks and the photo."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ConfigMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

from ..arguments.flags import check_flag
from ..display import short_repr
from .checks import CheckedModel, check_condition, check_mask_plane, check_positive_integers, graph_call
from .photo.resnet import load_resnet

RELATIONS = ("second in front", "first in front", "unrelated")
"""What the logits of an `OrderNet` stand for, in their order; a network with two of them knows no unrelated pairs."""

DEPTH_RELATIONS = ("second closer", "first closer", "overlapping")
"""What they stand for where the `answer` is "depth"; see `ordering.depth_order`."""

ANSWERS = ("occlusion", "depth")
"""What an `OrderNet` may be asked: who hides whom, or who is closer."""


@dataclass
class OrderNetOutput(BaseOutput):
    """What an `OrderNet` returns.

    Args:
        logits: (B, R) floating point, one for each of `RELATIONS`.

    Example:
        >>> OrderNetOutput(logits=torch.zeros(1, 2)).logits.softmax(dim=1)[0, 1].item()  # P(first in front)
        0.5
    """

    logits: torch.Tensor

    __repr__ = short_repr


class OrderNet(CheckedModel, ConfigMixin):
    """Which of two objects that touch hides the other, from their modal masks and the photo. Source: [Z20], Table 1.

    A ResNet-50 whose first convolution takes the two masks, and with `use_rgb` the photo (OrderNet M+I), as the code of
    [Z20] has it.

    Args:
        use_rgb: look at the photo.
        num_relations: 2, one of the objects is in front, as published; 3, they may also be unrelated.
        answer: "occlusion", which of two objects that touch hides the other, or "depth", which of any two is closer, as
            InstaOrder asks beside it; that needs 3 relations, see `DEPTH_RELATIONS`.
        sample_size: side in pixels of the square crops that the network was trained on; the pipeline crops to it.
        hidden_sizes: channels of the stages.
        depths: number of residual blocks of each stage.
        embedding_size: channels of the first convolution.
        layer_type: "bottleneck" as in ResNet-50, or "basic" as in ResNet-18.

    Raises:
        ValueError, TypeError: naming the setting.

    Example:
        >>> model = OrderNet(hidden_sizes=(4, 8), depths=(1, 1), embedding_size=4, sample_size=32, layer_type="basic")
        >>> masks = torch.zeros(2, 1, 32, 32)
        >>> model(masks, masks, torch.zeros(2, 3, 32, 32)).logits.shape
        torch.Size([2, 2])
    """

    @register_to_config
    def __init__(
        self,
        use_rgb: bool = True,
        num_relations: int = 2,
        sample_size: int = 256,
        hidden_sizes: Sequence[int] = (256, 512, 1024, 2048),
        depths: Sequence[int] = (3, 4, 6, 3),
        embedding_size: int = 64,
        layer_type: str = "bottleneck",
        answer: str = "occlusion",
    ) -> None:
        super().__init__()
        check_flag("use_rgb", use_rgb)
        if answer not in ANSWERS:
            raise ValueError(f"`answer` must be 'occlusion' or 'depth', got {answer!r}.")
        check_positive_integers(
            num_relations=num_relations, sample_size=sample_size, hidden_sizes=hidden_sizes, depths=depths,
            embedding_size=embedding_size,
        )  # fmt: skip
        if num_relations not in (2, 3):
            raise ValueError(f"`num_relations` must be 2 or 3, got {num_relations}.")
        if answer == "depth" and num_relations != 3:
            raise ValueError(f"`num_relations` must be 3 where `answer` is 'depth', got {num_relations}.")
        if len(depths) != len(hidden_sizes):
            raise ValueError(f"`depths` must have {len(hidden_sizes)} entries like `hidden_sizes`, got {len(depths)}.")
        if layer_type not in ("bottleneck", "basic"):
            raise ValueError(f"`layer_type` must be 'bottleneck' or 'basic', got {layer_type!r}.")
        self.encoder = ResNetModel(
            ResNetConfig(
                num_channels=5 if use_rgb else 2, layer_type=layer_type, hidden_sizes=list(hidden_sizes),
                depths=list(depths), embedding_size=embedding_size,
            )
        )  # fmt: skip
        self.classifier = nn.Linear(hidden_sizes[-1], num_relations)

    @torch.no_grad()
    def load_encoder(self, name_or_path: str, **kwargs: Any) -> None:
        """Take the weights of a ResNet of transformers, such as "microsoft/resnet-50" (ImageNet).

        The first convolution takes them for the photo; its weights on the masks stay as they are.

        Args:
            name_or_path: Hub id or folder; only safetensors are read.
            kwargs: `revision`, `token`, `cache_dir`, `local_files_only`; see `ResNetModel.from_pretrained`.

        Raises:
            OSError: where there is no such model.
            ValueError: where it is no ResNet of the sizes of this network.
        """
        load_resnet(self.encoder, name_or_path, self._with_mask_planes, **kwargs)

    def _with_mask_planes(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        first = "embedder.embedder.convolution.weight"
        own = self.encoder.state_dict()[first]
        if state[first].shape[0] != own.shape[0]:
            return state
        widened = own.clone()
        if self.config.use_rgb:
            widened[:, 2:] = state[first]
        return {**state, first: widened}

    @graph_call
    def forward(
        self, first: Tensor, second: Tensor, image: Tensor | None = None, return_dict: bool = True
    ) -> OrderNetOutput | tuple[Tensor]:
        """Predict the logits of the relation of two objects.

        Args:
            first: (B, 1, h, w) values in {0, 1}: the modal mask of one object, cropped around both.
            second: (B, 1, h, w), that of the other one, cropped with the same box.
            image: (B, 3, h, w) ImageNet-normalised RGB, cropped with the same box; exactly where `use_rgb` is True.
            return_dict: return an `OrderNetOutput` instead of a tuple.

        Returns:
            `OrderNetOutput` with `logits` (B, num_relations) in the dtype of the network, as `RELATIONS` names them.

        Raises:
            ValueError: naming the input that is missing, unwanted or of a wrong shape.
        """
        check_mask_plane("first", first, 1)
        check_mask_plane("second", second, 1, first.shape)
        batch, _, height, width = first.shape
        check_condition("image", image, "use_rgb", self.config.use_rgb, (batch, 3, height, width))
        dtype = self.dtype  # diffusers looks through all modules for it
        planes = torch.cat([plane.to(dtype) for plane in (first, second, image) if plane is not None], dim=1)
        logits = self.classifier(self.encoder(planes).pooler_output.flatten(1))
        return OrderNetOutput(logits=logits) if return_dict else (logits,)
