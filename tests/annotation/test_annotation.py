"""`amodal-diffusion annotate`: what it writes, what it refuses, and that killing it changes nothing."""

import argparse
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from PIL import Image

from amodal_diffusion import ASBUPipeline, ASBUPredictor, MaskPipeline, PCNetMask, PCNetMaskPipeline
from amodal_diffusion.annotation import BASELINES, annotate_dataset
from amodal_diffusion.annotation.annotator import annotation_table
from amodal_diffusion.annotation.folder_store import AnnotationStore
from amodal_diffusion.annotation.record import dataset_digest, photos_digest
from amodal_diffusion.baselines import complete_convex_refined
from amodal_diffusion.cli import annotate as command
from amodal_diffusion.cli.main import main
from amodal_diffusion.data import load_amodal_dataset, read_annotations, record_masks, record_order
from amodal_diffusion.data.photos import encoded_photos
from amodal_diffusion.evaluation import call_pipeline, load_pipeline
from fresh_process import run_fresh
from pipeline_helpers import tiny_pipeline
from training_helpers import write_coco

FP32 = ("--dtype", "fp32")
FILES = ("amodal.json", "README.md", "data/train-00000-of-00001.parquet")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = write_coco(tmp_path_factory.mktemp("source") / "instances.json", images=9)
    content = json.loads(path.read_text())
    content["annotations"][1]["iscrowd"] = 1  # a region that hides others and is not completed
    for image in content["images"]:
        image["id"] += 100
    for obj in content["annotations"]:
        obj["image_id"] += 100
    content["images"].append({"id": 500, "file_name": "empty.jpg", "height": 20, "width": 30})
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline(mask_threshold=0.3).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def result(source, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "the-result"
    annotate(source, model, folder)
    return folder


def annotate(source, model, folder, *flags):
    arguments = [
        "annotate",
        source,
        "--model",
        model,
        "--output",
        folder,
        "--shard-rows",
        "2",
        "--dtype",
        "fp32",
        *flags,
    ]
    assert main([str(part) for part in arguments]) in (0, None)


def content(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def test_masks_order_and_rates_are_the_pipelines(source, model, result):
    rows, annotated = read_annotations(source), load_amodal_dataset(result)
    assert annotated["image_id"][:] == rows["image_id"][:]
    pipeline, some = load_pipeline(str(model)), 0
    for row, found in zip(rows, annotated, strict=True):
        modal, _ = record_masks(row)
        if not len(modal):
            assert found["objects"] == [] and found["order_relations"] == []
            continue
        output = call_pipeline(pipeline, None, modal, [1] * len(modal))
        crowd = np.array([obj["is_crowd"] for obj in row["objects"]])
        expected = np.where(crowd[:, None, None], modal, output.amodal_masks)
        again, amodal = record_masks(found)
        assert np.array_equal(again, modal) and np.array_equal(amodal, expected)
        assert np.array_equal(record_order(found), output.order)
        for obj, whole, seen in zip(found["objects"], expected, modal, strict=True):
            rate = (whole & ~seen).sum() / whole.sum()
            assert obj["occlusion_rate"] == pytest.approx(rate)
            some += rate > 0
    assert some > 3


def test_coco_document_says_the_same(source, result):
    document = json.loads((result / "amodal.json").read_text())
    assert [image["id"] for image in document["images"]] == [*range(101, 110), 500]
    assert {entry["id"]: entry["name"] for entry in document["categories"]} == {1: "thing", 2: "other"}
    assert len({entry["id"] for entry in document["annotations"]}) == len(document["annotations"]) == 36
    again = read_annotations(result / "amodal.json")
    for row, found in zip(load_amodal_dataset(result), again, strict=True):
        for first, second in zip(record_masks(row), record_masks(found), strict=True):
            assert np.array_equal(first, second) if first is not None else second is None
    predictions = [p for row in parquet.read_table(result / FILES[2])["predictions"].to_pylist() for p in row]
    for entry, prediction in zip(document["annotations"], predictions, strict=True):
        assert entry["score"] == pytest.approx(prediction["score"], abs=1e-6) and 0 < entry["score"] <= 1
        assert entry["uncertainty"] == pytest.approx(prediction["uncertainty"], abs=1e-6)
        assert entry["area"] > 0 and len(entry["bbox"]) == 4
    fronts = [pair for image in document["images"] for pair in image["order_relations"]]
    ids = {entry["id"]: entry["image_id"] for entry in document["annotations"]}
    assert fronts and all(ids[pair["front"]] == ids[pair["behind"]] for pair in fronts)


def test_card_says_that_it_is_no_ground_truth(result, model):
    card = (result / "README.md").read_text()
    assert "not ground truth" in card and str(model) in card and "36" in card


def test_nothing_is_left_behind(result):
    assert sorted(path.name for path in result.iterdir()) == ["README.md", "amodal.json", "annotation.json", "data"]


def test_the_same_command_again_does_nothing(source, model, result, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in result.rglob("*")}
    monkeypatch.setattr("amodal_diffusion.annotation.annotator.call_scenes", None)
    annotate(source, model, result)
    assert {path: path.stat().st_mtime_ns for path in result.rglob("*")} == before


def test_a_finished_run_without_its_result_says_so(source, model, result, tmp_path, capsys):
    shutil.copytree(result, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "data")
    with pytest.raises(AssertionError):
        annotate(source, model, tmp_path / "out")
    assert "its Parquet files are gone; delete the folder" in capsys.readouterr().err


@pytest.mark.parametrize("coco_shards", [False, True])
def test_a_finished_run_of_whose_result_a_part_lacks_says_so(source, tmp_path, monkeypatch, coco_shards):
    monkeypatch.setattr("amodal_diffusion.annotation.folder_run._SHARD_BYTES", 1)
    monkeypatch.setattr("amodal_diffusion.annotation.folder_run._JOINED_ROWS", 4)
    rows, pipeline, folder = read_annotations(source), tiny_pipeline(), tmp_path / "out"
    options = {"shard_rows": 4, "coco_shards": coco_shards}
    annotate_dataset(rows, pipeline, folder, **options)
    assert annotate_dataset(rows, pipeline, folder, **options) == folder
    parts = [path for path in folder.rglob("*") if path.is_file() and path.name != "annotation.json"]
    assert len(parts) == (7 if coco_shards else 5)
    for part in parts:
        part.rename(tmp_path / "away")
        with pytest.raises(ValueError, match=f"says that it is finished, but {part.name} is gone; delete the folder"):
            annotate_dataset(rows, pipeline, folder, **options)
        (tmp_path / "away").rename(part)


def test_what_is_no_data_set_of_the_schema_is_refused_before_anything_is_written(source, tmp_path):
    rows, pipeline = read_annotations(source), tiny_pipeline()
    with pytest.raises(TypeError, match="`dataset` must be a datasets.Dataset, got IterableDataset"):
        annotate_dataset(rows.to_iterable_dataset(), pipeline, tmp_path / "out")
    with pytest.raises(ValueError, match=r"`dataset` is not an amodal data set: it lacks the columns \['source'\]"):
        annotate_dataset(rows.remove_columns("source"), pipeline, tmp_path / "out")
    nameless = rows.map(lambda row, index: {"image_id": None if index else "1"}, with_indices=True)
    with pytest.raises(ValueError, match="`dataset`: the column 'image_id' has no value in 9 of 10 rows"):
        annotate_dataset(nameless, pipeline, tmp_path / "out")
    for size in (1.5, float("nan"), "2", True):
        with pytest.raises(TypeError, match=f"`shard_rows` must be an integer, got {size!r}"):
            annotate_dataset(rows, pipeline, tmp_path / "out", shard_rows=size)
    with pytest.raises(ValueError, match="`shard_rows` must be at least 1, got 0"):
        annotate_dataset(rows, pipeline, tmp_path / "out", shard_rows=0)
    assert not (tmp_path / "out").exists()


def test_the_processor_says_the_precision_once_for_all_processes(source, model, tmp_path, monkeypatch, capsys):
    """Its helper is a fresh interpreter, since this process has used torch."""
    asked, ask = [], multiprocessing.get_context
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: asked.append(method) or ask(method))
    monkeypatch.setattr("amodal_diffusion.runtimes.preferred_dtype", lambda device, runtime: torch.bfloat16)
    arguments = ["annotate", source, "--model", model, "--output", tmp_path / "out", "--num-workers", "2"]
    threads = torch.get_num_threads()
    assert main([str(part) for part in arguments]) in (0, None)
    torch.set_num_threads(threads)  # for other tests: the command has shared them out
    assert json.loads((tmp_path / "out" / "annotation.json").read_text())["run"]["dtype"] == "bfloat16"
    assert capsys.readouterr().err.count("computing in bfloat16") == 1 and asked == ["spawn"]


def test_uncertainty_of_a_pipeline_that_has_it(source, tmp_path):
    torch.manual_seed(0)
    pipeline = ASBUPipeline(ASBUPredictor(block_out_channels=(4, 4), sample_size=32))
    pipeline.set_progress_bar_config(disable=True)
    rows = read_annotations(source)
    annotate_dataset(rows, pipeline, tmp_path / "out", pipeline_name="tiny")
    predictions = parquet.read_table(tmp_path / "out" / FILES[2])["predictions"].to_pylist()
    modal = record_masks(rows[0])[0]
    output = pipeline(None, modal)
    expected = [float(output.uncertainty[i][output.amodal_masks[i]].mean()) for i in (0, 2, 3)]
    assert [predictions[0][i]["uncertainty"] for i in (0, 2, 3)] == pytest.approx(expected, rel=1e-4)


ALONE = """
import multiprocessing, os, sys
for name in [name for name in sys.modules if name.partition(".")[0] in ("torch", "diffusers", "datasets")]:
    sys.modules["kept." + name] = sys.modules.pop(name) if name == "torch" else sys.modules[name]
from amodal_diffusion.cli import options
from amodal_diffusion.cli.main import main
imported, asked, ask = [], [], multiprocessing.get_context
def import_rooms(*names):
    sys.modules["torch"] = sys.modules["kept.torch"]  # imported already by the server of fresh processes
    imported.extend(names)
import amodal_diffusion.cli.annotate as command
command.import_rooms = import_rooms
multiprocessing.get_context = lambda method: asked.append(method) or ask(method)
status = main(sys.argv[1:])
sys.stdout.write(f"context {asked} imported {len(imported)}")
sys.exit(status)
"""
"""The command in a process of its own: torch is not imported when it begins."""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are not forked")
def test_two_workers_make_the_same(source, model, result, tmp_path):
    """Those of the command are forked when all is imported; of a process that has used torch before they are not."""
    folder = tmp_path / "two" / "the-result"
    flags = [source, "--model", model, "--output", folder, "--shard-rows", "2", *FP32, "--num-workers", "2"]
    written = run_fresh(ALONE, "annotate", *flags)
    assert written.endswith("context ['fork'] imported 3"), written[-2000:]
    assert content(folder) == content(result)


def interrupt():
    raise KeyboardInterrupt


def lose_the_disk():
    raise OSError("the disk is gone")


def be_killed():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are not forked")
@pytest.mark.parametrize(("end", "code"), [(interrupt, 130), (lose_the_disk, 2), (be_killed, -9)])
def test_processes_that_end_early_are_told_without_a_trace(monkeypatch, capfd, end, code):
    shares = []

    def work(options, share, helps=False):
        shares.append(share)
        if helps:
            end()
        return []

    monkeypatch.setattr(command, "_annotate", work)
    options = argparse.Namespace(shard=None, num_workers=3, debug=False)
    assert command._annotate_here(options, may_fork=True) == [] and shares == [(0, 3), None]
    written = capfd.readouterr().err
    assert f"2 of 3 processes ended early, with exit code {code} " in written and "Traceback" not in written


KILLER = """
import os, random, signal, sys
from pathlib import Path
from amodal_diffusion.baselines import complete_convex_refined
from amodal_diffusion.cli.main import main
from amodal_diffusion.data import read_annotations
read_annotations(sys.argv[2])[0]  # imports what reading needs
pieces = Path(sys.argv[6]) / "shards"
rooms = "annotation.annotator", "annotation.folder_run", "annotation.folder_store", "annotation.coco_files", "files"
watched = {f"amodal_diffusion.{name}" for name in (*rooms, "data.parquet")}

def die_after(steps):
    started = False
    def watch(frame, event, argument):
        nonlocal started, steps
        if frame.f_globals.get("__name__") in watched:
            started = started or frame.f_code.co_name == "_work"
            steps -= started
        if steps <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(watch)

rng, kills, seen = random.Random(0), 0, set()
for attempt in range(10):  # forked, since importing torch takes longer than the work
    for number in range(2):  # one with a share, one for all
        steps = rng.randint(1, 600) if attempt < 6 else rng.randint(600, 5000)  # early ones may end no piece
        child = os.fork()
        if not child:
            die_after(steps)
            os._exit(main([*sys.argv[1:], *(["--shard", f"{attempt % 2}/2"] if number else [])]))
    kills += sum(os.WIFSIGNALED(os.wait()[1]) for _ in range(2))
    finished = '"finished": true' in (pieces.parent / "annotation.json").read_text()
    seen.add("all" if finished else len(list(pieces.glob("*/*.parquet"))))
sys.stdout.write(f"killed {kills} {len(seen)}")
"""
"""Moments are counted in calls from the beginning of the work on, not in seconds, which a busy machine would change."""


def test_killed_and_started_again_it_is_the_same(source, model, result, tmp_path):
    """Two processes at once, killed at random moments, ten times; then one runs to the end."""
    folder = tmp_path / "killed" / "the-result"
    flags = [source, "--model", model, "--output", folder, "--shard-rows", "2", *FP32]
    written = run_fresh(KILLER, "annotate", *flags)
    kills, stages = map(int, written.split("killed")[-1].split())
    assert kills > 5 and stages > 1, written[-2000:]
    annotate(source, model, folder)
    assert content(folder) == content(result)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "amodal.json", "annotation.json", "data"]


def test_a_process_that_starts_at_the_same_moment_is_no_foreign_file(tmp_path, monkeypatch):
    AnnotationStore(tmp_path / "run", {"a": 1}, 2)
    (tmp_path / "run" / "shards").mkdir()
    read, answers = AnnotationStore._read, [None]
    monkeypatch.setattr(AnnotationStore, "_read", lambda self: answers.pop() if answers else read(self))
    assert AnnotationStore(tmp_path / "run", {"a": 1}, 2).missing == {0, 1}
    answers.append(None)
    with pytest.raises(ValueError, match="what differs is a"):
        AnnotationStore(tmp_path / "run", {"a": 2}, 2)


@pytest.mark.parametrize("moment", ["_work", "_join"])
def test_another_process_may_finish_meanwhile(source, model, tmp_path, monkeypatch, moment):
    folder_run = importlib.import_module("amodal_diffusion.annotation.folder_run")
    ours = getattr(folder_run, moment)

    def after_the_other(store, *more):
        store.finish()  # the other one was quicker, and is done
        ours(store, *more)

    monkeypatch.setattr(folder_run, moment, after_the_other)
    annotate_dataset(read_annotations(source), load_pipeline(str(model)), tmp_path / "out", shard_rows=5)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["annotation.json"]  # nothing was done twice


def test_a_piece_that_is_lost_is_no_silence(source, model, tmp_path, monkeypatch):
    monkeypatch.setattr(AnnotationStore, "write", lambda self, index, table: None)
    with pytest.raises(FileNotFoundError):
        annotate_dataset(read_annotations(source), load_pipeline(str(model)), tmp_path / "out")


@pytest.mark.parametrize("keep", [0, 12, -20])
def test_a_broken_piece_is_named_and_can_be_done_anew(source, model, result, tmp_path, capsys, keep):
    folder = tmp_path / "the-result"
    annotate(source, model, folder, "--shard", "0/2")
    piece = next(folder.glob("shards/*/*"))
    piece.write_bytes(piece.read_bytes()[:keep])
    command = ["annotate", source, "--model", model, "--output", folder, "--shard-rows", "2", "--dtype", "fp32"]
    assert main([str(part) for part in command]) == 2
    error = capsys.readouterr().err
    assert f"the piece '{piece}' cannot be read (" in error and "delete it and start the same command again" in error
    piece.unlink()
    annotate(source, model, folder)
    assert content(folder) == content(result)


@pytest.mark.parametrize("other", ["its neighbour", "another run", "no piece of ours"])
def test_a_piece_in_the_place_of_another_is_named(source, model, result, tmp_path, capsys, other):
    folder = tmp_path / "the-result"
    annotate(source, model, folder, "--shard", "0/2")
    first, second = sorted(folder.glob("shards/*/*"))[:2]
    if other == "its neighbour":
        shutil.copy(second, first)
    elif other == "another run":
        annotate(source, model, tmp_path / "other", "--shard", "0/2", "--mask-threshold", "0.9")
        shutil.copy(tmp_path / "other" / first.relative_to(folder), first)
    else:
        parquet.write_table(annotation_table([]), first)
    command = ["annotate", source, "--model", model, "--output", folder, "--shard-rows", "2", "--dtype", "fp32"]
    assert main([str(part) for part in command]) == 2
    assert f"the piece '{first}' is not piece 0 of this run; delete it and start" in capsys.readouterr().err
    first.unlink()
    annotate(source, model, folder)
    assert content(folder) == content(result)


def test_shares_and_the_rest(source, model, result, tmp_path):
    """Two of three shares are done; the command without a share does the third, and joins."""
    folder = tmp_path / "shares" / "the-result"
    for share in ("0/3", "2/3"):
        annotate(source, model, folder, "--shard", share)
        assert not (folder / "data").exists()
    assert sorted(path.stem for path in folder.glob("shards/*/*")) == ["00000000", "00000002", "00000003"]
    annotate(source, model, folder)
    assert content(folder) == content(result)


def test_what_a_piece_costs_does_not_grow(tmp_path, monkeypatch):
    """The folder is listed once, whatever the number of pieces."""
    lists = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: lists.append(len(listdir(path))) or listdir(path))
    store = AnnotationStore(tmp_path / "run", {}, 2500)
    for index in range(0, 2500, 250):
        store.write(index, annotation_table([]))
        assert len(list(store.piece(index).parent.iterdir())) <= 4
    assert len(store.missing) == 2490 and max(lists) < 10


def test_parts_of_the_coco_document(source, model, result, tmp_path, monkeypatch):
    monkeypatch.setattr("amodal_diffusion.annotation.folder_run._SHARD_BYTES", 1)
    monkeypatch.setattr("amodal_diffusion.annotation.folder_run._JOINED_ROWS", 4)
    folder = tmp_path / "parts" / "the-result"
    annotate(source, model, folder, "--coco-shards")
    names = [path.name for path in sorted(folder.glob("amodal*"))]
    assert names == [f"amodal-{number:05d}-of-00003.json" for number in range(3)]
    parts = [json.loads((folder / name).read_text()) for name in names]
    whole = json.loads((result / "amodal.json").read_text())
    for key in ("images", "annotations"):
        assert [entry for part in parts for entry in part[key]] == whole[key]
    for part, path in zip(parts, sorted((folder / "data").iterdir()), strict=True):
        assert [image["source_id"] for image in part["images"]] == parquet.read_table(path)["image_id"].to_pylist()
        assert {entry["category_id"] for entry in part["annotations"]} == {entry["id"] for entry in part["categories"]}


def test_another_run_in_the_folder_is_refused(source, model, tmp_path, capsys):
    folder = tmp_path / "out"
    annotate(source, model, folder)
    for flags, name in (
        (["--shard-rows", "3", *FP32], "shard_rows"),
        (["--shard-rows", "2", *FP32, "--mask-threshold", "0.9"], "options"),
        (["--shard-rows", "2", "--dtype", "bf16"], "dtype"),
        (["--shard-rows", "2", *FP32, "--runtime", "onnx"], "runtime"),
    ):
        assert main([*map(str, ["annotate", source, "--model", model, "--output", folder, *flags])]) == 2
        assert f"holds another run; what differs is {name}.\n" in capsys.readouterr().err


@pytest.mark.parametrize("changed", ["file_name", "source", "image_id", "name", "id", "category_id", "is_stuff"])
def test_all_that_the_result_takes_over_is_of_the_run(source, model, tmp_path, changed):
    rows = read_annotations(source)

    def change(row, index):
        if index == 4 and changed in row:
            return {**row, changed: row[changed] + "7"}
        if index == 4:
            objects = [dict(obj) for obj in row["objects"]]
            value = objects[2][changed]
            objects[2][changed] = not value if changed == "is_stuff" else value + ("7" if changed == "name" else 7)
            return {**row, "objects": objects}
        return row

    other = rows.map(change, with_indices=True, keep_in_memory=True)
    assert other[4] != rows[4]
    AnnotationStore(tmp_path / "out", {"dataset": dataset_digest(rows)}, 2)
    with pytest.raises(ValueError, match="what differs is dataset"):
        AnnotationStore(tmp_path / "out", {"dataset": dataset_digest(other)}, 2)


def test_other_photos_are_another_run_of_a_pipeline_that_looks_at_them(tmp_path):
    path = write_coco(tmp_path / "a.json", images=3)
    for folder, quality in (("first", 90), ("second", 50)):
        (tmp_path / folder).mkdir()
        for number in range(3):
            noise = np.random.default_rng(number).integers(0, 256, (120, 160, 3)).astype(np.uint8)
            Image.fromarray(noise).save(tmp_path / folder / f"{number}.jpg", quality=quality)
    first, second = (read_annotations(path, tmp_path / folder) for folder in ("first", "second"))
    annotate_dataset(first, _Looking(True), tmp_path / "out")
    with pytest.raises(ValueError, match="holds another run; what differs is photos"):
        annotate_dataset(second, _Looking(True), tmp_path / "out")
    annotate_dataset(first, _Looking(False), tmp_path / "masks")
    annotate_dataset(second, _Looking(False), tmp_path / "masks")  # which does not look at them
    inside = [{"bytes": Path(photo["path"]).read_bytes(), "path": None} for photo in encoded_photos(first)["image"]]
    embedded = first.remove_columns("image").add_column("image", inside).cast(first.features)
    assert photos_digest(embedded) == photos_digest(first) != photos_digest(second)
    assert photos_digest(first.remove_columns("image")) == ""


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"run": 3}', b"\xff{}"])
def test_broken_record_is_refused(source, model, tmp_path, text):
    (tmp_path / "annotation.json").write_bytes(text)
    with pytest.raises(ValueError, match="no valid record of an annotation run"):
        annotate_dataset(read_annotations(source), load_pipeline(str(model)), tmp_path)


def test_foreign_folders_are_left_alone(source, model, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    for folder, message in ((tmp_path, "holds other files, such as 'mine.txt'"), (tmp_path / "mine.txt", "is a file")):
        assert main([*map(str, ["annotate", source, "--model", model, "--output", folder])]) == 2
        assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num-workers", "0"], "--num-workers must be at least 1"),
        (["--num-gpus", "1"], "--num-gpus and --ray-address are of --engine ray"),
        (["--engine", "ray", "--shard", "0/2"], "--shard and --split are not of --engine ray"),
        (["--engine", "ray", "--coco-shards"], "--coco-shards is of --engine folder"),
        (["--engine", "ray", "--runtime", "onnx"], "--runtime is of --engine folder"),
        (["--shard", "0/2", "--push-to-hub", "me/x"], "--push-to-hub needs a whole result"),
        (["--shard-rows", "0"], "`shard_rows` must be at least 1, got 0"),
        (["--push-to-hub", "x"], "`repo_id` must be of the form"),
        (["--split", "test"], "split must be None for an annotation file"),
    ],
)
def test_bad_flags(source, model, tmp_path, capsys, flags, message):
    assert main([*map(str, ["annotate", source, "--model", model, "--output", tmp_path / "out", *flags])]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_share_is_checked(source, model, tmp_path, capsys):
    for text in ("2/2", "1", "a/b"):
        with pytest.raises(SystemExit):
            annotate(source, model, tmp_path / "out", "--shard", text)
        assert "expected I/N with I from 0 to N - 1" in capsys.readouterr().err
    with pytest.raises(ValueError, match="`shard` must be"):
        annotate_dataset(read_annotations(source), load_pipeline(str(model)), tmp_path / "out", shard=(2, 2))
    with pytest.raises(ValueError, match="--output s3://b/x needs --engine ray"):
        main(["annotate", str(source), "--model", str(model), "--output", "s3://b/x", "--debug"])


def test_data_without_rows_or_photos(source, model, tmp_path):
    rows = read_annotations(source)
    with pytest.raises(ValueError, match="at least one row"):
        annotate_dataset(rows.select([]), load_pipeline(str(model)), tmp_path / "out")
    with pytest.raises(ValueError, match="must have photos in a column `image`: _Looking looks at them"):
        annotate_dataset(rows, _Looking(True), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_asks_for_the_photos(source, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(PCNetMaskPipeline, "needs_image", True)
    assert main([*map(str, ["annotate", source, "--model", model, "--output", tmp_path / "out"])]) == 2
    assert "--images DIR must be given" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_push(source, model, tmp_path, monkeypatch):
    pushed = []
    monkeypatch.setattr("amodal_diffusion.data.push_parquet", lambda *call: pushed.append(call) or "url")
    annotate(source, model, tmp_path / "out", "--push-to-hub", "me/amodal")
    assert pushed == [(tmp_path / "out", "me/amodal")] and Path(tmp_path / "out" / "README.md").is_file()


def test_category_zero_and_an_unknown_one_stay_apart(tmp_path):
    square = [[5, 5, 25, 5, 25, 30, 5, 30]]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 40, "width": 50}],
        "categories": [{"id": 0, "name": "person"}, {"id": 1, "name": "bicycle"}],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": kind, "segmentation": square, "iscrowd": int(number == 3)}
            for number, kind in ((1, 0), (2, 1), (3, None))
        ],
    }
    pipe = PCNetMaskPipeline(PCNetMask((4, 4), sample_size=32))
    folder = annotate_dataset(read_annotations(content), pipe, tmp_path / "out")
    document = json.loads((folder / "amodal.json").read_text())
    assert [entry["category_id"] for entry in document["annotations"]] == [0, 1, 2]
    assert [entry["iscrowd"] for entry in document["annotations"]] == [0, 0, 1]
    assert [(entry["id"], entry["name"]) for entry in document["categories"]] == [
        (0, "person"), (1, "bicycle"), (2, "object")
    ]  # fmt: skip


def test_options_are_checked_before_anything_is_written(source, model, tmp_path, capsys):
    """So that the corrected command finds no record of another run."""
    for flags in (["--mask-threshold", "9"], ["--batch-size", "0"], ["--shard-rows", "0"]):
        arguments = ["annotate", source, "--model", model, "--output", tmp_path / "out", *flags]
        assert main([*map(str, arguments)]) == 2
        assert flags[0].lstrip("-").replace("-", "_") in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    annotate(source, model, tmp_path / "out", "--mask-threshold", "0.9")


class _Looking(MaskPipeline):
    """A pipeline that may look at photos, in front of a tiny one; it counts what it sees."""

    def __init__(self, needs):
        self._tiny, self._needs, self.seen = tiny_pipeline(), needs, []

    config = property(lambda self: self._tiny.config)
    networks = property(lambda self: self._tiny.networks)
    needs_image = property(lambda self: self._needs)
    unknown_category_id = 1

    def __call__(self, image, masks, **options):
        self.seen += image or []
        return self._tiny(None if len(masks) else [], masks, **options)


@pytest.mark.parametrize("needs", [True, False])
def test_a_photo_that_is_cut_off_costs_its_image_alone(tmp_path, needs):
    path = write_coco(tmp_path / "a.json", images=3)
    rng = np.random.default_rng(0)
    for number in range(3):
        photo = Image.fromarray(rng.integers(0, 256, (120, 160, 3)).astype(np.uint8))
        photo.save(tmp_path / f"{number}.jpg")
    rows = read_annotations(path, tmp_path)
    os.truncate(tmp_path / "1.jpg", 3000)
    Image.new("RGB", (5, 5)).save(tmp_path / "2.jpg")
    pipeline = _Looking(needs)
    annotate_dataset(rows, pipeline, tmp_path / "out")
    found = parquet.read_table(tmp_path / "out" / "data").to_pylist()
    content = json.loads((tmp_path / "out" / "amodal.json").read_text())
    if not needs:
        assert not pipeline.seen and [row["error"] for row in found] == [None] * 3
        return
    assert len(pipeline.seen) == 1
    assert found[0]["error"] is None and all(obj["amodal_mask"] for obj in found[0]["objects"])
    assert "photo 1.jpg of image 2 of 'a' cannot be read: image file is truncated" in found[1]["error"]
    assert found[2]["error"].endswith("is 5x5 pixels, its masks are 160x120.")
    for row in found[1:]:
        assert [obj["amodal_mask"] for obj in row["objects"]] == [None] * 4
        assert {prediction["score"] for prediction in row["predictions"]} == {None}
    assert {entry["image_id"] for entry in content["annotations"]} == {1}
    assert ["error" in entry for entry in content["images"]] == [False, True, True]
    again = load_amodal_dataset(tmp_path / "out")
    assert record_masks(again[1])[1] is None


@pytest.mark.parametrize("photo", [b"", b"no photo"])
def test_a_broken_photo_inside_has_the_same_error_each_time(tmp_path, photo):
    """Without the place in memory of its bytes, which differs from one process to the next."""
    write_coco(tmp_path / "a.json", images=1)
    Image.new("RGB", (160, 120)).save(tmp_path / "0.jpg")
    rows = read_annotations(tmp_path / "a.json", tmp_path)
    features = rows.features
    rows = rows.remove_columns("image").add_column("image", [{"bytes": photo, "path": None}]).cast(features)
    annotate_dataset(rows, _Looking(True), tmp_path / "out")
    (error,) = parquet.read_table(tmp_path / "out" / "data")["error"].to_pylist()
    assert error == "photo 0.jpg of image 1 of 'a' cannot be read: it is no picture"


def test_labels_are_converted_without_a_network(source, model, result, tmp_path):
    flags = ["--output", tmp_path / "hulls", "--shard-rows", "2"]
    for method in ("convex-refined", "convex-refined"):  # the second time there is nothing to do
        assert main([str(part) for part in ["annotate", source, "--method", method, *flags]]) in (0, None)
    record = json.loads((tmp_path / "hulls" / "annotation.json").read_text())
    assert record["run"]["method"] == record["run"]["pipeline"] == "convex-refined" and record["finished"]
    assert "predictions of `convex-refined`" in (tmp_path / "hulls" / "README.md").read_text()
    rows, some = read_annotations(source), 0
    for row, found in zip(rows, load_amodal_dataset(tmp_path / "hulls"), strict=True):
        modal, _ = record_masks(row)
        if len(modal):
            crowd = np.array([obj["is_crowd"] for obj in row["objects"]])
            expected = np.where(crowd[:, None, None], modal, complete_convex_refined(modal))
            assert (record_masks(found)[1] == expected).all()
            some += (expected & ~modal).any()
    assert some


@pytest.mark.parametrize("engine", ["folder", "ray"])
@pytest.mark.parametrize("flags", [("--runtime", "onnx"), ("--dtype", "bf16"), ("--device", "cpu")])
def test_a_baseline_has_no_network(source, tmp_path, capsys, flags, engine):
    command = ["annotate", source, "--method", "convex", "--output", tmp_path / "out", "--engine", engine, *flags]
    assert main([str(part) for part in command]) == 2
    assert f"{' '.join(flags)} is for --model, and --method convex has no network." in capsys.readouterr().err


def test_another_method_in_the_same_folder_is_refused(source, model, tmp_path, capsys):
    folder = tmp_path / "labels"

    def run(*flags):
        arguments = ["annotate", source, "--output", folder, *flags]
        status = main([str(part) for part in arguments])
        return status, capsys.readouterr().err

    assert run("--method", "raw")[0] in (0, None)
    for flags in (("--method", "convex"), ("--method", "convex-refined"), ("--model", model)):
        status, error = run(*flags)
        assert status and "holds another run; what differs is" in error and "method" in error
    status, error = run("--method", "raw", "--mask-threshold", "0.4")
    assert status and "takes no options, got `mask_threshold`" in error
    for flags in ((), ("--method", "raw", "--model", model)):
        with pytest.raises(SystemExit):
            run(*flags)


def test_the_command_names_the_baselines():
    assert importlib.import_module("amodal_diffusion.cli.annotate")._METHODS == tuple(BASELINES)
