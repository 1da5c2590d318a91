"""Runs of methods over a data set, in one process or several."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

from ..arguments.choices import check_choice
from ..metrics.bootstrap import check_bootstrap
from ..pipelines.contexts import warnings_silenced
from .counts import ImageScores, score_sample, skipped_image
from .methods import METHODS, AloneMethod
from .report import GROUP_KINDS, TRUTH_MARK, EvaluationReport, GroupKind
from .samples import ORDER_SOURCES, Method, OrderSource, Sample, check_limit, make_sample
from .summary import summarize

ORDER_BASELINES = ("area-smaller", "y-axis", "hull")


def evaluate_methods(
    dataset: Iterable[Mapping[str, Any]],
    methods: Sequence[Method],
    *,
    order_methods: Sequence[Method | str] = ORDER_BASELINES,
    order_source: OrderSource = "masks",
    occluders_given: bool = True,
    limit: int | None = None,
    on_sample: Callable[[Sample], None] | None = None,
    use_categories: bool = True,
    class_aware: bool = False,
    occlusion_bins: Sequence[float] = (),
    resamples: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
    distributed: bool = False,
    groups: Sequence[GroupKind] = (),
    reference: str | None = None,
) -> EvaluationReport:
    """Score methods on the images of a data set that have amodal ground truth.

    Metrics are those of `amodal_diffusion.metrics`: pooled and mean mIoU, the same outside the modal masks ("inv"),
    pixel accuracy, amodal AP, and order accuracy over related and over all pairs [Z20]. Means are over objects with a
    hidden part. Predicted occluders are compared with the modal masks of all that lies directly in front [Z24].

    Args:
        dataset: rows of `amodal_diffusion.data.amodal_features`, streamed or not.
        methods: rows of the table, e.g. from `load_methods`.
        order_methods: order baselines to add to the order table; names in `METHODS` or methods.
        order_source: "masks" computes the true order from modal and amodal masks; "annotated" takes the data set's
            relations (COCOA's `depth_constraint`).
        occluders_given: False has every object completed alone (`AloneMethod`), as a user with a photo and one mask has
            it: no other mask, order or occluder reaches a method. There is no order to score then; `order_methods` are
            left out.
        limit: number of images to read at most; None reads all.
        on_sample: called with each sample before it is scored, e.g. to show progress.
        use_categories: False withholds the category ids of the data set from the methods, as where a class-conditioned
            pipeline knows another taxonomy; it gets its `unknown_category_id` then.
        class_aware: detections match objects of their own class alone, and AP is the mean over the classes, as for KINS
            in [N21]; False tells no classes apart, as for COCOA there.
        occlusion_bins: ascending edges in [0, 1] of bins (low, high] of the hidden share of an object, for
            `EvaluationReport.by_occlusion` (figure 12 of [Z20]); none leaves it out.
        resamples: data sets drawn from the images for percentile intervals (`bootstrap_intervals`); 0 gives none.
        confidence: of the intervals.
        seed: of the resamples.
        distributed: share the images out to the processes of `accelerate launch` or `torchrun`. Every process must call
            this, and gets the same report, whose metrics are those of one process exactly.
        groups: kinds of `Group` to report: by "source", by "category" (the objects' names), by "hidden" share.
        reference: name of a method; the report then has what each other method has more, with intervals from the same
            resamples for both.

    Raises:
        TypeError: a method that answers with something else than a `Prediction`; a limit, seed or number of resamples
            that is no integer.
        ValueError: for a repeated method name, an unknown order source, a limit below 1, a data set in which no image
            has amodal masks, an image without annotated order where that is the source, a prediction of the wrong
            shape, or, without occluders, a method that predicts no masks; edges, resamples, seed or confidence out of
            range; `class_aware` without `use_categories`; an unknown kind of group; a reference that is none of the
            methods.

    Example:
        >>> import numpy as np
        >>> from amodal_diffusion.evaluation import METHODS, evaluate_methods
        >>> from amodal_diffusion.masks import encode_rle
        >>> whole, front = np.zeros((2, 4, 6), bool)
        >>> whole[:, :4], front[:2, 2:] = True, True
        >>> objects = [
        ...     {"modal_mask": encode_rle(modal), "amodal_mask": encode_rle(amodal), "category_id": None}
        ...     for modal, amodal in ((whole & ~front, whole), (front, front))
        ... ]
        >>> row = {"image_id": 1, "height": 4, "width": 6, "objects": objects}
        >>> report = evaluate_methods([row], [METHODS["raw"], METHODS["convex-refined"]], order_methods=["hull"])
        >>> [metrics["miou_mean"] for metrics in report.completion.values()]
        [0.75, 0.8125]
        >>> report.order["hull"]["order_accuracy"]
        1.0
    """
    check_choice("order_source", order_source, ORDER_SOURCES)
    check_limit(limit)
    if class_aware and not use_categories:
        raise ValueError("`class_aware` needs `use_categories`: AP by class cannot do without the classes.")
    if resamples:
        check_bootstrap(resamples, confidence, seed)
    _check_edges(occlusion_bins)
    unknown = [kind for kind in groups if kind not in GROUP_KINDS]
    if unknown:
        raise ValueError(f"`groups` must be of {', '.join(GROUP_KINDS)}, got {unknown[0]!r}.")
    scored = _distinct(methods, order_methods if occluders_given else ())
    names = [method.name + TRUTH_MARK * getattr(method, "uses_truth", False) for method in scored]
    if reference is not None:
        check_choice("reference", reference, names)
    called = scored if occluders_given else [AloneMethod(method) for method in scored]
    rank, processes = _place() if distributed else (0, 1)
    records: list[ImageScores] = []
    for index, row in _share(_encoded(dataset), limit, rank, processes):
        sample = make_sample(row, order_source=order_source, use_categories=use_categories)
        if sample is None:
            records.append(skipped_image(index))
            continue
        if on_sample is not None:
            on_sample(sample)
        with warnings_silenced():
            records.append(score_sample(index, sample, called, class_aware=class_aware))
    if distributed:
        records = _gather(records)
    # The sums are taken in the order of the data set, so that they round alike however it was shared out.
    records.sort(key=lambda record: record.index)
    return summarize(
        records,
        scored,
        order_source=order_source,
        occluders_given=occluders_given,
        class_aware=class_aware,
        occlusion_bins=occlusion_bins,
        resamples=resamples,
        confidence=confidence,
        seed=seed,
        groups=groups,
        reference=reference,
    )


def _place() -> tuple[int, int]:
    """Rank of this process and number of processes, as their launcher says."""
    from accelerate import PartialState

    state = PartialState()
    return state.process_index, state.num_processes


def _gather(records: list[ImageScores]) -> list[ImageScores]:
    """The records of all processes, in every process."""
    from accelerate.utils import gather_object

    gathered: list[ImageScores] = gather_object(records)
    return gathered


def _share(
    dataset: Iterable[Mapping[str, Any]], limit: int | None, rank: int, processes: int
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Every row of this process, with its place in the data set."""
    if hasattr(dataset, "__getitem__") and isinstance(dataset, Sized):
        count = len(dataset) if limit is None else min(limit, len(dataset))
        yield from ((index, dataset[index]) for index in range(rank, count, processes))
        return
    for index, row in enumerate(dataset):
        if limit is not None and index >= limit:
            return
        if index % processes == rank:
            yield index, row


def _encoded(dataset: Any) -> Any:
    """The data set without decoding its photos, which most methods never look at; a sample decodes its own."""
    datasets = sys.modules.get("datasets")  # where it was never imported, this is none of its data sets
    if datasets is None or "image" not in (getattr(dataset, "features", None) or {}):
        return dataset
    if isinstance(dataset, datasets.IterableDataset):
        return dataset.decode(False)
    return (
        dataset.cast_column("image", datasets.Image(decode=False)) if isinstance(dataset, datasets.Dataset) else dataset
    )


def _check_edges(edges: Sequence[float]) -> None:
    ascending = all(low < high for low, high in zip(edges, edges[1:], strict=False))
    if len(edges) == 1 or not ascending or not all(0 <= edge <= 1 for edge in edges):
        raise ValueError(f"`occlusion_bins` must be at least two ascending edges in [0, 1], got {list(edges)}.")


def _distinct(methods: Sequence[Method], order_methods: Sequence[Method | str]) -> list[Method]:
    """The order baselines that are not among the methods already, then the methods."""
    names = [method.name for method in methods]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"`methods` holds {repeated[0]!r} twice.")
    unknown = [name for name in order_methods if isinstance(name, str) and name not in METHODS]
    if unknown:
        raise ValueError(f"`order_methods` holds {unknown[0]!r}, known names are {', '.join(METHODS)}.")
    extra = [METHODS[item] if isinstance(item, str) else item for item in order_methods]
    return [method for method in extra if method.name not in names] + list(methods)
