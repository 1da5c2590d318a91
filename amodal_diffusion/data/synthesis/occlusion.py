"""Occlusion synthesis: training samples made from modal masks alone, batched on the training device [Z20].

An object A and other objects from a `MaskBank` are drawn into one square crop. An object that is put in front of A
erases a part of it, and the network learns to bring that part back; of an object that is put behind A the network
learns to leave A as it is. A batch follows from (seed, step, process) alone, so that a resumed run continues exactly
where it stopped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ...arguments.numeric import check_integer, check_number
from ...display import short_repr
from .draws import instance_weights
from .mask_bank import MaskBank
from .regions import Regions, sample_frames, sample_region_boxes, sample_regions
from .seeds import mix_seed

_FIXED_BITS = 15
_FIXED = 1 << _FIXED_BITS


@dataclass(frozen=True)
class SynthesisConfig:
    """How occlusion is synthesised. The defaults are the published recipe [Z20].

    Ranges are uniform (low, high) unless said otherwise; lengths are in units of the crop's side.

    Args:
        size: side of the crops in pixels.
        enlarge_box: area of a crop over the area of the object's box, see `crop_boxes`.
        shift: shift of A's centre in each direction.
        scale: factor on the size of each object in its crop.
        flip_probability: of mirroring each object.
        erase_probability: gamma, of case 1 (the other object is in front) over case 2 (it is behind).
        overlap: share of the two crops' area that overlaps when the other object is placed.
        cut_range: share of A that the other objects may cover; samples outside of it are redrawn.
        max_redraws: number of redraws; a sample that still lies outside of `cut_range` is used as it is.
        rotation: largest rotation of each object in degrees.
        other_zoom: further factor on the other objects' sizes, log-uniform.
        multi_probability: share of samples with 2 to `max_others` other objects, each in front with probability
            `erase_probability`, and each in the eraser with probability 0.8: what cuts A without being in the eraser
            must not be filled.
        max_others: largest number of other objects.
        region_probability: share of samples in which A, or the first other object, is a synthetic region (road, wall,
            table top: anything large that fills a part of a frame) instead of an instance.
        region_front_probability: of such another region being in front of A; ground and walls mostly are behind.
        frame_probability: share of samples that are cut by the frame of a photo.
        gap_probability: share of samples with a gap of one or two pixels between A and the eraser, as masks predicted
            by a segmenter have.

    Example:
        >>> SynthesisConfig().max_others, SynthesisConfig.improved(size=64).max_others
        (1, 5)
    """

    size: int = 256
    enlarge_box: float = 3.0
    shift: tuple[float, float] = (-0.2, 0.2)
    scale: tuple[float, float] = (0.8, 1.2)
    flip_probability: float = 0.5
    erase_probability: float = 0.8
    overlap: tuple[float, float] = (0.4, 1.0)
    cut_range: tuple[float, float] = (0.001, 0.9)
    max_redraws: int = 100
    rotation: float = 0.0
    other_zoom: tuple[float, float] = (1.0, 1.0)
    multi_probability: float = 0.0
    max_others: int = 1
    region_probability: float = 0.0
    region_front_probability: float = 0.25
    frame_probability: float = 0.0
    gap_probability: float = 0.0

    def __post_init__(self) -> None:
        for name in (
            "flip_probability",
            "erase_probability",
            "multi_probability",
            "region_probability",
            "region_front_probability",
            "frame_probability",
            "gap_probability",
        ):
            check_number(name, getattr(self, name), least=0, most=1)
        for name in ("shift", "scale", "overlap", "cut_range", "other_zoom"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"`{name}` must be (low, high) with low <= high, got {(low, high)}.")
        if self.scale[0] <= 0 or self.other_zoom[0] <= 0 or self.overlap[0] <= 0:
            raise ValueError("`scale`, `other_zoom` and `overlap` must be positive.")
        check_integer("size", self.size, 8)
        check_integer("max_others", self.max_others, 1)
        check_integer("max_redraws", self.max_redraws, 0)
        if self.multi_probability > 0 and self.max_others < 2:
            raise ValueError(f"`max_others` must be at least 2 with `multi_probability` > 0, got {self.max_others}.")

    @classmethod
    def improved(cls, size: int = 128) -> "SynthesisConfig":
        """The recipe of `pipelines/pcnet-m`: several objects, regions, frames, gaps, more variety of size."""
        return cls(
            size=size, erase_probability=0.6, cut_range=(0.001, 0.95), max_redraws=30, rotation=12.0,
            other_zoom=(0.25, 2.5), multi_probability=0.3, max_others=5, region_probability=0.35,
            frame_probability=0.3, gap_probability=0.1,
        )  # fmt: skip

    @classmethod
    def crowded(cls, size: int = 128) -> "SynthesisConfig":
        """The recipe of `pipelines/asbu`: as `improved`, with more around A, most of it behind.

        Where a whole photo is annotated, ground and walls included, every part of an outline touches some mask, and a
        network that is given all neighbours at once has to tell the few in front from the many behind.
        """
        return replace(cls.improved(size), multi_probability=0.7, region_probability=0.5)


@dataclass
class Placement:
    """Where the objects of a batch lie in its crops: what a photo of it is read by.

    Args:
        objects: (B,) int64, A in the bank.
        target: (B, 2, 3), affine maps from crop coordinates in [-0.5, 0.5]² to those of A's stored square.
        others: (B,) int64, the first other object.
        other: (B, 2, 3), its maps.
        in_front: (B,) bool, it is in front of A.

    Example:
        >>> ids, maps = torch.zeros(2, dtype=torch.int64), torch.eye(3)[:2].repeat(2, 1, 1)
        >>> Placement(ids, maps, ids, maps, ids > 0).target.shape
        torch.Size([2, 2, 3])
    """

    objects: Tensor
    target: Tensor
    others: Tensor
    other: Tensor
    in_front: Tensor

    __repr__ = short_repr


@dataclass
class OcclusionBatch:
    """A batch of `OcclusionSynthesizer`; masks are float32 in {0, 1} of shape (B, 1, S, S).

    Args:
        mask: the visible part of A.
        eraser: the masks of those other objects that the network is given.
        target: what the network should predict: A as far as it is visible or under the eraser.
        category_ids: (B,) int64 of A; 1 where A is a synthetic region.
        placement: of A and the first other object.

    Example:
        >>> plane = torch.ones(2, 1, 8, 8)
        >>> OcclusionBatch(plane, 0 * plane, plane, torch.ones(2, dtype=torch.int64)).mask.shape
        torch.Size([2, 1, 8, 8])
    """

    mask: Tensor
    eraser: Tensor
    target: Tensor
    category_ids: Tensor
    placement: Placement | None = field(default=None, kw_only=True)

    __repr__ = short_repr


@dataclass
class _Planes:
    """What a sample is made of, each (B, S, S) uint8 in {0, 1}: bytes are what CPUs combine fastest.

    Beside them, what the first other object is and where it lies, as `Placement` has it.
    """

    whole: Tensor  # all of A
    cover: Tensor  # all that is in front of A
    shown: Tensor  # of that, what the eraser tells
    behind: Tensor  # of what is behind A, what the eraser tells
    target: Tensor
    others: Tensor
    other: Tensor
    in_front: Tensor


@dataclass
class _Plan:
    """What stays when a sample is drawn again."""

    objects: Tensor  # (B,) int64 indices of A
    target_is_region: Tensor  # (B,) bool
    other_is_region: Tensor  # (B,) bool
    boxes: Tensor  # (B, 4) of the regions, [left, top, right, bottom] in crop units around the crop's centre
    frames: Tensor  # (B, 4) of the photos, in the same units

    def select(self, chosen: Tensor) -> "_Plan":
        return _Plan(*(getattr(self, part.name)[chosen] for part in fields(self)))


class OcclusionSynthesizer:
    """Draws training batches from a bank of modal masks.

    Args:
        bank: the instances, on the device where the batches are wanted.
        config: the recipe.
        seed: with step and process index, it determines a batch.
        source_weights: relative frequency of each source as A; None draws every instance once an epoch.
        process_index, num_processes: the processes of one run get disjoint objects A in every step.

    Raises:
        ValueError: where `source_weights` does not fit the bank's sources or the process index is out of range.

    Example:
        >>> bits = torch.full((3, 16, 2), 255, dtype=torch.uint8)
        >>> category_ids, sources = torch.ones(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
        >>> bank = MaskBank(bits, torch.full((3, 2), 16.0), category_ids, sources)
        >>> synthesizer = OcclusionSynthesizer(bank, SynthesisConfig(size=16), seed=1)
        >>> batch = synthesizer.sample(step=0, batch_size=4)
        >>> batch.mask.shape, batch.eraser.shape
        (torch.Size([4, 1, 16, 16]), torch.Size([4, 1, 16, 16]))
        >>> bool((batch.target >= batch.mask).all())  # the target holds all that is visible
        True
    """

    def __init__(
        self,
        bank: MaskBank,
        config: SynthesisConfig | None = None,
        *,
        seed: int = 0,
        source_weights: Sequence[float] | None = None,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        check_integer("num_processes", num_processes, 1)
        check_integer("process_index", process_index, 0, num_processes - 1)
        self.bank = bank
        self.config = config or SynthesisConfig()
        self.seed = seed
        self.process_index = process_index
        self.num_processes = num_processes
        self._generator = torch.Generator(device=bank.device)
        self._weights = None if source_weights is None else instance_weights(bank.sources, source_weights)
        self._epoch: tuple[int, Tensor] | None = None

    @torch.no_grad()
    def sample(self, step: int, batch_size: int) -> OcclusionBatch:
        """The batch of `step` for this process: always the same for the same arguments."""
        objects = self._objects(step, batch_size)
        self._generator.manual_seed(mix_seed(self.seed, step, self.process_index))
        return self._compose(objects)

    @torch.no_grad()
    def read_photos(self, placement: Placement, points: Tensor, *, pasted: bool = True) -> Tensor:
        """What a photo of a batch would show at some points, from a bank with `pixels`.

        A is seen in its own photo, and the first other object, cut out of its photo, in front of it or behind it; all
        beyond A's stored square is black.

        Args:
            placement: of a batch of this synthesizer.
            points: (B, h, w, 2), [x, y] in crop coordinates, in which the crop is [-0.5, 0.5]².
            pasted: False leaves the other object out.

        Returns:
            (B, 3, h, w) float32 RGB in [0, 1].

        Raises:
            ValueError: the bank has no photos.
        """
        if self.bank.pixels is None:
            raise ValueError("`bank` must have `pixels`.")
        image, seen = self._read_photo(placement.objects, placement.target, points)
        if pasted:
            other, shown = self._read_photo(placement.others, placement.other, points)
            shown &= placement.in_front[:, None, None] | ~seen
            image = torch.where(shown[:, None], other, image)
        return image

    def _read_photo(self, objects: Tensor, affine: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """The photo (B, 3, h, w) in [0, 1] and the mask (B, h, w) bool of some objects at `points`."""
        bits, resolution = self.bank.bits, self.bank.resolution
        places = torch.einsum("bij,bhwj->bhwi", affine[:, :, :2], points) + affine[:, None, None, :, 2]
        x, y = (places * resolution + resolution / 2).floor().to(torch.int32).unbind(-1)
        pixels = cast(Tensor, self.bank.pixels)[objects].float() / 255
        image = F.grid_sample(pixels, 2 * places, mode="bilinear", padding_mode="zeros", align_corners=False)
        return image, _read_points(bits, objects, y, x) > 0

    def _objects(self, step: int, batch_size: int) -> Tensor:
        """Indices (B,) of the objects A: this process's slice of what all processes draw together."""
        total = batch_size * self.num_processes
        first = step * total + self.process_index * batch_size
        if self._weights is not None:
            generator = torch.Generator().manual_seed(mix_seed(self.seed, step, -1))
            drawn = torch.multinomial(self._weights, total, replacement=total > len(self.bank), generator=generator)
            return drawn[self.process_index * batch_size :][:batch_size].to(self.bank.device)
        positions = torch.arange(first, first + batch_size)
        epochs = positions // len(self.bank)
        drawn = torch.empty(batch_size, dtype=torch.int64)
        for epoch in epochs.unique().tolist():
            if self._epoch is None or self._epoch[0] != epoch:
                generator = torch.Generator().manual_seed(mix_seed(self.seed, epoch, -2))
                self._epoch = (epoch, torch.randperm(len(self.bank), generator=generator))
            chosen = epochs == epoch
            drawn[chosen] = self._epoch[1][positions[chosen] % len(self.bank)]
        return drawn.to(self.bank.device)

    def _compose(self, objects: Tensor) -> OcclusionBatch:
        plan = self._plan(objects)
        planes = self._draw(plan)
        pending = self._outside_range(planes, plan.target_is_region)
        for _ in range(self.config.max_redraws):
            if not pending.any():
                break
            again = plan.select(pending)
            redrawn = self._draw(again)
            for part in fields(_Planes):
                getattr(planes, part.name)[pending] = getattr(redrawn, part.name)
            pending[pending.clone()] = self._outside_range(redrawn, again.target_is_region)
        mask, eraser, target = _assemble(planes)
        if self.config.gap_probability > 0:
            self._open_gaps(mask, eraser)
        categories = torch.where(plan.target_is_region, 1, self.bank.category_ids[objects])
        mask, eraser, target = (plane[:, None].to(torch.float32) for plane in (mask, eraser, target))  # [B, 1, S, S]
        places = Placement(objects, planes.target, planes.others, planes.other, planes.in_front)
        return OcclusionBatch(mask, eraser, target, categories, placement=places)

    def _plan(self, objects: Tensor) -> _Plan:
        config, batch = self.config, len(objects)
        regions = self._chance(batch, config.region_probability)
        target_is_region = regions & self._chance(batch, 0.5)
        frames = sample_frames(batch, self._chance(batch, config.frame_probability) | regions, self._generator)
        boxes, around = sample_region_boxes(batch, self._generator)
        boxes = torch.where(target_is_region[:, None], boxes, frames.clamp(-0.5, 0.5))
        frames = torch.where(target_is_region[:, None], around, frames)
        return _Plan(objects, target_is_region, regions & ~target_is_region, boxes, frames)

    def _draw(self, plan: _Plan) -> _Planes:
        """Place A and the others anew."""
        config, batch = self.config, len(plan.objects)
        frames = None
        if config.frame_probability > 0 or config.region_probability > 0:
            frames = _inside_frames(plan.frames, config.size)
        target = self._place_target(plan.objects)
        whole = self._render(plan.objects, target)
        self._draw_regions(whole, plan.target_is_region, plan.boxes)
        if frames is not None:
            whole &= frames
        none = torch.zeros_like(plan.target_is_region)
        cover, shown, behind = (torch.zeros_like(whole) for _ in range(3))
        planes = _Planes(whole, cover, shown, behind, target, none.long(), torch.zeros_like(target), none)
        counts = self._num_others(batch, plan.target_is_region)
        for slot in range(config.max_others):
            rows = (counts > slot).nonzero()[:, 0]
            if len(rows) == 0:
                break
            self._add_other(planes, plan, frames, rows, first=slot == 0)
        return planes

    def _add_other(self, planes: _Planes, plan: _Plan, frames: Tensor | None, rows: Tensor, *, first: bool) -> None:
        """Draw one more object into the samples at `rows`, in front of A or behind it, told of or not."""
        config, count = self.config, len(rows)
        picked = self._integers(len(self.bank), count)
        place = self._place_others(picked, plan.target_is_region[rows])
        shape = self._render(picked, place)
        front = self._chance(count, config.erase_probability)
        told = torch.ones_like(front) if first else self._chance(count, 0.8)
        if first and config.region_probability > 0:
            self._draw_regions(shape, plan.other_is_region[rows], plan.boxes[rows])
            in_front = self._chance(count, config.region_front_probability)
            front = torch.where(plan.other_is_region[rows], in_front, front)
        if first:
            planes.others[rows], planes.other[rows], planes.in_front[rows] = picked, place, front
        if frames is not None:
            shape &= frames[rows]
        for name, chosen in (("cover", front), ("shown", front & told), ("behind", ~front & told)):
            part = shape * chosen.to(torch.uint8)[:, None, None]
            plane = getattr(planes, name)
            if count == len(plane):
                plane |= part
            else:
                plane[rows] |= part

    def _draw_regions(self, shapes: Tensor, chosen: Tensor, boxes: Tensor) -> None:
        """Put synthetic regions in place of the `chosen` of `shapes` (B, S, S) uint8."""
        if self.config.region_probability > 0 and chosen.any():
            regions: Regions = sample_regions(int(chosen.sum()), self._generator)
            shapes[chosen] = regions.render(boxes[chosen], self.config.size).to(torch.uint8)

    def _num_others(self, batch: int, target_is_region: Tensor) -> Tensor:
        """(B,) number of other objects, 1 unless the recipe asks for more; many objects lie on a region."""
        config = self.config
        if config.max_others == 1:
            return torch.ones(batch, dtype=torch.int64, device=self.bank.device)
        many = 2 + self._integers(config.max_others - 1, batch)
        several = self._chance(batch, config.multi_probability) | (target_is_region & self._chance(batch, 0.7))
        return torch.where(several, many, torch.ones_like(many))

    def _place_target(self, objects: Tensor) -> Tensor:
        """Affine maps (B, 2, 3) from crop coordinates to the stored squares of A."""
        shift = self._uniform((len(objects), 2), *self.config.shift)
        zoom = self._uniform((len(objects),), *self.config.scale)
        side = self._crop_side(objects)
        return self._affine(objects, side / zoom, shift * zoom[:, None])

    def _place_others(self, objects: Tensor, on_region: Tensor) -> Tensor:
        """Affine maps (M, 2, 3) of the others, offset against A's crop as in [Z20]; on a region they lie anywhere."""
        count, config = len(objects), self.config
        zoom = self._uniform((count,), *self.config.scale)
        low, high = (math.log(value) for value in config.other_zoom)
        zoom = zoom * torch.exp(self._uniform((count,), low, high))
        zoom = torch.where(on_region, zoom * self._uniform((count,), 0.1, 0.6), zoom)
        overlap = self._uniform((count,), *config.overlap)
        offset_x = (self._uniform((count,), -1, 1)) * (1 - overlap)
        offset_y = (1 - overlap / (1 - offset_x.abs())) * torch.where(self._chance(count, 0.5), 1.0, -1.0)
        offset = torch.stack([offset_x, offset_y], dim=1)
        offset = torch.where(on_region[:, None], self._uniform((count, 2), -0.5, 0.5), offset)
        return self._affine(objects, self._crop_side(objects) / zoom, -offset)

    def _crop_side(self, objects: Tensor) -> Tensor:
        """(B,) side of the crop rule in units of the stored square's side max(w, h)."""
        width, height = self.bank.box_sizes[objects].unbind(1)
        longest = torch.maximum(width, height)
        return torch.maximum((self.config.enlarge_box * width * height).sqrt(), 1.1 * longest) / longest

    def _affine(self, objects: Tensor, side: Tensor, shift: Tensor) -> Tensor:
        """Maps p in [-0.5, 0.5]² of the crop to R·(p + shift)·side in the stored square, R mirrors and rotates."""
        count = len(objects)
        angle = torch.zeros(count, device=self.bank.device)
        if self.config.rotation > 0:
            angle = self._uniform((count,), -1, 1) * math.radians(self.config.rotation)
        mirror = torch.where(self._chance(count, self.config.flip_probability), -1.0, 1.0)
        cos, sin = torch.cos(angle), torch.sin(angle)
        matrix = (
            torch.stack([torch.stack([mirror * cos, -mirror * sin], 1), torch.stack([sin, cos], 1)], 1)
            * side[:, None, None]
        )
        return torch.cat([matrix, matrix @ shift[:, :, None]], dim=2)

    def _render(self, objects: Tensor, affine: Tensor) -> Tensor:
        """Nearest sampling (B, S, S) uint8 of the stored squares, read straight from their packed bits."""
        size, resolution, bits = self.config.size, self.bank.resolution, self.bank.bits
        axis = (torch.arange(size, device=bits.device, dtype=torch.float32) + 0.5) / size - 0.5
        scaled = (affine * resolution)[:, :, :, None]  # [B, 2, 3, 1]
        offset = scaled[:, :, 2] + resolution / 2  # [B, 2, 1]
        if self.config.rotation == 0:
            columns = (scaled[:, 0, 0] * axis + offset[:, 0]).floor().long()  # [B, S]
            rows = (scaled[:, 1, 1] * axis + offset[:, 1]).floor().long()  # [B, S]
            return _read_grid(bits, objects, rows, columns)
        # Fixed point keeps the sum of the two parts in whole numbers: 32 bits hold 2^15 cells and 2^-15 of one.
        parts = ((scaled[:, :, :2] * axis) * _FIXED).round().to(torch.int32)  # [B, 2, 2, S]
        start = (offset * _FIXED).round().to(torch.int32)  # [B, 2, 1]
        x = (parts[:, 0, 0, None, :] + (parts[:, 0, 1] + start[:, 0])[:, :, None]) >> _FIXED_BITS  # [B, S, S]
        y = (parts[:, 1, 0, None, :] + (parts[:, 1, 1] + start[:, 1])[:, :, None]) >> _FIXED_BITS  # [B, S, S]
        return _read_points(bits, objects, y, x)

    def _outside_range(self, planes: _Planes, target_is_region: Tensor) -> Tensor:
        """(B,) samples to draw again: A's covered share (case 2: the share that the other would cover) is out of range.

        Small objects lie on regions, so any cover counts there; and A itself must show, whatever the frame cuts off.
        """
        low, high = self.config.cut_range
        area = _areas(planes.whole)
        covered = _areas(planes.whole & (planes.cover | planes.behind)) / area.clamp(min=1)
        low_bound = torch.where(target_is_region, min(low, 0.001), low)
        return (covered < low_bound) | (covered >= high) | (area < 0.002 * self.config.size**2)

    def _open_gaps(self, mask: Tensor, eraser: Tensor) -> None:
        """Take the pixels that touch A away from the eraser of some samples: one pixel, or two."""
        chosen = self._chance(len(mask), self.config.gap_probability).nonzero()[:, 0]
        narrow = self._chance(len(chosen), 0.7)[:, None, None, None]
        grown = F.max_pool2d(mask[chosen, None].to(torch.float32), 3, stride=1, padding=1)
        gap = torch.where(narrow, grown, F.max_pool2d(grown, 3, stride=1, padding=1))
        eraser[chosen] &= 1 - gap[:, 0].to(torch.uint8)

    def _uniform(self, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        return torch.rand(shape, generator=self._generator, device=self.bank.device) * (high - low) + low

    def _chance(self, shape: int | tuple[int, ...], probability: float) -> Tensor:
        size = (shape,) if isinstance(shape, int) else shape
        return torch.rand(size, generator=self._generator, device=self.bank.device) < probability

    def _integers(self, high: int, count: int) -> Tensor:
        return torch.randint(high, (count,), generator=self._generator, device=self.bank.device)


def _read_grid(bits: Tensor, objects: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(B, S, S) uint8: the cells at `rows` x `columns` (B, S) of the packed squares of `objects`, 0 outside of them.

    The packed rows are picked first, an eighth of the data; each column then is one byte, one shift and one bit.
    """
    resolution, size = bits.shape[1], columns.shape[1]
    inside = (rows >= 0) & (rows < resolution)
    picked = bits[objects[:, None], rows.clamp(0, resolution - 1)] * inside[:, :, None]  # [B, S, r / 8]
    known = ((columns >= 0) & (columns < resolution)).to(torch.uint8)
    columns = columns.clamp(0, resolution - 1)
    byte = picked.gather(2, (columns >> 3)[:, None, :].expand(-1, size, -1))  # [B, S, S]
    return (byte >> (7 - (columns & 7)).to(torch.uint8)[:, None, :]) & known[:, None, :]


def _read_points(bits: Tensor, objects: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(B, S, S) uint8: the cell at each of `rows` and `columns` (B, S, S) int32, 0 outside of the squares."""
    resolution, stride = bits.shape[1:]
    top = resolution - 1
    known = ((rows.clamp(0, top) == rows) & (columns.clamp(0, top) == columns)).view(torch.uint8)
    columns = columns.clamp(0, top)
    cell = rows.clamp_(0, top).mul_(stride).add_(columns >> 3)
    byte = bits.view(len(bits), -1)[objects[:, None, None], cell]
    return (byte >> (7 - (columns & 7)).to(torch.uint8)) & known


def _areas(planes: Tensor) -> Tensor:
    """(B,) number of ones in each of (B, S, S) uint8."""
    return planes.flatten(1).sum(1, dtype=torch.int32)


def _assemble(planes: _Planes) -> tuple[Tensor, Tensor, Tensor]:
    """(mask, eraser, target), each (B, S, S) uint8 in {0, 1}.

    Whatever is in front of A is seen whole, what is behind is seen beside A and the front. The eraser is the union of
    the seen parts that the network is told of; the target is the seen part of A and what of A lies under the eraser.
    """
    mask = planes.whole & (planes.cover ^ 1)
    eraser = planes.shown | (planes.behind & ((planes.whole | planes.cover) ^ 1))
    return mask, eraser, mask | (planes.whole & eraser)


def _inside_frames(frames: Tensor, size: int) -> Tensor:
    axis = (torch.arange(size, device=frames.device, dtype=torch.float32) + 0.5) / size - 0.5
    columns = (axis >= frames[:, 0, None]) & (axis < frames[:, 2, None])
    rows = (axis >= frames[:, 1, None]) & (axis < frames[:, 3, None])
    return (rows[:, :, None] & columns[:, None, :]).to(torch.uint8)
