"""Questions about an object and its neighbours: what is asked of a network that completes masks by photo and occluders.

The same sample can be asked in several ways: with all neighbours as possible occluders, with some, with those in front
alone, or without any neighbour. A network that has met all of them answers whatever a caller knows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...display import short_repr
from ..synthesis import PASTED, OcclusionBatch, PhotoBatch

ALL, SOME, FRONT, UNKNOWN = range(4)
"""What the eraser holds: every neighbour, some of them, those in front, or all that is not the object."""


@dataclass
class OccluderQuestions:
    """What a network is asked, and the answers; planes are float32 of shape (B, 1, S, S) and in {0, 1} but for weights.

    Args:
        mask: the visible part of the object, outside of the eraser.
        eraser: all that may hide it.
        front: what of the eraser is said to be in front.
        image: (B, 3, S, S) float32, ImageNet-normalised RGB; 0 where there is none.
        shown: (B,) bool, which objects come with a photo.
        target: the object as far as it is visible or under the eraser.
        weight: of each pixel in the loss of the mask.
        in_front: what hides the object, or might.
        front_weight: of each pixel in the loss of what is in front.
        category_ids: (B,) int64, 0 where none is told.

    Example:
        >>> plane = torch.ones(2, 1, 8, 8)
        >>> batch = OcclusionBatch(plane, 0 * plane, plane, torch.ones(2, dtype=torch.int64))
        >>> ask_of_masks(batch).shown
        tensor([False, False])
    """

    mask: Tensor
    eraser: Tensor
    front: Tensor
    image: Tensor
    shown: Tensor
    target: Tensor
    weight: Tensor
    in_front: Tensor
    front_weight: Tensor
    category_ids: Tensor

    __repr__ = short_repr

    @staticmethod
    def join(parts: "list[OccluderQuestions]") -> "OccluderQuestions":
        """One batch of several."""
        return OccluderQuestions(*map(torch.cat, zip(*(vars(part).values() for part in parts), strict=True)))


def ask_of_photos(
    batch: PhotoBatch,
    generator: torch.Generator,
    *,
    shares: tuple[float, float, float, float] = (0.45, 0.15, 0.15, 0.25),
    guess_weight: float = 1.0,
    inside_weight: float = 5.0,
    told: float = 0.25,
    unseen: float = 0.0,
    surrounded: float = 0.0,
    unnamed: float = 0.0,
) -> OccluderQuestions:
    """Ask of objects in photos, in one of four ways each.

    Args:
        batch: with `others`.
        generator: of the batch's device; decides what is asked.
        shares: of the questions `ALL`, `SOME`, `FRONT` and `UNKNOWN`.
        guess_weight: factor on the loss where real neighbours are whose part in the answer is a guess, such as a
            pipeline's; 1 for data sets whose whole masks are true.
        inside_weight: weight of the loss where possible occluders are seen [Z20].
        told: share of the questions in which the network is told of a part of the occluders that they are in front.
        unseen: share of the objects that come without their photo.
        surrounded: share of the questions `ALL` and `SOME` in which what no object covers counts as a neighbour too, as
            where sky, road and walls are annotated.
        unnamed: share of the objects whose category is not told.

    Raises:
        ValueError: a batch without `others`.

    Example:
        >>> plane, no = torch.ones(1, 1, 8, 8), torch.zeros(1, dtype=torch.bool)
        >>> others = torch.ones(1, 1, 8, 8, dtype=torch.uint8)
        >>> batch = PhotoBatch(torch.zeros(1, 3, 8, 8), 0 * plane, plane, plane, plane, 0 * plane, no, others)
        >>> asked = ask_of_photos(batch, torch.Generator().manual_seed(0), shares=(1.0, 0.0, 0.0, 0.0))
        >>> asked.eraser.mean(), asked.target.mean(), asked.weight.mean()
        (tensor(1.), tensor(1.), tensor(5.))
    """
    if batch.others is None:
        raise ValueError("`batch` must have `others`: make its bank with `with_instances`.")
    others, count, device = batch.others, len(batch.modal), batch.modal.device

    def chance(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    edges = torch.tensor(shares, device=device).cumsum(0)
    kind = torch.bucketize(chance(count) * edges[-1], edges[:-1])[:, None, None, None]  # [B, 1, 1, 1]
    numbers = others.flatten(1).long()
    some, tell = ((chance(count, 256) < 0.5).gather(1, numbers).view(others.shape) for _ in range(2))
    seen = (others > 0).float()
    if surrounded:
        around = (chance(count) < surrounded)[:, None, None, None] & (kind <= SOME) & (others == 0)
        seen = torch.where(around, 1 - batch.modal, seen)
        some = some | around
    eraser = torch.where(kind == SOME, seen * some, seen)
    eraser = torch.where(kind == FRONT, batch.occluder, eraser)
    eraser = torch.where(kind == UNKNOWN, 1 - batch.modal, eraser)
    # Of occluders alone it is said of all or of none; where others are asked too, of some.
    is_told = (chance(count) < torch.where(kind[:, 0, 0, 0] == FRONT, 0.5, told))[:, None, None, None]
    front = batch.occluder * eraser * is_told * torch.where(kind == FRONT, 1.0, tell.float()) * (kind != UNKNOWN)
    shown = chance(count) >= unseen
    ids = torch.zeros(count, dtype=torch.int64, device=device) if batch.category_ids is None else batch.category_ids
    sure = (others == PASTED) | batch.is_region[:, None, None, None]
    trust = torch.where(sure | (seen == 0), 1.0, guess_weight)
    known = torch.where(batch.known > 0, 1.0, 0.1)
    return OccluderQuestions(
        mask=batch.modal * (1 - eraser),
        eraser=eraser,
        front=front,
        image=batch.image * shown[:, None, None, None],
        shown=shown,
        target=batch.modal * (1 - eraser) + batch.amodal * eraser,
        weight=(1 + (inside_weight - 1) * eraser * seen) * trust * known,
        in_front=batch.occluder,
        front_weight=(0.2 * eraser + 0.8 * eraser * seen) * trust * known * (1 - batch.modal),
        category_ids=ids * ~batch.is_region * (chance(count) >= unnamed),
    )


def ask_of_masks(batch: OcclusionBatch, *, inside_weight: float = 5.0) -> OccluderQuestions:
    """Ask of masks without photo; what is in front is not asked.

    Example:
        >>> plane = torch.ones(2, 1, 8, 8)
        >>> asked = ask_of_masks(OcclusionBatch(0 * plane, plane, plane, torch.ones(2, dtype=torch.int64)))
        >>> asked.image.shape, asked.weight.mean(), asked.front_weight.sum()
        (torch.Size([2, 3, 8, 8]), tensor(5.), tensor(0.))
    """
    nothing = torch.zeros_like(batch.mask)
    return OccluderQuestions(
        mask=batch.mask,
        eraser=batch.eraser,
        front=nothing,
        image=nothing.expand(-1, 3, -1, -1),
        shown=torch.zeros(len(nothing), dtype=torch.bool, device=nothing.device),
        target=batch.target,
        weight=1 + (inside_weight - 1) * batch.eraser,
        in_front=nothing,
        front_weight=nothing,
        category_ids=torch.zeros_like(batch.category_ids),
    )
