"""Perceptual and style losses (Liu et al., ECCV 2018; [Z20]) on the maps of VGG-16 or of EfficientNet-lite0."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoints import load_published_state_dict
from ..hub import download_file
from ..models import EfficientNetLite0

_BLOCKS = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256))
_WEIGHTS_NAME = "model.safetensors"
_LITE_LEVELS = 3
_LITE_SPREAD = 7.0  # standard deviation of its maps, which no activation follows, over everyday photos

EFFICIENTNET_LITE0 = "efficientnet-lite0"
"""What `load_perceptual_network` takes for `EfficientNetFeatures`."""


class VGGFeatures(nn.Module):
    """The maps of VGG-16 after its first three poolings, of ImageNet-normalised pictures; frozen.

    Example:
        >>> [tuple(maps.shape) for maps in VGGFeatures()(torch.zeros(1, 3, 8, 8))]
        [(1, 64, 4, 4), (1, 128, 2, 2), (1, 256, 1, 1)]
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for block in _BLOCKS:
            for before, width in zip(block, block[1:], strict=False):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, h, w) -> (B, 64, h/2, w/2), (B, 128, h/4, w/4), (B, 256, h/8, w/8)."""
        maps = []
        for layer in self.features:
            image = layer(image)
            if isinstance(layer, nn.MaxPool2d):
                maps.append(image)
        return maps


class EfficientNetFeatures(nn.Module):
    """The maps of EfficientNet-lite0 at strides 2, 4 and 8, of ImageNet-normalised pictures, scaled to about 1; frozen.

    Not what is published, but its weights come with a package. Losses by it are not those by VGG-16: they need other
    weights.

    Args:
        network: None takes `EfficientNetLite0.from_package()`.

    Example:
        >>> network = EfficientNetFeatures(EfficientNetLite0())
        >>> [tuple(maps.shape) for maps in network(torch.zeros(1, 3, 8, 8))]
        [(1, 16, 4, 4), (1, 24, 2, 2), (1, 40, 1, 1)]
    """

    def __init__(self, network: EfficientNetLite0 | None = None) -> None:
        super().__init__()
        self.network = EfficientNetLite0.from_package() if network is None else network
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, h, w) -> (B, 16, h/2, w/2), (B, 24, h/4, w/4), (B, 40, h/8, w/8)."""
        return [maps / _LITE_SPREAD for maps in self.network(image, levels=_LITE_LEVELS).feature_maps]


PerceptualNetwork = VGGFeatures | EfficientNetFeatures


def load_perceptual_network(name: str) -> PerceptualNetwork:
    """`EfficientNetFeatures` for "efficientnet-lite0", else `load_vgg_features`.

    Raises:
        ImportError: "efficientnet-lite0" without the package of its weights.
        FileNotFoundError, ValueError: as `load_vgg_features` says.

    Example:
        >>> type(load_perceptual_network("efficientnet-lite0")).__name__
        'EfficientNetFeatures'
    """
    return EfficientNetFeatures() if name == EFFICIENTNET_LITE0 else load_vgg_features(name)


def load_vgg_features(path_or_id: str) -> VGGFeatures:
    """VGG-16 from a local file, or from a Hub repository with `model.safetensors` such as `timm/vgg16.tv_in1k`.

    Args:
        path_or_id: a safetensors file, a torch file (read with `weights_only=True`), or a Hub id; keys as in
            torchvision, `features.0.weight` and so on. What comes after the third pooling is not looked at.

    Raises:
        FileNotFoundError: there is no such file, and the Hub does not give it.
        ValueError: a file without these weights; and as `load_published_state_dict` says.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(VGGFeatures().state_dict(), f"{folder}/vgg.pth")
        ...     network = load_vgg_features(f"{folder}/vgg.pth")
        >>> any(parameter.requires_grad for parameter in network.parameters())
        False
    """
    path = Path(path_or_id)
    if not path.is_file():
        try:
            path = download_file(path_or_id, _WEIGHTS_NAME)
        except OSError as error:
            raise FileNotFoundError(
                f"There is no file {path_or_id!r}, and the Hub does not give it: {error}"
            ) from error
    state = load_published_state_dict(path)
    network = VGGFeatures()
    expected = network.state_dict()
    missing = [key for key, value in expected.items() if key not in state or state[key].shape != value.shape]
    if missing:
        raise ValueError(f"'{path}' does not hold VGG-16: missing or of another shape are {', '.join(missing)}.")
    network.load_state_dict({key: state[key] for key in expected})
    return network


def perceptual_losses(network: PerceptualNetwork, pictures: list[Tensor], truth: Tensor) -> tuple[Tensor, Tensor]:
    """L1 between the feature maps of pictures and truth, and between their Gram matrices; sums over three levels.

    Args:
        network: VGG-16 or EfficientNet-lite0.
        pictures: each (B, 3, h, w): the output and the composite.
        truth: (B, 3, h, w).

    Returns:
        Perceptual and style loss, scalars.

    Example:
        >>> picture = torch.rand(1, 3, 8, 8)
        >>> [loss.item() for loss in perceptual_losses(VGGFeatures(), [picture], truth=picture)]
        [0.0, 0.0]
    """
    with torch.no_grad():
        wanted = network(truth)
    perceptual, style = truth.new_zeros(()), truth.new_zeros(())
    for picture in pictures:
        for found, target in zip(network(picture), wanted, strict=True):
            perceptual = perceptual + F.l1_loss(found, target)
            style = style + F.l1_loss(gram_matrix(found), gram_matrix(target))
    return perceptual, style


def gram_matrix(maps: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, C), products of channels over their number of values, float32.

    Example:
        >>> gram_matrix(torch.ones(1, 2, 4, 4))
        tensor([[[0.5000, 0.5000],
                 [0.5000, 0.5000]]])
    """
    flat = maps.flatten(2).float()
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])
