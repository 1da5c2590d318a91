"""`AmodalAnnotator`: batches in, batches out, and what cannot be completed costs its row alone."""

import logging
import pickle
import threading
from contextvars import ContextVar

import numpy as np
import pyarrow
import pytest
from diffusers.utils import logging as diffusers_logging
from PIL import Image

from amodal_diffusion.annotation import BASELINES, AmodalAnnotator, annotation_features
from amodal_diffusion.baselines import complete_convex, complete_convex_refined
from amodal_diffusion.data import read_annotations, record_masks, record_order
from amodal_diffusion.evaluation import METHODS, call_pipeline
from amodal_diffusion.ordering import order_by_hull
from pipeline_helpers import tiny_model, tiny_pipeline
from training_helpers import write_coco


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return read_annotations(write_coco(tmp_path_factory.mktemp("source") / "a.json", images=5))


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline(mask_threshold=0.3)


@pytest.fixture(scope="module")
def done(rows, pipeline):
    return AmodalAnnotator(pipeline)(rows.with_format("arrow")[:])


def test_a_batch_is_what_calls_of_its_photos_are(rows, pipeline, done):
    assert done.schema.equals(annotation_features().arrow_schema)
    for row, found in zip(rows, done.to_pylist(), strict=True):
        modal, _ = record_masks(row)
        output = call_pipeline(pipeline, None, modal, [1] * len(modal))
        assert np.array_equal(record_masks(found)[1], output.amodal_masks) and found["error"] is None
        assert np.array_equal(record_order(found), output.order)
        for mask, likely, prediction in zip(
            output.amodal_masks, output.probabilities, found["predictions"], strict=True
        ):
            assert prediction["score"] == pytest.approx(likely[mask].mean(), abs=1e-6)
            assert prediction["uncertainty"] == pytest.approx((4 * likely * (1 - likely))[mask].mean(), abs=1e-6)


def test_a_dictionary_gives_a_dictionary(rows, pipeline, done):
    columns = AmodalAnnotator(pipeline)(rows[:])
    assert pyarrow.Table.from_pydict(columns, schema=annotation_features().arrow_schema).equals(done)
    mapped = rows.map(AmodalAnnotator(pipeline), batched=True, batch_size=2, features=annotation_features())
    assert mapped.with_format("arrow")[:].to_pylist() == done.to_pylist()


def test_no_rows(rows, pipeline):
    assert AmodalAnnotator(pipeline)(rows.with_format("arrow")[:0]).num_rows == 0


def test_however_the_rows_are_grouped(rows, pipeline, done, monkeypatch):
    calls = []
    tiny = pipeline.__class__.__call__

    def count(self, image, masks, **options):
        calls.append(len(masks))
        return tiny(self, image, masks, **options)

    monkeypatch.setattr(pipeline.__class__, "__call__", count)
    annotate = AmodalAnnotator(pipeline)
    assert annotate(rows.with_format("arrow")[:]).to_pylist() == done.to_pylist() and calls == [5]
    monkeypatch.setattr("amodal_diffusion.annotation.annotator.GROUP_PIXELS", 2 * 4 * 120 * 160)
    batches = [rows.with_format("arrow")[:3], rows.with_format("arrow")[3:]]
    assert [row for batch in annotate.stream(batches) for row in batch.to_pylist()] == done.to_pylist()
    assert calls == [5, 2, 1, 2]


def test_what_comes_next_is_read_meanwhile(rows, pipeline, monkeypatch):
    """The second batch is asked for before the first one is through the network."""
    asked, called = threading.Event(), []

    def batches():
        yield rows.with_format("arrow")[:2]
        asked.set()
        yield rows.with_format("arrow")[2:]

    def call(*arguments, **options):
        called.append(asked.wait(20))
        return []

    monkeypatch.setattr("amodal_diffusion.annotation.annotator.call_scenes", call)
    with pytest.raises(RuntimeError):  # no answer for a scene
        list(AmodalAnnotator(pipeline).stream(batches()))
    assert called == [True]


def test_what_is_the_callers_stays_so(rows, pipeline, tmp_path):
    """Context variables reach what makes the batches; warnings and progress bars are off for the work alone."""
    visitor, seen, log = ContextVar("visitor", default="nobody"), [], logging.getLogger("amodal_diffusion.pipelines")
    level, table = log.level, rows.with_format("arrow")[:2]

    def batches():
        for _ in range(4):
            seen.append(visitor.get())
            yield table

    visitor.set("ann")
    stream = AmodalAnnotator(pipeline).stream(batches())
    next(stream)
    assert log.level == level and set(seen) == {"ann"}
    assert sum(1 for _ in stream) == 3 and seen == ["ann"] * 4 and log.level == level
    pipeline.save_pretrained(tmp_path / "model")
    diffusers_logging.enable_progress_bar()  # which commands of other tests have disabled
    AmodalAnnotator(tmp_path / "model", device="cpu")(table)
    with pytest.raises(OSError, match="nowhere"):
        AmodalAnnotator(tmp_path / "nowhere", device="cpu")(table)
    assert diffusers_logging.is_progress_bar_enabled()


def test_pickled_by_name_it_is_small_and_does_the_same(rows, pipeline, done, tmp_path):
    pipeline.save_pretrained(tmp_path / "model")
    annotate = AmodalAnnotator(tmp_path / "model", device="cpu")
    annotate(rows.with_format("arrow")[:1])
    text = pickle.dumps(annotate)
    assert len(text) < 2000
    assert pickle.loads(text)(rows.with_format("arrow")[:]).equals(done)
    assert pickle.loads(pickle.dumps(AmodalAnnotator(pipeline)))(rows.with_format("arrow")[:]).equals(done)


def test_options_go_to_the_call(rows, pipeline):
    whole = AmodalAnnotator(pipeline, mask_threshold=0.9)(rows.with_format("arrow")[:1]).to_pylist()[0]
    output = call_pipeline(pipeline, None, record_masks(rows[0])[0], [1] * 4, mask_threshold=0.9)
    assert np.array_equal(record_masks(whole)[1], output.amodal_masks)
    with pytest.raises(TypeError, match="takes no `masks_threshold`"):
        AmodalAnnotator(pipeline, masks_threshold=0.9)(rows.with_format("arrow")[:1])


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_completes_as_a_pipeline_does(rows, name):
    """Label conversion without a network [Z20, Table 4]."""
    complete = {"raw": np.copy, "convex": complete_convex, "convex-refined": complete_convex_refined}[name]
    batch = rows[:]
    batch["objects"][0][1]["is_crowd"] = True
    batch["objects"][2] = []
    annotate = pickle.loads(pickle.dumps(AmodalAnnotator(BASELINES[name])))
    done, grown = annotate(batch), 0
    for index, objects in enumerate(done["objects"]):
        row = {name: values[index] for name, values in batch.items()}
        modal, _ = record_masks(row)
        assert done["error"][index] is None and len(objects) == len(modal)
        assert (
            done["order_relations"][index] is not None
            if name == "convex-refined"
            else not done["order_relations"][index]
        )
        if not len(modal):
            continue
        expected = complete(modal)
        if not index:
            expected[1] = modal[1]  # a crowd
        again, amodal = record_masks({**row, "objects": objects})
        assert (again == modal).all() and (amodal == expected).all()
        grown += (amodal & ~modal).sum()
        assert all(one == {"score": 1.0, "uncertainty": 0.0} for one in done["predictions"][index])
        if name == "convex-refined":
            relations = done["order_relations"][index]
            found = record_order({**row, "objects": objects, "order_relations": relations})
            assert (found == order_by_hull(modal)).all()
    assert (grown > 0) == (name != "raw")


def test_baselines_refused():
    with pytest.raises(TypeError, match="baseline 'raw' takes no options, got `mask_threshold`"):
        AmodalAnnotator(BASELINES["raw"], mask_threshold=0.5)
    with pytest.raises(ValueError, match="baseline 'y-axis' completes no masks"):
        AmodalAnnotator(METHODS["y-axis"])


def spoil(row, kind):
    objects = [dict(obj) for obj in row["objects"]]
    if kind == "no objects":
        return {**row, "objects": None}
    if kind == "no mask":
        objects[1]["modal_mask"] = None
    elif kind == "another size":
        objects[1]["modal_mask"] = {"size": [3, 3], "counts": "9"}
    elif kind == "broken":
        objects[1]["modal_mask"] = {"size": [120, 160], "counts": "242"}
    elif kind == "null":
        objects[1] = None
        return {**row, "objects": objects}
    elif kind == "no height":
        return {**row, "height": None}
    elif kind == "no pixels":
        return {**row, "height": 0, "width": 0, "objects": []}
    return {**row, "objects": objects}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no mask", "object 1 has no visible mask."),
        ("null", "object 1 has no visible mask."),
        (
            "no height",
            "visible mask of object 0: run lengths have size [120, 160], the image has [height, width] [None",
        ),
        ("another size", "visible mask of object 1: run lengths have size [3, 3]"),
        ("broken", "visible mask of object 1: counts cover 8 pixels, the image has 19200"),
        ("no pixels", "a mask must have at least one pixel"),
        ("no objects", "`objects` has no value."),
    ],
)
def test_a_bad_row_costs_itself_alone(rows, pipeline, done, kind, message):
    table = rows.with_format("arrow")[:]
    spoiled = [spoil(row, kind) if index == 2 else row for index, row in enumerate(table.to_pylist())]
    found = AmodalAnnotator(pipeline)(pyarrow.Table.from_pylist(spoiled, schema=table.schema)).to_pylist()
    assert [row for index, row in enumerate(found) if index != 2] == [
        row for index, row in enumerate(done.to_pylist()) if index != 2
    ]
    assert message in found[2]["error"]
    there, kept = ([obj and obj["modal_mask"] for obj in row["objects"] or []] for row in (spoiled[2], found[2]))
    assert kept == there
    assert (
        all(obj is None or obj["amodal_mask"] is None for obj in found[2]["objects"])
        and found[2]["order_relations"] is None
    )
    assert len(found[2]["predictions"]) == len(found[2]["objects"])


def test_a_photo_without_objects_is_complete(rows, pipeline):
    table = rows.with_format("arrow")[:]
    empty = [{**row, "objects": []} if index == 2 else row for index, row in enumerate(table.to_pylist())]
    found = AmodalAnnotator(pipeline)(pyarrow.Table.from_pylist(empty, schema=table.schema)).to_pylist()
    assert found[2]["error"] is None and found[2]["objects"] == []


def test_what_is_no_batch_is_named(rows, pipeline):
    annotate, columns = AmodalAnnotator(pipeline), rows[:]
    lacking = {name: values for name, values in columns.items() if name not in ("source", "objects")}
    for batch in (lacking, rows.remove_columns(["source", "objects"]).with_format("arrow")[:]):
        with pytest.raises(ValueError, match="must have the columns of `amodal_features`, and lacks objects, source"):
            annotate(batch)
    with pytest.raises(ValueError, match=r"must have the same length, got .*'height': 1"):
        annotate({**columns, "height": [4]})
    for batch in (None, [columns], rows):
        with pytest.raises(TypeError, match="must be an Arrow table or a dictionary of columns, got"):
            annotate(batch)
    with pytest.raises(ValueError, match=r"`mask_threshold` must lie in \[0, 1\), got 7"):
        AmodalAnnotator(pipeline, mask_threshold=7)(columns)  # which is no fault of its rows


def test_what_the_pipeline_refuses(rows, done):
    """A category id that a class-conditioned network does not know."""
    pipeline = tiny_pipeline(tiny_model(class_conditioned=True), mask_threshold=0.3)
    table = rows.with_format("arrow")[:]
    content = table.to_pylist()
    for obj in content[3]["objects"]:
        obj["category_id"] = 0
    found = AmodalAnnotator(pipeline)(pyarrow.Table.from_pylist(content, schema=table.schema)).to_pylist()
    errors = [row["error"] for row in found]
    assert errors[:3] + errors[4:] == [None] * 4 and "must be at least 1 for a class-conditioned network" in errors[3]


class _Looking:
    """A mark on a tiny pipeline that makes it look at photos."""

    def __init__(self, pipeline, monkeypatch):
        self.seen = []
        tiny = pipeline.__class__.__call__
        monkeypatch.setattr(pipeline.__class__, "needs_image", True)

        def call(this, image, masks, **options):
            self.seen += image or []
            with monkeypatch.context() as patch:
                patch.setattr(pipeline.__class__, "needs_image", False)
                return tiny(this, image, masks, **options)

        monkeypatch.setattr(pipeline.__class__, "__call__", call)


def test_photos_in_a_folder_or_behind_a_url(rows, pipeline, tmp_path, monkeypatch):
    looking = _Looking(pipeline, monkeypatch)
    table = rows.with_format("arrow")[:]
    for number, size in ((0, (160, 120)), (1, (160, 120)), (2, (5, 5))):
        Image.new("RGB", size, (number, 0, 0)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.png").rename(tmp_path / f"{number}.jpg")
    content = table.to_pylist()
    content[4]["file_name"] = "../secret.jpg"
    table = pyarrow.Table.from_pylist(content, schema=table.schema)
    for place in (tmp_path, f"file://{tmp_path}"):
        errors = AmodalAnnotator(pipeline, images=place)(table)["error"].to_pylist()
        assert errors[:2] == [None, None] and errors[2].endswith("is 5x5 pixels, its masks are 160x120.")
        assert "3.jpg" in errors[3] and "no name of a photo" in errors[4]
    assert [photo.getpixel((0, 0))[0] for photo in looking.seen] == [0, 1, 0, 1]
    assert all("has no photo" in error for error in AmodalAnnotator(pipeline)(table)["error"].to_pylist())
