"""Inpainting pipelines of diffusers: loaded, checked, and called for a batch of holes."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from diffusers.utils import logging
from PIL import Image
from torch import Tensor

from ...hub import INDEX_NAME, check_hub_id
from ...models.pcnet_content import PCNetContent
from ..inputs import check_network

# What this package decides itself in a call of an inpainting pipeline.
_OWN_ARGUMENTS = (
    "prompt", "image", "mask_image", "height", "width", "generator", "output_type", "return_dict",
    "num_images_per_prompt", "padding_mask_crop",
)  # fmt: skip
_DEFAULT_SIZE = 512

logger = logging.get_logger(__name__)


def load_inpainter(id_or_path: str | os.PathLike[str], **options: Any) -> Any:
    """Load an inpainting pipeline with diffusers' `AutoPipelineForInpainting`; never pickled weights.

    Args:
        id_or_path: folder of a saved diffusers pipeline, or its Hub id; a text-to-image or image-to-image checkpoint of
            a kind that diffusers can inpaint with does as well.
        options: `dtype`, `variant`, `cache_dir`, `token`, ...; those that are None are left out.

    Raises:
        FileNotFoundError: no such folder, and no Hub id either.
        ValueError: a file instead of a folder, a folder without index, a pipeline that diffusers cannot inpaint with.
        OSError: where the Hub does not give a file.

    Example:
        >>> load_inpainter("./no-such-folder")
        Traceback (most recent call last):
            ...
        FileNotFoundError: There is no folder './no-such-folder', and it is no Hub id of the form 'organisation/name'.
    """
    from diffusers import AutoPipelineForInpainting  # here, since it imports every pipeline of diffusers

    text = os.fspath(id_or_path)
    if not os.path.isdir(text):
        check_hub_id(id_or_path)
    elif not Path(text, INDEX_NAME).is_file():
        raise ValueError(f"The folder '{text}' holds no {INDEX_NAME}, so it is no saved diffusers pipeline.")
    chosen = {key: value for key, value in options.items() if value is not None}
    return AutoPipelineForInpainting.from_pretrained(text, use_safetensors=True, **chosen)


def check_inpainter(inpainter: Any) -> Any:
    """An inpainting pipeline that shares the components of `inpainter`, or `inpainter` itself where it is one.

    Raises:
        TypeError: no diffusers pipeline.
        ValueError: a pipeline that diffusers cannot inpaint with.

    Example:
        >>> check_inpainter("a painter")
        Traceback (most recent call last):
            ...
        TypeError: `inpainter` must be a diffusers pipeline, a Hub id or the path of a folder, got str.
    """
    if not isinstance(inpainter, DiffusionPipeline):
        raise TypeError(
            "`inpainter` must be a diffusers pipeline, a Hub id or the path of a folder, "
            f"got {type(inpainter).__name__}."
        )
    if {"image", "mask_image"} <= set(_call_arguments(inpainter)):
        return inpainter
    from diffusers import AutoPipelineForInpainting  # here, since it imports every pipeline of diffusers

    try:
        return AutoPipelineForInpainting.from_pipe(inpainter)
    except ValueError as error:
        raise ValueError(
            f"`inpainter` must be a pipeline that diffusers can inpaint with, got a {type(inpainter).__name__}: {error}"
        ) from error


def read_components(model: Any, inpainter: Any, inpainter_id: Any) -> tuple[Any, Any, str | None]:
    """Check the components of a `ContentPipeline`; an inpainter that is only named is loaded.

    Returns:
        The model or None, the inpainter or None, and the id of the inpainter or None.

    Raises:
        ValueError, TypeError: naming the component; and as `load_inpainter` and `check_inpainter` say.

    Example:
        >>> model = PCNetContent(block_out_channels=(4, 8), sample_size=32)
        >>> read_components(model, None, None) == (model, None, None)
        True
    """
    if inpainter_id is not None and not isinstance(inpainter_id, str):
        raise TypeError(f"`inpainter_id` must be a Hub id or the path of a folder, got {inpainter_id!r}.")
    if isinstance(inpainter, str | os.PathLike):
        inpainter_id = os.fspath(inpainter)
    elif inpainter is None and model is None and inpainter_id is not None:
        inpainter = inpainter_id
    if (model is None) == (inpainter is None):
        raise ValueError(
            "Exactly one of `model` (a PCNetContent) and `inpainter` (a diffusers inpainting pipeline) must be "
            f"given, got {'neither' if model is None else 'both'}."
        )
    if inpainter is None:
        return check_network("model", model, PCNetContent), None, None
    if isinstance(inpainter, str | os.PathLike):
        return None, load_inpainter(inpainter), inpainter_id
    return None, check_inpainter(inpainter), inpainter_id


def trained_size(inpainter: Any) -> int:
    """Side in pixels of the squares that a pipeline was trained on; 512 where it does not say.

    Example:
        >>> trained_size(object())  # a pipeline that does not say
        512
    """
    scale = getattr(inpainter, "vae_scale_factor", None)
    unet = getattr(inpainter, "unet", None)
    side = (
        getattr(unet.config, "sample_size", None)
        if unet is not None
        else getattr(inpainter, "default_sample_size", None)
    )
    if not isinstance(side, int) or not isinstance(scale, int):
        return _DEFAULT_SIZE
    return side * scale


def check_inpainter_kwargs(inpainter: Any, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The caller's arguments for an inpainting pipeline, as a new dictionary.

    Raises:
        TypeError: no mapping, or a name that the pipeline does not take.
        ValueError: a name that the content pipeline decides itself, or options without an inpainter.

    Example:
        >>> check_inpainter_kwargs(None, None)
        {}
        >>> check_inpainter_kwargs(None, {"strength": 0.5})
        Traceback (most recent call last):
            ...
        ValueError: `inpainter_kwargs` are for an `inpainter`, and this pipeline has a `model`.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise TypeError(f"`inpainter_kwargs` must be a dictionary, got {type(options).__name__}.")
    if options and inpainter is None:
        raise ValueError("`inpainter_kwargs` are for an `inpainter`, and this pipeline has a `model`.")
    known = _call_arguments(inpainter) if options else {}
    for name in options:
        if name in _OWN_ARGUMENTS:
            raise ValueError(f"`inpainter_kwargs` must not have {name!r}: the content pipeline sets it.")
        if name not in known:
            raise TypeError(f"`inpainter_kwargs` has {name!r}, which a {type(inpainter).__name__} does not take.")
    return dict(options)


def split_generators(generator: Any, count: int) -> list[torch.Generator] | None:
    """One generator for each of `count` pictures, so that results do not depend on the batch size.

    Args:
        generator: one, from which as many are derived; a list with one each; None for none.
        count: number of pictures.

    Raises:
        TypeError, ValueError: naming `generator`.

    Example:
        >>> len(split_generators(torch.Generator().manual_seed(0), 3))
        3
        >>> split_generators(None, 3) is None
        True
    """
    if generator is None:
        return None
    if isinstance(generator, torch.Generator):
        seeds = torch.randint(2**62, (count,), generator=generator, device=generator.device).tolist()
        return [torch.Generator(generator.device).manual_seed(seed) for seed in seeds]
    if not isinstance(generator, list | tuple) or not all(isinstance(one, torch.Generator) for one in generator):
        raise TypeError("`generator` must be a torch.Generator, or a list with one for each object.")
    if len(generator) != count:
        raise ValueError(f"`generator` must have one entry for each of the {count} objects, got {len(generator)}.")
    return list(generator)


def inpaint(
    inpainter: Any,
    images: Tensor,
    holes: Tensor,
    prompts: Sequence[str],
    generators: Sequence[torch.Generator] | None,
    options: Mapping[str, Any],
    on_step: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Fill a batch of holes in one call.

    Args:
        inpainter: the pipeline.
        images: (B, 3, h, w) float32 in [0, 1]; the sides are multiples of 8.
        holes: (B, 1, h, w) bool, True where to paint.
        prompts: one for each picture.
        generators: one for each picture, or None.
        options: further arguments of the call; a single negative prompt is used for all pictures.
        on_step: called with the number of denoising steps that are done, and of all, where the pipeline tells them; an
            error in it ends the call.

    Returns:
        (B, 3, h, w) float32 in [0, 1], on the device of `images`: the output for every pixel.

    Raises:
        ValueError: where the pipeline returns NaN or infinity.

    Example:
        >>> class Grey:  # instead of a pipeline of diffusers
        ...     def __call__(self, prompt, image, height, width, **options):
        ...         return Grey.Output(np.full((len(image), height, width, 3), 0.5))
        ...     class Output:
        ...         def __init__(self, images):
        ...             self.images = images
        >>> images, holes = torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.bool)
        >>> inpaint(Grey(), images, holes, ["a cup"], None, {}).mean()
        tensor(0.5000)
    """
    height, width = images.shape[-2:]
    options = dict(options)
    if on_step is not None and "callback_on_step_end" in _call_arguments(inpainter):
        options.update(_tell_steps(on_step, options.get("callback_on_step_end")))
    if isinstance(options.get("negative_prompt"), str):
        options["negative_prompt"] = [options["negative_prompt"]] * len(images)
    # PIL images are what every pipeline of diffusers takes a list of.
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    masks = (holes[:, 0].to(torch.uint8) * 255).cpu().numpy()
    output = inpainter(
        prompt=list(prompts),
        image=[Image.fromarray(picture) for picture in pixels],
        mask_image=[Image.fromarray(mask) for mask in masks],
        height=height,
        width=width,
        generator=None if generators is None else list(generators),
        output_type="np",
        **options,
    )
    if any(getattr(output, "nsfw_content_detected", None) or ()):
        logger.warning("The safety checker of the inpainting pipeline blacked out a picture; its hidden part is black.")
    answer = torch.from_numpy(np.asarray(output.images, np.float32)).permute(0, 3, 1, 2).to(images.device)
    if not bool(answer.isfinite().all()):
        raise ValueError("The inpainting pipeline returned NaN or infinity; its weights may not suit its dtype.")
    if answer.shape[-2:] != (height, width):
        answer = F.interpolate(answer, size=(height, width), mode="bilinear", align_corners=False)
    return answer


def _tell_steps(on_step: Callable[[int, int], None], theirs: Any) -> dict[str, Any]:
    """Arguments of an inpainter's call that tell `on_step` of each step, and a user's `callback_on_step_end`, too."""

    def tell(pipeline: Any, step: int, time_step: Any, tensors: dict[str, Any]) -> Any:
        on_step(step + 1, max(step + 1, int(getattr(pipeline, "num_timesteps", 0) or 0)))
        return tensors if theirs is None else theirs(pipeline, step, time_step, tensors)

    found: dict[str, Any] = {"callback_on_step_end": tell}
    if hasattr(theirs, "tensor_inputs"):  # of a `diffusers.callbacks.PipelineCallback`
        found["callback_on_step_end_tensor_inputs"] = theirs.tensor_inputs
    return found


def _call_arguments(pipeline: Any) -> Mapping[str, Any]:
    return inspect.signature(type(pipeline).__call__).parameters
