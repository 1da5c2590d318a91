"""Where hidden parts may lie, and which of many drawn shapes stand for all of them.

Internal; see `sample_choice` of `AmodalVAEPipeline`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...crops import crop_to_boxes, paste_from_boxes

# Of the sides of a box, the share that a candidate moves outward; and how much worse than the best a candidate's
# agreement with the visible part is where it counts for a third (1 / e). Chosen on held-out scenes, see the card.
_MOVED_SIDES = 0.6
_SCORE_WIDTH = 0.1


def hidden_reach(occluders: Tensor, boxes: Tensor) -> Tensor:
    """How far an object may go on, hidden, beyond each side of its tight box.

    That is as far as the occluders go on without a gap, seen from the side: somewhere along it, at each distance; at
    most as far as the box is wide or high.

    Args:
        occluders: (R, H, W) bool, what may hide each object.
        boxes: (R, 4) float32 (x, y, w, h) in whole pixels, the tight boxes of the visible parts, which are not empty.

    Returns:
        (R, 4) float32, pixels to the left, top, right and bottom.

    Example:
        >>> occluders = torch.zeros(1, 8, 20, dtype=torch.bool)
        >>> occluders[:, 2:4, 8:11] = True
        >>> hidden_reach(occluders, torch.tensor([[4.0, 2.0, 4.0, 4.0]]))
        tensor([[0., 0., 3., 0.]])
    """
    reach = boxes.new_zeros(len(boxes), 4)
    for row, (x, y, w, h) in enumerate(boxes.int().tolist()):
        columns = occluders[row, y : y + h].any(dim=0)  # [W]
        lines = occluders[row, :, x : x + w].any(dim=1)  # [H]
        strips = (columns[:x].flip(0)[:w], lines[:y].flip(0)[:h], columns[x + w :][:w], lines[y + h :][:h])
        reach[row] = torch.stack([strip.cumprod(0).sum() for strip in strips])
    return reach


def candidate_boxes(boxes: Tensor, reach: Tensor, chances: Tensor) -> Tensor:
    """Boxes that the whole objects may have: each side stays, or moves outward by a part of its reach.

    Args:
        boxes: (R, 4) float32 (x, y, w, h).
        reach: (R, 4) float32, see `hidden_reach`.
        chances: (R, C, 8) float32, uniform in [0, 1]: whether each side moves, and how far.

    Returns:
        (R, C, 4) float32.

    Example:
        >>> chances = torch.tensor([[[0.0, 0.0, 0.0, 0.9, 1.0, 1.0, 0.5, 1.0]]])
        >>> candidate_boxes(torch.tensor([[4.0, 2.0, 4.0, 4.0]]), torch.tensor([[1.0, 0.0, 3.0, 9.0]]), chances)
        tensor([[[3.0000, 2.0000, 6.5000, 4.0000]]])
    """
    moved = (chances[..., :4] < _MOVED_SIDES) * chances[..., 4:] * reach[:, None]  # [R, C, 4]
    corner = boxes[:, None, :2] - moved[..., :2]
    return torch.cat([corner, boxes[:, None, 2:] + moved[..., :2] + moved[..., 2:]], dim=2)


class ShapeFrame:
    """The same small view of the photo for all candidates of an object, in which they are compared.

    Args:
        modal: (R, H, W) bool.
        hiders: (R, H, W) bool, what may hide each object; None where nothing is known.
        tight: (R, 4) float32, the tight boxes of `modal`.
        views: (R, 4) float32, the boxes that are viewed.
        size: cells a side.

    Example:
        >>> modal = torch.ones(1, 4, 4, dtype=torch.bool)
        >>> box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
        >>> frame = ShapeFrame(modal, None, box, box, size=4)
        >>> masks, scores = frame.view(torch.ones(1, 2, 4, 4), box.expand(1, 2, 4), 0.5)
        >>> masks.shape, scores
        (torch.Size([1, 2, 16]), tensor([[1., 1.]]))
    """

    def __init__(self, modal: Tensor, hiders: Tensor | None, tight: Tensor, views: Tensor, size: int) -> None:
        self.views, self.size = views, size
        self.modal = (crop_to_boxes(modal, views, size) > 0.5).flatten(1)[:, None]  # [R, 1, s * s]
        if hiders is None:
            self.free = None
            seen = paste_from_boxes(tight.new_ones(len(tight), 1, 1), self._cells(tight), size, size) > 0.5
            self.certain = seen.flatten(1)[:, None]
        else:
            self.free = (crop_to_boxes(hiders, views, size) > 0.5).flatten(1)[:, None]
            self.certain = ~self.free

    def view(self, probabilities: Tensor, boxes: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
        """Masks as they will be returned (R, C, s * s) bool, and their scores (R, C), of candidates (R, C, s, s)."""
        places = self._cells(boxes)
        pasted = paste_from_boxes(probabilities.flatten(0, 1), places.flatten(0, 1), self.size, self.size)
        found = (pasted > threshold).view(*probabilities.shape[:2], -1)
        agreed = (found & self.modal).sum(2)
        scores = agreed / ((found & self.certain) | self.modal).sum(2).clamp(min=1)
        return self.modal | (found if self.free is None else found & self.free), scores

    def _cells(self, boxes: Tensor) -> Tensor:
        """Boxes (R, ..., 4) in pixels of the photo in cells of the views."""
        views = self.views.view(len(self.views), *[1] * (boxes.ndim - 2), 4)
        scale = self.size / views[..., 2:]
        return torch.cat([(boxes[..., :2] - views[..., :2]) * scale, boxes[..., 2:] * scale], dim=-1)


def choose_shapes(masks: Tensor, scores: Tensor, count: int) -> Tensor:
    """Choose the masks of each object that stand for all of its candidates, by greedy k-medoids.

    A candidate counts the more the better it agrees with what is seen. The first one chosen has the highest expected
    IoU with all of them; each further one is that which brings the candidates closest, on average, to their nearest
    chosen one. So the chosen ones differ where the candidates do.

    Args:
        masks: (R, C, P) bool.
        scores: (R, C) float32 in [0, 1].
        count: K; where it exceeds C, the last ones are chosen twice.

    Returns:
        (R, K) int64.

    Example:
        >>> masks = torch.tensor([[[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]], dtype=torch.bool)
        >>> choose_shapes(masks, torch.ones(1, 4), count=2)
        tensor([[0, 2]])
    """
    planes = masks.float()
    common = planes @ planes.transpose(1, 2)  # [R, C, C]
    areas = common.diagonal(dim1=1, dim2=2)
    iou = common / (areas[:, :, None] + areas[:, None] - common).clamp(min=1)
    weights = ((scores - scores.amax(1, keepdim=True)) / _SCORE_WIDTH).exp()  # [R, C]
    nearest, taken, chosen = torch.zeros_like(scores), torch.zeros_like(scores, dtype=torch.bool), []
    for _ in range(count):
        gain = (weights[:, :, None] * torch.maximum(iou, nearest[:, :, None])).sum(1)  # [R, C]
        best = gain.masked_fill(taken, -1.0).argmax(1)
        chosen.append(best)
        taken.scatter_(1, best[:, None], True)
        nearest = torch.maximum(nearest, iou.gather(2, best[:, None, None].expand(-1, iou.shape[1], 1))[..., 0])
    return torch.stack(chosen, dim=1) if chosen else torch.zeros(len(masks), 0, dtype=torch.int64, device=masks.device)


def fill_holes(shapes: Tensor) -> Tensor:
    """Shapes without holes: what is enclosed belongs to them, as a decoder's holes under an occluder mean nothing.

    Args:
        shapes: (B, s, s) bool.

    Returns:
        (B, s, s) bool. A gap that reaches the border, or another gap that does, by its sides stays.

    Example:
        >>> fill_holes(torch.tensor([[[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 1], [1, 0, 0, 1]]], dtype=torch.bool)).int()
        tensor([[[1, 1, 1, 0],
                 [1, 1, 1, 0],
                 [1, 1, 1, 1],
                 [1, 0, 0, 1]]], dtype=torch.int32)
    """
    background = F.pad(~shapes, (1, 1, 1, 1), value=True)[:, None].float()
    outside = F.pad(torch.zeros_like(shapes), (1, 1, 1, 1), value=True)[:, None].float()
    while True:
        across = F.max_pool2d(outside, (1, 3), stride=1, padding=(0, 1))
        grown = torch.maximum(across, F.max_pool2d(outside, (3, 1), stride=1, padding=(1, 0))) * background
        if torch.equal(grown, outside):
            return outside[:, 0, 1:-1, 1:-1] == 0
        outside = grown
