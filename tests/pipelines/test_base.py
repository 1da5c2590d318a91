"""Saved pipelines: what is written, and that it loads here, in a fresh process, from the Hub, by diffusers itself."""

import builtins
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from amodal_diffusion import AmodalPipeline, ASBUPipeline, MaskPipeline, PCNetMask, PCNetMaskPipeline, __version__
from amodal_diffusion.hub import resolve_subfolder, write_pipeline_file
from fresh_process import run_fresh
from kill_helpers import tree
from pipeline_helpers import stacked_bars, tiny_model, tiny_pipeline
from repository_helpers import ROOT

SETTINGS = {
    "order_threshold": 0.15,
    "mask_threshold": 0.25,
    "enlarge_box": 2.5,
    "crop": "mixed",
    "paste": "binary",
    "keep_modal": False,
    "confine_to_occluders": True,
    "test_time_flip": True,
    "order_rule": "probability",
    "occluder_rule": "consistent",
    "calibration_slope": 0.9,
    "calibration_offset": 0.1,
}


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline(tiny_model(), **SETTINGS)


@pytest.fixture(scope="module")
def saved(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "pcnet-m"
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def expected(pipeline):
    return pipeline(None, stacked_bars()[0]).amodal_masks


def check(pipeline, expected):
    assert type(pipeline) is PCNetMaskPipeline and type(pipeline.model) is PCNetMask
    assert not pipeline.model.training
    pipeline.set_progress_bar_config(disable=True)
    np.testing.assert_array_equal(pipeline(None, stacked_bars()[0]).amodal_masks, expected)


def test_files(saved):
    files = sorted(path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file())
    weights = ["model/config.json", "model/diffusion_pytorch_model.safetensors"]
    assert files == [*weights, "model_index.json", "pipeline.py"]
    assert (saved / "pipeline.py").read_text() == "from amodal_diffusion import PCNetMaskPipeline  # noqa: F401\n"


def test_index(saved):
    index = json.loads((saved / "model_index.json").read_text())
    assert index.pop("_diffusers_version")
    assert index.pop("_class_name") == ["pipeline", "PCNetMaskPipeline"]  # for plain diffusers
    assert index == {"model": ["amodal_diffusion", "PCNetMask"], **SETTINGS}


def test_local_folder(saved, expected):
    for loader in (AmodalPipeline, PCNetMaskPipeline):
        loaded = loader.from_pretrained(saved)
        check(loaded, expected)
        assert {name: loaded.config[name] for name in SETTINGS} == SETTINGS


def test_settings_and_components_can_be_replaced(saved):
    model = tiny_model()
    loaded = AmodalPipeline.from_pretrained(saved, mask_threshold=0.4, model=model)
    assert loaded.config.mask_threshold == 0.4 and loaded.model is model


def test_settings_survive_a_second_save(saved, expected, tmp_path):
    AmodalPipeline.from_pretrained(saved).save_pretrained(tmp_path)
    check(AmodalPipeline.from_pretrained(tmp_path), expected)
    assert json.loads((tmp_path / "model_index.json").read_text())["mask_threshold"] == 0.25


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dtype(saved, dtype):
    loaded = AmodalPipeline.from_pretrained(saved, dtype=dtype)
    assert loaded.dtype == dtype
    loaded.set_progress_bar_config(disable=True)
    assert loaded(None, stacked_bars()[0]).probabilities.dtype == np.float32


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("dtype", ["float16", 16, np.float16])
def test_a_dtype_that_is_none_is_refused(saved, name, dtype):
    """Of which diffusers makes float32, with a line in the log."""
    for load in (PCNetMaskPipeline.from_pretrained, AmodalPipeline.from_pretrained):
        with pytest.raises(TypeError, match=f"^`{name}` must be a torch.dtype, or a dictionary of them, got"):
            load(saved, **{name: dtype})


@pytest.mark.parametrize("folder", ["", None, 5, b"x", "a\0b"])
def test_pipelines_are_saved_into_named_folders(pipeline, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((TypeError, ValueError), match="^`save_directory` must be a path, got "):
        pipeline.save_pretrained(folder)
    assert not list(tmp_path.iterdir())


def test_variant(pipeline, expected, tmp_path):
    pipeline.save_pretrained(tmp_path, variant="ema")
    check(AmodalPipeline.from_pretrained(tmp_path, variant="ema"), expected)


def test_fresh_process_and_plain_diffusers(saved, expected, tmp_path):
    """diffusers alone first, when nothing of ours is imported yet; then our own entry point."""
    np.savez(tmp_path / "scene.npz", modal=stacked_bars()[0], expected=expected)
    code = """
import sys
import numpy as np
from diffusers import DiffusionPipeline
folder, scene = sys.argv[1], np.load(sys.argv[2])
by_diffusers = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
from amodal_diffusion import AmodalPipeline, PCNetMaskPipeline
for pipeline in (by_diffusers, AmodalPipeline.from_pretrained(folder)):
    assert type(pipeline) is PCNetMaskPipeline
    np.testing.assert_array_equal(pipeline(None, scene["modal"]).amodal_masks, scene["expected"])
print("loaded twice")
"""
    assert "loaded twice" in run_fresh(code, saved, tmp_path / "scene.npz", folder=tmp_path)


def test_plain_diffusers_downloads_from_the_hub_after_a_bare_import(saved, tmp_path):
    """The lazy package is registered with diffusers although it has imported nothing when diffusers is."""
    code = """
import sys
import amodal_diffusion
assert "torch" not in sys.modules and "diffusers" not in sys.modules
from pathlib import Path
from types import SimpleNamespace
from diffusers import DiffusionPipeline
import diffusers.pipelines.pipeline_utils as utils
folder = Path(sys.argv[1])
names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
utils.model_info = lambda *_, **__: SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])
utils.hf_hub_download = lambda repo_id, name, **_: str(folder / name)
utils._resolve_revision = lambda *_, **__: None
import diffusers.utils.dynamic_modules_utils as dynamic
dynamic.hf_hub_download = lambda repo_id, name, **_: str(folder / name)
dynamic.model_info = lambda *_, **__: SimpleNamespace(sha="0" * 40)
pipeline = DiffusionPipeline.from_pretrained("org/name", trust_remote_code=True)
print(type(pipeline).__name__, type(pipeline).__module__)
"""
    environment = {"HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, saved]  # not `run_fresh`, which has imported diffusers
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["PCNetMaskPipeline", "amodal_diffusion.pipelines.completion.pcnet_mask"]


def test_a_user_s_pipeline_of_our_networks_saves_their_library(tmp_path):
    """Registration does not wait for one of our pipelines."""
    code = """
import json, sys
from diffusers import DiffusionPipeline
from amodal_diffusion.models import PCNetMask
class Mine(DiffusionPipeline):
    def __init__(self, model):
        super().__init__()
        self.register_modules(model=model)
Mine(PCNetMask(block_out_channels=(4, 8), sample_size=32)).save_pretrained(sys.argv[1])
print(json.loads(open(sys.argv[1] + "/model_index.json").read())["model"])
"""
    assert "['amodal_diffusion', 'PCNetMask']\n" in run_fresh(code, tmp_path / "mine", folder=tmp_path)


def test_the_index_is_read_once(saved, monkeypatch):
    seen = []

    def spy(read):
        return lambda file, *args, **options: (seen.append(Path(str(file)).name), read(file, *args, **options))[1]

    for place, name in ((Path, "read_text"), (Path, "read_bytes"), (builtins, "open")):
        monkeypatch.setattr(place, name, spy(getattr(place, name)))
    AmodalPipeline.from_pretrained(saved)
    assert seen.count("model_index.json") == 1


def test_a_subclass_of_another_package_names_its_own_module(tmp_path):
    code = """
import sys
from amodal_diffusion import AmodalPipeline, PCNetMask, PCNetMaskPipeline
from amodal_diffusion.pipelines import list_pipelines, register_pipeline
@register_pipeline
class MinePipeline(PCNetMaskPipeline):
    pass
MinePipeline(PCNetMask(block_out_channels=(4, 8), sample_size=32)).save_pretrained(sys.argv[1])
print(open(sys.argv[1] + "/pipeline.py").read().split("#")[0])
print(type(AmodalPipeline.from_pretrained(sys.argv[1])).__name__, "MinePipeline" in list_pipelines())
"""
    printed = run_fresh(code, tmp_path / "mine", folder=tmp_path)
    assert "from __main__ import MinePipeline" in printed and "MinePipeline True\n" in printed


def test_wrong_class_says_which_one_the_folder_holds(saved):
    message = "holds `PCNetMaskPipeline`, not `ASBUPipeline`: load it by `PCNetMaskPipeline.from_pretrained`"
    with pytest.raises(ValueError, match=message):
        ASBUPipeline.from_pretrained(saved)


def test_both_forms_of_the_index_load(saved, expected, tmp_path):
    shutil.copytree(saved, tmp_path / "old")
    index = json.loads((saved / "model_index.json").read_text())
    (tmp_path / "old" / "model_index.json").write_text(json.dumps({**index, "_class_name": "PCNetMaskPipeline"}))
    for loader in (AmodalPipeline, PCNetMaskPipeline):
        check(loader.from_pretrained(tmp_path / "old"), expected)


def test_from_pipe_shares_the_components(pipeline):
    for loader in (AmodalPipeline, PCNetMaskPipeline):
        other = loader.from_pipe(pipeline, mask_threshold=0.4)
        assert type(other) is PCNetMaskPipeline and other.model is pipeline.model
        assert {name: other.config[name] for name in SETTINGS} == {**SETTINGS, "mask_threshold": 0.4}
    with pytest.raises(TypeError, match="`pipeline` must be of ASBUPipeline, got PCNetMaskPipeline"):
        ASBUPipeline.from_pipe(pipeline)
    with pytest.raises(TypeError, match="must be a pipeline of amodal_diffusion, got str"):
        AmodalPipeline.from_pipe("pcnet-m")


# The Hub


@pytest.mark.parametrize("loader", [AmodalPipeline, PCNetMaskPipeline])
def test_download_from_the_hub(loader, hub, saved, expected):
    hub.fill(saved)
    (hub.repository / "model" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    loaded = loader.from_pretrained("org/name", revision="v1", token="hf_x", cache_dir="somewhere")
    check(loaded, expected)
    assert not (hub.cache / "model" / "diffusion_pytorch_model.bin").exists()
    assert all(options["revision"] == "v1" and options["token"] == "hf_x" for _, options in hub.calls)
    assert all(options["cache_dir"] == "somewhere" for _, options in hub.calls)


def test_download_of_a_subfolder(hub, saved, expected):
    hub.fill(saved, "pipelines/pcnet-m")
    hub.fill(saved, "pipelines/other")
    (hub.repository / "pipelines" / "pcnet-m" / "model" / "old.bin").write_bytes(b"a pickle")
    check(AmodalPipeline.from_pretrained("org/name", subfolder="pipelines/pcnet-m", revision="v1"), expected)
    assert hub.calls == [("snapshot", {"revision": "v1"})]
    assert not (hub.cache / "pipelines" / "other").exists()
    assert not list(hub.cache.rglob("*.bin"))


def test_local_subfolder(saved, expected):
    check(AmodalPipeline.from_pretrained(saved.parent, subfolder="pcnet-m"), expected)
    check(PCNetMaskPipeline.from_pretrained(saved.parent, subfolder="pcnet-m"), expected)


@pytest.mark.parametrize("subfolder", ["../other", "/etc", "a/../../b", ""])
def test_subfolder_stays_inside(subfolder, tmp_path):
    with pytest.raises(ValueError, match="`subfolder` must be a relative path inside"):
        resolve_subfolder(tmp_path, subfolder)


def test_library_that_is_not_registered_would_be_refused(hub, saved, monkeypatch):
    """What the entry in LOADABLE_CLASSES is for: without it diffusers refuses the same repository."""
    from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES

    hub.fill(saved)
    monkeypatch.delitem(LOADABLE_CLASSES, "amodal_diffusion")
    with pytest.raises(ValueError, match="amodal_diffusion.py as defined in `model_index.json` does not exist"):
        PCNetMaskPipeline.from_pretrained("org/name")


@pytest.mark.parametrize("way", ["push_to_hub", "save_pretrained"])
def test_push_to_hub_publishes_the_whole_folder(way, pipeline, tmp_path, monkeypatch):
    pushed = {}

    def upload_folder(*, folder_path, repo_id, **options):
        pushed.update(
            repo_id=repo_id, files=sorted(p.relative_to(folder_path).as_posix() for p in Path(folder_path).rglob("*"))
        )
        return SimpleNamespace(commit_url="")

    for module in ("diffusers.utils.hub_utils", "diffusers.pipelines.pipeline_utils"):
        monkeypatch.setattr(f"{module}.create_repo", lambda name, **_: SimpleNamespace(repo_id=name))
    monkeypatch.setattr("diffusers.utils.hub_utils.upload_folder", upload_folder)
    monkeypatch.setattr("diffusers.utils.hub_utils.ModelCard.load", _no_card)
    if way == "push_to_hub":
        pipeline.push_to_hub("org/name")
    else:
        pipeline.save_pretrained(tmp_path / "out", push_to_hub=True, repo_id="org/name")
    assert pushed["repo_id"] == "org/name"
    assert {"model_index.json", "pipeline.py", "model/diffusion_pytorch_model.safetensors"} <= set(pushed["files"])


def _no_card(*_, **__):
    from huggingface_hub.errors import EntryNotFoundError

    raise EntryNotFoundError("no card")


# What is refused


def test_pickled_weights_are_never_read(saved, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(saved, folder)
    (folder / "model" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(tiny_model().state_dict(), folder / "model" / "diffusion_pytorch_model.bin")
    for loader in (AmodalPipeline, PCNetMaskPipeline):
        with pytest.raises(OSError, match="safetensors"):
            loader.from_pretrained(folder)


def test_safetensors_cannot_be_switched_off(saved, pipeline, tmp_path):
    with pytest.raises(ValueError, match="`use_safetensors` must be True"):
        AmodalPipeline.from_pretrained(saved, use_safetensors=False)
    with pytest.raises(ValueError, match="`safe_serialization` must be True"):
        pipeline.save_pretrained(tmp_path / "out", safe_serialization=False)
    assert not (tmp_path / "out").exists()


def test_saving_into_a_folder_without_a_pipeline_loses_nothing(pipeline, tmp_path):
    (tmp_path / "model").mkdir()
    for name in ("model/notes.txt", "pipeline.py"):
        (tmp_path / name).write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(FileExistsError, match="holds other files, such as 'pipeline.py'; choose a new folder"):
        pipeline.save_pretrained(tmp_path)
    assert tree(tmp_path) == before
    (tmp_path / "pipeline.py").unlink()
    write_pipeline_file(tmp_path, "ASBUPipeline")  # as of a save that was killed
    pipeline.save_pretrained(tmp_path)
    assert (tmp_path / "model" / "notes.txt").read_text() == "mine"
    assert type(pipeline).from_pretrained(tmp_path).settings == pipeline.settings


def test_save_onto_a_file(pipeline, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="`save_directory` must be a folder.*file"):
        pipeline.save_pretrained(tmp_path / "file")


def test_settings_of_a_folder_are_checked(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    index = json.loads((saved / "model_index.json").read_text())
    (tmp_path / "copy" / "model_index.json").write_text(json.dumps({**index, "mask_threshold": 7}))
    with pytest.raises(ValueError, match=r"`mask_threshold` must lie in \[0, 1\), got 7"):
        AmodalPipeline.from_pretrained(tmp_path / "copy")


def test_pipeline_file_needs_a_class_name(tmp_path):
    with pytest.raises(ValueError, match="`class_name` must be a Python identifier, got 'a; b'"):
        write_pipeline_file(tmp_path, "a; b")
    assert list(tmp_path.iterdir()) == []


def test_package_says_its_version():
    assert __version__ == "0.1.0"
    assert issubclass(PCNetMaskPipeline, MaskPipeline)
