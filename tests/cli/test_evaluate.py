"""The command `evaluate`: tables of the papers, and what it writes."""

import json

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

from amodal_diffusion import PCNetMask, PCNetMaskPipeline, evaluation
from amodal_diffusion.cli import main as cli
from amodal_diffusion.evaluation import PAPER_TABLES
from amodal_diffusion.masks import encode_rle

HEIGHT, WIDTH = 24, 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set of two images, a tiny model, and detections of what is visible."""
    folder = tmp_path_factory.mktemp("evaluate")
    whole, front = np.zeros((2, HEIGHT, WIDTH), bool)
    whole[4:20, 4:20], front[8:16, 12:30] = True, True
    visible = encode_rle(whole & ~front)
    regions = [
        {"segmentation": encode_rle(whole), "visible_mask": visible, "name": "back"},
        {"segmentation": encode_rle(front), "name": "front"},
    ]
    images = [{"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2)]
    annotations = [
        {"id": 1, "image_id": 1, "depth_constraint": "2-1", "regions": regions},
        {"id": 2, "image_id": 2, "depth_constraint": "", "regions": regions[1:]},
    ]
    content = {"images": images, "annotations": annotations}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    found = [{"image_id": 1, "category_id": 1, "segmentation": visible, "score": 0.9}]
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")
    torch.manual_seed(0)
    model = PCNetMask(block_out_channels=(2, 4), sample_size=16, class_conditioned=True)
    PCNetMaskPipeline(model).save_pretrained(folder / "model")
    return folder


@pytest.fixture
def run(folder, capsys):
    def run(*arguments, table=None, fails=False):
        base = ["evaluate", "--annotations", folder / "annotations.json", "--resamples", 20]
        command = [*base, *(["--table", table] if table else []), *arguments]
        assert cli.main([str(part) for part in command]) == (2 if fails else 0)
        captured = capsys.readouterr()
        return captured.err if fails else captured.out

    return run


def test_a_row_by_its_role(run, folder):
    text = run("--methods", f"amodal-vae-no-full={folder / 'model'},raw", table="l20-2")
    (line,) = [line for line in text.splitlines() if line.startswith("Without full-mask training")]
    assert f" {folder / 'model'} " in line
    said = run("--methods", f"no-such-row={folder / 'model'}", table="l20-2", fails=True)
    assert "must name a row of table l20-2 (" in said and "amodal-vae-no-full" in said and "'no-such-row'" in said
    assert "takes no `roles`" in run("--methods", f"pcnet-m={folder / 'model'}", table="z20-2", fails=True)


def test_tables_without_methods(run, folder, tmp_path):
    report = ["--json", tmp_path / "r.json", "--markdown", tmp_path / "r.md"]
    text = run(*report, "--scene", "^(.)", table="z24-2")
    (line,) = [line for line in text.splitlines() if line.startswith("ours: ")]
    assert line.split()[-4] == "2" and json.loads((tmp_path / "r.json").read_text("utf-8"))["table"] == "z24-2"
    assert "ours: " in run(table="z24-1") and "ours: " in run("--streaming", "--limit", 1, table="z24-1")
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"name": "a", "person": "ann", "choice": "first"}\n', "utf-8")
    (tmp_path / "none").touch()
    assert cli.main(["evaluate", "--table", "l20-6", "--preferences", str(answers)]) == 0
    for arguments, table, message in (
        ([], "l20-6", "--preferences FILE and --table l20-6 need each other"),
        (["--preferences", answers], "z20-2", "--preferences FILE and --table l20-6 need each other"),
        (["--preferences", tmp_path / "gone"], "l20-6", "gone does not exist"),
        (["--preferences", tmp_path / "none"], "l20-6", "has no answers"),
        (["--scene", "x"], "z20-2", "--scene is for --table z24-2 alone"),
        (["--scene", "("], "z24-2", "`scene` must be a regular expression"),
        (["--methods", "raw"], "z24-1", "--methods is not for --table z24-1, which is of statistics"),
    ):
        assert message in run(*arguments, table=table, fails=True)


def test_tables_are_listed(capsys):
    assert cli.main(["evaluate", "--table", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(PAPER_TABLES)
    assert "[Z20] Table 3. Amodal completion from predicted modal masks" in lines[2]


@pytest.mark.parametrize(
    "name", [name for name, table in PAPER_TABLES.items() if table.has_methods and name != "l20-4"]
)
def test_every_table_prints(name, run, folder, tmp_path):
    reports = ["--json", tmp_path / "r.json", "--markdown", tmp_path / "r.md"]
    detections = ["--detections", folder / "found.json"] if PAPER_TABLES[name].needs else []
    text = run("--methods", folder / "model", *reports, *detections, table=name)
    assert text.startswith(f"{PAPER_TABLES[name].source}. ") and "≠ Not as published" in text
    assert "annotations.json, 3 objects (1 with a hidden part) in 2 images" in text
    values = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert values["table"] == name and values["ours"][-1]["metrics"]
    assert str(folder / "model") in (tmp_path / "r.md").read_text(encoding="utf-8")


def test_predicted_masks_get_dilated_erasers(run, folder, monkeypatch):
    seen = []
    original = PCNetMaskPipeline.__call__

    def spy(self, image, masks, *, eraser_dilation=0, occluder_rule=None, **options):
        seen.append(eraser_dilation)
        return original(self, image, masks, eraser_dilation=eraser_dilation, occluder_rule=occluder_rule, **options)

    monkeypatch.setattr(PCNetMaskPipeline, "__call__", spy)
    arguments = ["--methods", folder / "model", "--detections", folder / "found.json"]
    assert "Erasers are dilated by 3 pixels" in run(*arguments, table="z20-3")
    assert "Erasers are dilated" not in run(*arguments, "--eraser-dilation", 5, table="z20-3")
    assert seen == [3, 3, 5, 5]


def test_curves_are_drawn(run, tmp_path):
    run("--plot", tmp_path / "c.png", table="z20-fig12")
    assert Image.open(tmp_path / "c.png").size[0] == 1000


def test_results_of_segmenters(run, folder):
    text = run("--results", f"pcnet-m={folder / 'found.json'}", "mine=" + str(folder / "found.json"), table="z20-4")
    (line,) = [line for line in text.splitlines() if line.startswith("PCNet-M")]
    assert line.split()[2] == "pcnet-m"
    assert "mine" in text and "Mask R-CNN" not in text
    assert "raw" not in [line.split()[2] for line in text.splitlines() if line.startswith("Raw")]
    assert run("--results", f"a={folder / 'found.json'}", "--min-score", 0.95, table="z20-4").count(" 0.0") >= 3


def test_cards_get_the_figures(run, folder):
    model = folder / "model"
    text = run("--methods", f"raw,{model}", "--push-to-hub", "--data-name", "squares")
    assert text.splitlines()[-1] == str(model / "README.md")
    run("--methods", model, "--push_to_hub", "--no-occluders", "--data-name", "squares")
    run("--methods", model, "--push_to_hub", "--data-name", "squares", table="z20-2")
    entries = ModelCard.load(model / "README.md").data.eval_results
    names = [entry.metric_name for entry in entries]
    assert len(set(names)) == len(names)
    for name in ("mIoU, pooled", "mIoU, pooled (no occluders)", "mIoU, pooled (NOG)", "amodal AP"):
        assert name in names
    assert {entry.dataset_name for entry in entries} == {"squares"}


def test_cards_on_the_hub(run, folder, monkeypatch):
    """A Hub id, which a fake loads from the folder."""
    written = []
    monkeypatch.setattr(evaluation, "update_model_card", lambda model, results: written.append((model, results)) or "u")
    load = evaluation.load_methods

    def fake(names, **options):
        methods = load([str(folder / "model") if "/" in name else name for name in names], **options)
        for method, name in zip(methods, names, strict=True):
            if "/" in name:
                method.name = name
        return methods

    monkeypatch.setattr(evaluation, "load_methods", fake)
    assert run("--methods", "raw,someone/tiny", "--push-to-hub").splitlines()[-1] == "u"
    ((model, results),) = written
    assert model == "someone/tiny" and results


def test_categories_are_withheld(run, folder, monkeypatch):
    seen = []
    original = evaluation.evaluate_methods
    monkeypatch.setattr(
        evaluation, "evaluate_methods", lambda *a, **o: seen.append(o["use_categories"]) or original(*a, **o)
    )
    run("--methods", "raw")
    assert "Category ids are withheld" in run("--no-categories", table="z20-2")
    assert seen == [True, False]


def test_streamed_and_stored_data_give_the_same_tables(run):
    stored, streamed = (run(*more, table="z20-2") for more in ([], ["--streaming"]))
    assert stored == streamed


def test_wrong_options_are_named(run, folder, tmp_path):
    found = folder / "found.json"
    for arguments, table, message in (
        ([], "z20-9", "--table must be list or one of z20-1, "),
        ([], None, "--methods A,B,..., --content A,B,..., --depth A,B,... or --table NAME is needed"),
        (["--methods", "raw", "--detections", found], None, "--detections is for --table NAME alone"),
        (["--methods", "raw", "--results", f"a={found}"], None, "--results is for --table NAME alone"),
        (["--no-occluders"], "z20-2", "--no-occluders is not for --table NAME"),
        (["--plot", tmp_path / "c.png"], "z20-2", "--plot is of --table z20-fig12 alone"),
        (["--plot", tmp_path], "z20-fig12", "is a folder, expected the path of a file"),
        (["--plot", tmp_path / "c.csv"], "z20-fig12", "c.csv must end as a picture does, such as .png or .jpg, got"),
        (["--resamples", -1], "z20-2", "--resamples must be at least 0, got -1"),
        (["--confidence", 2], "z20-2", "`confidence` must lie in (0, 1), got 2.0"),
        (["--results", "a.json"], "z20-4", "--results must be NAME=FILE, got 'a.json'"),
        ([], "z20-3", "table z20-3 needs `detections`"),
        ([], "l20-4", "table l20-4 has no baselines"),
        (["--methods", folder / "model"], "l20-4", "needs a pipeline that draws samples"),
        (["--detections", tmp_path / "none.json"], "z20-3", "none.json"),
    ):
        assert message in run(*arguments, table=table, fails=True)
    assert cli.main(["evaluate", "--methods", "raw"]) == 2
