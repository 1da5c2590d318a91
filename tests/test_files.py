"""Files and folders that are there whole or not at all: killed at every step, on a full disk, swept by the next."""

import os
import stat
import subprocess
import sys
import time

import pytest

from amodal_diffusion import files
from amodal_diffusion.files import (
    atomic_file,
    atomic_folder,
    check_output_file,
    check_output_folder,
    sweep,
    write_text,
)
from kill_helpers import killed_at_every_step, really_killed_at_every_step, tree
from training_helpers import script_environment

OLD = {"layers/a.png": b"old a", "layers/b.png": b"old b", "photo.png": b"old", "scene.json": b"old"}
NEW = {"layers/a.png": b"new a", "layers/c.png": b"new c", "scene.json": b"new"}
OTHERS = {"notes.txt": b"mine", "raw/deep/photo.jpg": b"mine too"}
NAMES = ("layers", "photo.png", "scene.json")


def fill(folder, content):
    for name, value in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(value)


def partials(folder):
    return [path for path in folder.rglob("*") if path.name.startswith(files.PARTIAL)]


@pytest.fixture(params=["exchange", "two renames"])
def exchange(request, monkeypatch):
    """With and without a system that exchanges two names in one step."""
    if request.param == "two renames":
        monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    return request.param == "exchange"


class TestFile:
    @pytest.mark.parametrize("kill", [killed_at_every_step, really_killed_at_every_step])
    def test_killed_at_every_step(self, tmp_path, kill):
        path, seen = tmp_path / "deep" / "report.json", set()
        for _ in kill(lambda: write_text(path, "new"), lambda: write_text(path, "old")):
            seen.add(path.read_text())
        assert seen == {"old", "new"}
        assert tree(tmp_path) == {"deep/report.json": b"new"}

    def test_a_failing_block_changes_nothing(self, tmp_path):
        write_text(tmp_path / "report.json", "old")
        with pytest.raises(RuntimeError, match="half way"), atomic_file(tmp_path / "report.json") as temporary:
            temporary.write_text("new")
            raise RuntimeError("half way")
        assert tree(tmp_path) == {"report.json": b"old"}

    def test_a_full_disk_changes_nothing(self, tmp_path, monkeypatch):
        write_text(tmp_path / "report.json", "old")

        def full(handle):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="report.json cannot be written: No space left"):
            write_text(tmp_path / "report.json", "new")
        assert tree(tmp_path) == {"report.json": b"old"}

    def test_keeps_the_name_and_the_usual_mode(self, tmp_path):
        with atomic_file(tmp_path / "figure.pdf") as temporary:
            assert temporary.name == "figure.pdf"
            temporary.touch()
        (tmp_path / "plain").touch()
        assert (tmp_path / "figure.pdf").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_keeps_a_link_and_the_mode_of_what_is_there(self, tmp_path):
        fill(tmp_path, {"store/report.json": b"old"})
        (tmp_path / "store" / "report.json").chmod(0o604)
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep" / "link.json").symlink_to("../store/report.json")
        (tmp_path / "second.json").symlink_to("deep/link.json")
        with atomic_file(tmp_path / "second.json") as temporary:
            assert temporary.name == "second.json"
            temporary.write_text("new")
        assert tree(tmp_path / "store") == {"report.json": b"new"}
        assert (tmp_path / "second.json").is_symlink() and (tmp_path / "deep" / "link.json").is_symlink()
        assert stat.S_IMODE((tmp_path / "store" / "report.json").stat().st_mode) == 0o604
        (tmp_path / "early.json").symlink_to("store/none.json")
        check_output_file(tmp_path / "early.json")
        write_text(tmp_path / "early.json", "first")
        assert (tmp_path / "store" / "none.json").read_text() == "first" and not partials(tmp_path)
        (tmp_path / "astray.json").symlink_to("store/report.json/none.json")
        with pytest.raises(NotADirectoryError, match="report.json is a file"):
            check_output_file(tmp_path / "astray.json")

    def test_a_folder_is_refused(self, tmp_path):
        with pytest.raises(IsADirectoryError, match="is a folder, expected the path of a file"):
            write_text(tmp_path, "text")


class TestFolder:
    @pytest.mark.parametrize("replaces", [None, NAMES])
    def test_killed_at_every_step(self, tmp_path, exchange, replaces):
        folder, others = tmp_path / "scene", OTHERS if replaces else {}

        def reset():
            with atomic_folder(folder) as temporary:
                fill(temporary, OLD | others)

        def save():
            with atomic_folder(folder, replaces=replaces) as temporary:
                fill(temporary, NEW)

        for _ in killed_at_every_step(save, reset):
            if not folder.exists():  # between two renames, where there is no exchange: the next writer repairs it
                assert not exchange
                sweep(tmp_path)
                assert tree(folder) == OLD | others
            assert tree(folder) in (OLD | others, NEW | others)
        assert tree(folder) == NEW | others
        assert os.listdir(tmp_path) == ["scene"]

    @pytest.mark.parametrize("there", ["nothing", "an empty folder"])
    def test_a_first_result_is_whole_or_not_there(self, tmp_path, there):
        folder = tmp_path / "scene"

        def save():
            with atomic_folder(folder, replaces=NAMES) as temporary:
                fill(temporary, NEW)

        def reset():
            sweep(tmp_path)
            files.shutil.rmtree(folder, ignore_errors=True)
            if there != "nothing":
                folder.mkdir()

        for _ in killed_at_every_step(save, reset):
            assert not folder.exists() or tree(folder) in ({}, NEW)
        assert tree(folder) == NEW

    def test_a_folder_that_must_stay_is_filled_entry_by_entry(self, tmp_path, exchange, monkeypatch):
        """A kill may cost the old result, but never leaves a record of what is not there."""
        folder = tmp_path / "scene"
        monkeypatch.chdir(tmp_path)

        def reset():
            os.chdir(tmp_path)
            with atomic_folder(folder) as temporary:
                fill(temporary, OLD | OTHERS)
            os.chdir(folder)

        def save():
            with atomic_folder(folder, replaces=NAMES) as temporary:
                fill(temporary, NEW)

        for _ in killed_at_every_step(save, reset):
            found = {name: value for name, value in tree(folder).items() if not name.startswith(files.PARTIAL)}
            assert OTHERS.items() <= found.items()
            assert "scene.json" not in found or found in (OLD | OTHERS, NEW | OTHERS)
        assert tree(folder) == NEW | OTHERS

    def test_a_failing_block_changes_nothing(self, tmp_path):
        fill(tmp_path / "scene", OLD)
        with pytest.raises(RuntimeError, match="half way"), atomic_folder(tmp_path / "scene") as temporary:
            fill(temporary, NEW)
            raise RuntimeError("half way")
        assert tree(tmp_path / "scene") == OLD and not partials(tmp_path)

    @pytest.mark.parametrize("call", ["fsync", "link", "rename"])
    def test_a_failing_disk_changes_nothing(self, tmp_path, monkeypatch, exchange, call):
        fill(tmp_path / "scene", OLD | OTHERS)
        with monkeypatch.context() as patch:

            def full(*arguments, **options):
                raise OSError(28, "No space left on device")

            with pytest.raises(OSError, match="No space left") if call != "link" else files.contextlib.nullcontext():
                with atomic_folder(tmp_path / "scene", replaces=NAMES) as temporary:
                    fill(temporary, NEW)
                    patch.setattr(os, call, full)
        expected = NEW if call == "link" else OLD  # without links the entries are replaced one by one
        assert tree(tmp_path / "scene") == expected | OTHERS and not partials(tmp_path)

    def test_other_files_stay_and_too_many_do_not_matter(self, tmp_path, monkeypatch):
        fill(tmp_path / "scene", OLD | OTHERS)
        (tmp_path / "scene" / "link").symlink_to("nowhere")
        inode = (tmp_path / "scene" / "notes.txt").stat().st_ino
        for limit in (10_000, 1):
            monkeypatch.setattr(files, "_MAX_OTHERS", limit)
            with atomic_folder(tmp_path / "scene", replaces=NAMES) as temporary:
                fill(temporary, NEW)
            assert tree(tmp_path / "scene") == NEW | OTHERS
            assert (tmp_path / "scene" / "notes.txt").stat().st_ino == inode
            assert os.readlink(tmp_path / "scene" / "link") == "nowhere"

    def test_what_comes_meanwhile_stays(self, tmp_path, monkeypatch):
        fill(tmp_path / "scene", OLD)
        take_over = files._take_others_over

        def and_then(*arguments):
            taken = take_over(*arguments)
            (tmp_path / "scene" / "late.txt").write_bytes(b"late")
            return taken

        monkeypatch.setattr(files, "_take_others_over", and_then)
        with atomic_folder(tmp_path / "scene", replaces=NAMES) as temporary:
            fill(temporary, NEW)
        assert tree(tmp_path / "scene") == NEW | {"late.txt": b"late"}

    def test_links_and_modes_stay(self, tmp_path):
        fill(tmp_path / "real", OLD)
        (tmp_path / "real").chmod(0o750)
        (tmp_path / "scene").symlink_to("real")
        with atomic_folder(tmp_path / "scene") as temporary:
            fill(temporary, NEW)
        assert (tmp_path / "scene").is_symlink() and tree(tmp_path / "real") == NEW
        assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o750

    def test_a_file_is_refused(self, tmp_path):
        (tmp_path / "scene").touch()
        with pytest.raises(NotADirectoryError, match="scene is a file, expected a folder"):
            atomic_folder(tmp_path / "scene").__enter__()


class TestSweep:
    def test_what_a_living_writer_has_stays(self, tmp_path):
        """Also that of another process, until it ends."""
        code = "import sys; from amodal_diffusion.files import *\nwith atomic_file(sys.argv[1]) as p:\n"
        code += " p.write_text('x'); print(flush=True); input()"
        other = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "theirs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=script_environment(),
        )  # fmt: skip
        other.stdout.readline()
        with atomic_file(tmp_path / "ours") as temporary:
            temporary.touch()
            sweep(tmp_path)
            assert len(partials(tmp_path)) == 2
        other.communicate(b"\n", timeout=60)
        assert sorted(os.listdir(tmp_path)) == ["ours", "theirs"]

    def test_without_locks_age_decides(self, tmp_path, monkeypatch):
        monkeypatch.setattr(files, "_LOCKS", None)
        for name, age in (("young", 3600), ("old", 2 * 86400)):
            (tmp_path / f".partial-{name}").mkdir()
            (tmp_path / f".partial-{name}" / "lock").touch()
            os.utime(tmp_path / f".partial-{name}", (time.time() - age,) * 2)
        write_text(tmp_path / "text", "x")
        assert sorted(os.listdir(tmp_path)) == [".partial-young", "text"]

    def test_a_sweeper_that_is_faster_than_the_lock(self, tmp_path, monkeypatch):
        """It takes a folder that is not locked yet; its writer makes another."""
        lock, seen = files._try_lock, []

        def swept_first(handle):
            seen.append(handle)
            if len(seen) == 1:
                files.shutil.rmtree(partials(tmp_path)[0])
            return lock(handle)

        monkeypatch.setattr(files, "_try_lock", swept_first)
        write_text(tmp_path / "text", "x")
        assert tree(tmp_path) == {"text": b"x"} and len(seen) == 2


def test_outputs_are_checked_without_leaving_anything(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    check_output_folder(tmp_path / "deep" / "er")
    check_output_folder(tmp_path)
    check_output_file(tmp_path / "deep" / "r.json")
    check_output_file(tmp_path / "file")
    monkeypatch.chdir(tmp_path)
    check_output_folder("out")
    check_output_file("r.json")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(NotADirectoryError, match="file is a file, expected a folder"):
        check_output_folder(tmp_path / "file")
    for check in (check_output_folder, check_output_file):
        with pytest.raises(NotADirectoryError, match="cannot be made: .*file is a file"):
            check(tmp_path / "file" / "deep" / "er")
    with pytest.raises(IsADirectoryError, match="is a folder, expected the path of a file"):
        check_output_file(tmp_path)

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # root may write everywhere
    for check in (check_output_folder, check_output_file):
        with pytest.raises(OSError, match="out.* cannot be written: Permission denied"):
            check(tmp_path / "out" / "r.json")
