"""Runs the examples of the README and of docs/: Python blocks in one namespace, in order; commands; make targets."""

import importlib
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion import (
    AmodalVAE,
    AmodalVAEPipeline,
    ASBUPipeline,
    ASBUPredictor,
    ContentPipeline,
    OrderNetPipeline,
    PCNetContent,
    Scene,
)
from amodal_diffusion.cli import main as cli
from amodal_diffusion.data import load_amodal_dataset
from amodal_diffusion.masks import encode_rle
from document_helpers import blocks, commands, text_of
from photo_helpers import tiny_occamodal, tiny_order_net, tiny_photo_pcnet
from pipeline_helpers import tiny_pipeline
from repository_helpers import ROOT
from room_helpers import copy_rooms

PIPELINES = ROOT / "pipelines"
GUIDES = ("commands", "editing", "figures", "gpu", "install", "python", "runtimes", "training")
PAGES = ["README.md", *(f"docs/{name}.md" for name in GUIDES)]
"""Whose Python and commands run here; docs/tutorial.md, docs/kins.md and docs/tools.md have tests of their own."""


def tiny_asbu():
    return ASBUPipeline(ASBUPredictor(block_out_channels=(4, 4), sample_size=32))


def tiny_vae():
    return AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(4, 8)))


def tiny_orders():
    return OrderNetPipeline(tiny_order_net())


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
        "pcnet-c": tiny_content, "order-net": tiny_orders, "pcnet-m-photo": tiny_photo_pcnet,
        "pcnet-m-photo-256": tiny_photo_pcnet,
    }  # fmt: skip
    shutil.copytree(PIPELINES / "deocclusion", "pipelines/deocclusion")
    for name, tiny in tiny_pipelines.items():
        if (PIPELINES / name / "model_index.json").is_file():
            shutil.copytree(PIPELINES / name, Path("pipelines") / name)
        else:
            tiny().save_pretrained(Path("pipelines") / name)
    copy_rooms(ROOT / "datasets" / "rooms-amodal", tmp_path / "datasets" / "rooms-amodal")
    return tmp_path


def run_python(document):
    """Run all Python of a document, in order: later examples go on from earlier ones."""
    namespace = {}
    for source in blocks("python", document):
        exec(compile(source, document, "exec"), namespace)
    return namespace


def test_python_examples_run(workplace):
    run_python("docs/python.md")
    assert Image.open("overlay.png").width == Image.open("order_graph.png").width


def test_the_ten_lines_run_as_they_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipelines").symlink_to(PIPELINES)
    (tmp_path / "val2014").symlink_to(tmp_path)
    (source,) = blocks("python", "README.md")
    assert len([line for line in source.splitlines() if line.strip() and "import" not in line]) <= 10
    found = run_python("README.md")
    assert found["out"].amodal_masks.shape == (4, 400, 600)
    assert Image.open("edited.png").size == (600, 400) and Image.open("whole.png").width == 1200
    assert Scene.load("scene.psd").equals(found["scene"])


@pytest.mark.parametrize("document", ["docs/editing.md", "docs/gpu.md", "docs/runtimes.md"])
def test_python_of_the_guides_runs(tmp_path, monkeypatch, document):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipelines").symlink_to(PIPELINES)
    (tmp_path / "val2014").symlink_to(tmp_path)
    assert run_python(document)


def test_the_worker_of_many_photos_runs(workplace):
    assert cli.main("dataset convert masks.json --images images --output mine".split()) == 0
    worker, cluster = blocks("python", "docs/scale.md")
    namespace = {}
    exec(compile(worker, "docs/scale.md", "exec"), namespace)
    assert len(namespace["whole"][0]["objects"]) == 2 and not namespace["whole"][0]["error"]
    compile(cluster, "docs/scale.md", "exec")


CARDS = [path.parent.name for path in sorted(PIPELINES.glob("*/model_index.json"))]


@pytest.mark.parametrize("name", CARDS)
def test_python_of_the_cards_runs(tmp_path, monkeypatch, name):
    """On a drawn photo; what comes from the Hub is read alone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipelines").symlink_to(PIPELINES)
    (tmp_path / "val2014").symlink_to(tmp_path)
    masks = np.zeros((3, 96, 128), bool)
    masks[0, 10:40, 10:60] = masks[1, 30:80, 40:90] = masks[2, 20:90, 85:120] = True
    masks[0] &= ~masks[1]
    masks[1] &= ~masks[2]
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8))
    namespace = {"image": photo, "photo": photo, "masks": masks[:2], "mask": masks[0], "others": masks[2:]}
    namespace |= {"boxes": [[10, 10, 60, 40], [40, 30, 60, 50]], "amodal_masks": masks[:2]}
    if name == "deocclusion":
        namespace["masks"] = masks
    for source in blocks("python", f"pipelines/{name}/README.md"):
        code = compile(source, f"pipelines/{name}/README.md", "exec")
        if not re.search(r'"(?!pipelines/)[\w-]+/[\w.-]+"', source):
            exec(code, namespace)


def test_the_readme_is_for_a_first_visit():
    assert len(text_of("README.md").encode()) <= 6000
    assert text_of("README.md").count("```python") == 1


def test_first_example_says_what_happens(workplace):
    namespace = {}
    exec(compile(blocks("python", "docs/python.md")[0], "docs/python.md", "exec"), namespace)
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


@pytest.mark.parametrize("name", ["complete", "evaluate", "convert", "deocclude", "annotate", "dataset", "export"])
def test_commands_parse(name):
    written = [arguments for arguments in commands("amodal-diffusion", PAGES) if arguments[0] == name]
    assert written, f"no page shows `amodal-diffusion {name}`"
    for arguments in written:
        assert cli.build_parser().parse_args(arguments).command == name


@pytest.mark.parametrize("name", ["complete", "evaluate", "deocclude", "annotate", "dataset"])
def test_commands_run(workplace, capsys, name):
    for arguments in commands("amodal-diffusion", PAGES):
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


@pytest.mark.parametrize("path", sorted((ROOT / "training" / "runs").glob("*.md")), ids=lambda path: path.stem)
def test_commands_of_the_shipped_pipelines_parse(path):
    """What made a pipeline can be asked for again; its card says where it stands."""
    launched = re.findall(r"^accelerate launch training/(\w+)\.py (.*)$", path.read_text("utf-8"), flags=re.MULTILINE)
    assert launched and f"training/runs/{path.name}" in text_of(f"pipelines/{path.stem}/README.md")
    for script, arguments in launched:
        assert importlib.import_module(script).parse_arguments(shlex.split(arguments)).output_dir


def test_training_commands_parse():
    launched = [arguments[1:] for arguments in commands("accelerate", PAGES) if arguments[0] == "launch"]
    assert launched
    for script, *arguments in launched:
        assert (ROOT / script).parent == ROOT / "training"
        assert importlib.import_module(Path(script).stem).parse_arguments(arguments).output_dir


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    shown = {words[0] for words in commands("make", PAGES)}
    assert {"demo", "test"} <= shown <= targets


def test_installs_from_the_constraints():
    assert commands("pip", PAGES)
    for arguments in commands("pip", PAGES):
        assert arguments[:3] == ["install", "-c", "constraints.txt"]


DOCUMENTS = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "README.md",
    *(f"{folder}/README.md" for folder in ("benchmarks", "demos", "training")),
    *(str(path.relative_to(ROOT)) for path in sorted((*ROOT.glob("docs/*.md"), *ROOT.glob("pipelines/*/README.md")))),
]


def repository_folders():
    """At the top and in the package, without outputs of commands, which .gitignore keeps out and which may be there."""
    folders = [entry for entry in (*ROOT.iterdir(), *(ROOT / "amodal_diffusion").iterdir()) if entry.is_dir()]
    asked = subprocess.run(["git", "check-ignore", *folders], cwd=ROOT, capture_output=True, text=True, check=False)
    return {folder.name for folder in folders if str(folder) not in asked.stdout.splitlines()}


REPOSITORY_FOLDERS = repository_folders()


LINKING = [
    *DOCUMENTS,
    *("CHANGELOG.md", "SECURITY.md"),
    *(
        str(path.relative_to(ROOT))
        for pattern in ("datasets/*/*.md", "demos/*/*.md", "training/runs/*.md")
        for path in sorted(ROOT.glob(pattern))
    ),
]


def anchors(path):
    """What a link to a heading is called, where pages are published."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ +(.*?) *$", text, flags=re.MULTILINE)
    titles = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w -]", "", title).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", LINKING)
def test_relative_links_lead_somewhere(document):
    """Files, pictures and headings; also of cards and of folders' READMEs."""
    path = ROOT / document
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        made = document.startswith("docs/") and name.split("/")[0] in ("zoo.md", "zoo", "api", "reference")
        if made or re.match(r"[a-z]+:", target):
            continue
        led = path.parent / name if name else path
        assert led.exists(), f"{document} links to {target}, which is not there"
        assert not anchor or anchor in anchors(led), f"{document} links to {target}: no such heading"


def test_changelog_has_each_heading_and_each_line_once():
    text = text_of("CHANGELOG.md")
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        headings = re.findall(r"^### (\w+)$", section, flags=re.MULTILINE)
        order = [
            name for name in ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security") if name in headings
        ]
        assert headings == order, f"{section.splitlines()[0]}: add to the heading that is there"
    lines = re.findall(r"^- (.{40})", text, flags=re.MULTILINE)
    assert len(lines) == len(set(lines)), sorted({line for line in lines if lines.count(line) > 1})


EXTRAS = tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]


@pytest.mark.parametrize("document", LINKING)
def test_what_is_installed_can_be_had(document):
    """The package comes from the clone, since no index has it yet; an extra that is named is one."""
    text = text_of(document)
    for line in re.findall(r"pip install ([^`\n&;]*)", text):
        assert "amodal-diffusion" not in line, f"{document}: pip install {line}"
    for extras in re.findall(r"'\.\[([\w,]+)\]'", text):
        assert set(extras.split(",")) <= set(EXTRAS), document


def test_every_extra_is_explained():
    rows = re.findall(r"^\| (`.*?) \|", text_of("docs/install.md"), flags=re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(EXTRAS)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_a_document_names_are_there(document):
    """In backticks: modules, pages, and folders of this repository, from its top, from the package or the document."""
    path = ROOT / document
    folders = REPOSITORY_FOLDERS
    places = (ROOT, ROOT / "amodal_diffusion", path.parent, *IMPLIED.get(document, ()))
    missing, found = [], []
    for name in re.findall(r"`([\w./-]+)`", path.read_text(encoding="utf-8")):
        if name.endswith((".py", ".md")) or (name.endswith("/") and name.split("/")[0] in folders):
            there = next((place / name for place in places if (place / name).exists()), None)
            missing += [name] if there is None else []
            found += [] if there is None else [there]
    assert not missing
    asked = subprocess.run(["git", "check-ignore", *found], cwd=ROOT, capture_output=True, text=True, check=False)
    assert not asked.stdout, "on this machine alone: .gitignore keeps them out of the repository"


IMPLIED = {
    "ARCHITECTURE.md": [
        ROOT / "amodal_diffusion" / room for room in ("annotation", "pipelines/content", "scene/formats")
    ],
    "demos/README.md": [ROOT / "demos/page"],
    "training/README.md": [ROOT / "training/trainer"],
}
"""Folders that a passage of a document is about, so that it names their files alone."""
