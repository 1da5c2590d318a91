"""Methods from their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..arguments.numeric import check_integer
from ..baselines.nearest_mask import NearestMaskBank
from ..pipelines import AmodalPipeline, MaskPipeline, OrderNetPipeline
from ..pipelines.base import SafePipeline
from .methods import METHODS, NEAREST_MASK, MaskBaseline, OrderMethod, PipelineMethod, TrueOrderMethod
from .posterior import posterior_methods
from .samples import Method


def load_methods(
    names: Sequence[str],
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    runtime: str = "torch",
    posterior: int | None = None,
    seed: int = 0,
    nearest_masks: NearestMaskBank | None = None,
    options_if_taken: Mapping[str, Any] | None = None,
    true_order: bool = False,
    **call_options: Any,
) -> list[Method]:
    """Turn names into methods: a registered name, or a folder or Hub id of a pipeline.

    Args:
        names: names in `METHODS`, "nearest-mask", folders of saved pipelines, or Hub ids. An `OrderNetPipeline` is
            compared by its order alone.
        device: device of the pipelines.
        dtype: dtype of the pipelines' weights.
        runtime: what computes, see `SafePipeline.use_runtime`.
        posterior: number of samples; adds the rows of `posterior_methods` for every pipeline that draws samples.
        seed: of these samples.
        nearest_masks: the bank of the method "nearest-mask".
        options_if_taken: passed to each call of the pipelines that take them.
        true_order: add the row "NAME, true order" for every pipeline whose call takes an `order`.
        call_options: passed to each call of each pipeline.

    Raises:
        TypeError: a `posterior` that is no integer.
        ValueError: for no names, a repeated name, one that is neither registered nor a loadable pipeline,
            "nearest-mask" without bank, `posterior` below 1 or where no pipeline draws samples, or `true_order` where
            none takes an order.

    Example:
        >>> [method.name for method in load_methods(["raw", "convex"])]
        ['raw', 'convex']
    """
    if not names:
        raise ValueError("`names` must hold at least one method, got none.")
    if posterior is not None:
        check_integer("posterior", posterior, 1)
    methods: list[Method] = []
    drawn: list[Method] = []
    for name in names:
        if any(method.name == name for method in methods):
            raise ValueError(f"`names` holds {name!r} twice.")
        if name in METHODS:
            methods.append(METHODS[name])
            continue
        if name == NEAREST_MASK:
            if nearest_masks is None:
                raise ValueError(
                    f"method {name!r} needs `nearest_masks`, a bank made from annotations with other photos."
                )
            methods.append(MaskBaseline(name, complete=nearest_masks.complete))
            continue
        known = f"method {name!r} is none of {', '.join((*METHODS, NEAREST_MASK))}"
        if "/" not in name and not Path(name).is_dir():
            raise ValueError(f"{known}, no folder, and no Hub id of the form 'organisation/name'.")
        try:
            pipeline: SafePipeline = AmodalPipeline.from_pretrained(name, dtype=dtype, runtime=runtime)
        except (OSError, ValueError) as error:
            raise ValueError(f"{known}, and loads as no pipeline: {error}") from error
        pipeline.prepare(device)
        if isinstance(pipeline, OrderNetPipeline):
            if call_options:
                raise TypeError(f"OrderNetPipeline takes no `{next(iter(call_options))}`.")
            if pipeline.answers_depth:
                raise ValueError(f"method {name!r} tells who is closer, not who hides whom: see `evaluate_depth`.")
            methods.append(OrderMethod(pipeline, name))
            continue
        if not isinstance(pipeline, MaskPipeline):
            raise ValueError(
                f"{known}, and '{name}' holds `{type(pipeline).__name__}`, which neither completes masks nor orders."
            )
        taken = {key: value for key, value in (options_if_taken or {}).items() if pipeline.takes_option(key)}
        methods.append(PipelineMethod(pipeline, name, **taken, **call_options))
        if true_order and pipeline.takes_option("order"):
            methods.append(TrueOrderMethod(pipeline, f"{name}, true order", **taken, **call_options))
        if posterior is not None and pipeline.takes_option("num_samples"):
            drawn = posterior_methods(pipeline, name, posterior, seed=seed, **taken, **call_options)
            methods += drawn
    if true_order and not any(isinstance(method, TrueOrderMethod) for method in methods):
        raise ValueError("`true_order` is given, but none of the methods takes an order; PCNet-M does.")
    if posterior is not None and not drawn:
        raise ValueError("`posterior` is given, but none of the methods draws samples.")
    return methods
