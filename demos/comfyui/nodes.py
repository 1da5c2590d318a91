"""The nodes. ComfyUI's pictures are (B, H, W, C) floats in [0, 1], its masks (B, H, W); each object is one of these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from comfy_api.latest import ComfyExtension, io

from amodal_diffusion import AmodalPipeline, ScenePipeline
from amodal_diffusion.masks import mask_unions, to_mask_stack
from amodal_diffusion.ordering import ancestors, order_pairs
from amodal_diffusion.pipelines import MaskPipeline
from amodal_diffusion.scene import Scene
from amodal_diffusion.visualization import draw_order_graph

CATEGORY = "amodal"
Pipeline = io.Custom("AMODAL_PIPELINE")
Order = io.Custom("AMODAL_ORDER")
Objects = io.Custom("AMODAL_SCENE")
EDITS = ("move", "scale", "rotate", "flip", "to front", "to back", "remove", "duplicate")
FORMATS = ("ora", "psd")
_FAR = {"min": -16384.0, "max": 16384.0}


class LoadAmodalPipeline(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AmodalLoadPipeline",
            display_name="Load Amodal Pipeline",
            category=CATEGORY,
            description="A mask pipeline, which completes masks, or a scene pipeline, which takes a photo apart.",
            inputs=[
                io.String.Input("model", default="pipelines/deocclusion", tooltip="A folder or a Hub id"),
                io.Combo.Input("device", options=["auto", "cpu"], default="auto", tooltip="auto: as ComfyUI's models"),
            ],
            outputs=[Pipeline.Output(display_name="pipeline")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model: str, device: str) -> io.NodeOutput:
        pipeline = AmodalPipeline.from_pretrained(model)
        if device == "auto":
            import comfy.model_management

            device = comfy.model_management.get_torch_device()
        return io.NodeOutput(pipeline.to(device))


class CompleteMasks(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AmodalCompleteMasks",
            display_name="Complete Masks",
            category=CATEGORY,
            description="From the visible masks of all objects to their whole masks and their order.",
            inputs=[
                Pipeline.Input("pipeline"),
                io.Image.Input("image"),
                io.Mask.Input("masks", tooltip="The visible parts: a batch with one mask for each object"),
            ],
            outputs=[
                io.Mask.Output(display_name="whole"),
                io.Mask.Output(display_name="hidden", tooltip="What of each object others hide"),
                io.Mask.Output(display_name="probability"),
                Order.Output(display_name="order"),
            ],
        )

    @classmethod
    def execute(cls, pipeline: Any, image: torch.Tensor, masks: torch.Tensor) -> io.NodeOutput:
        completes = getattr(pipeline, "mask_pipeline", pipeline)
        if not isinstance(completes, MaskPipeline):
            raise TypeError(
                f"`pipeline` must be a mask pipeline (pipelines/pcnet-m) or a scene pipeline, got "
                f"{type(pipeline).__name__}."
            )
        photo = _photo(image)
        visible = _masks(masks, photo)
        output = completes(photo, visible)
        whole = np.asarray(output.amodal_masks)
        order = np.zeros((len(visible),) * 2, np.int8) if output.order is None else output.order
        planes = (whole, whole & ~visible, output.probabilities)
        return io.NodeOutput(*(torch.from_numpy(np.asarray(plane, np.float32)) for plane in planes), order)


class WhatIsInFront(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AmodalOrder",
            display_name="What Is in Front",
            category=CATEGORY,
            description="The order of objects as a picture and in words, and what may hide one of them.",
            inputs=[
                Order.Input("order"),
                io.Image.Input("image"),
                io.Mask.Input("masks", tooltip="The visible parts, as they were completed"),
                io.Int.Input("object", default=0, min=0, tooltip="Number of an object, from 0"),
            ],
            outputs=[
                io.Image.Output(display_name="graph"),
                io.String.Output(display_name="pairs"),
                io.Mask.Output(display_name="in front", tooltip="All that may hide the object"),
            ],
        )

    @classmethod
    def execute(cls, order: Any, image: torch.Tensor, masks: torch.Tensor, object: int) -> io.NodeOutput:
        photo = _photo(image)
        visible = _masks(masks, photo)
        graph = draw_order_graph(order, masks=visible, image=photo)
        pairs = "\n".join(f"{front} in front of {behind}" for front, behind in order_pairs(order))
        number = _index(object, len(visible))
        in_front = mask_unions(visible, ancestors(order))[number : number + 1]
        return io.NodeOutput(_image(np.asarray(graph)), pairs, torch.from_numpy(in_front.astype(np.float32)))


class TakeApart(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AmodalTakeApart",
            display_name="Take Photo Apart",
            category=CATEGORY,
            description="From a photo and visible masks to whole objects in layers and the background without them.",
            inputs=[
                Pipeline.Input("pipeline", tooltip="A scene pipeline, such as pipelines/deocclusion"),
                io.Image.Input("image"),
                io.Mask.Input("masks", optional=True, tooltip="None: the pipeline's segmenter finds the objects"),
                io.String.Input("names", default="", multiline=True, tooltip="A name a line, or nothing"),
            ],
            outputs=[Objects.Output(display_name="scene")],
        )

    @classmethod
    def execute(
        cls, pipeline: Any, image: torch.Tensor, names: str = "", masks: torch.Tensor | None = None
    ) -> io.NodeOutput:
        if not isinstance(pipeline, ScenePipeline):
            raise TypeError(
                f"`pipeline` must be a scene pipeline (pipelines/deocclusion), got {type(pipeline).__name__}."
            )
        photo = _photo(image)
        visible = None if masks is None else _masks(masks, photo)
        return io.NodeOutput(pipeline(photo, visible, names=names.splitlines() or None))


class SceneLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AmodalSceneLayers",
            display_name="Layers of Scene",
            category=CATEGORY,
            description="The whole objects back to front, as batches of pictures and masks, and the background.",
            inputs=[Objects.Input("scene")],
            outputs=[
                io.Image.Output(display_name="layers"),
                io.Mask.Output(display_name="alpha"),
                io.Image.Output(display_name="background"),
            ],
        )

    @classmethod
    def execute(cls, scene: Scene) -> io.NodeOutput:
        if not len(scene):
            raise ValueError("`scene` has no objects, so there are no layers.")
        layers = np.stack([scene.layer_image(index, output_type="np") for index in scene.stacking()])
        pixels = torch.from_numpy(layers.astype(np.float32) / 255)
        return io.NodeOutput(pixels[..., :3], pixels[..., 3], _image(scene.background))


class EditScene(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AmodalEditScene",
            display_name="Edit Scene",
            category=CATEGORY,
            description="One edit of one object. What it hid is filled, what hides it stays in front.",
            inputs=[
                Objects.Input("scene"),
                io.Int.Input("object", default=0, min=0, tooltip="Number of an object, from 0"),
                io.Combo.Input("edit", options=list(EDITS), default="move"),
                io.Float.Input("x", default=0.0, step=1.0, tooltip="move, duplicate: pixels right", **_FAR),
                io.Float.Input("y", default=0.0, step=1.0, tooltip="move, duplicate: pixels down", **_FAR),
                io.Float.Input("factor", default=1.0, min=0.01, max=100.0, step=0.01, tooltip="scale"),
                io.Float.Input("degrees", default=0.0, min=-360.0, max=360.0, tooltip="rotate: counter-clockwise"),
                io.Boolean.Input("carried", default=False, tooltip="With what stands on it; not for duplicate"),
            ],
            outputs=[Objects.Output(display_name="scene")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        scene: Scene,
        object: int,
        edit: str,
        x: float,
        y: float,
        factor: float,
        degrees: float,
        carried: bool = False,
    ) -> io.NodeOutput:
        index = _index(object, len(scene))
        edits = {
            "move": lambda: scene.move(index, x, y, carried=carried),
            "scale": lambda: scene.scale(index, factor, carried=carried),
            "rotate": lambda: scene.rotate(index, degrees, carried=carried),
            "flip": lambda: scene.flip(index, carried=carried),
            "to front": lambda: scene.bring_to_front(index, carried=carried),
            "to back": lambda: scene.send_to_back(index, carried=carried),
            "remove": lambda: scene.remove(index, carried=carried),
            "duplicate": lambda: scene.duplicate(index, x, y),
        }
        return io.NodeOutput(edits[edit]())


class RenderScene(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AmodalRenderScene",
            display_name="Render Scene",
            category=CATEGORY,
            description="The scene as a picture; an untouched one is the photo.",
            inputs=[Objects.Input("scene")],
            outputs=[io.Image.Output(display_name="image")],
        )

    @classmethod
    def execute(cls, scene: Scene) -> io.NodeOutput:
        return io.NodeOutput(_image(scene.render(output_type="np")))


class SaveScene(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AmodalSaveScene",
            display_name="Save Scene",
            category=CATEGORY,
            description="OpenRaster for Krita, GIMP and MyPaint, or a Photoshop document, in ComfyUI's output folder.",
            inputs=[
                Objects.Input("scene"),
                io.String.Input("filename_prefix", default="amodal/scene"),
                io.Combo.Input("format", options=list(FORMATS), default=FORMATS[0]),
            ],
            outputs=[io.String.Output(display_name="path")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, scene: Scene, filename_prefix: str, format: str) -> io.NodeOutput:
        folder, name, counter, _, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory(), *scene.size
        )
        path = Path(folder, f"{name}_{counter:05}_.{format}")
        while path.exists():  # ComfyUI counts pictures alone
            counter += 1
            path = path.with_name(f"{name}_{counter:05}_.{format}")
        scene.save(path)
        return io.NodeOutput(str(path), ui={"text": [str(path)]})


class AmodalExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            LoadAmodalPipeline,
            CompleteMasks,
            WhatIsInFront,
            TakeApart,
            SceneLayers,
            EditScene,
            RenderScene,
            SaveScene,
        ]


async def comfy_entrypoint() -> AmodalExtension:
    """What ComfyUI asks a node pack for."""
    return AmodalExtension()


def _photo(image: torch.Tensor) -> np.ndarray:
    """The one photo of a batch, (H, W, 3) uint8."""
    if image.ndim != 4 or len(image) != 1:
        raise ValueError(f"`image` must be a batch of one photo (1, H, W, 3), got {tuple(image.shape)}.")
    if image.isnan().any():
        raise ValueError("`image` must hold numbers from 0 to 1, and has NaN in it.")
    return (image[0, ..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def _masks(masks: torch.Tensor, photo: np.ndarray) -> np.ndarray:
    """(N, H, W) bool."""
    height, width = photo.shape[:2]
    if tuple(masks.shape[-2:]) != (height, width):
        raise ValueError(f"`masks` must have the size of the image, {(height, width)}, got {tuple(masks.shape[-2:])}.")
    return to_mask_stack(
        masks.reshape(-1, height, width).clamp(0, 1).cpu(), height=height, width=width, allow_faint=True
    )


def _image(picture: np.ndarray) -> torch.Tensor:
    """(1, H, W, 3) float32 in [0, 1] from (H, W, 3) uint8."""
    return torch.from_numpy(picture.astype(np.float32) / 255)[None]


def _index(number: int, count: int) -> int:
    if not 0 <= number < count:
        raise ValueError(f"`object` must be a number of the {count} objects, from 0, got {number}.")
    return number
