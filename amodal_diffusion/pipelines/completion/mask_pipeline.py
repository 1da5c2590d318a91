"""What all mask pipelines share: cropping, pasting back, the output."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...crops import crop_boxes, crop_images, paste_patches
from ...crops.mask_patches import crop_mask_patches
from ...images import normalize_images, postprocess_masks
from ...masks import mask_boxes
from ..base import SafePipeline
from ..inputs import Scene, check_number, rows_of, to_device
from ..output import AmodalPipelineOutput

PASTE_RULES = ("probability", "binary")


@dataclass
class ObjectPatches:
    """The square crops of all objects of a call, one scene after another.

    Args:
        modal: (M, s, s) bool, all False for an object without visible pixels.
        boxes: (M, 4) int64 on the CPU, (x, y, side, side) in pixels of the photo; side 0 without visible pixels.
        scenes: for each scene, the slice of its objects.
        category_ids: (M,) int64, where the network needs them.
        images: (M, 3, s, s) float32, ImageNet-normalised, where the network needs them.
    """

    modal: Tensor
    boxes: Tensor
    scenes: list[slice]
    category_ids: Tensor | None = None
    images: Tensor | None = None


class MaskPipeline(SafePipeline):
    """Base class of the pipelines that complete masks.

    A subclass registers its networks and settings in `__init__`, and writes `__call__` in numbered steps out of the
    ones here: check the inputs, crop, predict in batches, paste back, put the output together. `model_cpu_offload_seq`
    and `mask_networks` name its components.

    Attributes:
        mask_networks: names of the components that are mask networks, trained by this package; others are frozen.
        needs_occluders: what hides an object must be given, by the other masks of the call or by `occluder_masks`.
            False: a photo and one mask suffice, and the objects of a call do not know of each other.
        unknown_category_id: the id of an object without a category, where the network is class-conditioned: 1, as
            [Z20] has it for COCOA, or 0 for a network that knows an unknown category.
    """

    model_cpu_offload_seq = "model"
    mask_networks: tuple[str, ...] = ("model",)
    needs_occluders = True
    unknown_category_id = 1

    @property
    def networks(self) -> list[nn.Module]:
        """The mask networks themselves."""
        networks = (getattr(self, name) for name in self.mask_networks)
        return [network for network in networks if network is not None]

    @property
    def class_conditioned(self) -> bool:
        """A network needs the `category_ids` of the objects."""
        return any(getattr(network.config, "class_conditioned", False) for network in self.networks)

    # Steps of a call

    def _threshold(self, name: str, value: float | None) -> float:
        """A threshold of a call in [0, 1): the caller's, or the pipeline's."""
        return check_number(name, self.config[name] if value is None else value, 0, 1)

    def crop_objects(
        self,
        scenes: Sequence[Scene],
        size: int,
        *,
        crop: str,
        enlarge_box: float,
        use_images: bool,
        use_categories: bool,
    ) -> ObjectPatches:
        """Crop every object of every scene once."""
        device = self._execution_device
        boxes, modal, images = [], [], []
        for scene in scenes:
            box = torch.from_numpy(crop_boxes(mask_boxes(scene.masks), enlarge_box=enlarge_box))  # [N, 4]
            boxes.append(box)
            everyone = torch.arange(len(scene))
            modal.append(crop_mask_patches(to_device(scene.masks, device), box, size, everyone, crop))  # [N, s, s]
            if use_images and scene.image is not None:
                images.append(crop_images(scene.image.to(device), box, size))  # [N, 3, s, s]
        categories = [to_device(scene.category_ids, device) for scene in scenes if scene.category_ids is not None]
        return ObjectPatches(
            modal=torch.cat(modal),
            boxes=torch.cat(boxes),
            scenes=rows_of([len(scene) for scene in scenes]),
            category_ids=torch.cat(categories) if use_categories else None,
            images=normalize_images(torch.cat(images)) if use_images else None,
        )

    def paste_objects(
        self, patches: Tensor, boxes: Tensor, height: int, width: int, *, threshold: float, paste: str
    ) -> tuple[Tensor, Tensor]:
        """Put probabilities back into their photo.

        Args:
            patches: (N, s, s) float32, P(object).
            boxes: (N, 4) [x, y, side, side].
            height: of the photo in pixels.
            width: likewise.
            threshold: of P(object).
            paste: "probability" resizes the probability and compares it then, which gives the sharper outline; "binary"
                resizes the thresholded patch, as published.

        Returns:
            (N, H, W) bool masks and (N, H, W) float32 probabilities, 0 outside of the boxes.
        """
        probabilities = paste_patches(patches, boxes, height, width)
        if paste == "probability":
            return probabilities > threshold, probabilities
        return paste_patches(patches > threshold, boxes, height, width, threshold=0.5), probabilities

    def finish(
        self, results: Sequence[dict[str, Any]], *, batched: bool, output_type: str, return_dict: bool
    ) -> AmodalPipelineOutput | tuple[Any, ...]:
        """The output of a call from one dictionary of tensors (or None) a scene."""
        fields: dict[str, Any] = {}
        for name in results[0] if results else ("amodal_masks", "probabilities", "order"):
            values = [_postprocess(result[name], output_type) for result in results]
            fields[name] = values if batched else values[0]
            if batched and values and all(value is None for value in values):
                fields[name] = None
        self.maybe_free_model_hooks()
        output = AmodalPipelineOutput(**fields)
        return output if return_dict else tuple(fields.values())


def _postprocess(value: Any, output_type: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value) if output_type == "pt" else value
    if value.dtype == torch.bool and value.ndim == 4 and output_type == "pil":
        return [postprocess_masks(samples, output_type) for samples in value]
    if value.dtype == torch.bool and value.ndim == 3:
        return postprocess_masks(value, output_type)
    return value if output_type == "pt" else value.cpu().numpy()
