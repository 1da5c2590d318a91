"""The disagreement on depth orders: what counts, intervals, methods, the command, errors."""

import json

import numpy as np
import pytest

from amodal_diffusion import AmodalPipeline, OrderNetPipeline
from amodal_diffusion.cli import main as cli
from amodal_diffusion.data import record_depths
from amodal_diffusion.evaluation import DEPTH_METHODS, evaluate_depth, load_depth_methods
from amodal_diffusion.metrics import depth_disagreement, depth_order_counts
from amodal_diffusion.ordering import depth_order
from photo_helpers import depth_rows, tiny_order_net, write_depth_photos
from pipeline_helpers import tiny_pipeline


@pytest.fixture(scope="module")
def rows():
    return depth_rows(6)


def by_hand(rows, answer):
    """(wrong, pairs) of those that are distinct and of those that overlap."""
    counts = {True: [0, 0], False: [0, 0]}
    for row in rows:
        depths = record_depths(row)
        seen = [item["modal_box"][2] > 0 for item in row["objects"]]
        for i in range(len(depths)):
            for j in range(i):
                if np.isnan(depths[[i, j]]).any() or not (seen[i] and seen[j]):
                    continue
                truth = depth_order(depths[[i, j]][:, [0, 2]])[0, 1]
                counts[bool(truth)][1] += 1
                counts[bool(truth)][0] += answer(row, i, j) != truth
    return counts


def test_disagreement_is_the_share_of_wrong_pairs(rows):
    def lower(row, i, j):
        bottom = [row["objects"][k]["modal_box"][1] + row["objects"][k]["modal_box"][3] for k in (i, j)]
        return np.sign(bottom[0] - bottom[1])

    report = evaluate_depth(rows, DEPTH_METHODS, resamples=50)
    for name, answer in (("y-axis", lower), ("all-overlapping", lambda row, i, j: 0)):
        (wrong, pairs), (missed, overlapping) = (by_hand(rows, answer)[kind] for kind in (True, False))
        found = report.metrics[name]
        assert found["whdr"] == pytest.approx((wrong + missed) / (pairs + overlapping))
        assert found["whdr_distinct"] == pytest.approx(wrong / pairs)
        assert found["whdr_overlapping"] == pytest.approx(missed / overlapping)
        low, high = report.intervals[name]["whdr"]
        assert low <= found["whdr"] <= high
    assert (report.counts["distinct"], report.counts["overlapping"]) == (pairs, overlapping)
    assert report.metrics["all-overlapping"]["whdr_overlapping"] == 0
    turn = iter(rows)
    perfect = {"truth": lambda masks, image: depth_order(record_depths(next(turn))[:, [0, 2]])}
    assert evaluate_depth(rows, perfect).metrics["truth"]["whdr"] == 0


def test_counts_leave_out_what_is_unknown():
    target = depth_order([[0, 1], [2, 3], [2.5, 4]])
    assert depth_order_counts(-target, target).tolist() == [2, 2, 0, 1]
    assert depth_order_counts(-target, target, [True, False, True]).tolist() == [1, 1, 0, 0]
    assert np.isnan(depth_disagreement(np.zeros(4))["whdr"])
    with pytest.raises(ValueError, match=r"`known` must be \(3,\), got \(2,\)"):
        depth_order_counts(target, target, [True, True])


def test_methods_are_told_by_name(tmp_path, rows):
    OrderNetPipeline(tiny_order_net()).save_pretrained(tmp_path / "occlusion")
    OrderNetPipeline(tiny_order_net(num_relations=3, answer="depth")).save_pretrained(tmp_path / "depth")
    tiny_pipeline().save_pretrained(tmp_path / "masks")
    methods = load_depth_methods(["y-axis", str(tmp_path / "depth")])
    report = evaluate_depth(rows, methods, limit=2)
    assert report.counts["images"] == 2
    pipe = AmodalPipeline.from_pretrained(tmp_path / "depth")
    masks = np.zeros((2, 96, 128), bool)
    masks[0, :20], masks[1, 50:] = True, True
    expected = pipe.infer_depth_order(masks, rows[0]["image"])
    np.testing.assert_array_equal(methods[str(tmp_path / "depth")](masks, rows[0]["image"]), expected)
    for name in ("occlusion", "masks"):
        with pytest.raises(ValueError, match="is no OrderNetPipeline that answers depth"):
            load_depth_methods([str(tmp_path / name)])
    with pytest.raises(ValueError, match="'depth' is none of y-axis, all-overlapping, no folder and no Hub id"):
        load_depth_methods(["depth"])
    with pytest.raises(ValueError, match="`names` holds 'y-axis' twice"):
        load_depth_methods(["y-axis", "y-axis"])
    bare = [{**row, "objects": [{**item, "depth": None} for item in row["objects"]]} for row in rows]
    with pytest.raises(ValueError, match="`dataset` has no pair of objects of known depth"):
        evaluate_depth(bare, DEPTH_METHODS)


def test_the_command(tmp_path, capsys):
    rooms = write_depth_photos(tmp_path / "rooms")
    base = ["evaluate", "--annotations", rooms, "--depth", "y-axis,all-overlapping", "--resamples", 20]
    assert cli.main([*map(str, base), "--json", str(tmp_path / "r.json"), "--markdown", str(tmp_path / "r.md")]) == 0
    text = capsys.readouterr().out
    assert "WHDR" in text and "y-axis" in text and "whose depths overlap, in 6 images" in text
    assert set(json.loads((tmp_path / "r.json").read_text())["metrics"]) == {"y-axis", "all-overlapping"}
    assert "| y-axis |" in (tmp_path / "r.md").read_text()
    assert cli.main([*map(str, base), "--methods", "raw"]) == 2
    assert "--methods is not for --depth" in capsys.readouterr().err
