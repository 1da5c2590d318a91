"""What an editor knows of the package: the types of a user's script, and an install that type checkers can read."""

import json
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from repository_helpers import PACKAGE, ROOT

SCRIPT = """
import amodal_diffusion
from amodal_diffusion import AmodalPipeline, ContentPipeline, PCNetMask, PCNetMaskPipeline, Scene, ScenePipeline
from amodal_diffusion.data import read_annotations
from amodal_diffusion.masks import dilate
from amodal_diffusion.pipelines import list_pipelines

reveal_type(AmodalPipeline.from_pretrained("pipelines/pcnet-m"))  # MaskPipeline
pipe = PCNetMaskPipeline.from_pretrained("pipelines/pcnet-m", mask_threshold=0.3)
reveal_type(pipe)  # PCNetMaskPipeline
reveal_type(pipe.to("cpu"))  # PCNetMaskPipeline
reveal_type(PCNetMaskPipeline.from_pipe(pipe))  # PCNetMaskPipeline
reveal_type(pipe.model)  # PCNetMask
reveal_type(pipe(None, None))  # AmodalPipelineOutput
reveal_type(pipe(None, None).amodal_masks)  # ndarray[tuple[Any, ...], dtype[numpy.bool[builtins.bool]]]
reveal_type(AmodalPipeline.from_pretrained("pipelines/asbu")(None, None))  # AmodalPipelineOutput
reveal_type(AmodalPipeline.from_pipe(pipe))  # PCNetMaskPipeline
scenes: ScenePipeline = AmodalPipeline.from_pretrained("pipelines/deocclusion")
reveal_type(scenes(None))  # Scene
reveal_type(AmodalPipeline.from_pipe(scenes))  # ScenePipeline
contents: ContentPipeline = AmodalPipeline.from_pretrained("pipelines/pcnet-c")
number: int = AmodalPipeline.from_pretrained("pipelines/pcnet-m")  # error: int
pipe(None, None, output_typ="pt")  # error: output_typ
pipe(None, None).amodal_mask  # error: amodal_mask
reveal_type(ContentPipeline.from_pretrained("pipelines/pcnet-c"))  # ContentPipeline
reveal_type(ScenePipeline.from_pretrained("pipelines/deocclusion"))  # ScenePipeline
reveal_type(ScenePipeline.from_pretrained("pipelines/deocclusion")(None))  # Scene
reveal_type(Scene.load("scene.ora"))  # Scene
reveal_type(PCNetMask())  # PCNetMask
reveal_type(list_pipelines())  # list[str]
reveal_type(amodal_diffusion.__version__)  # str
pipe.enable_model_cpu_ofload()  # error: enable_model_cpu_ofload
pipe.from_pretraind("pipelines/pcnet-m")  # error: from_pretraind
AmodalPipeline.from_pretraned("pipelines/pcnet-m")  # error: from_pretraned
from amodal_diffusion import PCNetMaskPipelin  # error: PCNetMaskPipelin
from amodal_diffusion.masks import dilat  # error: dilat
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What pyright says of each line of the script: [(severity, message), ...]."""
    pytest.importorskip("basedpyright")
    folder = tmp_path_factory.mktemp("types")
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    settings = {"typeCheckingMode": "standard", "extraPaths": [str(ROOT)]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    code = "import sys; from basedpyright.pyright import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "--outputjson", "--pythonpath", sys.executable, "script.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    found = {}
    for item in json.loads(done.stdout)["generalDiagnostics"]:
        found.setdefault(item["range"]["start"]["line"], []).append((item["severity"], item["message"]))
    return found


LINES = [(number, *line.split("  # ")) for number, line in enumerate(SCRIPT.splitlines()) if "  # " in line]


@pytest.mark.parametrize(("number", "line", "wanted"), LINES, ids=[line for _, line, _ in LINES])
def test_types_of_a_user_s_script(said, number, line, wanted):
    here = said.get(number, [])
    if wanted.startswith("error: "):
        assert [severity for severity, _ in here] == ["error"] and wanted.removeprefix("error: ") in here[0][1]
    else:
        ((severity, message),) = here
        assert severity == "information" and re.search(r'is "(.*)"$', message)[1] == wanted


def test_nothing_else_is_wrong_with_the_script(said):
    expected = {number for number, _, _ in LINES}
    assert {number: items for number, items in said.items() if number not in expected} == {}


def test_an_editable_install_is_a_plain_path_file(tmp_path):
    """Type checkers read path files; the finders that setuptools writes otherwise they cannot."""
    source = tmp_path / "source"
    (source / PACKAGE.name).mkdir(parents=True)
    for name in ("__init__.py", "__init__.pyi", "py.typed"):
        shutil.copy(PACKAGE / name, source / PACKAGE.name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("training", "pipelines"):
        (source / name).mkdir()
    code = "import sys; from setuptools import build_meta; build_meta.build_editable(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = [name for name in archive.namelist() if ".dist-info/" not in name]
        assert len(files) == 1 and files[0].endswith(".pth")
        assert archive.read(files[0]).decode().split() == [str(source)]
