"""What the pipelines share that complete every pair of neighbours: order by dual completion, masks by erasing [Z20]."""

import logging
import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from ...arguments.choices import check_choice
from ...arguments.flags import check_flag
from ...arguments.numeric import check_integer, check_number
from ...crops import CROP_RULES, crop_masks
from ...display import short_repr
from ...masks import BoolArray, dilate
from ...ordering import occlusion_evidence, order_from_increments
from ..inputs import MaskInputs, PackedUnions, SceneMasks, batches, to_device
from .mask_pipeline import MaskCall, MaskPipeline, ObjectPatches, ScenePrediction, check_crop
from .thresholds import check_calibration, check_mask_threshold

logger = logging.getLogger(__name__)

ORDER_RULES = ("count", "probability", "evidence")
PAIR_CROPS = (*CROP_RULES, "mixed")
"""How masks become crops: `crop_masks`, or "mixed", nearest for the order and bilinear for the masks as in [Z20]."""

# The completions of ordered pairs are kept for the amodal masks while they take less memory than this.
_KEEP_BYTES = 512 * 2**20


@dataclass
class PairPatches:
    """Ordered pairs of neighbours (i, j): object i with object j as eraser, scene after scene.

    Args:
        first: (P,) int64, the row of object i in `ObjectPatches`.
        erasers: (P, s, s) bool, the mask of object j cropped with the box of object i.
        rows: for each scene (N, N) int64, the row of the pair (i, j) here, -1 where it has none.
        completions: (P, C, s, s) float32, what the network answers, where it is kept for the masks.

    Example:
        >>> erasers = torch.zeros(2, 8, 8, dtype=torch.bool)
        >>> pairs = PairPatches(torch.tensor([0, 1]), erasers, [np.array([[-1, 0], [1, -1]])])
        >>> pairs.rows[0][0, 1]  # object 0 with object 1 as eraser is the first pair
        np.int64(0)
    """

    first: Tensor
    erasers: Tensor
    rows: list[np.ndarray]
    completions: Tensor | None = None

    __repr__ = short_repr


@dataclass
class ErasedObjects:
    """The objects as the completion sees them.

    Args:
        patches: crops of the objects.
        erasers: (M, s, s) bool, crops of the union of all that may occlude each object.
        same_pair: (M,) int64, the row in `PairPatches` of the pair with the same eraser, -1 where none has.
        unions: for each scene the (N, H, W) unions themselves.

    Example:
        >>> patches = ObjectPatches(torch.ones(1, 8, 8, dtype=torch.bool), torch.zeros(1, 4), [slice(0, 1)])
        >>> union = PackedUnions(np.zeros((1, 40, 1), np.uint64), width=60)
        >>> erased = ErasedObjects(patches, torch.zeros(1, 8, 8, dtype=torch.bool), np.array([-1]), [union])
        >>> erased.erasers.any()
        tensor(False)
    """

    patches: ObjectPatches
    erasers: Tensor
    same_pair: np.ndarray
    unions: list[PackedUnions]

    __repr__ = short_repr


class DualCompletionPipeline(MaskPipeline):
    """Base class of the pipelines whose network completes an object given one mask of what may occlude it.

    A subclass says what the network sees of a pair (`network_inputs`), what its planes mean (`channels`, `read_logits`)
    and which neighbours may be occluders (`occluders_by_rule`). It has the component `model` and the settings
    `order_threshold`, `mask_threshold`, `calibration_slope`, `calibration_offset`, `crop`, `enlarge_box`, `paste`,
    `keep_modal`, `occluder_rule`, `confine_to_occluders`, `test_time_flip` and `order_rule`.

    Attributes:
        channels: the planes that `read_logits` gives.
        occluder_rules: what may occlude an object. "neighbours", each mask that touches it, is one of them.

    Example:
        >>> from amodal_diffusion import PCNetMask, PCNetMaskPipeline
        >>> pipe = PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16))
        >>> isinstance(pipe, DualCompletionPipeline), pipe.channels, pipe.occluder_rules
        (True, ('probabilities',), ('ancestors', 'consistent', 'neighbours'))
        >>> pipe.infer_order(np.zeros((2, 4, 4), bool)).shape
        (2, 2)
    """

    model: Any
    channels: ClassVar[tuple[str, ...]] = ("probabilities",)
    occluder_rules: ClassVar[tuple[str, ...]] = ("neighbours",)

    @abstractmethod
    def occluders_by_rule(self, rule: str, order: np.ndarray, growth: np.ndarray, neighbours: BoolArray) -> BoolArray:
        """(N, N) bool: [i, j] object j may occlude a part of object i.

        Args:
            rule: one of `occluder_rules`, but "neighbours".
            order: (N, N) int8.
            growth: (N, N) float64, how much speaks for j occluding a part of i; all 0 where the caller gave the order.
            neighbours: (N, N) bool, the objects that touch.
        """

    @abstractmethod
    def network_inputs(self, modal: Tensor, eraser: Tensor) -> dict[str, Tensor]:
        """The planes of the network, (B, s, s) each, by name; `modal` and `eraser` are (B, s, s) bool."""

    @abstractmethod
    def read_logits(self, logits: Tensor) -> Tensor:
        """(B, C, s, s) float32 from logits in float32: the planes that `channels` names."""

    def check_settings(self, **settings: Any) -> dict[str, Any]:
        """The settings that these pipelines share, checked.

        Raises:
            ValueError, TypeError: naming the setting.
        """
        crop = check_choice("crop", settings["crop"], PAIR_CROPS)
        return {
            "order_threshold": check_number("order_threshold", settings["order_threshold"], least=0, below=1),
            "mask_threshold": check_mask_threshold(settings["mask_threshold"]),
            **check_calibration(settings["calibration_slope"], settings["calibration_offset"]),
            **check_crop("nearest", settings["enlarge_box"], settings["paste"]),
            "crop": crop,
            "keep_modal": check_flag("keep_modal", settings["keep_modal"]),
            "occluder_rule": check_choice("occluder_rule", settings["occluder_rule"], self.occluder_rules),
            "confine_to_occluders": check_flag("confine_to_occluders", settings["confine_to_occluders"]),
            "test_time_flip": check_flag("test_time_flip", settings["test_time_flip"]),
            "order_rule": check_choice("order_rule", settings["order_rule"], ORDER_RULES),
        }

    # 1.

    def read_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options that both pipelines take."""
        rule = self.config.occluder_rule if options["occluder_rule"] is None else options["occluder_rule"]
        return {
            "return_order": check_flag("return_order", options["return_order"]),
            "occluder_rule": check_choice("occluder_rule", rule, self.occluder_rules),
            "eraser_dilation": check_integer("eraser_dilation", options["eraser_dilation"], 0),
            "order_threshold": self._threshold("order_threshold", options["order_threshold"]),
            "mask_threshold": self._mask_threshold(options["mask_threshold"]),
        }

    def output_fields(self, call: MaskCall) -> tuple[str, ...]:
        """The uncertainty where the network knows it, and the order."""
        return (*self.channels[1:], *(["order"] if call.options["return_order"] else []))

    @property
    def largest_side(self) -> int:
        """Side of the maps behind `patch_size`."""
        return self.sample_size // int(self.model.config.patch_size)

    # 2.

    @property
    def pair_crop(self) -> str:
        """How masks become crops when the order is inferred, see `crop_masks`."""
        return "nearest" if self.config.crop == "mixed" else str(self.config.crop)

    @property
    def completion_crop(self) -> str:
        """How masks become crops when they are completed, see `crop_masks`."""
        return "bilinear" if self.config.crop == "mixed" else str(self.config.crop)

    def crop(self, call: MaskCall) -> ObjectPatches:
        """Crop every object once, as the pairs are."""
        return self.crop_objects(call.scenes, crop=self.pair_crop, images=self.needs_image)

    # 3.

    def predict(self, call: MaskCall, crops: ObjectPatches) -> Iterator[ScenePrediction]:
        """Compare every ordered pair of neighbours where order or masks need it, then complete each object."""
        occluders = [self.grow_occluders(scene, call.options["eraser_dilation"]) for scene in call.scenes]
        pairs, growths, orders = self.compare_pairs(call, crops, occluders)
        chosen = self.find_occluders(call, occluders, growths, orders)  # (N, K) bool a scene
        erased = self.erase_objects(call.scenes, occluders, chosen, crops, pairs)
        rows, completions = self.complete_objects(call, erased, pairs)  # [K], [K, C, s, s]
        for where, union, order in zip(crops.scenes, erased.unions, orders, strict=True):
            inside = (rows >= where.start) & (rows < where.stop)
            order = order if call.options["return_order"] else None
            yield ScenePrediction(rows[inside] - where.start, completions[inside], union, order)

    @staticmethod
    def grow_occluders(scene: MaskInputs, dilation: int) -> SceneMasks:
        """The masks that may occlude objects: the caller's or all of the scene, larger by `dilation` on each side."""
        masks = scene.modal if scene.occluders is None else scene.occluders
        if not dilation:
            return masks
        return SceneMasks(dilate(masks.stack, kernel="square", size=2 * dilation + 1))

    def compare_pairs(
        self, call: MaskCall, patches: ObjectPatches, occluders: Sequence[SceneMasks]
    ) -> tuple[PairPatches, list[np.ndarray | None], list[np.ndarray | None]]:
        """The pairs of neighbours, how much each object grows under each other, and the order.

        Growth and order are (N, N) for each scene. Where neither the output nor the masks need an order, or the caller
        gave order or occluders, no pair is completed: then the growth is None, and the order what the caller gave.
        """
        needed = call.options["return_order"] or call.options["occluder_rule"] != "neighbours"
        wanted = [needed and scene.order is None and scene.occluders is None for scene in call.scenes]
        pairs = self.crop_pairs(occluders, patches, wanted)  # erasers [P, s, s]
        increments = self.complete_pairs(call, patches, pairs)  # [P]
        growths = self.measure_growth(call.scenes, pairs, increments, wanted)
        return pairs, growths, self.order_scenes(call.scenes, pairs, growths)

    def crop_pairs(
        self, occluders: Sequence[SceneMasks], patches: ObjectPatches, wanted: Sequence[bool]
    ) -> PairPatches:
        """Crop the eraser of every ordered pair of neighbours in the scenes that are `wanted`."""
        first, erasers, tables = [], [], []
        count = 0
        for masks, where, want in zip(occluders, patches.scenes, wanted, strict=True):
            table = np.full((len(masks), len(masks)), -1, np.int64)
            if want:
                front, back = np.nonzero(masks.neighbours)
                table[front, back] = np.arange(count, count + len(front))
                count += len(front)
                first.append(front + where.start)
                erasers.append(_crop(masks, back, patches, front + where.start, self.pair_crop))
            tables.append(table)
        size = patches.modal.shape[-1]
        empty = patches.modal.new_zeros(0, size, size)
        rows = np.concatenate([np.zeros(0, np.int64), *first])
        return PairPatches(to_device(rows, empty.device), torch.cat([empty, *erasers]), tables)

    def complete_pairs(
        self, call: MaskCall, patches: ObjectPatches, pairs: PairPatches, *, keep: bool = True
    ) -> np.ndarray:
        """(P,) float64: by how many pixels of the photo the first object of each pair grows under the second.

        `pairs` keep the completions for the masks, where there is memory for them, unless `keep` is False.
        """
        count, size = len(pairs.first), patches.modal.shape[-1]
        increments = torch.zeros(count, dtype=torch.float64, device=pairs.first.device)
        shape = (count, len(self.channels), size, size)
        if keep and 4 * math.prod(shape) <= _KEEP_BYTES:
            pairs.completions = torch.empty(shape, device=pairs.erasers.device)
        for part, planes in self.complete_crops(call, patches, pairs.first, pairs.erasers, "order"):
            # The eraser and the erased modal patch have no pixel in common, so the growth is what lies in the eraser.
            probability = planes[:, 0]  # [B, s, s]
            grown = pairs.erasers[part] & (probability > call.options["order_threshold"])  # [B, s, s]
            increments[part] = self._increment(probability, pairs.erasers[part], grown).sum(
                dim=(1, 2), dtype=torch.float64
            )
            if pairs.completions is not None:
                pairs.completions[part] = planes
        scale = patches.boxes[pairs.first.cpu(), 2].numpy() / size
        return increments.cpu().numpy() * scale**2

    def _increment(self, probability: Tensor, eraser: Tensor, grown: Tensor) -> Tensor:
        """(B, s, s), what each position adds to an increment by `order_rule`; all arguments are (B, s, s)."""
        if self.config.order_rule == "count":
            return grown
        if self.config.order_rule == "probability":
            return probability * grown
        return probability * (eraser & grown.any(dim=2, keepdim=True).any(dim=1, keepdim=True))

    def measure_growth(
        self, scenes: Sequence[MaskInputs], pairs: PairPatches, increments: np.ndarray, wanted: Sequence[bool]
    ) -> list[np.ndarray | None]:
        """How much speaks for j occluding a part of i: (N, N) float64 for each scene that is `wanted`, else None.

        The increments of `complete_pairs`, weighed by `occlusion_evidence` where the `order_rule` says so.
        """
        growths: list[np.ndarray | None] = []
        for scene, table, want in zip(scenes, pairs.rows, wanted, strict=True):
            growth = np.zeros(table.shape)
            growth[table >= 0] = increments[table[table >= 0]]
            if want and self.config.order_rule == "evidence":
                growth = occlusion_evidence(growth, scene.modal)
            growths.append(growth if want else None)
        return growths

    def order_scenes(
        self, scenes: Sequence[MaskInputs], pairs: PairPatches, growths: Sequence[np.ndarray | None]
    ) -> list[np.ndarray | None]:
        """The order of each scene: where its growth was measured, inferred; else the caller's, if any."""
        return [
            scene.order if growth is None else order_from_increments(growth, table >= 0)
            for scene, table, growth in zip(scenes, pairs.rows, growths, strict=True)
        ]

    @torch.no_grad()
    def infer_order(self, masks: np.ndarray) -> np.ndarray:
        """The order of the objects of one photo as a call with their masks alone infers it, without completing them.

        Args:
            masks: (N, H, W) visible masks.

        Returns:
            (N, N) int8 order matrix.
        """
        scenes, _ = self.check_inputs(None, masks)
        names = ("occluder_rule", "order_threshold", "mask_threshold")
        options = self.read_options({**dict.fromkeys(names), "return_order": True, "eraser_dilation": 0})
        call = MaskCall(scenes, options, [None], self.check_call(None, "np", self.largest_side))
        with self.evaluation_mode():
            _, _, (order,) = self.compare_pairs(call, self.crop(call), [scene.modal for scene in scenes])
        return cast(np.ndarray, order)

    def find_occluders(
        self,
        call: MaskCall,
        occluders: Sequence[SceneMasks],
        growths: Sequence[np.ndarray | None],
        orders: Sequence[np.ndarray | None],
    ) -> list[BoolArray]:
        """For each scene (N, K) bool: [i, k] the k-th mask of `occluders` may occlude a part of object i.

        That is for the caller to say with `occluder_masks`, else for the rule of the call.
        """
        rule, found = call.options["occluder_rule"], []
        for scene, masks, growth, order in zip(call.scenes, occluders, growths, orders, strict=True):
            if scene.occluders is not None:
                found.append(_given_occluders(scene, masks))
            elif rule == "neighbours" or order is None:
                found.append(masks.neighbours)
            else:
                measured = np.zeros(order.shape) if growth is None else growth
                found.append(self.occluders_by_rule(rule, order, measured, masks.neighbours))
        self._warn_of_lonely_objects(call.scenes, found)
        return found

    def _warn_of_lonely_objects(self, scenes: Sequence[MaskInputs], chosen: Sequence[BoolArray]) -> None:
        """Log the scenes in which nothing may occlude anything, which callers seldom mean."""
        lonely = sum(bool(scene.visible.any()) and not some.any() for scene, some in zip(scenes, chosen, strict=True))
        if lonely:
            logger.warning(
                "No object of %d of %d scenes has an occluder, so nothing can be hidden there: pass the masks of the "
                "other objects too, or `occluder_masks`; `eraser_dilation` closes gaps between masks.",
                lonely,
                len(scenes),
            )

    def erase_objects(
        self,
        scenes: Sequence[MaskInputs],
        occluders: Sequence[SceneMasks],
        chosen: Sequence[BoolArray],
        patches: ObjectPatches,
        pairs: PairPatches,
    ) -> ErasedObjects:
        """The union of all that may occlude each object, cropped with its box.

        Args:
            scenes: of the call.
            occluders: for each scene (K, H, W), the masks that may occlude objects.
            chosen: for each scene (N, K) bool, which of them may occlude which object.
            patches: crops of the objects.
            pairs: what the order has completed; taken over where its crops are those of the completion.
        """
        rule, device, size = self.completion_crop, patches.modal.device, patches.modal.shape[-1]
        same_pair = np.full(len(patches.modal), -1, np.int64)
        erasers = torch.zeros_like(patches.modal)
        modal, unions = [], []
        for scene, masks, some, table, where in zip(scenes, occluders, chosen, pairs.rows, patches.scenes, strict=True):
            boxes = patches.boxes[where]
            if rule != self.pair_crop:
                modal.append(crop_masks(scene.modal.tensor(device), boxes, size, rule=rule))
            elif scene.occluders is None:
                only = some.sum(axis=1) == 1
                same_pair[where] = np.where(only, np.where(some, table, -1).max(axis=1, initial=-1), -1)
            # The union comes first: interpolated crops of two occluders that touch would leave their seam open.
            unions.append(PackedUnions.of(masks, some))
            new = np.flatnonzero(some.any(axis=1) & (same_pair[where] < 0))
            erasers[new + where.start] = unions[-1].crop(boxes, size, rule, device, rows=new)
        seen = np.flatnonzero(same_pair >= 0)
        erasers[seen] = pairs.erasers[same_pair[seen]]
        if modal:
            patches = replace(patches, modal=torch.cat(modal))
        return ErasedObjects(patches, erasers, same_pair, unions)

    def complete_objects(self, call: MaskCall, erased: ErasedObjects, pairs: PairPatches) -> tuple[Tensor, Tensor]:
        """Complete each object that can have a hidden part; a completion that the order has already seen is taken over.

        Returns:
            (K,) int64, rows of the objects in ascending order, and (K, C, s, s) float32, what the network answers.
        """
        patches, erasers = erased.patches, erased.erasers
        todo = patches.modal.any(dim=(1, 2))
        if self.config.keep_modal:
            todo &= erasers.any(dim=(1, 2))
        rows = todo.nonzero()[:, 0]  # [K]
        seen = to_device(erased.same_pair, rows.device)[rows]  # [K]
        if pairs.completions is None:
            seen = torch.full_like(seen, -1)
        new = (seen < 0).nonzero()[:, 0]
        completions = torch.empty(len(rows), len(self.channels), *erasers.shape[1:], device=erasers.device)
        if pairs.completions is not None:
            completions[seen >= 0] = pairs.completions[seen[seen >= 0]]
        for part, planes in self.complete_crops(call, patches, rows[new], erasers[rows[new]], "masks"):
            completions[new[part]] = planes
        return rows, completions

    def complete_crops(
        self, call: MaskCall, patches: ObjectPatches, rows: Tensor, erasers: Tensor, stage: str
    ) -> Iterator[tuple[slice, Tensor]]:
        """Run the network on the objects at `rows` (B,) with `erasers` (B, s, s): slices, and planes (b, C, s, s)."""
        dtype = self.model.dtype  # diffusers looks through all modules for it
        with self.progress(stage, len(rows), call.callback) as advance:
            for part in batches(len(rows), call.batch_size):
                index, eraser = rows[part], erasers[part]
                planes = self.network_inputs(patches.modal[index], eraser)
                inputs = {name: _planes(plane) for name, plane in planes.items()}  # [B, 1, s, s] each
                if patches.images is not None:
                    inputs["image"] = patches.images[index].contiguous(memory_format=torch.channels_last)
                categories = None if patches.category_ids is None else patches.category_ids[index]
                inputs = {name: value.to(dtype) for name, value in inputs.items()}
                answer = self._run(inputs, categories)
                if self.config.test_time_flip:
                    mirrored = {name: value.flip(-1) for name, value in inputs.items()}
                    answer = (answer + self._run(mirrored, categories).flip(-1)) / 2
                yield part, answer
                advance(len(index))

    def _run(self, inputs: dict[str, Tensor], category_ids: Tensor | None) -> Tensor:
        return self.read_logits(self.model(**inputs, category_ids=category_ids).logits.float())


def _given_occluders(scene: MaskInputs, occluders: SceneMasks) -> BoolArray:
    """(N, K) bool: which of the caller's `occluder_masks` occlude which object: each its own, or the only one all."""
    one_each = np.eye(len(scene), dtype=bool)
    return one_each if len(occluders) == len(scene) else np.ones((len(scene), 1), bool)


def _crop(masks: SceneMasks, indices: np.ndarray, patches: ObjectPatches, objects: np.ndarray, rule: str) -> Tensor:
    """(B, s, s) bool: the masks at `indices` cropped with the boxes of `objects` (rows of `patches`)."""
    boxes = patches.boxes[torch.from_numpy(objects)]
    masks_there = masks.tensor(patches.modal.device)
    return crop_masks(masks_there, boxes, patches.modal.shape[-1], indices=indices, rule=rule)


def _planes(masks: Tensor) -> Tensor:
    """(B, s, s) as (B, 1, s, s) with the strides of channels_last: the network keeps that layout, the faster one."""
    return masks.unsqueeze(-1).permute(0, 3, 1, 2)
