"""PCNet-M as a pipeline: the occlusion order by dual completion, and whole masks from it [Z20]."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..masks import dilate, mask_unions
from ..models.pcnet_mask import PCNetMask
from ..ordering import ancestors, neighbours, occlusion_evidence, order_from_increments
from .mask_pipeline import PASTE_RULES, MaskPipeline, ObjectPatches
from .patches import CROP_RULES, crop_mask_patches
from .pipeline_output import AmodalPipelineOutput
from .scene_inputs import Scene, batches, check_choice, check_integer, check_number, read_scenes, to_device

logger = logging.getLogger(__name__)

ORDER_RULES = ("count", "probability", "evidence")
OCCLUDER_RULES = ("ancestors", "consistent")
# The completions of ordered pairs are kept for the amodal masks while they take less memory than this.
_KEEP_BYTES = 512 * 2**20


@dataclass
class PairPatches:
    """Ordered pairs of neighbours (i, j): object i with object j as eraser, scene after scene.

    Args:
        first: (P,) int64, the row of object i in `ObjectPatches`.
        erasers: (P, s, s) bool, the mask of object j cropped with the box of object i.
        rows: for each scene (N, N) int64, the row of the pair (i, j) here, -1 where it has none.
        completions: (P, s, s) float32, P(object), where they are kept for the masks.
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


class PCNetMaskPipeline(MaskPipeline):
    """Occlusion order and amodal masks from modal masks alone. Source: [Z20].

    Args:
        model: the network.
        order_threshold: of P(object) when the order is inferred, in [0, 1).
        mask_threshold: of P(object) in the amodal masks, in [0, 1).
        enlarge_box: area of the crop box in areas of the modal box.
        order_crop: how masks become crops when the order is inferred, "nearest" (published) or "bilinear", see
            `crop_mask_patches`.
        completion_crop: likewise for the masks; published: "bilinear". Where both are the same, the completion takes
            over what the order has computed.
        paste: "probability" or "binary" (published), see `MaskPipeline.paste_objects`.
        keep_modal: the amodal mask always holds the visible pixels, and an object without occluder keeps its modal
            mask. False gives the network's answer as it is, as published.
        test_time_flip: average over the horizontally mirrored crops; twice the work.
        occluder_rule: what may hide an object. "ancestors": all that a chain of the order puts in front of it
            (published); "consistent": of these, no neighbour that the order itself does not put in front, since one
            wrong pair otherwise closes a cycle in which all objects hide each other.
        confine_to_eraser: let an object grow only where an occluder is seen, which is where a hidden part must be when
            the masks of all objects are given. False lets it grow anywhere, as published.
        order_rule: what an increment is. "count": the number of predicted pixels (published); "probability": the sum of
            their probabilities; "evidence": the sum of all probabilities in the eraser, if any of them passes the
            threshold, weighed by `occlusion_evidence`.

    Raises:
        ValueError: naming the setting that is out of range.
        TypeError: naming the setting that is no number.
    """

    model: PCNetMask

    def __init__(
        self,
        model: PCNetMask,
        *,
        order_threshold: float = 0.1,
        mask_threshold: float = 0.2,
        enlarge_box: float = 3.0,
        order_crop: str = "nearest",
        completion_crop: str = "nearest",
        paste: str = "probability",
        keep_modal: bool = True,
        occluder_rule: str = "ancestors",
        confine_to_eraser: bool = False,
        test_time_flip: bool = False,
        order_rule: str = "count",
    ) -> None:
        super().__init__()
        self.register_modules(model=model)
        self.register_to_config(
            order_threshold=check_number("order_threshold", order_threshold, 0, 1),
            mask_threshold=check_number("mask_threshold", mask_threshold, 0, 1),
            enlarge_box=check_number("enlarge_box", enlarge_box, 1, 100),
            order_crop=check_choice("order_crop", order_crop, CROP_RULES),
            completion_crop=check_choice("completion_crop", completion_crop, CROP_RULES),
            paste=check_choice("paste", paste, PASTE_RULES),
            keep_modal=bool(keep_modal),
            occluder_rule=check_choice("occluder_rule", occluder_rule, OCCLUDER_RULES),
            confine_to_eraser=bool(confine_to_eraser),
            test_time_flip=bool(test_time_flip),
            order_rule=check_choice("order_rule", order_rule, ORDER_RULES),
        )

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        masks: Any,
        *,
        occluder_masks: Any = None,
        category_ids: Any = None,
        order: Any = None,
        order_grounded: bool = True,
        order_threshold: float | None = None,
        mask_threshold: float | None = None,
        eraser_dilation: int = 0,
        batch_size: int | None = None,
        output_type: str = "np",
        return_dict: bool = True,
    ) -> AmodalPipelineOutput | tuple[Any, ...]:
        """Infer who occludes whom and complete every mask.

        Args:
            image: the photo in any form that `load_image` reads, None, or a list of these. Only a network with
                `use_rgb` looks at it; otherwise its size alone is compared with the masks.
            masks: modal masks, one (H, W) or a stack (N, H, W) in any form that `to_mask_stack` reads; a list of stacks
                where `image` is a list. All scenes of a call go through the network together.
            occluder_masks: (H, W) or (N, H, W), what hides the objects; used instead of the other masks of the call.
            category_ids: (N,) positive integers; needed where the network is class-conditioned, else ignored.
            order: (N, N), 1 where i occludes j, -1 where j occludes i, 0 without relation; used instead of the inferred
                one.
            order_grounded: an object may grow under all its ancestors in the order; False: under all its neighbours.
            order_threshold: of P(object), in [0, 1); None takes the checkpoint's.
            mask_threshold: likewise.
            eraser_dilation: pixels of the photo by which erasers grow on each side. 3 to 5 closes the gaps between the
                masks of a segmenter; objects whose grown masks touch are neighbours then.
            batch_size: crops in one pass through the network; None suits it to the device.
            output_type: "np", "pt" or "pil".
            return_dict: False returns a tuple of `amodal_masks`, `probabilities`, `order`.

        Returns:
            `AmodalPipelineOutput`. An object without visible pixels stays empty and has no relations. With the setting
            `keep_modal` an object without occluder keeps its modal mask, and visible pixels have probability 1. `order`
            is None with `occluder_masks` or without `order_grounded`, unless it was given: then it is not needed.

        Raises:
            ValueError: naming the argument: sizes that differ, an order that is no antisymmetric (N, N) matrix of -1, 0
                and 1, numbers out of range, a missing photo, missing category ids.
            TypeError: naming the argument that is of another kind.
        """
        # 1. Check the inputs
        scenes, batched = self.check_inputs(image, masks, occluder_masks, category_ids, order)
        order_threshold = self._threshold("order_threshold", order_threshold)
        mask_threshold = self._threshold("mask_threshold", mask_threshold)
        dilation = check_integer("eraser_dilation", eraser_dilation, 0)
        size = self.model.config.sample_size
        batch_size = self.check_call(batch_size, output_type, size // self.model.config.patch_size)
        if not scenes:
            return self.finish([], batched=batched, output_type=output_type, return_dict=return_dict)

        # 2. Crop each object once
        patches = self.crop_objects(
            scenes,
            size,
            crop=self.config.order_crop,
            enlarge_box=self.config.enlarge_box,
            use_images=self.model.config.use_rgb,
            use_categories=self.model.config.class_conditioned,
        )  # modal [M, s, s]
        occluders = [_grow(s.masks if s.occluder_masks is None else s.occluder_masks, dilation) for s in scenes]

        with self.evaluation_mode():
            # 3. Complete every ordered pair of neighbours, and read the order off the increments
            unordered = [order_grounded and scene.order is None and scene.occluder_masks is None for scene in scenes]
            pairs = self.crop_pairs(occluders, patches, unordered)  # erasers [P, s, s]
            increments = self.complete_pairs(patches, pairs, order_threshold, batch_size)  # [P]
            orders = self.order_scenes(scenes, pairs, increments, unordered)

            # 4. Erase each object under all that may hide it, and complete it
            hiders = self.find_hiders(scenes, occluders, orders, order_grounded)
            erased = self.erase_objects(scenes, occluders, hiders, patches, pairs)
            rows, completions = self.complete_objects(erased, pairs, batch_size)  # [K], [K, s, s]

        # 5. Paste back
        results = [
            {**self.paste_scene(scene, erased, index, rows, completions, mask_threshold), "order": orders[index]}
            for index, scene in enumerate(scenes)
        ]

        # 6. Put the output together
        return self.finish(results, batched=batched, output_type=output_type, return_dict=return_dict)

    # 1.

    def check_inputs(
        self, image: Any, masks: Any, occluder_masks: Any, category_ids: Any, order: Any
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
                erasers.append(_crop(masks, back, patches, front + where.start, self.config.order_crop))
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
        if 4 * pairs.erasers.numel() <= _KEEP_BYTES:
            pairs.completions = torch.empty(pairs.erasers.shape, device=pairs.erasers.device)
        for part, probability in self._complete(patches, pairs.first, pairs.erasers, batch_size, "order"):
            # The eraser and the erased modal patch have no pixel in common, so the growth is what lies in the eraser.
            grown = pairs.erasers[part] & (probability > threshold)  # [B, s, s]
            increments[part] = self._increment(probability, pairs.erasers[part], grown).sum(
                dim=(1, 2), dtype=torch.float64
            )
            if pairs.completions is not None:
                pairs.completions[part] = probability
        scale = patches.boxes[pairs.first.cpu(), 2].numpy() / size
        return increments.cpu().numpy() * scale**2

    def _increment(self, probability: Tensor, eraser: Tensor, grown: Tensor) -> Tensor:
        """(B, s, s), what each position adds to an increment by `order_rule`; all arguments are (B, s, s)."""
        if self.config.order_rule == "count":
            return grown
        if self.config.order_rule == "probability":
            return probability * grown
        return probability * (eraser & grown.any(dim=2, keepdim=True).any(dim=1, keepdim=True))

    def order_scenes(
        self, scenes: Sequence[Scene], pairs: PairPatches, increments: np.ndarray, wanted: Sequence[bool]
    ) -> list[np.ndarray | None]:
        """The order of each scene: inferred where it is `wanted`, else the caller's, else None."""
        orders: list[np.ndarray | None] = []
        for scene, table, want in zip(scenes, pairs.rows, wanted, strict=True):
            if not want:
                orders.append(scene.order)
                continue
            adjacent = table >= 0
            growth = np.zeros(table.shape)
            growth[adjacent] = increments[table[adjacent]]
            if self.config.order_rule == "evidence":
                growth = occlusion_evidence(growth, scene.masks)
            orders.append(order_from_increments(growth, adjacent))
        return orders

    # 4.

    def find_hiders(
        self,
        scenes: Sequence[Scene],
        occluders: Sequence[np.ndarray],
        orders: Sequence[np.ndarray | None],
        order_grounded: bool,
    ) -> list[np.ndarray]:
        """For each scene (N, K) bool: [i, k] the k-th mask of `occluders` may hide a part of object i."""
        hiders = []
        for scene, masks, order in zip(scenes, occluders, orders, strict=True):
            if scene.occluder_masks is not None:
                one_each = np.eye(len(scene), dtype=bool)
                hiders.append(one_each if len(masks) == len(scene) else np.ones((len(scene), 1), bool))
            elif order_grounded and order is not None:
                hiders.append(self._find_ancestors(order, masks))
            else:
                hiders.append(neighbours(masks))
        lonely = sum(bool(scene.visible.any()) and not hides.any() for scene, hides in zip(scenes, hiders, strict=True))
        if lonely:
            logger.warning(
                "No object of %d of %d scenes has an occluder, so nothing can be hidden there: pass the masks of the "
                "other objects too, or `occluder_masks`; `eraser_dilation` closes gaps between masks.",
                lonely,
                len(scenes),
            )
        return hiders

    def _find_ancestors(self, order: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """(N, N) bool: [i, j] object j may hide a part of object i, by `occluder_rule`."""
        found = ancestors(order)
        if self.config.occluder_rule == "consistent":
            found &= (order == -1) | ~neighbours(masks)
        return found

    def erase_objects(
        self,
        scenes: Sequence[Scene],
        occluders: Sequence[np.ndarray],
        hiders: Sequence[np.ndarray],
        patches: ObjectPatches,
        pairs: PairPatches,
    ) -> ErasedObjects:
        """The union of all that may hide each object, cropped with its box."""
        rule = self.config.completion_crop
        same_crop = rule == self.config.order_crop
        same_pair = np.full(len(patches.modal), -1, np.int64)
        # The union comes first: interpolated crops of two occluders that touch would leave their seam open.
        unions = [mask_unions(masks, hides) for masks, hides in zip(occluders, hiders, strict=True)]
        erasers, modal = [], []
        for scene, union, hides, table, where in zip(scenes, unions, hiders, pairs.rows, patches.scenes, strict=True):
            everyone = np.arange(len(scene))
            erasers.append(_crop(union, everyone, patches, everyone + where.start, rule))
            if not same_crop:
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
            (K,) int64, rows of the objects in ascending order, and (K, s, s) float32, P(object).
        """
        patches, erasers = erased.patches, erased.erasers
        todo = patches.modal.any(dim=(1, 2))
        if self.config.keep_modal:
            todo &= erasers.any(dim=(1, 2))
        rows = todo.nonzero()[:, 0]  # [K]
        probabilities = torch.empty((len(rows), *erasers.shape[1:]), device=erasers.device)
        seen = to_device(erased.same_pair, rows.device)[rows]  # [K]
        if pairs.completions is None:
            seen = torch.full_like(seen, -1)
        else:
            probabilities[seen >= 0] = pairs.completions[seen[seen >= 0]]
        new = (seen < 0).nonzero()[:, 0]
        for part, probability in self._complete(patches, rows[new], erasers[rows[new]], batch_size, "masks"):
            probabilities[new[part]] = probability
        return rows, probabilities

    def _complete(
        self, patches: ObjectPatches, rows: Tensor, erasers: Tensor, batch_size: int, stage: str
    ) -> Iterator[tuple[slice, Tensor]]:
        """Run the network on the objects at `rows` (B,) with `erasers` (B, s, s): slices, and P(object) in float32."""
        with self.progress_bar(total=len(rows)) as bar:
            bar.set_description(stage, refresh=False)
            for part in batches(len(rows), batch_size):
                index, eraser = rows[part], erasers[part]
                inputs = {
                    "mask": _planes(patches.modal[index] & ~eraser),
                    "eraser": _planes(eraser),
                }  # [B, 1, s, s] each
                if patches.images is not None:
                    inputs["image"] = patches.images[index].contiguous(memory_format=torch.channels_last)
                categories = None if patches.category_ids is None else patches.category_ids[index]
                probability = self._object_probability(inputs, categories)
                if self.config.test_time_flip:
                    mirrored = {name: value.flip(-1) for name, value in inputs.items()}
                    probability = (probability + self._object_probability(mirrored, categories).flip(-1)) / 2
                yield part, probability
                bar.update(len(index))

    def _object_probability(self, inputs: dict[str, Tensor], category_ids: Tensor | None) -> Tensor:
        """(B, s, s) float32, P(object)."""
        inputs = {name: value.to(self.model.dtype) for name, value in inputs.items()}
        logits = self.model(**inputs, category_ids=category_ids).logits.float()  # [B, 2, s, s]
        # The softmax over two classes is the logistic function of their difference, in half of the work.
        return torch.sigmoid(logits[:, 1] - logits[:, 0])

    # 5.

    def paste_scene(
        self, scene: Scene, erased: ErasedObjects, index: int, rows: Tensor, completions: Tensor, threshold: float
    ) -> dict[str, Tensor]:
        """The amodal masks and probabilities of the scene at `index`, from the completions of the objects at `rows`."""
        where = erased.patches.scenes[index]
        modal = to_device(scene.masks, completions.device)
        inside = (rows >= where.start) & (rows < where.stop)
        done = rows[inside] - where.start
        patches = completions.new_zeros(len(scene), *completions.shape[1:])
        patches[done] = completions[inside]
        crops = erased.patches.boxes[where]
        boxes = torch.zeros_like(crops)  # side 0, which pastes nothing, where there is no completion
        boxes[done.cpu()] = crops[done.cpu()]
        masks, probabilities = self.paste_objects(
            patches, boxes, *modal.shape[1:], threshold=threshold, paste=self.config.paste
        )
        if self.config.confine_to_eraser:
            outside = ~(modal | to_device(erased.unions[index], modal.device))
            masks &= ~outside
            probabilities.masked_fill_(outside, 0.0)
        if self.config.keep_modal:
            masks |= modal
            probabilities.masked_fill_(modal, 1.0)
        return {"amodal_masks": masks, "probabilities": probabilities}


def _grow(masks: np.ndarray, dilation: int) -> np.ndarray:
    return dilate(masks, kernel="square", size=2 * dilation + 1) if dilation else masks


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
