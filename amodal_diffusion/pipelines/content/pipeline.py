"""Content completion: the colours of what is hidden, of objects and of the background [Z20]."""

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import ceil
from typing import Any, Self

import diffusers
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ...arguments.choices import check_choice
from ...arguments.flags import check_flag
from ...arguments.numeric import check_integer, check_number
from ...crops import crop_images, crop_masks
from ...display import short_repr
from ...hub import HUB_KEYS, PipelineFolder, holds_component, resolve_subfolder
from ...images import denormalize_images, normalize_images
from ...masks import BoolArray, dilate
from ...models.pcnet_content import PCNetContent
from ...models.photo.thing_net import ThingNet, photo_for_things
from ...models.pull_push import pull_push
from ..base import PipelineCallback, check_callback, named_options, take_dtype
from ..contexts import spread
from ..inputs import batches, check_network, to_device, to_numpy
from ..nested import NestedPipeline
from ..registry import register_pipeline
from .cutouts import paste_hidden, paste_window, patch_colours, postprocess, to_pixels, to_planes, visible_tile
from .fillers import COPYING, FILLERS, check_filler, read_fillers
from .inpainting import (
    check_inpainter_kwargs,
    inpaint,
    load_inpainter,
    read_components,
    split_generators,
    trained_size,
)
from .inputs import (
    ContentScene,
    content_boxes,
    cover,
    crop_erased,
    read_content_scene,
    read_mask,
    read_photo,
    read_stack,
)
from .output import ContentPipelineOutput
from .seams import continue_photo, erase_outline, match_seam, trusted_photo, trusted_rim
from .sources import Hole, background_holes, object_hole

_UNIT = 256
"""Side in pixels of the crops that lengths in the settings refer to."""

_SIZE_STEP = 8
_AT_ONCE = 2**22  # pixels of the windows of holes that wait to be filled; those of a large photo would take much memory
_INPAINTER_FOLDER, _THINGS_FOLDER = "inpainter", "thing_model"


@dataclass
class ContentPatches:
    """A batch of crops at the network's resolution; planes are (B, 1, h, w) bool.

    Args:
        image: (B, 3, h, w) float32 in [0, 1], the photo.
        unseen: what the network must fill, dilated.
        modal: the visible part of the object; none for the background.
        known: what stays the photo on the other side of the seam.
        trusted: (B, 1, h, w) float32 in [0, 1], see `match_seam`.
        category_ids: (B,) int64, or None.

    Example:
        >>> nothing = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> patches = ContentPatches(torch.zeros(1, 3, 8, 8), nothing, ~nothing, ~nothing, nothing.float())
        >>> patches.image.shape, patches.category_ids
        (torch.Size([1, 3, 8, 8]), None)
    """

    image: Tensor
    unseen: Tensor
    modal: Tensor
    known: Tensor
    trusted: Tensor
    category_ids: Tensor | None = None

    __repr__ = short_repr


@register_pipeline
class ContentPipeline(NestedPipeline):
    """Fills the hidden parts of objects, and the place of removed objects, with colour.

    The colours come from a filler (`fillers.FILLERS`): pixels copied from what is seen, PCNet-C [Z20], or any
    inpainting pipeline of diffusers. Visible pixels of the photo are never changed. Where pixels that a network painted
    meet the photo, the smooth part of its error is measured on a rim of visible pixels that it painted too, and
    subtracted on the hidden side (`match_seam`), so that a colour cast leaves no edge.

    What is copied comes from the visible pixels of the object itself, for the background from what is no object;
    never from the rim of a mask, where colours of both sides mix (`source_margin`).

    A saved folder holds the inpainter, or only its id (`save_pretrained(..., include_inpainter=False)`).

    Args:
        model: PCNet-C; None where an `inpainter` is given, or a `filler` that needs neither.
        inpainter: an inpainting pipeline of diffusers, its Hub id or the path of its folder; a text-to-image or
            image-to-image pipeline is taken as `AutoPipelineForInpainting` makes an inpainting one of it. None with a
            `model`.
        inpainter_id: Hub id or folder of the inpainter, for a folder that does not hold it; set by itself where the
            inpainter is given by one.
        enlarge_box: area of the crop box, as a multiple of the area of the whole object's box.
        hole_dilation: how far the hole reaches beyond the hidden part, in pixels of a crop of 256.
        background_size: side in pixels of the square that the background is filled at, for a `model`; a multiple of
            `model.multiple`.
        background_dilation: as `hole_dilation` for the background, on a picture of 256; published: 3.
        inpainter_size: side in pixels of the crops for an `inpainter`, and longer side of the background; a multiple of
            8. None takes the size that the inpainter was trained on.
        feather: distance over which the correction at the seam fades out, in pixels of a crop of 256; 0 corrects
            nothing, as published.
        seam_margin: correct the seam at the resolution of the photo as well (`continue_photo`). The number of pixels
            next to the hole that are not trusted for that, because masks are inaccurate there and colours of both sides
            mix. None does not correct, as published.
        erase_occluders: hide what is in front of an object (by `order` or `occluder_masks`) from the network. None
            takes True for an `inpainter`, which would continue the object in front, and False for a `model`, which
            was trained with it in view.
        filler: what fills holes, one of `fillers.FILLERS`; calls can ask for another. None takes the network that is
            there, "pcnet-c" as published, or "inpainter".
        blend_prior: where "blend" has its low frequencies from: "smooth" continues the visible colours, "network" lets
            the component paint them.
        source_margin: width in pixels of the widest rim beside a hole that is taken for a mixture of colours, where the
            photo shows one (`sources.mixed_rim`): it is neither copied nor looked at.
        thing_model: finds the things in a photo, which are not copied into a background where something else will do,
            unless that lies amid things (`sources.amid_things`). None: they are copied as anything else. Beside an
            inpainter it is moved and converted with it, but not offloaded.

    Raises:
        ValueError, TypeError: naming the setting or the component.

    Example:
        >>> pipe = ContentPipeline(PCNetContent(block_out_channels=(4, 8), sample_size=32), background_size=32)
        >>> photo = np.zeros((24, 32, 3), dtype=np.uint8)
        >>> masks, amodal_masks = np.zeros((2, 1, 24, 32), dtype=bool)
        >>> masks[0, 4:20, 4:16], amodal_masks[0, 4:20, 4:24] = True, True
        >>> output = pipe(photo, masks, amodal_masks)
        >>> output.objects[0].shape, output.boxes[0]
        ((16, 20, 4), array([ 4,  4, 20, 16]))
        >>> pipe.background(photo, masks).shape
        (24, 32, 3)
    """

    model_cpu_offload_seq = "thing_model->model"
    _optional_components = ["model", "inpainter", "thing_model"]

    model: PCNetContent | None
    inpainter: Any
    thing_model: ThingNet | None

    def __init__(
        self,
        model: PCNetContent | None = None,
        inpainter: Any = None,
        thing_model: ThingNet | None = None,
        *,
        inpainter_id: str | None = None,
        enlarge_box: float = 3.0,
        hole_dilation: float = 5.0,
        background_size: int = 384,
        background_dilation: float = 3.0,
        inpainter_size: int | None = None,
        feather: float = 64.0,
        seam_margin: int | None = None,
        erase_occluders: bool | None = None,
        filler: str | None = None,
        blend_prior: str = "smooth",
        source_margin: int = 2,
    ) -> None:
        super().__init__()
        if model is not None or inpainter is not None or inpainter_id is not None or filler is None:
            model, inpainter, inpainter_id = read_components(model, inpainter, inpainter_id)
        if filler is not None:
            check_filler("filler", filler, model=model is not None, inpainter=inpainter is not None)
        if check_choice("blend_prior", blend_prior, ("smooth", "network")) == "network" and model is inpainter:
            raise ValueError("`blend_prior` 'network' needs a `model` or an `inpainter`.")
        if thing_model is not None:
            check_network("thing_model", thing_model, ThingNet)
        self.register_modules(model=model, inpainter=inpainter, thing_model=thing_model)
        self.register_to_config(
            inpainter_id=inpainter_id,
            enlarge_box=check_number("enlarge_box", enlarge_box, least=1, below=100),
            hole_dilation=check_number("hole_dilation", hole_dilation, least=0, below=_UNIT / 4),
            background_size=check_integer("background_size", background_size, 1),
            background_dilation=check_number("background_dilation", background_dilation, least=0, below=_UNIT / 4),
            inpainter_size=None if inpainter_size is None else check_integer("inpainter_size", inpainter_size, 8),
            feather=check_number("feather", feather, least=0, below=_UNIT),
            seam_margin=None if seam_margin is None else check_integer("seam_margin", seam_margin, 0),
            erase_occluders=None if erase_occluders is None else check_flag("erase_occluders", erase_occluders),
            filler=filler,
            blend_prior=blend_prior,
            source_margin=check_integer("source_margin", source_margin, 0),
        )
        if model is not None and background_size % model.multiple:
            raise ValueError(f"`background_size` must be a multiple of {model.multiple}, got {background_size}.")
        if inpainter is not None and self.size % _SIZE_STEP:
            raise ValueError(f"`inpainter_size` must be a multiple of {_SIZE_STEP}, got {self.size}.")

    @property
    def size(self) -> int:
        """Side in pixels of the crops that objects are filled at."""
        if self.model is not None:
            return int(self.model.config.sample_size)
        if self.inpainter is None:
            return _UNIT
        return int(self.config.inpainter_size or trained_size(self.inpainter))

    @property
    def networks(self) -> list[nn.Module]:
        """The networks of this package that the pipeline has."""
        return [network for network in (self.model, self.thing_model) if network is not None]

    @property
    def network(self) -> str | None:
        """The filler that stands for the component of the pipeline; None without one."""
        return "pcnet-c" if self.model is not None else None if self.inpainter is None else "inpainter"

    @property
    def fillers(self) -> tuple[str, ...]:
        """The fillers that a call can ask for: those of `FILLERS` whose component is there."""
        lacking = {"pcnet-c": self.model is None, "inpainter": self.inpainter is None}
        return tuple(filler for filler in FILLERS if not lacking.get(filler, False))

    def _fillers(self, filler: Any, names: Sequence[str | None]) -> list[str]:
        """One for each object, checked."""
        default = self.config.filler or self.network or "auto"
        return read_fillers(filler, default, names, model=self.model is not None, inpainter=self.inpainter is not None)

    # Loading, saving, sharing

    @classmethod
    def from_folder(cls, folder: PipelineFolder, **kwargs: Any) -> Self:
        """See `SafePipeline.from_folder`.

        `model=...` or `inpainter=...` here (a component; for the inpainter a Hub id or a path as well) takes the place
        of what the folder holds. An inpainter that the folder only names is loaded from where its setting
        `inpainter_id` says. `dtype` and `variant` go for the inpainter too.

        Raises:
            ValueError, FileNotFoundError, OSError: as `SafePipeline.from_folder` and `load_inpainter` say.
        """
        hub_options = {key: kwargs.get(key) for key in HUB_KEYS}
        index = folder.index
        options = {"dtype": kwargs.get("dtype", kwargs.get("torch_dtype")), "variant": kwargs.get("variant")}
        elsewhere = {**hub_options, "revision": None}  # the revision is one of our repository
        given = kwargs.get("inpainter")
        if given is not None:
            kwargs.setdefault("model", None)
            if isinstance(given, str | os.PathLike):
                kwargs.update(inpainter=load_inpainter(given, **options, **elsewhere), inpainter_id=os.fspath(given))
            else:
                kwargs.setdefault("inpainter_id", None)
        elif kwargs.get("model") is not None:
            kwargs.update(inpainter=None, inpainter_id=None)
        elif holds_component(index, _INPAINTER_FOLDER):
            inner = resolve_subfolder(folder.place, _INPAINTER_FOLDER, **hub_options)
            kwargs["inpainter"] = load_inpainter(inner, **options, **elsewhere)
        elif not holds_component(index, "model"):
            source = kwargs.get("inpainter_id") or index.get("inpainter_id")
            if source is not None:
                kwargs["inpainter"] = load_inpainter(source, **options, **elsewhere)
        if kwargs.get("inpainter") is not None:
            if "thing_model" not in kwargs and holds_component(index, _THINGS_FOLDER):
                inner = resolve_subfolder(folder.place, _THINGS_FOLDER, **hub_options)
                kwargs["thing_model"] = ThingNet.from_pretrained(
                    inner, torch_dtype=options["dtype"], variant=options["variant"], use_safetensors=True
                )
            kwargs.pop("variant", None)  # diffusers looks for one in all folders, and stumbles over the inpainter's
        return super().from_folder(folder, **kwargs)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        safe_serialization: bool = True,
        *,
        include_inpainter: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Save as `SafePipeline.save_pretrained` does, with the inpainter or with its name alone.

        Args:
            save_directory: folder, made where it is missing.
            safe_serialization: only True: weights are written as safetensors.
            include_inpainter: save the inpainter too, in the folder `inpainter`, several GB. False saves the settings
                and `inpainter_id`, which `from_pretrained` then loads it from. None saves it exactly where the pipeline
                has no such id. Without influence where the pipeline has a `model`.
            kwargs: see `DiffusionPipeline.save_pretrained`.

        Raises:
            ValueError: where the folder would not load again: without the inpainter and without an id, or with one that
                is none of diffusers' own; and as `SafePipeline.save_pretrained` says.
        """
        if self.inpainter is None:
            super().save_pretrained(save_directory, safe_serialization, **kwargs)
            return
        if include_inpainter is None:
            include_inpainter = self.config.inpainter_id is None
        light = copy.copy(self)
        if include_inpainter:
            name = type(self.inpainter).__name__
            if getattr(diffusers, name, None) is not type(self.inpainter):
                raise ValueError(f"`inpainter` cannot be saved: {name} is no class of diffusers, so it would not load.")
            light.register_to_config(inpainter=("diffusers", name), inpainter_id=None)
        elif self.config.inpainter_id is None:
            raise ValueError(
                "`include_inpainter` may be False only where the setting `inpainter_id` says where the inpainter is: "
                "give it when the pipeline is made or loaded."
            )
        else:
            light.register_modules(inpainter=None)
        super(ContentPipeline, light).save_pretrained(save_directory, safe_serialization, **kwargs)

    @classmethod
    def from_pipe(cls, pipeline: Any, **kwargs: Any) -> Self:
        """Share the components of another pipeline in memory; without `dtype` their weights keep dtype and device.

        Args:
            pipeline: any diffusers pipeline that `AutoPipelineForInpainting.from_pipe` takes, or one of this class,
                which gives its settings too.
            kwargs: settings as for the class; and `dtype`, see `SafePipeline.from_pipe`.

        Raises:
            ValueError, TypeError: as the class and `SafePipeline.from_pipe` say.
        """
        if isinstance(pipeline, cls):
            return super().from_pipe(pipeline, **kwargs)
        dtype = take_dtype(kwargs)
        made = cls(inpainter=pipeline, **kwargs)
        return made if dtype is None else made.to(dtype=dtype)

    # Devices. Diffusers moves and offloads components that are networks; an inpainter is a pipeline.

    @property
    def pipelines(self) -> list[Any]:
        """The inpainter, where there is one."""
        return [] if self.inpainter is None else [self.inpainter]

    @property
    def device(self) -> torch.device:
        """Where the component lies."""
        return super().device if self.inpainter is None else self.inpainter.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the component."""
        return super().dtype if self.inpainter is None else self.inpainter.dtype

    @property
    def _execution_device(self) -> torch.device:
        return super()._execution_device if self.inpainter is None else self.inpainter._execution_device

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move or convert the components; see `DiffusionPipeline.to`."""
        if self.inpainter is None:
            return super().to(*args, **kwargs)
        self.inpainter.to(*args, **kwargs)
        if self.thing_model is not None:
            kwargs.pop("silence_dtype_warnings", None)
            self.thing_model.to(*args, **kwargs)
        return self

    def set_progress_bar_config(self, **kwargs: Any) -> None:
        """See `DiffusionPipeline.set_progress_bar_config`; goes for the bar of the inpainter's steps too."""
        super().set_progress_bar_config(**kwargs)
        if self.inpainter is not None:
            self.inpainter.set_progress_bar_config(**kwargs)

    # Objects

    @torch.no_grad()
    @named_options
    def __call__(
        self,
        image: Any,
        masks: Any,
        amodal_masks: Any,
        *,
        order: Any = None,
        occluder_masks: Any = None,
        unknown: Any = None,
        names: Sequence[str | None] | None = None,
        prompts: str | Sequence[str | None] | None = None,
        category_ids: Any = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        inpainter_kwargs: Mapping[str, Any] | None = None,
        filler: str | Sequence[str | None] | Mapping[int | str, str] | None = None,
        clean_seams: bool = False,
        batch_size: int | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback: PipelineCallback | None = None,
    ) -> ContentPipelineOutput | tuple[Any, ...]:
        """Give each object the colours of its hidden part.

        The hidden part, `amodal & ~modal`, is filled. The network sees neither the hidden part nor a rim around it
        (`hole_dilation`). Where the mask of an object overlaps with that of an object in front (as told by `order` or
        `occluder_masks`), it does not see the overlap either.

        Args:
            image: the photo in any form that `load_image` reads.
            masks: (N, H, W) modal masks, the visible parts, in any form that `to_mask_stack` reads.
            amodal_masks: (N, H, W) whole objects, likewise. Visible pixels that a whole mask lacks are added to it.
            order: (N, N) order matrix, see `ordering`; the ancestors of an object are in front of it.
            occluder_masks: (H, W) or (N, H, W), what else is in front of the objects.
            unknown: (H, W), pixels without content, such as the border of an extended canvas; hidden parts may lie
                there, visible parts may not.
            names: category names of the objects, None for one without.
            prompts: for an inpainter, one text for all objects or one each; None takes the name, or an empty text.
            category_ids: (N,) positive integers; needed where the network is class-conditioned, else ignored.
            generator: random numbers of an inpainter, and of the search for what to copy: one, from which one for each
                object is derived, or a list with one an object. The batch size does not change the random numbers.
                PCNet-C draws none. None: what is copied is the same in every call.
            inpainter_kwargs: further arguments of the inpainter's call: `num_inference_steps`, `guidance_scale`,
                `strength`, `negative_prompt` (one for all), ...
            filler: what fills the hidden parts, in place of the setting: one for all objects; a list with one each,
                None for the setting's; or a dictionary from numbers or names of objects to theirs.
            clean_seams: the masks already keep a pixel or two away from the objects in front, so that they contain none
                of their colours; `seam_margin` is then taken for 0, and `source_margin` beside holes.
            batch_size: crops in one pass; None suits it to the device.
            output_type: "np", "pil" or "pt", see `ContentPipelineOutput`.
            return_dict: False returns a tuple of `objects`, `boxes`, `fillers`.
            callback: called after every batch as `callback(pipeline, "contents", done, total)`, and between the steps
                of an inpainter; if it returns False, the call ends with `CallInterruptedError`.

        Returns:
            `ContentPipelineOutput`. Visible pixels equal the photo's. An object without a hidden part is not sent
            through the network; one without a visible part is painted from its surroundings; one without any pixel gets
            an empty tile. No objects give an empty list and boxes of shape (0, 4).

        Raises:
            ValueError: naming the argument: sizes or numbers of masks, names, prompts or generators that differ, NaN,
                an order that is no antisymmetric (N, N) matrix of -1, 0 and 1, visible pixels in `unknown`, missing
                category ids.
            TypeError: naming the argument that is of another kind.
            CallInterruptedError: by the callback.
        """
        # 1. Check the inputs
        return_dict = check_flag("return_dict", return_dict)
        scene = read_content_scene(
            image, masks, amodal_masks, order=order, occluder_masks=occluder_masks, unknown=unknown, names=names,
            prompts=prompts, category_ids=category_ids, lowest_category=1 if self.class_conditioned else 0,
        )  # fmt: skip
        options = check_inpainter_kwargs(self.inpainter, inpainter_kwargs)
        generators = split_generators(generator, len(scene))
        batch_size = self.check_call(batch_size, output_type, self.size)
        callback = check_callback(callback)
        if self.class_conditioned and scene.category_ids is None:
            raise ValueError("`category_ids` must be given: the network is class-conditioned.")
        margin = self.config.seam_margin
        if check_flag("clean_seams", clean_seams) and margin is not None:
            margin = 0

        fillers: list[str | None] = [*self._fillers(filler, scene.names)]

        # 2. Cut the visible part of each object out of the photo
        tiles = [visible_tile(scene, index) for index in range(len(scene))]
        rows = [index for index in range(len(scene)) if scene.hidden(index).any()]
        fillers = [given if index in rows else None for index, given in enumerate(fillers)]
        boxes = content_boxes(scene.boxes, self.config.enlarge_box)

        # 3. Fill and paste the hidden parts: with the network in batches of objects, without it one by one
        planes: dict[str, Tensor] = {}  # "photo" (3, H, W), where the network looks at it
        holes: dict[int, Hole] = {}

        def copy_pixels(index: int, low: Tensor | None = None) -> None:
            source = None if generators is None else generators[index]
            hole = holes.pop(index)
            paste_window(tiles[index], hole.fill(str(fillers[index]), low, source), hole.window, scene, index)

        def paint(chosen: list[int]) -> None:
            answers = self.fill(
                self.crop_objects(scene, planes["photo"], chosen, boxes),
                [scene.prompts[index] for index in chosen],
                None if generators is None else [generators[index] for index in chosen],
                options,
                None if callback is None else lambda step, steps: advance(0),
            )  # [B, 3, s, s]
            for index, patch in zip(chosen, answers, strict=True):
                if fillers[index] == "blend":
                    copy_pixels(index, patch_colours(patch, boxes[index], *holes[index].window).cpu())
                else:
                    paste_hidden(tiles[index], patch, boxes[index], scene, index, margin)

        def complete(chosen: list[int]) -> None:
            if self._needs_network(fillers[chosen[0]]):
                paint(chosen)
            else:
                copy_pixels(chosen[0])

        try:
            with self.evaluation_mode(), self.progress("contents", len(rows), callback) as advance:
                painted: list[int] = []
                copied: list[int] = []
                for index in rows:
                    if fillers[index] != self.network:
                        holes[index] = self._object_hole(scene, index, clean_seams)
                    if fillers[index] == "auto":
                        fillers[index] = holes[index].suiting_filler(self.network)
                    (painted if self._needs_network(fillers[index]) else copied).append(index)
                    if fillers[index] == self.network:
                        holes.pop(index, None)
                    if index != rows[-1] and sum(holes[other].hole.size for other in copied) < _AT_ONCE:
                        continue
                    largest = sorted(copied, key=lambda other: -np.count_nonzero(holes[other].hole))
                    jobs = [[other] for other in largest]  # so that two threads end at much the same time
                    if index == rows[-1] and painted:
                        planes["photo"] = to_planes(scene.photo, scene.unknown, self._execution_device)
                        jobs = [painted[part] for part in batches(len(painted), batch_size)] + jobs
                    for done, _ in spread(complete, jobs):
                        advance(len(done))
                    copied = []
        finally:  # offloaded networks go back in any case
            self.maybe_free_model_hooks()

        # 4. Put the output together
        output = ContentPipelineOutput(
            objects=[postprocess(tile, output_type) for tile in tiles],
            boxes=torch.from_numpy(scene.boxes) if output_type == "pt" else scene.boxes,
            fillers=fillers,
        )
        return output if return_dict else (output.objects, output.boxes, output.fillers)

    def _needs_network(self, filler: str | None) -> bool:
        return filler in ("pcnet-c", "inpainter") or (filler == "blend" and self.config.blend_prior == "network")

    def _object_hole(self, scene: ContentScene, index: int, clean_seams: bool) -> Hole:
        """The hidden part of an object, and what of its visible part may be copied."""
        return object_hole(scene, index, self.config.source_margin, clean_seams=clean_seams)

    def crop_objects(
        self, scene: ContentScene, photo: Tensor, rows: Sequence[int], boxes: np.ndarray
    ) -> ContentPatches:
        """Crop some objects.

        Args:
            scene: the photo and its objects.
            photo: (3, H, W) float32 in [0, 1] on the device of the work.
            rows: indices of the B objects.
            boxes: (N, 4) int64 (x, y, side, side), crops of all objects.
        """
        size, device = self.size, photo.device
        chosen = boxes[list(rows)]
        everything = self.model is None if self.config.erase_occluders is None else self.config.erase_occluders
        erased = torch.stack(
            [crop_erased(scene, row, box, size, everything=everything) for row, box in zip(rows, chosen, strict=True)]
        )[:, None].to(device)  # [B, 1, s, s]
        reach = ceil(self.config.hole_dilation * size / _UNIT)
        unseen = _grow(erased, reach)
        modal = crop_masks(to_device(scene.modal[list(rows)], device), chosen, size)[:, None]  # [B, 1, s, s]
        ids = scene.category_ids if self.class_conditioned else None
        categories = None if ids is None else to_device(ids[list(rows)], device)
        return ContentPatches(
            image=crop_images(photo, chosen, size).clamp_(0, 1),
            unseen=unseen,
            modal=modal,
            known=modal,
            trusted=trusted_rim(modal & unseen, erased & ~modal, reach),
            category_ids=categories,
        )

    # Background

    @torch.no_grad()
    @named_options
    def background(
        self,
        image: Any,
        masks: Any,
        *,
        unknown: Any = None,
        replace_rim: bool = False,
        avoid: Any = None,
        things: Any = None,
        filler: str | None = None,
        prompt: str = "",
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        inpainter_kwargs: Mapping[str, Any] | None = None,
        output_type: str = "np",
        callback: PipelineCallback | None = None,
    ) -> Any:
        """Remove all objects of a photo and fill their places.

        What touches is filled one after the other, the larger first, while the others are not looked at: where one
        object leaves, the background shows what goes on behind it, and where all leave, their places fit together.
        Objects that leave together, and places that are to be one hole, are one mask. Objects that are less than a
        tenth of all are filled together.

        A network fills the whole photo at once: for a `model` padded to a square of `background_size`, for an
        `inpainter` scaled to `inpainter_size`.

        Args:
            image: the photo in any form that `load_image` reads.
            masks: (N, H, W) what to remove, in any form that `to_mask_stack` reads; a pixel in several of them belongs
                to the largest.
            unknown: (H, W), pixels without content; they are filled, too.
            replace_rim: also fill a rim of `background_rim` pixels around the hole, where halos and shadows are.
            avoid: (N, H, W), what else must not be copied, such as other objects and shadows. Things that a
                `thing_model` finds are not copied where something else will do, unless the hole lies amid things.
            things: (H, W), what `find_things` says of the photo, where that is known; None asks it. Their colours shine
                less into the hole, too.
            filler: what fills the hole, in place of the setting.
            prompt: for an inpainter.
            generator: of random numbers, as of `__call__`; a list may hold the one.
            inpainter_kwargs: see `__call__`.
            output_type: "np" for a (H, W, 3) uint8 array, "pil" for an image, "pt" for a (3, H, W) uint8 tensor.
            callback: called as `callback(pipeline, "background", done, total)`, in percent of what is to be filled: at
                the beginning, after every hole, and between the steps of an inpainter; if it returns False, the call
                ends with `CallInterruptedError`.

        Returns:
            The background. Every pixel outside the hole (with `replace_rim`: outside the hole and its rim) is equal to
            the photo's, but for a rim of up to `source_margin` pixels where the photo shows the colours of what is
            removed, which fillers that are no network fill too. Without a hole it is the photo itself, and no network
            is called. If the hole covers the whole photo, a network has no visible pixel to go by, and its output is
            returned as it is.

        Raises:
            ValueError, TypeError: naming the argument, as `__call__` says.
            CallInterruptedError: by the callback.
        """
        callback = check_callback(callback)
        photo = read_photo(image)
        size = photo.shape[:2]
        places = [*read_stack("masks", masks, size)]
        unknown = None if unknown is None else read_mask("unknown", unknown, size)
        if unknown is not None:
            places.append(unknown)
        check_flag("replace_rim", replace_rim)
        if not isinstance(prompt, str):
            raise TypeError(f"`prompt` must be a text, got {type(prompt).__name__}.")
        options = check_inpainter_kwargs(self.inpainter, inpainter_kwargs)
        generators = split_generators(generator, 1)
        check_choice("output_type", output_type, ("np", "pt", "pil"))
        avoid = None if avoid is None else read_mask("avoid", avoid, size)
        things = None if things is None else read_mask("things", things, size)
        chosen = self._fillers(filler, [None])[0]
        result = photo.copy()
        hole = reduce(np.logical_or, places, np.zeros(size, bool))
        if not hole.any():
            return postprocess(result, output_type)

        def tell(share: float) -> None:
            self.report(callback, "background", round(100 * share), 100)

        tell(0.0)
        low, filled, painted_over = None, 0.0, np.zeros(size, bool)
        if self._needs_network(chosen):
            alone = chosen != "blend"
            on_step = None if callback is None else lambda step, steps: tell(step / (steps + 1) if alone else 0.0)
            low = self._paint_background(photo, hole, unknown, replace_rim, prompt, generators, options, on_step)
            if alone:
                result = self._paste_background(low, photo, hole, replace_rim)
                tell(1.0)
                return postprocess(result, output_type)
        margin = self.config.source_margin
        if replace_rim:
            margin, side = 0, 2 * self.background_rim(*size) + 1
            places = [dilate(place, kernel="square", size=side) for place in places]
        # The holes hold the rim whose colours are mixed, too, which would stay as an outline.
        things = self.find_things(photo, chosen) if things is None else things
        for place in background_holes(result, places, unknown, avoid, margin, things):
            suiting = place.suiting_filler(self.network) if chosen == "auto" else chosen
            if low is None and self._needs_network(suiting):
                on_step = None if callback is None else lambda step, steps, so_far=filled: tell(so_far)
                low = self._paint_background(photo, hole, unknown, replace_rim, prompt, generators, options, on_step)
            if low is not None and suiting == self.network:
                painted = self._paste_background(low, photo, hole, replace_rim)[place.window]
                np.copyto(result[place.window], painted, where=place.hole[:, :, None])
            else:
                part = low[:, place.window[0], place.window[1]] if low is not None and suiting == "blend" else None
                place.fill(suiting, part, None if generators is None else generators[0], out=result[place.window])
            painted_over[place.window] |= place.hole
            filled = min(filled + place.share, 1.0)
            if filled < 1:
                tell(filled)
        erase_outline(result, photo, hole if unknown is None else hole & ~unknown, painted_over, margin, avoid)
        tell(1.0)
        return postprocess(result, output_type)

    @torch.no_grad()
    def find_things(self, image: Any, filler: str | None = None) -> BoolArray | None:
        """Where a photo shows things: backgrounds copy them only where nothing else will do, and dim their colours.

        Args:
            image: the photo in any form that `load_image` reads.
            filler: of the background, in place of the setting.

        Returns:
            (H, W) bool; None without a `thing_model`, and for a filler that copies nothing.

        Raises:
            ValueError, TypeError: naming the argument, as `__call__` says.

        Example:
            >>> pipe = ContentPipeline(filler="exemplar", thing_model=ThingNet(4, 64))
            >>> pipe.find_things(np.zeros((20, 30, 3), np.uint8)).shape
            (20, 30)
        """
        photo, chosen = read_photo(image), self._fillers(filler, [None])[0]
        if self.thing_model is None or chosen not in COPYING:
            return None
        device = self._execution_device if self.inpainter is None else self.thing_model.device
        image = photo_for_things(photo, self.thing_model.config.sample_size).to(device, self.thing_model.dtype)
        try:
            with self.evaluation_mode():
                logits = self.thing_model(image.contiguous(memory_format=torch.channels_last)).logits
        finally:
            self.maybe_free_model_hooks()
        likely = Image.fromarray(to_numpy((255 * logits[0, 0].float().sigmoid()).round().to(torch.uint8)))
        # As bytes: floats of a large photo would take four times as much memory.
        things: BoolArray = np.asarray(likely.resize(photo.shape[1::-1], Image.Resampling.BILINEAR)) > 127
        return things

    def _paint_background(
        self,
        photo: np.ndarray,
        hole: np.ndarray,
        unknown: np.ndarray | None,
        replace_rim: bool,
        prompt: str,
        generators: Sequence[torch.Generator] | None,
        options: Mapping[str, Any],
        on_step: Callable[[int, int], None] | None,
    ) -> Tensor:
        """(3, H, W) float32 in [0, 1], the whole photo as the network paints it."""
        size = photo.shape[:2]
        padding, inner = self._background_frame(*size)
        try:
            with self.evaluation_mode():
                planes = to_planes(photo, unknown, self._execution_device)  # [3, H, W]
                patches = self.crop_background(planes, hole, padding, inner, replace_rim)
                filled = self.fill(patches, [prompt], generators, options, on_step)  # [1, 3, h, w]
        finally:  # offloaded networks go back in any case
            self.maybe_free_model_hooks()
        left, right, above, below = padding
        square = (size[0] + above + below, size[1] + left + right)
        whole = F.interpolate(filled, size=square, mode="bilinear", align_corners=False)[0]
        return whole[:, above : above + size[0], left : left + size[1]]

    def _paste_background(self, whole: Tensor, photo: np.ndarray, hole: np.ndarray, replace_rim: bool) -> np.ndarray:
        """(H, W, 3) uint8, the photo with its hole, and the rim of that, as the network paints them."""
        if replace_rim:
            hole = dilate(hole, kernel="square", size=2 * self.background_rim(*hole.shape) + 1)
        if self.config.seam_margin is not None:
            trusted = trusted_photo(~hole, hole, self.config.seam_margin)
            whole = continue_photo(whole.cpu(), to_planes(photo, None, trusted.device), trusted)
        return np.where(hole[:, :, None], to_pixels(whole), photo)

    def background_rim(self, height: int, width: int) -> int:
        """Width in pixels of the rim that `background(..., replace_rim=True)` fills, for a photo of this size.

        It is `background_dilation` at the resolution of the photo, rounded, at least 1.
        """
        return max(1, round(self.config.background_dilation / _UNIT * max(height, width)))

    def _background_frame(self, height: int, width: int) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
        """What to add to a photo left, right, above and below, and the size that the network then sees it in."""
        if self.model is not None:
            spare = max(height, width) - np.array([width, height])
            left, above = (int(value) for value in spare // 2)
            size = int(self.config.background_size)
            return (left, int(spare[0]) - left, above, int(spare[1]) - above), (size, size)
        scale = self.size / max(height, width)
        step = 2 * _SIZE_STEP  # which suits transformers over patches too
        sides = (max(step, round(side * scale / step) * step) for side in (height, width))
        return (0, 0, 0, 0), tuple(sides)  # type: ignore[return-value]

    def crop_background(
        self,
        photo: Tensor,
        hole: np.ndarray,
        padding: tuple[int, int, int, int],
        size: tuple[int, int],
        replace_rim: bool,
    ) -> ContentPatches:
        """The whole photo at the network's resolution.

        Args:
            photo: (3, H, W) float32 in [0, 1].
            hole: (H, W) bool.
            padding: pixels to add left, right, above and below.
            size: (h, w) of the result.
            replace_rim: the photo begins outside of the dilated hole.
        """
        # The last row and column are repeated into the padding, so that no black mixes in when the photo is resized.
        framed = F.pad(photo[None], padding, mode="replicate")
        image = F.interpolate(framed, size=size, mode="bicubic", align_corners=False, antialias=True).clamp_(0, 1)
        core = cover(hole, padding, size, outside=False).to(photo.device)
        outside = cover(np.zeros_like(hole), padding, size, outside=True).to(photo.device)
        reach = ceil(self.config.background_dilation * max(size) / _UNIT)
        unseen = _grow(core, reach) | outside
        rim = unseen & ~core & ~outside
        if replace_rim:
            # The outermost pixels of the rim are painted unseen too, and furthest from halos of the objects.
            known = dilate(~unseen)
            trusted = (rim & known).float()
        else:
            known, trusted = ~core & ~outside, trusted_rim(rim, core, reach)
        nothing = torch.zeros_like(core)  # no object: what the network has learned to take for the background
        categories = torch.ones(1, dtype=torch.int64, device=photo.device) if self.class_conditioned else None
        return ContentPatches(image, unseen, nothing, known, trusted, categories)

    # Both

    @property
    def class_conditioned(self) -> bool:
        """The network reads the `category_ids` of the objects."""
        return self.model is not None and bool(self.model.config.class_conditioned)

    def fill(
        self,
        patches: ContentPatches,
        prompts: Sequence[str],
        generators: Sequence[torch.Generator] | None,
        options: Mapping[str, Any],
        on_step: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """The colours of a batch of crops, to be used where the photo is not known; for `on_step` see `inpaint`.

        Returns:
            (B, 3, h, w) float32 in [0, 1].
        """
        if self.model is not None:
            planes = {"mask": patches.modal & ~patches.unseen} if self.model.config.use_mask else {}
            planes = {name: plane.to(self.model.dtype) for name, plane in planes.items()}
            output = self.model(
                image=normalize_images(patches.image).to(self.model.dtype),
                visible=(~patches.unseen).to(self.model.dtype),
                category_ids=patches.category_ids,
                **planes,
            )
            painted = denormalize_images(output.image.float())
        else:
            # Under the hole the colours of the object go on, so that nothing of what hides it is left to start from.
            weights = (0.02 + 0.98 * patches.modal.float()) * ~patches.unseen
            start = torch.where(patches.unseen, pull_push(patches.image, weights), patches.image)
            painted = inpaint(self.inpainter, start, patches.unseen, prompts, generators, options, on_step)
        width = ceil(self.config.feather * max(patches.image.shape[-2:]) / _UNIT)
        return match_seam(painted, patches.image, patches.trusted, patches.known, width)


def _grow(mask: Tensor, radius: int) -> Tensor:
    return dilate(mask, kernel="square", size=2 * radius + 1)
