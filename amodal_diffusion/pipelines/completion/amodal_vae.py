"""Amodal-VAE as a pipeline: one mask in, one or several whole masks out; no occluder needed, a photo seldom [L20]."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ...crops import crop_images_to_boxes, crop_to_boxes, paste_from_boxes, tight_boxes, to_absolute_boxes
from ...display import short_repr
from ...images import image_to_tensor, normalize_images
from ...masks import IntArray
from ...models.amodal_vae import AmodalVAE, DiagonalGaussian
from ..base import PipelineCallback
from ..inputs import MaskInputs, batches, check_choice, check_integer, check_number, rows_of, to_device
from ..output import AmodalPipelineOutput
from ..registry import register_pipeline
from .mask_pipeline import MaskCall, MaskPipeline, beyond_rim, mask_call

SELECTIONS = ("mean", "visible")
# Pixels of the photo in the largest temporary; bounds memory, not results. Larger ones are slower on a CPU.
_CHUNK = 2**22


@dataclass
class ShapeCrops:
    """The visible parts of the R objects of a call that have one, as the network sees them.

    Args:
        masks: (R, 1, s, s) float32 in [0, 1], squeezed crops.
        boxes: (R, 4) float32 (x, y, w, h) in pixels, what was cropped: the tight box, or the caller's amodal box.
        is_given: (R,) bool, the box is the caller's.
        objects: (R,) int64, their rows in their scene.
        category_ids: (R,) int64, 0 where unknown; None for a class-agnostic network.
        scenes: for each scene, the slice of its rows.
        images: (R, 3, i, i) float32, ImageNet-normalised, the photo in `boxes`; None for a network of masks alone.

    Example:
        >>> crops = ShapeCrops(
        ...     torch.ones(1, 1, 8, 8), torch.ones(1, 4), torch.tensor([False]), torch.tensor([0]), None, [slice(1)]
        ... )
        >>> crops.masks[crops.scenes[0]].shape
        torch.Size([1, 1, 8, 8])
    """

    masks: Tensor
    boxes: Tensor
    is_given: Tensor
    objects: Tensor
    category_ids: Tensor | None
    scenes: list[slice]
    images: Tensor | None = None

    __repr__ = short_repr


@dataclass
class Shapes:
    """Whole shapes, K for each of R objects, row r * K + k.

    Args:
        probabilities: (R * K, s, s) float32, P(object), each in its own box.
        boxes: (R * K, 4) float32 (x, y, w, h) in pixels of the photo.
        count: K.

    Example:
        >>> shapes = Shapes(torch.rand(6, 8, 8), torch.rand(6, 4), count=3)
        >>> shapes.of(slice(1, 2)).probabilities.shape
        torch.Size([3, 8, 8])
    """

    probabilities: Tensor
    boxes: Tensor
    count: int = 1

    __repr__ = short_repr

    def of(self, objects: slice) -> "Shapes":
        """The shapes of consecutive objects."""
        rows = slice(objects.start * self.count, objects.stop * self.count)
        return Shapes(self.probabilities[rows], self.boxes[rows], self.count)


@register_pipeline
class AmodalVAEPipeline(MaskPipeline):
    """Whole masks by inference in a space of shapes, with as many alternatives as asked for. Source: [L20].

    Each object is completed from its own visible mask alone, so the other masks of a call do not matter: any number of
    them, in any order, gives the same completions. The visible part is always kept, in every sample. A network with
    `use_rgb` (RGB-Amodal-VAE) also looks at the photo in the same box.

    Args:
        model: encoder, decoder and spatial transformer, and perhaps an encoder of the photo.
        mask_threshold: of P(object), in [0, 1).
        rim_width: pixels of the crop. Growth that nowhere reaches farther than this from the visible part is dropped:
            squeezing a mask to the network's square and back moves its outline by about a pixel of that, which
            otherwise adds a thin rim to the visible side of every object. None (published) keeps all growth.

    Raises:
        ValueError, TypeError: naming the setting that is out of range or of the wrong type.

    Example:
        >>> pipe = AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=2, block_out_channels=(2, 4)))
        >>> mask = np.zeros((12, 16), bool)
        >>> mask[3:9, 4:8] = True
        >>> out = pipe(None, mask, num_samples=3, generator=torch.Generator().manual_seed(0))
        >>> out.samples.shape, out.sample_scores.shape
        ((1, 3, 12, 16), (1, 3))
    """

    call_options = ("amodal_box", "num_samples", "select", "mask_threshold")
    needs_occluders = False
    sees_neighbours = False
    unknown_category_id = 0

    model: AmodalVAE

    def __init__(self, model: AmodalVAE, *, mask_threshold: float = 0.5, rim_width: int | None = None) -> None:
        super().__init__()
        self.register_modules(model=model)
        self.register_to_config(
            mask_threshold=check_number("mask_threshold", mask_threshold, 0, 1),
            rim_width=None if rim_width is None else check_integer("rim_width", rim_width, 0),
        )

    @property
    def class_conditioned(self) -> bool:
        """The network reads the `category_ids` of the objects; they may be unknown."""
        return bool(self.model.config.num_categories > 0)

    @mask_call
    def __call__(
        self,
        image: Any,
        masks: Any,
        *,
        occluder_masks: Any = None,
        category_ids: Any = None,
        amodal_box: Any = None,
        num_samples: int | None = None,
        select: str = "mean",
        mask_threshold: float | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        batch_size: int | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback: PipelineCallback | None = None,
    ) -> AmodalPipelineOutput | tuple[Any, ...]:
        """Complete masks by the mean code of the posterior, and by samples of it.

        The score of a sample says how well the shape, before the visible part is added to it, agrees with what is
        known: with visible mask V, sampled shape S and the region R of the photo where the truth is known to be
        visible, it is `|S ∩ V| / |(S ∩ R) ∪ V|`, the IoU of S and V inside of R. R is all that `occluder_masks` leave
        free where these are given, else the tight box of V, around which any object may be hidden.

        Args:
            image: the photo in any form that `load_image` reads; a network with `use_rgb` looks at it. Elsewhere it may
                be None, and only its size is read. A list of these, None in it for a photo that is not at hand, goes
                with a list of stacks.
            masks: modal masks, one (H, W) or a stack (N, H, W) in any form that `to_mask_stack` reads; a list of stacks
                where `image` is a list, or None. All scenes of a call go through the network together.
            occluder_masks: (H, W) or (N, H, W), all that may occlude the objects. Objects then grow only there, and
                samples are scored against all the rest. Not needed.
            category_ids: (N,) integers, 0 for an unknown category; read where the network is class-conditioned, None
                there counts as unknown.
            amodal_box: (N, 4) float, the boxes (x, y, w, h) in pixels of the whole objects where the caller knows them,
                None or NaN for an object whose box is unknown; four numbers serve for one object. The input is cropped
                with it and the completion fills it, in place of the predicted placement. It may leave the photo.
            num_samples: K completions to draw for each object; None or 0 draws none.
            select: what `amodal_masks` and `probabilities` are: "mean" the completion by the mean code, "visible" the
                sample with the best score.
            mask_threshold: of P(object) in [0, 1); None takes the checkpoint's.
            generator: of the samples, on the CPU or on the device of the pipeline; a list with one generator a photo
                where lists are given. The same seed gives the same samples, whatever the batch size, and the first
                samples of a larger K.
            batch_size: shapes in one pass through the network; None suits it to the device.
            output_type: "np", "pt", "pil" or "compact", see `AmodalPipelineOutput`.
            return_dict: False returns a tuple of all fields of `AmodalPipelineOutput` in their order.
            callback: called as `callback(pipeline, stage, done, total)` when a stage begins and after every batch, see
                `PipelineCallback`; if it returns False, the call ends with `CallInterruptedError`.

        Returns:
            `AmodalPipelineOutput` with `amodal_masks`, `probabilities` and, where samples are drawn, `samples`,
            `sample_scores` and `uncertainty`, the standard deviation of P(object) over the samples, in [0, 0.5], 0
            where the object is visible; `order` is None. A mask without visible pixels gives empty results with score
            0. A full-frame mask has nothing outside of it and stays.

        Raises:
            ValueError: naming the argument: wrong shapes or ranges, a photo of another size than its masks, an amodal
                box that holds no visible pixel of its object, "visible" without samples.
            TypeError: naming the argument of a type that is not read, or that this pipeline does not take.
            CallInterruptedError: by the callback.
        """
        return self.complete(
            image,
            masks,
            occluder_masks=occluder_masks,
            category_ids=category_ids,
            amodal_box=amodal_box,
            num_samples=num_samples,
            select=select,
            mask_threshold=mask_threshold,
            generator=generator,
            batch_size=batch_size,
            output_type=output_type,
            return_dict=return_dict,
            callback=callback,
        )

    # 1.

    def read_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """The number of samples, the choice and the threshold."""
        count = check_integer("num_samples", options["num_samples"] or 0, 0)
        if check_choice("select", options["select"], SELECTIONS) == "visible" and not count:
            raise ValueError("`num_samples` must be at least 1 where `select` is 'visible'.")
        threshold = self._threshold("mask_threshold", options["mask_threshold"])
        return {"num_samples": count, "select": options["select"], "mask_threshold": threshold}

    def output_fields(self, call: MaskCall) -> tuple[str, ...]:
        """Samples, their scores and their spread, where some are drawn."""
        return ("uncertainty", "samples", "sample_scores") if call.options["num_samples"] else ()

    # 2.

    def crop(self, call: MaskCall) -> ShapeCrops:
        """Crop the visible part of every object that has one by its tight box, or by the caller's amodal box.

        And the photo, where the network looks at it.
        """
        return self.crop_shapes(call.scenes)

    def crop_shapes(self, scenes: Sequence[MaskInputs]) -> ShapeCrops:
        """`crop` of the scenes of a call."""
        device, size = self._execution_device, self.sample_size
        crops, boxes, given, objects, categories, images = [], [], [], [], [], []
        for scene in scenes:
            rows = np.flatnonzero(scene.visible)
            masks = scene.modal.tensor(device)[to_device(rows, device)]
            box = tight_boxes(masks)  # [r, 4]
            known = torch.zeros(len(rows), dtype=torch.bool, device=device)
            if scene.amodal_boxes is not None:
                told = to_device(scene.amodal_boxes[rows], device).float()
                known = ~told.isnan().any(dim=1)
                box = torch.where(known[:, None], told, box)
            crop = crop_to_boxes(masks, box, size)
            blank = known & ~(crop > 0).any(dim=2).any(dim=1)
            if blank.any():
                row = int(rows[int(blank.int().argmax())])
                raise ValueError(f"`amodal_box{scene.suffix}` of object {row} holds no visible pixel of it.")
            ids = np.zeros(len(scene), np.int64) if scene.category_ids is None else scene.category_ids
            categories.append(to_device(ids[rows], device))
            crops.append(crop)
            boxes.append(box)
            given.append(known)
            objects.append(to_device(rows, device))
            if self.needs_image and scene.photo is not None:
                photo = image_to_tensor(scene.photo).to(device)
                images.append(crop_images_to_boxes(photo, box, self.model.config.image_size))
        return ShapeCrops(
            masks=torch.cat(crops)[:, None],
            boxes=torch.cat(boxes),
            is_given=torch.cat(given),
            objects=torch.cat(objects),
            category_ids=torch.cat(categories) if self.class_conditioned else None,
            scenes=rows_of([len(part) for part in objects]),
            images=normalize_images(torch.cat(images)) if images else None,
        )

    # 3.

    def predict(self, call: MaskCall, crops: ShapeCrops) -> Iterator[tuple[Shapes, Shapes | None]]:
        """Encode, draw and decode: the shapes by the mean code and the drawn ones of each scene."""
        count = call.options["num_samples"]
        noise = self.draw_noise(call.scenes, count, call.generators)  # [R, K, L]
        with self.progress("masks", len(crops.masks) * (1 + count), call.callback) as advance:
            posterior = self.encode_shapes(crops, call.batch_size)
            mean = self.decode_shapes(crops, posterior.mean[:, None], call.batch_size, advance)
            latents = posterior.mean[:, None] + (0.5 * posterior.log_variance).exp()[:, None] * noise
            drawn = self.decode_shapes(crops, latents, call.batch_size, advance) if count else None
        for where in crops.scenes:
            yield mean.of(where), None if drawn is None else drawn.of(where)

    def draw_noise(
        self, scenes: Sequence[MaskInputs], count: int, generators: Sequence[torch.Generator | None]
    ) -> Tensor:
        """(R, K, L) standard normal, for the visible objects of all scenes; sample by sample, object by object."""
        device, latents = self._execution_device, self.model.config.latent_channels
        parts = []
        for scene, generator in zip(scenes, generators, strict=True):
            shape = (len(scene), latents)
            # One draw a sample, because a longer draw need not begin as a shorter one does.
            draws = [randn_tensor(shape, generator, device, torch.float32) for _ in range(count)]
            noise = torch.stack(draws, dim=1) if draws else torch.zeros(len(scene), 0, latents, device=device)
            parts.append(noise[to_device(scene.visible, device)])
        return torch.cat(parts)

    def encode_shapes(self, crops: ShapeCrops, batch_size: int) -> DiagonalGaussian:
        """The posterior of the R objects, in batches."""
        means = crops.masks.new_zeros(len(crops.masks), self.model.config.latent_channels)
        log_variances = torch.zeros_like(means)
        for part in batches(len(means), batch_size):
            ids = None if crops.category_ids is None else crops.category_ids[part]
            image = None if crops.images is None else crops.images[part]
            posterior = self.model.encode(crops.masks[part], ids, image)
            means[part], log_variances[part] = posterior.mean, posterior.log_variance
        return DiagonalGaussian(means, log_variances)

    def decode_shapes(
        self, crops: ShapeCrops, latents: Tensor, batch_size: int, advance: Callable[[int], None]
    ) -> Shapes:
        """The shapes of (R, K, L) codes, each in the caller's box or where the spatial transformer places it."""
        count, size = latents.shape[1], crops.masks.shape[-1]
        owners = torch.arange(len(crops.masks), device=latents.device).repeat_interleave(count)  # [R * K]
        latents = latents.flatten(0, 1)
        shapes = Shapes(latents.new_zeros(len(owners), size, size), crops.boxes[owners], count)
        for part in batches(len(owners), batch_size):
            rows = owners[part]
            logits = self.model.decode(latents[part])
            placed = to_absolute_boxes(self.model.place(logits, crops.masks[rows]), crops.boxes[rows])
            shapes.probabilities[part] = logits[:, 0].float().sigmoid()
            shapes.boxes[part] = torch.where(crops.is_given[rows, None], crops.boxes[rows], placed)
            advance(len(rows))
        return shapes

    # 4.

    def paste(
        self, call: MaskCall, crops: ShapeCrops, index: int, prediction: tuple[Shapes, Shapes | None]
    ) -> dict[str, Any]:
        """The results of the scene at `index`, from its shapes by the mean code and its samples."""
        mean, drawn = prediction
        threshold = call.options["mask_threshold"]
        canvas = _Canvas(call.scenes[index], crops.objects[crops.scenes[index]], threshold, self.config.rim_width)
        probabilities, amodal = canvas.blank(torch.float32), canvas.blank(torch.bool)
        for objects, pasted, _ in canvas.paste(mean):
            probabilities[objects], amodal[objects] = pasted, pasted > threshold
        result: dict[str, Any] = {"amodal_masks": amodal, "probabilities": probabilities}
        if drawn is None:
            return result
        result |= canvas.paste_samples(drawn, probabilities)
        if call.options["select"] == "visible":
            best = result["sample_scores"][canvas.objects].argmax(dim=1)
            best += drawn.count * torch.arange(len(best), device=best.device)
            for objects, pasted, _ in canvas.paste(Shapes(drawn.probabilities[best], drawn.boxes[best])):
                probabilities[objects], amodal[objects] = pasted, pasted > threshold
        return result

    def object_windows(self, crops: ShapeCrops, index: int, scene: MaskInputs) -> IntArray:
        """The whole photo for each object: a shape may be placed anywhere."""
        height, width = scene.size
        return np.tile(np.array([0, 0, width, height]), (len(scene), 1))

    def cut_object(
        self,
        call: MaskCall,
        crops: ShapeCrops,
        index: int,
        prediction: tuple[Shapes, Shapes | None],
        row: int,
        window: Sequence[int],
    ) -> tuple[MaskCall, ShapeCrops, int, tuple[Shapes, Shapes | None]]:
        """See `MaskPipeline.cut_object`."""
        found = (crops.objects[crops.scenes[index]] == row).nonzero()[:, 0].tolist()  # one, or none without a pixel
        part = slice(found[0], found[0] + 1) if found else slice(0, 0)
        one = replace(crops, objects=crops.objects.new_zeros(len(found)), scenes=[slice(0, len(found))])
        mean, drawn = prediction
        answer = mean.of(part), None if drawn is None else drawn.of(part)
        return replace(call, scenes=[call.scenes[index].cut(row, window)]), one, 0, answer


class _Canvas:
    """One photo that shapes are pasted into.

    Args:
        scene: the photo's N objects.
        objects: (R,) int64, those with a visible pixel, ascending.
        threshold: of P(object).
        rim_width: see `AmodalVAEPipeline`.
    """

    def __init__(self, scene: MaskInputs, objects: Tensor, threshold: float, rim_width: int | None) -> None:
        self.objects, self.threshold, self.rim_width = objects, threshold, rim_width
        self.modal = scene.modal.tensor(objects.device)  # [N, H, W]
        self.occluders = None
        if scene.occluders is not None:
            self.occluders = scene.occluders.tensor(objects.device).expand_as(self.modal)

    def blank(self, dtype: torch.dtype) -> Tensor:
        """(N, H, W) of zeros."""
        return torch.zeros(self.modal.shape, dtype=dtype, device=self.modal.device)

    def paste_samples(self, shapes: Shapes, mean: Tensor) -> dict[str, Tensor]:
        """`samples`, `sample_scores` and `uncertainty`; `mean` (N, H, W) is P(object) by the mean code."""
        count, size = shapes.count, self.modal.shape
        samples = torch.zeros(size[0], count, *size[1:], dtype=torch.bool, device=mean.device)
        scores = torch.zeros(size[0], count, device=mean.device)
        total, squares = self.blank(torch.float32), self.blank(torch.float32)
        done = 0
        for objects, pasted, score in self.paste(shapes):
            number = torch.arange(done, done + len(objects), device=mean.device) % count
            samples[objects, number], scores[objects, number] = pasted > self.threshold, score
            # Deviations from the mean code's completion, so that no digits are lost where the samples agree.
            change = pasted - mean[objects]
            total.index_add_(0, objects, change)
            squares.index_add_(0, objects, change.square())
            done += len(objects)
        variance = squares / count - (total / count).square()
        return {"uncertainty": variance.clamp(min=0).sqrt(), "samples": samples, "sample_scores": scores}

    def paste(self, shapes: Shapes) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Parts of the shapes: (B,) their objects, (B, H, W) P(object) as it is returned, (B,) scores."""
        height, width = self.modal.shape[1:]
        owners = self.objects.repeat_interleave(shapes.count)
        for part in batches(len(owners), max(1, _CHUNK // max(1, height * width))):
            objects, patches, boxes = owners[part], shapes.probabilities[part], shapes.boxes[part]
            modal = self.modal[objects]
            pasted = paste_from_boxes(patches, boxes, height, width)
            scores = self._scores(pasted > self.threshold, objects)
            if self.rim_width is not None:
                pasted.masked_fill_(~self._beyond_rim(patches, boxes, objects, self.rim_width), 0.0)
            if self.occluders is not None:
                pasted.masked_fill_(~self.occluders[objects], 0.0)
            yield objects, pasted.masked_fill_(modal, 1.0), scores

    def _scores(self, found: Tensor, objects: Tensor) -> Tensor:
        """(B,) float32: see `AmodalVAEPipeline.__call__`; `found` (B, H, W) bool is changed."""
        modal = self.modal[objects]
        agreed = _areas(found & modal)
        if self.occluders is not None:
            found &= ~self.occluders[objects]
        else:
            found &= _spanned(modal.any(dim=2))[:, :, None] & _spanned(modal.any(dim=1))[:, None, :]
        return agreed / _areas(found | modal)

    def _beyond_rim(self, patches: Tensor, boxes: Tensor, objects: Tensor, width: int) -> Tensor:
        """(B, H, W) bool: around growth that reaches farther from the visible part than the rim."""
        modal = crop_to_boxes(self.modal, boxes, patches.shape[-1], objects) > 0
        around = beyond_rim(patches > self.threshold, modal, width)
        return paste_from_boxes(around.float(), boxes, *self.modal.shape[1:]) > 0


def _areas(masks: Tensor) -> Tensor:
    """(B,) pixels of (B, H, W) bool; as bytes, since sums of bool make a copy in int64 first."""
    return masks.flatten(1).view(torch.uint8).sum(1, dtype=torch.int64)


def _spanned(line: Tensor) -> Tensor:
    """(B, n) bool: True from the first True of each row to its last."""
    line = line.to(torch.uint8)
    return (line.cummax(dim=1).values & line.flip(1).cummax(dim=1).values.flip(1)).bool()
