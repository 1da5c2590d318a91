"""The object that a person points at, by a small network that needs no download and no accelerator."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...arguments.flags import check_flag
from ...arguments.numeric import check_integer, check_number
from ...images import image_to_tensor, normalize_images
from ...masks import BoolArray, mask_boxes
from ...models.photo.click_segmenter import CLICK_RADIUS, PLANES, ClickSegmenter, draw_click
from ..base import SafePipeline, named_options
from ..inputs import check_network, to_numpy
from ..registry import register_pipeline
from .interactive import InteractiveSegmenter, PhotoEmbedding, Prompt, keep_pointed_at, pixels_of

_CELL = 32  # pixels a cell of the deepest features, of which the sides of what the network sees are multiples
_LEAST_CROP = 32  # pixels of the photo


@register_pipeline
class ClickSegmenterPipeline(SafePipeline, InteractiveSegmenter):
    """Clicks, a box and an earlier mask to the mask of an object, on a CPU in a fraction of a second.

    The network looks at the whole photo once (`embed`). Each click is answered on these features; then the surroundings
    of the answer are looked at again, larger, where that shows more than the first look did. Every click is on its side
    of the answer: for one that is not, the network is asked about that click alone, and what it says there is added to
    the answer, or taken from it.

    Args:
        model: the network.
        side: longer side in pixels of the whole photo in the first look.
        crop_side: longer side of the second look; 0 leaves it out.
        crop_margin: side of the square around the first answer and the clicks, over their longer side.
        crop_below: no second look where that square would be larger than this share of the photo's longer side.
        keep_pointed_at: pieces of the answer without a click on them are left out.

    Raises:
        ValueError, TypeError: naming the argument.

    Example:
        >>> model = ClickSegmenter(decoder_channels=(4, 4, 4, 4, 4), embedding_channels=4, sample_size=32)
        >>> pipe = ClickSegmenterPipeline(model, side=64, crop_side=32)
        >>> embedding = pipe.embed(np.zeros((40, 60, 3), np.uint8))
        >>> mask = pipe.click(embedding, [[30, 20], [5, 5]], [1, 0])
        >>> mask.shape, mask.dtype
        ((40, 60), dtype('bool'))
    """

    model_cpu_offload_seq = "model"
    model: ClickSegmenter

    def __init__(
        self,
        model: ClickSegmenter,
        side: int = 384,
        crop_side: int = 0,
        crop_margin: float = 1.5,
        crop_below: float = 0.8,
        keep_pointed_at: bool = True,
    ) -> None:
        super().__init__()
        self.register_modules(model=check_network("model", model, ClickSegmenter))
        self.register_to_config(
            side=check_integer("side", side, _CELL),
            crop_side=check_integer("crop_side", crop_side, 0),
            crop_margin=check_number("crop_margin", crop_margin, least=1, below=10),
            crop_below=check_number("crop_below", crop_below, least=0, below=10),
            keep_pointed_at=check_flag("keep_pointed_at", keep_pointed_at),
        )
        self.model.eval()

    @property
    def networks(self) -> list[nn.Module]:
        """See `SafePipeline`."""
        return [self.model]

    @torch.no_grad()
    @named_options
    def __call__(
        self, image: Any, points: Any = None, labels: Any = None, *, box: Any = None, mask: Any = None
    ) -> BoolArray:
        """The object that is pointed at; `click` by another name, as pipelines are called."""
        return self.click(image, points, labels, box=box, mask=mask)

    def encode(self, photo: npt.NDArray[np.uint8]) -> dict[str, Any]:
        """The feature maps of the whole photo, and the size at which they were made."""
        pixels = self._resize(image_to_tensor(photo)[None], self.config.side)
        with self.evaluation_mode():
            return {"maps": self._encode(pixels), "size": tuple(pixels.shape[-2:])}

    def answer(self, embedding: PhotoEmbedding, prompt: Prompt) -> BoolArray:
        """See `click`."""
        height, width = embedding.size
        with self.evaluation_mode():
            earlier = None if prompt.mask is None else torch.from_numpy(prompt.mask)[None, None].float()
            rows, columns = embedding.features["size"]
            planes = _planes(prompt, (0, 0, width, height), rows, columns, earlier)
            logits = self._decode(planes, embedding.features["maps"])  # [1, 1, rows, columns]
            window = (0, 0, width, height)
            closer = self._window(logits, prompt, height, width) if self.config.crop_side else None
            maps = embedding.features["maps"]
            if closer is not None:
                (logits, maps), window = self._look_again(embedding.photo, prompt, logits, closer), closer
            logits = self._obey(logits, prompt, window, maps)
        x, y, w, h = window
        if self.config.keep_pointed_at:
            kept = self._pointed_at(logits, prompt, window)
            logits = torch.where((logits > 0) & ~kept, -1.0, logits)
        mask = np.zeros((height, width), bool)
        mask[y : y + h, x : x + w] = to_numpy(F.interpolate(logits, (h, w), mode="bilinear")[0, 0] > 0)
        return mask

    def _pointed_at(self, logits: Tensor, prompt: Prompt, window: tuple[int, int, int, int]) -> Tensor:
        """(rows, columns) bool, the pieces of an answer for a window of the photo that have a click on them."""
        x, y, w, h = window
        scale = np.array([logits.shape[-1] / w, logits.shape[-2] / h])
        points = (prompt.positive - (x, y)) * scale
        return torch.from_numpy(keep_pointed_at(to_numpy(logits[0, 0] > 0), points))

    def _window(self, logits: Tensor, prompt: Prompt, height: int, width: int) -> tuple[int, int, int, int] | None:
        """The square (x, y, w, h) around the first answer and what was pointed at, cut at the photo; None for none."""
        scale = np.array([width / logits.shape[-1], height / logits.shape[-2]])
        mask = self._pointed_at(logits, prompt, (0, 0, width, height)).numpy()
        x, y, w, h = mask_boxes(mask[None])[0].tolist()
        corners = [prompt.positive]
        if w:
            corners.append(np.array([[x, y], [x + w, y + h]]) * scale)
        if prompt.box is not None:
            corners.append(np.stack([prompt.box[:2], prompt.box[:2] + prompt.box[2:]]))
        places = np.concatenate(corners)
        if not len(places):
            return None
        low, high = places.min(axis=0), places.max(axis=0)
        side = max(_LEAST_CROP, self.config.crop_margin * float((high - low).max()))
        if side >= self.config.crop_below * max(height, width):
            return None
        middle = (low + high) / 2
        x, y = np.floor(np.maximum(middle - side / 2, 0)).astype(int).tolist()
        right, lower = np.ceil(np.minimum(middle + side / 2, (width, height))).astype(int).tolist()
        return x, y, right - x, lower - y

    def _look_again(
        self, photo: npt.NDArray[np.uint8], prompt: Prompt, logits: Tensor, window: tuple[int, int, int, int]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits (1, 1, rows, columns), asked in a window with the first answer as the earlier one, and its maps."""
        x, y, w, h = window
        height, width = photo.shape[:2]
        pixels = self._resize(image_to_tensor(photo[y : y + h, x : x + w])[None], self.config.crop_side)
        rows, columns = pixels.shape[-2:]
        # The window's part of the first answer, read at the middles of the second look's pixels.
        u = (x + (torch.arange(columns) + 0.5) * w / columns) * 2 / width - 1
        v = (y + (torch.arange(rows) + 0.5) * h / rows) * 2 / height - 1
        places = torch.stack(torch.meshgrid(u, v, indexing="xy"), dim=-1)[None]
        first = F.grid_sample(logits.sigmoid(), places, padding_mode="border", align_corners=False)
        maps = self._encode(pixels)
        return self._decode(_planes(prompt, window, rows, columns, first), maps), maps

    def _obey(
        self, logits: Tensor, prompt: Prompt, window: tuple[int, int, int, int], maps: tuple[Tensor, ...]
    ) -> Tensor:
        """Logits with every click on its side: a piece around one that is not changes sides.

        The piece is what the network says of that click alone, the clicks of the other kind being beside it, as far as
        it is nearer to that click than to those; at least a disc.
        """
        x, y, w, h = window
        rows, columns = logits.shape[-2:]
        points = (prompt.points - (x, y)) * (columns / w, rows / h)
        inside = ((points >= 0) & (points <= (columns, rows))).all(axis=1)
        places, labels = points[inside], prompt.labels[inside]
        across, down = pixels_of(places, (rows, columns))
        wrong = np.flatnonzero(to_numpy(logits[0, 0] > 0)[down, across] != (labels == 1))
        if not len(wrong):
            return logits
        v, u = np.mgrid[:rows, :columns]
        distance = (u - across[:, None, None]) ** 2 + (v - down[:, None, None]) ** 2  # [P, rows, columns]
        for index in wrong:
            others = labels != labels[index]
            near = distance[index] < distance[others].min(axis=0, initial=rows * rows + columns * columns)
            kinds = np.concatenate([[1], np.zeros(int(others.sum()), np.int64)])
            alone = Prompt(np.concatenate([prompt.points[inside][[index]], prompt.points[inside][others]]), kinds)
            said = to_numpy(self._decode(_planes(alone, window, rows, columns, None), maps)[0, 0] > 0) & near
            piece = (distance[index] <= CLICK_RADIUS**2) & near
            object_now = to_numpy(logits[0, 0] > 0)
            if said[down[index], across[index]]:
                more = keep_pointed_at(said, places[[index]])
                if labels[index] or 2 * (more & object_now).sum() < object_now.sum():
                    piece |= more
            side = 1.0 if labels[index] else -1.0
            changed = torch.from_numpy(piece) & (logits * side <= 0)
            logits = torch.where(changed, side * logits.abs().clamp(min=1), logits)
        return logits

    def _resize(self, pixels: Tensor, side: int) -> Tensor:
        """A picture with its longer side at `side`, both sides at a multiple of the deepest cell."""
        longer = max(pixels.shape[-2:])
        size = [max(_CELL, round(length * side / longer / _CELL) * _CELL) for length in pixels.shape[-2:]]
        return F.interpolate(pixels, size, mode="bilinear", antialias=True)

    def _encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        image = normalize_images(pixels.to(self._execution_device))
        return self.model.encode_image(image.contiguous(memory_format=torch.channels_last))

    def _decode(self, planes: Tensor, maps: tuple[Tensor, ...]) -> Tensor:
        return self.model(planes.to(self._execution_device), features=maps).logits.float().cpu()


def _planes(
    prompt: Prompt, window: tuple[int, int, int, int], rows: int, columns: int, earlier: Tensor | None
) -> Tensor:
    """(1, 4, rows, columns), the planes of the network for a window (x, y, w, h) of the photo.

    `earlier` is (1, 1, h, w), the earlier answer in that window.
    """
    left, top, width, height = window
    scale = np.array([columns / width, rows / height])
    planes = np.zeros((len(PLANES), rows, columns), np.float32)
    for index, points in enumerate((prompt.positive, prompt.negative)):
        for x, y in (points - (left, top)) * scale:
            if 0 <= x <= columns and 0 <= y <= rows:
                draw_click(planes[index], min(x, columns - 1), min(y, rows - 1))
    if prompt.box is not None:
        x0, y0 = np.floor((prompt.box[:2] - (left, top)) * scale).astype(int).clip(0)
        x1, y1 = np.ceil((prompt.box[:2] + prompt.box[2:] - (left, top)) * scale).astype(int).clip(0)
        planes[PLANES.index("box"), y0:y1, x0:x1] = 1
    stacked = torch.from_numpy(planes)[None]
    if earlier is not None:
        stacked[:, 2:3] = F.interpolate(earlier, (rows, columns), mode="bilinear", antialias=True)
    return stacked
