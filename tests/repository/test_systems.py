"""docs/systems.md: its names are there, and every command runs, beside small files of the names that it gives.

Commands run as they stand; those that train get the flags of a tiny network after their own.
"""

import contextlib
import importlib
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import ResNetConfig, ResNetModel

from amodal_diffusion import (
    AmodalPipeline,
    AmodalVAE,
    AmodalVAEPipeline,
    ASBUPipeline,
    ASBUPredictor,
    EfficientNetLite0,
    OrderNetPipeline,
    Scene,
    metrics,
)
from amodal_diffusion.cli import main as cli
from amodal_diffusion.data import load_amodal_dataset, save_parquet
from amodal_diffusion.data.preferences import Preference
from amodal_diffusion.data.readers import read_annotations
from amodal_diffusion.evaluation import PAPER_TABLES, MaskRCNNDetections
from amodal_diffusion.masks import encode_rle
from amodal_diffusion.metrics import ObjectFID
from content_helpers import LocalFeatures
from diffusion_helpers import tiny_stable_diffusion
from document_helpers import table_rows, text_of
from photo_helpers import draw_scene, tiny_occamodal, tiny_order_net, write_depth_photos, write_photos
from pipeline_helpers import tiny_pipeline
from repository_helpers import ROOT
from room_helpers import box, copy_rooms, write_library
from segmenter_helpers import Finder
from server_helpers import free_port, wait_for
from training_helpers import run_main

PAGE = "docs/systems.md"
COMMANDS = {row["command"].strip("`"): row.get("section") or row["what"] for row in table_rows(PAGE)}

SHORT = "--max_train_steps 2 --train_batch_size 2 --validation_fraction 0.4 --validation_samples 4 --min_area 40"
MASKS = f"{SHORT} --block_out_channels 8,16 --sample_size 32"
PHOTOS = (
    f"{SHORT} --block_out_channels 4,8,8 --reduced_channels 4 --sample_size 32 --image_hidden_sizes 4,8,8,8 "
    "--image_embedding_size 4"
)
SMALL = {
    "train_pcnet_m": MASKS,
    "train_asbu": MASKS,
    "train_pcnet_c": f"{SHORT} --block_out_channels 8,8,8 --sample_size 32",
    "train_single_stage": PHOTOS,
    "train_occamodal": PHOTOS,
    "train_sdamodal": f"{SHORT} --block_out_channels 4,8,8,8 --reduced_channels 4 --sample_size 32 --resolution 64 "
    "--num_draws 2",
    "train_order_net": f"{SHORT} --hidden_sizes 4,8 --depths 1,1 --embedding_size 4 --layer_type basic "
    "--sample_size 32",
    "train_amodal_vae": "--stage_steps 2,2,2 --max_train_steps 2 --train_batch_size 2 --validation_fraction 0.4 "
    "--validation_samples 4 --validation_draws 2 --min_area 40 --block_out_channels 8,16 --sample_size 16 "
    "--latent_channels 4 --synthesis_size 32 --image_size 32",
    "train_photo_pcnet_m": f"{SHORT} --mask_network runs/pcnet-m --reduced_channels 4 --true_validation_photos 2",
    "train_click_segmenter": f"{SHORT} --decoder_channels 4,4,4,4,4 --embedding_channels 4 --sample_size 64",
    "train_thing_net": "--max_train_steps 2 --train_batch_size 2 --validation_fraction 0.4 --validation_samples 4 "
    "--decoder_channels 4 --sample_size 64 --crop_size 64",
    "make-rooms": "--rooms 1 --views 1 --size 64",
    "train_instance_segmenter": "--max_train_steps 2 --train_batch_size 2 --validation_fraction 0.4 --image_size 64 "
    "--hidden_dim 32 --num_queries 6",
}
"""Flags that make a run tiny; the recipe and all else stay as they are by default."""


def test_every_row_has_a_command():
    assert len(COMMANDS) > 35
    for command in COMMANDS:
        assert re.match(r"amodal-diffusion |accelerate launch training/\w+\.py |python demos/", command), command


def test_every_table_of_the_papers_is_asked_for():
    asked = [command.split()[3] for command in COMMANDS if command.startswith("amodal-diffusion evaluate --table")]
    assert sorted(asked) == sorted(PAPER_TABLES)


def test_names_are_there():
    """The second column: names of the package."""
    import amodal_diffusion
    from amodal_diffusion import baselines, data, losses
    from amodal_diffusion.data import samplers

    for row in re.findall(r"^\|[^|]*\|([^|]*)\|", text_of(PAGE), flags=re.MULTILINE):
        for name in re.findall(r"`([A-Za-z_.]+)`", row):
            rooms = (amodal_diffusion, losses, data, samplers, baselines)
            if name.endswith(".py"):
                continue  # `test_files_that_a_document_names_are_there` looks for them
            room, _, last = name.rpartition(".")
            places = [getattr(amodal_diffusion, room, None) or _module(room)] if room else rooms
            known = any(hasattr(place, last) for place in places) or _module(f"{room}.{last}")
            others = ("annotate", "evaluate", "complete", "deocclude", "order", "use_rgb", "final_skip")
            assert known or name in others, name


def _module(name):
    with contextlib.suppress(ImportError):
        return importlib.import_module(f"amodal_diffusion.{name}")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What the commands name, but for what they write."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("train2014", "val2014", "mp3d"):
        write_photos(folder / name, images=6)
        (folder / name / "annotations.json").unlink()
    _write_annotations(folder)
    _write_results(folder)
    _write_scenes(folder)
    _write_networks(folder)
    return folder


def _write_annotations(folder):
    """Data sets whose photos lie in the folders beside them."""
    kinds = {
        "train.json": {"amodal": False, "classes": 2},
        "cocoa_train.json": {},
        "annotations.json": {"images": 2},
        "mp3d_train.json": {"keep": 1},
        "mp3d.json": {"keep": 1},
    }
    for name, kind in kinds.items():
        write_photos(folder / "once", **{"images": 6, **kind}).rename(folder / name)
    shutil.rmtree(folder / "once")
    _leave_alone(folder / "train.json", images=(4, 5, 6))
    save_parquet(read_annotations(folder / "annotations.json"), folder / "amodal")
    labels = np.full((48, 64), 7, np.uint16)
    labels[10:30, 5:40], labels[20:45, 30:60] = 26000, 33000  # a car, a bicycle
    for kind in ("gtFine", "leftImg8bit"):
        (folder / kind / "train" / "aachen").mkdir(parents=True)
    frame = "train/aachen/aachen_000000_000019"
    Image.fromarray(labels).save(folder / "gtFine" / f"{frame}_gtFine_instanceIds.png")
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / "leftImg8bit" / f"{frame}_leftImg8bit.png")


def _leave_alone(path, images):
    """Objects without neighbours count as complete: the first one of some photos is kept."""
    content = json.loads(path.read_text())
    seen, kept = set(), []
    for part in content["annotations"]:
        if part["image_id"] not in images or part["image_id"] not in seen:
            kept.append(part)
        seen.add(part["image_id"])
    path.write_text(json.dumps(content | {"annotations": kept}))


def _write_results(folder):
    """What people said, what a segmenter found, and weights of a Mask R-CNN, in whose place `Finder` stands."""
    answers = [Preference("cup.png", "ann", "first"), Preference("box.png", "ann", "none")]
    (folder / "answers.jsonl").write_text("".join(json.dumps(answer.__dict__) + "\n" for answer in answers))
    (folder / "maskrcnn.pth").touch()
    found = [
        {"image_id": row["image_id"], "category_id": 1, "score": 0.9, "segmentation": item["amodal_mask"]}
        for row in read_annotations(folder / "annotations.json")
        for item in row["objects"]
    ]
    (folder / "runs" / "segmenter").mkdir(parents=True)
    (folder / "runs" / "segmenter" / "detections.json").write_text(json.dumps(found))


def _write_scenes(folder):
    """A photo with its masks, and a scene of two boxes, one before the other, with a camera."""
    photo, modal, _ = draw_scene(0)
    Image.fromarray(photo).save(folder / "photo.jpg")
    height, width = photo.shape[:2]
    parts = [
        {"id": n, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": encode_rle(mask),
         "area": int(mask.sum()), "bbox": [0, 0, width, height]}
        for n, mask in enumerate(modal, start=1)
    ]  # fmt: skip
    images = [{"id": 1, "file_name": "photo.jpg", "height": height, "width": width}]
    content = {"images": images, "annotations": parts, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "masks.json").write_text(json.dumps(content))
    with contextlib.suppress(ImportError):
        import trimesh

        scene = trimesh.Scene()
        for name, half, center in (("near box", 0.3, (0, 0, -3)), ("far box", 0.5, (0.4, 0, -5))):
            mesh = box(half=half, center=center)
            scene.add_geometry(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False), node_name=name)
        scene.export(folder / "scene.glb")
    frame = {"file_path": "one.png", "transform_matrix": np.eye(4).tolist()}
    (folder / "transforms.json").write_text(json.dumps({"w": 64, "h": 48, "fl_x": 60, "frames": [frame]}))


def _write_networks(folder):
    """Of others, tiny and with random weights; and pipelines that other commands of the page leave in runs/."""
    (folder / "pipelines").symlink_to(ROOT / "pipelines")
    tiny_stable_diffusion().save_pretrained(folder / "sd2-community" / "stable-diffusion-2-1")
    copy_rooms(ROOT / "datasets" / "rooms-amodal", folder / "datasets" / "rooms-amodal")
    write_depth_photos(folder / "rooms-train")
    write_library(folder / "furniture")
    for name in ("resnet-18", "resnet-50"):
        sizes = {"layer_type": "basic", "hidden_sizes": [4, 8, 8, 8], "depths": [2, 2, 2, 2], "embedding_size": 4}
        ResNetModel(ResNetConfig(**sizes)).save_pretrained(folder / "microsoft" / name)
    asbu = ASBUPredictor(block_out_channels=(4, 4), sample_size=32)
    vae = AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(4, 8))
    for name, pipeline in {
        "asbu-mask": ASBUPipeline(asbu, occluder_input="mask"), "vae-no-full": AmodalVAEPipeline(vae),
        "asbu-boundary": ASBUPipeline(asbu), "asbu-ubce": ASBUPipeline(asbu),
        "occluder": tiny_occamodal(), "occamodal": tiny_occamodal(), "pcnet-m": tiny_pipeline(),
        "depth-net": OrderNetPipeline(tiny_order_net(answer="depth", num_relations=3)),
    }.items():  # fmt: skip
        pipeline.save_pretrained(folder / "runs" / name)


@pytest.fixture
def workplace(files, tmp_path, monkeypatch, offline):
    shutil.copytree(files, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(EfficientNetLite0, "from_package", classmethod(lambda kind: kind()))
    monkeypatch.setattr(metrics, "ObjectFID", lambda weights: ObjectFID(LocalFeatures(), weights))
    monkeypatch.setattr(MaskRCNNDetections, "from_weights", lambda path, **given: MaskRCNNDetections(Finder(), **given))


def is_slow(command):
    """The page of the demo, and shipped networks on data sets: some seconds each, and there are many of them."""
    return command.startswith("python") or (command.startswith("amodal-diffusion evaluate") and "pipelines/" in command)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, id=section, marks=pytest.mark.slow if is_slow(command) else ())
        for command, section in COMMANDS.items()
    ],
)
def test_commands_run(command, workplace, capsys):
    program, *arguments = shlex.split(command)
    for flag in ("--output", "--output_dir"):  # what lies there for other commands
        shutil.rmtree(_after(arguments, flag) or "nothing", ignore_errors=True)
    if program == "accelerate":
        script = Path(arguments[1]).stem
        given = [*arguments[2:], *SMALL[script].split()]
        run_main(script, *given)
        _check_trained(given, script)
    elif program == "python":
        _check_served(arguments[0])
    else:
        if arguments[0] in ("ground-truth", "make-rooms"):
            pytest.importorskip("trimesh")
        assert cli.main([*arguments, *SMALL.get(arguments[0], "").split()]) == 0, capsys.readouterr().err
        _check_written(arguments, capsys.readouterr().out)


def _after(arguments, flag):
    return arguments[arguments.index(flag) + 1] if flag in arguments else None


def _check_trained(arguments, script):
    folder = Path(_after(arguments, "--output_dir"))
    assert (folder / "README.md").is_file() and (folder / "learning_curve.json").is_file()
    if script == "train_instance_segmenter":
        assert (folder / "config.json").is_file()
    elif script == "train_pcnet_c":
        assert (folder / "model_index.json").is_file()
    else:
        assert AmodalPipeline.from_pretrained(folder)


def _check_written(arguments, printed):
    """What a command says of itself and where it writes to."""
    table = _after(arguments, "--table")
    if table:
        assert PAPER_TABLES[table].source in printed
    elif arguments[0] == "evaluate":
        assert any(word in printed for word in ("mIoU", "WHDR", "Hidden colours"))
    for flag in ("--output", "--picture", "--plot"):
        assert _after(arguments, flag) is None or Path(_after(arguments, flag)).exists()
    output = _after(arguments, "--output")
    if arguments[0] in ("annotate", "ground-truth", "make-rooms") or arguments[:2] == ["dataset", "convert"]:
        assert len(load_amodal_dataset(output)[0]["objects"]) >= 2
    elif arguments[0] == "deocclude":
        assert len(Scene.load(output).layers) == 3
    elif arguments[0] == "complete":
        assert (Path(output) / "amodal.json").is_file()


def _check_served(script):
    """It starts, answers, and ends when it is told to."""
    port = free_port()
    given = ["--port", str(port), "--keep", "kept", "--pipelines", str(ROOT / "pipelines")]
    log = Path("log.txt")
    with log.open("w") as output:
        server = subprocess.Popen([sys.executable, str(ROOT / script), *given], stdout=output, stderr=output)
    try:
        wait_for(server, f"http://127.0.0.1:{port}", log, script)
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0, log.read_text()
    finally:
        server.kill()
        server.wait()
