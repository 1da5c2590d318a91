"""Training samples for networks that fill hidden parts with colour [Z20]: real photos, holes where nothing is hidden.

Object A lies in its photo. The shape of another object B is laid over it, and what both cover becomes a hole whose true
colours the photo shows. B's own pixels are pasted where it reaches beyond A, since that is what surrounds a hidden part
in a photo; or A's photo is left as it is, as published. In a part of the samples there is no object to be completed: B
is a hole in the background, alone or together with A.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...crops import ENLARGE_BOX
from ...images import normalize_images
from .photo_bank import INSIDE, MODAL, PhotoBank
from .photo_occlusion import PhotoOcclusionSynthesizer, PhotoSynthesisConfig
from .seeds import mix_seed


@dataclass(frozen=True)
class ContentSynthesisConfig:
    """How samples are made. Lengths are in units of the crop's side.

    Args:
        size: side of the crops in pixels.
        enlarge_box: of the crop rule.
        paste_probability: share of the object samples into which B is pasted with its colours; 0 is published.
        background_probability: share of samples without object; 0 is published.
        wide_probability: share of those in which A is a part of the hole too. What is behind A nobody knows, so it
            does not count as `known`.
        dilation: largest dilation of the hole; drawn anew for each batch.
        cut_range: share of A that B covers.
        other_zoom: factor on B's size relative to A's, log-uniform.
        shift, scale: of the crop around A.
        rotation: largest rotation in degrees.
        colour: largest change of brightness, contrast and saturation, as a share.
    """

    size: int = 256
    enlarge_box: float = ENLARGE_BOX
    paste_probability: float = 0.0
    background_probability: float = 0.0
    wide_probability: float = 0.5
    dilation: float = 5 / 256
    cut_range: tuple[float, float] = (0.001, 0.9)
    other_zoom: tuple[float, float] = (1.0, 1.0)
    shift: tuple[float, float] = (-0.2, 0.2)
    scale: tuple[float, float] = (0.8, 1.2)
    rotation: float = 0.0
    colour: float = 0.0

    def __post_init__(self) -> None:
        for name in ("paste_probability", "background_probability", "wide_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must lie in [0, 1], got {getattr(self, name)}.")
        if not 0 <= self.dilation < 0.25:
            raise ValueError(f"`dilation` must lie in [0, 0.25), got {self.dilation}.")

    @classmethod
    def improved(cls, size: int = 256) -> "ContentSynthesisConfig":
        """Half of the samples with B pasted in, four in ten without object, other sizes, turned and recoloured."""
        return cls(
            size=size, paste_probability=0.5, background_probability=0.4, cut_range=(0.02, 0.8), other_zoom=(0.4, 1.6),
            shift=(-0.15, 0.15), rotation=6.0, colour=0.15,
        )  # fmt: skip


@dataclass
class ContentBatch:
    """One batch; masks are float32 in {0, 1} of shape (B, 1, S, S).

    Args:
        image: (B, 3, S, S) float32, ImageNet-normalised RGB: the truth, inside of the hole as well.
        visible: 0 in the hole.
        mask: what is visible of A outside of the hole; zeros in samples without object.
        known: 1 where `image` is the truth.
    """

    image: Tensor
    visible: Tensor
    mask: Tensor
    known: Tensor

    @property
    def hole(self) -> Tensor:
        """(B, 1, S, S): the part of the hole whose colours are known."""
        return (1 - self.visible) * self.known


class ContentSynthesizer(PhotoOcclusionSynthesizer):
    """Draws training batches from a bank of objects in their photos; each is a function of (seed, step, process).

    Args:
        bank: the objects, on the device where the batches are wanted.
        recipe: see `ContentSynthesisConfig`.
        seed, process_index, num_processes: see `PhotoOcclusionSynthesizer`.
    """

    def __init__(self, bank: PhotoBank, recipe: ContentSynthesisConfig | None = None, **options: int) -> None:
        self.recipe = recipe = recipe or ContentSynthesisConfig()
        config = PhotoSynthesisConfig(
            size=recipe.size, enlarge_box=recipe.enlarge_box,
            front_probability=1.0, behind_probability=0.0, region_probability=0.0,
            cut_range=recipe.cut_range, other_zoom=recipe.other_zoom, shift=recipe.shift, scale=recipe.scale,
            rotation=recipe.rotation, colour=recipe.colour, max_redraws=20,
        )  # fmt: skip
        super().__init__(bank, config, **options)

    @torch.no_grad()
    def sample(self, step: int, batch_size: int) -> ContentBatch:  # type: ignore[override]
        """The batch of `step` for this process: always the same for the same arguments."""
        self._generator.manual_seed(mix_seed(self.seed, step, self.process_index))
        plan = self._plan(batch_size)
        plan = replace(plan, target=self._move_crop(plan.target))
        self._place_pasted(plan, self._read(plan.objects, plan.target) & MODAL)
        bits = self._read(plan.objects, plan.target)
        modal, inside = bits & MODAL, ((bits & INSIDE) != 0).to(torch.uint8)
        other = self._read(plan.others, plan.pasted) & MODAL  # [B, S, S]

        background, wide = self._chance(batch_size, "background"), self._chance(batch_size, "wide")
        hole = other & (modal | background)
        hole = self._dilate(hole | (modal & background & wide))
        image = self._colours(self._photo(plan.objects, plan.target))
        pasted = other & (modal ^ 1) & (background ^ 1) & self._chance(batch_size, "paste")
        theirs = self._colours(self._photo(plan.others, plan.pasted))
        image = torch.where(pasted[:, None].bool(), theirs, image)
        known = inside | pasted
        known &= (background & wide & modal) ^ 1
        visible = hole ^ 1
        mask = modal & visible & (background ^ 1)
        # Nothing is seen beyond the frame of the photo.
        masks = (visible & (inside | pasted), mask, known)
        return ContentBatch(normalize_images(image), *(plane[:, None].to(torch.float32) for plane in masks))

    def _move_crop(self, target: Tensor) -> Tensor:
        """Shift and scale the crop around A."""
        config, count = self.config, len(target)
        side = 1 / self._uniform((count, 1, 1), *config.scale)
        centre = self._uniform((count, 2, 1), *config.shift)
        matrix = target[:, :, :2]
        return torch.cat([matrix * side, target[:, :, 2:] + matrix @ centre], dim=2)

    def _chance(self, batch: int, name: str) -> Tensor:
        """(B, 1, 1) uint8, 1 with the probability of the recipe."""
        probability = getattr(self.recipe, f"{name}_probability")
        return (self._uniform((batch, 1, 1), 0, 1) < probability).to(torch.uint8)

    def _dilate(self, hole: Tensor) -> Tensor:
        pixels = round(float(self._uniform((1,), 0, 1)) * self.recipe.dilation * self.recipe.size)
        if not pixels:
            return hole
        grown = F.max_pool2d(hole[:, None].to(torch.float32), 2 * pixels + 1, stride=1, padding=pixels)
        return grown[:, 0].to(torch.uint8)
