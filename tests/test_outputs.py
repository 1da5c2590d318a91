"""Every output of the package: killed at any step, or on a full disk, the old one or the new one is there, whole."""

import os
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion import (
    ContentPipeline,
    PCNetContent,
    PCNetMask,
    ScenePipeline,
    Segmenter,
    files,
)
from amodal_diffusion.data import convert_dataset, iter_annotations, read_annotations, save_parquet
from amodal_diffusion.evaluation import EvaluationReport, evaluation_results, update_model_card
from amodal_diffusion.evaluation.report import write_report
from amodal_diffusion.images import save_image
from amodal_diffusion.io import ObjectMasks, coco_document, save_completion
from amodal_diffusion.pipelines.sdamodal.feature_cache import FeatureCache
from data_helpers import coco, coco_object
from kill_helpers import full_disk_at_every_step, full_files, killed_at_every_step, tree
from pipeline_helpers import tiny_pipeline
from scene_format_helpers import make_scene

MASKS = np.zeros((2, 12, 20), bool)
MASKS[0, 2:8, 3:9] = MASKS[1, 4:11, 9:15] = True
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 20, 3)).astype(np.uint8))


def mask_pipeline(version):
    torch.manual_seed(version)
    return tiny_pipeline(PCNetMask(block_out_channels=(2, 2), sample_size=8), mask_threshold=0.3 + version / 10)


def content_pipeline(version):
    torch.manual_seed(version)
    return ContentPipeline(model=PCNetContent((2, 2, 2), sample_size=8), seam_margin=version)


def segmenter(version):
    from segmenter_helpers import sam_pipeline

    return Segmenter(sam_pipeline(), max_overlap=0.5 + version / 10)


def save_report(folder, version):
    report = EvaluationReport({"tiny": {"miou_pooled": 0.5 + version / 10}}, {}, {}, {"images": 1, "skipped": 0})
    write_report(report, json_path=folder / "report.json")


def save_card(folder, version):
    report = EvaluationReport({"tiny": {"miou_pooled": 0.5 + version / 10}}, {}, {}, {"images": 1, "skipped": 0})
    if not (folder / "README.md").exists():
        files.write_text(folder / "README.md", "---\nlicense: mit\n---\n\n# Card\n")
    update_model_card(str(folder), evaluation_results(report, "tiny", data_name="COCOA"))


def save_masks(folder, version):
    count = 2 - version
    objects = ObjectMasks(MASKS[:count], ["a", "b"][:count], [1] * count)
    document = coco_document(objects, MASKS[:count], file_name="photo.jpg")
    save_completion(folder, document, MASKS[:count], overlay=PICTURE, **{} if version else {"order_graph": PICTURE})


def save_rows(folder, version):
    content = coco(*(coco_object(index) for index in range(1, 3 + version)))
    save_parquet(read_annotations(content), folder, overwrite=True)


def convert_rows(folder, version):
    content = coco(*(coco_object(index) for index in range(1, 3 + version)))
    convert_dataset({"train": iter_annotations(content, source="mine")}, folder, overwrite=True)


def fill_cache(folder, version):
    """Version 1 adds to version 0."""
    cache = FeatureCache(folder, {"time_step": 1}, shapes=[(2, 4, 4)])
    keys = cache.missing({str(key): str(key) for key in range(1 + version)})
    cache.fill(
        keys, {key: key for key in keys}, lambda key: [torch.full((1, 2, 4, 4), float(key))], show_progress=False
    )


def save_run(folder, version):
    """Pipeline and pictures of a training, beside its checkpoints."""
    if not version:
        (folder / "checkpoint-1").mkdir(parents=True)
        (folder / "checkpoint-1" / "state.json").write_text("{}")
    mask_pipeline(version).save_pretrained(folder)


def write_record(folder, version):
    from common import write_json

    write_json(folder / "record.json", {"seconds": version})


@cache
def boxes():
    """A scene and its cameras, made once: before anything is killed."""
    from room_helpers import write_boxes

    return write_boxes(Path(tempfile.mkdtemp(prefix="boxes-")))


def write_truth(folder, version):
    """Photos of a box before a box, with the colours of what is hidden."""
    pytest.importorskip("embreex")
    from amodal_diffusion.data.rooms.ground_truth import GroundTruthOptions, write_ground_truth

    options = GroundTruthOptions(size=(32, 24), intrinsics=(30.0, 30.0), limit=1 + version)
    write_ground_truth(*boxes(), folder, options=options, overwrite=True)


OUTPUTS = {
    "pipeline": lambda folder, version: mask_pipeline(version).save_pretrained(folder),
    "pipeline of colours": lambda folder, version: content_pipeline(version).save_pretrained(folder),
    "segmenter": lambda folder, version: segmenter(version).save_pretrained(folder),
    "pipeline of scenes": lambda folder, version: ScenePipeline(
        mask_pipeline(version), content_pipeline(version), edge_width=version
    ).save_pretrained(folder),
    "scene, folder": lambda folder, version: make_scene(version, count=1).save(folder),
    "scene, .ora": lambda folder, version: make_scene(version, count=1).save(folder / "scene.ora"),
    "scene, .psd": lambda folder, version: make_scene(version, count=1).save(folder / "scene.psd"),
    "scene, COCO": lambda folder, version: make_scene(version, count=1).save(folder / "scene.json"),
    "masks": save_masks,
    "report": save_report,
    "model card": save_card,
    "Parquet": save_rows,
    "converted data set": convert_rows,
    "ground truth of a scene": write_truth,
    "cache of features": fill_cache,
    "run of training": save_run,
    "picture": lambda folder, version: save_image(PICTURE.rotate(180 * version), folder / "a.png"),
    "record of a benchmark": write_record,
}
SEVERAL = ("cache of features", "scene, COCO")
"""Outputs of a record and what it names, or of files that come one by one: more than the old ones or the new ones may
be there, which the next run takes up or sweeps."""
HEAVY = {"pipeline of scenes": 11, "run of training": 5, "pipeline": 4, "pipeline of colours": 4, "Parquet": 4,
         "scene, folder": 3, "converted data set": 3, "segmenter": 7,
         "ground truth of a scene": 5, "scene, COCO": 3}  # fmt: skip
"""Of which `make test` takes each so many steps, and `make test-slow` all."""


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    from repository_helpers import ROOT

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.fixture
def states(request, tmp_path):
    """The output's folder, and its content before and after."""
    write = OUTPUTS[request.param]
    twin = tmp_path / "twin" / "out"
    twin.mkdir(parents=True)
    found = []
    for version in (0, 1):
        write(twin, version)
        found.append(tree(twin))
    assert found[0] != found[1]
    return request.param, tmp_path / "out", found


def whole(folder):
    """The content of a folder without what a killed writer left, which nothing reads."""
    partial = lambda name: any(part.startswith(files.PARTIAL) for part in name.split(os.sep))  # noqa: E731
    return {name: value for name, value in tree(folder).items() if not partial(name)}


def reset(write, folder):
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write(folder, 0)


def check_kills(states, stride):
    name, folder, (old, new) = states
    write, seen = OUTPUTS[name], []
    for _ in killed_at_every_step(lambda: write(folder, 1), lambda: reset(write, folder), stride):
        seen.append(whole(folder))
        if name in SEVERAL:
            assert old.items() <= seen[-1].items() or new.items() <= seen[-1].items()
        else:
            assert seen[-1] in (old, new)
    assert tree(folder) == new and seen[0] == old
    reset(write, folder)
    next(killed_at_every_step(lambda: write(folder, 1), first=len(seen) * stride // 2))
    write(folder, 1)  # sweeps
    assert tree(folder) == new


def check_full_disk(states, stride):
    name, folder, (old, new) = states
    write, errors = OUTPUTS[name], []
    for kind in (full_disk_at_every_step, full_files):
        for error in kind(lambda: write(folder, 1), lambda: reset(write, folder), stride):
            errors.append(error)
            found = tree(folder)
            if name in SEVERAL and error is not None:
                assert old.items() <= found.items() or new.items() <= found.items(), error
            else:
                assert found == (new if error is None else old), error
        assert tree(folder) == new
    assert any(errors)


@pytest.mark.parametrize("states", OUTPUTS, indirect=True)
def test_killed_at_every_step(states):
    check_kills(states, HEAVY.get(states[0], 1))


@pytest.mark.parametrize("states", OUTPUTS, indirect=True)
def test_a_full_disk(states):
    check_full_disk(states, HEAVY.get(states[0], 1))


@pytest.mark.slow
@pytest.mark.parametrize("check", [check_kills, check_full_disk])
@pytest.mark.parametrize("states", HEAVY, indirect=True)
def test_heavy_outputs_at_every_step(states, check):
    check(states, 1)


def test_every_writer_is_listed():
    """Whoever writes from another module adds it above, or says here where it is tested."""
    import re

    from repository_helpers import ROOT

    elsewhere = {
        "annotation/coco_files.py", "annotation/folder_run.py", "annotation/folder_store.py",  # tests/annotation
        "data/rooms/furnishing/catalogue.py", "data/rooms/generate.py",  # tests/data/rooms/test_rooms.py
        # one file by the functions of `files.py`, as the report
        "data/synthesis/photo_bank.py", "interop/cvat.py", "interop/export.py", "interop/label_studio.py",
        "interop/published_formats.py", "runtimes/onnx_files.py",
        "cli/dataset.py", "cli/evaluate.py", "conversion/checkpoint.py",  # as the report and the pipeline
    }  # fmt: skip
    here = {
        "data/convert.py", "data/dataset.py", "data/rooms/ground_truth.py",
        "evaluation/model_card.py", "evaluation/report.py", "hub.py", "images.py",
        "io/results.py", "pipelines/sdamodal/feature_cache.py", "pipelines/segmentation/segmenter.py",
        "scene/formats/coco.py", "scene/formats/open_raster.py", "scene/formats/photoshop.py",
        "scene/formats/png_folder.py",
    }  # fmt: skip
    package = ROOT / "amodal_diffusion"
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if path.name != "files.py" and re.search(r"from \.+files import [^\n]*(atomic_|write_text)", path.read_text())
    }
    assert found == here | elsewhere
