"""Files to take home."""

import secrets
import shutil
import tempfile
import zipfile
from pathlib import Path

from amodal_diffusion import Scene
from page.work.session import PageError

EXPORTS = {
    "png": ("Picture (.png)", "edited", ".png"),
    "folder": ("Layers as PNG files + scene.json (.zip)", "layers", ".zip"),
    "ora": ("OpenRaster: GIMP, Krita, MyPaint (.ora)", "layers", ".ora"),
    "psd": ("Photoshop (.psd)", "layers", ".psd"),
    "json": ("For data sets: COCO JSON with layers (.zip)", "coco", ".zip"),
}
"""Label, what a file's name says that it holds, and its suffix."""


def export(scene: Scene, title: str, kind: str, folder: str | Path | None = None, note: str = "") -> Path:
    """Write a scene into a fresh folder: one file, a zip where the format has several.

    Args:
        scene: to write.
        title: of the photo, with which the file's name begins.
        kind: key of `EXPORTS`.
        folder: that the fresh folder lies in; None takes the system's for temporary files.
        note: what the name says further, such as that it is a preview; "" for nothing.
    """
    if kind not in EXPORTS:
        raise PageError("There is no such format.")
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f"amodal-{secrets.token_hex(16)}-", dir=folder))
    _, holds, suffix = EXPORTS[kind]
    photo = "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in title).strip("-")[:60]
    stem = "-".join(filter(None, (photo or "scene", holds, note)))
    path = place / f"{stem}{suffix}"
    if kind == "png":
        scene.render().save(path)
    elif kind in ("ora", "psd"):
        scene.save(path)
    else:
        inner = place / "files"
        inner.mkdir()
        scene.save(inner / stem if kind == "folder" else inner / f"{stem}.json")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(inner.rglob("*")):
                if file.is_file():
                    packed = zipfile.ZIP_STORED if file.suffix in (".png", ".tif") else zipfile.ZIP_DEFLATED
                    archive.write(file, file.relative_to(inner), packed)
        shutil.rmtree(inner)
    return path
