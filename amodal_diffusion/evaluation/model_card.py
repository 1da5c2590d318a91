"""Metrics of an evaluation in the metadata of model cards, on disk or on the Hub."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData, metadata_update
from huggingface_hub.repocard_data import eval_results_to_model_index

from ..files import atomic_file
from .report import EvaluationReport

_NAMES = {
    "completion": {
        "miou_pooled": "mIoU, pooled",
        "inv_miou_pooled": "inv-mIoU, pooled",
        "miou_mean": "mIoU, mean over objects with a hidden part",
        "inv_miou_mean": "inv-mIoU, mean over objects with a hidden part",
        "ap": "amodal AP",
    },
    "order": {
        "order_accuracy": "order accuracy, related pairs",
        "order_accuracy_large": "order accuracy, related pairs with at least 30 px hidden",
    },
    "occluders": {"iou_pooled": "IoU of the occluders, pooled"},
}


def evaluation_results(report: EvaluationReport, method: str, *, data_name: str, label: str = "") -> list[EvalResult]:
    """The main metrics of a method as entries of a model card, in percent with one decimal.

    The ends of their intervals are entries of their own, so that a later run can replace them.

    Args:
        report: of `evaluate_methods`.
        method: its name in the report, without the mark of a method that looks at the truth: such metrics are not
            the model's.
        data_name: name of the data set.
        label: what tells rows of the same model apart, e.g. "no order"; it stands behind the name of the metric.

    Raises:
        KeyError: the report has no such method.

    Example:
        >>> from amodal_diffusion.evaluation import EvaluationReport
        >>> report = EvaluationReport({"pcnet-m": {"miou_pooled": 0.9, "ap": 0.889}}, {}, {}, {})
        >>> results = evaluation_results(report, "pcnet-m", data_name="COCOA")
        >>> [(entry.metric_name, entry.metric_value) for entry in results]
        [('mIoU, pooled', 90.0), ('amodal AP', 88.9)]
    """
    if not any(method in getattr(report, section) for section in _NAMES):
        raise KeyError(f"the report has no method {method!r}")
    found = []
    for section, names in _NAMES.items():
        metrics = getattr(report, section).get(method, {})
        intervals = report.intervals.get(section, {}).get(method, {})
        for metric, name in names.items():
            value = metrics.get(metric, math.nan)
            low, high = intervals.get(metric, (math.nan, math.nan))
            title = f"{name} ({label})" if label else name
            sure = f"{title}, {100 * report.confidence:g} % interval"
            entries = (
                (metric, title, value),
                (f"{metric}_low", f"{sure}, low", low),
                (f"{metric}_high", f"{sure}, high", high),
            )
            found += [_entry(kind, text, number, data_name) for kind, text, number in entries if not math.isnan(number)]
    return found


def _entry(kind: str, name: str, value: float, data_name: str) -> EvalResult:
    return EvalResult(
        task_type="image-segmentation",
        task_name="Amodal completion",
        dataset_type=data_name,
        dataset_name=data_name,
        metric_type=kind,
        metric_name=name,
        metric_value=round(100 * value, 1),
    )


def update_model_card(model: str, results: Sequence[EvalResult], *, token: str | None = None) -> str:
    """Write metrics into the card of a model, in the place of those of the same metric and data set.

    Args:
        model: folder of a pipeline, whose README.md is written without network and made where it lacks; or a Hub id,
            whose card is updated by a commit.
        results: from `evaluation_results`.
        token: access token for the Hub; the stored one where None.

    Returns:
        The path of the card, or the URL of the commit.

    Raises:
        ValueError: no results, or a card whose metadata cannot be read.

    Example:
        >>> import tempfile
        >>> from amodal_diffusion.evaluation import EvaluationReport
        >>> report = EvaluationReport({"pcnet-m": {"miou_pooled": 0.9}}, {}, {}, {})
        >>> results = evaluation_results(report, "pcnet-m", data_name="COCOA")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     card = ModelCard.load(update_model_card(folder, results))
        >>> card.data.eval_results[0].metric_value
        90.0
    """
    if not results:
        raise ValueError(f"there are no metrics to write into the card of {model}.")
    folder = Path(model)
    if not folder.is_dir():
        index = eval_results_to_model_index(model.rpartition("/")[2], list(results))
        return metadata_update(
            model, {"model-index": index}, overwrite=True, token=token, commit_message="Add evaluation results"
        )
    path = folder / "README.md"
    try:
        card = ModelCard.load(path) if path.is_file() else ModelCard(f"---\n---\n\n# {folder.resolve().name}\n")
    except ValueError as error:
        raise ValueError(f"{path}: its metadata cannot be read: {error}") from error
    data: ModelCardData = card.data  # type: ignore[assignment]  # declared as that of any card
    data.model_name = data.model_name or folder.resolve().name
    data.eval_results = merge_results(data.eval_results or [], results)
    with atomic_file(path) as temporary:
        card.save(temporary)
    return str(path)


def merge_results(old: Sequence[EvalResult], new: Sequence[EvalResult]) -> list[EvalResult]:
    """The old entries with the values of the new ones that say the same, then the others of the new.

    Example:
        >>> fields = {"task_type": "image-segmentation", "dataset_type": "cocoa", "dataset_name": "COCOA"}
        >>> old, new = (EvalResult(**fields, metric_type="ap", metric_value=value) for value in (50.0, 60.0))
        >>> [entry.metric_value for entry in merge_results([old], [new])]
        [60.0]
    """
    merged = list(old)
    for result in new:
        same = [index for index, entry in enumerate(merged) if entry.is_equal_except_value(result)]
        if same:
            merged[same[0]] = result
        else:
            merged.append(result)
    return merged
