"""Work that outlives a reload, a crash and a restart of the server."""

import json
import os
import stat
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion import files
from demo_helpers import edit, mark
from page.wiring import guarded
from page.work import keeping as keeping_module
from page.work.desk import Desk
from page.work.files import photos
from page.work.files.photos import open_upload
from page.work.keeping import Keeper, new_token
from page.work.session import Clicks, PageError, Session


@pytest.fixture
def keeper(tmp_path):
    return Keeper(tmp_path / "kept")


def test_a_work_comes_back_as_it_was(keeper, completed):
    session = edit(edit(completed, "move", id=0, dx=9), "remove", id=1).step(view="edit")
    session = edit(mark(session, "rename", id=2, name="cee"), "carry", on=True)
    token = new_token()
    keeper.save(token, "work", session)
    (kept,) = Keeper(keeper.folder).kept(token)  # by another server
    assert (kept.title, kept.objects, kept.edits) == ("drawn", 3, 2)
    again = keeper.open(kept, Session(stamp=7, seq=3))
    assert (again.photo == session.photo).all() and again.view == "edit" and (again.stamp, again.seq) == (8, 3)
    for name in ("completed", "base"):
        assert getattr(again, name).equals(getattr(session, name))
    assert again.completed is again.base and again.scene.present.equals(session.scene.present)
    assert (
        again.carry and again.recipe == session.recipe and again.work == session.work == "3 marked objects and 2 edits"
    )
    for first, second in zip(session.marks.present, again.marks.present, strict=True):
        assert (first.id, first.name) == (second.id, second.name) and (first.mask == second.mask).all()
    files = {path.suffix for path in keeper.folder.rglob("*") if path.is_file()}
    assert files <= {".png", ".json", ".tif"}  # the library's formats
    keeper.discard(kept)
    assert keeper.kept(token) == []


def test_steps_back_and_forth_are_kept(keeper, completed):
    session = edit(edit(edit(completed, "move", id=0, dx=9), "duplicate", id=2), "remove", id=1)
    session = edit(edit(session, "fade", id=0, percent=40), "undo")
    session = mark(mark(session, "rename", id=2, name="cee"), "undo")
    token = new_token()
    keeper.save(token, "work", session)
    (kept,) = keeper.kept(token)
    again = keeper.open(kept, Session())
    for op, step in (("undo", edit), ("redo", edit), ("undo", mark), ("redo", mark)):
        for _ in range(6):
            session, again = step(session, op), step(again, op)
            assert again.scene.present.equals(session.scene.present)
            assert [(m.name, m.area) for m in again.marks.present] == [(m.name, m.area) for m in session.marks.present]
    assert again.scene.present.layers[0].opacity == 0.4 and again.marks.present[2].name == "cee"
    shared = {id(scene.background) for scene in (again.base, again.scene.present, *again.scene.past)}
    assert len(shared) == 1 and again.scene.past[-1].layers[-1].rgba is again.base.layers[2].rgba
    pictures = [path for path in kept.folder.rglob("*rgba*") if path.is_file()]
    assert len(pictures) == 3  # of three objects, in five scenes


def test_what_steps_began_with_is_kept_where_they_are_dropped(keeper, completed, monkeypatch):
    monkeypatch.setattr("page.work.session.MAX_HISTORY", 2)
    session, token = completed, new_token()
    for _ in range(4):
        session = mark(edit(session, "flip", id=0), "rename", id=2, name=f"name {session.stamp}")
    keeper.save(token, "work", session)
    (kept,) = keeper.kept(token)
    again = keeper.open(kept, Session())
    assert kept.edits == again.edits == 4 and (again.marks.count, len(again.marks.past)) == (session.marks.count, 2)
    assert edit(again, "reset").scene.present.equals(completed.scene.present) and again.scene.first is again.base
    assert again.marks.first == session.marks.first == ()
    document = json.loads((kept.folder / "work.json").read_text())
    for steps in (document["marks"]["history"], document["scenes"]["history"]):
        del steps["start"], steps["dropped"]  # as of an earlier release
    (kept.folder / "work.json").write_text(json.dumps(document))
    assert keeper.open(kept, Session()).edits == 2


def test_clicks_go_on_where_they_were(keeper, marked):
    chosen = marked.marks.present[0]
    clicks = Clicks(((3.5, 4.0, True), (9.0, 2.0, False)), (1.0, 1.0, 20.0, 15.0), chosen.bits)
    clicked = replace(chosen, clicks=clicks)
    session = marked.step(marks=marked.marks.push((clicked, *marked.marks.present[1:])))
    token = new_token()
    keeper.save(token, "work", session)
    again = keeper.open(keeper.kept(token)[0], Session()).marks.present[0].clicks
    assert (again.points, again.box) == (clicks.points, clicks.box) and (again.answer == clicks.answer).all()


def test_the_photo_at_its_own_size_is_kept(keeper, tmp_path, monkeypatch):
    monkeypatch.setattr(photos, "MAX_PIXELS", 5_000)
    Image.effect_noise((200, 100), 90).convert("RGB").save(tmp_path / "big.png")
    session, _ = open_upload(Session(), str(tmp_path / "big.png"))
    (tmp_path / "big.png").unlink()
    assert session.source.size == (100, 200) and session.source.path.is_file()
    token = new_token()
    keeper.save(token, "work", session)
    place = session.source.path
    del session
    assert not place.parent.exists()  # with the last session that had it
    again = keeper.open(keeper.kept(token)[0], Session())
    assert Image.open(again.source.path).size == (200, 100) and keeper.folder not in again.source.path.parents


def test_works_are_private_and_bounded(tmp_path, marked):
    keeper = Keeper(tmp_path / "kept", works=2, total_works=3)
    mine, other = new_token(), new_token()
    for work in ("a", "b", "c"):
        keeper.save(mine, work, marked)
        time.sleep(0.02)
    assert [kept.folder.name for kept in keeper.kept(mine)] == ["c", "b"]
    assert keeper.kept(other) == keeper.kept("") == keeper.kept("../../etc") == keeper.kept(None) == []
    assert mine not in " ".join(str(path) for path in keeper.folder.rglob("*"))
    assert stat.S_IMODE(keeper.folder.stat().st_mode) == 0o700
    for _ in range(2):
        keeper.save(other, f"d{_}", marked)
        time.sleep(0.02)
    assert [kept.folder.name for kept in keeper.kept(mine)] == ["c"]  # the oldest of all went
    small = Keeper(keeper.folder, total_bytes=10)
    small.sweep()
    assert small.kept(other) == [] and not any(small.folder.iterdir())
    with pytest.raises(ValueError, match="token"):
        keeper.save("short", "a", marked)


@pytest.mark.skipif(files._LOCKS is None, reason="the system knows no locks of folders")
def test_two_servers_may_keep_works_in_one_folder(tmp_path, blank, monkeypatch):
    """As two that one user starts on a machine: each deletes works, too, and none of the other's while it writes."""
    folder, failed = tmp_path / "kept", []
    monkeypatch.setattr(keeping_module, "write_work", lambda session, place: (place / "work.json").write_text("{}"))

    def serve():
        keeper = Keeper(folder, total_works=2)
        for _ in range(15):
            try:
                keeper.save(new_token(), "work", blank)
            except OSError as error:
                failed.append(error)

    servers = [threading.Thread(target=serve) for _ in range(2)]
    for server in servers:
        server.start()
    for server in servers:
        server.join(60)
    assert not failed and len(list(folder.glob("*/work"))) == 2


def test_who_asks_while_a_browsers_last_work_goes_is_told_of_none(keeper, marked, monkeypatch):
    token = new_token()
    keeper.save(token, "work", marked)
    (kept,) = keeper.kept(token)
    is_dir = Path.is_dir

    def look(path):
        found = is_dir(path)
        if path == kept.folder.parent and found:
            monkeypatch.undo()
            keeper.discard(kept)
            keeper.sweep()
        return found

    monkeypatch.setattr(Path, "is_dir", look)
    assert keeper.kept(token) == []


def test_works_end_after_the_stated_time(tmp_path, marked):
    token = new_token()
    keeper = Keeper(tmp_path / "kept", hours=1)
    keeper.save(token, "a", marked)
    folder = keeper.kept(token)[0].folder
    keeper.sweep()
    assert folder.is_dir()
    os.utime(folder, (time.time() - 4000,) * 2)
    keeper.sweep()
    assert not folder.exists()
    off = Keeper(tmp_path / "kept", hours=0)
    keeper.save(token, "a", marked)
    assert off.kept(token) == []


def test_what_is_no_work_is_never_touched(tmp_path, marked):
    """As in `--keep ~`: folders, empty ones, files beside works, and folders named as those of browsers."""
    folder, token = tmp_path / "home", new_token()
    keeper = Keeper(folder, hours=1, works=1, total_works=1, total_bytes=1)
    for name in ("photos/holiday/a.jpg", "papers/work.json", f"{'f' * 63}/kept/work.json", f"{'e' * 64}/notes/a.txt"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("mine")
    (folder / "empty" / "inner").mkdir(parents=True)
    (folder / "alone").mkdir()
    before = sorted(folder.rglob("*"))
    for path in before:
        os.utime(path, (time.time() - 1e6,) * 2)
    keeper.save(token, "work", marked)  # there is no room for it
    keeper.sweep()
    assert sorted(folder.rglob("*")) == before


def test_a_work_that_is_broken_is_no_crash(keeper, completed):
    token = new_token()
    keeper.save(token, "work", completed)
    (kept,) = keeper.kept(token)
    (kept.folder / "photo.png").write_bytes(b"no picture")
    with pytest.raises(PageError, match="could not be read"):
        keeper.open(kept, Session())
    (kept.folder / "work.json").write_text("{")
    assert keeper.kept(token) == []


def test_changes_are_saved_beside_what_else_is_done(keeper, marked, monkeypatch):
    monkeypatch.setattr("page.work.keeping.DELAY", 0.05)
    desk = Desk(marked)
    desk.token, desk.keep = new_token(), keeper.later
    desk.commit(marked, marked.step())
    until = time.monotonic() + 20
    while not keeper.kept(desk.token) and time.monotonic() < until:
        time.sleep(0.02)
    assert [kept.folder.name for kept in keeper.kept(desk.token)] == [desk.work]
    monkeypatch.setattr("page.work.keeping.DELAY", 1000)
    desk.commit(desk.session, mark(desk.session, "rename", id=0, name="crate"))
    keeper.flush()  # as the server does at its end
    again = keeper.open(keeper.kept(desk.token)[0], Session())
    assert again.marks.present[0].name == "crate"


def keeping(keeper, session, token=None):
    """The desk of a tab whose work is kept."""
    desk = Desk(session)
    desk.token, desk.keep = token or new_token(), keeper.later
    return desk


def test_the_end_of_the_server_waits_for_what_is_being_saved(keeper, marked, monkeypatch):
    monkeypatch.setattr("page.work.keeping.DELAY", 0)
    begun, go, write = threading.Event(), threading.Event(), keeping_module.write_work

    def slowly(session, folder):
        begun.set()
        assert go.wait(20)
        write(session, folder)

    monkeypatch.setattr(keeping_module, "write_work", slowly)
    desk = keeping(keeper, marked)
    desk.commit(marked, mark(marked, "rename", id=0, name="crate"))
    assert begun.wait(20)
    end = threading.Thread(target=keeper.flush)
    end.start()
    end.join(0.1)
    assert end.is_alive() and keeper.kept(desk.token) == []
    go.set()
    end.join(20)
    assert len(keeper.kept(desk.token)) == 1
    other = keeping(keeper, marked)
    with keeper._disk:  # another save has begun, and has written nothing yet
        other.commit(marked, mark(marked, "rename", id=0, name="crate"))
        until = time.monotonic() + 20
        while keeper._now is not other and time.monotonic() < until:
            time.sleep(0.01)
        keeper.flush()
        assert len(keeper.kept(other.token)) == 1


def test_what_was_done_just_before_a_reload_is_offered(keeper, marked, monkeypatch):
    monkeypatch.setattr("page.work.keeping.DELAY", 1000)
    desk, other = keeping(keeper, marked), keeping(keeper, marked)
    for tab in (desk, other):
        tab.commit(marked, mark(marked, "rename", id=0, name="crate"))
    keeper.settle(desk.token)
    (kept,) = keeper.kept(desk.token)
    assert keeper.open(kept, Session()).marks.present[0].name == "crate" and keeper.kept(other.token) == []


@pytest.mark.parametrize("is_due", [True, False])
def test_two_tabs_with_one_work_keep_both(keeper, marked, monkeypatch, is_due):
    monkeypatch.setattr("page.work.keeping.DELAY", 1000)
    first = keeping(keeper, marked)
    first.commit(marked, mark(marked, "rename", id=0, name="crate"))
    keeper.flush()
    (kept,) = keeper.kept(first.token)
    second = keeping(keeper, keeper.open(kept, Session()), first.token)
    if is_due:
        first.commit(first.session, mark(first.session, "rename", id=1, name="cover"))
    keeper.take(second, kept)
    if not is_due:
        first.commit(first.session, mark(first.session, "rename", id=1, name="cover"))
    second.commit(second.session, mark(second.session, "rename", id=0, name="chest"))
    second.commit(second.session, mark(second.session, "rename", id=0, name="trunk"))
    keeper.flush()
    works = [[m.name for m in keeper.open(kept, Session()).marks.present] for kept in keeper.kept(first.token)]
    assert sorted(works) == [["crate", "cover"], ["trunk", "lid"]] and second.work == kept.folder.name


def test_who_cannot_be_kept_is_told(keeper, marked):
    keeper.folder.write_text("no folder")

    @guarded
    def step(session):
        return (mark(session, "rename", id=0, name=f"crate {session.stamp}"),)

    desk = keeping(keeper, marked)
    step(desk)
    keeper.flush()
    with pytest.warns(UserWarning, match="cannot be kept on the server"):
        step(desk)
    keeper.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(desk)  # once is enough
    keeper.folder.unlink()
    keeper.flush()
    assert not desk.unkept and keeper.kept(desk.token)


def test_nothing_is_kept_of_who_did_nothing(keeper):
    desk = Desk(Session(np.zeros((40, 40, 3), np.uint8)))
    desk.token = new_token()
    keeper.later(desk)
    keeper.flush()
    assert not keeper.folder.exists()
