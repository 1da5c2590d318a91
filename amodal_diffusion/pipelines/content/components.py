"""The components of the content pipeline: a network of this package or an inpainting pipeline of diffusers."""

import copy
import os
from typing import Any

import diffusers
import torch
from torch import nn

from ...hub import HUB_KEYS, read_model_index, resolve_subfolder
from ...models.pcnet_content import PCNetContent
from ..base import SafePipeline
from .inpainting import check_inpainter, load_inpainter

_FOLDER = "inpainter"


class ContentComponents(SafePipeline):
    """Base class of the content pipeline: loading, saving, moving and offloading of whichever component there is.

    Attributes:
        model: `PCNetContent`, or None.
        inpainter: an inpainting pipeline of diffusers, or None.
    """

    model_cpu_offload_seq = "model"
    _optional_components = ["model", "inpainter"]

    model: PCNetContent | None
    inpainter: Any

    def register_components(self, model: Any, inpainter: Any, inpainter_id: str | None) -> None:
        """Check the components and store them; an inpainter that is only named is loaded.

        Raises:
            ValueError, TypeError: naming the component; and as `load_inpainter` and `check_inpainter` say.
        """
        if inpainter_id is not None and not isinstance(inpainter_id, str):
            raise TypeError(f"`inpainter_id` must be a Hub id or the path of a folder, got {inpainter_id!r}.")
        if isinstance(inpainter, str | os.PathLike):
            inpainter_id = os.fspath(inpainter)
        elif inpainter is None and model is None and inpainter_id is not None:
            inpainter = inpainter_id
        if (model is None) == (inpainter is None):
            raise ValueError(
                "Exactly one of `model` (a PCNetContent) and `inpainter` (a diffusers inpainting pipeline) must be "
                f"given, got {'neither' if model is None else 'both'}."
            )
        if isinstance(inpainter, str | os.PathLike):
            inpainter = load_inpainter(inpainter)
        elif inpainter is not None:
            inpainter = check_inpainter(inpainter)
        elif not isinstance(getattr(model, "_orig_mod", model), PCNetContent):  # of torch.compile
            raise TypeError(f"`model` must be a PCNetContent, got {type(model).__name__}.")
        self.register_modules(model=model, inpainter=inpainter)
        self.register_to_config(inpainter_id=inpainter_id if model is None else None)

    @property
    def networks(self) -> list[nn.Module]:
        """The network of this package, where the pipeline has one."""
        return [] if self.model is None else [self.model]

    # Loading, saving, sharing

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Load from a local folder or a Hub id; see `SafePipeline.from_pretrained`.

        `model=...` or `inpainter=...` here (a component; for the inpainter a Hub id or a path as well) takes the place
        of what the folder holds. An inpainter that the folder only names is loaded from where its setting
        `inpainter_id` says. `dtype` and `variant` go for the inpainter too.

        Raises:
            ValueError, FileNotFoundError, OSError: as `SafePipeline.from_pretrained` and `load_inpainter` say.
        """
        hub_options = {key: kwargs.get(key) for key in HUB_KEYS}
        path = resolve_subfolder(pretrained_model_name_or_path, kwargs.pop("subfolder", None), **hub_options)
        index = read_model_index(path, **hub_options)
        options = {"dtype": kwargs.get("dtype", kwargs.get("torch_dtype")), "variant": kwargs.get("variant")}
        elsewhere = {**hub_options, "revision": None}  # the revision is one of our repository
        given = kwargs.get("inpainter")
        if given is not None:
            kwargs.setdefault("model", None)
            if isinstance(given, str | os.PathLike):
                kwargs.update(inpainter=load_inpainter(given, **options, **elsewhere), inpainter_id=os.fspath(given))
            else:
                kwargs.setdefault("inpainter_id", None)
        elif kwargs.get("model") is not None:
            kwargs.update(inpainter=None, inpainter_id=None)
        elif _holds(index, _FOLDER):
            folder = resolve_subfolder(path, _FOLDER, **hub_options)
            kwargs["inpainter"] = load_inpainter(folder, **options, **elsewhere)
        elif not _holds(index, "model"):
            source = kwargs.get("inpainter_id") or index.get("inpainter_id")
            if source is not None:
                kwargs["inpainter"] = load_inpainter(source, **options, **elsewhere)
        if kwargs.get("inpainter") is not None:
            kwargs.pop("variant", None)  # nothing is left to load that could have one
        return super().from_pretrained(path, **kwargs)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        safe_serialization: bool = True,
        *,
        include_inpainter: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Save as `SafePipeline.save_pretrained` does, with the inpainter or with its name alone.

        Args:
            save_directory: folder, made where it is missing.
            safe_serialization: only True: weights are written as safetensors.
            include_inpainter: save the inpainter too, in the folder `inpainter`, several GB. False saves the settings
                and `inpainter_id`, which `from_pretrained` then loads it from. None saves it exactly where the pipeline
                has no such id. Without influence where the pipeline has a `model`.
            kwargs: see `DiffusionPipeline.save_pretrained`.

        Raises:
            ValueError: where the folder would not load again: without the inpainter and without an id, or with one that
                is none of diffusers' own; and as `SafePipeline.save_pretrained` says.
        """
        if self.inpainter is None:
            super().save_pretrained(save_directory, safe_serialization, **kwargs)
            return
        if include_inpainter is None:
            include_inpainter = self.config.inpainter_id is None
        light = copy.copy(self)
        if include_inpainter:
            name = type(self.inpainter).__name__
            if getattr(diffusers, name, None) is not type(self.inpainter):
                raise ValueError(f"`inpainter` cannot be saved: {name} is no class of diffusers, so it would not load.")
            light.register_to_config(inpainter=("diffusers", name), inpainter_id=None)
        elif self.config.inpainter_id is None:
            raise ValueError(
                "`include_inpainter` may be False only where the setting `inpainter_id` says where the inpainter is: "
                "give it when the pipeline is made or loaded."
            )
        else:
            light.register_modules(inpainter=None)
        super(ContentComponents, light).save_pretrained(save_directory, safe_serialization, **kwargs)

    @classmethod
    def from_pipe(cls, pipeline: Any, **kwargs: Any) -> Any:
        """Share the components of another pipeline in memory; their weights keep dtype and device.

        Args:
            pipeline: any diffusers pipeline that `AutoPipelineForInpainting.from_pipe` takes, or one of this class,
                which gives its settings too.
            kwargs: settings as for the class.

        Raises:
            ValueError, TypeError: as the class says.
        """
        if not isinstance(pipeline, cls):
            return cls(inpainter=pipeline, **kwargs)
        _, names = pipeline._get_signature_keys(pipeline)
        settings = {name: pipeline.config[name] for name in names}
        return cls(**{**pipeline.components, **settings, **kwargs})

    # Devices: diffusers sees networks alone, and the inpainter is a pipeline

    @property
    def device(self) -> torch.device:
        """Where the component lies."""
        return super().device if self.inpainter is None else self.inpainter.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the component."""
        return super().dtype if self.inpainter is None else self.inpainter.dtype

    @property
    def _execution_device(self) -> torch.device:
        return super()._execution_device if self.inpainter is None else self.inpainter._execution_device

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Move or convert the component; see `DiffusionPipeline.to`."""
        if self.inpainter is None:
            return super().to(*args, **kwargs)
        self.inpainter.to(*args, **kwargs)
        return self

    def enable_model_cpu_offload(self, *args: Any, **kwargs: Any) -> None:
        """See `DiffusionPipeline.enable_model_cpu_offload`."""
        owner: Any = super() if self.inpainter is None else self.inpainter
        owner.enable_model_cpu_offload(*args, **kwargs)

    def enable_sequential_cpu_offload(self, *args: Any, **kwargs: Any) -> None:
        """See `DiffusionPipeline.enable_sequential_cpu_offload`."""
        owner: Any = super() if self.inpainter is None else self.inpainter
        owner.enable_sequential_cpu_offload(*args, **kwargs)

    def enable_attention_slicing(self, *args: Any, **kwargs: Any) -> None:
        """See `DiffusionPipeline.enable_attention_slicing`."""
        owner: Any = super() if self.inpainter is None else self.inpainter
        owner.enable_attention_slicing(*args, **kwargs)

    def set_progress_bar_config(self, **kwargs: Any) -> None:
        """See `DiffusionPipeline.set_progress_bar_config`; goes for the bar of the inpainter's steps too."""
        super().set_progress_bar_config(**kwargs)
        if self.inpainter is not None:
            self.inpainter.set_progress_bar_config(**kwargs)


def _holds(index: dict[str, Any], name: str) -> bool:
    """Whether a folder holds a component, by its index."""
    value = index.get(name)
    return isinstance(value, list) and bool(value) and value[0] is not None
