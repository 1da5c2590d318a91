"""The command line: what it writes, and one line for every error."""

import argparse
import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion import (
    AmodalVAE,
    AmodalVAEPipeline,
    OccAmodalPipeline,
    OccAmodalPredictor,
    OrderNetPipeline,
    PCNetMask,
    PCNetMaskPipeline,
    __version__,
    conversion,
    data,
    evaluation,
)
from amodal_diffusion.cli import dataset as cli_dataset
from amodal_diffusion.cli import evaluate as cli_evaluate
from amodal_diffusion.cli import main as cli
from amodal_diffusion.cli import options as cli_options
from amodal_diffusion.data import PHOTOS, SHARD_BYTES
from amodal_diffusion.masks import decode_rle, encode_rle, mask_unions
from amodal_diffusion.ordering import ancestors, order_pairs
from content_helpers import tiny_content
from photo_helpers import tiny_order_net

HEIGHT, WIDTH = 40, 56


def make_model(folder, **config):
    torch.manual_seed(0)
    PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16, **config)).save_pretrained(folder)
    return str(folder)


def make_occamodal(folder):
    torch.manual_seed(0)
    config = {"block_out_channels": (2, 4), "reduced_channels": 2, "sample_size": 32}
    config.update(image_hidden_sizes=(4,), image_depths=(1,), image_embedding_size=4, image_feature_stages=(1,))
    networks = [OccAmodalPredictor(mask_channels=planes, **config) for planes in (1, 2)]
    OccAmodalPipeline(*networks).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "model")


@pytest.fixture
def labels(tmp_path):
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[10:30, 8:28], labels[16:24, 28:50], labels[2:6, 2:6] = 1, 2, 5
    Image.fromarray(labels).save(tmp_path / "labels.png")
    return labels


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


@pytest.fixture
def annotations(tmp_path):
    whole, front = np.zeros((2, HEIGHT, WIDTH), bool)
    whole[10:30, 8:28], front[16:24, 20:50] = True, True
    regions = [
        {"segmentation": encode_rle(whole), "visible_mask": encode_rle(whole & ~front), "name": "back"},
        {"segmentation": encode_rle(front), "name": "front"},
    ]
    image = {"id": 1, "file_name": "photo.png", "height": HEIGHT, "width": WIDTH}
    annotation = {"id": 1, "image_id": 1, "depth_constraint": "2-1", "regions": regions}
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"images": [image], "annotations": [annotation]}), encoding="utf-8")
    return str(path)


def fail(capsys, *arguments):
    """Run a command that must fail, and return its one line."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and "Traceback" not in err
    return err


# complete


def test_complete_writes_masks_pictures_and_json(tmp_path, model, labels, photo, capsys):
    out = tmp_path / "out"
    arguments = ["complete", photo, "--masks", tmp_path / "labels.png", "--model", model, "--output", out]
    assert cli.main([str(argument) for argument in arguments]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [str(out / name) for name in ("amodal_masks", "overlay.png", "order_graph.png", "amodal.json")]
    content = json.loads((out / "amodal.json").read_text(encoding="utf-8"))
    assert content["images"][0]["file_name"] == "photo.png"
    assert content["info"]["version"] == __version__
    modal = np.stack([labels == value for value in (1, 2, 5)])
    expected = PCNetMaskPipeline.from_pretrained(model)(None, modal)
    for index, annotation in enumerate(content["annotations"]):
        np.testing.assert_array_equal(decode_rle(annotation["segmentation"]), expected.amodal_masks[index])
        np.testing.assert_array_equal(decode_rle(annotation["visible_mask"]), modal[index])
    for name in ("overlay.png", "order_graph.png"):
        Image.open(out / name).verify()


def test_complete_without_photo_and_graph(tmp_path, model, labels, capsys):
    out = tmp_path / "out"
    arguments = ["complete", "--no-photo", "--masks", tmp_path / "labels.png", "--model", model, "--output", out]
    assert cli.main([*map(str, arguments), "--no-order-graph", "--dtype", "bf16"]) == 0
    assert sorted(os.listdir(out)) == ["amodal.json", "amodal_masks", "overlay.png"]
    assert json.loads((out / "amodal.json").read_text(encoding="utf-8"))["images"][0]["file_name"] == ""


def coco_masks(path, *, crowd=(), bad=()):
    """A COCO file of three objects in a row, each overlapping the next."""
    annotations = []
    for index in range(3):
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[10:30, 4 + 14 * index : 20 + 14 * index] = True
        segmentation = [[1, 2, 3]] if index in bad else encode_rle(mask)
        annotations.append({"id": index + 1, "image_id": 1, "category_id": 1 + index, "iscrowd": int(index in crowd),
                            "segmentation": segmentation})  # fmt: skip
    content = {
        "images": [{"id": 1, "file_name": "photo.png", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 1 + n, "name": f"c{n}"} for n in range(3)],
        "annotations": annotations,
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_complete_leaves_a_crowd_as_it_is(tmp_path, model, photo):
    masks = coco_masks(tmp_path / "a.json", crowd=(1,))
    given = json.loads(masks.read_text(encoding="utf-8"))["annotations"]
    assert cli.main(["complete", photo, "--masks", str(masks), "--model", model, "--output", str(tmp_path / "o")]) == 0
    content = json.loads((tmp_path / "o/amodal.json").read_text(encoding="utf-8"))
    assert [annotation["iscrowd"] for annotation in content["annotations"]] == [0, 1, 0]
    assert [annotation["category_id"] for annotation in content["annotations"]] == [1, 2, 3]
    crowd = content["annotations"][1]
    np.testing.assert_array_equal(decode_rle(crowd["segmentation"]), decode_rle(given[1]["segmentation"]))


def test_complete_skips_a_bad_mask(tmp_path, model, photo, capsys):
    masks = coco_masks(tmp_path / "a.json", bad=(1,))
    arguments = ["complete", photo, "--masks", masks, "--model", model, "--output", tmp_path / "o"]
    assert "a.json" in fail(capsys, *arguments) and not (tmp_path / "o").exists()
    assert cli.main([*map(str, arguments), "--on-error", "skip"]) == 0
    printed = capsys.readouterr().out
    assert "skipped 1 bad records" in printed and "a.json" in printed
    content = json.loads((tmp_path / "o/amodal.json").read_text(encoding="utf-8"))
    assert [annotation["category_id"] for annotation in content["annotations"]] == [1, 3]


def test_complete_takes_the_order_of_another_network(tmp_path, model, labels, photo, capsys):
    orders, occamodal = OrderNetPipeline(tiny_order_net()), make_occamodal(tmp_path / "occamodal")
    orders.save_pretrained(tmp_path / "order-net")
    given = ["complete", photo, "--masks", tmp_path / "labels.png", "--order-model", tmp_path / "order-net"]
    assert cli.main([str(argument) for argument in [*given, "--model", model, "--output", tmp_path / "out"]]) == 0
    content = json.loads((tmp_path / "out" / "amodal.json").read_text(encoding="utf-8"))
    modal = np.stack([labels == value for value in (1, 2, 5)])
    ids = [annotation["id"] for annotation in content["annotations"]]
    pairs = [{"front": ids[i], "behind": ids[j]} for i, j in order_pairs(orders.infer_order(modal, photo))]
    assert pairs and content["images"][0]["order_relations"] == pairs
    capsys.readouterr()
    said = fail(capsys, *given, "--model", occamodal, "--output", tmp_path / "other")
    assert (
        f"--order-model: {occamodal} takes no order; give one that does by --model, such as pipelines/pcnet-m" in said
    )
    given[1] = "--no-photo"
    said = fail(capsys, *given, "--model", model, "--output", tmp_path / "other")
    assert "--no-photo does not go with --order-model" in said and "which looks at the photo" in said


def test_complete_draws_samples_that_differ_where_objects_may_be_hidden(tmp_path, labels, photo):
    torch.manual_seed(0)
    vae = AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=2, block_out_channels=(4, 8)))
    with torch.no_grad():  # far from the shapes that an untrained decoder agrees on
        vae.model.decoder.load_state_dict({k: 9 * v for k, v in vae.model.decoder.state_dict().items()})
        vae.model.spatial_transformer.linear_out.bias.fill_(0.4)
    vae.save_pretrained(tmp_path / "vae")
    orders = OrderNetPipeline(tiny_order_net())
    orders.save_pretrained(tmp_path / "order-net")
    modal = np.stack([labels == value for value in (1, 2, 5)])
    given = ["complete", photo, "--masks", tmp_path / "labels.png", "--model", tmp_path / "vae", "--num-samples", 4]

    def samples(*more):
        assert cli.main([str(argument) for argument in [*given, *more, "--output", tmp_path / "out"]]) == 0
        rows = json.loads((tmp_path / "out" / "amodal.json").read_text(encoding="utf-8"))["annotations"]
        shutil.rmtree(tmp_path / "out")
        return np.stack([[decode_rle(sample["segmentation"]) for sample in row["samples"]] for row in rows])

    others = np.stack([np.delete(modal, index, axis=0).any(axis=0) for index in range(3)])
    diverse = samples()
    assert (diverse <= (modal | others)[:, None]).all() and (diverse & ~modal[:, None]).any()
    front = mask_unions(modal, ancestors(orders.infer_order(modal, photo)))
    ordered = samples("--order-model", tmp_path / "order-net")
    assert (ordered <= (modal | front)[:, None]).all() and (front != others).any()
    plain = samples("--sample-choice", "independent")
    assert (plain & ~(modal | others)[:, None]).any()


def test_complete_passes_the_options_on(tmp_path, model, labels, monkeypatch):
    seen = {}
    original = PCNetMaskPipeline.__call__

    def spy(self, image, masks, **options):
        seen.update(options)
        return original(self, image, masks, **options)

    monkeypatch.setattr(PCNetMaskPipeline, "__call__", spy)
    arguments = [
        "complete",
        "--no-photo",
        "--masks",
        tmp_path / "labels.png",
        "--model",
        model,
        "--output",
        tmp_path / "o",
    ]
    arguments += ["--order-threshold", 0.3, "--mask-threshold", 0.4, "--eraser-dilation", 3, "--batch-size", 2]
    assert cli.main([str(argument) for argument in arguments]) == 0
    assert seen.pop("category_ids").tolist() == [1, 1, 1]  # unknown, as [Z20] counts
    numbers = {"order_threshold": 0.3, "mask_threshold": 0.4, "eraser_dilation": 3, "batch_size": 2}
    assert seen == {**numbers, "output_type": "compact"}


def test_complete_gives_category_ids_to_a_class_conditioned_model(tmp_path):
    model = make_model(tmp_path / "kins", class_conditioned=True)
    masks = np.zeros((2, HEIGHT, WIDTH), bool)
    masks[0, 4:20, 4:20], masks[1, 4:20, 20:40] = True, True
    results = [{"image_id": 1, "category_id": i + 2, "segmentation": encode_rle(m)} for i, m in enumerate(masks)]
    (tmp_path / "results.json").write_text(json.dumps(results), encoding="utf-8")
    arguments = [
        "complete",
        "--no-photo",
        "--masks",
        tmp_path / "results.json",
        "--model",
        model,
        "--output",
        tmp_path / "o",
    ]
    assert cli.main([str(argument) for argument in arguments]) == 0
    content = json.loads((tmp_path / "o/amodal.json").read_text(encoding="utf-8"))
    assert [annotation["category_id"] for annotation in content["annotations"]] == [2, 3]


def test_complete_names_what_is_wrong(tmp_path, model, labels, photo, capsys):
    masks, out = tmp_path / "labels.png", tmp_path / "out"
    small = tmp_path / "small.png"
    Image.new("RGB", (8, 9)).save(small)
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    rest = ["--model", model, "--output", out]
    for arguments, message in (
        ([photo, "--masks", tmp_path / "none.png", *rest], "none.png does not exist"),
        (
            [small, "--masks", masks, *rest],
            "labels.png is 56x40 pixels (width x height), expected 8x9, the size of the photo.",
        ),
        ([tmp_path / "broken.jpg", "--masks", masks, *rest], "broken.jpg"),
        ([tmp_path / "none.jpg", "--masks", masks, *rest], "none.jpg"),
        (["--masks", masks, *rest], "give either PHOTO (before --masks) or --no-photo"),
        ([photo, "--no-photo", "--masks", masks, *rest], "give either PHOTO"),
        ([photo, "--masks", masks, "--model", tmp_path, "--output", out], "model_index.json"),
        ([photo, "--masks", masks, "--model", tmp_path / "no/where/here", "--output", out], "where"),
        ([photo, "--masks", masks, *rest, "--mask-threshold", 2], "mask_threshold"),
        ([photo, "--masks", masks, *rest, "--batch-size", 0], "batch_size"),
        ([photo, "--masks", masks, *rest, "--eraser-dilation", -1], "eraser_dilation"),
        ([photo, "--masks", masks, *rest, "--device", "toaster"], "--device 'toaster' cannot be used here"),
        ([photo, "--masks", masks, "--model", model, "--output", masks], "is a file, expected a folder"),
    ):
        line = fail(capsys, "complete", *arguments)
        assert line.startswith("amodal-diffusion complete: error: ") and message in line
        assert not out.exists()


def test_complete_does_not_overwrite_its_own_input(tmp_path, model, labels, capsys):
    folder = tmp_path / "out" / "amodal_masks"
    folder.mkdir(parents=True)
    Image.fromarray(labels).save(folder / "a.png")
    for masks in (folder, folder / "a.png"):
        line = fail(capsys, "complete", "--no-photo", "--masks", masks, "--model", model, "--output", tmp_path / "out")
        assert f"would replace {masks}, which this run reads" in line
    assert os.listdir(folder) == ["a.png"]


@pytest.mark.parametrize("name", ["overlay.png", "order_graph.png", "amodal.json"])
def test_complete_does_not_overwrite_its_photo_or_masks_file(name, tmp_path, model, labels, photo, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "labels.png").write_bytes(b"not read")
    (tmp_path / "out" / name).write_bytes(b"mine")
    output = ("--model", model, "--output", tmp_path / "out")
    for inputs in (
        (tmp_path / "out" / name, "--masks", tmp_path / "labels.png"),
        (photo, "--masks", tmp_path / "out" / name),
    ):
        line = fail(capsys, "complete", *inputs, *output)
        assert f"would replace {tmp_path / 'out' / name}, which this run reads" in line
    assert (tmp_path / "out" / name).read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["samples", "occluder_masks", "overlay.png"])
def test_complete_refuses_a_folder_with_other_files_before_it_computes(
    name, tmp_path, model, labels, capsys, monkeypatch
):
    monkeypatch.setattr("amodal_diffusion.cli.complete.load_model", lambda options: pytest.fail("too late"))
    Image.fromarray(labels).save(tmp_path / "labels.png")
    (tmp_path / "out" / name).mkdir(parents=True)
    arguments = ("complete", "--no-photo", "--masks", tmp_path / "labels.png", "--model", model)
    line = fail(capsys, *arguments, "--output", tmp_path / "out")
    assert f"output {tmp_path / 'out'} holds other files, such as {name!r}; choose a new folder." in line
    assert os.listdir(tmp_path / "out") == [name]


def test_complete_from_a_photo_and_one_mask(tmp_path, labels, photo, capsys):
    model, out = make_occamodal(tmp_path / "occamodal"), tmp_path / "out"
    Image.fromarray((labels == 1).astype(np.uint8) * 255).save(tmp_path / "mask.png")
    arguments = ["complete", photo, "--masks", tmp_path / "mask.png", "--model", model, "--output", out]
    assert cli.main([str(argument) for argument in arguments]) == 0
    names = ["amodal_masks", "occluder_masks", "overlay.png", "amodal.json"]
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [str(out / name) for name in names] and captured.err == ""
    assert sorted(os.listdir(out)) == sorted(names)
    expected = OccAmodalPipeline.from_pretrained(model)(Image.open(photo), labels == 1)
    assert expected.occluder_masks.any()  # or nothing would be compared
    (annotation,) = json.loads((out / "amodal.json").read_text(encoding="utf-8"))["annotations"]
    np.testing.assert_array_equal(decode_rle(annotation["occluder_mask"]), expected.occluder_masks[0])
    np.testing.assert_array_equal(decode_rle(annotation["segmentation"]), expected.amodal_masks[0])
    (file,) = (out / "occluder_masks").iterdir()
    np.testing.assert_array_equal(np.asarray(Image.open(file)) > 0, expected.occluder_masks[0])


def test_complete_refuses_options_that_the_model_does_not_know(tmp_path, labels, photo, capsys):
    model, out = make_occamodal(tmp_path / "occamodal"), tmp_path / "out"
    base = ["complete", photo, "--masks", tmp_path / "labels.png", "--model", model, "--output", out]
    for option, value in (("--order-threshold", 0.2), ("--eraser-dilation", 3)):
        name = option.strip("-").replace("-", "_")
        assert f"OccAmodalPipeline takes no `{name}`; its options are" in fail(capsys, *base, option, value)
    no_photo = ["complete", "--no-photo", *base[2:]]
    assert "`image` must be given" in fail(capsys, *no_photo)
    assert not out.exists()
    assert cli.main([str(argument) for argument in [*base, "--mask-threshold", 0.4, "--batch-size", 1]]) == 0


def test_complete_finds_an_unwritable_output_before_it_works(tmp_path, model, labels, monkeypatch, capsys):
    def work(*args, **options):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(evaluation, "load_pipeline", work)
    base = ["complete", "--no-photo", "--masks", tmp_path / "labels.png", "--model", model, "--output"]
    assert "is a file, expected a folder" in fail(capsys, *base, tmp_path / "labels.png")
    assert "labels.png is a file" in fail(capsys, *base, tmp_path / "labels.png" / "out")


# evaluate


def test_evaluate_without_occluders(tmp_path, model, annotations, photo, capsys):
    occamodal, report = make_occamodal(tmp_path / "occamodal"), tmp_path / "r.json"
    methods = f"raw,convex-refined,{model},{occamodal}"
    arguments = ["evaluate", "--annotations", annotations, "--images", str(tmp_path), "--methods", methods]
    assert cli.main([*arguments, "--no-occluders", "--json", str(report)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""  # no warning for every photo that nothing hides its objects
    assert captured.out.startswith("Completion without occluders given, each object alone")
    assert "Predicted occluders" in captured.out and "Order accuracy" not in captured.out
    alone = json.loads(report.read_text(encoding="utf-8"))
    assert alone["occluders_given"] is False and alone["order"] == {}
    assert alone["completion"]["raw"] == alone["completion"]["convex-refined"] == alone["completion"][model]
    assert list(alone["occluders"]) == [occamodal]
    assert cli.main([*arguments, "--json", str(report)]) == 0
    given = json.loads(report.read_text(encoding="utf-8"))
    assert given["occluders_given"] is True and model in given["order"] and occamodal not in given["order"]
    assert given["completion"][occamodal] == alone["completion"][occamodal]
    assert given["completion"]["raw"] != given["completion"]["convex-refined"]


def test_evaluate_finds_an_unwritable_report_before_it_works(tmp_path, annotations, monkeypatch, capsys):
    def work(*args, **options):
        raise AssertionError("a method was loaded")

    monkeypatch.setattr(evaluation, "load_methods", work)
    base = ["evaluate", "--annotations", annotations, "--methods", "raw"]
    for option in ("--json", "--markdown"):
        assert "is a folder, expected the path of a file" in fail(capsys, *base, option, tmp_path)
        assert "annotations.json is a file" in fail(capsys, *base, option, f"{annotations}/report")


def test_evaluate_refuses_options_that_a_pipeline_does_not_know(tmp_path, annotations, photo, capsys):
    model = make_occamodal(tmp_path / "occamodal")
    base = ["evaluate", "--annotations", annotations, "--images", tmp_path, "--methods", f"raw,{model}"]
    assert "takes no `eraser_dilation`" in fail(capsys, *base, "--eraser-dilation", 3)
    assert "method 'hull' predicts no masks" in fail(capsys, *base[:-1], "raw,hull", "--no-occluders")


def test_evaluate_prints_a_table_and_writes_reports(tmp_path, model, annotations, photo, capsys):
    reports = ["--json", str(tmp_path / "r.json"), "--markdown", str(tmp_path / "r.md")]
    methods = f"raw,convex,convex-refined,{model}"
    arguments = ["evaluate", "--annotations", annotations, "--images", str(tmp_path), "--methods", methods, *reports]
    assert cli.main(arguments) == 0
    table = capsys.readouterr().out
    for text in ("inv-mIoU pooled", "pixel acc.", "related pairs", "area-smaller", "y-axis", "hull", model):
        assert text in table
    values = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert set(values["completion"]) == {"raw", "convex", "convex-refined", model}
    assert (tmp_path / "r.md").read_text(encoding="utf-8").count("| --- |") == 3


def test_evaluate_names_what_is_wrong(tmp_path, annotations, capsys):
    base = ["evaluate", "--annotations", annotations, "--methods"]
    for arguments, message in (
        ([*base, "best"], "method 'best' is none of raw, convex"),
        ([*base, str(tmp_path)], "loads as no pipeline"),
        ([*base, ","], "at least one method"),
        ([*base, "raw,raw"], "'raw' twice"),
        ([*base, "raw", "--limit", "0"], "`limit` must be at least 1, got 0"),
        ([*base, "raw", "--images", str(tmp_path / "none")], "none"),
        ([*base, "raw", "--images", str(tmp_path)], "photo.png"),
        (["evaluate", "--annotations", str(tmp_path / "none.json"), "--methods", "raw"], "none.json"),
    ):
        assert message in fail(capsys, *arguments)


# convert


@pytest.mark.parametrize(
    ("system", "files", "options", "settings"),
    [
        ("pcnet-m", ["in.pth.tar"], [], {"category_aware": False}),
        (
            "pcnet-m",
            ["in.pth.tar"],
            ["--category-aware", "--sample-size", "128"],
            {"category_aware": True, "sample_size": 128},
        ),
        (
            "sdamodal",
            ["in.tar"],
            ["--stable-diffusion", "a/b"],
            {"stable_diffusion": "a/b", "include_stable_diffusion": False},
        ),
        (
            "sdamodal",
            ["in.tar"],
            ["--stable-diffusion", "a/b", "--include-stable-diffusion", "--sample-size", "256"],
            {"stable_diffusion": "a/b", "include_stable_diffusion": True, "sample_size": 256},
        ),
        ("occamodal", ["occluder.pth", "amodal.pth"], [], {}),
        ("occamodal", ["occluder.pth", "amodal.pth"], ["--sample-size", "128"], {"sample_size": 128}),
    ],
)
def test_convert_hands_on_files_and_options(system, files, options, settings, tmp_path, monkeypatch, capsys):
    seen = {}
    monkeypatch.chdir(tmp_path)
    for file in files:
        Path(file).touch()
    monkeypatch.setitem(conversion.CONVERTERS, system, lambda *args, **given: seen.update(args=args, given=given))
    out = str(tmp_path / "out")
    assert cli.main(["convert", system, *files, out, *options]) == 0
    assert [str(path) for path in seen["args"]] == [*files, out] and seen["given"] == settings
    assert capsys.readouterr().out == f"{out}\n"


def test_convert_knows_every_converter_and_its_options():
    (commands,) = (action for action in cli.build_parser()._actions if action.dest == "command")
    (systems,) = (action for action in commands.choices["convert"]._actions if action.dest == "system")
    assert set(systems.choices) == set(conversion.CONVERTERS)
    for name, parser in systems.choices.items():
        actions = {action.dest: action for action in parser._actions}
        parameters = inspect.signature(conversion.CONVERTERS[name]).parameters
        positional = [key for key, value in parameters.items() if value.kind is value.POSITIONAL_OR_KEYWORD]
        assert len(positional) == len(parser.get_default("files")) + 1, name
        options = {key for key, action in actions.items() if action.option_strings} - {"help", "verbose", "debug"}
        assert options <= {key for key, value in parameters.items() if value.kind is value.KEYWORD_ONLY}, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pcnet-m", "a", "out", "--stable-diffusion", "x"], "unknown option --stable-diffusion"),
        (["occamodal", "a", "b", "out", "--category-aware"], "unknown option --category-aware"),
        (["sdamodal", "a", "out"], "the following arguments are required: --stable-diffusion"),
        (["occamodal", "a", "out"], "the following arguments are required: OUT"),
        (["pcnet-m", "a"], "the following arguments are required: OUT"),
        ([], "the following arguments are required: SYSTEM"),
        (["pcnet-x", "a", "b"], "invalid choice: 'pcnet-x' (choose from"),
    ],
)
def test_convert_refuses_what_does_not_belong(arguments, message, capsys):
    with pytest.raises(SystemExit) as info:
        cli.main(["convert", *arguments])
    err = capsys.readouterr().err
    assert info.value.code == 2 and err.count("\n") == 1 and message in err


def test_convert_names_what_is_wrong(tmp_path, capsys):
    (tmp_path / "bad.pth.tar").write_bytes(b"no checkpoint")
    assert "bad.pth.tar" in fail(capsys, "convert", "pcnet-m", tmp_path / "bad.pth.tar", tmp_path / "out")
    assert "none.pth" in fail(capsys, "convert", "pcnet-m", tmp_path / "none.pth", tmp_path / "out")
    assert "b.pth" in fail(capsys, "convert", "occamodal", tmp_path / "b.pth", tmp_path / "c.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# the parser


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["complete"], ["convert", "pcnet-x", "a", "b"], ["evaluate", "--limit", "x"]]
)
def test_usage_errors_are_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as info:
        cli.main(arguments)
    err = capsys.readouterr().err
    assert info.value.code == 2 and err.count("\n") == 1 and err.startswith("amodal-diffusion") and "--help" in err


@pytest.mark.parametrize("command", ["complete", "evaluate", "convert"])
def test_help_shows_an_example(command, capsys):
    with pytest.raises(SystemExit) as info:
        cli.main([command, "--help"])
    assert info.value.code == 0 and f"amodal-diffusion {command} " in capsys.readouterr().out.split("example")[1]


def test_what_parsers_say_without_imports_is_so():
    """Parsers are built without the modules that have these values."""
    assert cli_evaluate.FORMATS == data.FORMATS
    assert cli_evaluate.ORDER_SOURCES == evaluation.ORDER_SOURCES
    assert cli_evaluate.GROUP_KINDS == evaluation.GROUP_KINDS
    assert cli_evaluate.FILL_METHODS == tuple(evaluation.FILL_METHODS)
    assert cli_evaluate.METHODS == tuple(evaluation.METHODS)
    assert cli_evaluate.NEAREST_MASK == evaluation.NEAREST_MASK
    assert cli_dataset.FORMATS == ("auto", *data.FILE_FORMATS, "columns", "parquet")
    for name, entry in data.FILE_FORMATS.items():
        assert f"  {name:<12} {entry.title}\n" in cli_dataset._EXAMPLES
    assert cli_dataset.PHOTOS == PHOTOS
    assert cli_dataset.SHARD_MEGABYTES * 2**20 == SHARD_BYTES


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_dtypes_are_those_of_torch(name):
    assert isinstance(cli_options.find_dtype(name), torch.dtype)


def test_complete_says_what_a_folder_of_another_kind_holds(tmp_path, labels, photo, capsys):
    tiny_content().save_pretrained(tmp_path / "content")
    arguments = ["complete", photo, "--masks", tmp_path / "labels.png", "--model", tmp_path / "content"]
    assert "holds `ContentPipeline`, which completes no masks" in fail(capsys, *arguments, "--output", tmp_path / "o")


def test_debug_shows_the_trace(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        cli.main(["complete", "--debug", "--no-photo", "--masks", str(tmp_path / "x"), "--model", "m", "--output", "o"])


def test_a_fault_of_ours_keeps_its_trace(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("a").touch()
    monkeypatch.setitem(conversion.CONVERTERS, "pcnet-m", lambda *args, **options: {}["gone"])
    with pytest.raises(KeyError, match="gone"):
        cli.main(["convert", "pcnet-m", "a", "b"])


def test_interruption_has_its_exit_code(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("a").touch()

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setitem(conversion.CONVERTERS, "pcnet-m", interrupted)
    assert cli.main(["convert", "pcnet-m", "a", "b"]) == 130


def test_module_runs_as_a_program():
    command = [sys.executable, "-m", "amodal_diffusion", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == f"amodal-diffusion {__version__}\n"


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"},
        pytest.param({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, marks=pytest.mark.slow),
    ],
)
def test_a_locale_that_is_not_utf_8(tmp_path, locale):
    """Files are UTF-8 whatever the console is, which shows what it lacks as escapes."""
    content = json.loads(coco_masks(tmp_path / "a.json").read_text(encoding="utf-8"))
    content["categories"][0]["name"] = "\u732b"
    (tmp_path / "a.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    command = [sys.executable, "-m", "amodal_diffusion", "dataset", "convert", str(tmp_path / "a.json"), "--output"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG"))} | locale
    output = tmp_path / "out"
    done = subprocess.run([*command, str(output)], capture_output=True, env=environment, check=False)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    (row,) = data.load_amodal_dataset(output)
    assert row["objects"][0]["name"] == "\u732b"
    odd = subprocess.run([*command, str(tmp_path / "\u732b")], capture_output=True, env=environment, check=False)
    assert odd.returncode == 2 and odd.stderr.count(b"\n") == 1 and b"set PYTHONUTF8=1" in odd.stderr, odd.stderr
    assert not (tmp_path / "\u732b").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["complete", "--modle", "x"], "complete: error: unknown option --modle; did you mean --model?"),
        (["dataset", "convert", "--bad=3"], "dataset convert: error: unknown option --bad (see"),
        (["--bad", "complete"], "amodal-diffusion: error: unknown option --bad (see"),
        (["complete", "--mod", "x"], "complete: error: the following arguments are required"),  # short for --model
    ],
)
def test_an_unknown_option_is_named_before_what_is_missing(capsys, arguments, message):
    with pytest.raises(SystemExit):
        cli.main(arguments)
    assert message in capsys.readouterr().err


def test_the_module_of_the_command_runs_it():
    command = [sys.executable, "-m", "amodal_diffusion.cli.main", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("amodal-diffusion ")


def _options_of(parser, name=""):
    """All options of a command and of the commands below it, with the name of the command."""
    for action in parser._actions:
        below = action.choices if isinstance(action, argparse._SubParsersAction) else None
        if below is None:
            yield name, action
        else:
            for command, child in below.items():
                yield from _options_of(child, f"{name} {command}".strip())


PLACES = (
    "ANNOTATIONS",
    "CKPT",
    "DATASET",
    "DIR",
    "FILE",
    "FOLDER",
    "FURNITURE",
    "MODEL",
    "OUT",
    "PATH",
    "PHOTO",
    "SCENE",
)


def test_nothing_is_no_path_and_a_url_is_no_file():
    """An empty variable of a shell would mean the current folder, also that a result replaces what is there."""
    found = 0
    for command, action in _options_of(cli.build_parser()):
        if not isinstance(action.metavar, str) or action.metavar.rpartition("]")[2] not in PLACES:
            continue
        found += 1
        for text in ("", " "):
            with pytest.raises(argparse.ArgumentTypeError, match="expected a path, got"):
                action.type(text)
        assert isinstance(action.type("a b/c.png"), str | Path), (command, action.dest)
        if action.type is cli_options.local_path:
            with pytest.raises(argparse.ArgumentTypeError, match="got the URL 'https://example.org/a.jpg'"):
                action.type("https://example.org/a.jpg")
    assert found > 40


def test_empty_output_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save("photo.png")
    with pytest.raises(SystemExit) as end:
        cli.main(["complete", "photo.png", "--masks", "photo.png", "--model", "m", "--output", ""])
    line = capsys.readouterr().err
    assert end.value.code == 2
    assert line.count("\n") == 1 and "argument --output: expected a path, got ''" in line
    assert os.listdir() == ["photo.png"]


@pytest.mark.parametrize("device", ["meta", "nowhere", "cuda:99"])
def test_device_without_values_is_one_short_line(device):
    with pytest.raises(ValueError, match=f"^--device '{device}' cannot be used here: ") as caught:
        cli_options.find_device(device)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "command",
    [
        "evaluate --annotations data.json --methods raw --json data.json",
        "evaluate --annotations data.json --methods raw --markdown ./data.json",
        "evaluate --annotations other.json --methods raw --nearest-masks data.json --markdown data.json",
        "evaluate --annotations data.json --methods raw --json link.json",
        "evaluate --annotations data.json --methods raw --json new --markdown new",
        "dataset stats data.json --output data.json",
        "dataset stats data.json --picture data.json",
        "dataset stats data.json --output new.png --picture new.png",
        "dataset export data.json --to kins --output data.json",
        "dataset export data.json --to label-studio --output link.json",
    ],
)
def test_reports_replace_nothing_that_is_read(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photo = {"id": 1, "file_name": "a.png", "height": 4, "width": 6}
    whole = {"size": [4, 6], "counts": [4, 8, 12]}
    objects = [{"id": 1, "image_id": 1, "category_id": 1, "visible_mask": whole, "segmentation": whole}]
    text = json.dumps({"images": [photo], "annotations": objects})
    for name in ("data.json", "other.json"):
        Path(name).write_text(text)
    Path("link.json").symlink_to("data.json")
    assert cli.main(command.split()) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and ("which this run reads; choose another" in line or "is the file of" in line)
    assert Path("data.json").read_text() == text
    assert sorted(os.listdir()) == ["data.json", "link.json", "other.json"]


def test_a_large_photo_is_no_warning(tmp_path, monkeypatch, capsys, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)  # Pillow warns from here, and refuses twice as many
    Image.new("L", (240, 200), 1).save(tmp_path / "mask.png")
    Image.new("RGB", (240, 200)).save(tmp_path / "photo.png")
    paths = [str(tmp_path / "photo.png"), "--masks", str(tmp_path / "mask.png"), "--output", str(tmp_path / "out")]
    assert cli.main(["complete", *paths, "--model", make_model(tmp_path / "model"), "--dtype", "fp32"]) == 0
    assert capsys.readouterr().err == ""
    assert not [warning for warning in recwarn if "exceeds limit" in str(warning.message)]
