"""What the pipelines share that complete every pair of neighbours: order by dual completion, masks by erasing [Z20]."""

import logging
import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ...crops.mask_patches import crop_mask_patches
from ...masks import dilate, mask_unions
from ...ordering import neighbours, occlusion_evidence, order_from_increments
from ..inputs import Scene, batches, read_scenes, to_device
from .mask_pipeline import MaskPipeline, ObjectPatches

logger = logging.getLogger(__name__)

ORDER_RULES = ("count", "probability", "evidence")
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
    """

    first: Tensor
    erasers: Tensor
    rows: list[np.ndarray]
    completions: Tensor | None = None


@dataclass
class ErasedObjects:
    """The objects as the completion sees them.

    Args:
        patches: crops of the objects.
        erasers: (M, s, s) bool, crops of the union of all that may hide each object.
        same_pair: (M,) int64, the row in `PairPatches` of the pair with the same eraser, -1 where none has.
        unions: for each scene the (N, H, W) bool unions themselves.
    """

    patches: ObjectPatches
    erasers: Tensor
    same_pair: np.ndarray
    unions: list[np.ndarray]


class DualCompletionPipeline(MaskPipeline):
    """Base class of the pipelines whose network completes an object given one mask of what may hide it.

    A subclass says what the network sees of a pair (`network_inputs`) and what it answers (`read_logits`). It has the
    component `model` and the settings `order_rule`, `keep_modal`, `paste` and `test_time_flip`.

    Attributes:
        answers: number C of planes that `read_logits` gives.
    """

    model: Any
    answers: int = 1

    @property
    @abstractmethod
    def pair_crop(self) -> str:
        """The crop rule of the pairs, see `crop_mask_patches`."""

    @abstractmethod
    def hiders_by_rule(self, relation: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """(N, N) bool: [i, j] object j may hide a part of object i.

        Args:
            relation: (N, N), what the pipeline knows of pairs: their order, or how much each grows under each other.
            masks: (N, H, W), the objects as they may hide each other.
        """

    @abstractmethod
    def network_inputs(self, modal: Tensor, eraser: Tensor) -> dict[str, Tensor]:
        """The planes of the network, (B, s, s) each, by name; `modal` and `eraser` are (B, s, s) bool."""

    @abstractmethod
    def read_logits(self, logits: Tensor) -> Tensor:
        """(B, C, s, s) float32 from logits in float32: P(object), and with C = 2 the uncertainty."""

    # 1.

    def check_inputs(
        self, image: Any, masks: Any, occluder_masks: Any = None, category_ids: Any = None, order: Any = None
    ) -> tuple[list[Scene], bool]:
        """The scenes of a call, and whether it gave lists; errors as `__call__` documents them."""
        use_rgb, class_conditioned = self.model.config.use_rgb, self.model.config.class_conditioned
        scenes, batched = read_scenes(
            image, masks, read_image=use_rgb, occluder_masks=occluder_masks, category_ids=category_ids, order=order
        )
        if use_rgb and any(scene.image is None for scene in scenes):
            raise ValueError("`image` must be given: the network of this pipeline looks at the photo (`use_rgb`).")
        if class_conditioned and any(scene.category_ids is None for scene in scenes):
            raise ValueError("`category_ids` must be given: the network of this pipeline is class-conditioned.")
        return scenes, batched

    # 3.

    def crop_pairs(
        self, occluders: Sequence[np.ndarray], patches: ObjectPatches, wanted: Sequence[bool]
    ) -> PairPatches:
        """Crop the eraser of every ordered pair of neighbours in the scenes that are `wanted`."""
        first, erasers, tables = [], [], []
        count = 0
        for masks, where, want in zip(occluders, patches.scenes, wanted, strict=True):
            table = np.full((len(masks), len(masks)), -1, np.int64)
            if want:
                front, back = np.nonzero(neighbours(masks))
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
        self, patches: ObjectPatches, pairs: PairPatches, threshold: float, batch_size: int
    ) -> np.ndarray:
        """(P,) float64: by how many pixels of the photo the first object of each pair grows under the second."""
        count, size = len(pairs.first), patches.modal.shape[-1]
        increments = torch.zeros(count, dtype=torch.float64, device=pairs.first.device)
        shape = (count, self.answers, size, size)
        if 4 * math.prod(shape) <= _KEEP_BYTES:
            pairs.completions = torch.empty(shape, device=pairs.erasers.device)
        for part, answer in self._complete(patches, pairs.first, pairs.erasers, batch_size, "order"):
            # The eraser and the erased modal patch have no pixel in common, so the growth is what lies in the eraser.
            probability = answer[:, 0]  # [B, s, s]
            grown = pairs.erasers[part] & (probability > threshold)  # [B, s, s]
            increments[part] = self._increment(probability, pairs.erasers[part], grown).sum(
                dim=(1, 2), dtype=torch.float64
            )
            if pairs.completions is not None:
                pairs.completions[part] = answer
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
        self, scenes: Sequence[Scene], pairs: PairPatches, increments: np.ndarray, wanted: Sequence[bool]
    ) -> list[np.ndarray | None]:
        """How much speaks for j hiding a part of i: (N, N) float64 for each scene that is `wanted`, else None.

        The increments of `complete_pairs`, weighed by `occlusion_evidence` where the `order_rule` says so.
        """
        growths: list[np.ndarray | None] = []
        for scene, table, want in zip(scenes, pairs.rows, wanted, strict=True):
            growth = np.zeros(table.shape)
            growth[table >= 0] = increments[table[table >= 0]]
            if want and self.config.order_rule == "evidence":
                growth = occlusion_evidence(growth, scene.masks)
            growths.append(growth if want else None)
        return growths

    def order_scenes(
        self, scenes: Sequence[Scene], pairs: PairPatches, growths: Sequence[np.ndarray | None]
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
        config, network = self.config, self.model.config
        batch_size = self.check_call(None, "np", network.sample_size // network.patch_size)
        patches = self.crop_objects(
            scenes, network.sample_size, crop=self.pair_crop, enlarge_box=config.enlarge_box, use_images=False,
            use_categories=False,
        )  # fmt: skip
        pairs = self.crop_pairs([scene.masks for scene in scenes], patches, [True])
        with self.evaluation_mode():
            increments = self.complete_pairs(patches, pairs, config.order_threshold, batch_size)
        (order,) = self.order_scenes(scenes, pairs, self.measure_growth(scenes, pairs, increments, [True]))
        return cast(np.ndarray, order)

    # 4.

    def find_hiders(
        self, scenes: Sequence[Scene], occluders: Sequence[np.ndarray], relations: Sequence[np.ndarray | None]
    ) -> list[np.ndarray]:
        """For each scene (N, K) bool: [i, k] the k-th mask of `occluders` may hide a part of object i.

        That is for the caller to say with `occluder_masks`, else for `hiders_by_rule`; a neighbour where the scene's
        relation is None.
        """
        hiders = []
        for scene, masks, relation in zip(scenes, occluders, relations, strict=True):
            if scene.occluder_masks is not None:
                hiders.append(_given_hiders(scene, masks))
            else:
                hiders.append(neighbours(masks) if relation is None else self.hiders_by_rule(relation, masks))
        self._warn_of_lonely_objects(scenes, hiders)
        return hiders

    def _warn_of_lonely_objects(self, scenes: Sequence[Scene], hiders: Sequence[np.ndarray]) -> None:
        """Log the scenes in which nothing may hide anything, which callers seldom mean."""
        lonely = sum(bool(scene.visible.any()) and not hides.any() for scene, hides in zip(scenes, hiders, strict=True))
        if lonely:
            logger.warning(
                "No object of %d of %d scenes has an occluder, so nothing can be hidden there: pass the masks of the "
                "other objects too, or `occluder_masks`; `eraser_dilation` closes gaps between masks.",
                lonely,
                len(scenes),
            )

    def erase_objects(
        self,
        scenes: Sequence[Scene],
        occluders: Sequence[np.ndarray],
        hiders: Sequence[np.ndarray],
        patches: ObjectPatches,
        pairs: PairPatches,
        rule: str,
    ) -> ErasedObjects:
        """The union of all that may hide each object, cropped with its box.

        Args:
            scenes: of the call.
            occluders: for each scene (K, H, W), the masks that may hide objects.
            hiders: for each scene (N, K) bool, which of them may hide which object.
            patches: crops of the objects.
            pairs: what the order has completed.
            rule: the crop rule; where it is that of the pairs, their completions can be taken over.
        """
        same_pair = np.full(len(patches.modal), -1, np.int64)
        # The union comes first: interpolated crops of two occluders that touch would leave their seam open.
        unions = [mask_unions(masks, hides) for masks, hides in zip(occluders, hiders, strict=True)]
        erasers, modal = [], []
        for scene, union, hides, table, where in zip(scenes, unions, hiders, pairs.rows, patches.scenes, strict=True):
            everyone = np.arange(len(scene))
            erasers.append(_crop(union, everyone, patches, everyone + where.start, rule))
            if rule != self.pair_crop:
                modal.append(_crop(scene.masks, everyone, patches, everyone + where.start, rule))
            elif scene.occluder_masks is None:
                only = hides.sum(axis=1) == 1
                same_pair[where] = np.where(only, np.where(hides, table, -1).max(axis=1, initial=-1), -1)
        if modal:
            patches = replace(patches, modal=torch.cat(modal))
        return ErasedObjects(patches, torch.cat(erasers), same_pair, unions)

    def complete_objects(self, erased: ErasedObjects, pairs: PairPatches, batch_size: int) -> tuple[Tensor, Tensor]:
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
        answers = torch.empty(len(rows), self.answers, *erasers.shape[1:], device=erasers.device)
        if pairs.completions is not None:
            answers[seen >= 0] = pairs.completions[seen[seen >= 0]]
        for part, answer in self._complete(patches, rows[new], erasers[rows[new]], batch_size, "masks"):
            answers[new[part]] = answer
        return rows, answers

    def _complete(
        self, patches: ObjectPatches, rows: Tensor, erasers: Tensor, batch_size: int, stage: str
    ) -> Iterator[tuple[slice, Tensor]]:
        """Run the network on the objects at `rows` (B,) with `erasers` (B, s, s): slices, and answers (b, C, s, s)."""
        with self.progress_bar(total=len(rows)) as bar:
            bar.set_description(stage, refresh=False)
            for part in batches(len(rows), batch_size):
                index, eraser = rows[part], erasers[part]
                planes = self.network_inputs(patches.modal[index], eraser)
                inputs = {name: _planes(plane) for name, plane in planes.items()}  # [B, 1, s, s] each
                if patches.images is not None:
                    inputs["image"] = patches.images[index].contiguous(memory_format=torch.channels_last)
                categories = None if patches.category_ids is None else patches.category_ids[index]
                answer = self._answer(inputs, categories)
                if self.config.test_time_flip:
                    mirrored = {name: value.flip(-1) for name, value in inputs.items()}
                    answer = (answer + self._answer(mirrored, categories).flip(-1)) / 2
                yield part, answer
                bar.update(len(index))

    def _answer(self, inputs: dict[str, Tensor], category_ids: Tensor | None) -> Tensor:
        inputs = {name: value.to(self.model.dtype) for name, value in inputs.items()}
        return self.read_logits(self.model(**inputs, category_ids=category_ids).logits.float())

    # 5.

    def paste_scenes(
        self,
        scenes: Sequence[Scene],
        erased: ErasedObjects,
        rows: Tensor,
        completions: Tensor,
        threshold: float,
        confine: bool,
    ) -> list[dict[str, Tensor]]:
        """`paste_scene` for every scene of the call."""
        return [
            self.paste_scene(scene, erased, index, rows, completions, threshold, confine=confine)
            for index, scene in enumerate(scenes)
        ]

    def paste_scene(
        self,
        scene: Scene,
        erased: ErasedObjects,
        index: int,
        rows: Tensor,
        completions: Tensor,
        threshold: float,
        *,
        confine: bool,
    ) -> dict[str, Tensor]:
        """The masks, probabilities and uncertainty of the scene at `index`.

        Args:
            scene: the scene.
            erased: all objects of the call.
            index: of the scene.
            rows: (K,) the objects that were completed.
            completions: (K, C, s, s), what the network answers.
            threshold: of P(object).
            confine: nothing grows outside of what may hide the object.
        """
        where = erased.patches.scenes[index]
        modal = to_device(scene.masks, completions.device)
        inside = (rows >= where.start) & (rows < where.stop)
        done = rows[inside] - where.start
        crops = erased.patches.boxes[where]
        boxes = torch.zeros_like(crops)  # side 0, which pastes nothing, where there is no completion
        boxes[done.cpu()] = crops[done.cpu()]
        allowed = modal | to_device(erased.unions[index], modal.device) if confine else None

        def paste(channel: int) -> tuple[Tensor, Tensor]:
            patches = completions.new_zeros(len(scene), *completions.shape[2:])
            patches[done] = completions[inside, channel]
            masks, values = self.paste_objects(
                patches, boxes, *modal.shape[1:], threshold=threshold, paste=self.config.paste
            )
            if allowed is not None:
                masks &= allowed
                values.masked_fill_(~allowed, 0.0)
            return masks, values

        masks, probabilities = paste(0)
        result = {"amodal_masks": masks, "probabilities": probabilities}
        if completions.shape[1] > 1:
            _, result["uncertainty"] = paste(1)
        if self.config.keep_modal:
            masks |= modal
            probabilities.masked_fill_(modal, 1.0)
            if "uncertainty" in result:
                result["uncertainty"].masked_fill_(modal, 0.0)
        return result


def grow(masks: np.ndarray, dilation: int) -> np.ndarray:
    """Masks (N, H, W) that are larger by `dilation` pixels on each side."""
    return dilate(masks, kernel="square", size=2 * dilation + 1) if dilation else masks


def _given_hiders(scene: Scene, occluders: np.ndarray) -> np.ndarray:
    """(N, K) bool: which of the caller's `occluder_masks` hide which object: each its own, or the only one all."""
    one_each = np.eye(len(scene), dtype=bool)
    return one_each if len(occluders) == len(scene) else np.ones((len(scene), 1), bool)


def _crop(
    masks: np.ndarray, indices: np.ndarray, patches: ObjectPatches, objects: np.ndarray, rule: str = "nearest"
) -> Tensor:
    """(B, s, s) bool: the masks at `indices` cropped with the boxes of `objects` (rows of `patches`)."""
    device, size = patches.modal.device, patches.modal.shape[-1]
    boxes = patches.boxes[torch.from_numpy(objects)]
    return crop_mask_patches(to_device(masks, device), boxes, size, torch.from_numpy(indices), rule)


def _planes(masks: Tensor) -> Tensor:
    """(B, s, s) as (B, 1, s, s) with the strides of channels_last: the network keeps that layout, the faster one."""
    return masks.unsqueeze(-1).permute(0, 3, 1, 2)
