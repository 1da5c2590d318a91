"""Training samples for networks that see the photo: objects in their own photos, with occlusion pasted into some.

An object A is seen in its own photo, with its real surroundings. In some of the samples another object B, cut out of
its photo, is pasted in front of A or behind it. A pasted object looks foreign in either case, so that only the way in
which the outlines meet tells who is in front. The crop is then laid around the part of A that is still visible, as a
pipeline does. A batch follows from (seed, step, process) alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...arguments.numeric import check_integer, check_number
from ...crops import ENLARGE_BOX
from ...display import short_repr
from ...images import normalize_images
from .draws import instance_weights
from .photo_bank import AMODAL, INSIDE, MODAL, OCCLUDER, OTHERS, PhotoBank
from .regions import sample_region_boxes, sample_regions
from .seeds import mix_seed

_NO_PASTE, _FRONT, _BEHIND = 0, 1, 2

PASTED = 255
"""Number in `PhotoBatch.others` of what is pasted."""


@dataclass(frozen=True)
class PhotoSynthesisConfig:
    """How `PhotoOcclusionSynthesizer` makes samples.

    Ranges are uniform (low, high) unless said otherwise; lengths are in units of the crop's side.

    Args:
        size: side of the crops in pixels.
        enlarge_box: area of a crop over the area of the object's box, see `crop_boxes`.
        front_probability: share of samples with another object pasted in front of A.
        behind_probability: share of samples with another object pasted behind A.
        overlap: share of the two crops' area that overlaps when the other object is placed [Z20].
        cut_range: share of A that the pasted object covers, or would cover if it were in front; samples outside this
            range are drawn again.
        max_redraws: how often a sample is drawn again; after that nothing is pasted.
        other_zoom: factor on the pasted object's size relative to A's, log-uniform.
        region_probability: share of samples in which A is a synthetic region (road, wall, table top) behind the objects
            of the photo.
        shift: shift of the crop's centre in each direction.
        scale: factor on the object's size in the crop.
        rotation: largest rotation in degrees.
        colour: largest change of brightness, contrast and saturation, as a share.
        matting: opacity of what is seen of the pasted object, (inside, on its outline of one pixel), as ASBU has it
            with (0.8, 0.5) [N21]. None: opaque, with a soft edge that falls from 1 to 0 around the outline.

    Example:
        >>> PhotoSynthesisConfig(front_probability=1.0, behind_probability=0.0).size
        128
    """

    size: int = 128
    enlarge_box: float = ENLARGE_BOX
    front_probability: float = 0.45
    behind_probability: float = 0.15
    overlap: tuple[float, float] = (0.4, 1.0)
    cut_range: tuple[float, float] = (0.02, 0.8)
    max_redraws: int = 8
    other_zoom: tuple[float, float] = (0.4, 2.0)
    region_probability: float = 0.15
    shift: tuple[float, float] = (-0.05, 0.05)
    scale: tuple[float, float] = (0.85, 1.15)
    rotation: float = 8.0
    colour: float = 0.25
    matting: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("front_probability", "behind_probability", "region_probability"):
            check_number(name, getattr(self, name), least=0, most=1)
        if self.front_probability + self.behind_probability > 1:
            raise ValueError(
                "`front_probability` and `behind_probability` must add up to 1 at most, got "
                f"{self.front_probability} and {self.behind_probability}."
            )
        for name in ("overlap", "cut_range", "other_zoom", "shift", "scale"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"`{name}` must be (low, high) with low <= high, got {(low, high)}.")
        if self.scale[0] <= 0 or self.other_zoom[0] <= 0 or self.overlap[0] <= 0:
            raise ValueError("`scale`, `other_zoom` and `overlap` must be positive.")
        check_integer("size", self.size, 8)
        check_integer("max_redraws", self.max_redraws, 0)
        check_number("rotation", self.rotation, least=0)
        check_number("colour", self.colour, least=0, below=1)
        if self.matting is not None and (len(self.matting) != 2 or not all(0 <= value <= 1 for value in self.matting)):
            raise ValueError(f"`matting` must be None or (inside, outline), both in [0, 1], got {self.matting}.")


@dataclass
class PhotoBatch:
    """A batch of `PhotoOcclusionSynthesizer`; masks are float32 in {0, 1} of shape (B, 1, S, S).

    Args:
        image: (B, 3, S, S) float32, RGB normalised as for ImageNet.
        modal: what is visible of A.
        amodal: the whole of A.
        occluder: everything in front of A, as far as it is known.
        known: 1 where it is known whether something is in front of A.
        pasted: what is seen of the pasted object, in front of A or behind it; 0 where nothing is pasted.
        is_region: (B,) bool, A is a synthetic region, which the photo does not show.
        others: (B, 1, S, S) uint8, which other object is seen at each pixel: its number in the photo, `PASTED` for what
            is pasted, and 0 where there is none; None without `PhotoBank.instances`.
        category_ids: (B,) int64 of A, 0 where there is none; None for none at all.

    Example:
        >>> plane, no = torch.ones(1, 1, 8, 8), torch.zeros(1, dtype=torch.bool)
        >>> PhotoBatch(torch.zeros(1, 3, 8, 8), 0 * plane, plane, plane, plane, 0 * plane, no).hidden.mean()
        tensor(1.)
    """

    image: Tensor
    modal: Tensor
    amodal: Tensor
    occluder: Tensor
    known: Tensor
    pasted: Tensor
    is_region: Tensor
    others: Tensor | None = None
    category_ids: Tensor | None = None

    __repr__ = short_repr

    @property
    def hidden(self) -> Tensor:
        """The hidden part of A."""
        return self.amodal * (1 - self.modal)

    @property
    def unexplained(self) -> Tensor:
        """(B,) bool, whether A has a hidden part under something that nobody named, as most of MP3D-Amodal has."""
        unknown = ~self.known.flatten(1).all(1)
        return unknown & (self.hidden > self.occluder).flatten(1).any(1)


@dataclass
class _Plan:
    """All that is drawn of a batch: which objects, and the maps (B, 2, 3) from crop coordinates to their squares."""

    objects: Tensor  # (B,) A
    target: Tensor
    others: Tensor  # (B,) B
    pasted: Tensor
    kind: Tensor  # (B,) nothing pasted, in front, behind
    is_region: Tensor  # (B,) bool
    boxes: Tensor  # (B, 4) of the regions, [left, top, right, bottom] in crop units around the crop's centre
    regions_seed: int


@dataclass
class _Layers:
    """What a sample is made of, each (B, S, S) uint8 in {0, 1}."""

    modal: Tensor
    amodal: Tensor
    occluder: Tensor
    shape: Tensor  # what is seen of B
    known: Tensor


class PhotoOcclusionSynthesizer:
    """Draws training batches from a bank of objects in their photos.

    Args:
        bank: the objects, on the device where the batches are wanted.
        config: the recipe.
        seed: with step and process index, it determines a batch.
        source_weights: relative frequency of each data set as A; None draws every object equally often.
        process_index, num_processes: the processes of one run get different samples in every step.

    Raises:
        ValueError: where `source_weights` does not fit the bank's sources or the process index is out of range.

    Example:
        >>> pixels = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
        >>> layers = torch.full((2, 32, 32), INSIDE, dtype=torch.uint8)
        >>> layers[:, 8:24, 8:24] |= MODAL | AMODAL
        >>> known, sources = torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.int64)
        >>> bank = PhotoBank(pixels, layers, known, sources, context=1.5)
        >>> batch = PhotoOcclusionSynthesizer(bank, PhotoSynthesisConfig(size=16)).sample(step=0, batch_size=4)
        >>> batch.image.shape, batch.amodal.shape
        (torch.Size([4, 3, 16, 16]), torch.Size([4, 1, 16, 16]))
    """

    def __init__(
        self,
        bank: PhotoBank,
        config: PhotoSynthesisConfig | None = None,
        *,
        seed: int = 0,
        source_weights: Sequence[float] | None = None,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        check_integer("num_processes", num_processes, 1)
        check_integer("process_index", process_index, 0, num_processes - 1)
        self.bank = bank
        self.config = config or PhotoSynthesisConfig()
        self.seed = seed
        self.process_index = process_index
        weights = None if source_weights is None else instance_weights(bank.sources, source_weights)
        self._weights = None if weights is None else weights.to(bank.device)
        self._generator = torch.Generator(device=bank.device)

    @torch.no_grad()
    def sample(self, step: int, batch_size: int) -> PhotoBatch:
        """The batch of `step` for this process: always the same for the same arguments."""
        self._generator.manual_seed(mix_seed(self.seed, step, self.process_index))
        plan = self._plan(batch_size)
        self._place_pasted(plan, self._target_layers(plan)[0])
        plan = self._crop_to_visible(plan, self._layers(plan).modal)
        layers = self._layers(plan)
        image = self._image(plan, layers.shape)
        masks = (layers.modal, layers.amodal, layers.occluder, layers.known, layers.shape)
        modal, amodal, occluder, known, pasted = (mask[:, None].to(torch.float32) for mask in masks)
        others, categories = self._others(plan, layers), self.bank.category_ids[plan.objects]
        return PhotoBatch(image, modal, amodal, occluder, known, pasted, plan.is_region, others, categories)

    # What is drawn

    def _plan(self, batch: int) -> _Plan:
        config = self.config
        objects, others = self._objects(batch), self._integers(len(self.bank), batch)
        chance = self._uniform((batch,), 0, 1)
        kind = torch.full_like(objects, _NO_PASTE)
        kind[chance < config.front_probability + config.behind_probability] = _BEHIND
        kind[chance < config.front_probability] = _FRONT
        boxes, _ = sample_region_boxes(batch, self._generator)
        return _Plan(
            objects=objects,
            target=self._place_target(batch),
            others=others,
            pasted=self._place_other(batch),
            kind=kind,
            is_region=self._uniform((batch,), 0, 1) < config.region_probability,
            boxes=boxes,
            regions_seed=int(self._integers(2**31, 1)),
        )

    def _objects(self, batch: int) -> Tensor:
        """(B,) int64: which objects are A."""
        if self._weights is None:
            return self._integers(len(self.bank), batch)
        return torch.multinomial(self._weights, batch, replacement=True, generator=self._generator)

    def _place_target(self, batch: int) -> Tensor:
        """Maps from the crop to the squares of A: turned and mirrored around their centre."""
        return self._affine(torch.full((batch,), 1 / self.bank.context, device=self.bank.device), None)

    def _place_other(self, batch: int) -> Tensor:
        """Maps from the crop to the squares of B, offset against the centre as in [Z20]."""
        config = self.config
        low, high = (math.log(value) for value in config.other_zoom)
        zoom = torch.exp(self._uniform((batch,), low, high))
        overlap = self._uniform((batch,), *config.overlap)
        x = self._uniform((batch,), -1, 1) * (1 - overlap)
        sign = torch.where(self._uniform((batch,), 0, 1) < 0.5, 1.0, -1.0)
        y = (1 - overlap / (1 - x.abs())) * sign
        return self._affine(1 / (zoom * self.bank.context), -torch.stack([x, y], dim=1))

    def _affine(self, scale: Tensor, shift: Tensor | None) -> Tensor:
        """(B, 2, 3): p -> R·(p + shift)·scale, where R turns and mirrors."""
        count = len(scale)
        angle = self._uniform((count,), -1, 1) * math.radians(self.config.rotation)
        mirror = torch.where(self._uniform((count,), 0, 1) < 0.5, -1.0, 1.0)
        cos, sin = torch.cos(angle), torch.sin(angle)
        rows = [torch.stack([mirror * cos, -mirror * sin], 1), torch.stack([sin, cos], 1)]
        matrix = torch.stack(rows, 1) * scale[:, None, None]
        moved = torch.zeros(count, 2, 1, device=scale.device) if shift is None else matrix @ shift[:, :, None]
        return torch.cat([matrix, moved], dim=2)

    def _place_pasted(self, plan: _Plan, visible: Tensor) -> None:
        """Move B until it cuts what is `visible` (B, S, S) of A as `cut_range` says; else nothing is pasted."""
        low, high = self.config.cut_range
        areas = _areas(visible).clamp(min=1)
        rows = (plan.kind != _NO_PASTE).nonzero()[:, 0]
        for _ in range(self.config.max_redraws + 1):
            shape = self._read(plan.others[rows], plan.pasted[rows]) & MODAL
            share = _areas(visible[rows] & shape) / areas[rows]
            rows = rows[(share < low) | (share > high)]
            if not len(rows):
                return
            plan.pasted[rows] = self._place_other(len(rows))
        plan.kind[rows] = _NO_PASTE

    def _crop_to_visible(self, plan: _Plan, modal: Tensor) -> _Plan:
        """The same sample in the crop that the rule lays around the visible part, shifted and scaled a little."""
        config, count = self.config, len(modal)
        boxes = _boxes(modal) / config.size - 0.5  # [B, 4] left, top, right, bottom
        width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        longest = torch.maximum(width, height)
        side = torch.maximum((config.enlarge_box * width * height).sqrt(), 1.1 * longest)
        side = side.clamp(min=8 / config.size) / self._uniform((count,), *config.scale)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + self._uniform((count, 2), *config.shift) * side[:, None]
        return replace(
            plan,
            target=_compose(plan.target, side, centre),
            pasted=_compose(plan.pasted, side, centre),
            boxes=(plan.boxes - centre.repeat(1, 2)) / side[:, None],
        )

    # What is rendered

    def _layers(self, plan: _Plan) -> _Layers:
        modal, amodal, occluder = self._target_layers(plan)
        shape = self._read(plan.others, plan.pasted) & MODAL  # bit 0, so that this is 0 or 1
        front = shape * (plan.kind == _FRONT)[:, None, None]
        behind = shape * (plan.kind == _BEHIND)[:, None, None] & (modal ^ 1) & (occluder ^ 1)
        trusted = (self.bank.known[plan.objects] | plan.is_region).to(torch.uint8)[:, None, None]
        modal &= front ^ 1
        return _Layers(
            modal=modal,
            amodal=amodal,
            occluder=occluder | front,
            shape=front | behind,
            known=trusted | front | behind | modal,
        )

    def _target_layers(self, plan: _Plan) -> tuple[Tensor, Tensor, Tensor]:
        """Modal mask, amodal mask and occluder of A before anything is pasted."""
        bits = self._read(plan.objects, plan.target)
        modal, amodal, occluder, others, inside = (
            ((bits & bit) != 0).to(torch.uint8) for bit in (MODAL, AMODAL, OCCLUDER, OTHERS, INSIDE)
        )
        rows = plan.is_region.nonzero()[:, 0]
        if len(rows):
            generator = torch.Generator(device=self.bank.device).manual_seed(plan.regions_seed)
            regions = sample_regions(len(rows), generator).render(plan.boxes[rows], self.config.size)
            whole = regions.to(torch.uint8) & inside[rows]
            in_front = modal[rows] | others[rows]
            modal[rows], amodal[rows], occluder[rows] = whole & (in_front ^ 1), whole, in_front
        return modal, amodal, occluder

    def _others(self, plan: _Plan, layers: _Layers) -> Tensor | None:
        """(B, 1, S, S) uint8, see `PhotoBatch`."""
        if self.bank.instances is None:
            return None
        numbers = self._read(plan.objects, plan.target, self.bank.instances)
        return torch.where(layers.shape > 0, PASTED, numbers).mul_(layers.modal ^ 1)[:, None]

    def _read(self, objects: Tensor, affine: Tensor, planes: Tensor | None = None) -> Tensor:
        """(B, S, S) uint8: the nearest values of `planes`, the bits by default, of `objects`, 0 outside."""
        resolution, size = self.bank.resolution, self.config.size
        axis = (torch.arange(size, device=affine.device, dtype=torch.float32) + 0.5) / size - 0.5
        scaled = affine * resolution
        x, y = (
            (scaled[:, i, 0, None, None] * axis + scaled[:, i, 1, None, None] * axis[:, None])
            + (scaled[:, i, 2] + resolution / 2)[:, None, None]
            for i in (0, 1)
        )  # [B, S, S] each
        column, row = x.floor().to(torch.int32), y.floor().to(torch.int32)
        known = (column.clamp(0, resolution - 1) == column) & (row.clamp(0, resolution - 1) == row)
        cell = row.clamp_(0, resolution - 1).mul_(resolution).add_(column.clamp_(0, resolution - 1))
        planes = self.bank.layers if planes is None else planes
        values = planes.view(len(self.bank), -1)[objects[:, None, None], cell]
        return values * known.to(torch.uint8)

    def _image(self, plan: _Plan, shape: Tensor) -> Tensor:
        """(B, 3, S, S) float32, ImageNet-normalised: A's photo with B pasted into it."""
        image = self._colours(self._photo(plan.objects, plan.target))
        rows = (plan.kind != _NO_PASTE).nonzero()[:, 0]
        if len(rows):
            pasted = self._colours(self._photo(plan.others[rows], plan.pasted[rows]))
            alpha = self._soft_edge(shape[rows]) if self.config.matting is None else self._matte(shape[rows])
            image[rows] = image[rows] + alpha * (pasted - image[rows])
        return normalize_images(image)

    def _photo(self, objects: Tensor, affine: Tensor) -> Tensor:
        grid = F.affine_grid(
            torch.cat([affine[:, :, :2], 2 * affine[:, :, 2:]], dim=2),
            [len(objects), 3, self.config.size, self.config.size],
            align_corners=False,
        )
        pixels = self.bank.pixels[objects].to(torch.float32) / 255
        return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    def _soft_edge(self, shape: Tensor) -> Tensor:
        """(B, 1, S, S): opacity that falls from 1 to 0 around the outline, moved in or out by up to a pixel, so that
        neither side of a pasted outline always shows the object's old background.
        """
        mean = F.avg_pool2d(shape[:, None].to(torch.float32), 5, stride=1, padding=2)
        moved = self._uniform((len(shape), 1, 1, 1), -0.25, 0.25)
        return ((mean - 0.5 + moved) * 2 + 0.5).clamp_(0, 1)

    def _matte(self, shape: Tensor) -> Tensor:
        """(B, 1, S, S): the opacity of `matting`; the outline is what has a pixel outside among its 8 neighbours."""
        inside, outline = self.config.matting or (1.0, 1.0)
        seen = shape[:, None].to(torch.float32)
        rim = F.max_pool2d(1 - seen, 3, stride=1, padding=1)  # what lies beyond the crop counts as inside
        return seen * (inside + (outline - inside) * rim)

    def _colours(self, image: Tensor) -> Tensor:
        """Change brightness, contrast and saturation."""
        amount = self.config.colour
        if not amount:
            return image
        brightness, contrast, saturation = (1 + self._uniform((len(image), 1, 1, 1), -amount, amount) for _ in range(3))
        grey = image.mean(dim=1, keepdim=True)
        image = grey + (image - grey) * saturation
        level = grey.mean(dim=(2, 3), keepdim=True)
        return ((level + (image - level) * contrast) * brightness).clamp_(0, 1)

    def _uniform(self, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        return torch.rand(shape, generator=self._generator, device=self.bank.device) * (high - low) + low

    def _integers(self, high: int, count: int) -> Tensor:
        return torch.randint(high, (count,), generator=self._generator, device=self.bank.device)


def _compose(affine: Tensor, side: Tensor, centre: Tensor) -> Tensor:
    """The map p -> affine(centre + side·p)."""
    matrix = affine[:, :, :2]
    moved = affine[:, :, 2:] + matrix @ centre[:, :, None]
    return torch.cat([matrix * side[:, None, None], moved], dim=2)


def _areas(planes: Tensor) -> Tensor:
    """(B,) number of ones in each of (B, S, S) uint8."""
    return planes.flatten(1).sum(1, dtype=torch.int32)


def _boxes(planes: Tensor) -> Tensor:
    """(B, 4) float32 [left, top, right, bottom] in pixels of each of (B, S, S) uint8; all of it where it is empty."""
    size = planes.shape[-1]
    bounds = []
    for axis in (1, 2):  # over the rows for left and right, over the columns for top and bottom
        line = planes.amax(dim=axis)  # [B, S]
        low = line.argmax(dim=1)
        high = size - line.flip(1).argmax(dim=1)
        bounds.append((low, high))
    (left, right), (top, bottom) = bounds
    return torch.stack([left, top, right, bottom], dim=1).to(torch.float32)
