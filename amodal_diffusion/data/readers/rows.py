"""From the rows that a reader yields to a data set of `datasets`: Arrow files in a temporary folder, or a stream."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..schema import amodal_features
from .records import AnnotationError

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

_temporary_folders: list[tempfile.TemporaryDirectory[str]] = []


def dataset_from_rows(
    rows: Iterable[dict[str, Any]], *, with_image: bool = False, cache_dir: str | os.PathLike[str] | None = None
) -> Dataset:
    """Write rows of the schema to Arrow files, batch by batch, and return them as a data set.

    Args:
        rows: rows as `iter_coco` gives them.
        with_image: the rows have the path of their photo under `image`.
        cache_dir: folder for the Arrow files; None uses a temporary one, removed when the process ends.

    Raises:
        AnnotationError: raised while reading `rows`.
        OSError: raised while reading `rows`, such as a missing folder of photos.

    Example:
        >>> from amodal_diffusion.data import iter_coco
        >>> content = {"images": [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 6}], "annotations": []}
        >>> dataset_from_rows(iter_coco(content)).num_rows
        1
    """
    from datasets import Dataset
    from datasets.exceptions import DatasetGenerationError

    features = amodal_features(with_image=with_image)
    stream = iter(rows)
    first = next(stream, None)
    if first is None:  # from_generator fails without rows
        return Dataset.from_dict({column: [] for column in features}, features=features)
    if cache_dir is None:
        folder = tempfile.TemporaryDirectory(prefix="amodal_diffusion-", ignore_cleanup_errors=True)
        _temporary_folders.append(folder)
        cache_dir = folder.name
    try:
        return Dataset.from_generator(
            lambda: chain([first], stream),
            features=features,
            cache_dir=os.fspath(cache_dir),
            # By chance, since a cached data set would come without its list of bad records, and go stale with the file.
            fingerprint=os.urandom(8).hex(),
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, AnnotationError | OSError):
            raise error.__cause__ from None
        raise


def stream_from_rows(make_rows: Callable[[], Iterable[dict[str, Any]]], *, with_image: bool = False) -> IterableDataset:
    """Make a data set that asks for its rows each time it is read, and writes nothing to disk.

    Args:
        make_rows: called for each pass; returns the rows.
        with_image: the rows have the path of their photo under `image`.

    Example:
        >>> from amodal_diffusion.data import iter_coco
        >>> content = {"images": [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 6}], "annotations": []}
        >>> stream = stream_from_rows(lambda: iter_coco(content))
        >>> [row["file_name"] for row in stream], [row["file_name"] for row in stream]
        (['1.jpg'], ['1.jpg'])
    """
    from datasets import IterableDataset

    return IterableDataset.from_generator(_Rows(make_rows), features=amodal_features(with_image=with_image))


class _Rows:
    """A generator function that `datasets` can hash without walking through an annotation file in memory."""

    def __init__(self, make_rows: Callable[[], Iterable[dict[str, Any]]]) -> None:
        self.make_rows = make_rows

    def __call__(self) -> Iterator[dict[str, Any]]:
        yield from self.make_rows()
