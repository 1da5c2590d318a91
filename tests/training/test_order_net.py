"""`training/train_order_net.py`: with the photo and without, exact resumption, the loss, errors, overfitting."""

import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from amodal_diffusion import AmodalPipeline, OrderNetPipeline
from amodal_diffusion.data import read_annotations, save_parquet
from amodal_diffusion.evaluation import evaluate_depth, evaluate_methods, load_depth_methods, load_methods
from photo_helpers import depth_rows, draw_scene, write_depth_photos, write_photos
from pipeline_helpers import tiny_pipeline
from repository_helpers import ROOT
from training_helpers import run_main, saved_weights

SCRIPT = "train_order_net"
SMALL = [
    "--recipe", "improved", "--hidden_sizes", "4,8", "--depths", "1,1", "--embedding_size", "4",
    "--layer_type", "basic", "--sample_size", "32", "--train_batch_size", "4", "--validation_fraction", "0.4",
    "--min_area", "20", "--max_train_steps", "4", "--logging_steps", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), images=6)


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "order-net"
    given = ["--dataset", photos, "--images", photos.parent, "--output_dir", folder, "--checkpointing_steps", 2]
    run_main(SCRIPT, *given, *SMALL, "--unrelated")
    return folder


@pytest.fixture
def script():
    """The module of the script, in this process."""
    import train_order_net

    return train_order_net


def test_leaves_a_pipeline_with_card_and_curve(finished):
    pipe = AmodalPipeline.from_pretrained(finished)
    photo, modal, _ = draw_scene(3)
    assert isinstance(pipe, OrderNetPipeline) and pipe.needs_image and pipe.model.config.num_relations == 3
    assert pipe(photo, modal).order.shape == (3, 3)
    card = (finished / "README.md").read_text()
    for fact in ("OrderNet", "4 updates of 4 samples", " pairs", "order = pipe(image, masks).order"):
        assert fact in card
    figures = json.loads((finished / "learning_curve.json").read_text())[-1]
    assert {"order_accuracy", "pair_accuracy"} <= figures.keys()


def test_a_resumed_run_ends_with_the_same_weights(photos, finished, tmp_path):
    given = ["--dataset", photos, "--images", photos.parent, "--output_dir", tmp_path / "net", *SMALL, "--unrelated"]
    given += ["--resume_from_checkpoint", "latest"]
    run_main(SCRIPT, *given, "--stop_after_steps", 2)
    assert any(
        not torch.equal(value, saved_weights(finished)[name]) for name, value in saved_weights(tmp_path / "net").items()
    )
    run_main(SCRIPT, *given)
    for name, value in saved_weights(tmp_path / "net").items():
        assert torch.equal(value, saved_weights(finished)[name]), name


def test_masks_alone_need_no_photos(photos, tmp_path):
    (tmp_path / "annotations.json").write_text(photos.read_text())  # without the photos
    given = ["--dataset", tmp_path / "annotations.json", "--output_dir", tmp_path / "m", *SMALL, "--max_train_steps", 1]
    run_main(SCRIPT, "--masks_alone", *given)
    pipe = AmodalPipeline.from_pretrained(tmp_path / "m")
    _, modal, _ = draw_scene(3)
    assert not pipe.needs_image and pipe(None, modal).order.shape == (3, 3)


def test_the_loss_is_cross_entropy(script, photos, tmp_path):
    given = ["--dataset", str(photos), "--images", str(photos.parent), "--output_dir", str(tmp_path), *SMALL]
    task = script.OrderNetTask(script.parse_arguments(given))
    task.setup(Accelerator(cpu=True))
    model = task.model.eval()
    with torch.no_grad():
        found = task.loss(model, 3, 4)[0].item()
        inputs, relation = task._inputs(task._draw(3, 4))
        logits = model(**inputs).logits.double()
    right = logits.exp()[range(4), relation.tolist()] / logits.exp().sum(1)
    assert found == pytest.approx(float(-right.log().mean()), rel=1e-5)
    relations = torch.cat([task._inputs(task._draw(step, 4))[1] for step in range(8)])
    assert set(relations.tolist()) == {0, 1}  # as often the one as the other is in front


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--flip_probability", "2"], r"`--flip_probability` must lie in \[0, 1\], got 2"),
        (["--box_shift", "1"], r"`--box_shift` must lie in \[0, 1\), got 1.0"),
        (["--depths", "1,1,1"], "`depths` must have 2 entries like `hidden_sizes`"),
        (["--min_area", "9999999"], "has no usable object"),
        (["--dataset_weights", "1", "2"], "`--dataset_weights` must hold one weight for each of the 1 data sets"),
    ],
)
def test_bad_values_are_refused_by_name(script, photos, tmp_path, arguments, message):
    given = ["--dataset", str(photos), "--images", str(photos.parent), "--output_dir", str(tmp_path / "out"), *SMALL]
    with pytest.raises(ValueError, match=message):
        script.main([*given, *arguments])


def test_photos_without_pairs_are_refused(script, tmp_path):
    path = write_photos(tmp_path / "single", images=4, keep=1)
    given = ["--dataset", str(path), "--images", str(path.parent), "--output_dir", str(tmp_path / "out"), *SMALL]
    with pytest.raises(ValueError, match="`--dataset` has no photos to train on where one object hides another"):
        script.main(given)


def test_wrong_pipelines_are_named(script, photos, finished, tmp_path):
    tiny_pipeline().save_pretrained(tmp_path / "pcnet-m")
    given = ["--dataset", str(photos), "--output_dir", str(tmp_path / "out"), *SMALL, "--pretrained_pipeline"]
    with pytest.raises(ValueError, match="`--pretrained_pipeline` .* must be an OrderNetPipeline"):
        script.main([*given, str(tmp_path / "pcnet-m")])
    with pytest.raises(ValueError, match="has `num_relations` 3, and `--masks_alone`, `--unrelated` and"):
        script.main([*given, str(finished)])


def test_depth_is_learned_from_data_that_knows_it(script, photos, tmp_path):
    rooms = write_depth_photos(tmp_path / "rooms", images=8)
    given = ["--dataset", rooms, "--images", "none", *SMALL, "--answer", "depth", "--checkpointing_steps", 2]
    run_main(SCRIPT, *given, "--output_dir", tmp_path / "net")
    pipe = AmodalPipeline.from_pretrained(tmp_path / "net")
    photo, modal, _ = draw_scene(3)
    assert pipe.answers_depth and pipe.model.config.num_relations == 3
    assert pipe(photo, modal).depth_order.shape == (3, 3)
    card = (tmp_path / "net" / "README.md").read_text()
    for fact in ("OrderNet of depth", "Who is closer", "depth_order = pipe(image, masks).depth_order"):
        assert fact in card
    figures = json.loads((tmp_path / "net" / "learning_curve.json").read_text())[-1]
    assert 0 <= figures["whdr"] <= 100 and "order_accuracy" not in figures
    run_main(SCRIPT, *given, "--output_dir", tmp_path / "again", "--stop_after_steps", 2)
    run_main(SCRIPT, *given, "--output_dir", tmp_path / "again", "--resume_from_checkpoint", "latest")
    for name, value in saved_weights(tmp_path / "again").items():
        assert torch.equal(value, saved_weights(tmp_path / "net")[name]), name
    report = evaluate_depth(depth_rows(8), load_depth_methods(["y-axis", str(tmp_path / "net")]))
    assert set(report.metrics) == {"y-axis", str(tmp_path / "net")}
    with pytest.raises(ValueError, match="tells who is closer, not who hides whom"):
        load_methods([str(tmp_path / "net")])
    task = script.OrderNetTask(script.parse_arguments([*map(str, given), "--output_dir", str(tmp_path)]))
    task.setup(Accelerator(cpu=True))
    relations = torch.cat([task._inputs(task._draw(step, 4))[1] for step in range(12)])
    assert set(relations.tolist()) == {0, 1, 2}
    wrong = ["--dataset", str(photos), "--images", str(photos.parent), *SMALL, "--answer", "depth"]
    args = script.parse_arguments([*wrong, "--output_dir", str(tmp_path / "x")])
    with pytest.raises(ValueError, match="`--dataset` has no photos to train on with two objects of known depth"):
        script.OrderNetTask(args).setup(Accelerator(cpu=True))
    with pytest.raises(ValueError, match="`--unrelated` is of `--answer occlusion` alone"):
        script.parse_arguments([*wrong, "--output_dir", "x", "--unrelated"])
    with pytest.raises(ValueError, match="`--order_source` is of `--answer occlusion` alone"):
        script.parse_arguments([*wrong, "--output_dir", "x", "--order_source", "annotated"])


def rooms_by_heart(script, folder, *more):
    """The rows of six rooms, and what a run on them alone validates on them at the end."""
    rows = read_annotations(str(ROOT / "datasets" / "rooms-amodal"), split="test").select(range(6))
    save_parquet(rows, folder / "rooms")
    given = ["--dataset", folder / "rooms", "--images", "none", "--validation_dataset", folder / "rooms"]
    given += ["--validation_images", "none", "--output_dir", folder / "out"]
    given += ["--hidden_sizes", "16,32,64", "--depths", "1,1,1", "--embedding_size", 16, "--layer_type", "basic"]
    given += ["--sample_size", 64, "--train_batch_size", 16, "--images_per_batch", 6, "--flip_probability", 0]
    given += ["--box_shift", 0, "--box_scale", 0, "--recipe", "improved", "--learning_rate", 3e-3]
    given += ["--lr_scheduler", "one_cycle", "--validation_steps", 0, "--use_ema", "False"]
    done = script.train(script.OrderNetTask, script.parse_arguments(list(map(str, [*given, *more]))))
    return rows, done.state.history[-1]


@pytest.mark.slow
def test_overfits_a_handful_of_rooms(script, tmp_path):
    """Of rooms, whose order is known from their depth, it learns nearly all pairs; the hull knows 79 of 100."""
    more = ["--order_source", "annotated", "--max_train_steps", 350]
    rows, figures = rooms_by_heart(script, tmp_path, *more)
    assert figures["order_accuracy"] >= 93, figures
    report = evaluate_methods(rows, load_methods([str(tmp_path / "out")]))
    figures = report.order[str(tmp_path / "out")]
    assert figures["order_accuracy"] >= 0.9 and np.isfinite(figures["order_accuracy"])


@pytest.mark.slow
def test_overfits_the_depths_of_a_handful_of_rooms(script, tmp_path):
    """Who is closer, or that depths overlap: guessing by height is wrong of 37 pairs in 100."""
    rows, figures = rooms_by_heart(script, tmp_path, "--answer", "depth", "--max_train_steps", 600)
    assert figures["whdr"] <= 10, figures
    report = evaluate_depth(rows, load_depth_methods(["y-axis", str(tmp_path / "out")]))
    assert report.metrics[str(tmp_path / "out")]["whdr"] <= 0.16 < 0.3 < report.metrics["y-axis"]["whdr"]
