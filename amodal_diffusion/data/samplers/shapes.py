"""Training samples of Amodal-VAE: masks in the frames that the network sees and answers in [L20]."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from ...crops import crop_to_boxes, tight_boxes, to_relative_boxes
from ...display import short_repr
from ...images import normalize_images
from ..synthesis import MaskBank, OcclusionSynthesizer, Placement, SynthesisConfig, mix_seed
from .shape_sources import FRAME, PartialShapes

_MAX_SHEAR = 0.15  # an object that fills 0.9 / 1.1 of its crop stays inside: 0.41 * 1.15 < 0.5


@dataclass
class ShapeBatch:
    """One batch on the training device.

    Args:
        visible: (B, 1, s, s) float32 in [0, 1]: the visible mask in its tight box; where `by_box`, in the box of the
            whole object instead.
        whole: (B, 1, s, s) float32 in {0, 1}: the whole mask in its tight box.
        frame: (B, F, F) float32 in [0, 1]: the whole mask in a frame of `FRAME` times the visible mask's box.
        boxes: (B, 4) float32 [cx, cy, w, h]: the box of the whole mask in units of the visible mask's box.
        by_box: (B,) bool.
        category_ids: (B,) int64, 0 = unknown.
        scene_visible: (B, S, S) bool: the visible mask where it was synthesised.
        scene_whole: (B, S, S) bool: the whole mask there.
        visible_boxes: (B, 4) float32 (x, y, w, h) of the visible mask there.
        whole_boxes: (B, 4) float32 of the whole mask there.
        image: (B, 3, i, i) float32, ImageNet-normalised RGB in the box of `visible`; None without photos.
        whole_image: (B, 3, i, i), the object's own photo in the box of the whole mask; None where it was not asked for.
        placement: of the objects in their crops.
        slopes: (2, B) float32, by which the crops were sheared along the rows and then along the columns.

    Example:
        >>> import numpy as np
        >>> bank = MaskBank.from_masks([(np.ones((20, 30), dtype=bool), 1, 0)], resolution=16)
        >>> sampler = ShapeSampler(bank, size=16, frame_size=24, seed=0, synthesis_size=32)
        >>> batch = sampler.simulated(step=0, batch_size=4)
        >>> len(batch), batch.boxes.shape
        (4, torch.Size([4, 4]))
    """

    visible: Tensor
    whole: Tensor
    frame: Tensor
    boxes: Tensor
    by_box: Tensor
    category_ids: Tensor
    scene_visible: Tensor
    scene_whole: Tensor
    visible_boxes: Tensor
    whole_boxes: Tensor
    image: Tensor | None = None
    whole_image: Tensor | None = None
    placement: Placement | None = None
    slopes: Tensor | None = None

    __repr__ = short_repr

    def __len__(self) -> int:
        return len(self.visible)


@dataclass
class PartialBatch:
    """Partly hidden objects, whose whole masks nobody knows.

    Args:
        visible: (B, 1, s, s) float32 in [0, 1]: the visible mask in its tight box.
        frame: (B, F, F) float32 in [0, 1]: the same in a frame of `FRAME` times its box.
        front: (B, F, F) float32 in [0, 1]: what is in front there.
        category_ids: (B,) int64, 0 = unknown.
        image: (B, 3, i, i) float32, ImageNet-normalised RGB in the box of `visible`; None without photos.

    Example:
        >>> frame = torch.zeros(2, 24, 24)
        >>> PartialBatch(torch.ones(2, 1, 16, 16), frame, frame, torch.zeros(2, dtype=torch.int64)).frame.shape
        torch.Size([2, 24, 24])
    """

    visible: Tensor
    frame: Tensor
    front: Tensor
    category_ids: Tensor
    image: Tensor | None = None

    __repr__ = short_repr


class ShapeSampler:
    """Complete masks under simulated occlusion. A batch is a function of (seed, step, process).

    The whole object always lies inside of the crop, and masks are mirrored. Recipe "published" puts one other mask in
    front of it [L20]. "improved" gives it half to twice its size, puts it behind with probability 0.15 (then the
    visible mask is the whole one), and shears the masks in both directions, which turns them a little. Changes of
    aspect would be lost: tight crops are squeezed to squares.

    From a bank with photos, samples have them: the object in its own, with the other one pasted as it was cut out.

    Args:
        bank: complete masks, on the training device.
        size: side s of the tight crops.
        frame_size: side F of the frames.
        seed: of all draws.
        synthesis_size: side of the crops that occlusion is synthesised in.
        source_weights: relative frequency of each source; None draws every mask equally often.
        box_probability: share of the samples that are cropped by the whole object's box.
        recipe: "published" or "improved".
        whole_images: give `ShapeBatch.whole_image`.
        process_index, num_processes: see `OcclusionSynthesizer`.

    Example:
        >>> import numpy as np
        >>> bank = MaskBank.from_masks([(np.ones((20, 30), dtype=bool), 1, 0)], resolution=16)
        >>> sampler = ShapeSampler(bank, size=16, frame_size=24, seed=0, synthesis_size=32)
        >>> masks, category_ids = sampler.complete(step=0, batch_size=4)
        >>> masks.shape, category_ids.tolist()
        (torch.Size([4, 1, 16, 16]), [1, 1, 1, 1])
    """

    def __init__(
        self,
        bank: MaskBank,
        *,
        size: int,
        frame_size: int,
        seed: int,
        synthesis_size: int = 96,
        source_weights: Sequence[float] | None = None,
        box_probability: float = 0.0,
        recipe: str = "published",
        whole_images: bool = False,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        self.size, self.frame_size, self.box_probability = size, frame_size, box_probability
        self.seed, self.process_index, self.whole_images = seed, process_index, whole_images
        inside: dict[str, Any] = {"size": synthesis_size, "shift": (-0.02, 0.02), "scale": (0.75, 0.9)}
        config = SynthesisConfig(**inside, erase_probability=1.0)
        if recipe == "improved":
            config = SynthesisConfig(
                **inside, erase_probability=0.85, cut_range=(0.02, 0.85), max_redraws=10, other_zoom=(0.5, 2.0)
            )
        self._max_shear = _MAX_SHEAR if recipe == "improved" else 0.0
        place: dict[str, Any] = {
            "source_weights": source_weights,
            "process_index": process_index,
            "num_processes": num_processes,
        }
        self._occluded = OcclusionSynthesizer(bank, config, seed=seed, **place)
        # Complete masks need neither a cut nor another object: what is drawn behind them is thrown away.
        self._alone = OcclusionSynthesizer(
            bank, replace(config, erase_probability=0.0, max_redraws=0), seed=seed, **place
        )

    @torch.no_grad()
    def complete(self, step: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """Whole masks in their tight boxes (B, 1, s, s) float32 in {0, 1}, and category ids (B,)."""
        batch = self._alone.sample(step, batch_size)
        (whole,) = self._shear(self._slopes(step, batch_size), batch.target[:, 0])
        crops = crop_to_boxes(whole, tight_boxes(whole > 0), self.size)
        return (crops > 0.5).float()[:, None], batch.category_ids

    @torch.no_grad()
    def simulated(self, step: int, batch_size: int) -> ShapeBatch:
        """Partial masks with their whole ones."""
        batch = self._occluded.sample(step, batch_size)
        slopes = self._slopes(step, batch_size)
        whole, visible = self._shear(slopes, batch.target[:, 0], batch.mask[:, 0])
        # After the last redraw an object may still be covered altogether: then it is shown as it is.
        visible = torch.where(visible.flatten(1).any(1)[:, None, None], visible, whole)
        visible_boxes, whole_boxes = tight_boxes(visible > 0), tight_boxes(whole > 0)
        generator = torch.Generator().manual_seed(mix_seed(self.seed, step, self.process_index, -3))
        by_box = (torch.rand(batch_size, generator=generator) < self.box_probability).to(whole.device)
        extent = visible_boxes[:, 2:]
        frames = torch.cat([visible_boxes[:, :2] - extent * (FRAME - 1) / 2, extent * FRAME], dim=1)
        boxes = torch.where(by_box[:, None], whole_boxes, visible_boxes)
        found = ShapeBatch(
            visible=crop_to_boxes(visible, boxes, self.size)[:, None],
            whole=(crop_to_boxes(whole, whole_boxes, self.size) > 0.5).float()[:, None],
            frame=crop_to_boxes(whole, frames, self.frame_size),
            boxes=to_relative_boxes(whole_boxes, visible_boxes),
            by_box=by_box,
            category_ids=batch.category_ids,
            scene_visible=visible > 0,
            scene_whole=whole > 0,
            visible_boxes=visible_boxes,
            whole_boxes=whole_boxes,
            placement=batch.placement,
            slopes=slopes.to(whole.device),
        )
        if self._occluded.bank.pixels is not None:
            found.image = self.crop_photos(found, boxes)
            if self.whole_images:
                found.whole_image = self.crop_photos(found, whole_boxes, pasted=False)
        return found

    @torch.no_grad()
    def crop_photos(self, batch: ShapeBatch, boxes: Tensor, *, pasted: bool = True) -> Tensor:
        """Read the photos of a batch in some boxes.

        Args:
            batch: of `simulated` of this sampler, whose bank has photos.
            boxes: (B, 4) float32 (x, y, w, h) in pixels of the crops that the batch was synthesised in.
            pasted: False leaves the other object out.

        Returns:
            (B, 3, i, i) float32, ImageNet-normalised RGB; i is the side of the bank's photos.
        """
        side = cast(Tensor, self._occluded.bank.pixels).shape[-1]
        cells = (torch.arange(side, device=boxes.device) + 0.5) / side
        crop = self._occluded.config.size
        x, y = (
            (boxes[:, axis, None] + boxes[:, 2 + axis, None] * cells) / crop - 0.5 for axis in (0, 1)
        )  # [B, i] each, in crop coordinates
        along_rows, along_columns = cast(Tensor, batch.slopes)[:, :, None, None]
        x, y = torch.broadcast_tensors(x[:, None, :], y[:, :, None])  # [B, i, i]
        y = y + along_columns * x  # back through the shears, the last one first
        points = torch.stack([x + along_rows * y, y], dim=-1)
        return normalize_images(self._occluded.read_photos(cast(Placement, batch.placement), points, pasted=pasted))

    def _slopes(self, step: int, batch: int) -> Tensor:
        """(2, B) of the shears of a step, along the rows and then along the columns."""
        generator = torch.Generator().manual_seed(mix_seed(self.seed, step, self.process_index, -5))
        return (2 * torch.rand((2, batch), generator=generator) - 1) * self._max_shear

    @staticmethod
    def _shear(slopes: Tensor, *planes: Tensor) -> list[Tensor]:
        """The same small shear of each of `planes` (B, S, S), along the rows and then along the columns."""
        size = planes[0].shape[1]
        places = torch.arange(size)
        shifts = (slopes[:, :, None] * (places + 0.5 - size / 2)).round().long()  # [2, B, S]
        index = (places + shifts[..., None]).to(planes[0].device)  # [2, B, S, S]
        inside, index = (index >= 0) & (index < size), index.clamp(0, size - 1)
        sheared = list(planes)
        for axis in range(2):
            sheared = [(plane.gather(2, index[axis]) * inside[axis]).transpose(1, 2) for plane in sheared]
        return sheared


class PartialSampler:
    """Truly partial masks, mirrored with probability 0.5. A batch is a function of (seed, step, process).

    Args:
        shapes: the objects, on the training device.
        seed: of all draws.
        source_weights: relative frequency of each source; None draws every object equally often.
        process_index: of this process.

    Example:
        >>> plane = torch.zeros(3, 16, 16, dtype=torch.uint8)
        >>> shapes = PartialShapes(plane, plane, plane, torch.tensor([1, 1, 2]), torch.tensor([0, 0, 1]))
        >>> PartialSampler(shapes, seed=0, source_weights=[0, 1]).sample(step=0, batch_size=2).category_ids
        tensor([2, 2])
    """

    def __init__(
        self,
        shapes: PartialShapes,
        *,
        seed: int,
        source_weights: Sequence[float] | None = None,
        process_index: int = 0,
    ) -> None:
        self.shapes, self.seed, self.process_index = shapes, seed, process_index
        self._weights = torch.ones(len(shapes), dtype=torch.float64)
        if source_weights is not None:
            sources = shapes.sources.cpu()
            counts = torch.bincount(sources, minlength=len(source_weights)).clamp(min=1)
            self._weights = (torch.tensor(source_weights, dtype=torch.float64) / counts)[sources]

    @torch.no_grad()
    def sample(self, step: int, batch_size: int) -> PartialBatch:
        """The batch of `step` for this process."""
        generator = torch.Generator().manual_seed(mix_seed(self.seed, step, self.process_index, -4))
        rows = torch.multinomial(self._weights, batch_size, replacement=True, generator=generator)
        device = self.shapes.visible.device
        mirrored = (torch.rand(batch_size, generator=generator) < 0.5).to(device)[:, None, None]
        rows = rows.to(device)

        def read(planes: Tensor) -> Tensor:
            values = planes[rows].float() / 255
            return torch.where(mirrored, values.flip(2), values)

        shapes, image = self.shapes, None
        if shapes.pixels is not None:
            pixels = shapes.pixels[rows].float() / 255
            image = normalize_images(torch.where(mirrored[:, None], pixels.flip(3), pixels))
        return PartialBatch(
            read(shapes.visible)[:, None],
            read(shapes.frame_visible),
            read(shapes.frame_front),
            shapes.category_ids[rows],
            image,
        )
