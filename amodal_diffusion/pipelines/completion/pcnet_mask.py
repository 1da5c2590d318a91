"""PCNet-M as a pipeline: the occlusion order by dual completion, and whole masks from it [Z20]."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...crops.mask_patches import CROP_RULES
from ...models.pcnet_mask import PCNetMask
from ...ordering import ancestors, neighbours
from ..inputs import check_choice, check_integer, check_number
from ..output import AmodalPipelineOutput
from ..registry import register_pipeline
from .dual_completion import ORDER_RULES, DualCompletionPipeline, grow
from .mask_pipeline import PASTE_RULES

OCCLUDER_RULES = ("ancestors", "consistent")


@register_pipeline
class PCNetMaskPipeline(DualCompletionPipeline):
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
        occluders = [grow(s.masks if s.occluder_masks is None else s.occluder_masks, dilation) for s in scenes]

        with self.evaluation_mode():
            # 3. Complete every ordered pair of neighbours, and read the order off the increments
            unordered = [order_grounded and scene.order is None and scene.occluder_masks is None for scene in scenes]
            pairs = self.crop_pairs(occluders, patches, unordered)  # erasers [P, s, s]
            increments = self.complete_pairs(patches, pairs, order_threshold, batch_size)  # [P]
            growths = self.measure_growth(scenes, pairs, increments, unordered)  # (N, N) a scene
            orders = self.order_scenes(scenes, pairs, growths)

            # 4. Erase each object under all that may hide it, and complete it
            grounds = orders if order_grounded else [None] * len(scenes)
            hiders = self.find_hiders(scenes, occluders, grounds)
            erased = self.erase_objects(scenes, occluders, hiders, patches, pairs, self.config.completion_crop)
            rows, completions = self.complete_objects(erased, pairs, batch_size)  # [K], [K, 1, s, s]

        # 5. Paste back
        pasted = self.paste_scenes(scenes, erased, rows, completions, mask_threshold, self.config.confine_to_eraser)
        results = [scene | {"order": order} for scene, order in zip(pasted, orders, strict=True)]

        # 6. Put the output together
        return self.finish(results, batched=batched, output_type=output_type, return_dict=return_dict)

    # 3.

    @property
    def pair_crop(self) -> str:
        """The setting `order_crop`."""
        return str(self.config.order_crop)

    def network_inputs(self, modal: Tensor, eraser: Tensor) -> dict[str, Tensor]:
        """The visible part outside of the eraser, and the eraser."""
        return {"mask": modal & ~eraser, "eraser": eraser}

    def read_logits(self, logits: Tensor) -> Tensor:
        """(B, 1, s, s), P(object)."""
        # The softmax over two classes is the logistic function of their difference, in half of the work.
        return torch.sigmoid(logits[:, 1:] - logits[:, :1])

    # 4.

    def hiders_by_rule(self, relation: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Ancestors in the order, by `occluder_rule`."""
        found = ancestors(relation)
        if self.config.occluder_rule == "consistent":
            found &= (relation == -1) | ~neighbours(masks)
        return found
