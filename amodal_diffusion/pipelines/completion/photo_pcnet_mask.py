"""PCNet-M that sees the photo, as a pipeline: whole masks and the order from one pass an object."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...arguments.choices import check_choice
from ...arguments.flags import check_flag
from ...arguments.numeric import check_integer, check_number
from ...crops import crop_masks
from ...display import short_repr
from ...masks import BoolArray
from ...models.order_net import OrderNet
from ...models.pcnet_mask import PCNetMask, PhotoPCNetMask
from ...ordering import ancestors, occlusion_evidence, order_from_increments
from ..base import PipelineCallback
from ..inputs import MaskInputs, PackedUnions, SceneMasks, batches, check_network, is_network
from ..order_net import OrderNetPipeline
from ..output import AmodalPipelineOutput
from ..registry import register_pipeline
from .dual_completion import DualCompletionPipeline
from .mask_pipeline import (
    MaskCall,
    MaskPipeline,
    ObjectPatches,
    ScenePrediction,
    beyond_rim,
    check_crop,
    confine,
    mask_call,
)
from .pcnet_mask import PCNetMaskPipeline
from .thresholds import EXPECTED_IOU, check_calibration, check_mask_threshold

_DOUBT = 1e-4
"""What the answer of an `OrderNet` that is sure of a pair leaves to the other network."""

_MOST_KEPT = 2**28
"""Bytes of features of photos that are kept from one pass to the next: of 150 objects at 128 pixels in float32."""

OCCLUDER_RULES = ("consistent", "ancestors", "neighbours", "photo")


@dataclass
class Growth:
    """What the first pass says of pairs in one scene of N objects.

    Args:
        pixels: (N, N) float64, [i, j] the pixels of the photo by which i grows under j, weighed by probability.
        front: (N, N) float64, [i, j] the mean probability that what j shows is in front of i.
        adjacent: (N, N) bool, the pairs that touch.

    Example:
        >>> Growth(np.zeros((2, 2)), np.zeros((2, 2)), np.ones((2, 2), bool)).adjacent.all()
        np.True_
    """

    pixels: np.ndarray
    front: np.ndarray
    adjacent: BoolArray

    __repr__ = short_repr


class _PhotoFeatures:
    """What the network sees of the photo in the crops of a call: the same in both passes, so that one encodes it.

    Args:
        crops: of the call.
        keep: there is a second pass, and no engine in torch's place.
    """

    def __init__(self, crops: ObjectPatches, keep: bool) -> None:
        self.crops, self.left = crops, _MOST_KEPT if keep else 0
        self.kept: dict[tuple[int, bool], list[Tensor]] = {}  # by object, and whether its crop is mirrored

    def arguments(self, index: Tensor, mirrored: bool, dtype: torch.dtype) -> dict[str, Any]:
        """The photo of some objects, (B,) int64, or its features where they are known, as the network takes them."""
        images, shown = self.crops.images, self.crops.shown
        if images is None:
            return {}
        found = [self.kept.get((row, mirrored)) for row in index.tolist()]
        known = [features for features in found if features is not None]
        if known and len(known) == len(found):
            return {"features": [_channels_last(torch.cat(maps)) for maps in zip(*known, strict=True)]}
        image = images[index].flip(-1) if mirrored else images[index]
        given = {"image": _channels_last(image.to(dtype)), "shown": None if shown is None else shown[index]}
        return given | {"return_features": self.left > 0}

    def keep(self, index: Tensor, mirrored: bool, features: Sequence[Tensor] | None) -> None:
        """Remember what the network gave back for some objects, as long as it takes little memory."""
        if features is None:
            return
        self.left -= sum(maps.numel() * maps.element_size() for maps in features)
        for place, row in enumerate(index.tolist()):
            self.kept[row, mirrored] = [maps[place : place + 1] for maps in features]


@register_pipeline
class PhotoPCNetMaskPipeline(MaskPipeline):
    """Whole masks and order from a photo and modal masks, whatever is known of the neighbours. Source: after [Z20].

    All other masks of the call are shown to the network at once as what may hide an object: one pass an object, from
    which its whole mask is read, and, from where it grows and from what the network takes to be in front, the order. An
    object that comes alone is completed by what the photo shows.

    Two networks see an order differently, one by the photo and all neighbours at once, one by the outlines of two
    objects. With `order_model` the order follows both: their evidence is multiplied, pair by pair. With `mask_model`
    the masks follow two networks, too: where it is known what may hide an object, P(object) is the mean of both.

    Args:
        model: the network.
        order_model: a network of masks alone: an `OrderNet`, which is asked about every pair as in `OrderNetPipeline`
            with its defaults, or a `PCNetMask` of the same `sample_size`, about every ordered pair as in
            `PCNetMaskPipeline`; None leaves the order to `model`.
        mask_model: a network of masks alone that completes, too, at its own `sample_size`; None leaves the masks to
            `model`. A mask that comes alone, and the rule "photo", are for `model` alone.
        order_threshold: of P(object): growth under a neighbour that nowhere passes it does not count.
        mask_threshold: of P(object) in the amodal masks, in [0, 1); or "expected-iou", which takes for each object the
            threshold with the highest expected IoU, see `expected_iou_masks`.
        alone_threshold: the same for a mask that comes alone and the rule "photo", which `model` alone answers; None
            takes `mask_threshold`.
        calibration_slope, calibration_offset: of the log-odds of P(object) before that, see `calibrate`.
        enlarge_box: area of the crop box in areas of the modal box.
        crop: how masks become crops, "nearest" or "bilinear", see `crop_masks`.
        paste: "probability" or "binary", see `MaskPipeline.paste_objects`.
        keep_modal: the amodal mask always holds the visible pixels.
        occluder_rule: what may hide an object. "consistent": all that a chain of the order puts in front of it, but no
            neighbour that the order itself does not put in front; "ancestors": with these too; "neighbours": all other
            masks, whatever the order says; "photo": anything, each object by itself as if it came alone.
        passes: 1 takes the masks from the pass that gave the order; 2 asks again, and says what is in front.
        front_weight: exponent of what the network takes to be in front, in the evidence of the order; 0 leaves it out.
        rim_width: pixels of the crop. Growth of an object that comes alone is dropped where it nowhere reaches farther
            than this from the visible part.
        test_time_flip: average over the horizontally mirrored crops; twice the work.

    Raises:
        ValueError: naming the setting that is out of range, an `order_model` or a `mask_model` that sees more than
            masks, or an `order_model` that tells who is closer, or sees another size of crops.
        TypeError: naming the setting that is no number.

    Example:
        >>> masks = np.zeros((2, 12, 16), bool)
        >>> masks[0, 4:8] = masks[1, :, 6:10] = True
        >>> masks[0] &= ~masks[1]  # a bar behind another one
        >>> pipe = PhotoPCNetMaskPipeline(PhotoPCNetMask(block_out_channels=(2, 4), reduced_channels=2, sample_size=16))
        >>> out = pipe(torch.rand(3, 12, 16), masks)
        >>> out.amodal_masks.shape, out.order.shape, (out.amodal_masks >= masks).all()
        ((2, 12, 16), (2, 2), np.True_)
        >>> pipe(torch.rand(3, 12, 16), masks[0]).amodal_masks.shape
        (1, 12, 16)
    """

    model_cpu_offload_seq = "model->order_model->mask_model"
    mask_networks = ("model", "order_model", "mask_model")
    _optional_components = ["order_model", "mask_model"]

    model: PhotoPCNetMask
    order_model: PCNetMask | OrderNet | None
    mask_model: PCNetMask | None
    call_options = ("order", "return_order", "occluder_rule", "eraser_dilation", "order_threshold", "mask_threshold")
    needs_occluders = False
    unknown_category_id = 0

    def __init__(
        self,
        model: PhotoPCNetMask,
        order_model: PCNetMask | OrderNet | None = None,
        mask_model: PCNetMask | None = None,
        *,
        order_threshold: float = 0.1,
        mask_threshold: float | str = 0.5,
        alone_threshold: float | str | None = None,
        calibration_slope: float = 1.0,
        calibration_offset: float = 0.0,
        enlarge_box: float = 3.0,
        crop: str = "bilinear",
        paste: str = "probability",
        keep_modal: bool = True,
        occluder_rule: str = "consistent",
        passes: int = 2,
        front_weight: float = 2.0,
        rim_width: int = 1,
        test_time_flip: bool = False,
    ) -> None:
        super().__init__()
        check_network("model", model, PhotoPCNetMask)
        _check_order_model(model, order_model)
        if mask_model is not None:
            _check_sees_masks_alone("mask_model", mask_model, PCNetMask)
        self.register_modules(model=model, order_model=order_model, mask_model=mask_model)
        if passes not in (1, 2):
            raise ValueError(f"`passes` must be 1 or 2, got {passes!r}.")
        self.register_to_config(
            order_threshold=check_number("order_threshold", order_threshold, least=0, below=1),
            mask_threshold=check_mask_threshold(mask_threshold),
            alone_threshold=None
            if alone_threshold is None
            else check_mask_threshold(alone_threshold, "alone_threshold"),
            **check_calibration(calibration_slope, calibration_offset),
            **check_crop(crop, enlarge_box, paste),
            keep_modal=check_flag("keep_modal", keep_modal),
            occluder_rule=check_choice("occluder_rule", occluder_rule, OCCLUDER_RULES),
            passes=passes,
            front_weight=check_number("front_weight", front_weight, least=0, below=10),
            rim_width=check_integer("rim_width", rim_width, 0),
            test_time_flip=check_flag("test_time_flip", test_time_flip),
        )

    @mask_call
    def __call__(
        self,
        image: Any,
        masks: Any,
        *,
        occluder_masks: Any = None,
        category_ids: Any = None,
        order: Any = None,
        return_order: bool = True,
        occluder_rule: str | None = None,
        eraser_dilation: int = 0,
        order_threshold: float | None = None,
        mask_threshold: float | str | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        batch_size: int | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback: PipelineCallback | None = None,
    ) -> AmodalPipelineOutput | tuple[Any, ...]:
        """Infer who occludes whom and complete every mask.

        Args:
            image: the photo in any form that `load_image` reads, or a list of these; None, also within a list, for
                masks without a photo, which the network answers less well.
            masks: modal masks, one (H, W) or a stack (N, H, W) in any form that `to_mask_stack` reads; a list of stacks
                where `image` is a list. All scenes of a call go through the network together. A mask that comes alone,
                or beside empty ones, is completed by the rule "photo".
            occluder_masks: (H, W) or (N, H, W), what occludes the objects; used instead of the other masks of the call.
            category_ids: N names, None where unknown, or their numbers in `categories`, 0 where unknown; without
                influence where the network knows no `categories`, and for a name that is not among them.
            order: (N, N), 1 where i occludes j, -1 where j occludes i, 0 without relation; used instead of the inferred
                one.
            return_order: give the order back.
            occluder_rule: what may hide an object, see the setting; None takes the checkpoint's.
            eraser_dilation: pixels of the photo by which the other masks grow on each side. 3 to 5 closes the gaps
                between the masks of a segmenter; objects whose grown masks touch are neighbours then.
            order_threshold: of P(object), in [0, 1); None takes the checkpoint's.
            mask_threshold: likewise, also of a mask that comes alone.
            generator: taken so that the same call suits every mask pipeline; nothing here is drawn at random.
            batch_size: crops in one pass through the network; None suits it to the device.
            output_type: "np", "pt", "pil" or "compact", see `AmodalPipelineOutput`.
            return_dict: False returns a tuple of all fields of `AmodalPipelineOutput` in their order.
            callback: called after every batch as `callback(pipeline, stage, done, total)`, see `PipelineCallback`; if
                it returns False, the call ends with `CallInterruptedError`.

        Returns:
            `AmodalPipelineOutput` with `amodal_masks`, `probabilities`, `uncertainty`, `order` and `occluder_masks`,
            which is what is taken to hide each object inside of its crop: the masks that the order puts in front, or
            what the photo shows of it. `uncertainty` is the root of the squared error that P(object) expects of itself,
            sqrt(p (1 - p)) in [0, 0.5], 0 at visible pixels and where nothing can grow. An object without visible
            pixels stays empty and has no relations. `order` is None without `return_order`, by the rule "photo", and
            with `occluder_masks` unless it was given.

        Raises:
            ValueError: naming the argument: sizes that differ, an order that is no antisymmetric (N, N) matrix of -1, 0
                and 1, numbers out of range.
            TypeError: naming the argument that is of another kind, or that this pipeline does not take.
            CallInterruptedError: by the callback.
        """
        return self.complete(
            image,
            masks,
            occluder_masks=occluder_masks,
            category_ids=category_ids,
            order=order,
            return_order=return_order,
            occluder_rule=occluder_rule,
            eraser_dilation=eraser_dilation,
            order_threshold=order_threshold,
            mask_threshold=mask_threshold,
            generator=generator,
            batch_size=batch_size,
            output_type=output_type,
            return_dict=return_dict,
            callback=callback,
        )

    # 1.

    @property
    def needs_image(self) -> bool:
        """The network looks at the photo, where there is one."""
        return True

    def check_scene(self, scene: MaskInputs) -> None:
        """Nothing is missing without a photo."""
        self.check_categories(scene)

    def read_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """The checked options."""
        rule = options["occluder_rule"]
        return {
            "return_order": check_flag("return_order", options["return_order"]),
            "occluder_rule": self.config.occluder_rule
            if rule is None
            else check_choice("occluder_rule", rule, OCCLUDER_RULES),
            "eraser_dilation": check_integer("eraser_dilation", options["eraser_dilation"], 0),
            "order_threshold": self._threshold("order_threshold", options["order_threshold"]),
            "mask_threshold": self._mask_threshold(options["mask_threshold"]),
            "alone_threshold": self._alone_threshold(options["mask_threshold"]),
        }

    def _alone_threshold(self, given: float | str | None) -> float | str:
        return self._mask_threshold(self.config.alone_threshold if given is None else given)

    def output_fields(self, call: MaskCall) -> tuple[str, ...]:
        """The uncertainty, the occluders and the order."""
        return ("uncertainty", "occluder_masks", *(["order"] if self._gives_order(call) else []))

    @staticmethod
    def _gives_order(call: MaskCall) -> bool:
        return bool(call.options["return_order"]) and call.options["occluder_rule"] != "photo"

    # 2.

    def crop(self, call: MaskCall) -> ObjectPatches:
        """Crop every object once, and its photo where its scene has one."""
        return self.crop_objects(call.scenes, crop=self.config.crop, images=True)

    # 3.

    def predict(self, call: MaskCall, crops: ObjectPatches) -> Iterator[ScenePrediction]:
        """One pass an object with all that may hide it; the order from it; a second pass where the setting says so."""
        others = [
            DualCompletionPipeline.grow_occluders(scene, call.options["eraser_dilation"]) for scene in call.scenes
        ]
        alone = [self._is_alone(call, scene) for scene in call.scenes]
        told = [scene.occluders is not None or scene.order is not None for scene in call.scenes]
        unions = [
            None if single else PackedUnions.of(masks, _given(scene))
            for scene, masks, single in zip(call.scenes, others, alone, strict=True)
        ]
        visible = crops.modal.any(dim=(1, 2))
        erasers = self._erasers(crops, unions)
        fronts = torch.cat(
            [erasers[where] & known for where, known in zip(crops.scenes, told, strict=True)] or [erasers]
        )
        rows = visible & erasers.any(dim=(1, 2))
        first = "masks" if self.config.passes == 1 else "order"
        photos = _PhotoFeatures(crops, keep=self.config.passes == 2 and self.model.graphs is None)
        planes = self._answer(call, crops, photos, rows, erasers, fronts, first)  # [M, 2, s, s]
        pairs = self.ask_order_model(call, crops, others, [a or b for a, b in zip(told, alone, strict=True)])
        orders, again = [], torch.zeros_like(rows)
        for index, (scene, where) in enumerate(zip(call.scenes, crops.scenes, strict=True)):
            order = scene.order
            if not told[index] and not alone[index]:
                growth = self.measure_growth(call, crops, index, others[index], planes[where, 0], planes[where, 1])
                order = self.find_order(scene, growth, pairs[index])
                if call.options["occluder_rule"] != "neighbours":
                    front = _in_front(order, growth.adjacent, call.options["occluder_rule"])
                    unions[index] = PackedUnions.of(others[index], front)
                    again[where] = True
            elif alone[index]:  # of one mask, or by the rule "photo", which gives none back
                order = np.zeros((len(scene), len(scene)), np.int8)
            orders.append(order)
        if self.config.passes == 2 and again.any():
            erasers = self._erasers(crops, unions)
            second = again & erasers.any(dim=(1, 2)) & visible
            answer = self._answer(call, crops, photos, second, erasers, erasers, "masks")
            planes = torch.where(second[:, None, None, None], answer, planes)
        averaged = self.ask_mask_model(call, unions, rows, planes)
        for index, where in enumerate(crops.scenes):
            kept = rows[where].nonzero()[:, 0]
            order = orders[index] if self._gives_order(call) else None
            answer = planes if averaged is None or unions[index] is None else averaged
            yield ScenePrediction(kept, answer[where][kept], unions[index], order)

    def _is_alone(self, call: MaskCall, scene: MaskInputs) -> bool:
        """What may hide the objects of a scene is for the photo to say."""
        if scene.occluders is not None:
            return False
        return call.options["occluder_rule"] == "photo" or (scene.visible.sum() == 1 and scene.order is None)

    def _erasers(self, crops: ObjectPatches, unions: Sequence[PackedUnions | None]) -> Tensor:
        """(M, s, s) bool: what may hide each object, cropped with its box; anything in a scene without unions."""
        size, device = crops.modal.shape[-1], crops.modal.device
        parts = [crops.modal[:0]]
        for union, where in zip(unions, crops.scenes, strict=True):
            if union is None:
                parts.append(~crops.modal[where])
            else:
                parts.append(union.crop(crops.boxes[where], size, self.config.crop, device))
        return torch.cat(parts)

    def _answer(
        self,
        call: MaskCall,
        crops: ObjectPatches,
        photos: "_PhotoFeatures",
        rows: Tensor,
        erasers: Tensor,
        fronts: Tensor,
        stage: str,
    ) -> Tensor:
        """(M, 2, s, s) float32: P(object) and P(in front) of the objects at `rows` (M,) bool, 0 for others."""
        planes = torch.zeros(len(rows), 2, *erasers.shape[1:], device=erasers.device)
        todo = rows.nonzero()[:, 0]
        with self.progress(stage, len(todo), call.callback) as advance:
            for part in batches(len(todo), call.batch_size):
                index = todo[part]
                inputs = {
                    "mask": (crops.modal[index] & ~erasers[index])[:, None],
                    "eraser": erasers[index][:, None],
                    "front": fronts[index][:, None],
                }
                ids = None if crops.category_ids is None else crops.category_ids[index]
                answer = self._run(inputs, ids, photos, index)
                if self.config.test_time_flip:
                    mirrored = {name: value.flip(-1) for name, value in inputs.items()}
                    answer = (answer + self._run(mirrored, ids, photos, index, mirrored=True).flip(-1)) / 2
                planes[index] = answer
                advance(len(index))
        return planes

    def _run(
        self,
        inputs: dict[str, Tensor],
        category_ids: Tensor | None,
        photos: _PhotoFeatures,
        index: Tensor,
        mirrored: bool = False,
    ) -> Tensor:
        dtype = self.model.dtype  # diffusers looks through all modules for it
        planes = {name: _channels_last(value.to(dtype)) for name, value in inputs.items()}
        photo = photos.arguments(index, mirrored, dtype)
        output = self.model(**planes, category_ids=category_ids, **photo)
        photos.keep(index, mirrored, output.features)
        logits = output.logits.float()
        return torch.sigmoid(torch.cat([logits[:, 1:2] - logits[:, :1], logits[:, 2:]], dim=1))

    def measure_growth(
        self, call: MaskCall, crops: ObjectPatches, index: int, masks: SceneMasks, grown: Tensor, front: Tensor
    ) -> Growth:
        """What the first pass says of the pairs of the scene at `index`.

        Args:
            call: the call.
            crops: of all objects.
            index: of the scene.
            masks: (N, H, W), the objects, grown as the call says.
            grown: (N, s, s) float32, P(object).
            front: (N, s, s) float32, P(in front).
        """
        where, size = crops.scenes[index], crops.modal.shape[-1]
        adjacent = masks.neighbours
        first, second = np.nonzero(adjacent)
        boxes = crops.boxes[where][torch.from_numpy(first)]
        pixels, fronts = np.zeros(adjacent.shape), np.zeros(adjacent.shape)
        for part in batches(len(first), 256):
            erasers = crop_masks(
                masks.tensor(grown.device), boxes[part], size, indices=second[part], rule=self.config.crop
            )
            mine = torch.from_numpy(first[part]).to(grown.device)
            inside = grown[mine] * erasers
            passes = (inside > call.options["order_threshold"]).any(dim=2).any(dim=1)
            scale = (boxes[part, 2].double() / size).square()
            found = (inside.sum(dim=(1, 2)) * passes).double().cpu() * scale
            seen = erasers.sum(dim=(1, 2)).clamp(min=1)
            pixels[first[part], second[part]] = found.numpy()
            fronts[first[part], second[part]] = ((front[mine] * erasers).sum(dim=(1, 2)) / seen).double().cpu().numpy()
        return Growth(pixels, fronts, adjacent)

    def ask_order_model(
        self, call: MaskCall, crops: ObjectPatches, masks: Sequence[SceneMasks], settled: Sequence[bool]
    ) -> list[np.ndarray | None]:
        """For each scene (N, N) float64, what speaks for j occluding i by `order_model`; None where nobody asks it."""
        wanted = [not known for known in settled]
        if self.order_model is None or not any(wanted):
            return [None] * len(wanted)
        call = self._as_stage(call, "pairs")
        if is_network(self.order_model, OrderNet):
            pairwise = OrderNetPipeline(self.order_model)
            pairwise.set_progress_bar_config(**getattr(self, "_progress_bar_config", {}))
            return [
                _ask_order_net(pairwise, call, scene) if ask else None
                for scene, ask in zip(call.scenes, wanted, strict=True)
            ]
        pipeline = self._masks_alone(self.order_model)
        crops = replace(crops, images=None)
        pairs = pipeline.crop_pairs(masks, crops, wanted)
        increments = pipeline.complete_pairs(call, crops, pairs, keep=False)
        return pipeline.measure_growth(call.scenes, pairs, increments, wanted)

    def ask_mask_model(
        self, call: MaskCall, unions: Sequence[PackedUnions | None], rows: Tensor, planes: Tensor
    ) -> Tensor | None:
        """(M, 1, S, S) float32, P(object) by both networks at the size of `mask_model`; None where there is none.

        Args:
            call: the call.
            unions: for each scene what may hide each object; None where the photo says it.
            rows: (M,) bool, the objects that `model` completed.
            planes: (M, 2, s, s) float32, P(object) and P(in front) by `model`.
        """
        if self.mask_model is None or all(union is None for union in unions):
            return None
        call = self._as_stage(call, "shapes")
        pipeline = self._masks_alone(self.mask_model)
        crops = pipeline.crop_objects(call.scenes, crop=self.config.crop)
        erasers = self._erasers(crops, unions)
        both = F.interpolate(planes[:, :1], crops.modal.shape[1:], mode="bilinear", align_corners=False)
        known = [rows[where] & (union is not None) for where, union in zip(crops.scenes, unions, strict=True)]
        index = (torch.cat(known) & erasers.any(dim=(1, 2))).nonzero()[:, 0]
        for part, found in pipeline.complete_crops(call, crops, index, erasers[index], "shapes"):
            both[index[part]] = (both[index[part]] + found) / 2
        return both

    def _as_stage(self, call: MaskCall, stage: str) -> MaskCall:
        """A call whose callback tells the work of another pipeline as a stage of this one."""
        tell = call.callback
        return replace(call, callback=tell and (lambda _, own, done, total: tell(self, stage, done, total)))

    def _masks_alone(self, network: PCNetMask) -> PCNetMaskPipeline:
        pipeline = PCNetMaskPipeline(
            network,
            crop=self.config.crop,
            enlarge_box=self.config.enlarge_box,
            test_time_flip=self.config.test_time_flip,
            order_rule="evidence",
        )
        pipeline.set_progress_bar_config(**getattr(self, "_progress_bar_config", {}))
        return pipeline

    def find_order(self, scene: MaskInputs, growth: Growth, pairs: np.ndarray | None = None) -> np.ndarray:
        """(N, N) int8: by `occlusion_evidence`, by what the network takes to be in front, and by the other network.

        Args:
            scene: the objects.
            growth: what the first pass says of their pairs.
            pairs: (N, N) float64, what `order_model` says, see `ask_order_model`; None leaves it out.
        """
        evidence = occlusion_evidence(growth.pixels, scene.modal, hull_weight=0.0)
        evidence *= (growth.front + 0.02) ** self.config.front_weight
        if pairs is not None:
            evidence = _multiply(evidence, pairs)
        return order_from_increments(evidence, growth.adjacent)

    # 4.

    @property
    def grows_under_occluders_alone(self) -> bool:
        """True: there is no setting for it here. An object of which nobody knows what may hide it grows anywhere."""
        return True

    def paste(self, call: MaskCall, crops: ObjectPatches, index: int, prediction: ScenePrediction) -> dict[str, Any]:
        """The results of the scene at `index`: nothing grows but under what may hide it."""
        scene = call.scenes[index]
        if prediction.occluders is None:
            call = replace(call, options={**call.options, "mask_threshold": call.options["alone_threshold"]})
        modal = scene.modal.tensor(prediction.channels.device)
        frames = partial(self.paste_objects, crops, index, prediction.rows, scene.size)
        only = replace(prediction, channels=prediction.channels[:, :1])
        result = super().paste(call, crops, index, only)
        if prediction.occluders is not None:
            occluders = prediction.occluders.tensor(modal.device)
            occluders = occluders & _inside(crops.boxes[crops.scenes[index]].to(modal.device), *scene.size)
        else:
            _, occluders = frames(prediction.channels[:, 1], 0.5)
            threshold = call.options["mask_threshold"]
            likely = self.calibrated(prediction.channels[:, 0])
            grown = likely > (0.5 if threshold == EXPECTED_IOU else threshold)  # [K, s, s]
            around = beyond_rim(grown, crops.modal[crops.scenes[index]][prediction.rows], self.config.rim_width)
            confine(result, modal | frames(around.float(), 0.0)[1], ["probabilities"])
            self.decide(call, result)
        likely = result["probabilities"]
        doubt = torch.addcmul(likely, likely, likely, value=-1).clamp_(min=0).sqrt_()  # of p (1 - p)
        return result | {"uncertainty": doubt, "occluder_masks": occluders & ~modal}


def _check_order_model(model: PhotoPCNetMask, order_model: PCNetMask | OrderNet | None) -> None:
    if order_model is None:
        return
    _check_sees_masks_alone("order_model", order_model, PCNetMask, OrderNet)
    config = order_model.config
    if is_network(order_model, OrderNet):
        if config.answer != "occlusion":
            raise ValueError("`order_model` must answer occlusion, and this OrderNet tells who is closer.")
        return
    size = model.config.sample_size
    if config.sample_size != size:
        raise ValueError(f"`order_model` must have the `sample_size` of `model`, {size}, got {config.sample_size}.")


def _check_sees_masks_alone(name: str, network: PCNetMask | OrderNet, *kinds: type[nn.Module]) -> None:
    check_network(name, network, *kinds)
    if network.config.use_rgb or network.config.get("class_conditioned"):
        raise ValueError(f"`{name}` must see masks alone, without `use_rgb` and `class_conditioned`.")


def _ask_order_net(pipeline: OrderNetPipeline, call: MaskCall, scene: MaskInputs) -> np.ndarray:
    """(N, N) float64, P(j occludes i); 0 for pairs that do not touch."""
    _, likely = pipeline.compare_objects(scene, call.batch_size, call.callback)
    touch = (likely > 0) | (likely.T > 0)
    return np.where(touch, np.clip(likely.T.astype(np.float64), _DOUBT, 1 - _DOUBT), 0.0)


def _multiply(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, N) float64: the evidence of both; where one has none for a pair, in either direction, that of the other."""
    one, two = ((evidence > 0) | (evidence.T > 0) for evidence in (first, second))
    product = np.where(one, first, 1.0) * np.where(two, second, 1.0)
    return np.where(one | two, product, 0.0)


def _given(scene: MaskInputs) -> BoolArray:
    """(N, K) bool: what may hide each object of a scene before the order is known."""
    if scene.occluders is not None:
        return np.eye(len(scene), dtype=bool) if len(scene.occluders) == len(scene) else np.ones((len(scene), 1), bool)
    if scene.order is not None:
        return ancestors(scene.order)
    return ~np.eye(len(scene), dtype=bool)


def _in_front(order: np.ndarray, adjacent: BoolArray, rule: str) -> BoolArray:
    """(N, N) bool: [i, j] j may hide a part of i by the order and the rule."""
    found = ancestors(order)
    return found & ((order == -1) | ~adjacent) if rule == "consistent" else found


def _inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """(N, H, W) bool: the pixels of the photo in the box (x, y, w, h) of each object."""
    start, end = boxes[:, :2, None], (boxes[:, :2] + boxes[:, 2:])[..., None]
    across, down = (torch.arange(size, device=boxes.device) for size in (width, height))
    columns = (across >= start[:, 0]) & (across < end[:, 0])
    rows = (down >= start[:, 1]) & (down < end[:, 1])
    return rows[:, :, None] & columns[:, None]


def _channels_last(planes: Tensor) -> Tensor:
    return planes.contiguous(memory_format=torch.channels_last)
