"""The methods of a published table, and the table with our metrics beside the published ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..detections import DetectedMethod, DetectionResults, ResultsMethod
from ..methods import AloneMethod, OrderMethod, PipelineMethod
from ..posterior import PosteriorMethod, PosteriorSamples, TrueBoxMethod
from ..report import TRUTH_MARK, Cell, EvaluationReport, Table, format_markdown, format_table, json_values
from ..samples import Method
from .published import KINS_TEST, PaperTable, PublishedRow

DIFFERS = " ≠"
"""Stands behind the headers of our columns where they were not computed as the published ones."""

_SYSTEMS = {
    "PCNetMaskPipeline": "pcnet-m",
    "ASBUPipeline": "asbu",
    "AmodalVAEPipeline": "amodal-vae",
    "OccAmodalPipeline": "occamodal",
    "SDAmodalPipeline": "sdamodal",
    "SingleStagePipeline": "single-stage",
}
_NONE = "–"
_NO_SEGMENTER = (
    "Rows of methods are completed masks, of the true modal masks and ranked alike, or of those of `--detections`; the "
    "paper's are detections of a Mask R-CNN trained on masks of the named kind. Give such as `--results`."
)


@dataclass(frozen=True)
class TableMethod:
    """A method and its row in a published table, "" where it has none; `learned` where it has weights.

    Example:
        >>> from amodal_diffusion.evaluation import METHODS
        >>> TableMethod("raw", METHODS["raw"]).learned
        False
    """

    role: str
    method: Method
    learned: bool = False


def table_methods(
    table: PaperTable,
    methods: Sequence[Method],
    *,
    detections: DetectionResults | None = None,
    results: Sequence[ResultsMethod] = (),
    num_samples: int = 20,
    seed: int = 0,
    roles: Mapping[str, str] | None = None,
) -> list[TableMethod]:
    """What a table compares: each method as often as it has rows.

    Args:
        table: of `PAPER_TABLES`.
        methods: from `load_methods`, the table's baselines among them; pipelines may stand in several rows.
        detections: predicted modal masks in place of the true ones; needed where the table `needs` them.
        results: amodal masks of segmenters, for the tables of AP; named after a role ("gt", "pcnet-m", ...) they stand
            in its row.
        num_samples: K of the choices among samples.
        seed: of the samples.
        roles: name of a method → the row it stands in, where its kind alone does not tell: what it was trained with,
            e.g. {"runs/a": "occamodal-mp3d"}.

    Raises:
        ValueError: a table that is not of methods; `roles` that it does not have, or where it gives a method several
            rows; `detections` or `results` for a table that takes none, or none where it needs them; a table of samples
            or of orders without a method that has them.

    Example:
        >>> from amodal_diffusion.evaluation import METHODS, PAPER_TABLES
        >>> table = PAPER_TABLES["z20-2"]
        >>> [entry.role for entry in table_methods(table, [METHODS[name] for name in table.baselines])]
        ['raw', 'convex-refined']
    """
    if not table.has_methods:
        raise ValueError(f"table {table.name} is not of methods, but of {table.needs}; see `FiguresReport`.")
    _check_roles(table, roles or {})
    if table.needs == "detections" and detections is None:
        raise ValueError(f"table {table.name} needs `detections`: predicted modal masks as COCO results.")
    if detections is not None and not (table.is_precision or table.needs == "detections"):
        raise ValueError(f"table {table.name} takes no `detections`: its modal masks are the true ones.")
    if results and not table.is_precision:
        raise ValueError(f"table {table.name} takes no `results`: it has no AP.")
    expand = _EXPANSIONS[table.roles]
    found = [entry for method in methods for entry in expand(method, num_samples, seed)]
    if roles:  # one entry a method, as checked above
        named = zip(found, methods, strict=True)
        found = [replace(entry, role=roles.get(method.name, entry.role)) for entry, method in named]
    if detections is not None:
        match = not table.is_precision
        found = [replace(entry, method=DetectedMethod(entry.method, detections, match=match)) for entry in found]
    found += [TableMethod(result.name, result) for result in results]
    if not found:
        raise ValueError(f"table {table.name} has no baselines; give `methods`.")
    if table.roles == "posterior" and not any(entry.role.endswith("-truth") for entry in found):
        raise ValueError(f"table {table.name} needs a pipeline that draws samples, and none of the methods does.")
    return found


def _check_roles(table: PaperTable, roles: Mapping[str, str]) -> None:
    known = [row.role for row in table.rows if row.role]
    for role in roles.values():
        if role not in known:
            raise ValueError(f"`roles` must be rows of table {table.name}: {', '.join(known)}; got {role!r}.")
    if roles and table.roles not in _ONE_ROW:
        raise ValueError(f"table {table.name} takes no `roles`: it gives a pipeline several rows itself.")


def _role_of(method: Method) -> str:
    """The baseline's name, or the system of a pipeline, as far as the pipeline shows it."""
    if isinstance(method, OrderMethod):
        return "order-net-image" if method.pipeline.needs_image else "order-net-masks"
    if not isinstance(method, PipelineMethod):
        return method.name
    system = _SYSTEMS.get(type(method.pipeline).__name__, "")
    if system == "sdamodal" and len(method.pipeline.decoder.config.feature_channels) == 1:
        system = "sdamodal-one-scale"
    if system == "single-stage" and not method.pipeline.needs_image:
        system = "supervised"
    if system == "amodal-vae" and method.pipeline.needs_image:
        system = "rgb-amodal-vae"
    networks = (getattr(method.pipeline, name) for name in method.pipeline.mask_networks)
    skips = [network.config.get("final_skip", True) for network in networks]
    return system if all(skips) or not system else f"{system}-no-skip"


def _plain(method: Method, num_samples: int, seed: int) -> list[TableMethod]:
    return [TableMethod(_role_of(method), method, learned=isinstance(method, PipelineMethod | OrderMethod))]


def _grounding(method: Method, num_samples: int, seed: int) -> list[TableMethod]:
    (plain,) = _plain(method, num_samples, seed)
    if not isinstance(method, PipelineMethod) or not method.pipeline.takes_option("order"):
        return [plain]
    options = {**method.call_options, "occluder_rule": "neighbours", "return_order": False}
    ungrounded = PipelineMethod(method.pipeline, f"{method.name}, NOG", **options)
    return [replace(plain, role=f"{plain.role}-nog", method=ungrounded), plain]


def _alone(method: Method, num_samples: int, seed: int) -> list[TableMethod]:
    (plain,) = _plain(method, num_samples, seed)
    given = [plain] if getattr(getattr(method, "pipeline", None), "needs_occluders", True) else []
    return [*given, replace(plain, role=f"{plain.role}-alone", method=AloneMethod(method, f"{method.name}, alone"))]


def _unaided(method: Method, num_samples: int, seed: int) -> list[TableMethod]:
    (plain,) = _plain(method, num_samples, seed)
    return [replace(plain, method=AloneMethod(method, f"{method.name}, alone"))]


def _nog(method: Method, num_samples: int, seed: int) -> list[TableMethod]:
    # [L20] compares with De-occlusion without the order, since Amodal-VAE knows of no occluder either.
    return _grounding(method, num_samples, seed)[:1]


def _box(method: Method, num_samples: int, seed: int) -> list[TableMethod]:
    (first,) = _nog(method, num_samples, seed)
    if not isinstance(method, PipelineMethod) or not method.pipeline.takes_option("amodal_box"):
        return [first]
    boxed = TrueBoxMethod(method.pipeline, f"{method.name}, true box", **method.call_options)
    return [first, replace(first, role=f"{first.role}-box", method=boxed)]


def _posterior(method: Method, num_samples: int, seed: int) -> list[TableMethod]:
    (plain,) = _plain(method, num_samples, seed)
    if not isinstance(method, PipelineMethod) or not method.pipeline.takes_option("num_samples"):
        return [plain]
    samples = PosteriorSamples(method.pipeline, num_samples, seed=seed, **method.call_options)
    visible = PosteriorMethod(samples, f"{method.name}, best of {num_samples} by visible", "visible")
    truth = PosteriorMethod(samples, f"{method.name}, best of {num_samples} by truth", "truth")
    return [
        plain,
        replace(plain, role=f"{plain.role}-visible", method=visible),
        replace(plain, role=f"{plain.role}-truth", method=truth),
    ]


_EXPANSIONS: dict[str, Callable[[Method, int, int], list[TableMethod]]] = {
    "plain": _plain,
    "grounding": _grounding,
    "nog": _nog,
    "alone": _alone,
    "unaided": _unaided,
    "box": _box,
    "posterior": _posterior,
}
_ONE_ROW = ("plain", "nog", "unaided")
"""Kinds of tables in which each method has one row."""


@dataclass
class TableReport:
    """A published table with our metrics.

    Args:
        table: of `PAPER_TABLES`.
        methods: from `table_methods`.
        evaluation: of `evaluate_methods` on these methods.
        data_name: what the data set is called in the text, e.g. its file.
        differences: what was done otherwise in this run, beside what the table itself says.

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
        >>> from amodal_diffusion.evaluation import PAPER_TABLES, table_methods
        >>> table = PAPER_TABLES["z20-2"]
        >>> entries = table_methods(table, [METHODS["raw"]])
        >>> report = evaluate_methods([row], [entry.method for entry in entries], order_methods=())
        >>> text = TableReport(table, entries, report, "corner.json").to_text()
        >>> print(text.splitlines()[0])
        [Z20] Table 2. Amodal completion from true modal masks: mIoU, percent
    """

    table: PaperTable
    methods: Sequence[TableMethod]
    evaluation: EvaluationReport
    data_name: str
    differences: Sequence[str] = field(default_factory=list)

    def all_differences(self) -> list[str]:
        """All in which our columns differ from the published protocol, the data set first."""
        found = [*self._data_difference(), *self.differences, *self.table.differences]
        sections = {section for section, _, _ in self.table.metrics}
        if "order" in sections and self.evaluation.order_source == "masks":
            found.append("The true order is computed from the masks; COCOA annotates it (`--order-source annotated`).")
        if self.table.is_precision and not self.evaluation.class_aware and KINS_TEST in self.table.data:
            found.append("Classes are not told apart; for KINS they are (`--class-aware`).")
        if self.table.is_precision and any(not isinstance(e.method, ResultsMethod) for e in self.methods):
            found.append(_NO_SEGMENTER)
        if any(entry.learned for entry in self.methods):
            found.append(
                "Rows of pipelines have the weights of the folder or id that they name, not those of the paper."
            )
        return found

    def to_text(self) -> str:
        """The table for a terminal."""
        return self._render(format_table)

    def to_markdown(self) -> str:
        """The table in Markdown."""
        return self._render(format_markdown)

    def to_dict(self) -> dict[str, Any]:
        """The table, and the whole evaluation, as plain values that JSON takes."""
        published = [
            {"row": row.label, "role": row.role, "values": [float(v) if v else None for v in row.values]}
            for row in self.table.rows
        ]
        return {
            "table": self.table.name,
            "source": self.table.source,
            "title": self.table.title,
            "data": self.data_name,
            "published_columns": list(self.table.columns),
            "published": published,
            "ours": [{"role": role, "method": name, **self._values(name)} for role, name in self._names()],
            "differences": self.all_differences(),
            "notes": list(self.table.notes),
            "evaluation": self.evaluation.to_dict(),
        }

    def to_json(self) -> str:
        """The dictionary of `to_dict` as indented JSON with a final newline."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    def _names(self) -> list[tuple[str, str]]:
        """Role and name in the report of each method that has one of the table's metrics."""
        named = []
        for entry in self.methods:
            name = entry.method.name + (TRUTH_MARK if getattr(entry.method, "uses_truth", False) else "")
            if any(name in getattr(self.evaluation, section) for section, _, _ in self.table.metrics):
                named.append((entry.role, name))
        return named

    def _values(self, name: str) -> dict[str, Any]:
        metrics, intervals = {}, {}
        for section, metric, _ in self.table.metrics:
            row = getattr(self.evaluation, section).get(name)
            if row is not None and metric in row:
                metrics[metric] = row[metric]
                interval = self.evaluation.intervals.get(section, {}).get(name, {}).get(metric)
                if interval is not None:
                    intervals[metric] = interval
        return {"metrics": json_values(metrics), "intervals": json_values(intervals)}

    def _render(self, table: Table) -> str:
        counts = self.evaluation.counts
        title = f"{self.table.source}. {self.table.title}, percent"
        ours = (
            f"Ours: {self.data_name}, {counts['objects']} objects ({counts['occluded']} with a hidden part) in "
            f"{counts['images']} images"
        )
        parts = [title, ours + "."]
        parts.append(table(*(self._stacked() if self.table.stacked else self._side_by_side())))
        differences = self.all_differences()
        if differences:
            numbered = [f"{number}. {text}" for number, text in enumerate(differences, start=1)]
            parts.append("\n".join([f"{DIFFERS.strip()} Not as published:", "", *numbered]))
        parts += self.table.notes
        return "\n\n".join([*parts, *self.evaluation.notes(table)]) + "\n"

    def _side_by_side(self) -> tuple[list[str], list[list[Cell]]]:
        """Published columns, then ours; a row of the paper as often as we have methods for it, at least once."""
        mark = DIFFERS if self.all_differences() else ""
        header = [self.table.source, *self.table.columns, "ours", *(text + mark for _, _, text in self.table.metrics)]
        names = self._names()
        rows: list[list[Cell]] = []
        for row in self.table.rows:
            found = [name for role, name in names if role and role == row.role]
            rows += [self._row(row, name) for name in found] or [self._row(row, None)]
        roles = {row.role for row in self.table.rows if row.role}
        other = PublishedRow("", ("",) * len(self.table.columns))
        rows += [self._row(other, name) for role, name in names if role not in roles]
        return header, rows

    def _row(self, row: PublishedRow, name: str | None) -> list[Cell]:
        return [row.label, *(value or _NONE for value in row.values), name or _NONE, *self._cells(name)]

    def _stacked(self) -> tuple[list[str], list[list[Cell]]]:
        """Published rows, then ours in the same columns."""
        rows: list[list[Cell]] = [[row.label, *(value or _NONE for value in row.values)] for row in self.table.rows]
        mark = DIFFERS if self.all_differences() else ""
        rows += [[f"ours: {name}{mark}", *self._cells(name)] for _, name in self._names()]
        return [self.table.source, *self.table.columns], rows

    def _cells(self, name: str | None) -> list[Cell]:
        return [
            self.evaluation.cell(section, name, metric)
            if name is not None and name in getattr(self.evaluation, section)
            else _NONE
            for section, metric, _ in self.table.metrics
        ]

    def _data_difference(self) -> list[str]:
        counts, sources = self.evaluation.counts, self.evaluation.sources
        images = counts["images"] + counts["skipped"]
        for data in self.table.data:
            if data.has(images) and any(data.source in source.lower() for source in sources):
                return []
        names = [str(data) for data in self.table.data]
        text = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
        return [f"Other data: {self.data_name}, {images:,} image{'s' * (images != 1)}; published: {text}."]
