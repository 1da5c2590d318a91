"""The worker of every annotation run: batches of rows in, the same rows with whole masks out [Z20, N21]."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..baselines import complete_convex, complete_convex_refined, complete_raw
from ..data import amodal_features, build_objects
from ..data.photos import load_row_photo, photo_in
from ..data.schema import decode_masks
from ..evaluation import MaskBaseline, call_scenes, load_pipeline
from ..masks import Rle, TileStack, encode_tile
from ..ordering import order_by_hull, order_pairs
from ..pipelines import AmodalPipelineOutput
from ..pipelines.contexts import warnings_silenced

if TYPE_CHECKING:
    import pyarrow
    import torch
    from datasets import Features
    from PIL import Image

    from ..pipelines import MaskPipeline

BASELINES: dict[str, MaskBaseline] = {
    baseline.name: baseline
    for baseline in (
        MaskBaseline("raw", complete=complete_raw),
        MaskBaseline("convex", complete=complete_convex),
        MaskBaseline("convex-refined", complete=complete_convex_refined, order=order_by_hull),
    )
}
"""What labels can be converted with without a network, by name [Z20, Table 4]."""

GROUP_PIXELS = 2**25
"""Of all masks of the photos that go through the network together, which bounds memory: a dozen of 640x480 pixels."""

_KEPT = ("image_id", "file_name", "height", "width", "source")


def annotation_features() -> Features:
    """`amodal_features`, the column `predictions` (of each object the `score` and the `uncertainty`) and the `error`.

    `score` is the mean P(object) over the whole mask, 0 for an empty one. `uncertainty` is the mean over the whole mask
    of what the pipeline says of it, or of 4p(1 - p) where it says nothing, p = P(object). `error` says why an image was
    not completed, and is None elsewhere: such an image has its visible masks alone.

    Example:
        >>> annotation_features()["predictions"].feature["score"].dtype
        'float32'
    """
    from datasets import Features, List, Value

    prediction = {"score": Value("float32"), "uncertainty": Value("float32")}
    return Features({**amodal_features(), "predictions": List(prediction), "error": Value("string")})


class AmodalAnnotator:
    """Complete all objects of a batch of rows: a function of the rows alone, for any engine that maps batches.

    The photos of a batch go through the network together, as many as `GROUP_PIXELS` allows, and the next ones are read
    and decoded meanwhile. A row that cannot be completed (no photo or a broken one, a photo of another size than its
    masks, null in the place of its objects, a missing or broken mask, a category id that the network does not know)
    gets an `error`, its visible masks stay, and the others go on. One with an empty list of objects is complete.

    Crowd regions are seen as what they are, something that may hide others, and are not completed themselves. Whole
    masks that the rows have are replaced.

    It can be pickled. Given the name of a pipeline it is small then, and loads the pipeline in the process that first
    calls it.

    Args:
        pipeline: a mask pipeline, or the folder or Hub id of one; or one of `BASELINES`, which look at the masks alone
            and are sure of what they say: each `score` is 1.
        images: where the photos of rows without a column `image` lie, found there by `file_name`: a folder or any URL
            that fsspec opens, such as "s3://bucket/photos" or "hf://datasets/user/name/photos".
        device: of a pipeline that is loaded by its name; None takes a GPU where there is one.
        dtype: of such a pipeline; None is float32.
        call_options: further arguments of the pipeline's call.

    Raises:
        TypeError: at the first call, naming an option that the pipeline does not take; at once, with a baseline.
        ValueError: at the first call, a value of an option that the pipeline does not take; a baseline that completes
            no masks.

    Example:
        >>> from amodal_diffusion import PCNetMask, PCNetMaskPipeline
        >>> from amodal_diffusion.data import read_annotations
        >>> cup = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[5, 5, 25, 5, 25, 30, 5, 30]]}
        >>> images = [{"id": 1, "file_name": "cup.jpg", "height": 40, "width": 50}]
        >>> rows = read_annotations({"images": images, "annotations": [cup], "categories": [{"id": 1, "name": "cup"}]})
        >>> annotate = AmodalAnnotator(PCNetMaskPipeline(PCNetMask((4, 4), sample_size=32)))
        >>> done = annotate(rows[:])  # a dictionary of columns, as `datasets` and Ray have them, or an Arrow table
        >>> len(done["objects"][0]), done["objects"][0][0]["occlusion_rate"], done["error"]
        (1, 0.0, [None])
    """

    def __init__(
        self,
        pipeline: MaskPipeline | MaskBaseline | str | os.PathLike[str],
        *,
        images: str | os.PathLike[str] | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        **call_options: Any,
    ) -> None:
        if isinstance(pipeline, MaskBaseline):
            check_baseline(pipeline, call_options)
        self._named = isinstance(pipeline, str | os.PathLike)
        self._pipeline: Any = os.fspath(pipeline) if isinstance(pipeline, str | os.PathLike) else pipeline
        self._loaded: MaskPipeline | None = None
        self._images = None if images is None else os.fspath(images)
        self._device, self._dtype = device, dtype
        self._call_options = call_options

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None}

    @property
    def pipeline(self) -> MaskPipeline:
        """The pipeline, loaded."""
        if self._loaded is None:
            self._loaded = self._load() if self._named else self._pipeline
            self._loaded.check_options(self._call_options)
            if self._call_options:
                self._loaded([], [], **self._call_options)  # refuses their values; completes nothing
        return self._loaded

    def _load(self) -> MaskPipeline:
        import torch
        from diffusers.utils import logging

        device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
        with_bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            return load_pipeline(self._pipeline, device=device, dtype=self._dtype or torch.float32)
        finally:
            if with_bars:
                logging.enable_progress_bar()

    def __call__(self, batch: Any) -> Any:
        """Complete a batch.

        Args:
            batch: rows of `amodal_features`, with the column `image` (of `datasets`, decoded or not) where the pipeline
                looks at photos: a `pyarrow.Table`, or a dictionary of columns. Further columns are dropped.

        Returns:
            The same rows in the same order, of `annotation_features`, in the form that was given.

        Raises:
            TypeError: neither of these.
            ValueError: a batch that lacks columns of `amodal_features`, or whose columns differ in length.
        """
        (done,) = self.stream([batch])
        return done

    def stream(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Complete batch after batch; the first photos of the next one are decoded while the network has this one.

        The batches are asked for in a thread of their own, which has the context variables of the caller.
        """
        # A pipeline is loaded here, not in the thread that reads.
        needs_photos = not isinstance(self._pipeline, MaskBaseline) and self.pipeline.needs_image
        with ThreadPoolExecutor(1, "decode") as reader:
            rows: list[dict[str, Any]] = []
            for scenes, batch in _one_ahead(self._read(batches, needs_photos), reader):
                with warnings_silenced():  # not where the caller has the rows
                    rows += self._complete(scenes)
                if batch is not None:  # these were its last
                    yield _as_given(rows, batch)
                    rows = []

    # Reading

    def _read(self, batches: Iterable[Any], needs_photos: bool) -> Iterator[tuple[list[_Scene], Any]]:
        """Groups of scenes in order, the last one of each batch with the batch itself."""
        for batch in batches:
            group: list[_Scene] = []
            pixels = 0
            for row in _rows_of(batch):
                scene = self._read_scene(row, needs_photos)
                if group and pixels + scene.pixels > GROUP_PIXELS:
                    yield group, None
                    group, pixels = [], 0
                group.append(scene)
                pixels += scene.pixels
            yield group, batch

    def _read_scene(self, row: dict[str, Any], needs_photo: bool) -> _Scene:
        if row["objects"] is None:
            return _Scene({**row, "objects": []}, error="`objects` has no value.")
        try:
            masks: list[Any] = []
            for index, obj in enumerate(row["objects"]):
                mask = obj.get("modal_mask") if isinstance(obj, Mapping) else None
                if not isinstance(mask, Mapping) or not mask.get("counts"):
                    raise ValueError(f"object {index} has no visible mask.")
                masks.append(mask)
            modal = decode_masks(masks, row["height"], row["width"], name="visible mask of object")
            if not needs_photo:
                return _Scene(row, modal)
            if row.get("image") is None and self._images is not None:
                row = {**row, "image": photo_in(self._images, row["file_name"])}
            return _Scene(row, modal, load_row_photo(row))
        except ValueError as error:
            return _Scene(row, error=_text(error))

    # Completing

    def _complete(self, scenes: Sequence[_Scene]) -> Iterator[dict[str, Any]]:
        whole = [scene for scene in scenes if scene.modal is not None]
        answers = iter(self._call(whole))
        for scene in scenes:
            answer = scene.error if scene.modal is None else next(answers)
            yield _failed_row(scene.row, answer) if isinstance(answer, str) else _completed_row(scene, answer)

    def _call(self, scenes: Sequence[_Scene]) -> Sequence[AmodalPipelineOutput | str]:
        """What the pipeline says of each scene, all of which have masks; for one that it refuses, why."""
        if not scenes:
            return []
        if isinstance(self._pipeline, MaskBaseline):
            return [_baseline_output(self._pipeline, scene) for scene in scenes]
        try:
            return call_scenes(
                self.pipeline,
                [scene.photo for scene in scenes] if self.pipeline.needs_image else None,
                [cast(np.ndarray, scene.modal) for scene in scenes],
                [[obj["category_id"] for obj in scene.row["objects"]] for scene in scenes],
                names=[[obj["name"] for obj in scene.row["objects"]] for scene in scenes],
                is_crowd=[[bool(obj["is_crowd"]) for obj in scene.row["objects"]] for scene in scenes],
                output_type="compact",
                **self._call_options,
            )
        except ValueError as error:
            if len(scenes) == 1:
                return [_text(error)]
        return [answer for scene in scenes for answer in self._call([scene])]  # to find the one


def check_baseline(baseline: MaskBaseline, call_options: Mapping[str, Any]) -> None:
    """Refuse a baseline that completes no masks, and options, which none of them takes.

    Example:
        >>> check_baseline(BASELINES["convex"], {"mask_threshold": 0.5})
        Traceback (most recent call last):
            ...
        TypeError: baseline 'convex' takes no options, got `mask_threshold`.
    """
    if baseline.complete is None:
        raise ValueError(f"baseline {baseline.name!r} completes no masks; those of `BASELINES` do.")
    if call_options:
        names = ", ".join(f"`{name}`" for name in sorted(call_options))
        raise TypeError(f"baseline {baseline.name!r} takes no options, got {names}.")


def _baseline_output(baseline: MaskBaseline, scene: _Scene) -> AmodalPipelineOutput:
    """What a baseline says of a scene, in the form that `call_scenes` asks of pipelines."""
    modal = cast(np.ndarray, scene.modal)
    amodal = cast(Any, baseline.complete)(modal) if len(modal) else modal
    crowd = np.array([bool(obj["is_crowd"]) for obj in scene.row["objects"]], bool)
    amodal = np.where(crowd[:, None, None], modal, amodal)
    order = np.zeros((0, 0), np.int8) if not len(modal) and baseline.order else None
    if baseline.order is not None and len(modal):
        order = baseline.order(modal)
    masks: Any = TileStack.from_dense(amodal)
    sure: Any = TileStack.from_dense(amodal.astype(np.float32))
    return AmodalPipelineOutput(amodal_masks=masks, probabilities=sure, order=order)


@dataclass
class _Scene:
    """A row as it is read: its masks, and its photo where the pipeline looks at it; or why there are none."""

    row: dict[str, Any]
    modal: np.ndarray | None = None
    photo: Image.Image | None = None
    error: str = ""

    @property
    def pixels(self) -> int:
        return 0 if self.modal is None else self.modal.size


def _one_ahead(items: Iterator[Any], reader: ThreadPoolExecutor) -> Iterator[Any]:
    """The items of an iterator, each of which `reader` makes while the one before it is in use."""
    ended, context = object(), copy_context()

    def read() -> Any:
        return next(items, ended)

    coming: Future[Any] = reader.submit(context.run, read)
    while (item := coming.result()) is not ended:
        coming = reader.submit(context.run, read)
        yield item


def _rows_of(batch: Any) -> list[dict[str, Any]]:
    import pyarrow

    if isinstance(batch, pyarrow.Table | pyarrow.RecordBatch):
        _check_columns(batch.column_names)
        return list(batch.to_pylist())
    if not isinstance(batch, Mapping):
        raise TypeError(f"a batch must be an Arrow table or a dictionary of columns, got {type(batch).__name__}.")
    _check_columns(batch)
    lengths = {name: len(values) for name, values in batch.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns of a batch must have the same length, got {lengths}.")
    return [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]


def _check_columns(names: Iterable[str]) -> None:
    lacks = sorted({*_KEPT, "objects"}.difference(names))
    if lacks:
        raise ValueError(f"a batch must have the columns of `amodal_features`, and lacks {', '.join(lacks)}.")


def _as_given(rows: list[dict[str, Any]], batch: Any) -> Any:
    """Completed rows in the form of the batch that they are of."""
    if isinstance(batch, Mapping):
        return {name: [row[name] for row in rows] for name in annotation_features()}
    return annotation_table(rows)


def annotation_table(rows: list[dict[str, Any]]) -> pyarrow.Table:
    """An Arrow table of `annotation_features`.

    Example:
        >>> annotation_table([]).num_rows
        0
    """
    import pyarrow

    return pyarrow.Table.from_pylist(rows, schema=annotation_features().arrow_schema)


def _text(error: Exception) -> str:
    return " ".join(str(error).split())


def _failed_row(row: Mapping[str, Any], error: str) -> dict[str, Any]:
    """A row of `annotation_features` with visible masks alone."""
    unknown = {"amodal_mask": None, "amodal_box": None, "occlusion_rate": None}
    # What is no object, of rows that another program wrote, stays null.
    objects = [{**obj, **unknown} if isinstance(obj, Mapping) else None for obj in row["objects"]]
    return {
        **{key: row[key] for key in _KEPT},
        "objects": objects,
        "order_relations": None,
        "predictions": [{"score": None, "uncertainty": None} for _ in objects],
        "error": error,
    }


def _completed_row(scene: _Scene, output: AmodalPipelineOutput) -> dict[str, Any]:
    """A row of `annotation_features`."""
    row, pairs = scene.row, None
    if output.order is not None:
        pairs = [{"front": front, "behind": behind} for front, behind in order_pairs(output.order)]
    objects, predictions = [], []
    for index, obj in enumerate(row["objects"]):
        mask, prediction = _completed_object(scene, output, index)
        # The same dictionary in both fields tells `build_objects` that nothing is hidden.
        objects.append({**obj, "amodal_mask": mask or obj["modal_mask"]})
        predictions.append(prediction)
    return {
        **{key: row[key] for key in _KEPT},
        "objects": build_objects(objects),
        "order_relations": pairs,
        "predictions": predictions,
        "error": None,
    }


def _completed_object(scene: _Scene, output: AmodalPipelineOutput, index: int) -> tuple[Rle | None, dict[str, float]]:
    """The run lengths of a whole mask, None where nothing is hidden, and its `predictions`."""
    # The fields are declared as `output_type="np"` gives them; here they are of "compact".
    amodal, probabilities = cast(TileStack, output.amodal_masks), cast(TileStack, output.probabilities)
    uncertainty = output.uncertainty
    mask, box = amodal.tiles[index], amodal.boxes[index]
    x, y, w, h = box.tolist()
    # Half of the mask to complete may be all of it: then nothing is hidden, and no run lengths are made.
    modal = cast(np.ndarray, scene.modal)[index, y : y + h, x : x + w]
    encoded = encode_tile(mask, box, *amodal.shape[1:]) if (mask & ~modal).any() else None
    area = int(np.count_nonzero(mask))
    likely = _inside(probabilities, index, box, mask)
    doubt = 4 * likely * (1 - likely) if uncertainty is None else _inside(uncertainty, index, box, mask)
    means = (float(values.sum(dtype=np.float64)) / max(area, 1) for values in (likely, doubt))
    return encoded, dict(zip(("score", "uncertainty"), means, strict=True))


def _inside(planes: TileStack, index: int, box: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The values of a plane where the mask is."""
    return planes.crop(index, box)[mask]
