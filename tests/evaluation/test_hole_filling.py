"""What is painted where objects are hidden, against the truth."""

import importlib.util
import json
import math
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion import ContentPipeline, PCNetContent, PCNetMask, PCNetMaskPipeline
from amodal_diffusion.cli import main as cli
from amodal_diffusion.data import amodal_features, build_objects
from amodal_diffusion.data.rooms import HiddenColors
from amodal_diffusion.data.rooms.hidden_colors import write_colors
from amodal_diffusion.evaluation import FILL_METHODS, ContentMethod, evaluate_fills, load_fill_methods
from amodal_diffusion.masks import encode_rle
from amodal_diffusion.metrics import ObjectFID, frechet_distance
from content_helpers import LocalFeatures

RED, BLUE = (200, 40, 30), (20, 60, 210)


def make_row(number):
    """A red board behind a blue box that hides more of it from image to image, and a chip of which little is."""
    whole, front, other = np.zeros((3, 48, 64), bool)
    whole[8:40, 4:40], front[12:44, 30 - 4 * number : 60], other[2:6, 50:54] = True, True, True
    hides = np.zeros_like(front)
    hides[4:6, 52:54] = True
    masks = [(whole & ~front, whole), (front | hides, front | hides), (other & ~hides, other)]
    fields = {"category_id": None, "is_stuff": False, "is_crowd": False}
    objects = [
        {"id": index, "name": name, **fields, "modal_mask": encode_rle(modal), "amodal_mask": encode_rle(amodal)}
        for index, (name, (modal, amodal)) in enumerate(zip(("board", "box", "chip"), masks, strict=True))
    ]
    photo = np.full((48, 64, 3), 128, np.uint8)
    photo[masks[0][0]], photo[masks[1][0]] = RED, BLUE
    relations = [{"front": 1, "behind": 0}, {"front": 1, "behind": 2}]
    row = {"image_id": str(number), "file_name": f"{number}.png", "height": 48, "width": 64, "source": "boards"}
    row |= {"objects": build_objects(objects), "order_relations": relations, "image": Image.fromarray(photo)}
    return row


def truth(image_id, color=RED):
    colors = HiddenColors(objects={0: (4, 8, np.full((32, 36, 4), (*color, 255), np.uint8))})
    colors.objects[2] = (50, 2, np.full((4, 4, 4), (*color, 255), np.uint8))
    return colors


ROWS = [make_row(number) for number in range(4)]


class Occluder:
    """Leaves what is in front."""

    name = "occluder"

    def __call__(self, sample, wanted):
        return [sample.photo for _ in wanted]


def tiny_content():
    torch.manual_seed(0)
    return ContentPipeline(PCNetContent(block_out_channels=(4, 8), sample_size=32), background_size=32)


def test_the_right_colour_wins_and_the_occluder_leaks():
    report = evaluate_fills(ROWS, truth, [FILL_METHODS["mean-color"], Occluder()], resamples=30, reference="occluder")
    assert report.counts["images"] == 4 and report.counts["holes"] == 4
    assert report.counts["too_small"] == 4  # the chip, of which four pixels are hidden
    right, wrong = report.metrics["mean-color"], report.metrics["occluder"]
    assert right["psnr"] > 60 and right["leak"] == pytest.approx(0, abs=0.01)
    error = np.square(np.subtract(RED, BLUE, dtype=float)).mean()
    assert wrong["psnr"] == pytest.approx(10 * math.log10(255**2 / error), abs=0.01)
    assert wrong["leak"] == pytest.approx(1)
    more = report.differences["mean-color"]["psnr"]
    assert more.value == pytest.approx(right["psnr"] - wrong["psnr"]) and more.interval[0] > 0
    values = json.loads(report.to_json())
    assert values["differences"]["mean-color"]["psnr"]["value"] > 0
    assert "More than occluder" in report.to_text() and "hidden parts of fewer than 30 pixels" in report.to_markdown()


def test_a_pipeline_paints_what_is_asked_for():
    report = evaluate_fills(ROWS[:1], truth, [ContentMethod(tiny_content(), "tiny")])
    assert 0 < report.metrics["tiny"]["psnr"] < 60 and report.intervals == {}
    sees = []

    class Watching(Occluder):
        def __call__(self, sample, wanted):
            sees.append((sample.order.tolist(), wanted, sample.names))
            return super().__call__(sample, wanted)

    evaluate_fills(ROWS[:1], truth, [Watching()])
    assert sees == [([[0, -1, 0], [1, 0, 1], [0, -1, 0]], [0], ["board", "box", "chip"])]


@pytest.mark.parametrize(
    ("rows", "methods", "options", "message"),
    [
        (ROWS, [Occluder(), Occluder()], {}, "`methods` must have names of their own"),
        (ROWS, [Occluder()], {"reference": "x"}, "`reference` must be one of 'occluder', got 'x'"),
        (ROWS, [Occluder()], {"limit": 0}, "`limit` must be at least 1, got 0"),
        ([], [Occluder()], {}, "no hidden part of at least 30 pixels"),
        ([{**ROWS[0], "image": None}], [Occluder()], {}, "image 0 has no photo"),
    ],
)
def test_what_cannot_be_scored_is_named(rows, methods, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_fills(rows, truth, methods, **options)


def test_a_picture_of_the_wrong_shape():
    class Small(Occluder):
        def __call__(self, sample, wanted):
            return [sample.photo[:4] for _ in wanted]

    with pytest.raises(ValueError, match=r"'occluder' gave a picture of shape \(4, 64, 3\) for image 0, expected"):
        evaluate_fills(ROWS, truth, [Small()])


def test_names_of_methods(tmp_path):
    tiny_content().save_pretrained(tmp_path / "content")
    PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16)).save_pretrained(tmp_path / "masks")
    names = [method.name for method in load_fill_methods(["telea", str(tmp_path / "content")])]
    assert names == ["telea", str(tmp_path / "content")]
    for wanted, message in (
        ([], "`names` must hold at least one"),
        (["telea", "telea"], "`names` holds 'telea' twice"),
        (["best"], "method 'best' is none of mean-color, telea, navier-stokes, no folder"),
        ([str(tmp_path / "masks")], "holds a `PCNetMaskPipeline`, which paints no hidden parts"),
    ):
        with pytest.raises(ValueError, match=message):
            load_fill_methods(wanted)


@pytest.fixture
def folder(tmp_path):
    from datasets import Dataset

    from amodal_diffusion.data import save_parquet

    save_parquet(Dataset.from_list(ROWS, features=amodal_features(True), split="test"), tmp_path / "rooms")
    (tmp_path / "rooms" / "layers").mkdir()
    with zipfile.ZipFile(tmp_path / "rooms" / "layers" / "test-00000-of-00001.zip", "w") as archive:
        for row in ROWS:
            write_colors(archive, row["image_id"], truth(row["image_id"]))
    return tmp_path / "rooms"


def test_command(folder, tmp_path, capsys):
    run = ["evaluate", "--annotations", str(folder), "--split", "test", "--content", "mean-color,navier-stokes"]
    assert cli.main([*run, "--resamples", "20", "--json", str(tmp_path / "a.json"), "--reference", "mean-color"]) == 0
    assert "Hidden colours, 4 hidden parts in 4 images" in capsys.readouterr().out
    values = json.loads((tmp_path / "a.json").read_text())
    assert values["metrics"]["mean-color"]["psnr"] > 30  # WebP keeps not every value
    assert set(values["differences"]) == {"navier-stokes"}
    for extra, message in (
        (["--methods", "raw"], "--methods is not for --content"),
        (["--by", "hidden"], "--by is not for --content"),
    ):
        assert cli.main([*run, *extra]) == 2
        assert message in capsys.readouterr().err
    assert cli.main(["evaluate", "--annotations", str(folder / "data"), "--split", "test", "--content", "telea"]) == 2
    assert "--content needs a folder with layers/" in capsys.readouterr().err
    assert cli.main(["evaluate", "--annotations", str(folder), "--content", "telea"]) == 2
    assert "--content needs --split NAME" in capsys.readouterr().err


def test_the_inception_distance_of_whole_objects():
    """By tiny features of our own; torchmetrics' distance is that of all objects of a method."""
    methods = [FILL_METHODS["mean-color"], Occluder()]
    report = evaluate_fills(ROWS, truth, methods, make_fid=lambda: ObjectFID(LocalFeatures()))
    right, wrong = report.metrics["mean-color"]["fid"], report.metrics["occluder"]["fid"]
    assert right == pytest.approx(0, abs=0.1) and wrong > 100
    sets = {True: [], False: []}
    for row in ROWS:
        photo = np.asarray(row["image"])
        board, front = np.zeros((2, 48, 64), bool)
        board[8:40, 4:40], front[12:44, 30 - 4 * int(row["image_id"]) : 60] = True, True
        for real in sets:
            alone = np.where((board & front)[..., None] & real, np.uint8(RED), photo)[8:40, 4:40]
            sets[real].append(LocalFeatures()(torch.from_numpy(alone).permute(2, 0, 1)[None]))
    expected = frechet_distance(torch.cat(sets[True]).double(), torch.cat(sets[False]).double())
    assert wrong == pytest.approx(expected, rel=1e-3)
    assert "| FID |" in report.to_markdown() and "41.44" in report.to_text()
    assert "FID" not in evaluate_fills(ROWS, truth, methods[:1]).to_text()


def test_the_inception_distance_says_what_it_lacks(tmp_path):
    with pytest.raises(FileNotFoundError, match="`weights` must be the file with Inception's weights"):
        ObjectFID(weights=tmp_path / "none.pth")
    with pytest.raises(ValueError, match="`fill` and `truth` must have shape"):
        ObjectFID(LocalFeatures()).update(*np.zeros((2, 4, 4, 3), np.uint8), np.zeros((4, 5), bool))
    distance = ObjectFID(LocalFeatures())
    distance.update(*np.zeros((2, 4, 4, 3), np.uint8), np.zeros((4, 4), bool))
    assert math.isnan(distance.compute())
    if importlib.util.find_spec("torch_fidelity") is None:
        with pytest.raises(ImportError, match=r"pip install 'amodal-diffusion\[fid\]'"):
            ObjectFID()


def test_the_command_line_takes_fid_for_contents_alone(capsys):
    assert cli.main(["evaluate", "--annotations", "a.json", "--methods", "raw", "--fid"]) != 0
    assert "--fid is for --content" in capsys.readouterr().err
