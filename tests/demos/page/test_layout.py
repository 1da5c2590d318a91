"""The page as it is built, its options and its scripts."""

import re
from pathlib import Path

import gradio as gr
import numpy as np

from page import assets
from page.layout import Page
from page.work.edits import EDITS
from repository_helpers import ROOT


def test_page_is_built_of_what_is_there(models):
    page = Page(models)
    page.build()
    assert [key for _, key in page.mark.pipeline.choices] == ["pcnet-m", "amodal-vae"]
    assert page.mark.pipeline.value == "pcnet-m"
    assert page.mark.find.visible is False and page.session.value.session.can_click is False


def test_no_event_answers_to_a_step_that_the_page_chose_itself(models):
    """Gradio tells of those as of a visitor's; two that crossed went to and fro between the steps for ever."""
    blocks = Page(models).build()
    told = {
        (type(blocks.blocks.get(number)).__name__, event) for fn in blocks.fns.values() for number, event in fn.targets
    }
    assert ("HTML", "walk") in told and not {pair for pair in told if pair[0] in ("Step", "Walkthrough")}


def test_the_second_step_says_what_was_found(models, completed):
    page = Page(models)
    page.build()
    values = dict(zip((part.elem_id for part in page.complete.parts), page.complete.values(completed), strict=True))
    assert "hidden" in values["summary"] and values["look"].value == "Parts"
    assert values["shape-of"].choices and values["shape-of"].value is not None
    drawn = completed.step(samples=np.ones((2, 4, 4), bool), samples_of=0)
    kept = page.complete.values(drawn)  # what was drawn stays
    assert kept[1] == values["summary"] and all(value == gr.skip() for value in kept[2:])


def test_options(monkeypatch, tmp_path):
    import app

    monkeypatch.delenv("AMODAL_PIPELINES", raising=False)
    assert Path(app.parse_arguments([]).pipelines) == ROOT / "pipelines"
    monkeypatch.setenv("AMODAL_PIPELINES", str(tmp_path))
    monkeypatch.setenv("AMODAL_SEGMENTER", "some/model")
    options = app.parse_arguments(["--port", "1234"])
    assert (Path(options.pipelines), options.segmenter, options.port) == (tmp_path, "some/model", 1234)
    theme = app.theme()
    assert not theme._font_css and not theme._stylesheets  # no font from elsewhere


def test_actions_of_the_page_are_known_here():
    panel = assets.script("panel")
    actions = re.search(r"ACTIONS = \[(.*?)\n\];", panel, re.S).group(1)
    operations = set(re.findall(r'\["[^"]+", "([a-z]+)', actions)) | set(re.findall(r'op: "([a-z]+)"', panel))
    known = {*EDITS, "carry", "undo", "redo", "reset", "select", "clear"}
    assert operations <= known and {"place", "stretch", "rotate", "fade", "restack"} <= set(
        re.findall(r'"(\w+)"', panel)
    )


def test_every_asset_is_used():
    for name, files in {**assets.SCRIPTS, "style": assets.STYLES}.items():
        suffix = "css" if name == "style" else "js"
        assert sorted(f"{file}.{suffix}" for file in files) == sorted(
            path.name for path in (assets.FOLDER / name).iterdir()
        )


def test_space_header_names_the_tested_gradio():
    header = (ROOT / "demos" / "README.md").read_text(encoding="utf-8").split("---")[1]
    fields = dict(line.split(": ", 1) for line in header.strip().splitlines() if ": " in line)
    pinned = re.search(r"^gradio==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M).group(1)
    assert fields["sdk"] == "gradio" and fields["sdk_version"] == pinned and fields["app_file"] == "app.py"
    assert len(fields["short_description"]) <= 60
