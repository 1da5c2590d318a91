"""Whose the pixels are where marked objects overlap."""

import numpy as np
import pytest

from demo_helpers import mark
from page.view.stage import stage_value
from page.work.marks import add_marks
from page.work.session import PageError

BOX, LID = "“box”", "“lid”"


def square(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def outline(session, *corners, **event):
    return mark(session, "stroke", kind="outline", points=square(*corners), **event)


def check_disjoint(session):
    masks = np.stack([m.mask for m in session.marks.present])
    assert masks.sum(axis=0).max() == 1


@pytest.fixture
def apart(blank):
    """Two objects that do not touch: 20 x 20 and 40 x 40 pixels."""
    small, large = np.zeros((2, 64, 96), bool)
    small[5:25, 5:25] = True
    large[10:50, 40:80] = True
    return add_marks(blank, np.stack([small, large]), ["small", "large"])


def test_a_shape_that_overlaps_nothing_says_nothing(apart):
    after = outline(apart, 5, 40, 20, 55)
    assert after.notice is None and len(after.marks.present) == 3 and after.selected == 2


def test_the_smaller_is_in_front(apart):
    inner = outline(apart, 50, 20, 60, 30)
    check_disjoint(inner)
    small, large, drawn = inner.marks.present
    assert drawn.area == 10 * 10 and large.area == 1600 - 100 and small is apart.marks.present[0]
    assert "“object 3” overlaps. It lies in front of “large” (100 px)." == inner.notice.text
    around = outline(apart, 0, 0, 30, 30)
    check_disjoint(around)
    assert around.marks.present[0].area == 400 and around.marks.present[2].area == 30 * 30 - 400
    assert "behind “small” (400 px)" in around.notice.text
    both = outline(apart, 20, 20, 45, 45)
    assert "behind “small”" in both.notice.text and "in front of “large”" in both.notice.text
    assert [way for _, way in both.notice.ways] == ["top", "under"]


def test_the_rule_can_be_chosen_before(apart):
    under = outline(apart, 50, 20, 60, 60, over="under")
    assert under.marks.present[1] is apart.marks.present[1] and under.marks.present[2].area == 10 * 10
    top = outline(apart, 0, 0, 30, 30, over="top")
    assert "covers all of “small” (400 px), which is no object any more" in top.notice.text
    assert [m.name for m in top.marks.present] == ["large", "object 3"]
    with pytest.raises(PageError, match="no such rule"):
        outline(apart, 50, 20, 60, 30, over="sideways")


def test_and_after_it_in_the_same_step(apart):
    inner = outline(apart, 50, 20, 70, 60)
    settled = mark(inner, "overlap", over="under")
    check_disjoint(settled)
    assert settled.marks.present[1].area == 1600 and settled.marks.past == inner.marks.past
    again = mark(settled, "overlap", over="top")
    assert [m.area for m in again.marks.present] == [m.area for m in inner.marks.present]
    assert mark(again, "undo").marks.present == apart.marks.present  # one step
    later = mark(inner, "select", id=0)
    assert later.notice is None
    with pytest.raises(PageError, match="nothing to settle"):
        mark(later, "overlap", over="top")


def test_where_nothing_would_be_left_the_visitor_is_asked(apart):
    hidden = outline(apart, 50, 20, 60, 30, over="under")
    assert hidden.marks is apart.marks and "All of it belongs to “large”" in hidden.notice.text
    assert hidden.stamp > apart.stamp
    top = mark(hidden, "overlap", over="top")
    assert len(top.marks.present) == 3 and top.selected == 2 and top.marks.present[1].area == 1600 - 100
    back = mark(top, "overlap", over="under")
    assert back.marks.present == apart.marks.present and back.selected is None


def test_a_brush_takes_nothing_without_a_word(apart):
    small = mark(apart, "select", id=0)
    over = mark(small, "stroke", kind="brush", points=[[20, 15], [45, 15]], width=6)
    check_disjoint(over)
    assert "in front of “large”" in over.notice.text and over.marks.present[1].area < 1600
    large = mark(apart, "select", id=1)
    kept = mark(large, "stroke", kind="brush", points=[[20, 15], [45, 15]], width=6)
    check_disjoint(kept)
    assert kept.marks.present[0].area == 400 and "behind “small”" in kept.notice.text
    assert mark(kept, "overlap", over="top").marks.present[0].area < 400


def test_the_picture_says_it(apart):
    value = stage_value(outline(apart, 50, 20, 60, 30))
    assert value["notice"]["text"].startswith("“object 3” overlaps") and value["notice"]["ways"] == (
        ("Put it behind", "under"),
    )
