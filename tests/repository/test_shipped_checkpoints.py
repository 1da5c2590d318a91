"""The shipped checkpoints still give the figures that docs/figures.md and their cards state, to the digit."""

import json
import re

import pytest

from amodal_diffusion.cli import main as cli
from repository_helpers import ROOT, needs_shared

pytestmark = [pytest.mark.slow, needs_shared]

METRICS = {
    "mIoU pooled": ("completion", "miou_pooled"),
    "inv-mIoU pooled": ("completion", "inv_miou_pooled"),
    "mIoU mean": ("completion", "miou_mean"),
    "inv-mIoU mean": ("completion", "inv_miou_mean"),
    "pixel acc.": ("completion", "pixel_accuracy"),
    "AP": ("completion", "ap"),
    "AP50": ("completion", "ap50"),
    "AP75": ("completion", "ap75"),
    "AP S": ("completion", "ap_small"),
    "AP M": ("completion", "ap_medium"),
    "AP L": ("completion", "ap_large"),
    "AR": ("completion", "ar"),
    "order accuracy": ("order", "order_accuracy"),
    "order, related pairs": ("order", "order_accuracy"),
    "related pairs": ("order", "order_accuracy"),
    "order, all pairs": ("order", "order_accuracy_all"),
    "all pairs": ("order", "order_accuracy_all"),
}
"""Headers of the documents, and where `evaluate --json` has the same."""
LARGE = {"at least 30 px hidden": ("order", "order_accuracy_large")}

METHODS = {"convex hull": "convex", "ConvexR [Z20]": "convex-refined", "area": "area-smaller"}
BASELINES = {"raw", "convex", "convex-refined", "area-smaller", "y-axis", "hull"}


def tables(document):
    """Every table of a text: its header, and its rows as lists of cells."""
    text = (ROOT / document).read_text(encoding="utf-8")
    for block in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE):
        header, _, *rows = ([cell.strip(" *") for cell in line.strip("|\n").split("|")] for line in block.splitlines())
        yield header, rows


def stated(document, number):
    """(method, section, metric, figure) of every cell of the table with this number among those with our metrics."""
    ours = [(header, rows) for header, rows in tables(document) if set(header[1:]) <= METRICS.keys()]
    header, rows = ours[number]
    for label, *cells in rows:
        method = METHODS.get(label, label.split(" (")[0])
        if folder := re.match(r"`(pipelines/[\w-]+)`", label):
            method = folder[1]
        elif label == "this model":
            method = document.removesuffix("/README.md")
        if method != "mean code" and not method.startswith(("pipelines/", *BASELINES)):
            continue  # choices among samples, which take long
        for name, cell in zip(header[1:], cells, strict=True):
            if cell:
                figure, other = re.fullmatch(r"([\d.]+)(?: \((.*)\))?", cell).groups()
                method = METHODS.get(other, other) or method  # of the row's last cells: the order has its own baselines
                yield method, *METRICS[name], figure


@pytest.fixture(scope="module")
def measured(shared_data, tmp_path_factory):
    """Results of `amodal-diffusion evaluate` by whether the occluders are given, each computed once."""
    folder, found = shared_data / "amodal_gt", {}

    def measure(occluders_given):
        if occluders_given not in found:
            shipped = ["pcnet-m", "asbu"] if occluders_given else ["pcnet-m", "amodal-vae", "occamodal"]
            shipped += ["pcnet-m-photo"] if occluders_given else ["pcnet-m-photo", "pcnet-m-photo-256"]
            methods = ["raw", "convex", "convex-refined"] + [f"pipelines/{name}" for name in shipped]
            path = tmp_path_factory.mktemp("results") / "results.json"
            arguments = ["evaluate", "--annotations", folder / "annotations.json", "--images", folder / "images"]
            arguments += ["--methods", ",".join(methods), "--json", path, "--resamples", "0"]
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(ROOT)
                assert cli.main([*map(str, arguments), *([] if occluders_given else ["--no-occluders"])]) == 0
            found[occluders_given] = json.loads(path.read_text(encoding="utf-8"))
        return found[occluders_given]

    return measure


@pytest.mark.parametrize(
    ("document", "number", "occluders_given", "cells"),
    [
        ("docs/figures.md", 0, True, 42),
        ("docs/figures.md", 1, False, 42),
        ("pipelines/pcnet-m/README.md", 0, True, 20),
        ("pipelines/pcnet-m/README.md", 1, True, 28),
        ("pipelines/pcnet-m/README.md", 2, True, 8),
        ("pipelines/asbu/README.md", 0, True, 30),
        ("pipelines/occamodal/README.md", 0, False, 24),
    ],
)
def test_stated_figures(measured, document, number, occluders_given, cells):
    results = measured(occluders_given)
    figures = list(stated(document, number))
    assert len(figures) == cells
    wrong = [
        (method, metric, figure, ours)
        for method, section, metric, figure in figures
        if f"{100 * (ours := results[section][method][metric]):.1f}" != figure
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("document", "occluders_given"),
    [("docs/figures.md", True), ("pipelines/asbu/README.md", True), ("pipelines/occamodal/README.md", False)],
)
def test_stated_figures_on_rendered_rooms(document, occluders_given, tmp_path, monkeypatch):
    """The first table between the marks; its figures have intervals behind them, which depend on the same counts."""
    text = (ROOT / document).read_text(encoding="utf-8")
    block = text.split("<!-- rooms:begin -->")[1].split("<!-- rooms:end -->")[0]
    header, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", block, re.MULTILINE)
    )
    model = document.removesuffix("/README.md") if document.startswith("pipelines/") else "pipelines/pcnet-m"
    (row,) = [row for row in rows[:7] if row[0] in ("this model", f"`{model}`")]
    monkeypatch.chdir(ROOT)
    command = ["evaluate", "--annotations", "datasets/rooms-amodal", "--split", "test", "--methods", model]
    command += [*([] if occluders_given else ["--no-occluders"]), "--resamples", "0", "--json", tmp_path / "a.json"]
    assert cli.main([str(part) for part in command]) == 0
    results = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    for name, cell in zip(header[1:], row[1:], strict=True):
        section, metric = (METRICS | LARGE)[name]
        assert cell.split(" (")[0] == f"{100 * results[section][model][metric]:.1f}", (name, cell)
