"""The one entry point to all pipelines."""

import os
from typing import Any

from ..hub import HUB_KEYS, read_model_index, resolve_subfolder
from .completion.amodal_vae import AmodalVAEPipeline
from .completion.asbu import ASBUPipeline
from .completion.mask_pipeline import MaskPipeline
from .completion.occamodal import OccAmodalPipeline
from .completion.pcnet_mask import PCNetMaskPipeline
from .sdamodal.pipeline import SDAmodalPipeline

OTHERS = ("ContentPipeline", "ScenePipeline")
"""Pipelines of this package that take another call, so that they are loaded by their own names."""

PIPELINES: dict[str, type[MaskPipeline]] = {
    "AmodalVAEPipeline": AmodalVAEPipeline,
    "ASBUPipeline": ASBUPipeline,
    "OccAmodalPipeline": OccAmodalPipeline,
    "PCNetMaskPipeline": PCNetMaskPipeline,
    "SDAmodalPipeline": SDAmodalPipeline,
}


class AmodalPipeline:
    """Loads any pipeline of this package: reads `model_index.json` and returns an object of the class that it names.

    It cannot be made itself; use `AmodalPipeline.from_pretrained`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(
            "`AmodalPipeline` cannot be made directly: use `AmodalPipeline.from_pretrained(folder_or_hub_id)`."
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Load a saved pipeline.

        Args:
            pretrained_model_name_or_path: a local folder or a Hub id such as "organisation/name".
            kwargs: passed on to the `from_pretrained` of the pipeline: `dtype`, `revision`, `subfolder`, `cache_dir`,
                `token`, `local_files_only`, `variant`, components such as `model=...`, or settings of the pipeline such
                as `mask_threshold=...`.

        Returns:
            A `MaskPipeline`, in evaluation mode.

        Raises:
            FileNotFoundError: where there is no such folder, or it holds no `model_index.json`.
            ValueError: where the index is broken, or names a pipeline that is not of this package.
            OSError: where the Hub does not give the files.
        """
        hub_options = {key: kwargs.get(key) for key in HUB_KEYS}
        path = resolve_subfolder(pretrained_model_name_or_path, kwargs.pop("subfolder", None), **hub_options)
        class_name = read_model_index(path, **hub_options)["_class_name"]
        if class_name in OTHERS:
            raise ValueError(
                f"'{path}' holds a `{class_name}`, which completes no masks: load it by `{class_name}.from_pretrained`."
            )
        if class_name not in PIPELINES:
            raise ValueError(
                f"'{path}' holds a `{class_name}`, which is no pipeline of amodal_diffusion; "
                f"these are {', '.join(sorted(PIPELINES))}."
            )
        return PIPELINES[class_name].from_pretrained(path, **kwargs)
