"""Scenes that Krita and GIMP opened and saved again, without a hand on them; where the programs are installed."""

import dataclasses
import os
import shutil
import subprocess

import numpy as np
import pytest

from amodal_diffusion.display import plain_name
from amodal_diffusion.scene import Scene
from amodal_diffusion.scene.formats.layer_stack import scene_of, stack_of
from scene_format_helpers import edited_scenes

pytestmark = [pytest.mark.editors, pytest.mark.slow]
CASES = ["shadows", "outside"]
SCENES = {case: edited_scenes()[case].rename(0, "thing") for case in CASES}  # programs name what has no name
GIMP_SAVES = {  # by GIMP's first number
    2: """
(define (again in out)
  (let* ((image (car (gimp-file-load RUN-NONINTERACTIVE in in))))
    (gimp-file-save RUN-NONINTERACTIVE image (car (gimp-image-get-active-drawable image)) out out)
    (gimp-image-delete image)))
""",
    3: """
(define (again in out)
  (let* ((image (car (gimp-file-load RUN-NONINTERACTIVE in))))
    (gimp-file-save RUN-NONINTERACTIVE image out)
    (gimp-image-delete image)))
""",
}


def run(command, home):
    """A program's first start fills its folder in `home`, which takes longest."""
    environment = {**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(home), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, env=environment, timeout=900, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def saved_by(program, suffix, folder, home):
    """Each case, saved by us and again by the program; GIMP saves an .ora as .psd, see docs/editors.md."""
    if shutil.which("gimp-console" if program == "gimp" else program) is None:
        pytest.skip(f"{program} is not installed")
    saves = "psd" if program == "gimp" else suffix
    paths = {case: (folder / f"{case}.{suffix}", folder / f"{case}-{program}.{saves}") for case in CASES}
    for case, (path, _) in paths.items():
        SCENES[case].save(path)
    if program == "krita":
        if shutil.which("xvfb-run") is None:
            pytest.skip("krita needs a screen: xvfb-run is not installed")
        for path, again in paths.values():
            run(["xvfb-run", "-a", "krita", "--export", "--export-filename", again, path], home)
    else:
        version = int(run(["gimp-console", "--version"], home).split()[-1].split(".")[0])
        if suffix == "ora" and version < 3:
            pytest.skip("Debian's GIMP 2 comes without the plug-in for .ora")
        calls = "".join(f'(again "{path}" "{again}")' for path, again in paths.values())
        script = f"(begin {GIMP_SAVES[version]}{calls}(gimp-quit 0))"
        run(["gimp-console", "-i", "-d", "-f", "--batch-interpreter=plug-in-script-fu-eval", "-b", script], home)
    return {case: again for case, (_, again) in paths.items()}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(
    scope="module", params=[("krita", "ora"), ("krita", "psd"), ("gimp", "ora"), ("gimp", "psd")], ids="-".join
)
def again(request, tmp_path_factory, home):
    program, suffix = request.param
    return program, suffix, saved_by(program, suffix, tmp_path_factory.mktemp(f"{program}-{suffix}"), home)


def plain_stack(scene, suffix):
    """What a program is shown of a scene, as we read it from a file that holds nothing else."""
    limit = 127 if suffix == "psd" else 255
    pictures = stack_of(scene, scene.render(output_type="np"))
    named = [dataclasses.replace(picture, name=plain_name(picture.name, limit)) for picture in pictures]
    return scene_of(named, *scene.size)


@pytest.mark.parametrize("case", CASES)
def test_layers_come_back(again, case):
    program, suffix, paths = again
    found = Scene.load(paths[case])
    if (program, suffix) == ("krita", "psd"):  # which keeps what it does not know
        assert found.equals(SCENES[case])
        return
    expected = plain_stack(SCENES[case], paths[case].suffix[1:])
    assert [layer.name for layer in found.layers] == [layer.name for layer in expected.layers]
    np.testing.assert_array_equal(found.render(output_type="np"), expected.render(output_type="np"))
    np.testing.assert_array_equal(found.background, expected.background)
    np.testing.assert_array_equal(found.order, expected.order)
    for index in range(len(expected)):
        mine, theirs = (scene.layer_image(index, output_type="np") for scene in (expected, found))
        shown = mine[..., 3:] > 0  # nobody keeps the colour of what is not shown
        np.testing.assert_array_equal(theirs * shown, mine * shown)
        np.testing.assert_array_equal(theirs[..., 3], mine[..., 3])
