"""Annotation by Ray: guards without a cluster; and on a local one, what kills do to the rows: nothing."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pyarrow.parquet as parquet
import pytest

from amodal_diffusion.annotation import BASELINES, annotate_dataset, annotate_with_ray, ray_run
from amodal_diffusion.annotation.record import record_text
from amodal_diffusion.data import load_amodal_dataset, read_annotations, save_parquet
from amodal_diffusion.evaluation import load_pipeline
from pipeline_helpers import tiny_pipeline
from repository_helpers import ROOT
from training_helpers import write_coco

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra `ray`")
IMAGES = 40


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    save_parquet(read_annotations(write_coco(folder / "a.json", images=IMAGES)), folder / "rows")
    parquet.write_table(parquet.read_table(folder / "rows" / "data"), folder / "rows.parquet", row_group_size=2)
    (folder / "rows" / "data" / "train-00000-of-00001.parquet").unlink()
    (folder / "rows.parquet").rename(folder / "rows" / "data" / "train-00000-of-00001.parquet")
    return folder / "rows"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline(mask_threshold=0.3).save_pretrained(folder)
    return folder


@pytest.fixture
def without_cluster(monkeypatch):
    """The work is done here, by the annotator itself."""

    def map_files(files, columns, place, pipeline, kwargs, num_workers, num_gpus, batch_rows):
        rows = load_amodal_dataset(files[0][0].name.removeprefix("file://"))
        annotate_dataset(rows, load_pipeline(pipeline) if isinstance(pipeline, str) else pipeline, place.inside("work"))
        place.files.mv(place.inside("work/data"), place.inside("data"), recursive=True)
        place.files.rm(place.inside("work"), recursive=True)

    from contextlib import nullcontext

    monkeypatch.setattr(ray_run, "_map_files", map_files)
    monkeypatch.setattr(ray_run, "_ray", lambda *arguments: nullcontext())
    monkeypatch.setattr(ray_run, "_data_context", lambda *arguments: nullcontext())
    monkeypatch.setattr(ray_run, "_check_ray", lambda: None)


@pytest.mark.parametrize("url", [False, True])
def test_the_run_around_the_cluster(source, model, tmp_path, without_cluster, monkeypatch, url):
    place = f"file://{tmp_path}/out" if url else tmp_path / "out"
    assert annotate_with_ray(f"file://{source}" if url else source, model, place) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "annotation.json", "data"]
    assert len(load_amodal_dataset(tmp_path / "out")) == IMAGES
    card = (tmp_path / "out" / "README.md").read_text()
    assert "not ground truth" in card and f"{4 * IMAGES}" in card
    monkeypatch.setattr(ray_run, "_map_files", None)
    assert annotate_with_ray(f"file://{source}" if url else source, model, place) == 0  # finished: nothing is done
    with pytest.raises(ValueError, match="holds another run; what differs is options"):
        annotate_with_ray(source, model, tmp_path / "out", mask_threshold=0.9)


def test_a_baseline_in_the_place_of_a_pipeline(source, model, tmp_path, without_cluster):
    assert annotate_with_ray(source, BASELINES["convex"], tmp_path / "out") == 0
    assert len(load_amodal_dataset(tmp_path / "out")) == IMAGES
    for other in (BASELINES["raw"], model):
        with pytest.raises(ValueError, match="holds another run; what differs is .*method"):
            annotate_with_ray(source, other, tmp_path / "out")


@pytest.mark.parametrize("url", [False, True])
def test_a_kill_amid_the_first_record_is_gone_on_from(source, model, tmp_path, without_cluster, monkeypatch, url):
    place = f"file://{tmp_path}/out" if url else tmp_path / "out"

    def kill(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("fsspec.implementations.local.LocalFileSystem.mv", kill)
        annotate_with_ray(source, model, place)
    assert len(list((tmp_path / "out").iterdir())) == 1  # what was written beside its place
    assert annotate_with_ray(source, model, place) == 0
    assert len(load_amodal_dataset(tmp_path / "out")) == IMAGES


def test_ids_that_occur_twice_are_seen(source, model, tmp_path, without_cluster, monkeypatch):
    monkeypatch.setattr(ray_run, "_count_rows", lambda place, errors=False: IMAGES - 1)
    with pytest.raises(RuntimeError, match="has 39 rows, the source has 40: `image_id` must differ in all rows"):
        annotate_with_ray(source, model, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "annotation.json").read_text())["finished"] is False


def test_what_is_refused(source, model, tmp_path, without_cluster, monkeypatch):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "none"):
        with pytest.raises(FileNotFoundError, match="no Parquet files in"):
            annotate_with_ray(tmp_path / name, model, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").touch()
    with pytest.raises(FileExistsError, match="holds other files, such as 'a.txt'"):
        annotate_with_ray(source, model, tmp_path / "mine")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "annotation.json").write_text("{")
    with pytest.raises(ValueError, match="no valid record"):
        annotate_with_ray(source, model, tmp_path / "broken")
    (tmp_path / "broken" / "annotation.json").write_text(record_text({"version": 3}, finished=True))
    with pytest.raises(ValueError, match="holds another run"):
        annotate_with_ray(source, model, tmp_path / "broken")
    table = parquet.read_table(source / "data").drop_columns(["objects"])
    parquet.write_table(table, tmp_path / "empty" / "a.parquet")
    with pytest.raises(ValueError, match="lacks the columns"):
        annotate_with_ray(tmp_path / "empty", model, tmp_path / "out")
    monkeypatch.setattr("amodal_diffusion.PCNetMaskPipeline.needs_image", True)
    with pytest.raises(ValueError, match="`images` must be given: PCNetMaskPipeline looks at photos"):
        annotate_with_ray(source, model, tmp_path / "out")
    with pytest.raises(ValueError, match="`block_bytes` must be at least 1"):
        annotate_with_ray(source, model, tmp_path / "out", block_bytes=0)
    assert not (tmp_path / "out").exists()


def test_without_ray_the_extra_is_named(source, model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"amodal-diffusion\[ray\]"):
        annotate_with_ray(source, model, tmp_path / "out")


DRIVER = """
import sys
from amodal_diffusion.annotation import annotate_with_ray
annotate_with_ray(*sys.argv[1:4], num_workers=2, batch_rows=2, block_bytes=3000)
"""


class Driver:
    """A process that annotates on a cluster of its own."""

    def __init__(self, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
        environment.pop("RAY_ADDRESS", None)
        # A machine with other work on it is slow, not broken.
        environment |= {"RAY_worker_register_timeout_seconds": "600", "RAY_raylet_start_wait_time_s": "600"}
        environment |= {"RAY_DATA_DISABLE_PROGRESS_BARS": "1", "RAY_prestart_worker_first_driver": "0"}
        command = [sys.executable, "-c", DRIVER, *map(str, arguments)]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def wait_for(self, ready, seconds=900):
        end = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < end, "too slow"
            assert self.process.poll() is None, self.process.communicate()[0][-3000:].decode()
            time.sleep(0.02)

    def actors(self):
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in found if "AmodalAnnotator" in " ".join(_words(process))]

    def kill(self):
        """The driver first, then what is left of its cluster."""
        rest = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.communicate()
        for process in rest:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(rest, timeout=60)


def _words(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@needs_ray
@pytest.mark.slow
def test_an_actor_and_the_driver_are_killed(source, model, tmp_path):
    """No row is lost, none is there twice, and all are those of the folder store."""
    folder = tmp_path / "out"

    def files():
        return len(list((folder / "data").glob("*.parquet"))) if (folder / "data").exists() else 0

    driver = Driver(source, model, folder)
    try:
        driver.wait_for(lambda: files() >= 1)
        os.kill(driver.actors()[0].pid, signal.SIGKILL)
        before = files()
        driver.wait_for(lambda: files() > before + 1)
    finally:
        driver.kill()
    assert json.loads((folder / "annotation.json").read_text())["finished"] is False
    assert (folder / "checkpoint").is_dir() and files() < IMAGES // 2
    again = Driver(source, model, folder)
    output, _ = again.process.communicate(timeout=900)
    assert again.process.returncode == 0, output[-3000:].decode()
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "annotation.json", "data"]
    found = parquet.read_table(folder / "data").to_pylist()
    one = annotate_dataset(load_amodal_dataset(source), load_pipeline(str(model)), tmp_path / "one")
    expected = {row["image_id"]: row for row in parquet.read_table(one / "data").to_pylist()}
    assert sorted(row["image_id"] for row in found) == sorted(expected)
    for row in found:
        assert without_scores(row) == without_scores(expected[row["image_id"]])


def without_scores(row):
    """Means of probabilities depend in their last bits on what went through the network beside them."""
    predictions = [{name: pytest.approx(value, abs=1e-5) for name, value in p.items()} for p in row["predictions"]]
    return {**row, "predictions": predictions}
