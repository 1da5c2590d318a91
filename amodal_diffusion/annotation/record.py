"""What decides the result of a run, so that nothing of another run is taken for a part of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.photos import encoded_photos
from ..evaluation import MaskBaseline
from ..runtimes import runtime_of
from .annotator import check_baseline

if TYPE_CHECKING:
    from datasets import Dataset

    from ..pipelines import MaskPipeline

RECORD = "annotation.json"
_VERSION = 4
_BATCH = 1000
_PHOTOS = 1000
_NULL = -(2**62)


def run_record(
    pipeline: MaskPipeline | MaskBaseline, pipeline_name: str, call_options: Mapping[str, Any], **more: Any
) -> dict[str, Any]:
    """All that decides the result, as it reads back from JSON.

    Args:
        pipeline: loaded; or a baseline.
        pipeline_name: what card and record call it; "" for the name of its class, or of the baseline.
        call_options: of its call.
        more: what the engine adds, such as the digest of the data.

    Raises:
        ValueError, TypeError: options that the pipeline does not take.

    Example:
        >>> from amodal_diffusion import PCNetMask, PCNetMaskPipeline
        >>> record = run_record(PCNetMaskPipeline(PCNetMask((2, 4), sample_size=16)), "", {"mask_threshold": 0.4})
        >>> record["pipeline"], record["options"], record["dtype"], record["runtime"]
        ('PCNetMaskPipeline', {'mask_threshold': '0.4'}, 'float32', 'torch')
    """
    if isinstance(pipeline, MaskBaseline):
        check_baseline(pipeline, call_options)
        record = {"version": _VERSION, "pipeline": pipeline_name or pipeline.name, "method": pipeline.name}
        return dict(json.loads(json.dumps({**record, "options": {}, **more})))
    pipeline([], [], **call_options)  # refuses options that it does not take; completes nothing
    record = {
        "version": _VERSION,
        "pipeline": pipeline_name or type(pipeline).__name__,
        "weights": pipeline_digest(pipeline),
        "dtype": str(next((network.dtype for network in pipeline.networks), "")).removeprefix("torch."),
        "runtime": next((runtime_of(network) for network in pipeline.networks), ""),
        "options": {name: repr(value) for name, value in sorted(call_options.items())},
        **more,
    }
    return dict(json.loads(json.dumps(record)))


def record_text(run: Mapping[str, Any], *, finished: bool) -> str:
    """The text of the file `RECORD`.

    Example:
        >>> read_record(record_text({"version": 4}, finished=True), "here")
        ({'version': 4}, True)
    """
    return json.dumps({"run": run, "finished": finished}, indent=1) + "\n"


def read_record(text: str | bytes, path: object) -> tuple[dict[str, Any], bool]:
    """The run of a file `RECORD`, and whether it is finished.

    Raises:
        ValueError: it is no such file; `path` is named.

    Example:
        >>> read_record("[]", "out/annotation.json")
        Traceback (most recent call last):
            ...
        ValueError: 'out/annotation.json' is no valid record of an annotation run; annotate into another folder.
    """
    try:
        found = json.loads(text)
        return dict(found["run"].items()), found.get("finished") is True
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"'{path}' is no valid record of an annotation run; annotate into another folder.") from error


def check_same_run(found: Mapping[str, Any], run: Mapping[str, Any], folder: object) -> None:
    """Refuse a folder that holds another run, naming what differs.

    Example:
        >>> check_same_run({"weights": "a", "version": 4}, {"weights": "b", "version": 4}, "out")
        Traceback (most recent call last):
            ...
        ValueError: output out holds another run; what differs is weights.
    """
    if found != run:
        differs = sorted(key for key in {*found, *run} if found.get(key) != run.get(key))
        if "dtype" in differs and "weights" in differs:  # the same weights have other digits then
            differs.remove("weights")
        raise ValueError(f"output {folder} holds another run; what differs is {', '.join(differs)}.")


def dataset_digest(dataset: Dataset) -> str:
    """Digest of all that the result takes over from the rows, in order; of the photos see `photos_digest`.

    Example:
        >>> from amodal_diffusion.data import read_annotations
        >>> content = {"images": [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 4}], "annotations": []}
        >>> len(dataset_digest(read_annotations(content)))
        16
    """
    import pyarrow.compute as compute

    digest = hashlib.sha256()
    names = ["image_id", "file_name", "source", "height", "width", "objects"]
    columns = dataset.select_columns(names).with_format("arrow")
    for table in columns.iter(_BATCH):
        objects = compute.list_flatten(table["objects"])
        masks = compute.struct_field(objects, "modal_mask")
        texts = (
            *(table[name] for name in ("image_id", "file_name", "source")),
            compute.struct_field(masks, "counts"),
            compute.struct_field(objects, "name"),
        )
        numbers = (
            table["height"],
            table["width"],
            compute.list_value_length(table["objects"]),
            *(compute.struct_field(objects, name) for name in ("id", "category_id", "is_stuff", "is_crowd")),
            *(compute.binary_length(text) for text in texts),
        )
        for column in numbers:  # lengths are among them, so that no text runs into the next
            digest.update(np.array(column.cast("int64").fill_null(_NULL).to_numpy()).tobytes())
        for text in texts:
            digest.update("".join(part or "" for part in text.to_pylist()).encode())
    return digest.hexdigest()[:16]


def photos_digest(dataset: Dataset) -> str:
    """Digest of the sizes in bytes of the photos, "" for a data set without any.

    Of more than a thousand it looks at so many, evenly spread: each process of a run does, and asking for all takes
    minutes on a network drive. So other photos under the same names are another run, one photo among many is not.

    Example:
        >>> from amodal_diffusion.data import read_annotations
        >>> content = {"images": [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 4}], "annotations": []}
        >>> photos_digest(read_annotations(content))
        ''
    """
    if "image" not in dataset.column_names:
        return ""
    some = np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), _PHOTOS)).round().astype(int))
    photos = encoded_photos(dataset.select_columns(["image"]).select(some))["image"]
    return hashlib.sha256(json.dumps([_photo_bytes(photo) for photo in photos]).encode()).hexdigest()[:16]


def _photo_bytes(photo: Mapping[str, Any] | None) -> int:
    """The size of a photo as `datasets` keeps it; -1 where nothing tells."""
    if photo is None:
        return -1
    if photo["bytes"] is not None:
        return len(photo["bytes"])
    try:
        return os.stat(photo["path"]).st_size
    except (OSError, TypeError, ValueError):  # a URL, a missing file or none
        return -1


def pipeline_digest(pipeline: MaskPipeline) -> str:
    """Digest of the settings and the weights.

    Example:
        >>> from amodal_diffusion import PCNetMask, PCNetMaskPipeline
        >>> model = PCNetMask(block_out_channels=(2, 4), sample_size=16)
        >>> digests = [pipeline_digest(PCNetMaskPipeline(model, crop=crop)) for crop in ("nearest", "bilinear")]
        >>> len(digests[0]), digests[0] == digests[1]
        (16, False)
    """
    settings = {key: value for key, value in dict(pipeline.config).items() if not key.startswith("_")}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for network in pipeline.networks:
        for key, value in sorted(network.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).float().numpy().tobytes())
    return digest.hexdigest()[:16]
