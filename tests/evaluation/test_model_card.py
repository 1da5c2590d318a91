"""Metrics in model cards: on disk without network, and on the Hub through a fake."""

import math

import pytest
from huggingface_hub import ModelCard

from amodal_diffusion.evaluation import EvaluationReport, evaluation_results, model_card, update_model_card

CARD = """\
---
library_name: diffusers
license: apache-2.0
tags:
- amodal-completion
---

# Tiny

Ümläute stay.
"""


def make_report(value=0.5, **more):
    completion = {"tiny": {"miou_pooled": value, "inv_miou_pooled": math.nan, "ap": 0.25}}
    counts = dict.fromkeys(("images", "objects", "occluded", "covered", "related", "large", "skipped"), 2)
    return EvaluationReport(completion, {"tiny": {"order_accuracy": 0.875}}, {"tiny": 1.0}, counts, **more)


def metrics(card):
    return {entry.metric_name: entry.metric_value for entry in card.data.eval_results}


def test_results_are_percent_with_intervals_apart():
    report = make_report(intervals={"completion": {"tiny": {"miou_pooled": (0.4, 0.6123)}}}, confidence=0.9)
    results = evaluation_results(report, "tiny", data_name="COCOA", label="no order")
    assert {result.metric_name: result.metric_value for result in results} == {
        "mIoU, pooled (no order)": 50.0,
        "mIoU, pooled (no order), 90 % interval, low": 40.0,
        "mIoU, pooled (no order), 90 % interval, high": 61.2,
        "amodal AP (no order)": 25.0,
        "order accuracy, related pairs (no order)": 87.5,
    }
    assert {result.dataset_name for result in results} == {"COCOA"}
    assert len({result.metric_type for result in results}) == 5
    with pytest.raises(KeyError, match="no method 'other'"):
        evaluation_results(report, "other", data_name="COCOA")


def test_card_of_a_folder_is_updated_in_place(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(CARD, encoding="utf-8")
    for value, data in ((0.5, "COCOA"), (0.25, "KINS"), (0.75, "COCOA")):
        written = update_model_card(str(tmp_path), evaluation_results(make_report(value), "tiny", data_name=data))
        assert written == str(path)
    card = ModelCard.load(path)
    assert card.text.strip() == CARD.split("---\n")[2].strip()
    assert card.data.license == "apache-2.0" and card.data.tags == ["amodal-completion"]
    assert card.data.model_name == tmp_path.name
    values = {(entry.dataset_name, entry.metric_name): entry.metric_value for entry in card.data.eval_results}
    assert values["COCOA", "mIoU, pooled"] == 75.0 and values["KINS", "mIoU, pooled"] == 25.0
    assert len(values) == len(card.data.eval_results) == 6
    assert [entry.name for entry in tmp_path.iterdir()] == ["README.md"]


def test_card_is_made_where_it_lacks(tmp_path):
    folder = tmp_path / "tiny-model"
    folder.mkdir()
    update_model_card(str(folder), evaluation_results(make_report(), "tiny", data_name="COCOA"))
    card = ModelCard.load(folder / "README.md")
    assert "# tiny-model" in card.text and metrics(card)["amodal AP"] == 25.0


def test_bad_cards_are_named_and_kept(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("---\n- a list\n---\n", encoding="utf-8")
    results = evaluation_results(make_report(), "tiny", data_name="COCOA")
    with pytest.raises(ValueError, match="README.md: its metadata cannot be read"):
        update_model_card(str(tmp_path), results)
    assert path.read_text(encoding="utf-8") == "---\n- a list\n---\n"
    with pytest.raises(ValueError, match="no metrics to write into the card"):
        update_model_card(str(tmp_path), [])


def test_card_on_the_hub_is_updated_by_a_commit(monkeypatch):
    seen = []

    def fake(repo_id, metadata, **options):
        seen.append((repo_id, metadata, options))
        return "https://hub/commit/1"

    monkeypatch.setattr(model_card, "metadata_update", fake)
    results = evaluation_results(make_report(), "tiny", data_name="COCOA")
    assert update_model_card("someone/tiny", results, token="secret") == "https://hub/commit/1"
    ((repo_id, metadata, options),) = seen
    assert repo_id == "someone/tiny" and options["overwrite"] is True and options["token"] == "secret"
    ((entry,),) = (metadata["model-index"],)
    assert entry["name"] == "tiny"
    assert [metric["value"] for metric in entry["results"][0]["metrics"]] == [50.0, 25.0, 87.5]
    assert entry["results"][0]["dataset"] == {"name": "COCOA", "type": "COCOA"}
