"""The contract of the mask pipelines: one call with its options, its steps, and its output."""

import functools
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from ...arguments.choices import check_choice
from ...arguments.flags import check_flag
from ...arguments.numeric import check_number
from ...crops import (
    CROP_RULES,
    clip_boxes,
    crop_boxes,
    crop_images,
    crop_masks,
    join_boxes,
    meet_boxes,
    paste_patches,
)
from ...display import short_repr
from ...hub import INDEX_NAME, PipelineFolder
from ...images import OUTPUT_TYPES, image_to_tensor, normalize_images, postprocess_masks
from ...masks import IntArray, TileStack, dilate, tight_tile
from ..base import PipelineCallback, SafePipeline, check_callback
from ..inputs import (
    MaskInputs,
    PackedUnions,
    SceneMasks,
    read_generators,
    read_scenes,
    rows_of,
    to_device,
)
from ..output import AmodalPipelineOutput
from .thresholds import EXPECTED_IOU, calibrate, check_mask_threshold, expected_iou_masks

PASTE_RULES = ("probability", "binary")

COMMON_OPTIONS = (
    "occluder_masks",
    "category_ids",
    "generator",
    "batch_size",
    "output_type",
    "return_dict",
    "callback",
)
"""Keywords that the call of every mask pipeline takes."""

_UNCALIBRATED = (("slope", 1.0), ("offset", 0.0))
_PER_OBJECT = ("order", "amodal_box", "features")
# Settings of folders that were saved before the settings of all pipelines had one name each.
_NEW_NAMES = {
    "order_crop": "crop",
    "completion_crop": "crop",
    "confine_to_eraser": "confine_to_occluders",
    "confine_to_occluder": "confine_to_occluders",
    "drop_rim": "rim_width",
    "order_grounded": "occluder_rule",
}
_P = ParamSpec("_P")


@dataclass
class MaskCall:
    """One call of a mask pipeline, checked.

    Args:
        scenes: one a photo.
        options: what the pipeline's own keywords were given, with the checkpoint's settings for None.
        generators: one a photo, or None.
        batch_size: crops in one pass through a network.
        callback: told how far the call is.

    Example:
        >>> scenes, _ = read_scenes(None, np.ones((1, 4, 4), bool))
        >>> MaskCall(scenes, {"mask_threshold": 0.5}, [None], batch_size=4).options["mask_threshold"]
        0.5
    """

    scenes: list[MaskInputs]
    options: dict[str, Any]
    generators: Sequence[torch.Generator | None]
    batch_size: int
    callback: PipelineCallback | None = None

    __repr__ = short_repr


@dataclass
class ObjectPatches:
    """The square crops of all objects of a call, one scene after another.

    Args:
        modal: (M, s, s) bool, all False for an object without visible pixels.
        boxes: (M, 4) int64 on the CPU, (x, y, side, side) in pixels of the photo; side 0 without visible pixels.
        scenes: for each scene, the slice of its objects.
        category_ids: (M,) int64, where the network needs them.
        images: (M, 3, s, s) float32, ImageNet-normalised, where the network needs them.
        shown: (M,) bool, which objects come with a photo; None where all do, or `images` is None.

    Example:
        >>> modal = torch.ones(3, 8, 8, dtype=torch.bool)
        >>> patches = ObjectPatches(modal, torch.zeros(3, 4), [slice(0, 2), slice(2, 3)])
        >>> patches.modal[patches.scenes[0]].shape
        torch.Size([2, 8, 8])
    """

    modal: Tensor
    boxes: Tensor
    scenes: list[slice]
    category_ids: Tensor | None = None
    images: Tensor | None = None
    shown: Tensor | None = None

    __repr__ = short_repr


@dataclass
class ScenePrediction:
    """What the networks answer for the K objects of one scene that were completed.

    Args:
        rows: (K,) int64, their rows in the scene, ascending.
        channels: (K, C, s, s) float32: P(object), and with C > 1 the uncertainty.
        occluders: (N, H, W), what may hide each object, where the pipeline knows it.
        order: (N, N) int8, where the pipeline knows it.

    Example:
        >>> prediction = ScenePrediction(torch.tensor([0, 2]), torch.rand(2, 1, 8, 8))
        >>> prediction.order is None
        True
    """

    rows: Tensor
    channels: Tensor
    occluders: PackedUnions | SceneMasks | None = None
    order: np.ndarray | None = None

    __repr__ = short_repr


def mask_call(call: Callable[_P, AmodalPipelineOutput | tuple[Any, ...]]) -> Callable[_P, AmodalPipelineOutput]:
    """Decorate the `__call__` of a mask pipeline: no gradients, and a clear error for an unknown keyword.

    Type checkers take the result for an `AmodalPipelineOutput`, which it is but for calls with `return_dict=False`.

    Example:
        >>> from amodal_diffusion import PCNetMask, PCNetMaskPipeline
        >>> pipe = PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16))
        >>> pipe(None, np.ones((4, 4), bool), num_samples=3)
        Traceback (most recent call last):
        TypeError: PCNetMaskPipeline takes no `num_samples`; its options are occluder_masks, category_ids, order, ...
    """

    @functools.wraps(call)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> Any:
        cast(MaskPipeline, args[0]).check_options(name for name in kwargs if name not in ("image", "masks"))
        with torch.no_grad():
            return call(*args, **kwargs)

    return checked


class MaskPipeline(SafePipeline):
    """Base class of the pipelines that complete masks.

    Every mask pipeline is called as `pipe(image, masks, *, occluder_masks, category_ids, ..., generator, batch_size,
    output_type, return_dict, callback)`, with its own options in the middle. `complete` is the call: it checks, crops,
    predicts in batches, pastes back and builds the output. A subclass registers its networks and settings in
    `__init__`, writes the signature of its `__call__` out for editors, decorated with `mask_call`, and says the rest in
    `read_options`, `output_fields`, `crop` and `predict`.

    The same calls end alike everywhere. No photos (`pipe([], [])`) give an empty list for each field of the output that
    the call would fill; no masks, or masks without a visible pixel, give planes of shape (0, H, W), or planes of zeros.

    Attributes:
        mask_networks: names of the components that are mask networks, trained by this package; others are frozen.
        call_options: keywords that the call takes beside `COMMON_OPTIONS`. Ask `takes_option` before you pass one to a
            pipeline that you do not know.
        needs_occluders: what hides an object must be given, by the other masks of the call or by `occluder_masks`.
            False: a photo and one mask suffice.
        sees_neighbours: the other masks of a call matter to an object. False: each object is completed as if it came
            alone.
        unknown_category_id: the id of an object without a category: 1 for a class-conditioned network of [Z20], 0 for a
            network that knows an unknown category or none at all.

    Example:
        >>> from amodal_diffusion import PCNetMask, PCNetMaskPipeline
        >>> pipe = PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16))
        >>> isinstance(pipe, MaskPipeline), pipe.takes_option("order"), pipe.takes_option("num_samples")
        (True, True, False)
        >>> out = pipe(None, np.ones((1, 6, 8), bool), occluder_masks=np.zeros((6, 8), bool))
        >>> out.amodal_masks.shape, out.amodal_masks.all(), out.order
        ((1, 6, 8), np.True_, None)
    """

    model_cpu_offload_seq = "model"
    mask_networks: tuple[str, ...] = ("model",)
    call_options: ClassVar[tuple[str, ...]] = ()
    output_types: ClassVar[tuple[str, ...]] = (*OUTPUT_TYPES, "compact")
    needs_occluders = True
    sees_neighbours = True
    unknown_category_id = 1

    if TYPE_CHECKING:

        def __call__(self, *args: Any, **kwargs: Any) -> AmodalPipelineOutput:
            """For type checkers, what every subclass has."""

    @property
    def networks(self) -> list[nn.Module]:
        """The mask networks themselves."""
        networks = (getattr(self, name) for name in self.mask_networks)
        return [network for network in networks if network is not None]

    @property
    def class_conditioned(self) -> bool:
        """A network reads the `category_ids` of the objects."""
        return bool(self.categories) or any(
            getattr(network.config, "class_conditioned", False) for network in self.networks
        )

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories that `category_ids` may hold in place of their numbers, which begin with 1."""
        found = (getattr(network.config, "categories", None) for network in self.networks)
        return next((tuple(names) for names in found if names), ())

    @property
    def takes_names(self) -> bool:
        """`category_ids` may hold names: a network knows `categories`, or none reads any ids."""
        return bool(self.categories) or not self.class_conditioned

    @property
    def needs_image(self) -> bool:
        """A network looks at the photo."""
        return any(getattr(network.config, "use_rgb", False) for network in self.networks)

    @property
    def sample_size(self) -> int:
        """Side in pixels of the crops that the networks see."""
        return int(cast(Any, self.networks[0]).config.sample_size)

    # Options of a call

    @classmethod
    def takes_option(cls, name: str) -> bool:
        """Whether a call takes the keyword `name`."""
        return name in COMMON_OPTIONS or name in cls.call_options

    @classmethod
    def check_options(cls, names: Iterable[str]) -> None:
        """Refuse keywords that a call does not take.

        Raises:
            TypeError: naming the first one, the class, and what its calls take.
        """
        for name in names:
            if not cls.takes_option(name):
                first, second, *last = COMMON_OPTIONS
                known = ", ".join((first, second, *cls.call_options, *last))
                raise TypeError(f"{cls.__name__} takes no `{name}`; its options are {known}.")

    # Loading

    @classmethod
    def from_folder(cls, folder: PipelineFolder, **kwargs: Any) -> Self:
        """See `SafePipeline.from_folder`.

        Raises:
            ValueError: where `model_index.json` holds a setting that the class does not have, which would otherwise be
                ignored; and as `SafePipeline.from_folder` says.
        """
        components, settings = cls._get_signature_keys(cls)
        for name in folder.index:
            if not name.startswith("_") and name not in components and name not in settings:
                new = _NEW_NAMES.get(name)
                advice = f"it is now `{new}`" if new in settings else f"its settings are {', '.join(sorted(settings))}"
                raise ValueError(
                    f"{INDEX_NAME} of '{folder.place}' holds `{name}`, which {cls.__name__} does not have; {advice}."
                )
        return super().from_folder(folder, **kwargs)

    # The call

    def complete(
        self,
        image: Any,
        masks: Any,
        *,
        occluder_masks: Any,
        category_ids: Any,
        generator: Any,
        batch_size: int | None,
        output_type: str,
        return_dict: bool,
        callback: PipelineCallback | None,
        **options: Any,
    ) -> AmodalPipelineOutput | tuple[Any, ...]:
        """The call of every mask pipeline; `options` are the `call_options` of the class."""
        # 1. Check the inputs
        check_flag("return_dict", return_dict)
        per_object = {name: options.pop(name) for name in _PER_OBJECT if name in options}
        scenes, batched = self.check_inputs(
            image, masks, occluder_masks=occluder_masks, category_ids=category_ids, **per_object
        )
        call = MaskCall(
            scenes=scenes,
            options=self.read_options(options),
            generators=read_generators(generator, len(scenes), batched),
            batch_size=self.check_call(batch_size, output_type, self.largest_side),
            callback=check_callback(callback),
        )
        results = []
        try:
            if scenes:
                with self.evaluation_mode():
                    # 2. Crop every object once
                    crops = self.crop(call)
                    # 3. Predict in batches
                    for index, prediction in enumerate(self.predict(call, crops)):
                        # 4. Paste back
                        paste = self.paste_compact if output_type == "compact" else self.paste
                        results.append(paste(call, crops, index, prediction))
        finally:
            self.maybe_free_model_hooks()
        # 5. Put the output together
        return _build_output(results, self.output_fields(call), batched, output_type, return_dict)

    # 1.

    def check_inputs(self, image: Any, masks: Any, **per_object: Any) -> tuple[list[MaskInputs], bool]:
        """The scenes of a call, and whether it gave lists; errors as `__call__` documents them.

        Args:
            image: as in the call.
            masks: as in the call.
            per_object: see `read_scenes`.
        """
        lowest = self.unknown_category_id if self.class_conditioned else 0
        scenes, batched = read_scenes(
            image, masks, read_image=self.needs_image, lowest_category=lowest,
            categories=self.categories if self.takes_names else None, **per_object,
        )  # fmt: skip
        for scene in scenes:
            self.check_scene(scene)
        return scenes, batched

    def check_scene(self, scene: MaskInputs) -> None:
        """Refuse a scene without what the networks need, with an error that names the argument."""
        if self.needs_image and scene.photo is None:
            raise ValueError(f"`image{scene.suffix}` must be given: {type(self).__name__} looks at the photo.")
        if self.class_conditioned and self.unknown_category_id and scene.category_ids is None:
            raise ValueError(
                f"`category_ids{scene.suffix}` must be given: the network of this pipeline is class-conditioned."
            )
        self.check_categories(scene)

    def check_categories(self, scene: MaskInputs) -> None:
        """Refuse the number of a category that is not known.

        A network with a class embedding knows how many categories there are (`num_categories` or `categories` of its
        config) and is given none beyond; those of [Z20] take the number of any category as a value of the mask plane.
        """
        numbers = (getattr(network.config, "num_categories", 0) for network in self.networks)
        known = max([len(self.categories), *numbers])
        highest = 0 if scene.category_ids is None else scene.category_ids.max(initial=0)
        if known and highest > known:
            lowest = self.unknown_category_id
            raise ValueError(f"`category_ids{scene.suffix}` must lie in [{lowest}, {known}], got {highest}.")

    @abstractmethod
    def read_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """The checked options of a call, with the pipeline's settings in place of None."""

    @property
    def largest_side(self) -> int:
        """Side of the largest maps of the networks, which decides how many crops are put into a batch."""
        return self.sample_size

    def _threshold(self, name: str, value: float | None) -> float:
        """A threshold of a call in [0, 1): the caller's, or the pipeline's."""
        return check_number(name, self.config[name] if value is None else value, least=0, below=1)

    def _mask_threshold(self, value: float | str | None) -> float | str:
        """The `mask_threshold` of a call: the caller's, or the pipeline's."""
        return check_mask_threshold(self.config.mask_threshold if value is None else value)

    # 2.

    def crop(self, call: MaskCall) -> Any:
        """What the networks see of all objects of a call: here square crops by the setting `crop`."""
        return self.crop_objects(call.scenes, crop=self.config.crop, images=self.needs_image)

    def crop_objects(self, scenes: Sequence[MaskInputs], *, crop: str, images: bool = False) -> ObjectPatches:
        """Crop every object of every scene once, with the setting `enlarge_box`.

        Args:
            scenes: of the call.
            crop: see `crop_masks`.
            images: crop the photos too; where only some scenes have one, those of the others are black.
        """
        device, size = self._execution_device, self.sample_size
        boxes, modal, photos, shown = [], [], [], []
        images = images and any(scene.photo is not None for scene in scenes)
        for scene in scenes:
            box = crop_boxes(scene.modal.boxes, enlarge_box=self.config.enlarge_box)
            boxes.append(torch.from_numpy(box))  # [N, 4]
            modal.append(crop_masks(scene.modal.tensor(device), boxes[-1], size, rule=crop))  # [N, s, s]
            if images:
                shown.append(torch.full((len(scene),), scene.photo is not None, device=device))
                if scene.photo is None:
                    photos.append(torch.zeros(len(scene), 3, size, size, device=device))
                else:
                    photos.append(crop_images(image_to_tensor(scene.photo, torch.uint8).to(device), boxes[-1], size))
        none = self.unknown_category_id
        ids = [np.full(len(one), none) if one.category_ids is None else one.category_ids for one in scenes]
        return ObjectPatches(
            modal=torch.cat(modal),
            boxes=torch.cat(boxes),
            scenes=rows_of([len(scene) for scene in scenes]),
            category_ids=to_device(np.concatenate(ids), device) if self.class_conditioned else None,
            images=normalize_images(torch.cat(photos)) if images else None,
            shown=torch.cat(shown) if images and any(scene.photo is None for scene in scenes) else None,
        )

    # 3.

    @abstractmethod
    def predict(self, call: MaskCall, crops: Any) -> Iterator[Any]:
        """What the networks say of each scene, one after the other; as `ScenePrediction`, or as `paste` takes it."""

    # 4.

    @property
    def grows_under_occluders_alone(self) -> bool:
        """Whether an object grows only where it may be hidden, if it is known by what: `confine_to_occluders`."""
        return bool(self.config.get("confine_to_occluders"))

    def paste(self, call: MaskCall, crops: Any, index: int, prediction: Any) -> dict[str, Any]:
        """The results of the scene at `index` by their names in the output.

        Nothing grows outside of what may hide an object where `grows_under_occluders_alone`, and visible pixels are
        kept with `keep_modal`.
        """
        scene, threshold = call.scenes[index], call.options["mask_threshold"]
        modal = scene.modal.tensor(prediction.channels.device)
        frames = functools.partial(self.paste_objects, crops, index, prediction.rows, scene.size)
        likely = self.calibrated(prediction.channels[:, 0])
        probabilities, masks = frames(likely, 0.0 if threshold == EXPECTED_IOU else threshold)
        result = {"amodal_masks": masks, "probabilities": probabilities}
        if prediction.channels.shape[1] > 1:
            result["uncertainty"], _ = frames(prediction.channels[:, 1])
        if self.grows_under_occluders_alone and prediction.occluders is not None:
            confine(result, modal | prediction.occluders.tensor(modal.device))
        if self.config.keep_modal:
            result["amodal_masks"] |= modal
            result["probabilities"].masked_fill_(modal, 1.0)
            if "uncertainty" in result:
                result["uncertainty"].masked_fill_(modal, 0.0)
        self.decide(call, result)
        return result | {"order": prediction.order}

    def calibrated(self, probabilities: Tensor) -> Tensor:
        """P(object) by the settings `calibration_slope` and `calibration_offset`, where the pipeline has them."""
        slope, offset = (self.config.get(f"calibration_{name}", default) for name, default in _UNCALIBRATED)
        return calibrate(probabilities, slope, offset)

    @staticmethod
    def decide(call: MaskCall, result: dict[str, Tensor]) -> None:
        """By the threshold "expected-iou", make the masks from the final probabilities."""
        if call.options["mask_threshold"] == EXPECTED_IOU:
            result["amodal_masks"] = expected_iou_masks(result["probabilities"])

    def paste_compact(self, call: MaskCall, crops: Any, index: int, prediction: Any) -> dict[str, Any]:
        """What `paste` gives, with a `TileStack` for each plane: objects are pasted one by one, into their windows."""
        scene = call.scenes[index]
        if not len(scene):
            return {name: _from_dense(value) for name, value in self.paste(call, crops, index, prediction).items()}
        tiles, boxes, others = defaultdict(list), defaultdict(list), defaultdict(list)
        windows, occluders = self.object_windows(crops, index, scene), getattr(prediction, "occluders", None)
        if self.grows_under_occluders_alone and occluders is not None:  # nothing of an object is elsewhere
            windows = np.maximum(meet_boxes(windows, join_boxes(scene.modal.boxes, occluders.boxes)), [0, 0, 1, 1])
        for row, window in enumerate(windows.tolist()):
            alone = self.paste(*self.cut_object(call, crops, index, prediction, row, window))
            for name, value in alone.items():
                if isinstance(value, Tensor) and value.ndim >= 3:
                    tile, box = tight_tile(value[0].cpu().numpy(), *window[:2])
                    tiles[name].append(tile)
                    boxes[name].append(box)
                elif isinstance(value, Tensor):
                    others[name].append(value)
        stacks = {name: TileStack(tiles[name], boxes[name], *scene.size) for name in tiles}
        numbers = {name: torch.cat(values) for name, values in others.items()}
        return {**stacks, **numbers, "order": getattr(prediction, "order", None)}

    def object_windows(self, crops: Any, index: int, scene: MaskInputs) -> IntArray:
        """(N, 4) int64 (x, y, w, h), the part of the photo that each object can fill; at least a pixel.

        Here that is its crop with its visible pixels, and the `occluder_masks` that the caller gave for it.
        """
        height, width = scene.size
        squares = clip_boxes(crops.boxes[crops.scenes[index]].numpy(), height, width)
        windows = join_boxes(squares, scene.modal.boxes)
        if scene.occluders is not None:
            windows = join_boxes(windows, np.broadcast_to(scene.occluders.boxes, windows.shape))
        return np.maximum(windows, [0, 0, 1, 1])

    def cut_object(
        self, call: MaskCall, crops: Any, index: int, prediction: Any, row: int, window: Sequence[int]
    ) -> tuple[MaskCall, Any, int, Any]:
        """The arguments of `paste` for one object alone, on a photo that is its window (x, y, w, h)."""
        x, y, _, _ = window
        where = crops.scenes[index].start + row
        boxes = crops.boxes[where : where + 1] - torch.tensor([x, y, 0, 0])
        patches = ObjectPatches(crops.modal[where : where + 1], boxes, [slice(0, 1)])
        mine = prediction.rows == row  # [K]
        channels = prediction.channels[mine]
        occluders = None if prediction.occluders is None else prediction.occluders.cut(row, window)
        answer = ScenePrediction(prediction.rows.new_zeros(len(channels)), channels, occluders)
        return replace(call, scenes=[call.scenes[index].cut(row, window)]), patches, 0, answer

    def paste_objects(
        self,
        crops: ObjectPatches,
        index: int,
        rows: Tensor,
        size: tuple[int, int],
        values: Tensor,
        threshold: float | None = None,
    ) -> tuple[Tensor, Any]:
        """Put one plane of some objects of a scene back into the photo.

        With the setting `paste` of "probability" the plane is resized and compared with the threshold then, which gives
        the sharper outline; with "binary" the patch is compared and resized then, as published.

        Args:
            crops: of all objects.
            index: of the scene.
            rows: (K,) int64, the objects, as rows of the scene.
            size: (height, width) of the photo.
            values: (K, s, s) float32.
            threshold: of the values.

        Returns:
            (N, H, W) float32, 0 outside of the boxes and for other objects; (N, H, W) bool, the values above the
            threshold, or None without one.
        """
        boxes = crops.boxes[crops.scenes[index]]
        if not len(rows):
            empty = values.new_zeros(len(boxes), *size)
            return empty, None if threshold is None else empty > 0
        chosen = torch.zeros_like(boxes)  # side 0, which pastes nothing, for an object without values
        chosen[rows.cpu()] = boxes[rows.cpu()]
        patches = values.new_zeros(len(boxes), *values.shape[1:]).index_copy_(0, rows, values)
        pasted = paste_patches(patches, chosen, *size)
        if threshold is None:
            return pasted, None
        if self.config.paste == "probability":
            return pasted, pasted > threshold
        return pasted, paste_patches(patches > threshold, chosen, *size, threshold=0.5)

    # 5.

    @abstractmethod
    def output_fields(self, call: MaskCall) -> tuple[str, ...]:
        """The fields of the output that a call gives beside `amodal_masks` and `probabilities`."""


def check_crop(crop: Any, enlarge_box: Any, paste: Any) -> dict[str, Any]:
    """The settings of square crops, checked; ValueError or TypeError naming the setting otherwise.

    Example:
        >>> check_crop("bilinear", 3, "probability")
        {'crop': 'bilinear', 'enlarge_box': 3.0, 'paste': 'probability'}
    """
    return {
        "crop": check_choice("crop", crop, CROP_RULES),
        "enlarge_box": check_number("enlarge_box", enlarge_box, least=1, below=100),
        "paste": check_choice("paste", paste, PASTE_RULES),
    }


def confine(
    result: dict[str, Tensor], allowed: Tensor, names: Sequence[str] = ("probabilities", "uncertainty")
) -> None:
    """Let masks and the named planes be empty outside of `allowed` (N, H, W).

    Example:
        >>> result = {"amodal_masks": torch.ones(1, 1, 2, dtype=torch.bool), "probabilities": torch.ones(1, 1, 2)}
        >>> confine(result, torch.tensor([[[True, False]]]))
        >>> result["probabilities"]
        tensor([[[1., 0.]]])
    """
    result["amodal_masks"] &= allowed
    for name in names:
        if name in result:
            result[name].masked_fill_(~allowed, 0.0)


def beyond_rim(grown: Tensor, modal: Tensor, width: int) -> Tensor:
    """Where growth reaches farther from the visible part than a rim.

    Args:
        grown: (K, s, s) bool, the predicted objects.
        modal: (K, s, s) bool, their visible parts.
        width: of the rim in pixels of the crop.

    Returns:
        (K, s, s) bool: the growth beyond the rim, larger by the rim and a pixel, so that it meets the visible part.

    Example:
        >>> modal = torch.zeros(1, 1, 12, dtype=torch.bool)
        >>> modal[..., :4] = True
        >>> beyond_rim(modal.roll(1, -1), modal, 1).any(), beyond_rim(modal.roll(5, -1), modal, 1).any()
        (tensor(False), tensor(True))
    """
    core = grown & ~dilate(modal, kernel="square", size=2 * width + 1)
    return dilate(core, kernel="square", size=2 * width + 3)


def _from_dense(value: Any) -> Any:
    """A `TileStack` in place of planes, (N, H, W) or (N, K, H, W)."""
    return TileStack.from_dense(value.cpu().numpy()) if isinstance(value, Tensor) and value.ndim >= 3 else value


def _build_output(
    results: Sequence[dict[str, Any]], given: Sequence[str], batched: bool, output_type: str, return_dict: bool
) -> AmodalPipelineOutput | tuple[Any, ...]:
    """The output of a call from one dictionary of tensors (or None) a scene; `given` are the fields that it fills."""
    output: dict[str, Any] = {}
    for field in fields(AmodalPipelineOutput):
        values = [_postprocess(result.get(field.name), output_type) for result in results]
        if not batched:
            output[field.name] = values[0]
        else:
            expected = field.name in ("amodal_masks", "probabilities", *given)
            output[field.name] = values if expected and (not values or any(v is not None for v in values)) else None
    answer = AmodalPipelineOutput(**output)
    return answer if return_dict else answer.to_tuple()


def _postprocess(value: Any, output_type: Any) -> Any:
    if value is None or isinstance(value, TileStack):
        return value
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value) if output_type == "pt" else value
    if value.dtype == torch.bool and value.ndim == 4 and output_type == "pil":
        return [postprocess_masks(samples, output_type) for samples in value]
    if value.dtype == torch.bool and value.ndim == 3:
        return postprocess_masks(value, output_type)
    return value if output_type == "pt" else value.cpu().numpy()
