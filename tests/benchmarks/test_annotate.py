"""`benchmarks/annotate_speed.py`: it runs, kills, compares; and a difference is seen."""

import json
import subprocess
import sys
from pathlib import Path

import annotate_speed
import pytest

from amodal_diffusion.data import read_annotations
from pipeline_helpers import tiny_pipeline
from training_helpers import write_coco


class Rehearsal:
    """Stands for the command: its first two runs hang at their work, the third at joining, the fourth ends."""

    script = """
import pathlib, shutil, sys, time
folder, text, hangs = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
(folder / "shards" / "00000").mkdir(parents=True, exist_ok=True)
runs = folder.parent / "runs"
run = len(runs.read_text()) if runs.exists() else 0
runs.write_text("x" * (run + 1))
sign = folder / (".partial-x/new/data" if run == 2 else "shards/00000/00000000.parquet")
sign.parent.mkdir(parents=True, exist_ok=True)
sign.write_text("")
if run < hangs:
    time.sleep(60)
(folder / "README.md").write_text(text)
shutil.rmtree(folder / "shards")
shutil.rmtree(folder / ".partial-x", ignore_errors=True)
"""

    def __init__(self, monkeypatch, text):
        start = subprocess.Popen

        def popen(words, **options):
            folder = words[words.index("--output") + 1]
            said, hangs = (text, "3") if Path(folder).parent.name == "killed" else ("first", "0")
            return start([sys.executable, "-c", self.script, folder, said, hangs], **options)

        monkeypatch.setattr(annotate_speed.subprocess, "Popen", popen)


def arguments(*more):
    return annotate_speed.parse_arguments(["--annotations", "a.json", "--model", "m", *more])


@pytest.mark.parametrize(("text", "equal"), [("first", True), ("other", False)])
def test_kills_are_counted_and_differences_are_found(tmp_path, monkeypatch, text, equal):
    Rehearsal(monkeypatch, text)
    args = arguments("--kills", "2")
    first = tmp_path / "first" / "result"
    annotate_speed.Command(args, Path("a.json"), first).wait()
    found = annotate_speed.kill_and_compare(args, Path("a.json"), first, 0.3)
    assert found["kills"] == 2 == len(found["pieces_after_each"]) and found["kills_while_joining"] == 1
    assert found["equal"] is equal and found["differs"] == ([] if equal else ["README.md"])


def test_a_command_that_fails_says_why(tmp_path, monkeypatch):
    start = subprocess.Popen
    script = "import sys; sys.stderr.write('no such file'); sys.exit(2)"
    monkeypatch.setattr(
        annotate_speed.subprocess, "Popen", lambda words, **options: start([sys.executable, "-c", script], **options)
    )
    command = annotate_speed.Command(arguments(), tmp_path / "nothing.json", tmp_path / "out")
    with pytest.raises(RuntimeError, match="annotate ended with 2: no such file"):
        command.wait()


def test_overhead_of_the_pieces(tmp_path):
    rows = read_annotations(write_coco(tmp_path / "a.json", images=4))
    tiny_pipeline().save_pretrained(tmp_path / "model")
    args = arguments(
        "--model", str(tmp_path / "model"), "--repeats", "1", "--baseline-images", "3", "--shard-rows", "2"
    )
    figures = annotate_speed.measure_overhead(args, rows, tmp_path / "runs")
    assert figures["images"] == 3 and figures["ratio"] == pytest.approx(figures["plain"] / figures["ours"])


def test_curve(tmp_path, capsys):
    figures = annotate_speed.measure_curve(100, tmp_path / "curve")
    assert [entry["images"] for entry in figures] == [100] and figures[0]["cpu_ms"] > 0
    assert "100 images" in capsys.readouterr().out and not list((tmp_path / "curve").iterdir())


@pytest.mark.slow
def test_benchmark_runs_and_writes_json(tmp_path, capsys):
    source = write_coco(tmp_path / "a.json", images=6)
    tiny_pipeline().save_pretrained(tmp_path / "model")
    flags = ["--limit", "5", "--shard-rows", "2", "--kills", "1", "--baseline-images", "2", "--repeats", "1"]
    flags += ["--annotations", str(source), "--model", str(tmp_path / "model"), "--json", str(tmp_path / "b.json")]
    annotate_speed.main(flags)
    record = json.loads((tmp_path / "b.json").read_text())
    assert record["annotate"]["images"] == 5 and record["annotate"]["instances"] == 20
    assert record["annotate"]["peak_mb"] > 50 and record["annotate"]["cpu_seconds"] > 0.1
    assert record["kills"]["kills"] <= 1 and record["kills"]["equal"]
    assert "result: equal, byte for byte" in capsys.readouterr().out
