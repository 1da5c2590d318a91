"""ASBU as a pipeline: masks from occlusion boundaries, where they are unsure, and the order from increments [N21]."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...crops.mask_patches import CROP_RULES
from ...models.asbu import OCCLUDER_INPUTS, ASBUPredictor, occluder_plane
from ...ordering import neighbours, reachable
from ..inputs import check_choice, check_integer, check_number
from ..output import AmodalPipelineOutput
from ..registry import register_pipeline
from .dual_completion import ORDER_RULES, DualCompletionPipeline, grow
from .mask_pipeline import PASTE_RULES

OCCLUDER_RULES = ("neighbours", "growth")
# Of two objects each may hide the other where either growth is at least this share of the other's.
_MUTUAL = 0.5


@register_pipeline
class ASBUPipeline(DualCompletionPipeline):
    """Amodal masks with a map of uncertainty, and the occlusion order, from modal masks. Source: [N21].

    An object may be hidden by any of its neighbours: the network reads off their common boundary where that is so. No
    order is needed for that, so two objects may hide each other, each in another place.

    Args:
        model: the network.
        order_threshold: of P(object) when the order is inferred, in [0, 1).
        mask_threshold: of P(object) in the amodal masks, in [0, 1).
        enlarge_box: area of the crop box in areas of the modal box.
        crop: how masks become crops, "nearest" (published) or "bilinear", see `crop_mask_patches`.
        paste: "probability" or "binary" (published), see `MaskPipeline.paste_objects`.
        keep_modal: the amodal mask always holds the visible pixels, and an object without neighbour keeps its modal
            mask. False gives the network's answer as it is, as published.
        boundary_size: side in pixels of the square that both masks are dilated by for their boundary, odd.
        occluder_input: what the network was trained on, "boundary" (published), "mask" or "both"; see
            `occluder_plane`.
        occluder_rule: what may hide an object. "neighbours": all of them (published); "growth": of these, no one under
            which the object grows less than half as much as the other way round, and what may hide these without
            touching the object. A ground that is behind everything no longer counts. Of two objects that hide each
            other one may be left out; where that matters, "neighbours" completes both.
        confine_to_occluders: let an object grow only where a neighbour is seen, which is where a hidden part must be
            when the masks of all objects are given. False lets it grow anywhere, as published.
        test_time_flip: average over the horizontally mirrored crops; twice the work.
        order_rule: what an increment is, see `PCNetMaskPipeline`.

    Raises:
        ValueError: naming the setting that is out of range.
        TypeError: naming the setting that is no number.
    """

    model: ASBUPredictor
    answers = 2

    def __init__(
        self,
        model: ASBUPredictor,
        *,
        order_threshold: float = 0.5,
        mask_threshold: float = 0.5,
        enlarge_box: float = 3.0,
        crop: str = "nearest",
        paste: str = "probability",
        keep_modal: bool = True,
        boundary_size: int = 5,
        occluder_input: str = "boundary",
        occluder_rule: str = "neighbours",
        confine_to_occluders: bool = False,
        test_time_flip: bool = False,
        order_rule: str = "count",
    ) -> None:
        super().__init__()
        self.register_modules(model=model)
        if check_integer("boundary_size", boundary_size, 1) % 2 == 0:
            raise ValueError(f"`boundary_size` must be odd, got {boundary_size}.")
        self.register_to_config(
            order_threshold=check_number("order_threshold", order_threshold, 0, 1),
            mask_threshold=check_number("mask_threshold", mask_threshold, 0, 1),
            enlarge_box=check_number("enlarge_box", enlarge_box, 1, 100),
            crop=check_choice("crop", crop, CROP_RULES),
            paste=check_choice("paste", paste, PASTE_RULES),
            keep_modal=bool(keep_modal),
            boundary_size=int(boundary_size),
            occluder_input=check_choice("occluder_input", occluder_input, OCCLUDER_INPUTS),
            occluder_rule=check_choice("occluder_rule", occluder_rule, OCCLUDER_RULES),
            confine_to_occluders=bool(confine_to_occluders),
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
        return_order: bool = True,
        order_threshold: float | None = None,
        mask_threshold: float | None = None,
        eraser_dilation: int = 0,
        batch_size: int | None = None,
        output_type: str = "np",
        return_dict: bool = True,
    ) -> AmodalPipelineOutput | tuple[Any, ...]:
        """Complete every mask, say where it is unsure, and infer who occludes whom.

        Args:
            image: the photo in any form that `load_image` reads, None, or a list of these. Only a network with
                `use_rgb` looks at it; otherwise its size alone is compared with the masks.
            masks: modal masks, one (H, W) or a stack (N, H, W) in any form that `to_mask_stack` reads; a list of stacks
                where `image` is a list. All scenes of a call go through the network together.
            occluder_masks: (H, W) or (N, H, W), what hides the objects; used instead of the neighbours.
            category_ids: (N,) positive integers; needed where the network is class-conditioned, else ignored.
            return_order: infer the order, which completes every pair of neighbours. The masks need no order; with the
                setting `occluder_rule="neighbours"` they come faster without.
            order_threshold: of P(object), in [0, 1); None takes the checkpoint's.
            mask_threshold: likewise.
            eraser_dilation: pixels of the photo by which the neighbours' masks grow on each side, for the wide gaps
                that some segmenters leave. The boundary bridges three pixels of a crop by itself.
            batch_size: crops in one pass through the network; None suits it to the device.
            output_type: "np", "pt" or "pil".
            return_dict: False returns a tuple of `amodal_masks`, `probabilities`, `uncertainty`, `order`.

        Returns:
            `AmodalPipelineOutput` with `uncertainty`: about the root of the error of P(object) that the network
            expects, 0 at visible pixels and where nothing can grow. An object without visible pixels stays empty and
            has no relations. `order` is None with `occluder_masks` or without `return_order`.

        Raises:
            ValueError: naming the argument: sizes that differ, numbers out of range, a missing photo, missing category
                ids.
            TypeError: naming the argument that is of another kind.
        """
        # 1. Check the inputs
        scenes, batched = self.check_inputs(image, masks, occluder_masks, category_ids)
        order_threshold = self._threshold("order_threshold", order_threshold)
        mask_threshold = self._threshold("mask_threshold", mask_threshold)
        dilation = check_integer("eraser_dilation", eraser_dilation, 0)
        size = self.model.config.sample_size
        batch_size = self.check_call(batch_size, output_type, size // self.model.config.patch_size)
        if not scenes:
            return self.finish([], batched=batched, output_type=output_type, return_dict=return_dict)

        # 2. Crop each object once
        patches = self.crop_objects(
            scenes, size, crop=self.config.crop, enlarge_box=self.config.enlarge_box,
            use_images=self.model.config.use_rgb, use_categories=self.model.config.class_conditioned,
        )  # modal [M, s, s]  # fmt: skip
        occluders = [grow(s.masks if s.occluder_masks is None else s.occluder_masks, dilation) for s in scenes]

        with self.evaluation_mode():
            # 3. Complete every ordered pair of neighbours, where order or masks need it
            by_growth = self.config.occluder_rule == "growth"
            by_pair = [(return_order or by_growth) and scene.occluder_masks is None for scene in scenes]
            pairs = self.crop_pairs(occluders, patches, by_pair)  # erasers [P, s, s]
            increments = self.complete_pairs(patches, pairs, order_threshold, batch_size)  # [P]
            growths = self.measure_growth(scenes, pairs, increments, by_pair)  # (N, N) a scene

            # 4. Complete each object given the boundary with all that may hide it
            hiders = self.find_hiders(scenes, occluders, growths if by_growth else [None] * len(scenes))
            erased = self.erase_objects(scenes, occluders, hiders, patches, pairs, self.config.crop)
            rows, completions = self.complete_objects(erased, pairs, batch_size)  # [K], [K, 2, s, s]

        # 5. Paste back
        pasted = self.paste_scenes(scenes, erased, rows, completions, mask_threshold, self.config.confine_to_occluders)
        orders = self.order_scenes(scenes, pairs, growths) if return_order else [None] * len(scenes)
        results = [scene | {"order": order} for scene, order in zip(pasted, orders, strict=True)]

        # 6. Put the output together
        return self.finish(results, batched=batched, output_type=output_type, return_dict=return_dict)

    # 3.

    @property
    def pair_crop(self) -> str:
        """The setting `crop`."""
        return str(self.config.crop)

    def network_inputs(self, modal: Tensor, eraser: Tensor) -> dict[str, Tensor]:
        """The visible part as it is, and where it meets what may hide it."""
        kind, size = self.config.occluder_input, self.config.boundary_size
        return {"mask": modal, "boundary": occluder_plane(modal, eraser & ~modal, kind, size=size)}

    def read_logits(self, logits: Tensor) -> Tensor:
        """(B, 2, s, s), P(object) and the uncertainty."""
        return torch.stack([logits[:, 0].sigmoid(), F.softplus(logits[:, 1])], dim=1)

    # 4.

    def hiders_by_rule(self, relation: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """What the object grows under, directly or through others, but no other neighbour of it."""
        direct = (relation > 0) & (relation >= _MUTUAL * relation.T)
        return reachable(direct) & (direct | ~neighbours(masks))
