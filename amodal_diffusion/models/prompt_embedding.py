"""The embedding of one prompt, kept instead of the text encoder that made it."""

import torch
from diffusers import ConfigMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from .checks import CheckedModel, check_positive_integers


class PromptEmbedding(CheckedModel, ConfigMixin):
    """Holds what a text encoder makes of one prompt, so that a pipeline is saved and loaded without the encoder.

    Args:
        tokens: length of the prompt in tokens.
        channels: values a token.

    Example:
        >>> PromptEmbedding.from_tensor(torch.ones(1, 77, 8))().shape
        torch.Size([1, 77, 8])
    """

    @register_to_config
    def __init__(self, tokens: int = 77, channels: int = 1024) -> None:
        super().__init__()
        check_positive_integers(tokens=tokens, channels=channels)
        self.embeds = nn.Parameter(torch.zeros(1, tokens, channels), requires_grad=False)

    @classmethod
    def from_tensor(cls, embeds: Tensor) -> "PromptEmbedding":
        """The holder of a copy of `embeds`, (1, tokens, channels), on its device and in its dtype."""
        holder = cls(tokens=embeds.shape[1], channels=embeds.shape[2])
        holder.embeds = nn.Parameter(embeds.detach().clone(), requires_grad=False)
        return holder.eval()

    def forward(self) -> Tensor:
        """The embedding, (1, tokens, channels): a copy, since offloading moves the parameter away after the call."""
        return self.embeds.detach().clone()
