"""Runs the examples of the README: Python blocks in one namespace, in order; our commands; make targets."""

import importlib
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from amodal_diffusion import (
    AmodalVAE,
    AmodalVAEPipeline,
    ASBUPipeline,
    ASBUPredictor,
    ContentPipeline,
    PCNetContent,
    Scene,
)
from amodal_diffusion.cli import main as cli
from amodal_diffusion.data import load_amodal_dataset
from amodal_diffusion.masks import encode_rle
from photo_helpers import tiny_occamodal
from pipeline_helpers import tiny_pipeline
from repository_helpers import ROOT

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PIPELINES = ROOT / "pipelines"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def commands(program):
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [words[1:] for words in (shlex.split(line, comments=True) for line in lines) if words[:1] == [program]]


def tiny_asbu():
    return ASBUPipeline(ASBUPredictor(block_out_channels=(4, 4), sample_size=32))


def tiny_vae():
    return AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(4, 8)))


def tiny_content():
    return ContentPipeline(model=PCNetContent((4, 8), sample_size=32), background_size=32)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """The files that the examples name; the pipeline is the shipped one where it is here, else a tiny one."""
    monkeypatch.chdir(tmp_path)
    amodal = np.zeros((2, 48, 64), bool)
    amodal[0, 8:32, 10:34] = True
    amodal[1, 16:40, 20:60] = True
    modal = amodal.copy()
    modal[1] &= ~amodal[0]
    Image.fromarray(np.full((48, 64, 3), 128, np.uint8)).save("photo.jpg")
    (tmp_path / "images").mkdir()
    shutil.copy("photo.jpg", "images")
    document = {
        "images": [{"id": 1, "file_name": "photo.jpg", "height": 48, "width": 64}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {
                "id": index,
                "image_id": 1,
                "category_id": 1,
                "iscrowd": 0,
                "area": int(whole.sum()),
                "bbox": [0, 0, 64, 48],
                "segmentation": encode_rle(whole),
                "visible_mask": encode_rle(visible),
            }
            for index, (visible, whole) in enumerate(zip(modal, amodal, strict=True), start=1)
        ],
    }
    for name in ("masks.json", "annotations.json"):
        Path(name).write_text(json.dumps(document), encoding="utf-8")
    Image.fromarray(modal[1]).save("mask.png")
    tiny_pipelines = {
        "pcnet-m": tiny_pipeline, "occamodal": tiny_occamodal, "asbu": tiny_asbu, "amodal-vae": tiny_vae,
        "pcnet-c": tiny_content,
    }  # fmt: skip
    shutil.copytree(PIPELINES / "deocclusion", "pipelines/deocclusion")
    for name, tiny in tiny_pipelines.items():
        if (PIPELINES / name / "model_index.json").is_file():
            shutil.copytree(PIPELINES / name, Path("pipelines") / name)
        else:
            tiny().save_pretrained(Path("pipelines") / name)
    copy_rooms(ROOT / "datasets" / "rooms-amodal", tmp_path / "datasets" / "rooms-amodal")
    return tmp_path


def copy_rooms(source, target):
    """The scene of the first shard that has the fewest objects, with its hidden colours."""
    for part in ("data", "layers"):
        (target / part).mkdir(parents=True)
    table = parquet.read_table(source / "data" / "test-00000-of-00003.parquet")
    place = int(np.argmin([len(objects) for objects in table["objects"]]))
    parquet.write_table(table.slice(place, 1), target / "data" / "test-00000-of-00001.parquet")
    shutil.copy(source / "layers" / "test-00000-of-00003.zip", target / "layers" / "test-00000-of-00001.zip")


def test_python_examples_run(workplace):
    namespace = {}
    for source in blocks("python"):
        exec(compile(source, "README.md", "exec"), namespace)  # in order: later examples go on from earlier ones
    assert Image.open("overlay.png").width == Image.open("order_graph.png").width


def test_first_example_says_what_happens(workplace):
    namespace = {}
    exec(compile(blocks("python")[0], "README.md", "exec"), namespace)
    out = namespace["out"]
    assert out.amodal_masks.shape == out.probabilities.shape == (2, 240, 320)
    assert out.order.shape == (2, 2)
    if not (PIPELINES / "pcnet-m" / "model_index.json").is_file():
        pytest.skip("the shipped checkpoint is not here")
    assert out.order[0, 1] == 1
    bar, disc = namespace["bar"], namespace["disc"]
    behind = disc & (abs(namespace["rows"] - 125) < 25)
    assert (out.amodal_masks[1] & behind).sum() > 0.8 * behind.sum()
    assert (out.amodal_masks[1] & ~behind & ~bar).sum() < 0.1 * bar.sum()


@pytest.mark.parametrize("name", ["complete", "evaluate", "convert", "deocclude", "annotate", "dataset"])
def test_commands_parse(name):
    written = [arguments for arguments in commands("amodal-diffusion") if arguments[0] == name]
    assert written, f"the README shows no `amodal-diffusion {name}`"
    for arguments in written:
        assert cli.build_parser().parse_args(arguments).command == name


@pytest.mark.parametrize("name", ["complete", "evaluate", "deocclude", "annotate", "dataset"])
def test_commands_run(workplace, capsys, name):
    for arguments in commands("amodal-diffusion"):
        if arguments[0] == name:
            assert cli.main(arguments) == 0, capsys.readouterr().err
    if name == "complete":
        assert {"amodal.json", "amodal_masks", "order_graph.png", "overlay.png"} <= _names("out")
        assert {"amodal.json", "amodal_masks", "occluder_masks", "overlay.png"} <= _names("one")
    elif name == "evaluate":
        printed = capsys.readouterr().out
        assert "pcnet-m" in printed and "pipelines/occamodal" in printed
        assert "Hidden colours" in printed and "More than pipelines/pcnet-m" in printed
    elif name == "deocclude":
        assert len(Scene.load("scene.psd").layers) == 2
    else:
        folder = {"annotate": "amodal", "dataset": "parquet"}[name]
        assert len(load_amodal_dataset(folder)[0]["objects"]) == 2


def _names(folder):
    return {path.name for path in Path(folder).iterdir()}


def test_training_commands_parse():
    launched = [arguments[1:] for arguments in commands("accelerate") if arguments[0] == "launch"]
    assert launched
    for script, *arguments in launched:
        assert (ROOT / script).parent == ROOT / "training"
        assert importlib.import_module(Path(script).stem).parse_arguments(arguments).output_dir


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    shown = {words[0] for words in commands("make")}
    assert {"demo", "test"} <= shown <= targets


def test_installs_from_the_constraints():
    for arguments in commands("pip"):
        assert arguments[:3] == ["install", "-c", "constraints.txt"]


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "demos/README.md"])
def test_relative_links_lead_somewhere(document):
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{document} links to {target}, which is not there"


DOCUMENTS = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "README.md",
    *(f"{folder}/README.md" for folder in ("benchmarks", "demos", "training")),
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").glob("*.md"))),
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_a_document_names_are_there(document):
    """In backticks: modules, and folders of this repository, from its top, from the package or from the document."""
    path = ROOT / document
    folders = {entry.name for entry in (*ROOT.iterdir(), *(ROOT / "amodal_diffusion").iterdir()) if entry.is_dir()}
    missing = []
    for name in re.findall(r"`([\w./-]+)`", path.read_text(encoding="utf-8")):
        if not name.endswith(".py") and not (name.endswith("/") and name.split("/")[0] in folders):
            continue
        places = (ROOT, ROOT / "amodal_diffusion", path.parent, *IMPLIED.get(document, ()))
        if not any((place / name).exists() for place in places):
            missing.append(name)
    assert not missing


IMPLIED = {
    "ARCHITECTURE.md": [ROOT / "amodal_diffusion/pipelines/content", ROOT / "amodal_diffusion/scene/formats"],
    "training/README.md": [ROOT / "training/trainer"],
}
"""Folders that a passage of a document is about, so that it names their files alone."""
