"""The table of methods: what it counts, what it refuses, and the published numbers."""

import json
import logging
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion import AmodalPipelineOutput, MaskPipeline, PCNetMask, PCNetMaskPipeline
from amodal_diffusion.data import read_annotations
from amodal_diffusion.evaluation import (
    METHODS,
    EvaluationReport,
    MaskBaseline,
    PipelineMethod,
    Prediction,
    Sample,
    call_pipeline,
    evaluate_methods,
    format_markdown,
    format_table,
    load_methods,
    make_sample,
    write_report,
)
from amodal_diffusion.masks import encode_rle
from amodal_diffusion.metrics import OccluderMetrics
from amodal_diffusion.pipelines.completion.mask_pipeline import mask_call
from repository_helpers import SHARED

REAL_DATA = SHARED / "amodal_gt"


def tiny_pipeline():
    torch.manual_seed(0)
    return PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16))


@pytest.fixture
def content():
    """One image, two squares: object 2 hides the right part of object 1."""
    whole, front = np.zeros((2, 24, 32), bool)
    whole[4:20, 4:20], front[8:16, 12:30] = True, True
    regions = [
        {"segmentation": encode_rle(whole), "visible_mask": encode_rle(whole & ~front), "name": "back"},
        {"segmentation": encode_rle(front), "name": "front"},
    ]
    image = {"id": 4, "file_name": "p.png", "height": 24, "width": 32}
    annotation = {"id": 4, "image_id": 4, "depth_constraint": "2-1", "regions": regions}
    return {"images": [image], "annotations": [annotation]}


@pytest.fixture
def dataset(content):
    return read_annotations(content)


def oracle(sample):
    return Prediction(masks=sample.amodal, order=sample.order)


oracle.name = "oracle"


def test_oracle_is_right_and_raw_is_not(dataset):
    report = evaluate_methods(dataset, [METHODS["raw"], oracle])
    assert set(report.completion) == {"raw", "oracle"}
    assert set(report.order) == {"area-smaller", "y-axis", "hull", "oracle"}
    perfect = {name: value for name, value in report.completion["oracle"].items() if not math.isnan(value)}
    assert set(report.completion["oracle"]) - set(perfect) == {
        "ap_medium", "ap_large", "ar_medium", "ar_large"  # both objects are small
    }  # fmt: skip
    assert perfect == pytest.approx(dict.fromkeys(perfect, 1.0) | {"ar1": 0.5})  # one mask for two objects
    assert set(report.order["oracle"].values()) == {1.0}
    hidden, whole, front = 8 * 8, 16 * 16, 8 * 18
    raw = report.completion["raw"]
    assert raw["miou_pooled"] == pytest.approx((whole - hidden + front) / (whole + front))
    assert raw["miou_mean"] == pytest.approx((whole - hidden) / whole)
    assert raw["inv_miou_pooled"] == raw["inv_miou_mean"] == 0
    counts = {"images": 1, "objects": 2, "occluded": 1, "covered": 1, "related": 1, "large": 1, "skipped": 0}
    assert report.counts == counts


def test_order_may_come_from_the_annotation(content):
    content["annotations"][0]["depth_constraint"] = "1-2"  # the contrary of the masks
    dataset = read_annotations(content)
    assert evaluate_methods(dataset, [oracle]).order["hull"]["order_accuracy"] == 1
    report = evaluate_methods(dataset, [oracle], order_source="annotated")
    assert report.order["hull"]["order_accuracy"] == 0 and report.order["oracle"]["order_accuracy"] == 1
    assert "true order annotated" in report.to_text()


def test_pipelines_are_methods(tmp_path, dataset):
    tiny_pipeline().save_pretrained(tmp_path / "tiny")
    name = str(tmp_path / "tiny")
    methods = load_methods(["raw", name], mask_threshold=0.3)
    assert [method.name for method in methods] == ["raw", name]
    assert methods[1].call_options == {"mask_threshold": 0.3}
    report = evaluate_methods(dataset, methods)
    assert name in report.completion and name in report.order
    assert report.seconds[name] > 0


def test_bf16_pipeline_runs(tmp_path, dataset):
    tiny_pipeline().save_pretrained(tmp_path)
    (method,) = load_methods([str(tmp_path)], dtype=torch.bfloat16)
    assert method.pipeline.dtype == torch.bfloat16
    assert math.isfinite(evaluate_methods(dataset, [method]).completion[str(tmp_path)]["miou_pooled"])


def test_class_conditioned_pipeline_gets_the_category_ids(dataset):
    seen = []
    model = PCNetMask(block_out_channels=(2, 4), sample_size=16, class_conditioned=True)
    model.register_forward_pre_hook(lambda _, __, kwargs: seen.append(kwargs["category_ids"]), with_kwargs=True)
    row = dict(dataset[0])
    for obj, category in zip(row["objects"], (3, 8), strict=True):
        obj["category_id"] = category
    evaluate_methods([row], [PipelineMethod(PCNetMaskPipeline(model), "kins")])
    assert set(torch.cat(seen).tolist()) == {3, 8}


def test_photo_is_read_once_and_checked(tmp_path, content):
    Image.new("L", (32, 24)).save(tmp_path / "p.png")
    seen = []

    def looks(sample):
        seen.append(sample.image)
        return Prediction(masks=sample.modal)

    looks.name = "looks"
    evaluate_methods(read_annotations(content, images=tmp_path), [looks])
    assert seen[0].mode == "RGB" and seen[0].size == (32, 24)
    masks = np.zeros((1, 24, 32), bool)
    sample = Sample("4", masks, masks, np.zeros((1, 1), np.int8), photo=Image.new("RGB", (10, 10)))
    with pytest.raises(ValueError, match="photo of image 4 is 10x10 pixels, its masks are 32x24"):
        _ = sample.image


def test_limit_skipped_images_and_callback(content, dataset):
    row = dataset[0]
    bare = {**row, "objects": []}
    seen = []
    report = evaluate_methods([bare, row, row], [oracle], limit=2, on_sample=seen.append)
    assert report.counts["images"] == len(seen) == 1 and report.counts["skipped"] == 1
    assert "Skipped 1 images" in report.to_text()
    modal_only = {**row, "objects": [{**obj, "amodal_mask": None} for obj in row["objects"]]}
    assert make_sample(modal_only) is None
    with pytest.raises(ValueError, match="no image with amodal masks .1 images without"):
        evaluate_methods([modal_only], [oracle])


def test_bad_arguments_are_named(dataset):
    for arguments, message in (
        ({"order_source": "guess"}, "`order_source` must be one of 'masks', 'annotated', got 'guess'"),
        ({"limit": 0}, "`limit` must be at least 1, got 0"),
        ({"limit": 1.5}, "`limit` must be an integer, got 1.5"),
        ({"limit": float("nan")}, "`limit` must be an integer, got nan"),
        ({"resamples": 2.5}, "`resamples` must be an integer, got 2.5"),
        ({"resamples": 5, "seed": -1}, "`seed` must be at least 0, got -1"),
        ({"order_methods": ["size"]}, "`order_methods` holds 'size', known names are raw"),
    ):
        error = TypeError if "an integer" in message else ValueError
        with pytest.raises(error, match=message):
            evaluate_methods(dataset, [oracle], **arguments)
    with pytest.raises(ValueError, match="`methods` holds 'oracle' twice"):
        evaluate_methods(dataset, [oracle, oracle])
    with pytest.raises(ValueError, match="image 4 has no annotated order"):
        evaluate_methods([{**dataset[0], "order_relations": None}], [oracle], order_source="annotated")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            MaskBaseline("cut", complete=lambda m: m[:1]),
            r"'cut' gave masks of shape \(1, 24, 32\) for image 4, expected \(2, 24, 32\)",
        ),
        (
            MaskBaseline("one", order=lambda m: np.zeros((1, 1), np.int8)),
            r"'one' gave order of shape \(1, 1\) for image 4, expected \(2, 2\)",
        ),
    ],
)
def test_wrong_predictions_are_named(dataset, method, message):
    with pytest.raises(ValueError, match=message):
        evaluate_methods(dataset, [method])


def test_what_is_no_prediction_is_named(dataset):
    for answer in (None, np.zeros((2, 24, 32), bool)):
        bare = type("Bare", (), {"name": "bare", "__call__": lambda self, sample, answer=answer: answer})()
        with pytest.raises(TypeError, match="method 'bare' gave .* for image 4, expected a `Prediction`"):
            evaluate_methods(dataset, [bare], order_methods=[])


def test_unknown_methods_are_named(tmp_path):
    with pytest.raises(ValueError, match="at least one method"):
        load_methods([])
    with pytest.raises(ValueError, match="holds 'raw' twice"):
        load_methods(["raw", "raw"])
    with pytest.raises(ValueError, match=r"is none of raw, convex, .* and loads as no pipeline: .*model_index.json"):
        load_methods([str(tmp_path)])


# no occluder given


def test_pipeline_completes_each_object_alone(dataset, caplog):
    torch.manual_seed(0)
    seen = []
    model = PCNetMask(block_out_channels=(2, 4), sample_size=16, class_conditioned=True)
    model.register_forward_pre_hook(lambda _, __, kwargs: seen.append(kwargs), with_kwargs=True)
    pipeline = PCNetMaskPipeline(model, keep_modal=False)
    modal = make_sample(dataset[0]).modal
    with caplog.at_level(logging.WARNING):
        output = call_pipeline(pipeline, None, modal, [3, 8], alone=True)
    assert not caplog.records  # "no object has an occluder" goes without saying here
    assert not any(call["eraser"].any() for call in seen)
    assert torch.cat([call["category_ids"] for call in seen]).tolist() == [3, 8]
    assert output.order is None and output.amodal_masks.shape == output.probabilities.shape == modal.shape
    for index, ids in enumerate([[3], [8]]):
        one = pipeline(None, modal[index], category_ids=ids)
        np.testing.assert_array_equal(output.amodal_masks[index], one.amodal_masks[0])
        np.testing.assert_allclose(output.probabilities[index], one.probabilities[0], atol=1e-6)
    assert any("No object" in record.message for record in caplog.records)  # outside, the pipeline warns as ever
    assert call_pipeline(pipeline, None, modal[:0], [], alone=True).amodal_masks.shape == (0, 24, 32)


class Clairvoyant(MaskPipeline):
    """A pipeline that needs no occluder: fills everything, and predicts the upper half as the occluder."""

    call_options = ("mask_threshold",)

    def __init__(self, sees_neighbours):
        super().__init__()
        self.sees_neighbours, self.calls = sees_neighbours, []

    @mask_call
    def __call__(self, image, masks, **_):
        self.calls.append((image, masks))
        if isinstance(masks, list):
            return AmodalPipelineOutput(*zip(*(self.answer(stack) for stack in masks), strict=True))
        return AmodalPipelineOutput(*self.answer(masks))

    def answer(self, masks):
        upper = np.zeros_like(masks)
        upper[:, :12] = True
        numbers = masks.astype(np.float32)
        order = np.zeros((len(masks), len(masks)), np.int8)
        return np.ones_like(masks), numbers, order, 2 * numbers, upper, np.stack([masks, ~masks], axis=1)


@pytest.mark.parametrize("sees_neighbours", [False, True])
def test_call_alone_gives_every_field_but_the_order(sees_neighbours, dataset):
    pipeline = Clairvoyant(sees_neighbours)
    masks, photo = make_sample(dataset[0]).modal, Image.new("RGB", (32, 24))
    output = call_pipeline(pipeline, photo, masks, [1, 1], alone=True)
    ((image, given),) = pipeline.calls
    if sees_neighbours:
        assert image == [photo, photo] and [stack.shape for stack in given] == [(1, 24, 32)] * 2
    else:  # one ordinary call, so that the photo is encoded once
        assert image is photo and given is masks
    expected = AmodalPipelineOutput(*pipeline.answer(masks))
    for name in ("amodal_masks", "probabilities", "uncertainty", "occluder_masks", "samples"):
        np.testing.assert_array_equal(getattr(output, name), getattr(expected, name))
    assert output.order is None
    assert call_pipeline(pipeline, photo, masks, [1, 1]).order is not None


def test_no_method_sees_another_object(dataset):
    seen = []

    def looks(sample):
        seen.append(sample)
        return Prediction(masks=sample.modal, order=sample.order)

    looks.name = "looks"
    methods = [looks, *load_methods(["raw", "convex", "convex-refined"])]
    report = evaluate_methods(dataset, methods, occluders_given=False)
    whole = make_sample(dataset[0])
    assert [sample.modal.shape for sample in seen] == [(1, 24, 32)] * 2
    assert all((sample.order == 0).all() and not sample.occluders.any() for sample in seen)
    assert [sample.category_ids for sample in seen] == [[category] for category in whole.category_ids]
    raw, refined, convex = (report.completion[name] for name in ("raw", "convex-refined", "convex"))
    assert refined == pytest.approx(raw, nan_ok=True) and convex != pytest.approx(raw, nan_ok=True)
    assert report.completion["looks"] == pytest.approx(raw, nan_ok=True)
    assert convex == pytest.approx(evaluate_methods(dataset, methods[2:3]).completion["convex"], nan_ok=True)
    assert report.order == {} and report.occluders_given is False
    text = report.to_text()
    assert text.startswith("Completion without occluders given, each object alone, 2 objects (1 with a hidden part)")
    assert "Order accuracy" not in text and report.to_dict()["occluders_given"] is False
    given = evaluate_methods(dataset, methods)
    assert given.occluders_given is True and "without occluders" not in given.to_text()


def test_objects_alone_share_the_photo(tmp_path):
    Image.new("RGB", (32, 24)).save(tmp_path / "p.png")
    masks = np.ones((3, 24, 32), bool)
    sample = Sample("4", masks, masks, np.zeros((3, 3), np.int8), [1, 2, 3], photo=tmp_path / "p.png")
    images = [part.image for part in sample.alone()]
    assert len(images) == 3 and isinstance(sample.photo, Image.Image)
    assert [part.photo is sample.photo for part in sample.alone()] == [True] * 3


def test_wrong_predictions_alone_are_named(dataset):
    with pytest.raises(ValueError, match="method 'hull' predicts no masks; without occluders there is nothing else"):
        evaluate_methods(dataset, load_methods(["hull"]), occluders_given=False)
    cut = MaskBaseline("cut", complete=lambda m: m[:, :5])
    with pytest.raises(ValueError, match=r"'cut' gave masks of shape \(1, 5, 32\) for image 4, expected \(1, 24, 32\)"):
        evaluate_methods(dataset, [cut], occluders_given=False)


# predicted occluders


@pytest.mark.parametrize("occluders_given", [True, False])
def test_predicted_occluders_are_scored(dataset, occluders_given):
    sample = make_sample(dataset[0])
    np.testing.assert_array_equal(sample.occluders, np.stack([sample.modal[1], np.zeros((24, 32), bool)]))
    methods = [PipelineMethod(Clairvoyant(False), "upper"), METHODS["raw"]]
    report = evaluate_methods(dataset, methods, occluders_given=occluders_given)
    assert set(report.occluders) == {"upper"}
    upper, true = 12 * 32, 8 * 18  # the occluder is rows 8 to 15, the prediction rows 0 to 11
    expected = (true / 2) / (upper + true / 2)
    row = report.occluders["upper"]
    assert row["iou_pooled"] == row["iou_mean"] == pytest.approx(expected)
    assert row["found"] == 1 and row["left_empty"] == 0  # the object in front gets an occluder that it does not have
    assert (
        "Predicted occluders against the union of the true ones, which 1 of 2 objects have, percent" in report.to_text()
    )
    assert json.loads(report.to_json())["occluders"]["upper"]["found"] == 1


def test_occluders_follow_the_order_source(content):
    content["annotations"][0]["depth_constraint"] = "1-2"  # the contrary of the masks
    sample = make_sample(read_annotations(content)[0], order_source="annotated")
    np.testing.assert_array_equal(sample.occluders, np.stack([np.zeros((24, 32), bool), sample.modal[0]]))


def test_occluders_of_the_wrong_shape_are_named(dataset):
    def half(sample):
        return Prediction(masks=sample.modal, occluders=sample.modal[:1, :3])

    half.name = "half"
    for given, expected in ((True, r"\(2, 24, 32\)"), (False, r"\(1, 24, 32\)")):
        with pytest.raises(ValueError, match=rf"'half' gave occluders of shape \(1, 3, 32\) .* expected {expected}"):
            evaluate_methods(dataset, [half], occluders_given=given)


def test_options_that_a_pipeline_does_not_take_are_named():
    message = "Clairvoyant takes no `eraser_dilation`; its options are occluder_masks, category_ids, mask_threshold, "
    pipeline = Clairvoyant(False)
    with pytest.raises(TypeError, match=message):
        PipelineMethod(pipeline, "c", mask_threshold=0.3, eraser_dilation=3)
    with pytest.raises(TypeError, match=message):
        call_pipeline(pipeline, None, np.zeros((1, 4, 4), bool), [1], eraser_dilation=3)
    assert not pipeline.calls
    tiny_pipeline().check_options(["eraser_dilation", "order_threshold", "mask_threshold", "batch_size"])


# the report


def report_with(**completion):
    masks = ("miou_pooled", "inv_miou_pooled", "miou_mean", "inv_miou_mean", "miou_mean_all", "pixel_accuracy")
    precision = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar")
    row = dict.fromkeys(masks + precision, 0.5) | completion
    counts = {"images": 1, "objects": 2, "occluded": 0, "covered": 0, "related": 0, "large": 0, "skipped": 0}
    order = {"order_accuracy": math.nan, "order_accuracy_all": 1.0}
    occluders = {"a|b": {key: 0.25 for key in OccluderMetrics().compute()}}
    return EvaluationReport(
        {"a|b": row}, {"hull": order}, {"a|b": 1.25, "hull": 0.0}, counts, occluders=occluders, occluders_given=False
    )


def test_report_formats(tmp_path):
    report = report_with(inv_miou_mean=math.nan)
    assert "–" in report.to_text() and "50.0" in report.to_text()
    write_report(report, json_path=tmp_path / "r/report.json", markdown_path=tmp_path / "report.md")
    values = json.loads((tmp_path / "r/report.json").read_text(encoding="utf-8"))
    assert values["completion"]["a|b"]["inv_miou_mean"] is None and values["completion"]["a|b"]["miou_pooled"] == 0.5
    assert values["order_source"] == "masks" and values["counts"]["objects"] == 2
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| a\\|b | 50.0 | 50.0 | 50.0 | – | 50.0 | 50.0 | 1.2 |" in markdown
    assert "| a\\|b | 25.0 | 25.0 | 25.0 | 25.0 | 25.0 | 25.0 | 1.2 |" in markdown
    assert markdown.startswith("Completion without occluders given")
    assert values["occluders"]["a|b"]["left_empty"] == 0.25 and values["occluders_given"] is False
    for table in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE):
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1


def test_tables_line_up():
    lines = format_table(["method", "x"], [["a", "1.0"], ["longer name", "100.0"]]).splitlines()
    assert len({len(line) for line in lines}) == 1 and lines[2].startswith("a ") and lines[2].endswith("  1.0")
    assert format_markdown(["m", "x"], [["a", "1"]]) == "| m | x |\n| --- | ---: |\n| a | 1 |"


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="needs the shared data; set AMODAL_DATA")
def test_published_numbers_on_real_ground_truth():
    """Five photos, 84 regions; the numbers come with the data and were computed by the published code."""
    methods = [METHODS[name] for name in ("raw", "convex", "convex-refined")]
    report = evaluate_methods(read_annotations(REAL_DATA / "annotations.json"), methods)
    counts = {"images": 5, "objects": 84, "occluded": 47, "covered": 46, "related": 163, "skipped": 0}
    assert {name: report.counts[name] for name in counts} == counts
    keys = ("miou_pooled", "inv_miou_pooled", "miou_mean", "inv_miou_mean")
    expected = {
        "raw": (74.8, 0, 81.6, 0),
        "convex": (81.3, 49.6, 79.5, 35.6),
        "convex-refined": (86.6, 59.3, 86.1, 40.2),
    }
    for name, values in expected.items():
        assert [100 * report.completion[name][key] for key in keys] == pytest.approx(values, abs=0.06), name
    for name, value in {"area-smaller": 75.5, "y-axis": 46.0, "hull": 78.5}.items():
        assert 100 * report.order[name]["order_accuracy"] == pytest.approx(value, abs=0.06), name
