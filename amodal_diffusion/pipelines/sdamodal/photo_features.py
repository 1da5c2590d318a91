"""Where training gets the features of a photo: from a frozen Stable Diffusion in every update, or from a cache."""

import logging
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from ...data.samplers.photo_objects import Photo, PhotoError, PhotoObjects
from ...files import sweep
from ...runtimes import preferred_dtype
from .feature_cache import FeatureCache, clear_cache
from .features import DiffusionFeatureExtractor

logger = logging.getLogger(__name__)

Raw = Image.Image | tuple[Tensor, ...]
"""What the CPU reads of a photo: its pixels, or its feature maps (1, C_k, h_k, w_k)."""


class PhotoFeatures:
    """Feature maps of photos on the training device.

    Args:
        extractor: on the training device; only used without a cache.
        device: the training device.
        cache: a filled cache.

    Example:
        >>> from amodal_diffusion.pipelines.sdamodal.features import ImageFeatures
        >>> extractor = lambda photos: [ImageFeatures((torch.zeros(1, 8, 4, 4),), photo.height, photo.width)
        ...                             for photo in photos]  # in place of Stable Diffusion
        >>> features = PhotoFeatures(extractor, torch.device("cpu"))
        >>> [tuple(feature.shape) for maps in features([Image.new("RGB", (30, 20))]) for feature in maps]
        [(1, 8, 4, 4)]
    """

    def __init__(
        self,
        extractor: DiffusionFeatureExtractor,
        device: torch.device,
        cache: FeatureCache | None = None,
    ) -> None:
        self.extractor = extractor
        self.device = device
        self.cache = cache

    def read(self, objects: PhotoObjects, photo: Photo) -> Raw:
        """The part that a thread can do ahead: read the photo, or its features.

        Raises:
            PhotoError: the photo cannot be used.
        """
        if self.cache is None:
            return objects.image(photo)
        key = objects.content_key(photo)
        if key not in self.cache:
            raise PhotoError(f"photo {photo.name} has no features in the cache, since it could not be read")
        return self.cache.read(key)

    def __call__(self, photos: Sequence[Raw]) -> list[tuple[Tensor, ...]]:
        """The maps (1, C_k, h_k, w_k) of each photo, on the device."""
        if self.cache is None:
            return [features.maps for features in self.extractor(list(photos))]
        return [tuple(value.to(self.device) for value in maps) for maps in photos if not isinstance(maps, Image.Image)]


def freeze_extractor(extractor: DiffusionFeatureExtractor) -> None:
    """Take gradients from Stable Diffusion, tell it once and for all apart, and let go of its text encoder.

    The description is taken in float32 on the CPU, so it is the same whatever device and precision a run uses.

    Example:
        >>> from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
        >>> unet = UNet2DConditionModel(
        ...     block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        ...     mid_block_type=None, layers_per_block=1, norm_num_groups=4, cross_attention_dim=8,
        ... )
        >>> vae = AutoencoderKL(block_out_channels=(4,), norm_num_groups=2)
        >>> settings = {"prompt_embeds": torch.zeros(1, 3, 8), "resolution": 16, "num_draws": 2, "up_blocks": (0,)}
        >>> extractor = DiffusionFeatureExtractor(unet, vae, DDIMScheduler(), **settings)
        >>> freeze_extractor(extractor)
        >>> any(weight.requires_grad for weight in [*unet.parameters(), *vae.parameters()])
        False
    """
    extractor.unet.requires_grad_(False)
    extractor.vae.requires_grad_(False)
    extractor.describe()
    extractor.drop_text_encoder()


def place_extractor(extractor: DiffusionFeatureExtractor, dtype: torch.dtype | None, device: torch.device) -> None:
    """Bring Stable Diffusion to the training device; None takes bfloat16 there, and on a CPU what it is fast in.

    Example:
        >>> from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
        >>> unet = UNet2DConditionModel(
        ...     block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        ...     mid_block_type=None, layers_per_block=1, norm_num_groups=4, cross_attention_dim=8,
        ... )
        >>> vae = AutoencoderKL(block_out_channels=(4,), norm_num_groups=2)
        >>> settings = {"prompt_embeds": torch.zeros(1, 3, 8), "resolution": 16, "num_draws": 2, "up_blocks": (0,)}
        >>> extractor = DiffusionFeatureExtractor(unet, vae, DDIMScheduler(), **settings)
        >>> place_extractor(extractor, torch.bfloat16, torch.device("cpu"))
        >>> unet.dtype, vae.dtype
        (torch.bfloat16, torch.bfloat16)
    """
    if dtype is None:
        dtype = preferred_dtype(device) if device.type == "cpu" else torch.bfloat16
    for module in (extractor.unet, extractor.vae):
        module.to(device)
        if module.dtype != dtype:
            module.to(dtype)


def cached_features(
    folder: str,
    extractor: DiffusionFeatureExtractor,
    photos: Sequence[tuple[PhotoObjects, Sequence[Photo]]],
    accelerator: Accelerator,
    *,
    rebuild: bool = False,
    on_error: str = "skip",
) -> PhotoFeatures:
    """Open a cache, and fill it with the photos that it lacks; every process computes a share of them.

    Args:
        folder: of the cache.
        extractor: on the training device; moved to the CPU afterwards.
        photos: which photos, of which data sets.
        accelerator: of the run.
        rebuild: delete what the folder holds first.
        on_error: "skip" leaves out photos that cannot be read.

    Raises:
        FeatureCacheError: the cache is stale or damaged.
        OSError: too little disk space.
        PhotoError: with `on_error` "raise".

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from types import SimpleNamespace
        >>> from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
        >>> unet = UNet2DConditionModel(
        ...     block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        ...     mid_block_type=None, layers_per_block=1, norm_num_groups=4, cross_attention_dim=8,
        ... )
        >>> vae = AutoencoderKL(block_out_channels=(4,), norm_num_groups=2)
        >>> settings = {"prompt_embeds": torch.zeros(1, 3, 8), "resolution": 16, "num_draws": 2, "up_blocks": (0,)}
        >>> extractor = DiffusionFeatureExtractor(unet, vae, DDIMScheduler(), **settings)
        >>> photo = Photo("cups/1", source=0, row=0, objects=(0,), group="1.png")
        >>> objects = SimpleNamespace(  # in place of `PhotoObjects`
        ...     content_key=lambda photo: photo.name, image=lambda photo: Image.new("RGB", (30, 20))
        ... )
        >>> with TemporaryDirectory() as folder:
        ...     features = cached_features(folder, extractor, [(objects, [photo])], Accelerator())
        ...     (maps,) = features([features.read(objects, photo)])
        >>> [tuple(feature.shape) for feature in maps], maps[0].dtype
        ([(1, 8, 16, 16)], torch.bfloat16)
    """
    shapes = [(c, s, s) for c, s in zip(extractor.feature_channels, extractor.feature_sizes, strict=True)]
    if accelerator.is_main_process:
        if rebuild:
            clear_cache(folder)
        FeatureCache(folder, extractor.describe(), shapes)
        sweep(folder)
    accelerator.wait_for_everyone()
    cache = FeatureCache(folder, extractor.describe(), shapes)
    places = _content_keys(photos, on_error)
    names = {key: photo.name for key, (_, photo) in places.items()}
    missing = sorted(cache.missing(names))
    if missing:
        if accelerator.is_main_process:
            cache.check_space(len(missing))

        def compute(key: str) -> tuple[Tensor, ...] | None:
            objects, photo = places[key]
            try:
                image = objects.image(photo)
            except PhotoError as error:
                if on_error == "raise":
                    raise
                logger.warning("skipped %s", error)
                return None
            return extractor([image])[0].maps

        mine = missing[accelerator.process_index :: accelerator.num_processes]
        cache.fill(mine, names, compute, show_progress=accelerator.is_main_process)
        accelerator.wait_for_everyone()
        cache.refresh()
    extractor.unet.to("cpu")  # its memory is the decoder's now
    extractor.vae.to("cpu")
    return PhotoFeatures(extractor, accelerator.device, cache)


def _content_keys(
    photos: Sequence[tuple[PhotoObjects, Sequence[Photo]]], on_error: str
) -> dict[str, tuple[PhotoObjects, Photo]]:
    """One place of every photo by its key; photos whose file is missing are left out."""
    places: dict[str, tuple[PhotoObjects, Photo]] = {}
    for objects, chosen in photos:
        for photo in chosen:
            try:
                places.setdefault(objects.content_key(photo), (objects, photo))
            except PhotoError as error:
                if on_error == "raise":
                    raise
                logger.warning("skipped %s", error)
    return places
