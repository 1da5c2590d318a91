"""Files to take home."""

import secrets
import tempfile
import zipfile
from pathlib import Path

from page.work.edits import current_scene
from page.work.session import PageError, Session

EXPORTS = {
    "png": ("Picture as it is now (.png)", ".png"),
    "folder": ("Layers as PNG files + scene.json (.zip)", ".zip"),
    "ora": ("OpenRaster: GIMP, Krita, MyPaint (.ora)", ".ora"),
    "psd": ("Photoshop (.psd)", ".psd"),
    "json": ("COCO amodal JSON + layers (.zip)", ".zip"),
}


def export(session: Session, kind: str, folder: str | Path | None = None) -> Path:
    """Write the scene into a fresh folder: one file, a zip where the format has several.

    Args:
        session: with a scene.
        kind: key of `EXPORTS`.
        folder: that the fresh folder lies in; None takes the system's for temporary files.
    """
    scene = current_scene(session)
    if kind not in EXPORTS:
        raise PageError("There is no such format.")
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f"amodal-{secrets.token_hex(16)}-", dir=folder))
    stem = "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in session.title).strip("-") or "scene"
    path = place / f"{stem[:60]}{EXPORTS[kind][1]}"
    if kind == "png":
        scene.render().save(path)
    elif kind in ("ora", "psd"):
        scene.save(path)
    else:
        inner = place / "layers"
        inner.mkdir()
        scene.save(inner / stem[:60] if kind == "folder" else inner / f"{stem[:60]}.json")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(inner.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(inner))
    return path
