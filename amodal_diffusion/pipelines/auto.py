"""The one entry point to all pipelines."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from ..hub import HUB_KEYS, find_pipeline_folder
from .base import SafePipeline
from .registry import find_pipeline, list_pipelines

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from .completion.mask_pipeline import MaskPipeline

    # Which class a folder holds is in the folder. A variable that is declared as another pipeline decides; without one
    # it is a mask pipeline.
    AnyPipeline = TypeVar("AnyPipeline", bound=SafePipeline, default=MaskPipeline)


class AmodalPipeline:
    """Loads any pipeline of this package: reads `model_index.json` and returns an object of the class that it names.

    It cannot be made itself; use `AmodalPipeline.from_pretrained`. `list_pipelines` has the names of the classes.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from amodal_diffusion import PCNetMask, PCNetMaskPipeline
        >>> with TemporaryDirectory() as folder:
        ...     PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16)).save_pretrained(folder)
        ...     type(AmodalPipeline.from_pretrained(folder)).__name__
        'PCNetMaskPipeline'
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(
            "`AmodalPipeline` cannot be made directly: use `AmodalPipeline.from_pretrained(folder_or_hub_id)`."
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> AnyPipeline:  # type: ignore[type-var]
        """Load a saved pipeline.

        Type checkers take the result for a `MaskPipeline`, which it is but for the folders of a `ContentPipeline` or a
        `ScenePipeline`. For these, declare the variable (`pipe: ScenePipeline = AmodalPipeline.from_pretrained(...)`),
        or load by the `from_pretrained` of the class, which checks that the folder holds one.

        Args:
            pretrained_model_name_or_path: a local folder or a Hub id such as "organisation/name".
            kwargs: passed on to the `from_pretrained` of the pipeline: `dtype`, `runtime`, `revision`, `subfolder`,
                `cache_dir`, `token`, `local_files_only`, `variant`, components such as `model=...`, or settings of the
                pipeline such as `mask_threshold=...`.

        Returns:
            A pipeline of the class that the folder names, in evaluation mode.

        Raises:
            FileNotFoundError: where there is no such folder, or it holds no `model_index.json`.
            ValueError: where the index is broken, or names a pipeline that is not of this package.
            OSError: where the Hub does not give the files.
        """
        hub_options = {key: kwargs.get(key) for key in HUB_KEYS}
        folder = find_pipeline_folder(pretrained_model_name_or_path, kwargs.pop("subfolder", None), **hub_options)
        pipeline_class = find_pipeline(folder.class_name)
        if pipeline_class is None:
            raise ValueError(
                f"'{folder.place}' holds `{folder.class_name}`, which is no pipeline of amodal_diffusion; "
                f"these are {', '.join(list_pipelines())}."
            )
        return cast("AnyPipeline", pipeline_class.from_folder(folder, **kwargs))

    @classmethod
    def from_pipe(cls, pipeline: AnyPipeline, **kwargs: Any) -> AnyPipeline:
        """A pipeline with the components of another one in memory, and other settings.

        Args:
            pipeline: a pipeline of this package.
            kwargs: components and settings by name, which take the place of those of `pipeline`; and `dtype`, which
                converts the networks.

        Returns:
            A pipeline of the same class. Its components are the same objects, so no weights are copied, and a `dtype`
            is then that of `pipeline`, too; see `SafePipeline.from_pipe`.

        Raises:
            TypeError: no pipeline of this package.

        Example:
            >>> from amodal_diffusion import PCNetMask, PCNetMaskPipeline
            >>> pipe = PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16))
            >>> other = AmodalPipeline.from_pipe(pipe, mask_threshold=0.3)
            >>> other.model is pipe.model, other.config.mask_threshold
            (True, 0.3)
        """
        if not isinstance(pipeline, SafePipeline):
            raise TypeError(
                f"`pipeline` must be a pipeline of amodal_diffusion, got {type(pipeline).__name__}; the components "
                "of one of diffusers are shared by `SDAmodalPipeline.from_pipe` and `ContentPipeline.from_pipe`."
            )
        return type(pipeline).from_pipe(pipeline, **kwargs)
