"""Files that visitors take home."""

import dataclasses
import zipfile

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion import Scene
from demo_helpers import edit
from page.work.files import EXPORTS, export
from page.work.session import PageError


@pytest.mark.parametrize("kind", EXPORTS)
def test_exports_read_back(tmp_path, edited, kind):
    session = dataclasses.replace(edit(edited, "move", id=1, dx=9, dy=4), title="../my photo?")
    scene = session.scene.present
    path = export(session, kind, tmp_path)
    assert path.name == "my-photo" + EXPORTS[kind][1] and tmp_path in path.parents
    if kind == "png":
        assert (np.asarray(Image.open(path)) == scene.render(output_type="np")).all()
        return
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "out")
        path = tmp_path / "out" / ("my-photo.json" if kind == "json" else "my-photo")
    assert Scene.load(path).equals(scene)


def test_export_needs_a_scene_and_a_known_format(blank, edited):
    with pytest.raises(PageError, match="Complete the objects first"):
        export(blank, "png")
    with pytest.raises(PageError, match="no such format"):
        export(edited, "exe")
