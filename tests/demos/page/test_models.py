"""From marks to a scene, and other shapes."""

import json

import numpy as np
import pytest
from PIL import Image

from demo_helpers import edit
from page.layout import Page
from page.models import Models
from page.steps.complete import complete
from page.view.drawing import draw_shapes
from page.wiring import STAGES
from page.work.actions import go_to
from page.work.completed import canvas_masks
from page.work.marks import add_marks
from page.work.photos import with_photo
from page.work.session import PageError, Session
from photo_helpers import draw_scene


def test_completing_takes_the_steps_in_order(marked, models):
    stages = []
    done = complete(marked, models, "pcnet-m", 0.2, lambda stage, share: stages.append((stage, share)))
    assert [stage for stage, _ in stages][-1] == "done" and stages == sorted(stages, key=lambda item: item[1])
    assert set(stage for stage, _ in stages) <= set(STAGES)
    assert done.view == "look" and [layer.name for layer in done.completed.layers] == ["box", "lid"]
    assert done.completed.size == (96 + 2 * 19, 64 + 2 * 19)  # room on each side
    modal, amodal = canvas_masks(done.completed)
    assert (modal[:, 19:-19, 19:-19] == np.stack([m.mask for m in marked.marks.present])).all()
    assert not (modal & ~amodal).any()


def test_completing_needs_marks_a_photo_and_the_pipelines(tmp_path, blank, marked, models):
    with pytest.raises(PageError, match="Mark at least one object"):
        complete(blank, models, "pcnet-m")
    with pytest.raises(PageError, match="Mark at least one object"):
        complete(Session(), models, "pcnet-m")
    with pytest.raises(PageError, match="Choose a network"):
        complete(marked, models, "../secret")
    empty = Models(tmp_path)
    assert "pipelines/deocclusion" in empty.missing and empty.choices == []
    with pytest.raises(PageError, match="is not there"):
        complete(marked, empty, "pcnet-m")
    assert Page(empty).build() is not None  # the page starts, and says so
    lacking = tmp_path / "lacking" / "deocclusion"
    lacking.mkdir(parents=True)
    index = {"references": {"content_pipeline": "../pcnet-c", "mask_pipeline": "../pcnet-m"}}
    (lacking / "model_index.json").write_text(json.dumps(index))
    assert "`pipelines/pcnet-c`, which is not there" in Models(tmp_path / "lacking").missing
    with pytest.raises(PageError, match="Complete the objects first"):
        go_to(marked, "edit")


def test_another_shape_takes_the_place_of_the_first(completed, models):
    number = completed.completed.layers[0].id
    modal, _ = canvas_masks(completed.completed)
    samples, scores = models.shapes(completed.photo, modal[0], 3)
    assert len(samples) == 3 and (np.diff(scores) <= 0).all()
    assert len(draw_shapes(completed.photo, modal[0], samples, scores)) == 3
    samples[1] = False
    samples[1, 5:20, 8:30] = True
    moved = edit(completed.step(samples=samples, samples_of=number), "move", id=number, dx=7, dy=3)
    used = models.use_shape(moved, 1)
    first, now = used.completed.layers[0], used.scene.present.layers[0]
    assert (canvas_masks(used.completed)[1][0] == (samples[1] | modal[0])).all()
    assert np.allclose(now.transform - first.transform, [[0, 0, 7], [0, 0, 3]])  # it stays where it was dragged
    assert edit(used, "undo").scene.present is moved.scene.present
    for chosen in (None, 3, -1):
        with pytest.raises(PageError, match="Choose a shape"):
            models.use_shape(moved, chosen)


def test_a_crowd_is_not_completed(models):
    session = Session()
    photo, modal, _ = draw_scene(3)
    session = with_photo(session, Image.fromarray(photo), "drawn")[0]
    session = add_marks(session, modal, ["a", "b", "c"], is_crowd=[True, False, False])
    scene = complete(session, models, "pcnet-m").completed
    assert [layer.is_crowd for layer in scene.layers] == [True, False, False]
