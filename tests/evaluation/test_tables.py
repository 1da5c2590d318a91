"""The tables of the papers: published numbers, our metrics beside them, and what is marked as different."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion import (
    AmodalVAE,
    AmodalVAEPipeline,
    ASBUPipeline,
    ASBUPredictor,
    OccAmodalPipeline,
    OrderNetPipeline,
    PCNetMask,
    PCNetMaskPipeline,
    SDAmodalPipeline,
    SingleStagePipeline,
)
from amodal_diffusion.data import DatasetStatistics, read_annotations
from amodal_diffusion.data.preferences import Preference
from amodal_diffusion.evaluation import (
    METHODS,
    OCCLUSION_BINS,
    PAPER_TABLES,
    CurveReport,
    DetectionResults,
    PipelineMethod,
    ResultsMethod,
    TableReport,
    draw_occlusion_curves,
    evaluate_methods,
    load_methods,
    preferences_report,
    statistics_report,
    table_methods,
)
from data_helpers import cocoa_pairs
from diffusion_helpers import tiny_mask_decoder
from photo_helpers import tiny_occamodal, tiny_order_net, tiny_predictor
from repository_helpers import ROOT

HEIGHT, WIDTH = 24, 32


def make_content(images=3):
    """Two squares in each image: object 2 hides a growing part of object 1."""
    pairs = []
    for index in range(1, images + 1):
        whole, front = np.zeros((2, HEIGHT, WIDTH), bool)
        whole[4:20, 4:20], front[8:16, 20 - 2 * index : 30] = True, True
        pairs.append((whole, front))
    return cocoa_pairs(pairs)


@pytest.fixture(scope="module")
def dataset():
    return list(read_annotations(make_content()))


@pytest.fixture(scope="module")
def results():
    """Predicted modal masks of the first objects of the first two images, exact."""
    rows = make_content(2)["annotations"]
    found = [
        {"image_id": row["image_id"], "segmentation": row["regions"][0]["visible_mask"], "score": 0.9} for row in rows
    ]
    return DetectionResults({str(r["image_id"]): [{**r, "category_id": 1}] for r in found})


@pytest.fixture(scope="module")
def pcnet():
    torch.manual_seed(0)
    return PipelineMethod(PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16)), "ours/pcnet")


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    model = AmodalVAE(block_out_channels=(2, 4), sample_size=8, latent_channels=3)
    return PipelineMethod(AmodalVAEPipeline(model), "ours/vae")


def make_sdamodal(**config):
    nothing = dict.fromkeys(("unet", "vae", "text_encoder", "tokenizer", "scheduler"))
    return SDAmodalPipeline(**nothing, decoder=tiny_mask_decoder(**config))


PIPELINES = {
    "asbu": lambda: ASBUPipeline(ASBUPredictor(block_out_channels=(2, 4), sample_size=16)),
    "pcnet-m": lambda: PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16)),
    "amodal-vae": lambda: AmodalVAEPipeline(AmodalVAE(block_out_channels=(2, 4), sample_size=8, latent_channels=3)),
    "occamodal": tiny_occamodal,
    "occamodal-no-skip": lambda: OccAmodalPipeline(tiny_predictor(1), tiny_predictor(2, final_skip=False)),
    "sdamodal": make_sdamodal,
    "sdamodal-no-skip": lambda: make_sdamodal(final_skip=False),
    "sdamodal-one-scale": lambda: make_sdamodal(feature_channels=(4,), feature_sizes=(4,)),
    "sdamodal-one-scale-no-skip": lambda: make_sdamodal(feature_channels=(4,), feature_sizes=(4,), final_skip=False),
    "single-stage": lambda: SingleStagePipeline(tiny_predictor(1)),
    "order-net": lambda: OrderNetPipeline(tiny_order_net()),
    "supervised": lambda: SingleStagePipeline(tiny_predictor(1, image_feature_stages=())),
}


def baselines(table):
    return [METHODS[name] for name in table.baselines]


def report_on(name, dataset, methods=(), *, kind=TableReport, evaluate=None, **options):
    table = PAPER_TABLES[name]
    entries = table_methods(table, [*baselines(table), *methods], **options)
    report = evaluate_methods(dataset, [entry.method for entry in entries], order_methods=(), **(evaluate or {}))
    return kind(table, entries, report, "squares.json")


def line_of(text, label):
    (line,) = [line for line in text.splitlines() if line.startswith(label)]
    return line.split()


@pytest.mark.parametrize("table", PAPER_TABLES.values(), ids=PAPER_TABLES)
def test_published_tables_are_whole(table):
    for row in table.rows:
        assert len(row.values) == len(table.columns), row.label
        if table.needs == "statistics":
            assert all(re.fullmatch(r"[\d,]+(\(\d+\))?|[A-Z][a-z]+|[✓✗]", value) for value in row.values)
            continue
        assert all(re.fullmatch(r"\d+(\.\d+)?|", value) for value in row.values) and any(row.values)
        assert all(0 <= float(value) <= 100 for value in row.values if value)
    roles = [row.role for row in table.rows if row.role]
    assert len(set(roles)) == len(roles)
    assert set(table.baselines) <= set(METHODS)
    assert set(table.baselines) <= set(roles) or not table.rows
    assert re.fullmatch(r"\[(Z20|N21|L20|Z24)\] (Table|Figure) \d+", table.source)


PRINTED = json.loads((ROOT / "tests" / "evaluation" / "printed_tables.json").read_text(encoding="utf-8"))
"""Second source of the published values: rows `[label, value, ...]` read by a program from the text of the papers."""


@pytest.mark.parametrize("name", sorted(PAPER_TABLES.keys() - {"z20-fig12"}))  # a drawing without numbers
def test_every_value_is_the_printed_one(name):
    ours = [["-" if value == "" else value for value in row.values] for row in PAPER_TABLES[name].rows]
    printed = [values for _, *values in PRINTED[name]]
    if name == "z20-1":  # we split the paper's row of the area baseline, whose direction depends on the data set
        smaller, larger = ours[2], ours.pop(3)
        assert smaller[1] == larger[0] == "-"
        smaller[1] = larger[1]
    assert ours == printed


def test_no_table_is_without_a_second_source():
    assert PRINTED.keys() == PAPER_TABLES.keys() - {"z20-fig12"}
    values = [value for rows in PRINTED.values() for _, *row in rows for value in row]
    assert sum(value != "-" for value in values) == 364


def test_our_figures_stand_in_the_published_rows(dataset, pcnet):
    shown = report_on("z20-2", dataset, [pcnet])
    text = shown.to_text()
    assert text.startswith("[Z20] Table 2. Amodal completion")
    metrics = shown.evaluation.completion
    for label, method in (
        ("Raw", "raw"),
        ("ConvexR", "convex-refined"),
        ("PCNet-M (NOG)", "ours/pcnet, NOG"),
        ("PCNet-M (OG)", "ours/pcnet"),
    ):
        line = " ".join(line_of(text, label))
        assert f" {method} {100 * metrics[method]['miou_pooled']:.1f} " in line
    assert line_of(text, "Supervised") == ["Supervised", "82.53", "94.81", *["–"] * 5]
    values = json.loads(shown.to_json())
    assert values["published"][1]["values"] == [65.47, 87.03]
    ours = {entry["method"]: entry for entry in values["ours"]}
    assert ours["raw"]["role"] == "raw"
    assert ours["raw"]["metrics"]["miou_pooled"] == pytest.approx(metrics["raw"]["miou_pooled"], abs=1e-6)


def test_methods_without_a_row_come_below(dataset):
    oracle = type("Oracle", (), {"name": "oracle", "__call__": lambda self, s: METHODS["convex"](s)})()
    text = report_on("z20-2", dataset, [oracle]).to_text()
    lines = text.splitlines()
    assert lines.index(next(x for x in lines if "oracle" in x)) > lines.index(next(x for x in lines if "(OG)" in x))


def test_differences_are_marked(dataset, pcnet):
    shown = report_on("z20-1", dataset, [pcnet])
    text = shown.to_text()
    assert "O-Acc ≠" in text and "≠ Not as published:" in text
    assert "1. Other data: squares.json, 3 images; published: COCOA validation (1,323 images) and KINS test" in text
    assert "The true order is computed from the masks" in text
    assert "weights of the folder or id that they name" in text
    annotated = report_on("z20-1", dataset, evaluate={"order_source": "annotated"})
    assert "weights" not in annotated.to_text() and "computed from the masks" not in annotated.to_text()
    annotated.evaluation.counts["images"], annotated.evaluation.sources = 1323, ["COCOA_val"]
    assert annotated.all_differences() == [] and "≠" not in annotated.to_text()


def test_intervals_and_markdown(dataset):
    shown = report_on("z20-2", dataset, evaluate={"resamples": 50})
    low, high = shown.evaluation.intervals["completion"]["raw"]["miou_pooled"]
    assert low < high
    text = f"{100 * low:.1f}–{100 * high:.1f}"
    assert text in shown.to_text() and f"({text})" in shown.to_markdown()
    assert "Intervals: percentiles, 95 %, of 50 data sets drawn from the 3 images" in shown.to_text()
    assert "So few images give a rough idea only." in shown.to_text()
    of_one = report_on("z20-2", dataset[:1], evaluate={"resamples": 50})
    assert "No intervals: they come from resampling" in of_one.to_text()
    (table,) = re.findall(r"(?:^\|.*\n)+", shown.to_markdown(), flags=re.MULTILINE)
    assert len({line.count("|") for line in table.splitlines()}) == 1
    value = json.loads(shown.to_json())["ours"][0]["intervals"]["miou_pooled"]
    assert value == [round(low, 6), round(high, 6)]


def test_predicted_modal_masks(dataset, pcnet, results):
    """Two of six objects are found, and raw gives back their modal masks."""
    shown = report_on("z20-3", dataset, [pcnet], detections=results)
    raw = shown.evaluation.completion["raw"]
    assert raw["matched"] == pytest.approx(2 / 6)
    hidden = [8 * 2, 8 * 4]
    assert raw["miou_pooled"] == pytest.approx(1 - sum(hidden) / 512)
    assert raw["miou_mean"] == pytest.approx(np.mean([1 - part / 256 for part in hidden]))
    fronts = [8 * (10 + 2 * index) for index in (1, 2, 3)]
    assert raw["miou_pooled_all"] == pytest.approx((512 - sum(hidden)) / (3 * 256 + sum(fronts)))
    assert raw["ap50"] < 0.5
    assert set(shown.evaluation.completion) == {"raw", "convex-refined", "ours/pcnet", "ours/pcnet, NOG"}
    assert "one to one" in shown.to_text() and "33.3" in line_of(shown.to_text(), "Raw")


def test_tables_of_ap_take_results(dataset, results):
    table = PAPER_TABLES["z20-4"]
    entries = table_methods(table, [METHODS["raw"]], detections=results, results=[ResultsMethod("gt", results)])
    report = evaluate_methods(dataset, [entry.method for entry in entries], order_methods=())
    shown = TableReport(table, entries, report, "squares.json")
    assert report.completion["gt"] == pytest.approx(report.completion["raw"], nan_ok=True)  # raw completes nothing
    assert "matched" not in report.completion["raw"]
    assert line_of(shown.to_text(), "Ground truth")[3] == "gt"
    assert "Mask R-CNN" in shown.to_text()
    alone = table_methods(table, [], results=[ResultsMethod("gt", results)])
    assert "Mask R-CNN" not in TableReport(table, alone, report, "squares.json").to_text()


def test_stacked_table(dataset):
    text = report_on("n21-2", dataset, [METHODS["raw"]]).to_text()
    lines = text.splitlines()
    header = next(line for line in lines if line.startswith("[N21] Table 2  ")).split()
    ours = next(line for line in lines if line.startswith("ours: raw ≠")).split()
    assert header[3:] == ["AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR100", "ARS", "ARM", "ARL"]
    assert len(ours) == 3 + 12
    assert "(`--class-aware`)" in text
    aware = report_on("n21-2", dataset, [METHODS["raw"]], evaluate={"class_aware": True})
    assert "--class-aware" not in aware.to_text()


def test_with_and_without_the_occluder(dataset, pcnet):
    shown = report_on("z24-5", dataset, [pcnet])
    rows = shown.evaluation.completion
    assert set(rows) == {"ours/pcnet", "ours/pcnet, alone"}
    assert rows["ours/pcnet, alone"]["inv_miou_pooled"] == 0  # nothing can be hidden by nothing
    text = shown.to_text()
    assert "ours/pcnet" in line_of(text, "Deocclusion (two stage), occluder given")
    assert "alone" in line_of(text, "Deocclusion (two stage)  ")


@pytest.mark.parametrize(
    ("name", "source", "images"),
    [("z24-5", "mp3d", 9783), ("z24-5", "cocoa", 1250), ("l20-1", "kins", 6767), ("l20-1", "kins", 6790)],
)
def test_the_right_data_is_no_other_data(dataset, pcnet, name, source, images):
    shown = report_on(name, dataset, [pcnet])
    assert "Other data" in shown.to_text()
    counts = {**shown.evaluation.counts, "images": images, "skipped": 0}
    right = replace(shown, evaluation=replace(shown.evaluation, counts=counts, sources=[source]))
    assert "Other data" not in right.to_text()


@pytest.mark.parametrize(
    ("name", "pipeline", "row"),
    [
        ("z24-3", "occamodal", "C: occluder predictor, final skip"),
        ("z24-3", "occamodal-no-skip", "B: occluder predictor"),
        ("z24-3", "asbu", "A: neither (ASBU)"),
        ("z24-4", "sdamodal", "F: Stable Diffusion, scales, final skip"),
        ("z24-4", "sdamodal-no-skip", "C: Stable Diffusion, scales"),
        ("z24-4", "sdamodal-one-scale", "E: Stable Diffusion, final skip"),
        ("z24-4", "sdamodal-one-scale-no-skip", "B: Stable Diffusion"),
        ("z24-6", "occamodal", "OccAmodal, COCOA"),
        ("z24-6", "sdamodal", "SDAmodal, COCOA"),
        ("z24-7", "sdamodal", "SDAmodal"),
        ("z20-2", "supervised", "Supervised"),
        ("z24-4", "single-stage", "A: none of them (Deocclusion, single stage)"),
        ("z24-5", "single-stage", "Deocclusion (single stage)"),
        ("l20-2", "amodal-vae", "Amodal-VAE"),
        ("l20-5", "amodal-vae", "Amodal-VAE"),
        ("l20-5", "pcnet-m", "De-occlusion"),
        ("n21-1", "asbu", "ASBU"),
    ],
)
def test_a_pipeline_stands_in_its_row(name, pipeline, row):
    (entry,) = table_methods(PAPER_TABLES[name], [PipelineMethod(PIPELINES[pipeline](), "ours")])
    (found,) = [published.label for published in PAPER_TABLES[name].rows if published.role == entry.role]
    assert found == row and entry.learned
    assert entry.method.name == "ours" + (
        ", alone" if name.startswith("z24") else ", NOG" if row == "De-occlusion" else ""
    )


def test_networks_of_the_order_stand_in_their_rows(dataset, tmp_path):
    """By the photo that they look at, with figures of the order alone."""
    methods = []
    for name, use_rgb in (("m", False), ("mi", True)):
        OrderNetPipeline(tiny_order_net(use_rgb=use_rgb)).save_pretrained(tmp_path / name)
        methods += load_methods([str(tmp_path / name)])
    table = PAPER_TABLES["z20-1"]
    entries = table_methods(table, [*baselines(table), *methods])
    rows = {row.label for row in table.rows for entry in entries if entry.learned and row.role == entry.role}
    assert rows == {"OrderNet (M), supervised", "OrderNet (M+I), supervised"}
    photo = Image.new("RGB", (WIDTH, HEIGHT))
    shown = [{**row, "image": photo} for row in dataset]
    report = evaluate_methods(shown, [entry.method for entry in entries])
    assert {method.name for method in methods} <= report.order.keys() and not report.completion
    with pytest.raises(TypeError, match="OrderNetPipeline takes no `mask_threshold`"):
        load_methods([str(tmp_path / "m")], mask_threshold=0.3)


@pytest.mark.parametrize("name", ["n21-1", "l20-2", "z24-6"])
def test_what_it_was_trained_with_is_told_by_the_role(name, dataset, vae):
    """All rows with a role can be filled, each by a method that is named for it."""
    table = PAPER_TABLES[name]
    roles = [row.role for row in table.rows if row.role]
    methods = [PipelineMethod(vae.pipeline, f"runs/{role}") for role in roles]
    entries = table_methods(table, methods, roles={f"runs/{role}": role for role in roles})
    assert [entry.role for entry in entries] == roles
    report = evaluate_methods(dataset, [entry.method for entry in entries], order_methods=())
    text = TableReport(table, entries, report, "squares.json").to_text()
    for row in table.rows:
        lines = [line for line in text.splitlines() if line.startswith(f"{row.label}  ")]
        assert len(lines) == 1 and (f" runs/{row.role}" in lines[0]) == bool(row.role)
    with pytest.raises(ValueError, match=f"`roles` must be rows of table {name}: .*; got 'other'"):
        table_methods(table, methods, roles={"runs/a": "other"})


def test_ours_is_where_no_number_of_images_is_published(dataset, pcnet):
    shown = report_on("z24-7", dataset, [pcnet])
    assert "published: COCOA-cls." in shown.to_text()
    right = replace(shown, evaluation=replace(shown.evaluation, sources=["COCOA-cls_val"]))
    assert "Other data" not in right.to_text()


def test_tables_of_data_sets(tmp_path):
    item = {"occlusion_rate": 0.25, "is_stuff": False, "is_crowd": False, "category_id": 5}
    names = [*["armchair", "dining chair"] * 600, None]
    row = {"objects": [{**item, "name": name} for name in names], "order_relations": None, "source": "mp3d"}
    statistics = DatasetStatistics.of([{**row, "file_name": f"house-{n % 2}/{n}.jpg"} for n in range(3)])
    split = statistics_report("z24-2", statistics, "mp3d.json")
    assert split.cells == ["2", "3", "3,603", "1", "2"]
    text = split.to_text()
    assert text.startswith("[Z24] Table 2. MP3D-Amodal\n")
    assert line_of(text, "Evaluation") == ["Evaluation", "86", "9,783", "11,441", "40", "385"]
    assert line_of(text, "ours: mp3d.json")[2:] == ["2", "3", "3,603", "1", "2"]
    overview = statistics_report("z24-1", statistics, "mp3d.json")
    assert line_of(overview.to_text(), "ours: mp3d.json")[2:] == ["–", "–", "2(1)", "3", "–"]
    assert json.loads(overview.to_json())["ours"]["values"] == [None, None, "2(1)", "3", None]
    assert "| ours: mp3d.json | – | – | 2(1) | 3 | – |" in overview.to_markdown()
    with pytest.raises(ValueError, match="`name` must be one of 'z24-1', 'z24-2', got 'z24-3'"):
        statistics_report("z24-3", statistics, "mp3d.json")
    with pytest.raises(ValueError, match="table z24-2 is not of methods, but of statistics"):
        table_methods(PAPER_TABLES["z24-2"], [METHODS["raw"]])


def test_table_of_preferences():
    counts = {"first": 47, "second": 39, "none": 14}
    answers = [Preference(f"{choice}-{n}", "ann", choice) for choice, count in counts.items() for n in range(count)]
    shown = preferences_report("l20-6", answers, "answers.jsonl")
    assert shown.cells == [("47.0", "37.5–56.7"), ("39.0", "30.0–48.8"), ("14.0", "8.5–22.1")]
    text = shown.to_text()
    assert line_of(text, "Preferred") == ["Preferred", "46.68", "39.50", "13.8"]
    assert "100 answers of 1 about 100 pairs" in text and "Of the 86 that prefer one, 54.7 % (44.2–64.7)" in text
    with pytest.raises(ValueError, match="`answers` must not be empty"):
        preferences_report("l20-6", [], "answers.jsonl")
    with pytest.raises(ValueError, match="`name` must be that of a table of preferences, got 'z20-2'"):
        preferences_report("z20-2", answers, "answers.jsonl")


def test_samples_and_true_box(dataset, vae, pcnet):
    boxed = report_on("l20-1", dataset, [vae, pcnet])
    assert [entry.role for entry in boxed.methods] == ["raw", "amodal-vae", "amodal-vae-box", "pcnet-m-nog"]
    text = boxed.to_text()
    assert "ours/vae, true box *" in " ".join(line_of(text, "Amodal-VAE + true box"))
    assert "looks at the ground truth" in text
    drawn = report_on("l20-4", dataset, [vae], num_samples=3)
    rows = drawn.evaluation.completion
    best, visible = rows["ours/vae, best of 3 by truth *"], rows["ours/vae, best of 3 by visible"]
    assert best["miou_mean"] >= visible["miou_mean"]
    assert "best of 3 by visible" in " ".join(line_of(drawn.to_text(), "Best by visible mask"))


def test_curves(dataset, tmp_path):
    edges = {"occlusion_bins": OCCLUSION_BINS, "resamples": 20}
    shown = report_on("z20-fig12", dataset, kind=CurveReport, evaluate=edges)
    bins = shown.evaluation.by_occlusion["raw"]
    # 2, 4 and 6 of 16 columns on 8 of 16 rows are hidden
    assert [(entry.low, entry.objects) for entry in bins if entry.objects] == [(0.0, 1), (0.1, 2)]
    assert bins[0].metrics["miou_pooled"] == pytest.approx(1 - 2 / 32)
    assert bins[1].metrics["miou_pooled"] == pytest.approx(1 - 10 / 64)
    assert bins[0].intervals == {}  # one image alone
    assert bins[1].intervals["miou_pooled"][0] == pytest.approx(1 - 6 / 32)
    assert all(math.isnan(entry.metrics["miou_pooled"]) for entry in bins[2:])
    assert line_of(shown.to_text(), "objects") == ["objects", "1", "2", *["0"] * 8]
    assert line_of(shown.to_text(), "raw")[1:4] == ["93.8", "84.4", "–"]
    assert json.loads(shown.to_json())["evaluation"]["by_occlusion"]["raw"][1]["objects"] == 2
    picture = shown.draw(size=300)
    assert picture.mode == "RGB" and picture.width == 300
    assert shown.draw(metric="inv_miou_pooled", size=300).tobytes() != picture.tobytes()
    with pytest.raises(ValueError, match="`metric` must be one of 'miou_pooled', 'inv_miou_pooled', got 'ap'"):
        draw_occlusion_curves(shown.evaluation, metric="ap")
    with pytest.raises(ValueError, match="`report` has no bins"):
        draw_occlusion_curves(report_on("z20-2", dataset).evaluation)


def test_tables_say_what_they_need(vae, results):
    for name, options, message in (
        ("z20-3", {}, "table z20-3 needs `detections`"),
        ("z20-2", {"detections": results}, "table z20-2 takes no `detections`"),
        ("z20-2", {"results": [ResultsMethod("gt", results)]}, "table z20-2 takes no `results`: it has no AP"),
        ("n21-1", {}, "table n21-1 has no baselines; give `methods`"),
    ):
        with pytest.raises(ValueError, match=message):
            table_methods(PAPER_TABLES[name], baselines(PAPER_TABLES[name]), **options)
    with pytest.raises(ValueError, match="l20-4 needs a pipeline that draws samples"):
        table_methods(PAPER_TABLES["l20-4"], [METHODS["raw"]])


def test_bad_edges_are_named(dataset):
    for edges in ([0.5], [0.5, 0.2], [0, 1.5]):
        with pytest.raises(ValueError, match="`occlusion_bins` must be at least two ascending edges in .0, 1., got"):
            evaluate_methods(dataset, [METHODS["raw"]], occlusion_bins=edges)
