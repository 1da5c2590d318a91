"""What a visitor of the page marks in a photo."""

import math

import numpy as np
import pytest

from demo_helpers import mark
from page.work.marks import add_marks
from page.work.session import MAX_HISTORY, History, PageError


def test_of_masks_that_are_added_the_last_one_is_in_front(marked):
    box, lid = marked.marks.present
    assert not (box.mask & lid.mask).any() and lid.area == 30 * 50 and box.area == 30 * 40 - 20 * 20
    assert marked.selected is None and marked.notice is None  # the next stroke begins a new object
    whole = add_marks(marked, np.ones((1, 64, 96), bool))
    assert [m.name for m in whole.marks.present] == ["object 3"]  # nothing is left of the others
    assert "box, lid" in whole.notice.text  # which is said
    assert whole.marks.undo().present == marked.marks.present


def test_what_a_segmenter_finds_leaves_marks_their_pixels(marked):
    found = np.zeros((3, 64, 96), bool)
    found[0, 22:48, 32:78] = True  # the lid again
    found[1, 45:64, 60:96] = True  # a corner of it is the lid's
    found[2, 0:8, 0:8] = True
    after = add_marks(marked, found, ["lid?", "table", "dot"], predicted=True, behind=True)
    assert [m.name for m in after.marks.present] == ["box", "lid", "table", "dot"]
    assert after.marks.present[:2] == marked.marks.present and after.notice is None
    assert after.marks.present[2].area == 19 * 36 - 5 * 20
    with pytest.raises(PageError, match="marked already"):
        add_marks(marked, found[:1], behind=True)


def test_number_and_size_of_objects_are_bounded(blank):
    many = np.zeros((61, 64, 96), bool)
    many[:, :10, :10] = True
    for index in range(61):  # none of them hides another
        many[index] = False
        many[index, 8 * (index // 12) : 8 * (index // 12) + 6, 8 * (index % 12) : 8 * (index % 12) + 6] = True
    with pytest.raises(PageError, match="60 objects; this would be 61"):
        add_marks(blank, many)
    full = add_marks(blank, many[:60])
    with pytest.raises(PageError, match="60 objects"):
        mark(full, "stroke", kind="outline", points=[[10, 50], [30, 50], [30, 60]])
    with pytest.raises(PageError, match="too small"):
        add_marks(blank, many[:1] & (np.arange(96) < 2))
    with pytest.raises(PageError, match="10 x 10 pixels, the photo is not"):
        add_marks(blank, np.ones((1, 10, 10), bool))


def test_a_stroke_that_changes_nothing_is_no_step(marked):
    for kind, points in (("brush", [[-40, 5], [-30, 5]]), ("erase", [[90, 60], [95, 60]])):
        after = mark(mark(marked, "select", id=1), "stroke", kind=kind, points=points, width=4)
        assert after.marks is marked.marks and after.selected == 1


def test_outline_brush_and_eraser(blank):
    square = [[10, 10], [40, 10], [40, 40], [10, 40]]
    drawn = mark(blank, "stroke", kind="outline", points=square)
    assert abs(drawn.marks.present[0].area - 900) <= 1
    added = mark(drawn, "stroke", kind="brush", points=[[40, 25], [80, 25]], width=10)
    assert len(added.marks.present) == 1 and added.marks.present[0].mask[25, 70]
    less = mark(added, "stroke", kind="erase", points=[[70, 0], [70, 60]], width=8)
    assert not less.marks.present[0].mask[25, 70] and less.marks.present[0].mask[25, 79]
    gone = mark(added, "stroke", kind="erase", points=[[0, 32], [96, 32]], width=200)
    assert gone.marks.present == ()
    other = mark(mark(drawn, "select", id=None), "stroke", kind="brush", points=[[80, 50]], width=12)
    assert len(other.marks.present) == 2
    free = mark(drawn, "select", id=None)
    rubbed = mark(free, "stroke", kind="erase", points=[[25, 25], [25, 50]], width=6)  # from what it begins on
    assert not rubbed.marks.present[0].mask[30, 25]
    with pytest.raises(PageError, match="Choose the object to erase from"):
        mark(free, "stroke", kind="erase", points=[[80, 5], [20, 20]], width=3)


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
    assert len(history.past) == MAX_HISTORY and history.undo().present == 198
    assert history.undo().push(7).redo().present == 7
    assert (history.first, history.count, history.undo().count, history.undo().redo().count) == (0, 199, 198, 199)
    assert history.undo().push(7).first == 0 == History(0).first and History(0).count == 0
    assert History(1).undo().present == 1 == History(1).redo().present
