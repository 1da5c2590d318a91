"""What a visitor of the page does to a scene."""

import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from demo_helpers import edit
from page.view.drawing import object_codes
from page.view.panel import panel_value
from page.view.stage import stage_value
from page.work import edits
from page.work.edits import insert_picture, is_mirrored, overlapping, rotation_of, scale_of, sides_of
from page.work.session import MAX_HISTORY, PageError


def test_typed_numbers_are_absolute(edited):
    number = edited.scene.present.layers[0].id
    turned = edit(edited, "rotate", id=number, degrees=40)
    flipped = edit(edit(turned, "scale", id=number, percent=50), "flip", id=number)
    for session, mirrored in ((turned, False), (flipped, True)):
        again = edit(edit(session, "rotate", id=number, degrees=-75), "scale", id=number, percent=130)
        layer = again.scene.present.layers[0]
        assert rotation_of(layer) == pytest.approx(-75) and scale_of(layer) == pytest.approx(130)
        assert is_mirrored(layer) is mirrored
    placed = edit(flipped, "place", id=number, x=3.5)
    x, y, _, _ = placed.scene.present.layers[0].box
    assert (x, y) == (pytest.approx(3.5), pytest.approx(flipped.scene.present.layers[0].box[1]))


def test_drag_moves_by_whole_pixels_and_undo_gives_the_photo_back(edited):
    scene = edited.scene.present
    number = scene.layers[1].id
    moved = edit(edited, "move", id=number, dx=12.4, dy=-7)
    assert moved.layer == number and len(moved.scene.past) == 1
    assert np.subtract(moved.scene.present.layers[1].box, scene.layers[1].box).tolist() == [12, -7, 0, 0]
    assert (moved.scene.present.render(output_type="np") != edited.photo).any()
    back = edit(moved, "undo")
    assert back.scene.present is scene and (back.scene.present.render(output_type="np") == edited.photo).all()
    assert edit(back, "redo").scene.present is moved.scene.present
    reset = edit(edit(moved, "front", id=number), "reset")
    assert reset.scene.present is scene and len(reset.scene.past) == 3  # which can be undone too
    still = edit(edited, "move", id=number, dx=0, dy=0)
    assert still.scene.past == () and still.stamp > edited.stamp


def test_the_photo_comes_back_and_edits_are_counted_after_more_than_are_kept(edited):
    session, number = edited, edited.scene.present.layers[1].id
    for _ in range(MAX_HISTORY + 5):
        session = edit(session, "flip", id=number)
    assert len(session.scene.past) == MAX_HISTORY and session.edits == MAX_HISTORY + 5
    reset = edit(session, "reset")
    assert reset.scene.present is edited.scene.present and reset.edits == MAX_HISTORY + 6
    assert edit(reset, "undo").scene.present is session.scene.present
    assert edit(reset, "reset").scene is reset.scene


@pytest.mark.parametrize(
    ("op", "event", "says"),
    [
        ("move", {"dx": 5000}, "too far away"),
        ("move", {"dx": math.inf}, "must be between"),
        ("place", {"x": "a"}, "cannot be read"),
        ("scale", {"percent": 0}, "between 2 and 1000"),
        ("scale", {"percent": None}, "cannot be read"),
        ("rotate", {"degrees": math.nan}, "must be between"),
        ("rename", {"name": ""}, "at least one letter"),
        ("swap", {"other": 0}, "another object"),
        ("swap", {"other": 77}, "Choose an object"),
        ("explode", {}, "no such action"),
        (["move"], {}, "no such action"),
        ({}, {}, "no such action"),
        ("move", {"dx": 10**400}, "cannot be read"),
        ("stretch", {"side": "depth", "percent": 50}, "no such side"),
        ("stretch", {"side": "width", "percent": 1}, "between 2 and 1000"),
        ("restack", {"place": 3}, "between 0 and 2"),
        ("restack", {"place": "x"}, "cannot be read"),
        ("fade", {"percent": 101}, "between 0 and 100"),
    ],
)
def test_refused_edits(edited, op, event, says):
    with pytest.raises(PageError, match=says):
        edit(edited, op, id=0, **event)
    with pytest.raises(PageError):
        edit(edited, op, id=77, **event)


def test_order_moves_step_by_step(edited):
    scene = edited.scene.present
    bottom = scene.stacking()[0]
    above = overlapping(scene, bottom)
    assert above  # the drawn objects overlap
    raised = edit(edited, "forward", id=scene.layers[bottom].id).scene.present
    assert raised.in_front(bottom, above[0]) and not scene.in_front(bottom, above[0])
    front = edit(edited, "front", id=scene.layers[bottom].id)
    with pytest.raises(PageError, match="Nothing is in front"):
        edit(front, "forward", id=scene.layers[bottom].id)
    back = edit(front, "back", id=scene.layers[bottom].id)
    with pytest.raises(PageError, match="in front of nothing"):
        edit(back, "backward", id=scene.layers[bottom].id)
    swapped = edit(edited, "swap", id=scene.layers[bottom].id, other=scene.layers[above[0]].id).scene.present
    assert swapped.in_front(bottom, above[0])


def test_duplicate_remove_and_insert(monkeypatch, edited):
    twice = edit(edited, "duplicate", id=0)
    assert [layer.name for layer in twice.scene.present.layers][-1] == "a copy"
    assert twice.layer == twice.scene.present.layers[-1].id == 3
    gone = edit(twice, "remove", id=3)
    assert len(gone.scene.present) == 3 and gone.layer is None
    picture = Image.new("RGBA", (500, 100), (255, 0, 0, 255))
    added = insert_picture(edited, picture, "sign")
    x, y, w, h = added.scene.present.layers[-1].box
    assert (w, h) == (64, 13) and abs(x + w / 2 - 64) <= 1 and abs(y + h / 2 - 48) <= 1
    assert added.scene.present.layers[-1].size == (128, 26)  # more than is seen, for who makes it larger
    small = insert_picture(edited, Image.new("RGBA", (20, 10), (255, 0, 0, 255)), "dot").scene.present.layers[-1]
    assert small.size == (20, 10) == small.box[2:] and scale_of(small) == 100
    with pytest.raises(PageError, match="transparent everywhere"):
        insert_picture(edited, Image.new("RGBA", (50, 50)), "air")
    monkeypatch.setattr(edits, "MAX_OBJECTS", 3)
    with pytest.raises(PageError, match="can have 3 objects"):
        edit(edited, "duplicate", id=0)


def test_width_and_height_change_apart_or_together(edited):
    number = edited.scene.present.layers[0].id
    turned = edit(edited, "rotate", id=number, degrees=30)
    wide = edit(turned, "stretch", id=number, side="width", percent=150)
    assert sides_of(wide.scene.present.layers[0]) == pytest.approx((150, 100))
    both = edit(wide, "stretch", id=number, side="height", percent=50, keep=True)
    assert sides_of(both.scene.present.layers[0]) == pytest.approx((75, 50))
    assert rotation_of(both.scene.present.layers[0]) == pytest.approx(30)
    with pytest.raises(PageError, match="between 2 and 1000"):
        edit(both, "stretch", id=number, side="height", percent=1000, keep=True)
    same = edit(both, "stretch", id=number, side="width", percent=75)
    assert same.scene.present is both.scene.present


def test_rows_are_put_where_they_are_dropped(edited):
    scene = edited.scene.present
    last = scene.stacking()[-1]
    moved = edit(edited, "restack", id=scene.layers[last].id, place=0)
    assert moved.scene.present.stacking()[0] == last
    assert edit(moved, "restack", id=scene.layers[last].id, place=0).scene.present is moved.scene.present
    assert (edit(moved, "undo").scene.present.render(output_type="np") == edited.photo).all()


def test_hidden_and_faded_layers_are_drawn_so_and_take_no_clicks(edited):
    scene = edited.scene.present
    number = scene.layers[0].id
    hidden = edit(edited, "show", id=number, visible=False).scene.present
    assert not hidden.layers[0].visible and 1 not in object_codes(hidden)
    assert (hidden.render(output_type="np") == scene.remove(0).render(output_type="np")).all()
    faded = edit(edited, "fade", id=number, percent=40).scene.present
    assert faded.layers[0].opacity == 0.4 and (object_codes(faded) == object_codes(scene)).all()


def test_a_locked_object_stays_as_it_is(edited):
    number = edited.scene.present.layers[0].id
    locked = edit(edited, "lock", id=number, locked=True)
    assert locked.layer == edited.layer  # the lock chooses nothing
    for op, event in (("move", {"dx": 5}), ("remove", {}), ("fade", {"percent": 50}), ("front", {})):
        with pytest.raises(PageError, match="is locked"):
            edit(locked, op, id=number, **event)
    assert not edit(locked, "show", id=number, visible=False).scene.present.layers[0].visible
    assert edit(locked, "rename", id=number, name="kept").scene.present.layers[0].name == "kept"
    free = edit(locked, "lock", id=number, locked=False)
    assert edit(free, "move", id=number, dx=5).scene.present.layers[0].box[0] != locked.scene.present.layers[0].box[0]


def test_what_stands_on_an_object_goes_along_where_that_was_chosen(edited):
    table = insert_picture(edited, Image.new("RGBA", (20, 14), "red"), "table")
    both = insert_picture(table, Image.new("RGBA", (6, 6), "blue"), "cup")
    lower, upper = (layer.id for layer in both.scene.present.layers[-2:])
    chosen = edit(both, "select", id=lower)
    rows = {row["id"]: row for row in panel_value(chosen, "edit")["objects"]}
    assert rows[lower]["carries"] == ["cup"] and not rows[lower]["carry"] and rows[upper]["carries"] == []
    alone = edit(chosen, "move", id=lower, dx=5).scene.present
    assert alone.layers[-1].box == both.scene.present.layers[-1].box
    taking = edit(chosen, "carry", on=True)
    assert taking.scene is chosen.scene and taking.carry
    for op, event in (("move", {"dx": 5}), ("place", {"x": 3}), ("scale", {"percent": 50}), ("rotate", {"degrees": 9})):
        along = edit(taking, op, id=lower, **event).scene.present
        assert along.layers[-1].box != both.scene.present.layers[-1].box
    assert len(edit(taking, "remove", id=lower).scene.present) == len(both.scene.present) - 2
    hidden = edit(taking, "show", id=lower, visible=False).scene.present
    assert [layer.visible for layer in hidden.layers[-2:]] == [False, False]
    locked = edit(taking, "lock", id=upper, locked=True)
    for op, event in (("move", {"dx": 5}), ("stretch", {"side": "width", "percent": 50, "keep": True})):
        with pytest.raises(PageError, match="cup is locked and stands on it"):
            edit(locked, op, id=lower, **event)
    # What leaves the cup where it is, is allowed.
    assert edit(locked, "stretch", id=lower, side="width", percent=50).scene.present is not locked.scene.present
    assert edit(locked, "swap", id=lower, other=upper).scene.present.in_front(
        *(both.scene.present.layers.index(layer) for layer in both.scene.present.layers[-2:])
    )


def test_the_picture_has_what_goes_along_for_the_time_of_a_drag(edited):
    table = insert_picture(edited, Image.new("RGBA", (20, 14), "red"), "table")
    both = insert_picture(table, Image.new("RGBA", (6, 6), "blue"), "cup")
    lower, upper = (layer.id for layer in both.scene.present.layers[-2:])
    chosen = replace(edit(both, "select", id=lower), view="edit")
    alone, along = stage_value(chosen), stage_value(edit(chosen, "carry", on=True))
    assert alone["along"] == [] and [part["id"] for part in along["along"]] == [upper]
    assert alone["under"] != along["under"]
    assert stage_value(edit(chosen, "move", id=lower, dx=5))["along"] == []
