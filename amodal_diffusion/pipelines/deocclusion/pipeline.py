"""From a photo and the masks of its objects to a scene whose layers can be edited [Z20]."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from ...arguments.flags import check_flag
from ...arguments.numeric import check_integer, check_number
from ...hub import PipelineFolder
from ...masks import BoolArray, TileStack, mask_boxes, mask_unions, to_mask_stack
from ...ordering import ancestors, check_order, order_from_masks
from ...runtimes import check_runtime
from ...scene import Layer, Scene
from ..base import SAVE_OPTIONS, PipelineCallback, check_save_options, named_options
from ..completion.mask_pipeline import MaskPipeline
from ..content.fillers import check_filler, read_fillers
from ..content.inpainting import check_inpainter_kwargs, split_generators
from ..content.inputs import read_photo
from ..content.pipeline import ContentPipeline
from ..contexts import work_beside
from ..inputs import named, read_generator, to_numpy
from ..nested import NestedPipeline
from ..registry import register_pipeline
from ..segmentation.segmenter import Segmenter
from .layers import (
    SceneInputs,
    cut_by_front,
    make_layer,
    order_with,
    read_flags,
    read_margins,
    read_names,
    split_overlaps,
    tidy_hidden,
)
from .loading import COMPONENTS, SETTINGS, index_for_diffusers, load_scene_pipeline, save_scene_pipeline
from .matting import soft_outlines
from .progress import Progress, ProgressCallback
from .repainting import RepaintInputs, on_photo, repainted
from .scene_background import paint_background
from .shadows import find_shadows

_MAX_EDGE = 16  # pixels of a photo whose longer side is 640
_AT_ONCE = 2_000_000  # pixels of a canvas up to which contents and background are filled at once


@register_pipeline
class ScenePipeline(NestedPipeline):
    """Takes a photo apart into a background and whole objects. Source: [Z20].

    Args:
        mask_pipeline: completes the masks and tells who is in front; any `MaskPipeline`.
        content_pipeline: fills hidden parts and the background with colour.
        segmenter: finds the objects in calls without masks; a `Segmenter`, or what one is made of: a transformers
            pipeline or the id of a model. None: masks have to be given.
        min_hidden_width: pixels; hidden parts that are narrower are left out, and cracks that are narrower between a
            visible and a hidden part closed.
        edge_width: soften the outlines of objects in a band of this width on each side, in pixels of a photo whose
            longer side is 640 (`soft_outlines`): the layers get a soft alpha and colours of their own there, and what
            lies behind is painted where it mixes with them. 0 keeps the masks as given and their outlines hard.
        shadows: find the shadow that each object throws on the ground beside it (`find_shadows`), which the background
            then does not have and the layer takes along.

    Raises:
        TypeError, ValueError: naming the component that is of another kind, or the setting.

    Example:
        >>> from amodal_diffusion import PCNetContent, PCNetMask, PCNetMaskPipeline
        >>> mask_pipeline = PCNetMaskPipeline(PCNetMask((4, 4), sample_size=32))
        >>> content_pipeline = ContentPipeline(PCNetContent((4, 4), sample_size=32))
        >>> pipe = ScenePipeline(mask_pipeline, content_pipeline)
        >>> masks = np.zeros((2, 40, 50), bool)
        >>> masks[0, 5:30, 5:25] = masks[1, 10:35, 25:45] = True
        >>> pipe(np.zeros((40, 50, 3), np.uint8), masks, names=["cup", "plate"])
        Scene(50x40, 2 layers: cup, plate)
    """

    mask_pipeline: MaskPipeline
    content_pipeline: ContentPipeline
    segmenter: Segmenter | None

    model_cpu_offload_seq = ""
    _optional_components = ["segmenter"]

    def __init__(
        self,
        mask_pipeline: Any,
        content_pipeline: Any,
        segmenter: Any = None,
        *,
        min_hidden_width: int = 3,
        edge_width: float = 0.0,
        shadows: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(mask_pipeline, MaskPipeline):
            raise TypeError(f"`mask_pipeline` must be a MaskPipeline, got {type(mask_pipeline).__name__}.")
        if not isinstance(content_pipeline, ContentPipeline):
            raise TypeError(f"`content_pipeline` must be a ContentPipeline, got {type(content_pipeline).__name__}.")
        if segmenter is not None and not isinstance(segmenter, Segmenter):
            segmenter = Segmenter(segmenter)
        self.register_modules(mask_pipeline=mask_pipeline, content_pipeline=content_pipeline, segmenter=segmenter)
        self.register_to_config(
            min_hidden_width=check_integer("min_hidden_width", min_hidden_width, 0),
            edge_width=check_number("edge_width", edge_width, least=0, below=_MAX_EDGE),
            shadows=check_flag("shadows", shadows),
        )

    # Loading and saving

    @classmethod
    def from_folder(cls, folder: PipelineFolder, **kwargs: Any) -> Self:
        """See `SafePipeline.from_folder`.

        `model_index.json` may hold `references`, from the name of a component to where it lies: a path relative to the
        folder, such as "../asbu", or a Hub id. Components without one lie in the subfolder of their name.

        Args:
            folder: from `find_pipeline_folder`.
            kwargs: `mask_pipeline`, `content_pipeline`, `segmenter` (objects), `min_hidden_width`, `edge_width` and
                `shadows` take the place of what was saved; all others, as `dtype`, `revision`, `cache_dir`, `token` and
                `local_files_only`, go to the components.

        Raises:
            FileNotFoundError: where the folder or what it refers to is not there.
            ValueError: where the index is broken, is of another pipeline, or refers to what lies outside of its Hub
                repository; where `use_safetensors` is False.
        """
        if kwargs.pop("use_safetensors", None) is False:
            raise ValueError("`use_safetensors` must be True: pickled weights can run code when they are loaded.")
        runtime = check_runtime(kwargs.pop("runtime", "torch"))
        given = {name: kwargs.pop(name) for name in (*COMPONENTS, *SETTINGS) if name in kwargs}
        return cls(**load_scene_pipeline(folder, given, **kwargs)).use_runtime(runtime)

    @classmethod
    def extract_init_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> tuple[dict[str, Any], ...]:
        """See `ConfigMixin.extract_init_dict`; plain diffusers asks it where the components are and how they load."""
        found: tuple[dict[str, Any], ...] = super().extract_init_dict(index_for_diffusers(config_dict), **kwargs)
        return found

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], safe_serialization: bool = True, **kwargs: Any
    ) -> None:
        """Save a folder that holds all components, each a pipeline folder of its own.

        Args:
            save_directory: folder, made where it is missing.
            safe_serialization: only True: weights are written as safetensors.
            kwargs: `variant` and `max_shard_size` go to the components. To publish, call `push_to_hub(repo_id)`.

        Raises:
            ValueError: where `safe_serialization` is False or `save_directory` is a file.
            TypeError: another keyword.
        """
        if not safe_serialization:
            raise ValueError("`safe_serialization` must be True: pickled weights can run code when they are loaded.")
        if kwargs.pop("push_to_hub", False):
            raise ValueError("`push_to_hub` is no argument here: call the method `push_to_hub(repo_id)`.")
        check_save_options(type(self).__name__, kwargs)
        options = {name: value for name, value in kwargs.items() if name in SAVE_OPTIONS}
        components = {name: getattr(self, name) for name in COMPONENTS}
        settings = {name: self.config[name] for name in SETTINGS}
        save_scene_pipeline(save_directory, type(self).__name__, components, settings, **options)

    # Devices: what diffusers does to networks is done to those of the components

    @property
    def networks(self) -> list[nn.Module]:
        """The networks of both pipelines."""
        return [*self.mask_pipeline.networks, *self.content_pipeline.networks]

    @property
    def pipelines(self) -> list[Any]:
        """Both pipelines."""
        return [self.mask_pipeline, self.content_pipeline]

    @property
    def device(self) -> torch.device:
        """Where the mask pipeline is."""
        return self.mask_pipeline.device

    @property
    def dtype(self) -> torch.dtype:
        """That of the mask pipeline."""
        return self.mask_pipeline.dtype

    @property
    def fillers(self) -> tuple[str, ...]:
        """What can fill hidden parts and the background, by name; see `ContentPipeline.fillers`."""
        return self.content_pipeline.fillers

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move or convert the components; arguments as of `DiffusionPipeline.to`."""
        for part in self._parts():
            part.to(*args, **kwargs)
        return self

    def set_progress_bar_config(self, **kwargs: Any) -> None:
        """Settings of the progress bars of both pipelines, see tqdm."""
        self.mask_pipeline.set_progress_bar_config(**kwargs)
        self.content_pipeline.set_progress_bar_config(**kwargs)

    def _parts(self) -> list[Any]:
        return [part for part in (getattr(self, name) for name in COMPONENTS) if part is not None]

    # A call

    @torch.no_grad()
    @named_options
    def __call__(
        self,
        image: Any,
        masks: Any = None,
        *,
        names: Sequence[str] | None = None,
        category_ids: Any = None,
        is_crowd: Any = None,
        occluder_masks: Any = None,
        order: Any = None,
        extend_canvas: float | Sequence[int] = 0,
        prompts: Any = None,
        background_prompt: str = "",
        inpainter_kwargs: Mapping[str, Any] | None = None,
        filler: str | Sequence[str | None] | Mapping[int | str, str] | None = None,
        background_filler: str | None = None,
        eraser_dilation: int | None = None,
        batch_size: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        callback: PipelineCallback | None = None,
        progress_callback: ProgressCallback | None = None,
    ) -> Scene:
        """Take a photo apart.

        Args:
            image: the photo in any form that `load_image` reads.
            masks: modal masks, one (H, W) or a stack (N, H, W) in any form that `to_mask_stack` reads. None lets the
                segmenter find the objects.
            names: of the N objects; None takes the segmenter's, or numbers them.
            category_ids: (N,), for mask and content pipelines that need them; mask pipelines that know `categories` by
                name take the names.
            is_crowd: (N,) flags of groups of objects under one mask, which may hide others and are not completed
                themselves. None: there are none.
            occluder_masks: (H, W) or (N, H, W), what hides the objects, where it is none of the other masks.
            order: (N, N), 1 where i occludes j, -1 where j occludes i; used instead of the one of the mask pipeline.
            extend_canvas: by how much the canvas is larger than the photo on each side, so that objects that the frame
                cuts can grow beyond it: pixels (an integer), a share of the longer side (a float up to 1), or pixels
                (left, top, right, bottom).
            prompts: one for each object, where the content pipeline takes any; None takes the names.
            background_prompt: for an inpainter.
            inpainter_kwargs: further arguments of an inpainter's call, see `ContentPipeline`.
            filler: what fills hidden parts, in place of the content pipeline's setting: one for all objects, a list, or
                a dictionary from numbers or names of objects, see `ContentPipeline`.
            background_filler: what fills the background, likewise.
            eraser_dilation: pixels by which masks that hide others grow, to close the gaps between the masks of a
                segmenter. None: the segmenter's setting where it made the masks, else 0.
            batch_size: objects in one pass through the networks; None suits it to the device.
            generator: of the random numbers that are drawn, such as in the search for what to copy; a list may hold
                the one. None: the same in every call.
            callback: called as `callback(pipeline, stage, done, total)` as the mask and the content pipeline do, see
                `PipelineCallback`, and with 0 of 1 when "segment" and "edges" begin. One that returns False ends the
                call.
            progress_callback: called with a stage ("segment", "masks", "edges", "contents", "background", "done") and
                the share of all work that is done, which never falls: at the beginning of each stage, and after each
                batch within "masks", "contents" and "background". One that returns False ends the call.

        Returns:
            A `Scene` with one layer for each object, in the order of `masks`, with ids from 0. An object without
            visible pixels becomes a transparent layer of one pixel. Where visible masks overlap, the pixel goes to the
            object in front. Untouched, the scene renders as the photo, bit for bit.

        Raises:
            ValueError, TypeError: naming the argument: see `MaskPipeline` and `ContentPipeline`; no masks and no
                segmenter; a number of names that is not that of the masks.
            CallInterruptedError: by `callback` or `progress_callback`.
        """
        report = Progress(self, progress_callback, callback)
        # 1. Check the inputs; find the objects where no masks are given
        generator = read_generator(generator)
        content = self.content_pipeline
        components = {"model": content.model is not None, "inpainter": content.inpainter is not None}
        _check_text("background_prompt", background_prompt)
        if background_filler is not None:
            check_filler("background_filler", background_filler, **components)
        inputs = self._read_inputs(image, masks, names, extend_canvas, eraser_dilation, report)
        if filler is not None:
            read_fillers(filler, "auto", inputs.names, **components)
        given = None if order is None else check_order(to_numpy(order), len(inputs.masks))
        crowd = read_flags("is_crowd", is_crowd, len(inputs.masks))

        # 2. Complete the masks
        report("masks", 0.1)
        options = {
            "category_ids": inputs.names if self.mask_pipeline.categories else category_ids,
            "batch_size": batch_size, "generator": generator, "order": given,
            "callback": report.within("masks", 0.1, 0.35),
        }  # fmt: skip
        amodal, uncertainty, relations = self._complete_masks(inputs, occluder_masks, options)
        modal = inputs.on_canvas(split_overlaps(inputs.masks, relations))
        amodal[crowd] = modal[crowd]
        amodal = tidy_hidden(amodal, modal, self.config.min_hidden_width)

        # 3. Soften the outlines; meanwhile the things in the photo can be found, which the background does not copy
        report.begin("edges", 0.35)
        width, at_once = self.config.edge_width, self._works_at_once(inputs.canvas)
        find = partial(self.content_pipeline.find_things, inputs.canvas, background_filler)
        with work_beside(find if modal.any() else lambda: None, at_once=at_once) as things:
            outlines = soft_outlines(
                inputs.canvas, modal, amodal, relations, width, unknown=inputs.unknown, overwrite=True
            )  # fmt: skip
        del modal, amodal
        boxes = mask_boxes(outlines.amodal)

        # While contents are completed, shadows can be found and the background filled, by random numbers of its own
        for_contents, for_background = split_generators(generator, 2) or (None, None)
        options = {
            "prompt": background_prompt, "generator": for_background, "inpainter_kwargs": inpainter_kwargs,
            "filler": background_filler, "callback": report.within("background", 0.8, 1.0),
        }  # fmt: skip
        paint = partial(self._paint_background, inputs, outlines.seen, boxes, things, options, overwrite=not at_once)
        with work_beside(paint, at_once=at_once) as painted, report.ending():
            # 4. Complete the contents
            report("contents", 0.4)
            contents: Any = self.content_pipeline(
                outlines.photo, outlines.seen, outlines.amodal, order=relations, unknown=inputs.unknown,
                names=inputs.names,
                prompts=prompts, category_ids=category_ids, generator=for_contents, inpainter_kwargs=inpainter_kwargs,
                batch_size=batch_size, filler=filler, clean_seams=width > 0,
                callback=report.within("contents", 0.4, 0.8),
            )  # fmt: skip

            # 5. Make the layers
            layers = [
                make_layer(
                    index, name, contents.objects[index], boxes[index], outlines.seen, outlines.amodal, uncertainty,
                    None if width == 0 else outlines,
                )
                for index, name in enumerate(inputs.names)
            ]  # fmt: skip
            del outlines, contents  # whose masks of the whole photo a large photo has no room for twice

            # 6. Find the shadows, fill the background, and put the scene together
            report("background", 0.8)
            background, rim, shadows = report.wait_for(painted)
        layers = [
            replace(layer, shadow=shadow, is_crowd=bool(flag))
            for layer, shadow, flag in zip(layers, shadows, crowd, strict=True)
        ]
        report("done", 1.0)
        return Scene(background, tuple(layers), relations, inputs.canvas, rim=rim, replaced=inputs.outside)

    @torch.no_grad()
    @named_options
    def repaint(
        self,
        scene: Scene,
        i: int,
        *,
        filler: str | None = None,
        prompt: str | None = None,
        category_id: int | None = None,
        inpainter_kwargs: Mapping[str, Any] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        callback: PipelineCallback | None = None,
        progress_callback: ProgressCallback | None = None,
    ) -> Scene:
        """Paint the hidden part of one object anew, such as with another filler.

        What the photo shows of the object, its shape and place, the order and all other layers stay as they are, also
        in a scene that has been edited.

        Args:
            scene: with a photo, as a call of this pipeline or `Scene.load` gives it.
            i: place in `layers` of the object.
            filler: what fills the hidden part; None takes the content pipeline's setting.
            prompt: for an inpainter; None takes the name.
            category_id: for a content pipeline that needs it.
            inpainter_kwargs: further arguments of an inpainter's call, see `ContentPipeline`.
            generator: of random numbers, see `ContentPipeline`; a list may hold the one.
            callback: called as `callback(pipeline, "contents", done, total)`, see `PipelineCallback`; False ends the
                call.
            progress_callback: called with "contents" or "done" and the share that is done; False ends the call.

        Returns:
            The scene with another layer i; the scene itself where the object has no hidden part.

        Raises:
            IndexError, TypeError, ValueError: naming the argument: a scene without a photo, a layer that the photo does
                not show, such as an added picture or a copy, and as `ContentPipeline` says.
            CallInterruptedError: by `callback` or `progress_callback`.
        """
        report = Progress(self, progress_callback, callback)
        i = _check_layer(scene, i, with_photo=True)
        modal, amodal = _masks_on_photo(scene, i)
        options = self._paint_options(prompt, category_id, inpainter_kwargs, filler, generator)
        report("contents", 0.0)
        if not (amodal & ~modal).any():
            return scene
        return self._paint_hidden(scene, i, amodal, options, report)

    @torch.no_grad()
    @named_options
    def reshape(
        self,
        scene: Scene,
        i: int,
        mask: Any,
        *,
        keep_visible: bool = False,
        filler: str | None = None,
        prompt: str | None = None,
        category_id: int | None = None,
        inpainter_kwargs: Mapping[str, Any] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        callback: PipelineCallback | None = None,
        progress_callback: ProgressCallback | None = None,
    ) -> Scene:
        """Give an object another shape, such as another pose [L20, section 4.4], drawn or a sample of Amodal-VAE.

        Its colours are carried over: they stay where both shapes have a pixel, and a filler makes the others of them.

        Args:
            scene: that a call of this pipeline or `Scene.load` gives.
            i: place in `layers` of the object.
            mask: (H, W), the whole object as it is to stand on the canvas, in any form that `to_mask_stack` reads; see
                `Scene.reshape`.
            keep_visible: the mask says what of the object is hidden, nothing else: what the photo shows of it stays,
                the untouched scene still renders as the photo, and `mask` is the whole object as it lies in the photo,
                wherever its layer stands. What `min_hidden_width` says is left out.
            filler: what fills the part that is new; None takes the content pipeline's setting.
            prompt: for an inpainter; None takes the name.
            category_id: for a content pipeline that needs it.
            inpainter_kwargs: further arguments of an inpainter's call, see `ContentPipeline`.
            generator: of random numbers, see `ContentPipeline`; a list may hold the one.
            callback: called as `callback(pipeline, "contents", done, total)`, see `PipelineCallback`; False ends the
                call.
            progress_callback: called with "contents" or "done" and the share that is done; False ends the call.

        Returns:
            The scene with another layer i; the scene itself where that has this shape.

        Raises:
            IndexError, TypeError, ValueError: naming the argument: a mask of another size, or none; with `keep_visible`
                a scene without a photo or a layer that the photo does not show; and as `ContentPipeline` says.
            CallInterruptedError: by `callback` or `progress_callback`.
        """
        report = Progress(self, progress_callback, callback)
        i = _check_layer(scene, i, with_photo=check_flag("keep_visible", keep_visible))
        with named("mask", ""):
            given = to_mask_stack(mask, height=scene.size[1], width=scene.size[0])
        if len(given) != 1:
            raise ValueError(f"`mask` must be one mask, got {len(given)}.")
        options = self._paint_options(prompt, category_id, inpainter_kwargs, filler, generator)
        if keep_visible:
            modal, amodal = _masks_on_photo(scene, i)
            whole = tidy_hidden(given | modal, modal[None], self.config.min_hidden_width)[0]
            report("contents", 0.0)
            return scene if (whole == amodal).all() else self._paint_hidden(scene, i, whole, options, report)
        report("contents", 0.0)

        def paint(picture: npt.NDArray[np.uint8], known: BoolArray, hole: BoolArray) -> npt.NDArray[np.uint8]:
            # A layer is painted on its own tile: there is nothing beside it that could be taken for a part of it.
            if not known.any():
                return picture
            contents: Any = self.content_pipeline(
                picture, known[None], (known | hole)[None], unknown=~known, names=[scene.layers[i].name],
                clean_seams=True, callback=report.within("contents", 0.0, 1.0), **options,
            )  # fmt: skip
            x, y, w, h = contents.boxes[0]
            painted = picture.copy()
            painted[y : y + h, x : x + w] = contents.objects[0][..., :3]
            return painted

        reshaped = scene.reshape(i, given[0], paint=paint)
        report("done", 1.0)
        return reshaped

    def _paint_options(
        self, prompt: Any, category_id: Any, inpainter_kwargs: Any, filler: Any, generator: Any
    ) -> dict[str, Any]:
        """Arguments of the content pipeline for one object, checked also where there is nothing to paint."""
        content = self.content_pipeline
        if filler is not None:
            check_filler("filler", filler, model=content.model is not None, inpainter=content.inpainter is not None)
        if prompt is not None:
            _check_text("prompt", prompt)
        if isinstance(category_id, torch.Tensor) and category_id.ndim == 0:
            category_id = category_id.item()
        if category_id is not None:
            category_id = check_integer("category_id", category_id, 1 if content.class_conditioned else 0)
        return {
            "prompts": None if prompt is None else [prompt],
            "category_ids": None if category_id is None else [category_id],
            "inpainter_kwargs": check_inpainter_kwargs(content.inpainter, inpainter_kwargs),
            "filler": filler,
            "generator": read_generator(generator),
        }

    def _paint_hidden(
        self, scene: Scene, i: int, amodal: BoolArray, options: Mapping[str, Any], report: Progress
    ) -> Scene:
        """With the hidden part of layer i painted anew, in the shape that the whole object has on the photo, (H, W)."""
        inputs = RepaintInputs.of_scene(scene, i, amodal)
        soft, count = scene.rim == 0 or any(_is_soft(layer) for layer in scene.layers), len(inputs.names)
        each = {name: options[name] and options[name] * count for name in ("prompts", "category_ids")}
        contents: Any = self.content_pipeline(
            inputs.photo, inputs.masks, inputs.amodal_masks, occluder_masks=inputs.occluders, unknown=inputs.unknown,
            names=inputs.names, clean_seams=soft, callback=report.within("contents", 0.0, 1.0), **{**options, **each},
        )  # fmt: skip
        report("done", 1.0)
        fresh = repainted(scene.layers[i], contents.objects[0], amodal, soft)
        return replace(scene, layers=(*scene.layers[:i], fresh, *scene.layers[i + 1 :]))

    def _works_at_once(self, canvas: npt.NDArray[np.uint8]) -> bool:
        """Contents and background are filled in two threads: the same result sooner, with the memory of both."""
        content = self.content_pipeline
        return (
            torch.get_num_threads() > 1
            and canvas.size <= 3 * _AT_ONCE
            and content.inpainter is None
            and content._execution_device.type == "cpu"
            and not any(
                network.training or getattr(network, "graphs", None) or hasattr(network, "_hf_hook")
                for network in content.networks
            )
        )

    def _paint_background(
        self,
        inputs: SceneInputs,
        removed: BoolArray,
        boxes: npt.NDArray[np.int64],
        find_things: Callable[[], BoolArray | None],
        options: Mapping[str, Any],
        overwrite: bool,
    ) -> tuple[npt.NDArray[np.uint8], int, list[npt.NDArray[np.uint8] | None]]:
        """What `paint_background` gives, and the shadows (N,) of the objects; `overwrite` lets `removed` be changed."""
        shadows: list[npt.NDArray[np.uint8] | None] = [None] * len(boxes)
        things = find_things()
        if self.config.shadows:
            shadows = find_shadows(inputs.canvas, removed, boxes, inputs.unknown, things)
        background, rim = paint_background(
            self.content_pipeline, inputs.canvas, removed, shadows, boxes,
            hard=self.config.edge_width == 0, overwrite=overwrite, unknown=inputs.unknown, things=things,
            **options,
        )  # fmt: skip
        background.flags.writeable = False  # so that the scene keeps it instead of a copy
        return background, rim, shadows

    # 1.

    def _read_inputs(
        self, image: Any, masks: Any, names: Any, extend_canvas: Any, eraser_dilation: Any, report: Progress
    ) -> SceneInputs:
        photo = read_photo(image)
        height, width = photo.shape[:2]
        margins = read_margins(extend_canvas, height, width)
        dilation = 0
        if masks is None:
            if self.segmenter is None:
                raise ValueError("`masks` must be given: this pipeline has no segmenter that finds the objects.")
            report.begin("segment", 0.0)
            found = self.segmenter(photo)
            stack, dilation = found.masks, self.segmenter.eraser_dilation
            names = found.names if names is None else names
        else:
            stack = to_mask_stack(masks, height=height, width=width)
        if eraser_dilation is not None:
            dilation = check_integer("eraser_dilation", eraser_dilation, 0)
        return SceneInputs(photo, stack, read_names(names, len(stack)), dilation, margins)

    # 2.

    def _complete_masks(
        self, inputs: SceneInputs, occluder_masks: Any, options: Mapping[str, Any]
    ) -> tuple[BoolArray, npt.NDArray[np.float32] | TileStack | None, npt.NDArray[np.int8]]:
        """Whole masks (N, H, W) on the canvas, their uncertainty where the pipeline knows it, and the order (N, N)."""
        photo, masks = inputs.photo, inputs.masks
        if not len(masks):
            return inputs.on_canvas(masks), None, np.zeros((0, 0), np.int8)
        options = {**options, "eraser_dilation": inputs.eraser_dilation}
        cut, before = cut_by_front(masks, options["order"])
        found = self._call_mask_pipeline(photo, cut, occluder_masks, options)
        amodal = np.array(found.amodal_masks)
        amodal |= masks
        uncertainty = found.uncertainty  # as tiles: dense floats of all objects are the largest thing of a large photo
        order = options["order"] if options["order"] is not None else found.order
        if order is None:
            order = order_from_masks(masks, amodal)
        order = order_with(before, order)
        amodal = inputs.on_canvas(amodal)
        if inputs.extended:
            uncertainty = None if uncertainty is None else inputs.on_canvas(np.asarray(uncertainty))
            self._grow_beyond_frame(inputs, order, amodal, uncertainty, occluder_masks, options)
        return amodal, uncertainty, order

    def _grow_beyond_frame(
        self,
        inputs: SceneInputs,
        order: npt.NDArray[np.int8],
        amodal: BoolArray,
        uncertainty: npt.NDArray[np.float32] | None,
        occluder_masks: Any,
        options: Mapping[str, Any],
    ) -> None:
        """Complete the objects that the frame cuts once more, with all that lies beyond it as an occluder.

        `amodal` and `uncertainty`, (N, H, W) on the canvas, change beyond the frame and stay as they are within it.
        """
        cut = np.flatnonzero(inputs.cut_by_frame)
        if not len(cut):
            return
        outside = inputs.outside
        modal = inputs.on_canvas(inputs.masks)
        occluders = mask_unions(modal, ancestors(order))[cut] | outside
        if occluder_masks is not None:
            given = to_mask_stack(occluder_masks, height=inputs.photo.shape[0], width=inputs.photo.shape[1])
            occluders |= inputs.on_canvas(given if len(given) == 1 else given[cut])
        categories = options["category_ids"]
        if categories is not None:
            options = {**options, "category_ids": np.asarray(categories)[cut]}
        options = {**options, "order": None}
        found = self._call_mask_pipeline(inputs.canvas, modal[cut], occluders & ~modal[cut], options)
        amodal[cut] |= np.asarray(found.amodal_masks) & outside
        if uncertainty is not None and found.uncertainty is not None:
            uncertainty[cut] = np.where(outside, np.asarray(found.uncertainty), uncertainty[cut])

    def _call_mask_pipeline(
        self, photo: npt.NDArray[np.uint8], masks: BoolArray, occluder_masks: Any, options: Mapping[str, Any]
    ) -> Any:
        """Call the mask pipeline with those of the options that it takes and that are not None."""
        takes = self.mask_pipeline.takes_option
        taken = {name: value for name, value in options.items() if takes(name) and value is not None}
        # The probabilities are not needed, and would be the largest part of a dense output.
        taken["output_type"] = "compact"
        return self.mask_pipeline(Image.fromarray(photo), masks, occluder_masks=occluder_masks, **taken)


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"`{name}` must be a text, got {type(value).__name__}.")


def _check_layer(scene: Any, i: Any, with_photo: bool) -> int:
    """`i` where it is the index of a layer of a scene, which must have a photo where that is needed."""
    if not isinstance(scene, Scene):
        raise TypeError(f"`scene` must be a Scene, got {type(scene).__name__}.")
    if with_photo and scene.photo is None:
        raise ValueError("`scene` must have a photo, whose objects can be painted anew; this one has none.")
    if isinstance(i, bool) or not isinstance(i, int | np.integer):
        raise TypeError(f"`i` must be the index of a layer, got {i!r}.")
    if not 0 <= i < len(scene):
        raise IndexError(f"`i` must be the index of one of {len(scene)} layers, got {i}.")
    return int(i)


def _masks_on_photo(scene: Scene, i: int) -> tuple[BoolArray, BoolArray]:
    """The visible part and the whole of layer i where the photo shows it, (H, W) each."""
    modal, amodal = (on_photo(scene.layers[i], scene.background.shape[:2], name) for name in ("modal", "amodal"))
    if modal is None or amodal is None:
        raise ValueError(
            f"`i` must be of an object that the photo shows; layer {i} was added to the scene, or has another shape "
            "than there."
        )
    return modal, amodal


def _is_soft(layer: Layer) -> bool:
    """Whether a layer of the photo has a soft outline."""
    alpha = layer.rgba[..., 3]
    return layer.origin is not None and bool(((alpha > 0) & (alpha < 255)).any())
