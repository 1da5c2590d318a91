"""Rules on the source itself: who imports whom, and what a user never meets."""

import ast
import collections
import functools
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

import amodal_diffusion
from repository_helpers import ROOT

PACKAGE = ROOT / "amodal_diffusion"
FOLDERS = ("amodal_diffusion", "training", "demos", "benchmarks", "tests")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
PACKAGE_SOURCES = [path for path in SOURCES if path.is_relative_to(PACKAGE)]

# Each floor may import itself and the floors before it.
FLOORS = (
    ("arguments", "checkpoints", "display", "files", "hub", "masks"),
    ("crops", "images"),
    ("ordering",),
    ("metrics", "visualization", "models", "data"),
    ("baselines", "losses", "io", "runtimes", "scene"),
    ("pipelines",),
    ("conversion", "evaluation"),
    ("annotation", "interop"),
    ("cli",),
    ("__main__",),
)
RANKS = {name: rank for rank, floor in enumerate(FLOORS) for name in floor}
OUTSIDE = ("training", "demos", "benchmarks", "pipelines", "tests")
MODULES_AT_THE_ROOT = 8
FILES_IN_A_ROOM = 14
TWICE = {
    **dict.fromkeys(
        ("amodal_vae", "asbu", "click_segmenter", "occamodal", "order_net", "pcnet_content", "pcnet_mask", "sdamodal"),
        "a system: its network, its pipeline, its converter",
    ),
    **dict.fromkeys(("components", "features", "inputs", "loading", "output", "pipeline"), "a part of each pipeline"),
    "convert": "a data set; the command that converts a checkpoint",
    "coco": "COCO's JSON: read as annotations, written from a scene",
    **dict.fromkeys(("cvat", "label_studio"), "a tool: its files read, and written"),
    "curves": "drawn, and a paper's figure of them",
    "export": "a data set in files of tools; the command that writes networks",
    "dataset": "a data set, and the command that makes one",
    "ground_truth": "that of a scene, and the command that makes it",
    "samples": "one row of a data set to score; drawings of several",
    "shapes": "those of Amodal-VAE: drawn for training, compared in its losses",
}
"""Names of several modules, and why."""

# Distributions whose module goes by another name.
MODULE_OF = {"opencv-python-headless": "cv2", "pillow": "PIL", "psd-tools": "psd_tools", "scikit-image": "skimage"}


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@functools.cache
def imports_of(path):
    """Absolute names of the modules that a file imports anywhere in it; `from .a import b` gives both a and a.b."""
    return list(_imports_of(path))


def _imports_of(path):
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def part_of(module):
    """`amodal_diffusion.models.pcnet_mask` → `models`; "" for the package itself and for other packages."""
    parts = module.split(".")
    return parts[1] if parts[0] == PACKAGE.name and len(parts) > 1 and parts[1] in RANKS else ""


def place(path, node=None):
    """Where an offender is, for the lists that a failing rule shows."""
    return str(path.relative_to(ROOT)) + (f":{node.lineno}" if node is not None else "")


def test_imports_go_one_way():
    offenders = []
    for path in PACKAGE_SOURCES:
        importer = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if importer == "__init__":
            continue
        assert importer in RANKS, f"give {importer} a floor in FLOORS"
        for module in imports_of(path):
            imported = part_of(module)
            if (imported and RANKS[imported] > RANKS[importer]) or module.split(".")[0] in OUTSIDE:
                offenders.append(f"{place(path)} imports {module}, a higher floor")
    assert not offenders


def test_no_import_cycles():
    graph = {}
    for path in PACKAGE_SOURCES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        room = module.rpartition(".")[0]  # `from . import packed` takes a module from the room in which both stand
        graph[module] = set(imports_of(path)) - {module, room, PACKAGE.name}
    # The one local import of the package: `Scene.save` calls what is built on `Scene`.
    graph[f"{PACKAGE.name}.scene.scene"].remove(f"{PACKAGE.name}.scene.formats")
    free = True
    while graph and free:
        free = {module for module, imported in graph.items() if not imported & graph.keys()}
        graph = {module: imported for module, imported in graph.items() if module not in free}
    assert not graph, f"modules that import each other: {sorted(graph)}"


def faults(path):
    """What the package does nowhere: (node, words)."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Assert):
            yield node, "assert"
        elif isinstance(node, ast.ExceptHandler) and node.type is None:
            yield node, "bare except"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in {"print", "breakpoint", "pickle.load", "pickle.loads", "eval", "exec"}:
                yield node, f"{called}()"
            if called == "torch.load":
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                if keywords.get("weights_only") != "True":
                    yield node, "torch.load without weights_only=True"


def test_package_neither_prints_nor_asserts_nor_unpickles():
    assert not [f"{place(path, node)}: {what}" for path in PACKAGE_SOURCES for node, what in faults(path)]


def test_scripts_use_public_names():
    offenders = []
    for path in SOURCES:
        if path.relative_to(ROOT).parts[0] in ("demos", "training", "benchmarks"):
            modules = [module for module in imports_of(path) if module.startswith(PACKAGE.name)]
            private = [m for m in modules if any(re.match(r"_(?!_)", part) for part in m.split("."))]
            offenders += [f"{place(path)} imports {module}" for module in private]
    assert not offenders


def rooms():
    """Every folder of the package below its root."""
    return sorted({path.parent for path in PACKAGE_SOURCES} - {PACKAGE})


def test_the_root_is_a_door():
    modules = [path.stem for path in PACKAGE.glob("*.py")]
    assert not [name for name in modules if re.match(r"_(?!_)", name)], "what is private stands in a room"
    assert len(modules) <= MODULES_AT_THE_ROOT, f"{sorted(modules)}: find a room for one of them"


def test_rooms_can_be_overlooked():
    folders = {path.parent for path in SOURCES if path.relative_to(ROOT).parts[0] != "tests"}
    sizes = {place(folder): len(list(folder.glob("*.py"))) for folder in folders}
    assert not {name: size for name, size in sizes.items() if size > FILES_IN_A_ROOM}


def test_rooms_say_what_they_are():
    """A room's `__init__` has a docstring, and `__all__` for what others may use."""
    offenders = []
    for room in rooms():
        path = room / "__init__.py"
        if not path.is_file():
            offenders.append(f"{place(room)} has no __init__.py")
            continue
        assigned = {ast.unparse(target) for node in tree_of(path).body for target in getattr(node, "targets", ())}
        assigned |= {ast.unparse(node.target) for node in tree_of(path).body if isinstance(node, ast.AnnAssign)}
        if ast.get_docstring(tree_of(path)) is None:
            offenders.append(f"{place(path)} does not say what the room is")
        if not any("__all__" in targets for targets in assigned):
            offenders.append(f"{place(path)} does not say what others may use: no __all__")
    assert not offenders


def test_one_name_means_one_thing():
    """Two modules of one name are one subject seen from two rooms, as TWICE explains; others need another name."""
    seen = collections.Counter(path.stem for path in PACKAGE_SOURCES if path.stem != "__init__")
    assert {name for name, count in seen.items() if count > 1} <= TWICE.keys()


def test_plain_import_is_light():
    code = """
import sys
from diffusers import ConfigMixin, DiffusionPipeline, ModelMixin  # which import scipy where it is installed
before = set(sys.modules)
import amodal_diffusion
heavy = {"cv2", "matplotlib", "gradio", "skimage", "pandas", "scipy"}
print(",".join(sorted(heavy & ({name.split(".")[0] for name in set(sys.modules) - before}))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == ""


def test_public_names():
    names = {
        "AmodalPipeline",
        "AmodalPipelineOutput",
        "MaskModelOutput",
        "MaskPipeline",
        "PCNetMask",
        "PCNetMaskPipeline",
    }
    assert names <= set(amodal_diffusion.__all__)


def is_there(module, name):
    """Whether a module has the name, or is a room with a module of that name."""
    if hasattr(module, name):
        return True
    try:
        return bool(importlib.import_module(f"{module.__name__}.{name}"))
    except ModuleNotFoundError:
        return False


def test_every_all_is_true():
    """What a room says that it exports is there, once; the package's own list too."""
    offenders = []
    for path in PACKAGE_SOURCES:
        if path.name == "__init__.py":
            module = importlib.import_module(".".join(path.parent.relative_to(ROOT).parts))
            counts = collections.Counter(getattr(module, "__all__", []))
            offenders += [f"{module.__name__} has no {name}" for name in counts if not is_there(module, name)]
            offenders += [f"{module.__name__} lists {name} twice" for name, count in counts.items() if count > 1]
    assert not offenders


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def distributions(requirements):
    return {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in requirements}


def test_version_is_told_once(project):
    assert "version" in project["dynamic"]
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", amodal_diffusion.__version__)


def test_every_dependency_has_a_tested_version(project):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", pin) for pin in pins)  # no local versions, no index, no URL
    pinned = {pin.split("==")[0] for pin in pins}
    assert len(pinned) == len(pins)
    wanted = distributions(sum(project["optional-dependencies"].values(), project["dependencies"]))
    assert wanted <= pinned
    assert "torch==2.13.0" in pins


EXTRAS = {
    "amodal_diffusion": ("features", "fid", "interop", "onnx", "openvino", "ray", "rooms"),
    "demos": ("demo",),
    "training": ("train",),
    "benchmarks": ("demo", "train", "dev"),
    "tests": ("demo", "train", "features", "dev", "browser", "interop", "onnx", "openvino", "rooms"),
}
"""Which extras of pyproject.toml each folder may count on."""


def test_every_import_is_declared(project):
    ours = {*FOLDERS, *(part for path in SOURCES for part in path.relative_to(ROOT).with_suffix("").parts)}
    ours.add("pyarrow")  # datasets is made of it
    ours |= {"bpy", "comfy", "comfy_api", "folder_paths"}  # of Blender and ComfyUI, which run what imports them
    ours.add("torchvision")  # of those who have a Mask R-CNN: it has no build for a torch without CUDA
    offenders = []
    for folder, extras in EXTRAS.items():
        requirements = sum((project["optional-dependencies"][extra] for extra in extras), project["dependencies"])
        declared = {MODULE_OF.get(name, name.replace("-", "_")) for name in distributions(requirements)}
        for path in (ROOT / folder).rglob("*.py"):
            imported = {module.split(".")[0] for module in imports_of(path)}
            unknown = imported - declared - ours - sys.stdlib_module_names
            offenders += [f"{place(path)} imports {name}, which no dependency brings" for name in sorted(unknown)]
    assert not offenders


def test_no_machine_paths_in_the_repository():
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    machine = re.compile("|".join(["/" + "work/", "/home/" + r"\w", "/root" + "/", "://" + r"10\."]))
    offenders = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.suffix not in {".png", ".jpg", ".safetensors", ".npz", ".parquet", ".zip"} and path.is_file():
            offenders += [f"{name}: {found}" for found in machine.findall(path.read_text(encoding="utf-8"))]
    assert not offenders


@pytest.mark.slow
def test_wheel_holds_the_package_alone(tmp_path):
    source = tmp_path / "source"  # a copy: setuptools writes build/ beside pyproject.toml
    shutil.copytree(PACKAGE, source / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in OUTSIDE:
        (source / name).mkdir()
        (source / name / "stray.py").touch()
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, "."]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in held}
    assert {top for top in tops if not top.endswith(".dist-info")} == {PACKAGE.name}
    ours = [path for path in PACKAGE.rglob("*") if path.suffix in {".py", ".pyi"} or path.name == "py.typed"]
    assert {str(path.relative_to(ROOT)) for path in ours} <= set(held)
