"""Photos in and masks out: any common form of a photo to RGB, and masks in the form asked for."""

from __future__ import annotations

import io
import os
import struct
import zlib
from typing import Any, Literal, get_args, overload

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from .arguments.choices import check_choice
from .files import atomic_file
from .masks import BoolArray, tensor_to_array

__all__ = [
    "ImageInput",
    "OUTPUT_TYPES",
    "OutputType",
    "check_image",
    "denormalize_images",
    "image_size",
    "image_to_tensor",
    "load_image",
    "load_rgba",
    "normalize_images",
    "postprocess_masks",
    "save_image",
    "why_unreadable",
]

ImageInput = str | os.PathLike[str] | Image.Image | np.ndarray | torch.Tensor
"""A photo: a path, a PIL image, an array (H, W[, C]) or a tensor ([1,] C, H, W)."""

OutputType = Literal["np", "pt", "pil"]
OUTPUT_TYPES: tuple[OutputType, ...] = get_args(OutputType)

_CHANNELS = (1, 3, 4)
_NUMBERS = ("I", "F")  # modes of 32-bit values, which Pillow would clip at 255 instead of scaling
_TOLERANCE = 1e-3
_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a photo of an orientation upright."""
_EXIF_KEYS = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
_SWAPS_SIDES = (5, 6, 7, 8)  # orientations that turn the photo on its side
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
# What Pillow raises for broken files, by format.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def load_image(image: ImageInput) -> Image.Image:
    """Load a photo as 8-bit RGB, upright.

    Args:
        image: one of
            - path of a file that Pillow reads;
            - PIL image of any mode that converts to RGB;
            - array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or tensor (H, W), (C, H, W) or (1, C, H, W) with the same
              numbers of channels: uint8, uint16 (scaled to 8 bits) or floats in [0, 1], within 0.001.
            EXIF orientation is applied; EXIF data that is broken is passed over. Grey becomes RGB. Transparent pixels
            are composited over white. Images of 16-bit or 32-bit integers are read as 0 to 65535, of floats as 0 to 1.

    Returns:
        A new PIL image of mode RGB.

    Raises:
        FileNotFoundError: no such file.
        TypeError: an input or a dtype that is none of these.
        ValueError: a file that is no image, truncated or too large to be safe (it is named); another shape; values
            out of range or NaN.

    Example:
        >>> photo = load_image(np.zeros((2, 3), dtype=np.uint8))
        >>> photo.mode, photo.size
        ('RGB', (3, 2))
    """
    return _flattened(_any_mode(image))


def load_rgba(image: ImageInput) -> Image.Image:
    """Load a picture with transparency as 8-bit RGBA, upright. Inputs and errors are those of `load_image`.

    Returns:
        A new PIL image of mode RGBA with straight alpha; 255 everywhere of a picture that has none.

    Example:
        >>> picture = load_rgba(np.full((2, 3), 65535, np.uint16))
        >>> picture.mode, picture.getpixel((0, 0))
        ('RGBA', (255, 255, 255, 255))
    """
    return _any_mode(image).convert("RGBA")


def image_to_tensor(image: ImageInput, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Load a photo as (3, H, W) float32 RGB in [0, 1], on the CPU. Inputs and errors are those of `load_image`.

    With the dtype uint8 the values are those of the photo, 0 to 255, in a quarter of the memory.

    Example:
        >>> image_to_tensor(Image.new("RGB", (2, 1), "red"))[:, 0]
        tensor([[1., 1.],
                [0., 0.],
                [0., 0.]])
    """
    array = np.array(load_image(image), dtype=np.uint8)
    # Moved into planes as bytes, which is a quarter of the traffic of moving floats.
    planes = torch.from_numpy(array).permute(2, 0, 1).contiguous()
    return planes if dtype == torch.uint8 else planes.to(dtype).div_(255)


def image_size(image: ImageInput) -> tuple[int, int]:
    """Read the size of the upright photo, without decoding it.

    Args:
        image: as for `load_image`. Of a file only the header is read, of an array or a tensor only the shape, so that
            pixels that are cut off or out of range show when the photo is loaded.

    Returns:
        (height, width) in pixels, EXIF orientation applied.

    Raises:
        FileNotFoundError: no such file.
        TypeError: an input that `load_image` does not take.
        ValueError: a file that is no image or too large to be safe (it is named); another shape.

    Example:
        >>> image_size(Image.new("RGB", (640, 480)))
        (480, 640)
    """
    if isinstance(image, (str, os.PathLike)):
        with _opened(os.fspath(image)) as opened:
            return _upright_size(opened, f"photo {os.fspath(image)}")
    if isinstance(image, Image.Image):
        return _upright_size(image, "`image`")
    if isinstance(image, torch.Tensor):
        return _planes(image).shape[1], _planes(image).shape[2]
    if isinstance(image, np.ndarray):
        return _pixels(image, "`image`").shape[0], _pixels(image, "`image`").shape[1]
    raise _wrong_type(image)


def check_image(image: str | os.PathLike[str] | bytes) -> tuple[int, int]:
    """As `image_size`, and decode the photo, since files that are cut off have a whole header.

    A JPEG is decoded at an eighth of its size, which takes a third of the time.

    Args:
        image: path of a file, or its content.

    Returns:
        (height, width) in pixels, EXIF orientation applied.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no image, truncated, or too large to be safe.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (640, 480)).save(file, "JPEG")
        >>> check_image(file.getvalue())
        (480, 640)
        >>> check_image(file.getvalue()[:-400])
        Traceback (most recent call last):
            ...
        ValueError: photo cannot be read: image file is truncated (... bytes not processed)
    """
    name = "photo" if isinstance(image, bytes) else f"photo {os.fspath(image)}"
    try:
        opened = Image.open(io.BytesIO(image)) if isinstance(image, bytes) else _opened(os.fspath(image))
        with opened:
            size = _upright_size(opened, name)
            opened.draft(None, (1, 1))
            opened.load()
    except FileNotFoundError:
        raise
    except _UNREADABLE as error:
        if str(error).startswith(name):
            raise
        raise ValueError(f"{name} cannot be read: {why_unreadable(error)}") from error
    return size


def why_unreadable(error: BaseException) -> str:
    """What an error of Pillow says; of bytes that are no picture it names the place in memory, which changes each time.

    Example:
        >>> why_unreadable(OSError("image file is truncated"))
        'image file is truncated'
    """
    return "it is no picture" if isinstance(error, UnidentifiedImageError) else str(error)


def normalize_images(images: torch.Tensor) -> torch.Tensor:
    """Shift and scale RGB in [0, 1], (..., 3, H, W) floats, by ImageNet's mean and standard deviation per channel.

    Example:
        >>> normalize_images(torch.full((3, 1, 1), 0.5)).flatten()
        tensor([0.0655, 0.1964, 0.4178])
    """
    mean, std = _imagenet(images.device)
    return (images - mean) / std


def denormalize_images(images: torch.Tensor) -> torch.Tensor:
    """Undo `normalize_images`: (..., 3, H, W) floats, not clamped.

    Example:
        >>> denormalize_images(normalize_images(torch.full((3, 1, 1), 0.5))).flatten()
        tensor([0.5000, 0.5000, 0.5000])
    """
    mean, std = _imagenet(images.device)
    return images * std + mean


@overload
def postprocess_masks(masks: torch.Tensor | npt.NDArray[Any], output_type: Literal["np"] = ...) -> BoolArray: ...
@overload
def postprocess_masks(masks: torch.Tensor | npt.NDArray[Any], output_type: Literal["pt"]) -> torch.Tensor: ...
@overload
def postprocess_masks(masks: torch.Tensor | npt.NDArray[Any], output_type: Literal["pil"]) -> list[Image.Image]: ...
def postprocess_masks(
    masks: torch.Tensor | npt.NDArray[Any], output_type: OutputType = "np"
) -> BoolArray | torch.Tensor | list[Image.Image]:
    """Convert masks to the form asked for.

    Args:
        masks: (N, H, W) bool or {0, 1}, array or tensor on any device.
        output_type: "np" for a bool array, "pt" for a bool tensor (on the device that it is on), both (N, H, W); "pil"
            for a list of N images of mode L with 0 and 255.

    Raises:
        ValueError: another shape or output type.

    Example:
        >>> masks = torch.tensor([[[1, 0]]])
        >>> postprocess_masks(masks)
        array([[[ True, False]]])
        >>> postprocess_masks(masks, "pil")[0].size
        (2, 1)
    """
    if masks.ndim != 3:
        raise ValueError(f"`masks` must have shape (N, height, width), got {tuple(masks.shape)}")
    check_choice("output_type", output_type, OUTPUT_TYPES)
    if output_type == "pt":
        return torch.as_tensor(masks).to(torch.bool)
    array = masks.detach().cpu().numpy() if isinstance(masks, torch.Tensor) else masks
    array = array.astype(bool, copy=False)
    return array if output_type == "np" else [Image.fromarray(mask.astype(np.uint8) * 255) for mask in array]


def save_image(image: Image.Image, path: str | os.PathLike[str], **options: Any) -> None:
    """Write a picture with `atomic_file`, so that a kill or a full disk leaves what was there.

    Args:
        image: any picture of Pillow.
        path: its ending names the format; folders are made where they lack.
        options: of `PIL.Image.Image.save`.

    Raises:
        IsADirectoryError, OSError: as `atomic_file` says.
        ValueError: an ending that Pillow does not know.

    Example:
        >>> import tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "red.png")
        >>> save_image(Image.new("RGB", (2, 1), "red"), path)
        >>> image_size(path)
        (1, 2)
    """
    with atomic_file(path) as temporary:
        image.save(temporary, **options)


def _any_mode(image: ImageInput) -> Image.Image:
    """The picture as 8-bit RGB, or RGBA where it may be transparent; it may be `image` itself."""
    if isinstance(image, (str, os.PathLike)):
        with _opened(os.fspath(image)) as opened:
            return _decoded(opened, f"photo {os.fspath(image)}")
    if isinstance(image, Image.Image):
        return _decoded(image, "`image`")
    if isinstance(image, torch.Tensor):
        return _from_array(_tensor_to_array(image))
    if isinstance(image, np.ndarray):
        return _from_array(image)
    raise _wrong_type(image)


def _imagenet(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation, (3, 1, 1) each."""
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (_IMAGENET_MEAN, _IMAGENET_STD))
    return mean, std


def _wrong_type(image: Any) -> TypeError:
    return TypeError(f"`image` must be a path, a PIL image, an array or a tensor, got {type(image).__name__}")


def _opened(path: str) -> Image.Image:
    if not os.path.exists(path):
        raise FileNotFoundError(f"photo {path} does not exist")
    if not os.path.isfile(path):
        raise ValueError(f"photo {path} is not a file")
    try:
        return Image.open(path)
    except _UNREADABLE as error:
        raise ValueError(f"photo {path} cannot be read: {why_unreadable(error)}") from error


def _upright_size(image: Image.Image, name: str) -> tuple[int, int]:
    if not (image.width and image.height):
        raise ValueError(f"{name} has no pixels, its size is {image.width}x{image.height}")
    try:
        # Pillow turns a TIFF itself, and gives its upright size from the start.
        turned = not isinstance(image, TiffImageFile) and _orientation(image) in _SWAPS_SIDES
    except _UNREADABLE as error:
        raise ValueError(f"{name} cannot be read: {why_unreadable(error)}") from error
    return (image.width, image.height) if turned else (image.height, image.width)


def _orientation(image: Image.Image) -> Any:
    # Pillow decodes a PNG to find EXIF data that may stand behind the pixels.
    header_is_enough = isinstance(image, PngImageFile) and not _has_chunks_behind_pixels(image)
    if isinstance(image, PngImageFile) and not header_is_enough:
        image.load()
    try:
        exif = Image.Image.getexif(image) if header_is_enough else image.getexif()
        return exif.get(_ORIENTATION, 1)
    except (*_UNREADABLE, LookupError, TypeError, ArithmeticError):  # what broken EXIF data meets in Pillow
        return 1


def _has_chunks_behind_pixels(image: PngImageFile) -> bool:
    """Whether a PNG has more than its end behind the pixels; True as well where that cannot be told."""
    file = image.fp
    if file is None:  # closed, since the pixels are decoded
        return True
    place = file.tell()
    try:
        file.seek(8)
        in_pixels = False
        while len(header := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", header)
            if kind == b"IEND":
                return False
            if in_pixels and kind != b"IDAT":
                return True
            in_pixels = kind == b"IDAT"
            file.seek(length + 4, os.SEEK_CUR)
        return True
    finally:
        file.seek(place)


def _decoded(image: Image.Image, name: str) -> Image.Image:
    if not (image.width and image.height):
        raise ValueError(f"{name} has no pixels, its size is {image.width}x{image.height}")
    try:
        try:
            image.load()
        except struct.error:  # Pillow turns a TIFF once its pixels are there, and writes its tags anew for that
            image.load()
        turn = _TURNS.get(_orientation(image))
        if turn is not None:
            # Not `ImageOps.exif_transpose`, which writes the EXIF data anew, and fails where they are broken.
            image = image.transpose(turn)
            for key in _EXIF_KEYS:  # otherwise whoever loads the result would turn it again
                image.info.pop(key, None)
        if image.mode not in _NUMBERS and not image.mode.startswith("I;"):
            return image.convert("RGBA" if image.has_transparency_data else "RGB")
    except _UNREADABLE as error:
        raise ValueError(f"{name} cannot be read: {why_unreadable(error)}") from error
    array = np.asarray(image)
    return _from_array(array if image.mode == "F" else _as_uint16(array, name), name)


def _flattened(image: Image.Image) -> Image.Image:
    """RGBA over white; a picture without transparency as it is."""
    if image.mode == "RGB":
        return image
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def _as_uint16(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint16]:
    if array.size and (array.min() < 0 or array.max() > 65535):
        raise ValueError(f"{name} has values from {array.min()} to {array.max()}, expected 0 to 65535")
    return array.astype(np.uint16)


def _planes(tensor: torch.Tensor) -> torch.Tensor:
    """The same tensor as (C, H, W)."""
    shape = tuple(tensor.shape)
    if tensor.ndim == 4 and shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim == 2:
        tensor = tensor[None]
    if tensor.ndim != 3 or tensor.shape[0] not in _CHANNELS:
        raise ValueError(f"`image` must be a tensor (C, height, width) with 1, 3 or 4 channels, got {shape}")
    if not tensor.numel():
        raise ValueError(f"`image` has no pixels, its shape is {shape}")
    return tensor


def _tensor_to_array(tensor: torch.Tensor) -> npt.NDArray[Any]:
    return np.moveaxis(tensor_to_array(_planes(tensor), "`image`"), 0, 2)


def _pixels(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """The same array as (H, W, C)."""
    shape = array.shape
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in _CHANNELS:
        raise ValueError(f"{name} must have shape (height, width[, channels]) with 1, 3 or 4 channels, got {shape}")
    if not array.size:
        raise ValueError(f"{name} has no pixels, its shape is {shape}")
    return array


def _from_array(array: npt.NDArray[Any], name: str = "`image`") -> Image.Image:
    array = _pixels(array, name)
    if array.dtype == np.uint16:
        array = (array.astype(np.uint32) * 255 + 32767) // 65535
    elif np.issubdtype(array.dtype, np.floating):
        low, high = array.min(), array.max()
        if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
            raise ValueError(f"{name} holds floats from {low:g} to {high:g}, expected 0 to 1 without NaN")
        array = np.rint(array.astype(np.float32).clip(0, 1) * 255)
    elif array.dtype != np.uint8:
        raise TypeError(f"{name} must hold uint8, uint16 or floats in [0, 1], got dtype {array.dtype}")
    array = np.ascontiguousarray(array, dtype=np.uint8)
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return Image.fromarray(array)
