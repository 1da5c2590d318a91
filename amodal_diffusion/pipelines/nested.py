"""Pipelines whose networks are those of other pipelines, which diffusers' methods for memory do not look into."""

from typing import Any

from .base import SafePipeline


class NestedPipeline(SafePipeline):
    """What diffusers does to the networks of a pipeline is done to those of the pipelines in it, too.

    diffusers offloads, slices and frees components that are networks; one that is a pipeline it passes over in silence.

    Example:
        >>> from amodal_diffusion import ContentPipeline, PCNetMask, PCNetMaskPipeline, ScenePipeline
        >>> mask_pipeline = PCNetMaskPipeline(PCNetMask((2, 4), sample_size=16))
        >>> pipe = ScenePipeline(mask_pipeline, ContentPipeline(filler="smooth"))
        >>> pipe.enable_model_cpu_offload(device="cpu")
        >>> hasattr(mask_pipeline.model, "_hf_hook")
        True
        >>> pipe.remove_all_hooks()
        >>> hasattr(mask_pipeline.model, "_hf_hook")
        False
    """

    @property
    def pipelines(self) -> list[Any]:
        """The pipelines that hold the networks; none where this one holds them itself."""
        raise NotImplementedError(f"{type(self).__name__} does not say which pipelines it has.")

    def _hand_on(self, name: str, *args: Any, **kwargs: Any) -> None:
        for owner in self.pipelines or [super()]:
            getattr(owner, name)(*args, **kwargs)

    def enable_model_cpu_offload(self, *args: Any, **kwargs: Any) -> None:
        """Keep networks in main memory while they do not compute; see `DiffusionPipeline`."""
        self._hand_on("enable_model_cpu_offload", *args, **kwargs)

    def enable_sequential_cpu_offload(self, *args: Any, **kwargs: Any) -> None:
        """Keep each layer in main memory while it does not compute; see `DiffusionPipeline`."""
        self._hand_on("enable_sequential_cpu_offload", *args, **kwargs)

    def enable_group_offload(self, *args: Any, **kwargs: Any) -> None:
        """Keep groups of layers in main memory while they do not compute; see `DiffusionPipeline`."""
        self._hand_on("enable_group_offload", *args, **kwargs)

    def maybe_free_model_hooks(self) -> None:
        """Bring offloaded networks back to main memory; see `DiffusionPipeline`."""
        self._hand_on("maybe_free_model_hooks")

    def remove_all_hooks(self) -> None:
        """Offload no longer; see `DiffusionPipeline`."""
        self._hand_on("remove_all_hooks")

    def reset_device_map(self) -> None:
        """Forget what `device_map` said; see `DiffusionPipeline`."""
        self._hand_on("reset_device_map")
        self.hf_device_map = None

    def set_attention_slice(self, slice_size: Any) -> None:
        """What `enable_attention_slicing` and `disable_attention_slicing` end with; see `DiffusionPipeline`."""
        self._hand_on("set_attention_slice", slice_size)

    def set_use_memory_efficient_attention_xformers(self, valid: bool, attention_op: Any = None) -> None:
        """What `enable_xformers_memory_efficient_attention` and its opposite end with; see `DiffusionPipeline`."""
        self._hand_on("set_use_memory_efficient_attention_xformers", valid, attention_op)
