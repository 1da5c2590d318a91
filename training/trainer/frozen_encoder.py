"""An EfficientNet-lite0 that stays as it is but for its deepest blocks, which learn more slowly than the rest."""

from dataclasses import dataclass
from typing import ClassVar

from amodal_diffusion import EfficientNetLite0

from .arguments import flag
from .loop import Task


@dataclass(kw_only=True)
class FrozenEncoderArguments:
    _argument_group_name: ClassVar[str] = "network"

    trained_encoder_blocks: int = flag(
        0, "Of the image encoder's 16 blocks, train the deepest; 5 are those of stride 32."
    )
    encoder_lr_scale: float = flag(0.1, "Their learning rate, as a share of `--learning_rate`.")


def check_frozen_encoder(args: FrozenEncoderArguments) -> None:
    """Refuse blocks that there are not, and a rate that is none.

    Raises:
        ValueError: naming the flag.
    """
    blocks = EfficientNetLite0.num_blocks
    if not 0 <= args.trained_encoder_blocks <= blocks:
        raise ValueError(f"`--trained_encoder_blocks` must lie in [0, {blocks}], got {args.trained_encoder_blocks}.")
    if not args.encoder_lr_scale > 0:
        raise ValueError(f"`--encoder_lr_scale` must be positive, got {args.encoder_lr_scale}.")


def freeze_encoder(encoder: EfficientNetLite0, args: FrozenEncoderArguments) -> None:
    """Let nothing of an encoder learn but its deepest blocks."""
    encoder.requires_grad_(False)
    for block in encoder.deepest_blocks(args.trained_encoder_blocks):
        block.requires_grad_(True)


class FrozenEncoderTask(Task):
    """A network whose `image_encoder` `freeze_encoder` froze."""

    args: FrozenEncoderArguments

    def learning_rate_scale(self, name: str) -> float:
        return self.args.encoder_lr_scale if name.startswith("image_encoder.") else 1.0
