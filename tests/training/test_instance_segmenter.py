"""`training/train_instance_segmenter.py`: overlapping detections, a run, its resumption, errors."""

import importlib
import json

import pytest
import torch
from safetensors.torch import load_file
from train_instance_segmenter import predict_instances
from transformers import AutoImageProcessor, Mask2FormerForUniversalSegmentation

from amodal_diffusion.data import read_annotations
from amodal_diffusion.data.samplers.instances import read_instances
from photo_helpers import write_photos
from repository_helpers import needs_shared
from training_helpers import run_main, write_few_objects

pytestmark = pytest.mark.usefixtures("offline")

SMALL = [
    "--image_size", "64", "--hidden_dim", "32", "--num_queries", "6", "--train_batch_size", "2",
    "--validation_fraction", "0.3", "--logging_steps", "1", "--max_train_steps", "4", "--score_threshold", "0",
]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), images=5)


@pytest.fixture(scope="module")
def rows(photos):
    return read_annotations(photos, photos.parent)


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "segmenter"
    flags = ["--checkpointing_steps", "2", "--validation_steps", "2"]
    run_main("train_instance_segmenter", "--dataset", photos, "--output_dir", folder, *SMALL, *flags)
    return folder


class Answers(torch.nn.Module):
    """A network that always sees two overlapping squares, the second one of class 1."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, pixel_values, pixel_mask):
        masks = torch.full((1, 2, 16, 16), -9.0)
        masks[0, 0, 2:10, 2:10] = 9
        masks[0, 1, 5:14, 5:14] = 9
        logits = torch.tensor([[[5.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
        return type("Output", (), {"class_queries_logits": logits, "masks_queries_logits": masks})


def test_predicted_instances_may_overlap_and_fit_the_photo():
    masks, classes, scores = predict_instances(Answers(), torch.zeros(3, 32, 64), 64, 0.0)
    assert masks.shape == (2, 32, 64) and masks.dtype == torch.bool
    assert classes.tolist() == [0, 1] and scores[0] > scores[1] > 0
    assert (masks[0] & masks[1]).any()
    columns = masks[0].any(0).nonzero()[:, 0]
    assert columns.min() == pytest.approx(8, abs=1) and columns.max() == pytest.approx(39, abs=1)
    assert len(predict_instances(Answers(), torch.zeros(3, 32, 64), 64, 0.9)[0]) == 1


def test_a_run_leaves_what_transformers_loads(run, rows):
    model = Mask2FormerForUniversalSegmentation.from_pretrained(run).eval()
    assert model.config.id2label == {0: "thing"}
    assert AutoImageProcessor.from_pretrained(run).size["longest_edge"] == 64
    photo = read_instances(rows[0], {None: 0}, "amodal")[0]
    assert len(predict_instances(model, photo, 64, 0.0)[0])
    curve = json.loads((run / "learning_curve.json").read_text())
    assert [point["step"] for point in curve] == [2, 4] and {"ap", "ap50", "ap75"} <= set(curve[0])
    detections = json.loads((run / "detections.json").read_text())
    assert detections and set(detections[0]) == {"image_id", "category_id", "score", "segmentation"}
    card = (run / "README.md").read_text()
    for fact in ("whole masks", "4 updates of 2 samples", "1 classes", "from transformers import Mask2Former"):
        assert fact in card


def test_resumed_run_equals_the_uninterrupted_one(photos, run, tmp_path):
    flags = ["--checkpointing_steps", "2", "--validation_steps", "2", "--resume_from_checkpoint", "latest"]
    arguments = ["--dataset", photos, "--output_dir", tmp_path, *SMALL, *flags]
    run_main("train_instance_segmenter", *arguments, "--stop_after_steps", "2")
    run_main("train_instance_segmenter", *arguments)
    ours, theirs = load_file(tmp_path / "model.safetensors"), load_file(run / "model.safetensors")
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_goes_on_from_a_segmenter_with_other_classes(photos, run, tmp_path):
    flags = ["--segmenter", run, "--class_agnostic", "--masks", "modal", "--learning_rate", "1e-9"]
    run_main("train_instance_segmenter", "--dataset", photos, "--output_dir", tmp_path, *SMALL, *flags)
    ours, theirs = load_file(tmp_path / "model.safetensors"), load_file(run / "model.safetensors")
    key = next(name for name in ours if "encoder" in name and name.endswith("weight"))
    torch.testing.assert_close(ours[key], theirs[key], atol=1e-6, rtol=0)


def test_validates_on_a_data_set_of_its_own(photos, tmp_path):
    other = write_photos(tmp_path / "other", images=2, first=40)
    content = json.loads(other.read_text())
    for number, image in enumerate(content["images"]):
        content["annotations"][number]["image_id"] = image["id"] = 900 + number
    other = other.with_name("test.json")
    other.write_text(json.dumps(content))
    flags = ["--validation_dataset", other, "--validation_images", tmp_path / "other", "--output_dir", tmp_path / "run"]
    run_main("train_instance_segmenter", "--dataset", photos, *SMALL, *flags)
    detections = json.loads((tmp_path / "run" / "detections.json").read_text())
    assert {entry["image_id"] for entry in detections} == {"900", "901"}
    card = (tmp_path / "run" / "README.md").read_text()
    assert "annotations.json: 5 photos" in card and "validated on other/test.json" in card  # none is held out
    truth = [obj["category_id"] for obj in read_annotations(other)[0]["objects"]]
    assert {entry["category_id"] for entry in detections} <= {-1 if number is None else number for number in truth}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--image_size", "50"], "`--image_size` must be a positive multiple of 32"),
        (["--hidden_dim", "48"], "`--hidden_dim` must be a positive multiple of 32"),
        (["--validation_fraction", "0"], r"`--validation_fraction` must lie in \(0, 1\)"),
        (["--images", "a", "b"], "`--images` must have one folder"),
        (["--validation_images", "a"], "`--validation_images` must have one folder for each of the 0"),
        (
            ["--validation_dataset", "a", "--validation_images", "a", "b"],
            "each of the 1 of `--validation_d",
        ),
    ],
)
def test_bad_flags(photos, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        run_main("train_instance_segmenter", "--dataset", photos, "--output_dir", tmp_path, *SMALL, *flags)


def test_data_without_whole_masks_is_refused(tmp_path):
    path = write_photos(tmp_path / "modal", images=3, amodal=False)
    with pytest.raises(ValueError, match="lacks amodal masks: complete it with `amodal-diffusion annotate`"):
        run_main("train_instance_segmenter", "--dataset", path, "--output_dir", tmp_path / "run", *SMALL)


@pytest.mark.slow
@needs_shared
def test_overfits_the_objects_of_a_handful_of_real_photos(tmp_path):
    """It finds again, as one object each, what it was shown in four photos."""
    script = importlib.import_module("train_instance_segmenter")
    few, folder = write_few_objects(tmp_path / "few.json", 4)
    given = ["--dataset", few, "--images", folder, "--validation_dataset", few, "--validation_images", folder]
    given += ["--output_dir", tmp_path / "out", "--image_size", 96, "--hidden_dim", 32, "--num_queries", 3]
    given += ["--class_agnostic", True, "--train_batch_size", 4, "--learning_rate", 1e-3, "--max_grad_norm", 1]
    given += ["--masks", "modal", "--max_train_steps", 120, "--validation_steps", 0, "--lr_scheduler", "one_cycle"]
    figures = script.train(script.SegmenterTask, script.parse_arguments(list(map(str, given)))).state.history[-1]
    assert figures["ap50"] >= 90, figures
