"""Masks of a Mask R-CNN in evaluations and data sets: of torchvision where it is installed, else of a stand-in."""

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from amodal_diffusion.cli.main import main
from amodal_diffusion.data import load_amodal_dataset, read_annotations, record_masks
from amodal_diffusion.evaluation import (
    METHODS,
    PAPER_TABLES,
    DetectionResults,
    MaskRCNNDetections,
    detected_rows,
    evaluate_methods,
    make_sample,
    read_detections,
    table_methods,
)
from amodal_diffusion.masks import encode_rle
from photo_helpers import write_photos
from repository_helpers import HAS_TORCHVISION, needs_torchvision
from segmenter_helpers import Finder

HEAD = "roi_heads.box_predictor.cls_score.weight"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), images=3)


@pytest.fixture(scope="module")
def rows(photos):
    return read_annotations(photos, photos.parent)


def test_what_is_found_is_sorted_and_empty_masks_are_left_out(rows):
    sample = make_sample(rows[0])
    found = MaskRCNNDetections(Finder()).of(sample)
    height, width = sample.modal.shape[1:]
    assert found.masks.shape == (2, height, width) and found.category_ids.tolist() == [2, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])
    assert found.masks[0, :, : width // 2].all() and not found.masks[0, :, width // 2 :].any()
    assert MaskRCNNDetections(Finder(), min_score=0.7).of(sample).category_ids.tolist() == [2]
    with pytest.raises(ValueError, match="tiny: image 7 has no photo, which Mask R-CNN looks at"):
        MaskRCNNDetections(Finder(), "tiny").find("7", 4, 6, lambda: None)


def test_it_stands_for_a_file_of_its_results(rows, tmp_path):
    network = MaskRCNNDetections(Finder())
    results = []
    for row in rows:
        found = network.of(make_sample(row))
        results += [
            {"image_id": row["image_id"], "segmentation": encode_rle(mask), "score": score, "category_id": category}
            for mask, score, category in zip(
                found.masks, found.scores.tolist(), found.category_ids.tolist(), strict=True
            )
        ]
    (tmp_path / "coco_instances_results.json").write_text(json.dumps(results))
    file = read_detections(tmp_path / "coco_instances_results.json")
    assert type(file) is DetectionResults
    table, reports = PAPER_TABLES["z20-4"], []
    for detections in (file, network):
        entries = table_methods(table, [METHODS["raw"], METHODS["convex"]], detections=detections)
        reports.append(evaluate_methods(rows, [entry.method for entry in entries], order_methods=()).completion)
    for name, metrics in reports[0].items():
        assert metrics == pytest.approx(reports[1][name], nan_ok=True) and metrics["ap"] >= 0


def test_rows_get_the_objects_that_were_found(rows):
    (first, *_), found = rows, list(detected_rows(rows, MaskRCNNDetections(Finder())))
    assert len(found) == len(rows) and [row["image_id"] for row in found] == rows["image_id"][:]
    modal, amodal = record_masks(found[0])
    assert amodal is None and modal.shape == (2, first["height"], first["width"])
    names = {item["category_id"]: item["name"] for item in first["objects"]}
    assert [item["name"] for item in found[0]["objects"]] == [names.get(2), names.get(1)]
    assert found[0]["order_relations"] is None
    assert not list(detected_rows([], MaskRCNNDetections(Finder())))


def test_converted_with_what_was_found(photos, rows, tmp_path, monkeypatch):
    """`dataset convert --detections`, then `annotate`: label conversion from predicted masks."""
    monkeypatch.setattr(
        MaskRCNNDetections, "from_weights", lambda path, **kwargs: MaskRCNNDetections(Finder(), **kwargs)
    )
    weights = tmp_path / "w.pth"
    weights.touch()
    given = [photos, "--images", photos.parent, "--detections", weights, "--output", tmp_path / "out"]
    given += ["--photos", "none"]
    assert main(["dataset", "convert", *map(str, given)]) == 2  # it looks at the photos
    given[-1] = "embed"
    assert main(["dataset", "convert", *map(str, given)]) == 0
    assert [len(row["objects"]) for row in load_amodal_dataset(tmp_path / "out")] == [2] * len(rows)
    given = [tmp_path / "out", "--method", "convex", "--output", tmp_path / "whole"]
    assert main(["annotate", *map(str, given)]) in (0, None)
    assert record_masks(load_amodal_dataset(tmp_path / "whole")[0])[1].shape[0] == 2


class Code:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("other.pth", {"fc.weight": torch.zeros(2, 2)}, "holds no Mask R-CNN of torchvision or detectron2: it lacks"),
        ("other.safetensors", {"fc.weight": torch.zeros(2, 2)}, "as COCO results, such as detectron2's"),
        ("code.pth", {"model": Code()}, "is refused: it holds more than tensors .* could run code"),
        ("text.pt", None, "is neither a torch checkpoint nor a safetensors file"),
        (
            "model_final.pkl",
            {"model": {}},
            r"is a pickle, .* so it is not read. .*model_final.pkl', 'rb'.*model_final.pth'",
        ),
    ],
)
def test_files_that_are_no_weights_of_it(tmp_path, capsys, name, content, message):
    path = tmp_path / name
    if content is None:
        path.write_text("no weights")
    elif name.endswith(".safetensors"):
        save_file(content, path)
    else:
        torch.save(content, path, pickle_module=pickle)
    with pytest.raises(ValueError, match=message):
        read_detections(path)
    assert "run" not in capsys.readouterr().out.split()


@pytest.mark.skipif(HAS_TORCHVISION, reason="torchvision is here")
def test_without_torchvision_it_says_what_to_install(tmp_path):
    save_file({HEAD: torch.zeros(3, 4)}, tmp_path / "weights.safetensors")
    with pytest.raises(ImportError, match="Mask R-CNN needs torchvision, .*: pip install torchvision"):
        read_detections(tmp_path / "weights.safetensors")


@needs_torchvision
def test_weights_of_torchvision(tmp_path):
    from torchvision.models import detection

    torch.manual_seed(0)
    model = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "checkpoint.pth")
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    loaded = MaskRCNNDetections.from_weights(tmp_path / "checkpoint.pth")
    for network in (model, loaded.model):  # as fast as a test must be
        network.transform.min_size, network.transform.max_size = (64,), 96
        network.rpn._post_nms_top_n = {"training": 10, "testing": 10}
    found, (again,) = (
        loaded.find("1", 48, 64, lambda: photo),
        model.eval()([torch.from_numpy(np.array(photo)).permute(2, 0, 1) / 255]),
    )
    kept = (again["masks"][:, 0] > 0.5).any(dim=(1, 2)) if len(again["masks"]) else []
    assert len(found.masks) == int(sum(kept)) and found.masks.shape[1:] == (48, 64)
    state = {key: value for key, value in model.state_dict().items() if "mask" not in key}
    torch.save(state, tmp_path / "faster.pth")
    with pytest.raises(ValueError, match="has weights of another network: .*Missing key"):
        read_detections(tmp_path / "faster.pth")


@needs_torchvision
def test_a_tiny_network_of_torchvision_is_taken_as_it_is(rows):
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.rpn import AnchorGenerator

    torch.manual_seed(0)
    backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=8, padding=1), torch.nn.ReLU())
    backbone.out_channels = 8
    anchors = AnchorGenerator(sizes=((16, 32),), aspect_ratios=((0.5, 1.0, 2.0),))
    model = MaskRCNN(
        backbone, num_classes=3, rpn_anchor_generator=anchors, min_size=64, max_size=96, box_score_thresh=0.0,
        box_detections_per_img=4,
    )  # fmt: skip
    sample = make_sample(rows[0])
    found = MaskRCNNDetections(model).of(sample)
    assert found.masks.shape[1:] == sample.modal.shape[1:] and set(found.category_ids.tolist()) <= {1, 2}
    assert (np.diff(found.scores) <= 0).all()
