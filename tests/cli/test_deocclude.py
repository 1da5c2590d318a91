"""`amodal-diffusion deocclude`: scenes in files, and one line for every error, before the work."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion import OrderNetPipeline, PCNetMask, PCNetMaskPipeline, ScenePipeline, Segmenter
from amodal_diffusion.cli import main as cli
from amodal_diffusion.masks import encode_rle
from amodal_diffusion.pipelines import SegmenterOutput
from amodal_diffusion.scene import Scene
from amodal_diffusion.scene import formats as scene_formats
from content_helpers import tiny_content
from photo_helpers import tiny_occamodal, tiny_order_net

HEIGHT, WIDTH = 40, 56


def mask_pipeline(seed=0, **config):
    torch.manual_seed(seed)
    return PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16, **config))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    ScenePipeline(mask_pipeline(), tiny_content()).save_pretrained(folder / "scene")
    mask_pipeline(seed=1).save_pretrained(folder / "masks")
    mask_pipeline(class_conditioned=True).save_pretrained(folder / "kins")
    tiny_content().save_pretrained(folder / "content")
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with photo.png, labels.png (objects 1, 2, 5) and results.json, as the working folder."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[10:30, 8:28], labels[16:24, 28:50], labels[2:6, 2:6] = 1, 2, 5
    Image.fromarray(labels).save(tmp_path / "labels.png")
    pixels = np.random.RandomState(0).randint(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    results = [
        {"image_id": 1, "category_id": value, "segmentation": encode_rle(labels == value), "score": 0.5}
        for value in (1, 2)
    ]
    (tmp_path / "results.json").write_text(json.dumps(results), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stacked():
    labels = np.asarray(Image.open("labels.png"))
    return np.stack([labels == value for value in (1, 2, 5)])


def run(*arguments):
    return cli.main(["deocclude", *map(str, arguments)])


def fail(capsys, *arguments):
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    err = "".join(line for line in err.splitlines(keepends=True) if " % " not in line[:6])  # without the stages
    assert out == "" and err.count("\n") == 1 and err.startswith("amodal-diffusion deocclude: error: ")
    return err


@pytest.fixture
def no_inference(monkeypatch):
    def call(self, *arguments, **options):
        raise AssertionError("the pipeline was called")

    monkeypatch.setattr(ScenePipeline, "__call__", call)


@pytest.mark.parametrize("output", ["out", "out.ora", "out.psd", "new/out.json"])
def test_deocclude_writes_the_scene_of_the_pipeline(place, models, capsys, output):
    assert run("photo.png", "--masks", "labels.png", "--model", models / "scene", "--output", output) == 0
    assert capsys.readouterr().out == f"{output}\n"
    scene = Scene.load(output)
    pipeline = ScenePipeline.from_pretrained(models / "scene")
    expected = pipeline("photo.png", stacked(), names=["label 1", "label 2", "label 5"], category_ids=[1, 1, 1])
    for layer, other in zip(scene.layers, expected.layers, strict=True):
        assert layer.name == other.name
        np.testing.assert_array_equal(layer.modal, other.modal)
        np.testing.assert_array_equal(layer.amodal, other.amodal)
    np.testing.assert_array_equal(scene.order, expected.order)
    np.testing.assert_array_equal(scene.render(output_type="np"), np.asarray(Image.open("photo.png")))
    assert np.abs(scene.background.astype(int) - expected.background).max() <= 1  # another layout of the weights


def test_parts_can_be_given_alone_and_in_place_of_the_models(place, models, monkeypatch):
    made = []
    original = ScenePipeline.__call__
    monkeypatch.setattr(ScenePipeline, "__call__", lambda self, *a, **k: made.append(self) or original(self, *a, **k))
    common = ("photo.png", "--masks", "labels.png", "--dtype", "bf16")
    parts = ("--mask-model", models / "masks", "--content-model", models / "content")
    assert run(*common, *parts, "--output", "a") == 0
    assert run(*common, "--model", models / "scene", *parts[:2], "--output", "b") == 0
    assert run(*common, "--model", models / "scene", "--output", "c") == 0
    parts, mixed, whole = ([p.clone() for p in pipe.mask_pipeline.model.parameters()] for pipe in made)
    assert all(torch.equal(a, b) for a, b in zip(parts, mixed, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(parts, whole, strict=True))
    assert {pipe.dtype for pipe in made} == {torch.bfloat16}


def test_another_network_tells_the_order(place, models, monkeypatch, capsys):
    orders = OrderNetPipeline(tiny_order_net())
    orders.save_pretrained("order-net")
    expected = orders.infer_order(stacked(), Image.open("photo.png"))
    assert expected.any()
    given = ("photo.png", "--model", models / "scene", "--order-model", "order-net")
    assert run(*given, "--masks", "labels.png", "--dtype", "fp32", "--output", "out") == 0
    np.testing.assert_array_equal(Scene.load("out").order, expected)
    capsys.readouterr()
    assert "--order-model needs --masks" in fail(capsys, *given, "--output", "other")
    tiny_occamodal().save_pretrained("occamodal")
    said = fail(capsys, *given, "--masks", "labels.png", "--mask-model", "occamodal", "--output", "other")
    assert "takes no order; give one that does by --mask-model, such as pipelines/pcnet-m" in said


def test_options_reach_the_pipeline(place, models, monkeypatch):
    seen = {}
    original = ScenePipeline.__call__

    def spy(self, image, masks, **options):
        seen.update(options)
        return original(self, image, masks, **options)

    monkeypatch.setattr(ScenePipeline, "__call__", spy)
    base = ("photo.png", "--masks", "results.json", "--model", models / "scene", "--output", "out")
    options = ("--names", "Käse", "b", "--extend-canvas", "3,0,5,2", "--eraser-dilation", 2, "--batch-size", 1)
    fillers = ("--filler", "blend", "b=smooth", "background=exemplar")
    assert run(*base, *options, "--seed", 7, *fillers) == 0
    assert (seen["filler"], seen["background_filler"]) == ({0: "blend", 1: "smooth"}, "exemplar")
    assert seen["names"] == ["Käse", "b"] and seen["extend_canvas"] == [3, 0, 5, 2]
    assert (seen["eraser_dilation"], seen["batch_size"]) == (2, 1)
    assert seen["generator"].initial_seed() == 7 and seen["category_ids"].tolist() == [1, 2]
    scene = Scene.load("out")
    assert scene.size == (WIDTH + 8, HEIGHT + 2) and [layer.name for layer in scene.layers] == ["Käse", "b"]


@pytest.mark.parametrize(("text", "value"), [("4", 4), ("0.25", 0.25), ("1,2,3,4", [1, 2, 3, 4])])
def test_canvas_extensions_are_read(text, value):
    options = cli.build_parser().parse_args(["deocclude", "p", "--output", "o", "--extend-canvas", text])
    assert options.extend_canvas == value and type(options.extend_canvas) is type(value)


def test_class_conditioned_models_get_positive_ids(place, models):
    parts = ("--mask-model", models / "kins", "--content-model", models / "content")
    assert run("photo.png", "--masks", "labels.png", *parts, "--output", "out") == 0
    assert len(Scene.load("out")) == 3


def test_removed_objects_are_left_out(place, models):
    base = ("photo.png", "--masks", "labels.png", "--model", models / "scene")
    assert run(*base, "--output", "whole") == 0
    assert run(*base, "--output", "left", "--remove", 0, "--remove", "label 5", 0) == 0
    whole, left = Scene.load("whole"), Scene.load("left")
    assert left.equals(whole.remove(2).remove(0))
    assert [layer.name for layer in left.layers] == ["label 2"]
    shown, photo = left.render(output_type="np"), np.asarray(Image.open("photo.png"))
    gone = stacked()[[0, 2]].any(axis=0) & (left.layer_image(0, output_type="np")[..., 3] == 0)
    np.testing.assert_array_equal(shown[gone], left.background[gone])
    assert (shown[gone] != photo[gone]).any()


def test_what_is_carried_is_left_out_where_that_is_asked_for(place, models, capsys):
    base = ("photo.png", "--masks", "labels.png", "--model", models / "scene")
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[15:30, 5:45], labels[8:22, 15:25], labels[2:6, 46:54] = 1, 2, 3  # a table, a cup and a lamp
    Image.fromarray(labels).save("labels.png")
    assert run(*base, "--output", "alone", "--remove", 0) == 0
    assert "left out" not in capsys.readouterr().err
    assert run(*base, "--output", "along", "--remove", 0, "--carried") == 0
    told = capsys.readouterr().err
    whole = run(*base, "--output", "whole") == 0 and Scene.load("whole")
    along = whole.carried(0)
    assert whole.order[1, 0] != 1 or along == [1]  # the network of the test knows nothing
    assert Scene.load("along").equals(whole.remove(0, carried=True)) and Scene.load("alone").equals(whole.remove(0))
    assert [line for line in told.splitlines() if line.startswith("left out")] == [
        f"left out, too: {index} {whole.layers[index].name}" for index in along
    ]
    capsys.readouterr()
    assert "--carried needs --remove" in fail(capsys, *base, "--output", "c", "--carried")


class Found(Segmenter):
    """Finds two squares."""

    def __init__(self):
        self.settings = {"eraser_dilation": 1}

    def __call__(self, image):
        masks = np.zeros((2, HEIGHT, WIDTH), bool)
        masks[0, 5:20, 5:20], masks[1, 12:30, 20:40] = True, True
        return SegmenterOutput(masks, ["cat", ""], np.ones(2, np.float32))

    def to(self, *arguments, **options):
        return self


def test_a_segmenter_finds_the_objects(place, models, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(Segmenter, "from_pretrained", lambda name, **k: asked.append((name, k)) or Found())
    base = ("photo.png", "--model", models / "scene", "--segmenter", "some/sam")
    assert run(*base, "--output", "a.ora") == 0
    assert asked == [("some/sam", {"dtype": torch.float32})]
    assert [layer.name for layer in Scene.load("a.ora").layers] == ["cat", ""]
    assert run(*base, "--output", "b.ora", "--remove", "cat", "--names", "cat", "dog") == 0
    assert [layer.name for layer in Scene.load("b.ora").layers] == ["dog"]
    capsys.readouterr()
    assert "--remove bird names no object. Objects: 0 cat, 1 ." in fail(
        capsys, *base, "--output", "c", "--remove", "bird"
    )
    assert not os.path.exists("c")


def test_stages_are_told(place, models, capsys):
    assert run("photo.png", "--masks", "labels.png", "--model", models / "scene", "--output", "out") == 0
    told = [line.split(" % ") for line in capsys.readouterr().err.splitlines() if " % " in line]
    assert [stage for _, stage in told] == [
        "completing masks", "softening outlines", "painting hidden parts", "filling background", "saving",
    ]  # fmt: skip
    assert [int(share) for share, _ in told] == sorted(int(share) for share, _ in told) and told[-1][0] == "100"


def test_errors_are_named_before_any_inference(place, models, capsys, no_inference):
    scene, masks = ("--model", models / "scene"), ("--masks", "labels.png")
    Image.new("RGB", (8, 9)).save("small.png")
    os.symlink("nowhere", "link")
    os.makedirs("mine/layers")
    before = sorted(os.listdir())
    base, out = ["photo.png", *masks, *scene], ("--output", "out")
    for arguments, message in (
        (["none.jpg", *masks, *scene, *out], "none.jpg"),
        (["small.png", *masks, *scene, *out], "labels.png is 56x40 pixels (width x height), expected 8x9"),
        (["photo.png", "--masks", "no.png", *scene, *out], "no.png does not exist"),
        (["photo.png", *masks, *out], "give --model, or both --mask-model and --content-model"),
        (["photo.png", *masks, "--mask-model", models / "masks", *out], "give --model, or both"),
        (["photo.png", *scene, *out], "give --masks or --segmenter"),
        (["photo.png", *masks, "--model", models / "masks", *out], "holds `PCNetMaskPipeline`, not `ScenePipeline`"),
        (["photo.png", *masks, "--model", models / "none/of/them", *out], "none"),
        ([*base, "--output", "out.gif"], "scenes are saved as .ora, .psd, .json or into a folder"),
        ([*base, "--output", "labels.png/x.ora"], "labels.png is a file, expected a folder"),
        ([*base, "--output", "labels.png/x/y"], "cannot be made: labels.png is a file"),
        ([*base, "--output", "link"], "link is a link to nothing"),
        ([*base, "--output", "link/a/x.psd"], "link is a link to nothing"),
        (["photo.png", "--masks", "results.json", *scene, "--output", "results.json"], "would replace results.json"),
        ([*base, "--output", "."], "--output . would replace photo.png, which this run reads"),
        ([*base, "--output", "mine"], "output mine holds other files, such as 'layers'; choose a new folder."),
        ([*base, *out, "--names", "a"], "--names must name each of the 3 objects"),
        ([*base, *out, "--remove", "3"], "--remove 3 names no object. Objects: 0 label"),
        ([*base, *out, "--remove", "x"], "--remove x names no object"),
        ([*base, *out, "--names", "a", "b", "a", "--remove", "a"], "the objects [0, 2]"),
        ([*base, "--output", "o", "--filler", "magic"], "--filler magic: 'magic' is none of auto, blend"),
        ([*base, "--output", "o", "--filler", "dog=blend"], "dog names no object"),
        ([*base, "--output", "o", "--extend-canvas", "1.5"], "`extend_canvas` as a share must lie"),
        ([*base, "--output", "o", "--extend-canvas", "1,2"], "(left, top, right, bottom)"),
        ([*base, "--output", "o", "--extend-canvas", "4200"], "leave the canvas at most 67108864 pixels"),
        ([*base, "--output", "o.psd", "--extend-canvas", "30000,0,0,0"], "at most, got 30056x40"),
        ([*base, *out, "--device", "toaster"], "--device 'toaster' cannot be used"),
    ):  # fmt: skip
        assert message in fail(capsys, *arguments), arguments
        assert sorted(os.listdir()) == before


def test_bad_extension_is_refused_by_the_parser(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["deocclude", "p.png", "--output", "o", "--extend-canvas", "wide"])
    assert "--extend-canvas: 'wide' is no number of pixels" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["out", "out.ora", "out.psd", "out.json"])
def test_outputs_name_all_that_a_run_replaces(tmp_path, output):
    scene = Scene(np.zeros((4, 5, 3), np.uint8), photo=np.zeros((4, 5, 3), np.uint8))
    before = {path: path for path in tmp_path.rglob("*")}
    scene.save(tmp_path / output)
    named = scene_formats.scene_outputs(tmp_path / output)
    for path in set(tmp_path.rglob("*")) - set(before):
        assert path == tmp_path / output or not {path, *path.parents}.isdisjoint(named), path


def test_complete_finds_unwritable_outputs_before_inference(place, models, monkeypatch, capsys):
    def call(self, *arguments, **options):
        raise AssertionError("the pipeline was called")

    monkeypatch.setattr(PCNetMaskPipeline, "__call__", call)
    os.symlink("nowhere", "link")
    base = ["complete", "photo.png", "--masks", "labels.png", "--model", str(models / "masks"), "--output"]
    for output, message in (
        ("labels.png", "is a file, expected a folder"),
        ("labels.png/a/b", "cannot be made: labels.png is a file"),
        ("link", "cannot be made: link is a link to nothing"),
        ("link/a", "cannot be made: link is a link to nothing"),
        ("/proc/none", "cannot be written"),
        ("x" * 300, "File name too long"),
    ):
        assert cli.main([*base, output]) == 2, output
        assert message in capsys.readouterr().err
