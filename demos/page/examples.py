"""Photos with masks to begin with."""

import html
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from amodal_diffusion.io import ObjectMasks, load_example
from page.view.drawing import data_url
from page.work.files.photos import with_photo
from page.work.marks import add_marks
from page.work.session import History, PageError, Session
from woven import paint, ring, woven


@dataclass(frozen=True)
class Example:
    """A photo with masks: `load` gives both.

    Args:
        key: of the button.
        label: on it.
        about: what there is to see.
        load: gives photo and masks.
    """

    key: str
    label: str
    about: str
    load: Callable[[], tuple[Image.Image, ObjectMasks]]


def _photo_with_masks(name: str) -> tuple[Image.Image, ObjectMasks]:
    example = load_example(name)
    return example.image, ObjectMasks(example.masks, names=example.names)


def _woven() -> tuple[Image.Image, ObjectMasks]:
    modal, _ = woven(480, 720)
    return paint(modal), ObjectMasks(modal, names=["frame", "bar"])


def _ring() -> tuple[Image.Image, ObjectMasks]:
    modal, _ = ring(480, 720)
    return paint(modal), ObjectMasks(modal, names=["top", "left", "right"])


EXAMPLES = (
    Example("coffee", "Coffee", "A cup hides half of its saucer and of a spoon", lambda: _photo_with_masks("coffee")),
    Example(
        "astronaut",
        "Astronaut",
        "A helmet before a person, both before a flag",
        lambda: _photo_with_masks("astronaut"),
    ),
    Example("woven", "Woven", "Two objects that hide each other", _woven),
    Example("ring", "Ring", "Three bars, each over the next", _ring),
)


def examples_html() -> str:
    """Buttons with a small picture for each example."""
    buttons = []
    for example in EXAMPLES:
        photo, _ = example.load()
        photo.thumbnail((180, 180), Image.Resampling.LANCZOS)
        buttons.append(
            f'<button type="button" class="ad-example" data-key="{example.key}" '
            f'title="{html.escape(example.about)}">'
            f'<img alt="" src="{data_url(photo)}"><span>{html.escape(example.label)}</span></button>'
        )
    return f'<div class="ad-examples">{"".join(buttons)}</div>'


def open_example(session: Session, key: str) -> Session:
    example = next((example for example in EXAMPLES if example.key == key), None)
    if example is None:
        raise PageError("There is no such example.")
    photo, objects = example.load()
    fresh, _ = with_photo(session, photo, example.key)
    marked = add_marks(fresh, objects.masks, objects.names)
    # As if it had come with the photo: there is nothing to undo.
    return marked.step(marks=History(marked.marks.present))
