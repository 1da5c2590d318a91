"""Training samples of PCNet-C [Z20] whose hidden colours nobody had to make up: rendered scenes know them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from pycocotools import mask as mask_utils
from torch import Tensor

from ...crops import crop_boxes, crop_images, crop_masks
from ...images import normalize_images
from ...masks import mask_boxes
from ..schema import decode_masks
from ..synthesis import ContentBatch, ContentSynthesisConfig, dilate_holes, mix_seed
from .hidden_colors import ColorArchives


class HiddenPart(NamedTuple):
    """An object with a hidden part: which data set, which row of it, which of the row's objects.

    Example:
        >>> HiddenPart(source=0, row=3, object=1).row
        3
    """

    source: int
    row: int
    object: int


class HiddenParts:
    """Draws objects that something hides in part, with the true colours of what is hidden.

    The picture is the photo with the object's own colours where it is hidden, and the hole is its hidden part. What
    hides it stays in view around the hole, as in any photo. Crops are shifted, scaled and mirrored, and holes dilated,
    as `ContentSynthesizer` does by the same recipe. A batch follows from (seed, step, process) alone.

    Args:
        sources: for each data set its rows, with photos, and where the colours of its objects are.
        recipe: of the synthesis: `size`, `enlarge_box`, `shift`, `scale` and `dilation` are taken.
        min_area: objects with fewer visible pixels are left out.
        min_hole: objects with fewer hidden pixels are left out.
        seed: of all draws.
        process_index: the processes of one run get different batches.

    Raises:
        ValueError: no object is left.

    Example:
        >>> import tempfile, zipfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from amodal_diffusion.data.rooms.hidden_colors import HiddenColors, write_colors
        >>> from amodal_diffusion.masks import encode_rle
        >>> whole = np.zeros((40, 40), dtype=bool)
        >>> whole[10:30, 5:35] = True
        >>> seen = whole.copy()
        >>> seen[:, 20:] = False
        >>> item = {"modal_mask": encode_rle(seen), "amodal_mask": encode_rle(whole)}
        >>> row = {"image": Image.new("RGB", (40, 40), "white"), "image_id": "a", "objects": [item]}
        >>> red = np.full((20, 30, 4), (255, 0, 0, 255), dtype=np.uint8)
        >>> folder = tempfile.TemporaryDirectory()
        >>> (Path(folder.name) / "layers").mkdir()
        >>> with zipfile.ZipFile(Path(folder.name) / "layers/train-00000-of-00001.zip", "w") as archive:
        ...     write_colors(archive, "a", HiddenColors(objects={0: (5, 10, red)}))
        >>> parts = HiddenParts([([row], ColorArchives(folder.name))], ContentSynthesisConfig(size=16), min_area=1)
        >>> batch = parts.sample(step=0, batch_size=2)
        >>> batch.image.shape, bool((batch.hole.sum((1, 2, 3)) > 0).all())
        (torch.Size([2, 3, 16, 16]), True)
        >>> folder.cleanup()
    """

    def __init__(
        self,
        sources: Sequence[tuple[Any, ColorArchives]],
        recipe: ContentSynthesisConfig,
        *,
        min_area: int = 1000,
        min_hole: int = 100,
        seed: int = 0,
        process_index: int = 0,
    ) -> None:
        self.sources, self.recipe = list(sources), recipe
        self.seed, self.process_index = seed, process_index
        self.parts = [
            HiddenPart(source, row, index)
            for source, (rows, colors) in enumerate(self.sources)
            for row, index in _find_parts(rows, colors, min_area, min_hole)
        ]
        if not self.parts:
            raise ValueError("no object has a hidden part whose colours are known: a data set with layers/ is needed.")

    def __len__(self) -> int:
        return len(self.parts)

    def sample(self, step: int, batch_size: int) -> ContentBatch:
        """The batch of `step` for this process: always the same for the same arguments."""
        generator = np.random.default_rng(mix_seed(self.seed, step, self.process_index))
        drawn = generator.integers(0, len(self.parts), batch_size)
        images, planes = zip(*(self._crop(self.parts[number], generator) for number in drawn), strict=True)
        seen, mask, known = torch.stack(planes).float().split(1, dim=1)
        return ContentBatch(
            normalize_images(torch.stack(images)), seen, mask, known, torch.zeros(batch_size, dtype=torch.int64)
        )

    def _crop(self, part: HiddenPart, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The picture (3, S, S) in [0, 1]; what is seen of it, what of the object, what is known, (3, S, S) bool."""
        rows, colors = self.sources[part.source]
        row = rows[part.row]
        photo = np.array(row["image"].convert("RGB"))
        height, width = photo.shape[:2]
        item = row["objects"][part.object]
        modal, amodal = decode_masks([item["modal_mask"], item["amodal_mask"]], height, width)
        layer = colors.read(row["image_id"], [part.object]).paint(part.object, height, width)
        hidden = amodal & ~modal & (layer[..., 3] > 0)
        photo[hidden] = layer[hidden][:, :3]
        size, box = self.recipe.size, self._box(amodal, generator)
        image = crop_images(torch.from_numpy(photo).permute(2, 0, 1) / 255, box, size)[0].clamp(0, 1)
        masks = torch.from_numpy(np.stack([hidden, modal, np.ones_like(modal)]))
        hole, visible, inside = crop_masks(masks, box.repeat(3, axis=0), size)
        grown = dilate_holes(hole[None], round(generator.random() * self.recipe.dilation * size))[0]
        planes = torch.stack([inside & ~grown, visible & ~grown, inside & (~grown | hole | visible)])
        if generator.random() < 0.5:
            image, planes = image.flip(-1), planes.flip(-1)
        return image, planes

    def _box(self, amodal: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """(1, 4) int64: the crop around the whole object, moved and scaled."""
        (x, y, side, _) = crop_boxes(mask_boxes(amodal[None]), enlarge_box=self.recipe.enlarge_box)[0]
        centre = np.array([x, y]) + side / 2 + generator.uniform(*self.recipe.shift, 2) * side
        side = max(1, round(side / generator.uniform(*self.recipe.scale)))
        left, top = np.round(centre - side / 2).astype(np.int64)
        return np.array([[left, top, side, side]])


def _find_parts(rows: Any, colors: ColorArchives, min_area: int, min_hole: int) -> list[tuple[int, int]]:
    """The rows and objects whose colours are known, with so many visible and hidden pixels."""
    found = []
    described = rows.select_columns(["image_id", "objects"]) if hasattr(rows, "select_columns") else rows
    for number, row in enumerate(described):
        for index in colors.objects(row["image_id"]):
            item: Mapping[str, Any] = row["objects"][index]
            seen, whole = (int(mask_utils.area(item[name])) for name in ("modal_mask", "amodal_mask"))
            if seen >= min_area and whole - seen >= min_hole:
                found.append((number, index))
    return found
