"""What every pipeline of this package does alike: loading, saving, evaluation mode, batch sizes, progress."""

import os
from contextlib import contextmanager
from typing import Any

from diffusers import DiffusionPipeline
from torch import nn

from ..hub import HUB_KEYS, resolve_subfolder, write_pipeline_file
from .inputs import OUTPUT_TYPES, check_choice, check_integer

# Positions (pixels of the largest maps) in one pass through the network. On a CPU two maps of 256 pixels are what stays
# in cheap memory: larger batches are slower there, smaller ones too.
_POSITIONS_CPU = 2 * 256**2
_POSITIONS_ACCELERATOR = 64 * 256**2


class SafePipeline(DiffusionPipeline):
    """Base class of the pipelines of this package: a folder of safetensors that loads here and by diffusers itself."""

    @property
    def networks(self) -> list[nn.Module]:
        """The networks that this package trains."""
        raise NotImplementedError(f"{type(self).__name__} does not say which networks it has.")

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

    def check_call(self, batch_size: Any, output_type: Any, side: int) -> int:
        """The batch size to use: the caller's, or what suits the device and the side of the network's largest maps."""
        check_choice("output_type", output_type, OUTPUT_TYPES)
        if batch_size is not None:
            return check_integer("batch_size", batch_size, 1)
        positions = _POSITIONS_CPU if self._execution_device.type == "cpu" else _POSITIONS_ACCELERATOR
        return max(1, positions // side**2)

    @contextmanager
    def evaluation_mode(self) -> Any:
        """Batch norm and dropout of the networks as at inference inside of the block, as they were after it."""
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
