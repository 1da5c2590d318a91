"""The scripts, styles and markup of the page."""

from pathlib import Path

FOLDER = Path(__file__).parent
SCRIPTS = {
    "stage": (
        "state", "zoom", "drawing", "marking", "toolbar", "objects", "pointer", "cross", "keyboard",
        "dropping", "compare", "start",
    ),
    "panel": ("parts", "naming", "row", "stacking", "details", "list"),
}  # fmt: skip
"""The files of a script, in the order in which they run as one; functions are known in all of them from the start."""
STYLES = ("page", "stage", "marking", "panel", "work", "phone")
"""The later ones win."""


def read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def script(name: str) -> str:
    """What runs when a part of the page is there, for `js_on_load` of `gr.HTML`."""
    return "\n".join([read("shared.js"), *(read(f"{name}/{file}.js") for file in SCRIPTS[name])])


def style() -> str:
    return "\n".join(read(f"style/{file}.css") for file in STYLES)
