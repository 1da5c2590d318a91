"""Marking objects by clicks, boxes and words, and all of them at once."""

import gc
import weakref
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from amodal_diffusion import InteractiveSegmenter
from demo_helpers import mark
from page.layout import Page
from page.models import Models
from page.segmenters import MAX_EMBEDDINGS, Segmenters
from page.view.stage import stage_value
from page.work.files.photos import with_photo
from page.work.marks import add_marks
from page.work.session import PageError, Session


class Discs:
    """A segmenter for clicks: discs of 8 pixels at clicks on the object and not at those beside it; or the box."""

    can_click = True

    def __init__(self):
        self.embedded, self.asked = [], []

    def embed(self, photo):
        self.embedded.append(photo)
        return photo

    def click(self, photo, points=(), labels=(), *, box=None, mask=None):
        self.asked.append({"points": list(points), "labels": list(labels), "box": box, "mask": mask})
        rows, columns = np.mgrid[: photo.shape[0], : photo.shape[1]]
        found = np.zeros(photo.shape[:2], bool) if mask is None else mask.copy()
        if box is not None:
            x, y, w, h = box
            found |= (columns >= x) & (columns < x + w) & (rows >= y) & (rows < y + h)
        for (x, y), label in zip(points, labels, strict=True):
            disc = (columns - x) ** 2 + (rows - y) ** 2 < 64
            found = found | disc if label else found & ~disc
        return found


class Everything:
    """A segmenter of transformers for all objects and for words."""

    can_click, takes_text, eraser_dilation, pipeline = False, True, 3, object()

    def __init__(self):
        self.masks = np.zeros((2, 64, 96), bool)
        self.masks[0, 10:40, 10:60], self.masks[1, 15:25, 20:40] = True, True

    def __call__(self, photo, text=None):
        if text == "nothing":
            return SimpleNamespace(masks=self.masks[:0], names=[])
        if text is not None:
            return SimpleNamespace(masks=self.masks[1:], names=[text])
        return SimpleNamespace(masks=self.masks, names=["table", "cup"])


@pytest.fixture
def discs():
    return Discs()


@pytest.fixture
def segmenters(discs):
    return Segmenters(discs, Everything(), "some-model")


def click(segmenters, session, x, y, **event):
    return segmenters.click(session, {"id": session.selected, "point": [x, y], **event})


def test_clicks_make_an_object_and_refine_it(segmenters, discs, blank):
    first = click(segmenters, blank, 20, 20)
    assert len(first.marks.present) == 1 and first.selected == 0 and first.marks.present[0].predicted
    second = click(segmenters, first, 30, 20)
    third = click(segmenters, second, 33, 20, positive=False)
    assert len(third.marks.present) == 1 and len(discs.embedded) == 1
    asked = discs.asked[-1]
    assert asked["points"] == [(20, 20), (30, 20), (33, 20)] and asked["labels"] == [1, 1, 0]
    assert (asked["mask"] == second.marks.present[0].mask).all()
    assert stage_value(third)["clicks"] == {
        "id": 0,
        "points": [[20, 20, True], [30, 20, True], [33, 20, False]],
        "box": None,
    }
    back = mark(third, "undo")  # a click is a step
    assert back.marks.present[0] is second.marks.present[0] and len(stage_value(back)["clicks"]["points"]) == 2
    other = click(segmenters, mark(third, "select", id=None), 70, 40)
    assert len(other.marks.present) == 2 and other.marks.present[0] is third.marks.present[0]


def test_a_click_refines_what_a_hand_has_drawn(segmenters, discs, marked):
    box = mark(marked, "select", id=0)
    refined = click(segmenters, box, 15, 45)
    assert (discs.asked[-1]["mask"] == box.marks.present[0].mask).all() and discs.asked[-1]["labels"] == [1]
    brushed = mark(refined, "stroke", kind="brush", points=[[10, 60], [20, 60]], width=4)
    assert brushed.marks.present[0].clicks is None and stage_value(brushed)["clicks"] is None
    click(segmenters, brushed, 12, 50)
    assert discs.asked[-1]["points"] == [(12, 50)]  # what came before is in the mask


def test_a_box_is_a_new_object_unless_it_frames_the_chosen_one(segmenters, discs, marked):
    boxed = segmenters.click(marked, {"id": None, "box": [60, 5, 90, 15]})
    assert boxed.marks.present[2].area == 300 and discs.asked[-1]["box"] == (60, 5, 30, 10)
    assert stage_value(boxed)["clicks"] == {"id": 2, "points": [], "box": (60, 5, 90, 15)}
    again = segmenters.click(boxed, {"id": boxed.selected, "box": [58, 4, 92, 16]})
    assert len(again.marks.present) == 3 and again.marks.present[2].area == 34 * 12
    refined = click(segmenters, again, 75, 20)  # the box stays with it
    assert discs.asked[-1]["box"] == (58, 4, 34, 12) and len(refined.marks.present) == 3
    apart = segmenters.click(refined, {"id": refined.selected, "box": [0, 45, 20, 60]})
    assert len(apart.marks.present) == 4 and apart.marks.present[2] is refined.marks.present[2]


def test_what_a_click_takes_of_others_is_said(segmenters, marked):
    free = mark(marked, "select", id=None)
    over = click(segmenters, free, 40, 35, new=True)
    assert "in front of “lid”" in over.notice.text and over.marks.present[2].area > 0
    lid = over.marks.present[1]
    more = click(segmenters, over, 60, 35, new=True)
    assert "in front of “lid”" in more.notice.text and more.marks.present[1].area < lid.area
    less = click(segmenters, more, 60, 35, positive=False)  # gives back what it does not need any more
    assert less.marks.present[1].area == lid.area
    given_back = mark(more, "overlap", over="under")
    assert given_back.marks.present[1].area == marked.marks.present[1].area
    brushed = mark(mark(more, "select", id=1), "stroke", kind="brush", points=[[40, 22], [70, 22]], width=3)
    kept = segmenters.click(brushed, {"id": 2, "point": [60, 35], "positive": False})
    assert kept.marks.present[1].area <= lid.area  # a hand has drawn in it since


def test_what_clicks_cover_comes_back_when_they_shrink(segmenters, blank):
    dot = mark(blank, "stroke", kind="outline", points=[[27, 27], [33, 27], [33, 33], [27, 33]])
    free = mark(dot, "select", id=None)
    covered = click(segmenters, free, 30, 30, over="top", new=True)
    assert [m.id for m in covered.marks.present] == [1] and "covers all of “object 1”" in covered.notice.text
    gone = segmenters.click(covered, {"id": 1, "point": [45, 30], "over": "top"})
    back = segmenters.click(gone, {"id": 1, "point": [28, 30], "positive": False, "over": "top"})
    assert [m.id for m in back.marks.present] == [0, 1] and back.marks.present[0] is dot.marks.present[0]


def test_a_click_in_a_marked_object_chooses_it(segmenters, discs, marked):
    box, lid = marked.marks.present
    free = mark(marked, "select", id=None)
    chosen = click(segmenters, free, 60, 35)
    assert chosen.selected == lid.id and chosen.marks is free.marks and not discs.asked
    other = click(segmenters, chosen, 15, 20)
    assert other.selected == box.id and other.marks is free.marks and not discs.asked
    refined = click(segmenters, other, 15, 20)
    assert refined.marks.present[0].clicks.points == ((15, 20, True),)
    left_out = click(segmenters, refined, 60, 35, positive=False)  # which is said of the chosen one
    assert left_out.selected == box.id


@pytest.mark.parametrize("over", ["smaller", "top", "under"])
@pytest.mark.parametrize("grown", [-2, -1, 0, 1, 2])
def test_no_answer_becomes_a_sliver_of_what_is_marked(segmenters, discs, blank, over, grown):
    rows, columns = np.mgrid[:64, :96]

    def disc(radius):
        return (columns - 40) ** 2 + (rows - 30) ** 2 < radius**2

    first = add_marks(blank, disc(18)[None], ["plate"])
    discs.click = lambda photo, **_: disc(18 + grown)
    again = click(segmenters, first, 40, 30, over=over, new=True)
    if over == "under" and grown <= 0:  # nothing of it would be seen, and there is a way to have it
        assert again.marks is first.marks and "All of it belongs to “plate”" in again.notice.text
    else:
        assert again.marks is first.marks and again.selected == first.marks.present[0].id
        assert "That is “plate”, which is marked already" in again.notice.text
    anyway = mark(again, "overlap", over="top")
    assert len(anyway.marks.present) == (1 if grown >= 0 else 2) and anyway.selected == anyway.marks.present[-1].id == 1

    # What is much smaller or much larger is an object of its own.
    for radius in (6, 30):
        discs.click = lambda photo, radius=radius, **_: disc(radius)
        made = click(segmenters, first, 40, 30, new=True)
        assert len(made.marks.present) == 2 and min(m.area for m in made.marks.present) > 100


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ({"point": [96.5, 3]}, "between"),
        ({"point": [5]}, "cannot be read"),
        ({"point": "ab"}, "cannot be read"),
        ({}, "cannot be read"),
        ({"point": [5, 5], "positive": False}, "Click the object first"),
        ({"point": [5, 5], "id": 9}, "Choose an object"),
        ({"box": [1, 1, 2, 2]}, "too small"),
        ({"box": [1, 1, 200, 2]}, "between"),
        ({"box": 7}, "cannot be read"),
        ({"point": [5, 5], "over": "best"}, "no such rule"),
    ],
)
def test_refused_clicks(segmenters, blank, event, says):
    with pytest.raises(PageError, match=says):
        segmenters.click(blank, event)


def test_where_nothing_is_found(segmenters, discs, blank):
    discs.click = lambda photo, **_: np.zeros((64, 96), bool)
    with pytest.raises(PageError, match="Nothing was found there"):
        click(segmenters, blank, 5, 5)
    with pytest.raises(PageError, match="Load a photo"):
        click(segmenters, Session(), 5, 5)
    with pytest.raises(PageError, match="nothing here that takes clicks"):
        click(Segmenters(), blank, 5, 5)


def test_photos_are_embedded_once_and_not_kept_for_ever(segmenters, discs, blank):
    segmenters.embed(blank)
    first = click(segmenters, blank, 5, 5)
    click(segmenters, first, 9, 9)
    assert len(discs.embedded) == 1
    others = []
    for number in range(MAX_EMBEDDINGS):
        others.append(with_photo(Session(), Image.new("RGB", (64, 64), (number, 0, 0)), "other")[0])
        segmenters.embed(others[-1])
    assert len(segmenters._embeddings) == MAX_EMBEDDINGS
    click(segmenters, first, 12, 9)
    assert len(discs.embedded) == MAX_EMBEDDINGS + 2


def test_nothing_of_a_photo_is_kept_when_its_visitor_has_gone():
    class Segments(InteractiveSegmenter):
        def encode(self, photo):
            return None

    segmenters = Segmenters(Segments())
    for color in ("red", "blue"):
        session, _ = with_photo(Session(), Image.new("RGB", (64, 64), color), color)
        for step in (session, session.step(selected=None)):
            segmenters.embed(step)
        (embedding,) = segmenters._embeddings.values()
        pixels = weakref.ref(embedding.photo)
        assert embedding.photo[0, 0].tolist() == session.photo[0, 0].tolist()
        del session, step, embedding
        gc.collect()
        assert not segmenters._embeddings and pixels() is None


def test_all_objects_and_what_a_text_names(segmenters, blank):
    every = segmenters.find(blank)
    assert [(m.name, m.area) for m in every.marks.present] == [("table", 1500 - 200), ("cup", 200)]
    assert every.selected is None and all(m.predicted for m in every.marks.present)
    cups = segmenters.find(blank, "  cup ")
    assert [(m.name, m.area) for m in cups.marks.present] == [("cup", 200)]
    for text, says in (("nothing", "nothing that it would call “nothing”"), (" ", "Say what to look for")):
        with pytest.raises(PageError, match=says):
            segmenters.find(blank, text)
    with pytest.raises(PageError, match="Nothing here can do that"):
        Segmenters(Discs()).find(blank)


def test_masks_of_segmenters_reach_under_their_neighbours(segmenters, folder, blank):
    models = Models(folder, segmenters)
    assert len(models.complete(segmenters.find(blank), "pcnet-m").layers) == 2
    assert segmenters.eraser_dilation == 3 and Segmenters().eraser_dilation == 4


def test_the_page_says_what_is_there_and_how_to_have_more(segmenters, folder):
    both = Page(Models(folder, segmenters))
    both.build()
    assert both.mark.find.visible and both.session.value.session.can_click
    assert segmenters.about.startswith(
        "**Clicks and boxes** work here. **All objects at once** are found by some-model."
    )
    alone = Segmenters(Discs())
    page = Page(Models(folder, alone))
    page.build()
    assert not page.mark.find.visible and page.session.value.session.can_click
    assert "finds all objects at once, looks for what you name and draws finer outlines" in alone.about
    assert "a model that answers clicks" in Segmenters().about and "--" not in alone.about
    chosen = Everything()
    chosen.can_click = True
    assert Segmenters(Discs(), chosen, "x").clicker is chosen


def test_a_click_is_an_action_like_others(monkeypatch, segmenters, folder, blank):
    warnings = []
    monkeypatch.setattr(gr, "Warning", lambda message, **_: warnings.append(message))
    page = Page(Models(folder, segmenters))
    for data, count in (({"id": None, "point": [5, 5], "seq": 3}, 0), ({"id": 9, "point": [5, 5], "seq": 4}, 1)):
        event = SimpleNamespace(_data={"mode": "mark", "op": "click", **data})
        session, stage, *_ = page.on_act(blank, event)
        assert stage["seq"] == data["seq"] and len(warnings) == count
    assert session.marks is blank.marks and stage["stamp"] == blank.stamp + 1
