"""Training samples for networks that paint hidden parts [Z20]: photos with holes whose true colours are known.

An object A is seen in its photo. The shape of another object B is laid over it, and where both overlap the photo gets a
hole, whose true colours are known. Where B reaches beyond A its own pixels can be pasted, as they would surround a
hidden part in a real photo; the published recipe leaves the photo as it is. Some samples have no object to complete: B,
alone or together with A, is then a hole in the background.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...arguments.numeric import check_number
from ...crops import ENLARGE_BOX
from ...display import short_repr
from ...images import normalize_images
from .photo_bank import INSIDE, MODAL, PhotoBank
from .photo_occlusion import PhotoOcclusionSynthesizer, PhotoSynthesisConfig
from .seeds import mix_seed


@dataclass(frozen=True)
class ContentSynthesisConfig:
    """How `ContentSynthesizer` makes samples. Lengths are in units of the crop's side.

    Args:
        size: side of the crops in pixels.
        enlarge_box: area of a crop over the area of the object's box, see `crop_boxes`.
        paste_probability: share of the samples with an object in which B is pasted around the hole; published: 0.
        background_probability: share of the samples without an object; published: 0.
        wide_probability: share of the samples without an object in which A belongs to the hole too. The colours
            behind A are unknown, so these pixels are not `known`.
        dilation: largest dilation of the hole; drawn anew for each batch.
        cut_range: (least, largest) share of A that B covers.
        other_zoom: factor on B's size relative to A's, log-uniform.
        shift: range of the shift of the crop around A, in each direction.
        scale: range of the size of A in the crop, as a factor.
        rotation: largest rotation in degrees.
        colour: largest change of brightness, contrast and saturation, as a share.

    Example:
        >>> ContentSynthesisConfig().paste_probability, ContentSynthesisConfig.improved().paste_probability
        (0.0, 0.5)
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
            check_number(name, getattr(self, name), least=0, most=1)
        check_number("dilation", self.dilation, least=0, below=0.25)

    @classmethod
    def improved(cls, size: int = 256) -> "ContentSynthesisConfig":
        """Half of the samples with B pasted in, four in ten without object, other sizes, turned and recoloured."""
        return cls(
            size=size, paste_probability=0.5, background_probability=0.4, cut_range=(0.02, 0.8), other_zoom=(0.4, 1.6),
            shift=(-0.15, 0.15), rotation=6.0, colour=0.15,
        )  # fmt: skip


@dataclass
class ContentBatch:
    """A batch of `ContentSynthesizer`; masks are float32 in {0, 1} of shape (B, 1, S, S).

    Args:
        image: (B, 3, S, S) float32, RGB normalised as for ImageNet, with the true colours inside the hole too.
        visible: 0 in the hole.
        mask: the visible part of A outside the hole; zeros in samples without an object.
        known: 1 where `image` shows the true colours.
        category_ids: (B,) int64, of the objects to be completed, 0 for one of no known category; None for none at all.

    Example:
        >>> plane = torch.ones(1, 1, 8, 8)
        >>> ContentBatch(torch.zeros(1, 3, 8, 8), visible=0 * plane, mask=plane, known=plane).hole.mean()
        tensor(1.)
    """

    image: Tensor
    visible: Tensor
    mask: Tensor
    known: Tensor
    category_ids: Tensor | None = None

    __repr__ = short_repr

    def to(self, device: torch.device | str) -> "ContentBatch":
        """The same on a device."""
        ids = None if self.category_ids is None else self.category_ids.to(device)
        return ContentBatch(
            image=self.image.to(device),
            visible=self.visible.to(device),
            mask=self.mask.to(device),
            known=self.known.to(device),
            category_ids=ids,
        )

    @property
    def hole(self) -> Tensor:
        """(B, 1, S, S): the part of the hole whose colours are known."""
        return (1 - self.visible) * self.known


def join_content(parts: Sequence[ContentBatch]) -> ContentBatch:
    """Batches of the same size of crops, one after the other; categories are 0 where a batch has none.

    Example:
        >>> plane = torch.ones(2, 1, 8, 8)
        >>> batch = ContentBatch(torch.zeros(2, 3, 8, 8), plane, plane, plane)
        >>> join_content([batch, batch]).category_ids
        tensor([0, 0, 0, 0])
    """
    none = [torch.zeros(len(part.image), dtype=torch.int64, device=part.image.device) for part in parts]
    ids = [zero if part.category_ids is None else part.category_ids for part, zero in zip(parts, none, strict=True)]
    return ContentBatch(
        image=torch.cat([part.image for part in parts]),
        visible=torch.cat([part.visible for part in parts]),
        mask=torch.cat([part.mask for part in parts]),
        known=torch.cat([part.known for part in parts]),
        category_ids=torch.cat(ids),
    )


def dilate_holes(holes: Tensor, pixels: int) -> Tensor:
    """Holes (B, S, S) that are larger by so many pixels on each side, of the dtype that they have.

    Example:
        >>> dilate_holes(torch.eye(4, dtype=torch.bool)[None, 1:2], 1).int()
        tensor([[[1, 1, 1, 0]]], dtype=torch.int32)
    """
    if not pixels:
        return holes
    grown = F.max_pool2d(holes[:, None].to(torch.float32), 2 * pixels + 1, stride=1, padding=pixels)
    return grown[:, 0].to(holes.dtype)


class ContentSynthesizer(PhotoOcclusionSynthesizer):
    """Draws training batches from a bank of objects in their photos; each follows from (seed, step, process) alone.

    Args:
        bank: the objects, on the device where the batches are wanted.
        recipe: how samples are made; the published recipe if None.
        seed, source_weights, process_index, num_processes: see `PhotoOcclusionSynthesizer`.

    Example:
        >>> pixels = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
        >>> layers = torch.full((2, 32, 32), INSIDE, dtype=torch.uint8)
        >>> layers[:, 8:24, 8:24] |= MODAL
        >>> known, sources = torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.int64)
        >>> bank = PhotoBank(pixels, layers, known, sources, context=1.5)
        >>> batch = ContentSynthesizer(bank, ContentSynthesisConfig(size=16)).sample(step=0, batch_size=4)
        >>> batch.image.shape, batch.hole.shape
        (torch.Size([4, 3, 16, 16]), torch.Size([4, 1, 16, 16]))
    """

    def __init__(self, bank: PhotoBank, recipe: ContentSynthesisConfig | None = None, **options: Any) -> None:
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
        seen, missing, kept = (plane[:, None].to(torch.float32) for plane in (visible & (inside | pasted), mask, known))
        return ContentBatch(normalize_images(image), seen, missing, kept, self.bank.category_ids[plan.objects])

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
        return dilate_holes(hole, pixels)
