"""Amodal-VAE as a pipeline: one mask in, one or several whole masks out; no occluder needed, a photo seldom [L20]."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ...arguments.choices import check_choice
from ...arguments.numeric import check_integer, check_number
from ...crops import crop_images_to_boxes, crop_to_boxes, paste_from_boxes, tight_boxes, to_absolute_boxes
from ...display import short_repr
from ...images import image_to_tensor, normalize_images
from ...masks import IntArray
from ...models.amodal_vae import AmodalVAE, DiagonalGaussian
from ..base import PipelineCallback
from ..inputs import MaskInputs, PackedUnions, SceneMasks, batches, check_network, rows_of, to_device
from ..output import AmodalPipelineOutput
from ..registry import register_pipeline
from .mask_pipeline import MaskCall, MaskPipeline, beyond_rim, mask_call
from .shape_choice import ShapeFrame, candidate_boxes, choose_shapes, fill_holes, hidden_reach

SELECTIONS = ("mean", "visible")
SAMPLE_CHOICES = ("independent", "diverse")
MOST_SAMPLES = 1000
"""Of an object in one call: so many masks of a photo of 640 x 480 pixels take 300 MB."""
# Candidates of each object that diverse samples are chosen from, and at least so many for each sample.
_CANDIDATES, _CANDIDATES_A_SAMPLE = 48, 4
# Candidates that are looked at together; bounds memory, not results.
_TOGETHER = 512
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


@dataclass
class ShapePrediction:
    """What the network says of the R objects of one scene that have a visible part.

    Args:
        mean: the shapes by the mean code.
        drawn: K samples of each, where some are drawn.
        hiders: (N, H, W), what samples may lie under; None where that is unknown.

    Example:
        >>> shapes = Shapes(torch.rand(2, 8, 8), torch.rand(2, 4))
        >>> ShapePrediction(shapes).of(slice(0, 1)).mean.probabilities.shape
        torch.Size([1, 8, 8])
    """

    mean: Shapes
    drawn: Shapes | None = None
    hiders: SceneMasks | PackedUnions | None = None

    __repr__ = short_repr

    def of(self, objects: slice) -> "ShapePrediction":
        """Of consecutive objects."""
        return ShapePrediction(self.mean.of(objects), None if self.drawn is None else self.drawn.of(objects))


@register_pipeline
class AmodalVAEPipeline(MaskPipeline):
    """Whole masks by inference in a space of shapes, with as many alternatives as asked for. Source: [L20].

    Each object is completed from its own visible mask alone, so the other masks of a call do not matter: any number of
    them, in any order, gives the same completions. (Diverse samples alone mind them, see `sample_choice` of the call.)
    The visible part is always kept, in every sample. A network with `use_rgb` (RGB-Amodal-VAE) also looks at the photo
    in the same box.

    Args:
        model: encoder, decoder and spatial transformer, and perhaps an encoder of the photo.
        mask_threshold: of P(object), in [0, 1).
        rim_width: pixels of the crop. Growth that nowhere reaches farther than this from the visible part is dropped:
            squeezing a mask to the network's square and back moves its outline by about a pixel of that, which
            otherwise adds a thin rim to the visible side of every object. None (published) keeps all growth.
        sample_temperature: what the standard deviation of the codes is multiplied by for diverse samples, in [0, 10):
            above 1 for a network that is surer of hidden parts than it is right.

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

    call_options = ("amodal_box", "num_samples", "sample_choice", "sample_temperature", "select", "mask_threshold")
    needs_occluders = False
    sees_neighbours = False
    unknown_category_id = 0

    model: AmodalVAE

    def __init__(
        self,
        model: AmodalVAE,
        *,
        mask_threshold: float = 0.5,
        rim_width: int | None = None,
        sample_temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.register_modules(model=check_network("model", model, AmodalVAE))
        self.register_to_config(
            mask_threshold=check_number("mask_threshold", mask_threshold, least=0, below=1),
            rim_width=None if rim_width is None else check_integer("rim_width", rim_width, 0),
            sample_temperature=check_number("sample_temperature", sample_temperature, least=0, below=10),
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
        sample_choice: str = "independent",
        sample_temperature: float | None = None,
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

        Diverse samples are chosen from at least 48 candidates, and four for each sample. Their hidden parts lie only
        under `occluder_masks` or, without these, under the other masks of the photo (without either, anywhere); so
        they are all alike where nothing can be hidden. Where the order is known, pass
        `occluder_masks=mask_unions(masks, ancestors(order))`, or an object may also vary under what it hides itself.
        As far as the occluders go on beyond a side of the visible part, the object may, too: each candidate fills a box
        some of whose sides are moved outward, but for an object with an `amodal_box`. A candidate counts the more, the
        higher its score. The first sample has the highest expected IoU with all of them; each further one brings them
        closest, on average, to the nearest sample (greedy k-medoids). So samples are in no order of their scores, and
        repeat where the candidates agree. Holes of a shape are filled: under an occluder they mean nothing.

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
            num_samples: K completions to draw for each object, at most 1000; None or 0 draws none.
            sample_choice: "independent" draws K codes from the posterior [L20]; "diverse" chooses K of many shapes so
                that they differ as far as the shape of the object is open, see above.
            sample_temperature: what the standard deviation of the codes is multiplied by, in [0, 10). None takes the
                checkpoint's for diverse samples, and 1 for independent ones.
            select: what `amodal_masks` and `probabilities` are: "mean" the completion by the mean code, "visible" the
                sample with the best score.
            mask_threshold: of P(object) in [0, 1); None takes the checkpoint's.
            generator: of the samples, on the CPU or on the device of the pipeline; a list with one generator a photo
                where lists are given. The same seed gives the same samples, whatever the batch size, and independent
                samples are the first ones of a larger K.
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
            sample_choice=sample_choice,
            sample_temperature=sample_temperature,
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
        """The number of samples and how they are drawn, the choice and the threshold."""
        given = options["num_samples"]
        count = 0 if given is None else check_integer("num_samples", given, 0, MOST_SAMPLES)
        if check_choice("select", options["select"], SELECTIONS) == "visible" and not count:
            raise ValueError("`num_samples` must be at least 1 where `select` is 'visible'.")
        choice = check_choice("sample_choice", options["sample_choice"], SAMPLE_CHOICES)
        temperature = options["sample_temperature"]
        if temperature is None:
            temperature = self.config.sample_temperature if choice == "diverse" else 1.0
        return {
            "num_samples": count,
            "sample_choice": choice,
            "sample_temperature": check_number("sample_temperature", temperature, least=0, below=10),
            "select": options["select"],
            "mask_threshold": self._threshold("mask_threshold", options["mask_threshold"]),
        }

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
            photo = self._crop_photo(scene, box)
            if photo is not None:
                images.append(photo)
        return ShapeCrops(
            masks=torch.cat(crops)[:, None],
            boxes=torch.cat(boxes),
            is_given=torch.cat(given),
            objects=torch.cat(objects),
            category_ids=torch.cat(categories) if self.class_conditioned else None,
            scenes=rows_of([len(part) for part in objects]),
            images=torch.cat(images) if images else None,
        )

    # 3.

    def predict(self, call: MaskCall, crops: ShapeCrops) -> Iterator[ShapePrediction]:
        """Encode, draw and decode: the shapes by the mean code and the drawn ones of each scene."""
        count, diverse = call.options["num_samples"], call.options["sample_choice"] == "diverse"
        drawn_count = self._candidates(count) if diverse else count
        with self.progress("masks", len(crops.masks) * (1 + drawn_count), call.callback) as advance:
            posterior = self.encode_shapes(crops, call.batch_size)
            mean = self.decode_shapes(crops, posterior.mean[:, None], call.batch_size, advance)
            if diverse and count:
                for index, where in enumerate(crops.scenes):
                    yield ShapePrediction(mean.of(where), *self.draw_diverse(call, crops, index, advance))
                return
            noise = self.draw_noise(call.scenes, count, call.generators)  # [R, K, L]
            latents = posterior.mean[:, None] + self._spread(call, posterior)[:, None] * noise
            drawn = self.decode_shapes(crops, latents, call.batch_size, advance) if count else None
        for scene, where in zip(call.scenes, crops.scenes, strict=True):
            yield ShapePrediction(mean.of(where), None if drawn is None else drawn.of(where), scene.occluders)

    @staticmethod
    def _candidates(count: int) -> int:
        return max(_CANDIDATES, _CANDIDATES_A_SAMPLE * count) if count else 0

    @staticmethod
    def _spread(call: MaskCall, posterior: DiagonalGaussian) -> Tensor:
        return call.options["sample_temperature"] * (0.5 * posterior.log_variance).exp()

    def draw_diverse(
        self, call: MaskCall, crops: ShapeCrops, index: int, advance: Callable[[int], None]
    ) -> tuple[Shapes, SceneMasks | PackedUnions | None]:
        """The chosen samples of the scene at `index`, and what they may lie under; see `sample_choice` of the call."""
        scene, where, device = call.scenes[index], crops.scenes[index], self._execution_device
        count, size = call.options["num_samples"], self.sample_size
        numbers = self.model.config.latent_channels + 8  # a code, and what moves the four sides of a box
        draws = self.draw_noise([scene], self._candidates(count), [call.generators[index]], numbers)
        hiders = self.possible_occluders(scene)
        rows = crops.objects[where]
        modal = scene.modal.tensor(device)
        covers = None if hiders is None else hiders.tensor(device).expand_as(modal)
        shapes = Shapes(modal.new_zeros(0, size, size).float(), crops.boxes.new_zeros(0, 4), count)
        for part in batches(len(rows), max(1, _TOGETHER // max(1, draws.shape[1]))):
            here = slice(where.start + part.start, where.start + part.stop)
            one = None if covers is None else covers[rows[part]]
            some = self._draw_objects(call, crops, here, scene, modal[rows[part]], one, draws[part], advance)
            shapes = Shapes(
                torch.cat([shapes.probabilities, some.probabilities]), torch.cat([shapes.boxes, some.boxes]), count
            )
        return shapes, hiders

    def possible_occluders(self, scene: MaskInputs) -> SceneMasks | PackedUnions | None:
        """What may hide each object: the caller's `occluder_masks`, else the other masks; None without either."""
        if scene.occluders is not None:
            return scene.occluders
        if scene.visible.sum() < 2:
            return None
        return PackedUnions.of(scene.modal, ~np.eye(len(scene), dtype=bool))

    def _draw_objects(
        self,
        call: MaskCall,
        crops: ShapeCrops,
        where: slice,
        scene: MaskInputs,
        modal: Tensor,
        hiders: Tensor | None,
        draws: Tensor,
        advance: Callable[[int], None],
    ) -> Shapes:
        """`draw_diverse` for r objects of one scene, with the masks (r, H, W) and draws (r, C, L + 8) of these."""
        size, (objects, candidates) = self.sample_size, draws.shape[:2]
        tight, told, boxes = tight_boxes(modal), crops.is_given[where], crops.boxes[where]  # [r, 4], [r], [r, 4]
        reach = torch.zeros_like(tight) if hiders is None else hidden_reach(hiders, tight)
        reach[told] = 0
        boxes = candidate_boxes(boxes, reach, torch.special.ndtr(draws[..., -8:]))  # [r, C, 4]
        # Where nothing is known of occluders, the network places the shapes, at most half an object farther.
        margin = tight[:, [2, 3, 2, 3]] / 2 if hiders is None else reach
        view = torch.cat([tight[:, :2] - margin[:, :2], tight[:, 2:] + margin[:, :2] + margin[:, 2:]], dim=1)
        views = _joined(view, boxes)
        fine = crop_to_boxes(modal, views, 2 * size)  # [r, 2s, 2s]
        owners = torch.arange(objects, device=modal.device).repeat_interleave(candidates)
        scale = (2 * size / views[:, 2:])[owners]
        flat = boxes.flatten(0, 1)
        cells = torch.cat([(flat[:, :2] - views[owners, :2]) * scale, flat[:, 2:] * scale], dim=1)
        several = ShapeCrops(
            masks=crop_to_boxes(fine, cells, size, owners)[:, None],
            boxes=flat,
            is_given=told[owners] if hiders is None else torch.ones_like(owners, dtype=torch.bool),
            objects=owners,
            category_ids=None if crops.category_ids is None else crops.category_ids[where][owners],
            scenes=[slice(0, len(owners))],
            images=self._crop_photo(scene, flat),
        )
        posterior = self.encode_shapes(several, call.batch_size)
        codes = posterior.mean + self._spread(call, posterior) * draws[..., :-8].flatten(0, 1)
        shapes = self.decode_shapes(several, codes[:, None], call.batch_size, advance)
        frame = ShapeFrame(modal, hiders, tight, views, size)
        probabilities = shapes.probabilities.view(objects, candidates, size, size)
        placed = shapes.boxes.view(objects, candidates, 4)
        masks, scores = frame.view(probabilities, placed, call.options["mask_threshold"])
        chosen = choose_shapes(masks, scores, call.options["num_samples"])
        chosen = (chosen + candidates * torch.arange(objects, device=chosen.device)[:, None]).flatten()
        taken = shapes.probabilities[chosen]
        found = taken > call.options["mask_threshold"]
        return Shapes(
            taken.masked_fill(fill_holes(found) & ~found, 1.0), shapes.boxes[chosen], call.options["num_samples"]
        )

    def _crop_photo(self, scene: MaskInputs, boxes: Tensor) -> Tensor | None:
        """(R, 3, i, i) ImageNet-normalised crops of the photo, where the network looks at it."""
        if not self.needs_image or scene.photo is None:
            return None
        photo = image_to_tensor(scene.photo).to(self._execution_device)
        return normalize_images(crop_images_to_boxes(photo, boxes, self.model.config.image_size))

    def draw_noise(
        self,
        scenes: Sequence[MaskInputs],
        count: int,
        generators: Sequence[torch.Generator | None],
        latents: int | None = None,
    ) -> Tensor:
        """(R, K, L) standard normal, for the visible objects of all scenes; sample by sample, object by object.

        L is that of the codes, or `latents`.
        """
        device, latents = self._execution_device, latents or self.model.config.latent_channels
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

    def paste(self, call: MaskCall, crops: ShapeCrops, index: int, prediction: ShapePrediction) -> dict[str, Any]:
        """The results of the scene at `index`, from its shapes by the mean code and its samples."""
        drawn, threshold = prediction.drawn, call.options["mask_threshold"]
        scene, rows = call.scenes[index], crops.objects[crops.scenes[index]]
        canvas = _Canvas(scene, rows, threshold, self.config.rim_width, scene.occluders)
        probabilities, amodal = canvas.blank(torch.float32), canvas.blank(torch.bool)
        for objects, pasted, _ in canvas.paste(prediction.mean):
            probabilities[objects], amodal[objects] = pasted, pasted > threshold
        result: dict[str, Any] = {"amodal_masks": amodal, "probabilities": probabilities}
        if drawn is None:
            return result
        canvas = _Canvas(scene, rows, threshold, self.config.rim_width, prediction.hiders)
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
        prediction: ShapePrediction,
        row: int,
        window: Sequence[int],
    ) -> tuple[MaskCall, ShapeCrops, int, ShapePrediction]:
        """See `MaskPipeline.cut_object`."""
        found = (crops.objects[crops.scenes[index]] == row).nonzero()[:, 0].tolist()  # one, or none without a pixel
        part = slice(found[0], found[0] + 1) if found else slice(0, 0)
        one = replace(crops, objects=crops.objects.new_zeros(len(found)), scenes=[slice(0, len(found))])
        answer, hiders = prediction.of(part), prediction.hiders
        if hiders is not None:
            single = isinstance(hiders, SceneMasks) and len(hiders) == 1
            answer.hiders = hiders.cut(0 if single else row, window)
        return replace(call, scenes=[call.scenes[index].cut(row, window)]), one, 0, answer


class _Canvas:
    """One photo that shapes are pasted into.

    Args:
        scene: the photo's N objects.
        objects: (R,) int64, those with a visible pixel, ascending.
        threshold: of P(object).
        rim_width: see `AmodalVAEPipeline`.
        occluders: (N, H, W) or (1, H, W), outside of which nothing grows; None for anywhere.
    """

    def __init__(
        self,
        scene: MaskInputs,
        objects: Tensor,
        threshold: float,
        rim_width: int | None,
        occluders: SceneMasks | PackedUnions | None,
    ) -> None:
        self.objects, self.threshold, self.rim_width = objects, threshold, rim_width
        self.modal = scene.modal.tensor(objects.device)  # [N, H, W]
        self.occluders = None if occluders is None else occluders.tensor(objects.device).expand_as(self.modal)

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


def _joined(first: Tensor, others: Tensor) -> Tensor:
    """(R, 4), the boxes around `first` (R, 4) and `others` (R, C, 4), all (x, y, w, h)."""
    corner = torch.minimum(first[:, :2], others[..., :2].amin(1))
    end = torch.maximum(first[:, :2] + first[:, 2:], (others[..., :2] + others[..., 2:]).amax(1))
    return torch.cat([corner, end - corner], dim=1)


def _areas(masks: Tensor) -> Tensor:
    """(B,) pixels of (B, H, W) bool; as bytes, since sums of bool make a copy in int64 first."""
    return masks.flatten(1).view(torch.uint8).sum(1, dtype=torch.int64)


def _spanned(line: Tensor) -> Tensor:
    """(B, n) bool: True from the first True of each row to its last."""
    line = line.to(torch.uint8)
    return (line.cummax(dim=1).values & line.flip(1).cummax(dim=1).values.flip(1)).bool()
