"""How well an Amodal-VAE completes masks under simulated occlusion [L20]: completions, their figures, pictures."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from amodal_diffusion.crops import paste_from_boxes, to_absolute_boxes
from amodal_diffusion.data.samplers.shapes import ShapeBatch
from amodal_diffusion.models import AmodalVAE

from .pictures import completion_grid


@dataclass
class Completions:
    """Completions of a batch in the crops that it was synthesised in, all (B, S, S) bool but `samples`.

    Args:
        mean: by the mean code, placed by the spatial transformer.
        by_box: by the mean code from the crop by the whole object's box, placed there.
        samples: (K, B, S, S) by codes drawn from the posterior, placed by the spatial transformer.
    """

    mean: Tensor
    by_box: Tensor
    samples: Tensor


def complete_scenes(
    model: AmodalVAE,
    batch: ShapeBatch,
    by_box: Tensor,
    category_ids: Tensor | None,
    num_samples: int,
    generator: torch.Generator,
    by_box_image: Tensor | None = None,
) -> Completions:
    """Complete a batch of visible masks by the mean code, by samples, and with the box known.

    Args:
        model: in evaluation mode.
        batch: cropped by the visible masks' boxes.
        by_box: (B, 1, s, s), the visible masks cropped by the whole objects' boxes.
        category_ids: (B,) or None.
        num_samples: K.
        generator: of the samples.
        by_box_image: (B, 3, i, i), the photos in the boxes of `by_box`, where the network looks at them.
    """
    seen = batch.scene_visible
    height, width = seen.shape[1:]

    def paste(logits: Tensor, boxes: Tensor) -> Tensor:
        return (paste_from_boxes(logits[:, 0].float().sigmoid(), boxes, height, width) > 0.5) | seen

    def placed(latents: Tensor) -> Tensor:
        logits = model.decode(latents)
        return paste(logits, to_absolute_boxes(model.place(logits, batch.visible), batch.visible_boxes))

    posterior = model.encode(batch.visible, category_ids, batch.image)
    samples = [placed(posterior.sample(generator)) for _ in range(num_samples)]
    known = model.decode(model.encode(by_box, category_ids, by_box_image).mean)
    return Completions(placed(posterior.mean), paste(known, batch.whole_boxes), torch.stack(samples))


def score_completions(found: Completions, batch: ShapeBatch) -> dict[str, Tensor]:
    """Sums of (intersection, union) outside of the visible mask: "mean", "by_box", "best_sample" (by the truth).

    "sample_spread" is (pixels on which samples differ from the mean code's answer, pixels of the truth) there.
    """
    hidden = ~batch.scene_visible
    truth = batch.scene_whole & hidden
    overlap = ((found.samples & truth).flatten(2).sum(2), ((found.samples & hidden) | truth).flatten(2).sum(2))
    best = (overlap[0] / overlap[1].clamp(min=1)).argmax(0, keepdim=True)  # [1, B]
    sums = {"best_sample": torch.stack([value.gather(0, best).sum() for value in overlap])}
    for name, masks in (("mean", found.mean), ("by_box", found.by_box)):
        sums[name] = torch.stack([(masks & truth).sum(), ((masks & hidden) | truth).sum()])
    differing = (found.samples != found.mean).float().mean(0).sum()
    sums["sample_spread"] = torch.stack([differing, truth.sum()])
    return {name: value.double().cpu() for name, value in sums.items()}


def draw_completions(found: Completions, batch: ShapeBatch, count: int = 12) -> np.ndarray:
    """Truth, mean code, true box, and the first four samples, one row each."""
    rows = [batch.scene_whole, found.mean, found.by_box, *found.samples[:4]]
    return completion_grid(batch.scene_visible[:, None], [row[:, None] for row in rows], count=count)
