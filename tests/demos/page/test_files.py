"""Files that visitors take home, and scenes that they bring."""

import base64
import gc
import io
import json
import shutil
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion import Scene
from amodal_diffusion.masks import encode_rle
from demo_helpers import edit
from page.full_size import FullSize
from page.steps.complete import complete
from page.view.stage import stage_value
from page.work.edits import insert_picture
from page.work.files import photos
from page.work.files.export import EXPORTS, export
from page.work.files.photos import open_upload
from page.work.files.scenes import open_scene
from page.work.marks import add_marks
from page.work.session import PageError, Session
from photo_helpers import draw_scene


@pytest.mark.parametrize("kind", EXPORTS)
def test_exports_read_back(tmp_path, edited, kind):
    scene = edit(edited, "move", id=1, dx=9, dy=4).scene.present
    path = export(scene, "../my photo?", kind, tmp_path)
    holds = {"png": "edited", "json": "coco"}.get(kind, "layers")
    assert path.name == f"my-photo-{holds}{EXPORTS[kind][2]}" and tmp_path in path.parents
    if kind == "png":
        assert (np.asarray(Image.open(path)) == scene.render(output_type="np")).all()
        return
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "out")
        path = tmp_path / "out" / ("my-photo-coco.json" if kind == "json" else "my-photo-layers")
    assert Scene.load(path).equals(scene)


def test_an_export_has_a_known_format_and_says_that_it_is_a_preview(tmp_path, edited):
    with pytest.raises(PageError, match="no such format"):
        export(edited.scene.present, "drawn", "exe", tmp_path)
    assert export(edited.scene.present, "?", "png", tmp_path, "preview").name == "scene-edited-preview.png"


# Scenes that are opened


@pytest.mark.parametrize("kind", [kind for kind in EXPORTS if kind != "png"])
def test_the_page_reads_what_it_exports(tmp_path, models, edited, kind):
    session = edit(edit(edit(edited, "move", id=0, dx=9), "duplicate", id=1), "remove", id=2)
    path = export(session.scene.present, "drawn", kind, tmp_path)
    again, note = open_scene(Session(stamp=5, seq=2), [path])
    assert again.scene.present.equals(session.scene.present) and again.view == "edit" and note == ""
    assert (again.stamp, again.seq) == (6, 2) and again.work == ""
    assert [mark.name for mark in again.marks.present] == ["a", "b"]
    for mark in again.marks.present:
        assert (mark.mask == session.marks.present[mark.id].mask).all()
    assert [layer.box for layer in again.completed.layers] == [layer.box for layer in edited.completed.layers[:2]]
    anew = complete(again.step(view="mark"), models, "pcnet-m")  # its edits stay
    assert anew.scene.present.layers[0].box[0] - anew.completed.layers[0].box[0] == 9
    assert len(anew.scene.present) == 3


def test_a_folder_of_deocclude_is_opened_by_its_files(tmp_path, edited):
    scene = edited.scene.present.move(0, 3, 4)
    scene.save(tmp_path / "out")
    loose = tmp_path / "uploads"
    loose.mkdir()
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file():
            shutil.copyfile(file, loose / file.name)
    files = sorted(loose.iterdir())
    assert open_scene(Session(), files)[0].scene.present.equals(scene)
    with pytest.raises(PageError, match="rgba.png of scene.json is missing. Choose all files") as error:
        open_scene(Session(), [file for file in files if "rgba" not in file.name])
    assert str(tmp_path) not in str(error.value)
    scene.save(tmp_path / "coco.json")
    pictures = [file for file in (tmp_path / "coco_files").rglob("*") if file.is_file()]
    assert open_scene(Session(), [tmp_path / "coco.json", *pictures])[0].scene.present.equals(scene)


def test_coco_with_its_photo_is_marked(tmp_path):
    photo, modal, _ = draw_scene(3)
    Image.fromarray(photo).save(tmp_path / "drawn.png")
    height, width = photo.shape[:2]
    coco = {
        "images": [{"id": 1, "file_name": "drawn.png", "width": width, "height": height}],
        "categories": [{"id": 1, "name": "disc"}],
        "annotations": [
            {"id": n + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": encode_rle(mask)}
            for n, mask in enumerate(modal)
        ],
    }
    (tmp_path / "masks.json").write_text(json.dumps(coco))
    session, _ = open_scene(Session(), [tmp_path / "masks.json", tmp_path / "drawn.png"])
    assert session.view == "mark" and (session.photo == photo).all() and len(session.marks.present) == len(modal)
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as archive:
        archive.write(tmp_path / "masks.json", "data/masks.json")
        archive.write(tmp_path / "drawn.png", "data/drawn.png")
    again, _ = open_scene(Session(), [tmp_path / "both.zip"])
    assert len(again.marks.present) == len(modal)


def test_files_that_are_no_scene(tmp_path, monkeypatch, edited):
    (tmp_path / "cut.ora").write_bytes(export(edited.scene.present, "x", "ora", tmp_path).read_bytes()[:900])
    (tmp_path / "text.zip").write_text("no zip")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "photo.psd").write_bytes(b"8BPS nothing")
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.writestr("../out.json", "{}")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    elsewhere = {"format": "amodal_diffusion.scene", "version": 1, "scene": {"file": "../../x.png"}, "layers": []}
    (tmp_path / "scene.json").write_text(json.dumps(elsewhere))
    cases = [
        ([], "hold no scene"),
        (["cut.ora"], "cut.ora: no complete zip"),
        (["text.zip"], "text.zip is no complete zip"),
        (["bad.json"], "bad.json is no valid JSON"),
        (["list.json"], "hold no scene"),
        (["photo.psd"], "photo.psd"),
        (["photo.png"], "hold no scene"),
        (["out.zip"], "outside of it"),
        (["empty.zip"], "hold no scene"),
        (["scene.json"], "names files elsewhere"),
        (["photo.png"] * 400, "files work"),
    ]
    for names, says in cases:
        with pytest.raises(PageError, match=says) as error:
            open_scene(Session(), [tmp_path / name for name in names])
        assert str(tmp_path) not in str(error.value) and "amodal-open" not in str(error.value)
    monkeypatch.setattr("page.work.files.scenes.MAX_OBJECTS", 2)
    with pytest.raises(PageError, match="has 3 objects; up to 2"):
        open_scene(Session(), [export(edited.scene.present, "x", "ora", tmp_path)])
    monkeypatch.setattr("page.work.files.scenes.MAX_UNPACKED", 1000)
    with pytest.raises(PageError, match="unpacks to"):
        open_scene(Session(), [export(edited.scene.present, "x", "folder", tmp_path)])


def test_layers_of_other_programs(tmp_path):
    scene = Scene(np.zeros((80, 120, 3), np.uint8)).insert(np.full((40, 40, 4), 200, np.uint8), -10, 20, "cut")
    scene.insert(np.full((30, 30, 4), 90, np.uint8), 300, 0, "outside").save(tmp_path / "other.ora")
    session, _ = open_scene(Session(), [tmp_path / "other.ora"])
    assert [layer.name for layer in session.scene.present.layers] == ["cut", "outside"]
    assert [layer.box for layer in session.completed.layers] == [(0, 20, 30, 40)] and len(session.marks.present) == 1


# At the photo's own size


def stage_tile(session):
    """The chosen layer as the browser drags it."""
    url = stage_value(session.step(view="edit"))["tile"]
    return Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1])))


@pytest.fixture
def large(tmp_path, monkeypatch, models):
    """A photo of which the page works on a quarter of the pixels, completed."""
    photo, modal, _ = draw_scene(3)
    height, width = photo.shape[:2]
    monkeypatch.setattr(photos, "MAX_PIXELS", height * width)
    grey = Image.fromarray(photo).resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
    grey.save(tmp_path / "large.png")
    session, note = open_upload(Session(), str(tmp_path / "large.png"))
    assert f"{2 * width} x {2 * height}" in note
    session = complete(add_marks(session, modal, ["a", "b", "c"]), models, "pcnet-m", 0.1)
    return session, np.asarray(grey)


def test_exports_have_the_pixels_of_the_photo(models, large):
    session, photo = large
    full = FullSize(models)
    scene = full.scene(session)
    margin = (scene.size[0] - photo.shape[1]) // 2
    inner = scene.render(output_type="np")[margin:-margin, margin:-margin]
    assert margin > 0 and (inner == photo).all()  # bit for bit
    edited = edit(edit(edit(session, "move", id=0, dx=9, dy=-4), "remove", id=1), "rename", id=2, name="cee")
    stages = []
    done = full.scene(edited, lambda *told: stages.append(told))
    assert stages == []  # the networks ran once
    assert [layer.name for layer in done.layers] == ["a", "cee"]
    assert np.allclose(np.subtract(done.layers[0].box, scene.layers[0].box), (18, -8, 0, 0))
    with pytest.raises(Exception, match="ended the call"):
        FullSize(models).scene(edited, lambda stage, share: stage != "contents")


def test_nothing_large_is_kept_when_its_visitor_has_gone(large):
    session, _ = large
    full = FullSize(SimpleNamespace(complete_at_size=lambda *told: session.completed))
    visitor = replace(session, completed=replace(session.completed))
    assert full._completed(visitor, None) is session.completed and full._last is not None
    del visitor
    gc.collect()
    assert full._last is None


def test_a_picture_that_was_put_in_keeps_its_pixels(models, large):
    session, _ = large
    width, height = session.completed.size
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    added = insert_picture(session, Image.fromarray(noise), "noise")  # on the preview half as wide
    shown = added.scene.present.layers[-1]
    assert np.allclose(shown.box[2:], (width / 2, height / 2)) and (shown.rgba[..., :3] == noise).all()
    assert max(stage_tile(added).size) <= max(shown.box[2:]) + 1  # the browser gets no more than it shows
    large_layer = FullSize(models).scene(added).layers[-1]
    assert np.allclose(large_layer.box[2:], (width, height), rtol=0.02) and large_layer.size == (width, height)


def test_a_chosen_shape_is_exported_large(models, large):
    session, _ = large
    width, height = session.completed.size
    samples = np.zeros((1, height, width), bool)
    samples[0, 30:60, 20:70] = True
    shaped = models.use_shape(session.step(samples=samples, samples_of=0), 0)
    done = FullSize(models).scene(shaped)
    assert shaped.shaped == {0} and done.layers[0].amodal.sum() > 4 * 0.9 * shaped.completed.layers[0].amodal.sum()


def test_a_large_scene_is_opened_small_and_exported_large(tmp_path, monkeypatch, models, edited):
    scene = edited.scene.present.move(0, 12, 6)
    scene.save(tmp_path / "scene.ora")
    width, height = scene.size
    monkeypatch.setattr(photos, "MAX_PIXELS", width * height // 4)
    session, note = open_scene(Session(), [tmp_path / "scene.ora"])
    assert session.scene.present.size == (width // 2, height // 2) and f"{width} x {height}" in note
    assert FullSize(models).scene(session).equals(scene)
    done = FullSize(models).scene(edit(session, "move", id=1, dx=5, dy=0))
    assert done.size == scene.size and np.allclose(np.subtract(done.layers[1].box, scene.layers[1].box), (10, 0, 0, 0))
    anew = complete(replace(session, view="mark"), models, "pcnet-m")
    assert FullSize(models).scene(anew).size == scene.size
