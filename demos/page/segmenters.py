"""What marks objects for a visitor: a segmenter that is built in, and the one that `--segmenter` names."""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amodal_diffusion import (
    AmodalPipeline,
    ClickSegmenterPipeline,
    GrabCutSegmenter,
    InteractiveSegmenter,
    PhotoEmbedding,
    Segmenter,
)
from amodal_diffusion.masks import mask_areas
from page.work.clicks import pointed_at, put_answer, read_click
from page.work.marks import add_marks
from page.work.session import PageError, Session

CLICKS_FOLDER = "click-segmenter"
MAX_EMBEDDINGS = 12
"""Photos whose embeddings are kept as long as a session has them; that which was clicked on longest ago is embedded
anew."""
MAX_TEXT = 80
ERASER_DILATION = 4
"""Pixels by which masks of the embedded segmenter grow where they hide others: it leaves gaps between neighbours."""


class Segmenters:
    """Calls are one at a time, and do not wait for the pipelines of the other steps.

    Args:
        embedded: takes clicks and boxes without any download; None where there is none.
        chosen: a model of transformers, which may take clicks or text, and finds all objects of a photo.
        name: of `chosen`, for the page.
    """

    def __init__(
        self, embedded: InteractiveSegmenter | None = None, chosen: Segmenter | None = None, name: str = ""
    ) -> None:
        self.embedded, self.chosen, self.name = embedded, chosen, name
        self._embeddings: OrderedDict[int, PhotoEmbedding] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def load(cls, folder: str | Path, segmenter: str | None = None, device: str = "cpu") -> "Segmenters":
        """The embedded one, and `segmenter`, a Hub id or a folder, or None.

        Raises:
            OSError, ValueError: where `segmenter` cannot be loaded.
        """
        chosen = Segmenter.from_pretrained(segmenter).to(torch.device(device)) if segmenter else None
        return cls(load_embedded(folder), chosen, Path(segmenter).name if segmenter else "")

    @property
    def clicker(self) -> InteractiveSegmenter | None:
        """The one that takes clicks: the chosen one where it does."""
        return self.chosen if self.chosen is not None and self.chosen.can_click else self.embedded

    @property
    def finds_all(self) -> bool:
        return self.chosen is not None and (self.chosen.pipeline is not None or self.chosen.can_click)

    @property
    def takes_text(self) -> bool:
        return self.chosen is not None and self.chosen.takes_text

    @property
    def eraser_dilation(self) -> int:
        """Of masks that a segmenter made, for the completion."""
        return ERASER_DILATION if self.chosen is None else self.chosen.eraser_dilation

    @property
    def about(self) -> str:
        """What is there, and what could be, for the page (Markdown)."""
        can, more = [], []
        if self.clicker is not None:
            here = "work here" if self.clicker is self.embedded else f"are answered by {self.name}"
            can.append(f"**Clicks and boxes** {here}.")
        if self.finds_all:
            can.append(f"**All objects at once** are found by {self.name}.")
        if self.takes_text:
            can.append(f"**Words** are understood by {self.name}.")
        more += ["answers clicks"] if self.clicker is None else []
        more += [] if self.finds_all else ["finds all objects at once"]
        more += [] if self.takes_text else ["looks for what you name"]
        more += ["draws finer outlines"] if self.clicker is not None and self.clicker is self.embedded else []
        if more:
            can.append(f"Whoever runs this page can add a model that {_list(more)}.")
        return " ".join(can)

    # What it does

    def embed(self, session: Session) -> None:
        """Look at the photo before the first click does."""
        if session.photo is not None and self.clicker is not None:
            with self._lock:
                self._embedding(session.photo, self.clicker)

    def click(self, session: Session, event: Mapping[str, Any]) -> Session:
        """The object that a click or a box means, new or refined."""
        if session.photo is None:
            raise PageError("Load a photo first.")
        if self.clicker is None:
            raise PageError("There is nothing here that takes clicks. Draw around the object instead.")
        there = pointed_at(session, event)
        if there is not None:
            return session.step(selected=there.id, notice=None)
        asked = read_click(session, event)
        with self._lock, torch.inference_mode():
            embedding = self._embedding(session.photo, self.clicker)
            mask = self.clicker.click(embedding, **asked.arguments())
        return put_answer(session, asked, mask)

    def find(self, session: Session, text: str | None = None) -> Session:
        """All objects, or those that a text names, beside those that are marked, which keep their pixels."""
        if session.photo is None:
            raise PageError("Load a photo first.")
        if self.chosen is None or not (self.finds_all if text is None else self.takes_text):
            raise PageError("Nothing here can do that. Click the objects, or draw around them.")
        words = {} if text is None else {"text": _words(text)}
        with self._lock, torch.inference_mode():
            found = self.chosen(session.photo, **words)
        if not len(found.masks):
            what = "no object" if text is None else f"nothing that it would call “{words['text']}”"
            raise PageError(f"The model found {what} in this photo. Mark the objects by hand instead.")
        # Large ones first: of a pixel that several claim the smallest has it.
        largest = np.argsort(-mask_areas(found.masks), kind="stable")
        names = [found.names[index] for index in largest]
        session = replace(session, notice=None)
        return add_marks(session, found.masks[largest], names, predicted=True, behind=True)

    def _embedding(self, photo: np.ndarray, clicker: InteractiveSegmenter) -> PhotoEmbedding:
        """Of a photo, made once for all its clicks. Sessions share their photo from step to step, so it is the key.

        It goes with the photo, when no session has that any more.
        """
        key = id(photo)  # which no other photo has as long as this one is there
        if key not in self._embeddings:
            embedding = clicker.embed(photo)
            weakref.finalize(photo, self._embeddings.pop, key, None)
            self._embeddings[key] = embedding
        self._embeddings.move_to_end(key)
        while len(self._embeddings) > MAX_EMBEDDINGS:
            self._embeddings.popitem(last=False)
        return self._embeddings[key]


def load_embedded(folder: str | Path) -> InteractiveSegmenter | None:
    """What works without a download: the shipped network, or colours alone where it is missing and OpenCV is there."""
    shipped = Path(folder) / CLICKS_FOLDER
    if (shipped / "model_index.json").is_file():
        pipe: ClickSegmenterPipeline = AmodalPipeline.from_pretrained(shipped)
        return pipe.prepare("cpu")
    return GrabCutSegmenter() if find_spec("cv2") else None


def _words(text: Any) -> str:
    words = " ".join(str(text).split())[:MAX_TEXT]
    if not words:
        raise PageError("Say what to look for, such as “cup”.")
    return words


def _list(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
