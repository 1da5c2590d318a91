"""An object's hidden part as a few materials that go on: which colours lie where, what may be copied, how strong."""

from math import ceil

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ...masks import BoolArray, block_sums, dilate
from ...models.pull_push import pull_push
from .joins import around_mask, blurred

_MATERIALS = 4
_STEPS = 8  # of k-means
_MOST = 2000  # pixels that it looks at
_SHARP = 2  # power of a material's share of a pixel: 1 blends them as a membrane does, more draws borders between them
_LOOKED = 1500  # pixels of a hole at the level at which likeness is looked at, about
_MOST_AROUND = 100_000  # pixels of its window likewise
_AT_ONCE = 8192  # sources that are compared with the rim at a time
_RADIUS = 2  # of the patches that are compared there
_BESIDE = 6  # pixels there, the rim that a source must be like
_MOST_RIM = 300  # patches of it
_USUAL = 0.8  # share of the rim's patches that are as like another one as is usual
_FACTOR = 1.5  # times the usual distance of two patches, from which on a source shows something else
_LEAST = 6 / 255  # that is usual
_STRONG_BESIDE = 12  # pixels beside a hole that say how strong its detail is
_STRONG_OVER = 3.0  # pixels: standard deviation of the Gaussian over which detail is averaged in the hole
_STRENGTHS = (0.1, 1.5)  # least and most that copied detail is multiplied by
_KEPT = 0.3  # share of the sources, or of the hole if it is smaller, that stays in any case: what is most like it


def continue_materials(image: Tensor, known: Tensor) -> Tensor:
    """Continue known colours over the rest of a picture, as a few materials with borders between them.

    A smooth blend of a shirt and an arm is the colour of neither. So the known colours are sorted into a few kinds
    (k-means), each pixel gets shares of them by continuing where each of them is known (`pull_push`), and these
    shares, sharpened, mix the colours of each kind, continued alone. What is rare counts less: a shadow or a strap does
    not go on as cloth does.

    Args:
        image: (3, h, w) float32 in [0, 1].
        known: (h, w) bool.

    Returns:
        (3, h, w) float32; the known pixels as they are, zeros where nothing is known.

    Example:
        >>> known = torch.arange(12).expand(8, 12)
        >>> known = (known < 4) | (known > 7)
        >>> image = (torch.arange(12) > 5).float().expand(3, 8, 12)
        >>> continue_materials(image, known)[0, 4, 4:8].round(decimals=1)
        tensor([0.1000, 0.3000, 0.7000, 0.9000])
    """
    colours = image[:, known].T  # [n, 3]
    if len(colours) < 2 * _MATERIALS:
        return pull_push(image[None], known[None, None].float())[0]
    centres = _kinds(colours[:: -(-len(colours) // _MOST)])
    kind = torch.cdist(colours, centres).argmin(1)
    where = torch.zeros(len(centres), *known.shape)
    where[:, known] = F.one_hot(kind, len(centres)).T.float()
    shares = pull_push(where[None], known[None, None].float())[0].clamp(0, 1)
    alone = pull_push(image.expand(len(centres), *image.shape), where[:, None])  # [K, 3, h, w]
    common = kind.bincount(minlength=len(centres)) / len(kind)
    weights = shares**_SHARP * common.view(-1, 1, 1)
    mixed = (weights[:, None] * alone).sum(0) / weights.sum(0).clamp(min=1e-8)
    return torch.where(known, image, mixed)


def _kinds(colours: Tensor) -> Tensor:
    """(K, 3) k-means of colours (n, 3), from equal parts of them along their main axis."""
    centred = colours - colours.mean(0)
    spread = centred.T @ centred
    spread.diagonal().add_(1e-9)  # of one colour
    along = centred @ torch.linalg.eigh(spread).eigenvectors[:, -1]
    parts = colours[along.argsort(stable=True)].tensor_split(_MATERIALS)
    centres = torch.stack([part.mean(0) for part in parts])
    for _ in range(_STEPS):
        kind = torch.cdist(colours, centres).argmin(1)
        counts = kind.bincount(minlength=len(centres))
        sums = torch.zeros_like(centres).index_add_(0, kind, colours)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
    return centres


def detail_strength(detail: Tensor, image: Tensor, known: Tensor, target: Tensor, width: float) -> Tensor:
    """By how much to multiply copied detail, so that it is as strong as the detail beside the hole.

    Copies that fit anywhere are plain ones, which leave a hole plainer than what is beside it. And where a copy shows
    the edge of a thing, of which the low frequencies are taken away, a bright and a dark line are left. How strong
    detail is beside the hole goes on smoothly over it, as colours do.

    Args:
        detail: (3, h, w) float32, of what is copied; only the target is looked at.
        image: (3, h, w) float32 in [0, 1].
        known: (h, w) bool, pixels of the image that are seen.
        target: (h, w) bool, the hole; not empty.
        width: detail is what a Gaussian of this standard deviation in pixels takes away.

    Returns:
        (h, w) float32 within `_STRENGTHS`; 1 outside of the hole, and everywhere where nothing is known beside it.

    Example:
        >>> target = torch.arange(60).expand(40, 60) < 20
        >>> grain = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0))
        >>> detail = 0.2 * (grain - blurred(grain, target, 2.0))
        >>> strength = detail_strength(detail, torch.where(target, 0.0, 0.1 * grain), ~target, target, 2.0)
        >>> strength[20, [10, 30]].round(decimals=1)
        tensor([0.5000, 1.0000])
    """
    strength = torch.ones(target.shape)
    rows, columns = around_mask(target, _STRONG_BESIDE)
    detail, image, known, target = (plane[..., rows, columns] for plane in (detail, image, known, target))
    beside = known & dilate(target, kernel="square", size=2 * _STRONG_BESIDE + 1)
    if not bool(beside.any()):
        return strength
    shown, there = (
        planes.square().sum(0, keepdim=True) * mask
        for planes, mask in ((image - blurred(image, beside, width), beside), (detail, target))
    )
    wanted = pull_push(shown[None], beside[None, None].float())[0]
    found = blurred(there, target, _STRONG_OVER)
    ratio = (wanted / found.clamp(min=1e-7)).sqrt().clamp(*_STRENGTHS)[0]
    strength[rows, columns] = torch.where(target, ratio, 1)
    return strength


def like_beside(photo: npt.NDArray[np.uint8], hole: BoolArray, known: BoolArray, usable: BoolArray) -> BoolArray:
    """The pixels that may be copied into a hole and look like something beside it.

    A mouth, a hand or a buckle would be seen to be a copy wherever no such thing reaches the hole.

    Args:
        photo: (h, w, 3) uint8.
        hole: (h, w) bool.
        known: (h, w) bool, what is seen of the object.
        usable: (h, w) bool, what may be copied of it.

    Returns:
        (h, w) bool, within `usable`; all of it where next to nothing is known.

    Example:
        >>> photo, hole = np.full((40, 60, 3), 90, np.uint8), np.zeros((40, 60), bool)
        >>> hole[:, :20], photo[10:20, 45:55] = True, 200
        >>> like_beside(photo, hole, ~hole, ~hole)[15, [25, 50]]
        array([ True, False])
    """
    scale = max(1, round((np.count_nonzero(hole) / _LOOKED) ** 0.5), ceil((hole.size / _MOST_AROUND) ** 0.5))
    counts = block_sums(known, scale)
    seen, target = counts > 0.5 * scale**2, block_sums(hole, scale) > 0
    rim = dilate(target, kernel="square", size=2 * _BESIDE + 1) & seen & ~target
    sources = block_sums(usable, scale) > 0
    if np.count_nonzero(rim) < _BESIDE or not sources.any():
        return usable
    sums = block_sums(photo * known[..., None], scale) / (255 * np.maximum(counts, 1))[..., None]
    image = torch.from_numpy(sums.astype(np.float32)).permute(2, 0, 1)
    image = pull_push(image[None], torch.from_numpy(seen)[None, None].float())
    patches = F.unfold(F.pad(image, (_RADIUS,) * 4, mode="replicate"), 2 * _RADIUS + 1)[0].T  # [n, 75]
    beside = torch.from_numpy(np.flatnonzero(rim))
    beside = beside[:: -(-len(beside) // _MOST_RIM)]
    apart = _distances(patches[beside], patches[beside])
    y, x = beside // rim.shape[1], beside % rim.shape[1]
    apart[((y[:, None] - y).abs() <= _RADIUS) & ((x[:, None] - x).abs() <= _RADIUS)] = torch.inf
    own = apart.amin(1)
    own = own[own < torch.inf]
    usual = max(_LEAST**2, float(own.quantile(_USUAL)) if len(own) else 0)
    places = torch.from_numpy(np.flatnonzero(sources))
    nearest = torch.cat([_distances(patches[some], patches[beside]).amin(1) for some in places.split(_AT_ONCE)])
    fewest = _KEPT * min(np.count_nonzero(sources), np.count_nonzero(target)) / len(places)
    limit = max(_FACTOR**2 * usual, float(nearest.quantile(min(1, fewest))))
    alike = np.zeros_like(sources)
    alike.ravel()[places.numpy()] = (nearest <= limit).numpy()
    kept: BoolArray = usable & alike.repeat(scale, axis=0).repeat(scale, axis=1)[: hole.shape[0], : hole.shape[1]]
    return kept


def _distances(patches: Tensor, others: Tensor) -> Tensor:
    """(n, m) mean squared differences of patches (n, d) and (m, d)."""
    lengths = patches.square().sum(1)[:, None] + others.square().sum(1)
    return torch.addmm(lengths, patches, others.T, alpha=-2).clamp_(min=0) / patches.shape[1]
