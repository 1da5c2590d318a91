"""What PCNet-M and ASBU share where they look at the photo (`--use_rgb`): pasted samples, refused flags, the card."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator
from torch import nn

from amodal_diffusion.data.samplers.photo_boundaries import MATTING, PhotoBoundaries, boundary_synthesis

from .arguments import PhotoArguments, flag
from .photo_sources import check_categories, check_images, check_true_share, make_photo_synthesizers
from .synthetic_masks import MaskDataArguments, SyntheticMaskTask


@dataclass(kw_only=True)
class MaskOrPhotoArguments(MaskDataArguments, PhotoArguments):
    """The data flags of scripts that look at masks alone, or with `--use_rgb` at the photos too."""


@dataclass(kw_only=True)
class PhotoFlag:
    """For the group "network" of such a script."""

    use_rgb: bool = flag(False, "Look at the photos of the data sets; `--recipe` says how they are pasted.")


def check_photo_flags(args: Any, refused: Sequence[tuple[Any, str, str]] = ()) -> None:
    """Refuse flags that do not go with `--use_rgb`, or not without it.

    Args:
        args: with the fields of `MaskOrPhotoArguments` and `PhotoFlag`.
        refused: more of them with `--use_rgb`: the value, the flag, the reason.

    Raises:
        ValueError: naming the flag and the reason.
    """
    check_true_share(args)
    if args.true_dataset:
        _check_true_scenes(args)
    if not args.use_rgb:
        if args.images is not None:
            raise ValueError("`--images` needs `--use_rgb`: without it no photo is looked at.")
        return
    check_images(args)
    kept = "objects at the frame are kept, since the photo shows the frame"
    for given, name, reason in (
        *refused,
        (args.keep_crowd, "--keep_crowd", "crowd regions are never cut out of a photo"),
        (args.max_truncation < 1, "--max_truncation", kept),
    ):
        if given:
            raise ValueError(f"`{name}` does not go with `--use_rgb`: {reason}.")


def _check_true_scenes(args: Any) -> None:
    for name in ("use_rgb", "class_conditioned"):
        if getattr(args, name):
            raise ValueError(f"`--true_dataset` does not go with `--{name}`: its scenes are drawn as masks alone.")


def check_rgb(model: nn.Module, args: Any) -> None:
    """Refuse a `--pretrained_pipeline` whose network does not see what `--use_rgb` says.

    Raises:
        ValueError: naming both flags.
    """
    if model.config.use_rgb != args.use_rgb:
        kind, change = ("with", "add") if model.config.use_rgb else ("without", "leave out")
        raise ValueError(
            f"`--pretrained_pipeline` {args.pretrained_pipeline!r} has a network {kind} RGB: {change} `--use_rgb`."
        )


class PastedPhotos(SyntheticMaskTask):
    """Before a task on masks alone, this has it look at photos into which another object is pasted."""

    def __init__(self, args: Any) -> None:
        super().__init__(args)  # type: ignore[call-arg]  # of the task that follows
        self.photo_synthesis = boundary_synthesis(self.model.config.sample_size, args.recipe)

    def setup(self, accelerator: Accelerator) -> None:
        training, validation, self.photo_counts = make_photo_synthesizers(
            self.args, self.photo_synthesis, accelerator, modal_only=True
        )
        if self.model.config.class_conditioned:
            check_categories(training.bank, validation.bank)
        self.synthesizer, self.validation = PhotoBoundaries(training), {"": PhotoBoundaries(validation)}
        self.autocast = accelerator.autocast

    def data_lines(self) -> list[str]:
        synthesis, (inside, outline) = self.photo_synthesis, MATTING
        return [f"{name}: {count:,} modal masks in {photos:,} photos" for name, photos, count in self.photo_counts] + [
            f"{self.args.validation_fraction:.0%} of the photos are held out for validation.",
            f"Recipe of the synthesis: {self.args.recipe}. Another object is pasted in front of "
            f"{synthesis.front_probability:.0%} of the samples and behind {synthesis.behind_probability:.0%}, with "
            f"opacity {inside:g}, {outline:g} on its outline.",
        ]

    def card(self) -> dict[str, Any]:
        card = super().card()
        limits = ["It learned on photos that other objects were pasted into, not on real occlusion."]
        return {
            **card,
            "description": card["description"].replace("masks alone", "a photo and its visible masks"),
            "limits": [*limits, *card["limits"][1:]],
        }
