"""The page of the demo without a server: uploads, marks, pipelines, visitors, and what it says of errors."""

import dataclasses
import json
import math
import re
import threading
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.masks import encode_rle
from demo_helpers import (
    app_edits,
    app_models,
    app_pages,
    app_state,
    app_view,
    edit,
    mark,
)
from photo_helpers import draw_scene
from repository_helpers import ROOT

History, PageError, Session = app_state.History, app_state.PageError, app_state.Session


# Uploads


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no picture", "is not an image that can be read"),
        ("GIF", "is GIF. PNG, JPEG and WebP work"),
        ((20, 400), "20 x 400 pixels; each side must have at least 32"),
        ((40, 400), "at most 8 times the other"),
        ((3000, 2000), "6 million pixels; up to 5 million work"),
        ("cut", "the file is damaged"),
    ],
)
def test_refused_photos(tmp_path, monkeypatch, content, says):
    monkeypatch.setattr(app_state, "MAX_SOURCE_PIXELS", 5_000_000)
    path = tmp_path / "photo.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "GIF":
        Image.new("P", (64, 64)).save(path, "GIF")
    elif content == "cut":
        Image.effect_noise((200, 200), 90).save(path)
        path.write_bytes(path.read_bytes()[:9000])
    else:
        Image.new("RGB", content).save(path)
    with pytest.raises(PageError, match=re.escape(says)) as error:
        app_state.open_photo(path)
    assert str(tmp_path) not in str(error.value)  # a visitor need not know where uploads lie


def test_large_photo_is_scaled_and_the_visitor_told(monkeypatch):
    monkeypatch.setattr(app_state, "MAX_PIXELS", 10_000)
    session, note = app_state.with_photo(Session(stamp=4), Image.new("RGB", (400, 300)), "big")
    assert session.size == (86, 115) and session.source_size == (300, 400)
    assert "from 400 x 300 to 115 x 86" in note and session.stamp == 5
    same, note = app_state.with_photo(Session(), Image.new("RGB", (100, 50)), "small")
    assert note == "" and same.size == (50, 100)


def test_masks_of_files(tmp_path, blank):
    first, second = np.zeros((2, 64, 96), np.uint8)
    first[5:20, 5:30], second[30:60, 40:90] = 255, 255
    Image.fromarray(first).save(tmp_path / "cup.png")
    Image.fromarray(second).save(tmp_path / "spoon.png")
    found, _ = app_pages.add_mask_files(blank, [str(tmp_path / "cup.png"), str(tmp_path / "spoon.png")])
    assert [mark.name for mark in found.marks.present] == ["cup", "spoon"]
    assert (found.marks.present[1].mask == (second > 0)).all()

    Image.fromarray((first // 255 + second // 255 * 7).astype(np.uint8)).save(tmp_path / "labels.png")
    labels, _ = app_pages.add_mask_files(blank, [str(tmp_path / "labels.png")])
    assert [mark.area for mark in labels.marks.present] == [15 * 25, 30 * 50]

    rle = encode_rle(second > 0)
    coco = {
        "images": [{"id": 1, "file_name": "test.png", "width": 96, "height": 64}],
        "categories": [{"id": 1, "name": "spoon"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": rle, "area": 1500,
                         "bbox": [40, 30, 50, 30]}],
    }  # fmt: skip
    (tmp_path / "masks.json").write_text(json.dumps(coco))
    read, _ = app_pages.add_mask_files(blank, [str(tmp_path / "masks.json")])
    assert [(mark.name, mark.area) for mark in read.marks.present] == [("spoon", 1500)]


def test_masks_of_a_photo_that_was_scaled(tmp_path, monkeypatch):
    monkeypatch.setattr(app_state, "MAX_PIXELS", 5_000)
    session, _ = app_state.with_photo(Session(), Image.new("RGB", (200, 100)), "big")
    mask = np.zeros((100, 200), np.uint8)
    mask[:, 100:] = 255
    Image.fromarray(mask).save(tmp_path / "right.png")
    found, _ = app_state.read_masks(session, [tmp_path / "right.png"])
    assert found.masks.shape == (1, 50, 100) and found.masks[0, :, 50:].all() and not found.masks[0, :, :50].any()


def test_masks_choose_their_photo_and_crowds_stay_crowds(tmp_path, blank):
    masks = np.zeros((2, 64, 96), bool)
    masks[0, 10:40, 10:50] = masks[1, 20:60, 50:90] = True
    coco = {
        "images": [{"id": n, "file_name": f"val\\{n}.jpg", "width": 96, "height": 64} for n in (1, 2)],
        "annotations": [
            {"id": n + 1, "image_id": 2, "iscrowd": n, "segmentation": encode_rle(mask), "category_id": 0}
            for n, mask in enumerate(masks)
        ],
    }
    path = tmp_path / "masks.json"
    path.write_text(json.dumps(coco))
    session = dataclasses.replace(blank, file_name="2.jpg")
    marked, note = app_pages.add_mask_files(session, [str(path)])
    assert note == "" and [mark.is_crowd for mark in marked.marks.present] == [False, True]
    drawn = app_state.replace_mask(marked, marked.marks.present[1], masks[1] & (np.arange(96) < 80))
    assert [mark.is_crowd for mark in drawn.marks.present] == [False, True]
    with pytest.raises(PageError, match="lists no image named test.png|must choose one"):
        app_pages.add_mask_files(dataclasses.replace(blank, file_name="test.png"), [str(path)])
    coco["images"] = coco["images"][1:]
    path.write_text(json.dumps(coco))
    _, note = app_pages.add_mask_files(dataclasses.replace(blank, file_name="test.png"), [str(path)])
    assert note == r"masks.json has the masks of val\2.jpg, the photo is test.png"


def test_a_crowd_is_not_completed(models):
    session = app_state.Session()
    photo, modal, _ = draw_scene(3)
    session = app_state.with_photo(session, Image.fromarray(photo), "drawn")[0]
    session = app_state.add_marks(session, modal, ["a", "b", "c"], is_crowd=[True, False, False])
    scene = app_pages.complete(session, models, "pcnet-m").completed
    assert [layer.is_crowd for layer in scene.layers] == [True, False, False]


def test_refused_mask_files(tmp_path, monkeypatch, blank):
    Image.new("L", (10, 10), 255).save(tmp_path / "small.png")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "text.png").write_text("{")
    cases = [
        ([], "Choose a COCO JSON"),
        (["small.png"], "mask in small.png is 10x10"),
        (["bad.json"], "bad.json is no valid JSON"),
        (["text.png"], "neither a COCO JSON nor a mask"),
        (["bad.json", "small.png"], "not both"),
        (["small.png"] * 65, "Up to 64 files"),
    ]
    for names, says in cases:
        with pytest.raises(PageError, match=says) as error:
            app_state.read_masks(blank, [tmp_path / name for name in names])
        assert str(tmp_path) not in str(error.value)
    monkeypatch.setattr(app_state, "MAX_SOURCE_PIXELS", 50)
    with pytest.raises(PageError, match="too many pixels"):
        app_state.read_masks(blank, [tmp_path / "small.png"])


# Marks


def test_a_pixel_belongs_to_the_object_marked_last(marked):
    box, lid = marked.marks.present
    assert not (box.mask & lid.mask).any() and lid.area == 30 * 50 and box.area == 30 * 40 - 20 * 20
    assert marked.selected == lid.id
    whole = app_state.add_marks(marked, np.ones((1, 64, 96), bool))
    assert [m.name for m in whole.marks.present] == ["object 3"]  # nothing is left of the others
    assert whole.marks.undo().present == marked.marks.present


def test_number_and_size_of_objects_are_bounded(blank):
    many = np.zeros((61, 64, 96), bool)
    many[:, :10, :10] = True
    with pytest.raises(PageError, match="60 objects; this would be 61"):
        app_state.add_marks(blank, many)
    with pytest.raises(PageError, match="too small"):
        app_state.add_marks(blank, many[:1] & (np.arange(96) < 2))
    with pytest.raises(PageError, match="10 x 10 pixels, the photo is not"):
        app_state.add_marks(blank, np.ones((1, 10, 10), bool))


def test_outline_brush_and_eraser(blank):
    square = [[10, 10], [40, 10], [40, 40], [10, 40]]
    drawn = mark(blank, "stroke", kind="outline", points=square)
    assert abs(drawn.marks.present[0].area - 900) <= 124  # its rim belongs to it
    added = mark(drawn, "stroke", kind="brush", points=[[40, 25], [80, 25]], width=10)
    assert len(added.marks.present) == 1 and added.marks.present[0].mask[25, 70]
    less = mark(added, "stroke", kind="erase", points=[[70, 0], [70, 60]], width=8)
    assert not less.marks.present[0].mask[25, 70] and less.marks.present[0].mask[25, 79]
    gone = mark(added, "stroke", kind="erase", points=[[0, 32], [96, 32]], width=200)
    assert gone.marks.present == ()
    other = mark(mark(drawn, "select", id=None), "stroke", kind="brush", points=[[80, 50]], width=12)
    assert len(other.marks.present) == 2
    with pytest.raises(PageError, match="Choose the object to erase from"):
        mark(mark(drawn, "select", id=None), "stroke", kind="erase", points=square, width=3)


BAD_LINES = {
    "nothing": None,
    "a point": [[1, 2]],
    "not a number": [[1, 2], [3, math.nan], [4, 5]],
    "one coordinate": [[1], [2], [3]],
    "ragged": [[1, 2], [3], [4, 5]],
    "text": [["a", "b"]] * 4,
    "too long": [[1, 2]] * 20_001,
    "far out": [[0, 0], [1e9, 5], [3, 3]],
}


@pytest.mark.parametrize("points", BAD_LINES.values(), ids=BAD_LINES)
def test_outlines_that_are_none(blank, points):
    with pytest.raises(PageError, match="^That line"):
        mark(blank, "stroke", kind="outline", points=points)


def test_undo_redo_rename_remove_clear_of_marks(marked):
    box, lid = marked.marks.present
    gone = mark(marked, "remove", id=box.id)
    assert [m.name for m in gone.marks.present] == ["lid"] and gone.selected is None
    back = mark(gone, "undo")
    assert back.marks.present == marked.marks.present
    assert mark(back, "redo").marks.present == gone.marks.present
    assert mark(mark(marked, "undo"), "undo").marks.present == ()  # nothing further back
    named = mark(marked, "rename", id=lid.id, name="  a \n big   lid ")
    assert [m.name for m in named.marks.present] == ["box", "a big lid"]
    assert mark(marked, "clear").marks.present == ()
    for event in ({"op": "remove", "id": 99}, {"op": "rename", "id": lid.id, "name": " "}, {"op": "fly"}):
        with pytest.raises(PageError):
            mark(marked, **event)


def test_history_is_bounded_and_a_new_step_ends_the_future():
    history = History(0)
    for value in range(1, 200):
        history = history.push(value)
    assert len(history.past) == app_state.MAX_HISTORY and history.undo().present == 198
    assert history.undo().push(7).redo().present == 7
    assert History(1).undo().present == 1 == History(1).redo().present


# Pipelines


def test_completing_takes_the_steps_in_order(marked, models):
    stages = []
    done = app_pages.complete(marked, models, "pcnet-m", 0.2, lambda stage, share: stages.append((stage, share)))
    assert [stage for stage, _ in stages][-1] == "done" and stages == sorted(stages, key=lambda item: item[1])
    assert set(stage for stage, _ in stages) <= set(app_pages.STAGES)
    assert done.view == "look" and [layer.name for layer in done.completed.layers] == ["box", "lid"]
    assert done.completed.size == (96 + 2 * 19, 64 + 2 * 19)  # room on each side
    modal, amodal = app_view.canvas_masks(done.completed)
    assert (modal[:, 19:-19, 19:-19] == np.stack([m.mask for m in marked.marks.present])).all()
    assert not (modal & ~amodal).any()


def test_completing_needs_marks_a_photo_and_the_pipelines(tmp_path, blank, marked, models):
    with pytest.raises(PageError, match="Mark at least one object"):
        app_pages.complete(blank, models, "pcnet-m")
    with pytest.raises(PageError, match="Mark at least one object"):
        app_pages.complete(Session(), models, "pcnet-m")
    with pytest.raises(PageError, match="Choose a network"):
        app_pages.complete(marked, models, "../secret")
    empty = app_models.Models(tmp_path)
    assert "pipelines/deocclusion" in empty.missing and empty.choices == []
    with pytest.raises(PageError, match="is not there"):
        app_pages.complete(marked, empty, "pcnet-m")
    assert app_pages.Page(empty).build() is not None  # the page starts, and says so
    lacking = tmp_path / "lacking" / "deocclusion"
    lacking.mkdir(parents=True)
    index = {"references": {"content_pipeline": "../pcnet-c", "mask_pipeline": "../pcnet-m"}}
    (lacking / "model_index.json").write_text(json.dumps(index))
    assert "`pipelines/pcnet-c`, which is not there" in app_models.Models(tmp_path / "lacking").missing
    with pytest.raises(PageError, match="Complete the objects first"):
        app_pages.go_to(marked, "edit")


def test_another_shape_takes_the_place_of_the_first(completed, models):
    number = completed.completed.layers[0].id
    modal, _ = app_view.canvas_masks(completed.completed)
    samples, scores = models.shapes(completed.photo, modal[0], 3)
    assert len(samples) == 3 and (np.diff(scores) <= 0).all()
    assert len(app_view.draw_shapes(completed.photo, modal[0], samples, scores)) == 3
    samples[1] = False
    samples[1, 5:20, 8:30] = True
    moved = edit(completed.step(samples=samples, samples_of=number), "move", id=number, dx=7, dy=3)
    used = models.use_shape(moved, 1)
    first, now = used.completed.layers[0], used.scene.present.layers[0]
    assert (app_view.canvas_masks(used.completed)[1][0] == (samples[1] | modal[0])).all()
    assert np.allclose(now.transform - first.transform, [[0, 0, 7], [0, 0, 3]])  # it stays where it was dragged
    assert edit(used, "undo").scene.present is moved.scene.present
    for chosen in (None, 3, -1):
        with pytest.raises(PageError, match="Choose a shape"):
            models.use_shape(moved, chosen)


def test_segmenter_marks_what_is_clicked(folder, blank):
    with pytest.raises(PageError, match="no segmenter"):
        app_models.Models(folder).pick(blank, 1, 1)
    found = np.zeros((2, 64, 96), bool)
    found[0, 10:40, 10:60], found[1, 15:25, 20:40] = True, True
    models = app_models.Models(folder, segmenter="some/model")

    class Found:
        can_click, eraser_dilation = False, 3

        def __call__(self, photo):
            return SimpleNamespace(masks=found, names=["table", "cup"])

    models._loaded["segmenter"] = Found()
    cup = models.pick(blank, 30, 20)  # the smallest at the point
    assert (cup.marks.present[0].mask == found[1]).all() and cup.marks.present[0].predicted
    table = models.pick(cup, 55, 12)
    assert (table.marks.present[-1].mask == found[0]).all()
    with pytest.raises(PageError, match="no object here"):
        models.pick(blank, 90, 60)
    everything = models.find_objects(blank)
    assert [(m.name, m.area) for m in everything.marks.present] == [("table", 1500 - 200), ("cup", 200)]
    assert len(models.complete(everything, "pcnet-m").layers) == 2
    with pytest.raises(PageError, match="between"):
        app_state.check_point(blank, 96, 3)


# Visitors


def test_visitors_do_not_share_anything_that_changes(completed):
    template = Session()
    first, second = deepcopy(template), deepcopy(template)  # as gr.State gives one to each
    first = app_pages.open_example(first, "woven")
    assert second.photo is None and template.photo is None
    one, two = completed.step(view="edit"), completed.step(view="edit")
    moved = edit(one, "move", id=0, dx=5)
    assert two.scene.present is completed.scene.present and two.scene.past == ()
    assert (two.scene.present.render(output_type="np") == completed.photo).all()
    assert moved.scene.present is not two.scene.present
    for field in dataclasses.fields(Session):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(moved, field.name, None)
    assert not moved.scene.present.layers[0].rgba.flags.writeable


def test_models_are_loaded_once_for_all_visitors(folder):
    models, made = app_models.Models(folder), []
    visitors = [threading.Thread(target=lambda: made.append(models.scene_pipeline("pcnet-m"))) for _ in range(4)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert len({id(pipe) for pipe in made}) == 1 and len(made) == 4


def test_errors_are_messages(caplog):
    assert app_pages.message_for(PageError("Load a photo first.")) == "Load a photo first."
    assert "`order` must" in app_pages.message_for(ValueError("`order` must be a matrix"))
    said = app_pages.message_for(OSError("folder/secret.bin"))
    assert "secret" not in said and "try again" in said
    assert "secret" in caplog.text  # the log has it all

    @app_pages.guarded
    def fail():
        raise PageError("Mark at least one object first.")

    with pytest.raises(gr.Error, match="Mark at least one"):
        fail()


def test_refused_event_keeps_the_session_and_redraws(monkeypatch, models, marked):
    warnings = []
    monkeypatch.setattr(app_pages.gr, "Warning", lambda message, **_: warnings.append(message))
    event = SimpleNamespace(_data={"mode": "mark", "op": "stroke", "kind": "outline", "points": [[1, 1]]})
    session, stage, *_ = app_pages.Page(models).on_act(marked, event)
    assert warnings == ["That line is too short. Draw around the object, or paint over it."]
    assert session.marks is marked.marks and stage["stamp"] == marked.stamp + 1


# Start


def test_page_is_built_of_what_is_there(models, folder):
    page = app_pages.Page(models)
    page.build()
    assert [key for _, key in page.pipeline.choices] == ["pcnet-m", "amodal-vae"]
    assert page.find.visible is False
    with_segmenter = app_pages.Page(app_models.Models(folder, segmenter="some/model"))
    with_segmenter.build()
    assert with_segmenter.find.visible is True and with_segmenter.session.value.segmenter is True


def test_options(monkeypatch, tmp_path):
    import app

    monkeypatch.delenv("AMODAL_PIPELINES", raising=False)
    assert Path(app.parse_arguments([]).pipelines) == ROOT / "pipelines"
    monkeypatch.setenv("AMODAL_PIPELINES", str(tmp_path))
    monkeypatch.setenv("AMODAL_SEGMENTER", "some/model")
    options = app.parse_arguments(["--port", "1234"])
    assert (Path(options.pipelines), options.segmenter, options.port) == (tmp_path, "some/model", 1234)
    theme = app.theme()
    assert not theme._font_css and not theme._stylesheets  # no font from elsewhere


def test_actions_of_the_page_are_known_here():
    panel = (ROOT / "demos" / "app_panel.js").read_text(encoding="utf-8")
    actions = re.search(r"ACTIONS = \[(.*?)\n\];", panel, re.S).group(1)
    operations = set(re.findall(r'\["[^"]+", "([a-z]+)', actions)) | set(re.findall(r'op: "([a-z]+)"', panel))
    known = {*app_edits.EDITS, "undo", "redo", "reset", "select", "clear"}
    assert operations <= known and {"place", "scale", "rotate"} <= set(re.findall(r'"(\w+)"', panel))


def test_space_header_names_the_tested_gradio():
    header = (ROOT / "demos" / "README.md").read_text(encoding="utf-8").split("---")[1]
    fields = dict(line.split(": ", 1) for line in header.strip().splitlines() if ": " in line)
    pinned = re.search(r"^gradio==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M).group(1)
    assert fields["sdk"] == "gradio" and fields["sdk_version"] == pinned and fields["app_file"] == "app.py"
    assert len(fields["short_description"]) <= 60
