"""Rules on the source itself: who imports whom, and what a user never meets."""

import ast
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
    ("display", "files", "hub", "masks"),
    ("crops", "images"),
    ("ordering",),
    ("metrics", "visualization", "models", "data"),
    ("baselines", "losses", "io", "scene"),
    ("pipelines",),
    ("conversion", "evaluation"),
    ("annotation", "interop"),
    ("cli",),
)
RANKS = {name: rank for rank, floor in enumerate(FLOORS) for name in floor}
OUTSIDE = ("training", "demos", "benchmarks", "pipelines", "tests")
# Distributions whose module goes by another name.
MODULE_OF = {"opencv-python-headless": "cv2", "pillow": "PIL", "psd-tools": "psd_tools", "scikit-image": "skimage"}


def names(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports_of(path):
    """Absolute names of the modules that a file imports anywhere in it; `from .a import b` gives both a and a.b."""
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


@pytest.mark.parametrize("path", PACKAGE_SOURCES, ids=names(PACKAGE_SOURCES))
def test_imports_go_one_way(path):
    importer = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if importer == "__init__":
        return
    assert importer in RANKS, f"give {importer} a floor in FLOORS"
    for module in imports_of(path):
        imported = part_of(module)
        if imported:
            assert RANKS[imported] <= RANKS[importer], f"{importer} imports {imported}, a higher floor"
        assert module.split(".")[0] not in OUTSIDE, f"the package imports {module}"


def test_no_import_cycles():
    graph = {}
    for path in PACKAGE_SOURCES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        room = module.rpartition(".")[0]  # `from . import packed` takes a module from the room in which both stand
        graph[module] = set(imports_of(path)) - {module, room, PACKAGE.name}
    free = True
    while graph and free:
        free = {module for module, imported in graph.items() if not imported & graph.keys()}
        graph = {module: imported for module, imported in graph.items() if module not in free}
    assert not graph, f"modules that import each other: {sorted(graph)}"


@pytest.mark.parametrize("path", PACKAGE_SOURCES, ids=names(PACKAGE_SOURCES))
def test_package_neither_prints_nor_asserts_nor_unpickles(path):
    for node in ast.walk(tree_of(path)):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: assert"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: bare except"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in {"print", "breakpoint", "pickle.load", "pickle.loads", "eval", "exec"}, f"{called} called"
        if called == "torch.load":
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert keywords.get("weights_only") == "True", f"line {node.lineno}: torch.load without weights_only=True"


@pytest.mark.parametrize("folder", ["demos", "training", "benchmarks"])
def test_scripts_use_public_names(folder):
    for path in (ROOT / folder).rglob("*.py"):
        for module in imports_of(path):
            if module.startswith(PACKAGE.name):
                private = [part for part in module.split(".") if re.match(r"_(?!_)", part)]
                assert not private, f"{path.name} imports {module}"


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


@pytest.mark.parametrize(
    "name",
    ["AmodalPipeline", "AmodalPipelineOutput", "MaskModelOutput", "MaskPipeline", "PCNetMask", "PCNetMaskPipeline"],
)
def test_public_names(name):
    assert name in amodal_diffusion.__all__
    assert hasattr(amodal_diffusion, name)


def test_all_is_true():
    for name in amodal_diffusion.__all__:
        assert hasattr(amodal_diffusion, name), f"__all__ names {name}, which is not there"


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


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("amodal_diffusion", ()),
        ("demos", ("demo",)),
        ("training", ("train",)),
        ("benchmarks", ("demo", "train", "dev")),
        ("tests", ("demo", "train", "dev", "browser")),
    ],
)
def test_every_import_is_declared(project, folder, extras):
    requirements = sum((project["optional-dependencies"][extra] for extra in extras), project["dependencies"])
    declared = {MODULE_OF.get(name, name.replace("-", "_")) for name in distributions(requirements)}
    ours = {*FOLDERS, *(part for path in SOURCES for part in path.relative_to(ROOT).with_suffix("").parts)}
    ours.update(path.name for path in (ROOT / "tests").iterdir())
    ours.update({"pyarrow", "parity"})  # datasets is made of the one; the other lies beside the shared parity files
    for path in (ROOT / folder).rglob("*.py"):
        imported = {module.split(".")[0] for module in imports_of(path)}
        unknown = imported - declared - ours - sys.stdlib_module_names
        assert not unknown, f"{path.relative_to(ROOT)} imports {sorted(unknown)}, which no dependency brings"


def test_no_machine_paths_in_the_repository():
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    machine = re.compile("|".join(["/" + "work/", "/home/" + r"\w", "/root" + "/", "://" + r"10\."]))
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.suffix in {".png", ".jpg", ".safetensors", ".npz"} or not path.is_file():
            continue
        found = machine.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{name} holds {found[0]!r}"


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
    ours = [path for path in PACKAGE.rglob("*") if path.suffix == ".py" or path.name == "py.typed"]
    assert {str(path.relative_to(ROOT)) for path in ours} <= set(held)
