"""One process or several, stored rows or streamed ones: the same metrics."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.data import read_annotations
from amodal_diffusion.evaluation import METHODS, Prediction, evaluate_methods, make_sample, runs
from data_helpers import cocoa_pairs

HEIGHT, WIDTH = 24, 32


def make_content(images):
    generator = np.random.default_rng(0)
    pairs = []
    for index in range(1, images + 1):
        whole, front = np.zeros((2, HEIGHT, WIDTH), bool)
        whole[2:20, 3 : 12 + index], front[generator.integers(1, 12) : 21, 7 : 20 + index] = True, True
        pairs.append((whole, front))
    return cocoa_pairs(pairs)


@pytest.fixture(scope="module")
def content():
    return make_content(7)


@pytest.fixture(scope="module")
def dataset(content):
    return read_annotations(content)


@pytest.fixture(scope="module")
def photos(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for index, record in enumerate(content["images"]):
        Image.new("RGB", (WIDTH, HEIGHT), (10 * index, 0, 0)).save(folder / record["file_name"])
    return folder


def looks(sample):
    upper = np.zeros_like(sample.modal)
    upper[:, :12] = True
    return Prediction(masks=sample.modal | upper, order=-sample.order, occluders=upper)


looks.name = "looks"


def evaluate(dataset, **options):
    methods = [METHODS["raw"], METHODS["convex"], looks]
    return evaluate_methods(dataset, methods, occlusion_bins=(0, 0.3, 1), resamples=20, **options)


def metrics(report):
    return {name: value for name, value in report.to_dict().items() if name != "seconds"}


class Shared(Exception):  # noqa: N818 - no error
    """Stops a process of the fake launcher where it would wait for the others."""


def evaluate_shared(monkeypatch, processes, dataset, **options):
    """What every one of several processes would report; they come in turn, the last first."""
    gathered = []

    def hand_in(records):
        gathered.append(records)
        raise Shared

    for rank in range(processes - 1, -1, -1):
        monkeypatch.setattr(runs, "_place", lambda rank=rank: (rank, processes))
        monkeypatch.setattr(runs, "_gather", hand_in)
        with pytest.raises(Shared):
            evaluate(dataset, distributed=True, **options)
    monkeypatch.setattr(runs, "_gather", lambda _: [record for records in gathered for record in records])
    return evaluate(dataset, distributed=True, **options), [len(records) for records in gathered]


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_images_and_report_alike(monkeypatch, dataset, processes):
    alone = evaluate(dataset)
    assert alone.intervals["completion"]["raw"]["miou_pooled"][0] < alone.completion["raw"]["miou_pooled"]
    shared, counts = evaluate_shared(monkeypatch, processes, dataset)
    assert sum(counts) == 7 and max(counts) - min(counts) == 1
    assert metrics(shared) == metrics(alone)  # exactly


def test_limits_and_skipped_images_hold_over_all_processes(monkeypatch, dataset):
    rows = list(dataset)
    rows[1] = {**rows[1], "objects": []}
    shared, counts = evaluate_shared(monkeypatch, 2, rows, limit=5)
    assert sum(counts) == 5 and shared.counts["images"] == 4 and shared.counts["skipped"] == 1
    assert metrics(shared) == metrics(evaluate(rows, limit=5))


def test_streams_are_scored_and_shared_alike(monkeypatch, content, dataset, photos):
    alone = metrics(evaluate(dataset))
    stream = read_annotations(content, images=photos, streaming=True)
    assert metrics(evaluate(stream)) == alone
    shared, counts = evaluate_shared(monkeypatch, 2, stream)
    assert sum(counts) == 7 and metrics(shared) == alone


@pytest.mark.parametrize("streaming", [False, True])
def test_photos_are_decoded_where_a_method_looks(content, photos, streaming):
    reds = []

    def sees(sample):
        reds.append(sample.image.getpixel((0, 0))[0])
        return Prediction(masks=sample.modal)

    sees.name = "sees"
    kinds = []
    dataset = read_annotations(content, images=photos, streaming=streaming)
    evaluate_methods(dataset, [sees], on_sample=lambda sample: kinds.append(type(sample.photo)))
    assert reds == [0, 10, 20, 30, 40, 50, 60] and set(kinds) == {dict}


def test_photos_in_the_rows_are_decoded(content, photos):
    row = dict(read_annotations(content)[0])
    path = photos / "3.png"
    for photo in (
        Image.open(path),
        str(path),
        {"bytes": path.read_bytes(), "path": None},
        {"bytes": None, "path": path},
    ):
        assert make_sample({**row, "image": photo}).image.getpixel((0, 0)) == (20, 0, 0)


def test_categories_may_be_withheld(dataset):
    row = dict(dataset[0])
    row["objects"] = [{**obj, "category_id": 3} for obj in row["objects"]]
    seen = []

    def asks(sample):
        seen.append(sample.category_ids)
        return Prediction(masks=sample.modal)

    asks.name = "asks"
    evaluate_methods([row], [asks])
    evaluate_methods([row], [asks], use_categories=False)
    assert seen == [[3, 3], [None, None]]
    with pytest.raises(ValueError, match="`class_aware` needs `use_categories`"):
        evaluate_methods([row], [asks], use_categories=False, class_aware=True)


def test_classes_count_in_ap(dataset):
    rows = [dict(row) for row in dataset]
    for row in rows:
        row["objects"] = [{**obj, "category_id": 3 + index} for index, obj in enumerate(row["objects"])]
    blind, aware = (evaluate_methods(rows, [METHODS["convex"]], class_aware=aware) for aware in (False, True))
    assert "class-agnostic" in blind.to_text() and "by class" in aware.to_text()
    assert aware.completion["convex"]["ap"] != blind.completion["convex"]["ap"]


@pytest.mark.slow
def test_two_real_processes_write_the_same_files(tmp_path, content):
    annotations = tmp_path / "annotations.json"
    annotations.write_text(json.dumps(content), encoding="utf-8")
    module = ["-m", "amodal_diffusion", "evaluate", "--annotations", annotations, "--device", "cpu"]
    options = ["--methods", "raw,convex", "--resamples", "50", "--json"]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    reports = []
    for name, command in (("one", []), ("two", launcher)):
        path = tmp_path / f"{name}.json"
        done = subprocess.run(
            [sys.executable, *command, *module, *options, path],
            capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Amodal AP") == 1  # one process prints
        reports.append({k: v for k, v in json.loads(path.read_text(encoding="utf-8")).items() if k != "seconds"})
    assert reports[0] == reports[1] and reports[0]["intervals"]
