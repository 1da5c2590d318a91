"""What all mask pipelines share: loading and saving, cropping, pasting back, the output."""

import os
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from ..hub import HUB_KEYS, resolve_subfolder, write_pipeline_file
from ..image_processor import crop_images, normalize_images, postprocess_masks
from ..masks import crop_boxes, mask_boxes, paste_patches
from .patches import crop_mask_patches
from .pipeline_output import AmodalPipelineOutput
from .scene_inputs import OUTPUT_TYPES, Scene, check_choice, check_integer, check_number, rows_of, to_device

PASTE_RULES = ("probability", "binary")
# Positions (pixels of the largest maps) in one pass through the network. On a CPU two maps of 256 pixels are what stays
# in cheap memory: larger batches are slower there, smaller ones too.
_POSITIONS_CPU = 2 * 256**2
_POSITIONS_ACCELERATOR = 64 * 256**2


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


class MaskPipeline(DiffusionPipeline):
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

    # Loading and saving

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Load from a local folder or a Hub id; see `DiffusionPipeline.from_pretrained`.

        Two differences: `subfolder` names the folder of the pipeline where a folder or repository holds several, and
        only safetensors are read, never pickled weights.

        Raises:
            ValueError: where `use_safetensors` is False.
        """
        if kwargs.pop("use_safetensors", None) is False:
            raise ValueError("`use_safetensors` must be True: pickled weights can run code when they are loaded.")
        hub_options = {key: kwargs.get(key) for key in HUB_KEYS}
        path = resolve_subfolder(pretrained_model_name_or_path, kwargs.pop("subfolder", None), **hub_options)
        return super().from_pretrained(path, use_safetensors=True, **kwargs)

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], safe_serialization: bool = True, **kwargs: Any
    ) -> None:
        """Save the components, `model_index.json` and the `pipeline.py` that lets diffusers load the folder by itself.

        `push_to_hub(repo_id)`, and `push_to_hub=True` here, publish the same files.

        Args:
            save_directory: folder, made where it is missing.
            safe_serialization: only True: weights are written as safetensors.
            kwargs: see `DiffusionPipeline.save_pretrained`.

        Raises:
            ValueError: where `safe_serialization` is False or `save_directory` is a file.
        """
        if not safe_serialization:
            raise ValueError("`safe_serialization` must be True: pickled weights can run code when they are loaded.")
        if os.path.isfile(save_directory):
            raise ValueError(f"`save_directory` must be a folder, but '{os.fspath(save_directory)}' is a file.")
        os.makedirs(save_directory, exist_ok=True)
        write_pipeline_file(save_directory, type(self).__name__)
        super().save_pretrained(os.fspath(save_directory), safe_serialization=True, **kwargs)

    # Steps of a call

    def check_call(self, batch_size: Any, output_type: Any, side: int) -> int:
        """The batch size to use: the caller's, or what suits the device and the side of the network's largest maps."""
        check_choice("output_type", output_type, OUTPUT_TYPES)
        if batch_size is not None:
            return check_integer("batch_size", batch_size, 1)
        positions = _POSITIONS_CPU if self._execution_device.type == "cpu" else _POSITIONS_ACCELERATOR
        return max(1, positions // side**2)

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

    @contextmanager
    def evaluation_mode(self) -> Any:
        """Batch norm and dropout of the mask networks as at inference inside of the block, as they were after it."""
        training = [module for network in self.networks for module in network.modules() if module.training]
        for network in self.networks:
            network.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True

    def progress_bar(self, iterable: Any = None, total: int | None = None) -> Any:
        """As in diffusers, but a bar appears only where the work takes more than three seconds."""
        config = getattr(self, "_progress_bar_config", {})
        self._progress_bar_config = {"delay": 3, "leave": False, **config}
        return super().progress_bar(iterable, total)


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
