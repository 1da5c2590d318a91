"""OrderNet as a pipeline: who is in front of whom [Z20], or who is closer, by a classifier of pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from ..arguments.choices import check_choice
from ..arguments.flags import check_flag
from ..arguments.numeric import check_number
from ..crops import CROP_RULES, crop_boxes, crop_images, crop_masks, join_boxes
from ..display import short_repr
from ..images import image_to_tensor, normalize_images
from ..models.order_net import OrderNet
from .base import PipelineCallback, SafePipeline, check_callback, named_options
from .inputs import MaskInputs, batches, check_network, read_scenes
from .registry import register_pipeline


@dataclass
class OrderNetPipelineOutput(BaseOutput):
    """What a call of `OrderNetPipeline` returns; lists with one entry a photo where lists were given.

    Args:
        order: (N, N) int8, 1 where object i occludes j, -1 where j occludes i, 0 without relation; None of a network
            that answers depth.
        probabilities: (N, N) float32, P(i occludes j), 0 where the objects do not touch; or P(i is closer than j).
        depth_order: (N, N) int8, 1 where object i is closer than j, -1 where it is farther, 0 where their depths
            overlap; None of a network that answers occlusion.

    Example:
        >>> output = OrderNetPipelineOutput(np.zeros((2, 2), np.int8), np.zeros((2, 2), np.float32))
        >>> output.order.shape
        (2, 2)
    """

    order: Any
    probabilities: Any
    depth_order: Any = None

    __repr__ = short_repr


@register_pipeline
class OrderNetPipeline(SafePipeline):
    """The occlusion order of objects from their modal masks and the photo, learned from true orders [Z20, Table 1].

    It orders, and completes nothing; `pipe(image, masks, order=...)` of a mask pipeline that takes an order completes
    by it. Every pair of neighbours is looked at both ways round, and the mean of the two answers counts, so that the
    order of the masks does not matter. A network whose `answer` is "depth" tells of all pairs which is closer.

    Args:
        model: the network.
        enlarge_box: area of the crop box in areas of the box around both objects.
        crop: how masks become crops, "nearest" (published) or "bilinear", see `crop_masks`.

    Raises:
        ValueError, TypeError: naming the setting that is out of range.

    Example:
        >>> model = OrderNet(False, hidden_sizes=(4, 8), depths=(1, 1), embedding_size=4, layer_type="basic")
        >>> masks = np.zeros((2, 12, 16), bool)
        >>> masks[0, :6], masks[1, 6:] = True, True
        >>> out = OrderNetPipeline(model)(None, masks)
        >>> out.order.shape, abs(out.order[0, 1]), out.order[0, 1] == -out.order[1, 0]
        ((2, 2), np.int8(1), np.True_)
    """

    model_cpu_offload_seq = "model"
    model: OrderNet

    def __init__(self, model: OrderNet, *, enlarge_box: float = 2.0, crop: str = "nearest") -> None:
        super().__init__()
        self.register_modules(model=check_network("model", model, OrderNet))
        self.register_to_config(
            enlarge_box=check_number("enlarge_box", enlarge_box, least=1, below=100),
            crop=check_choice("crop", crop, CROP_RULES),
        )

    @property
    def networks(self) -> list[nn.Module]:
        """The network."""
        return [self.model]

    @property
    def needs_image(self) -> bool:
        """The network looks at the photo."""
        return bool(self.model.config.use_rgb)

    @property
    def answers_depth(self) -> bool:
        """The network tells who is closer, not who hides whom."""
        return bool(self.model.config.answer == "depth")

    @torch.no_grad()
    @named_options
    def __call__(
        self,
        image: Any,
        masks: Any,
        *,
        batch_size: int | None = None,
        return_dict: bool = True,
        callback: PipelineCallback | None = None,
    ) -> OrderNetPipelineOutput | tuple[Any, ...]:
        """Infer who occludes whom, or who is closer.

        Args:
            image: the photo in any form that `load_image` reads, None where the network sees masks alone, or a list of
                these.
            masks: modal masks, one (H, W) or a stack (N, H, W) in any form that `to_mask_stack` reads; a list of stacks
                where `image` is a list.
            batch_size: pairs in one pass through the network; None suits it to the device.
            return_dict: False returns a tuple of all fields.
            callback: called as `callback(pipeline, stage, done, total)` when the stage "order" begins and after every
                batch, see `PipelineCallback`; if it returns False, the call ends with `CallInterruptedError`.

        Returns:
            `OrderNetPipelineOutput`. A mask without visible pixels has no relations, as objects that do not touch, or
            whose depths overlap.

        Raises:
            ValueError: naming the argument: a missing photo, a photo of another size than its masks, wrong shapes.
            TypeError: naming the argument of a type that is not read.
            CallInterruptedError: by the callback.
        """
        check_flag("return_dict", return_dict)
        scenes, batched = read_scenes(image, masks, read_image=self.needs_image)
        for scene in scenes:
            if self.needs_image and scene.photo is None:
                raise ValueError(f"`image{scene.suffix}` must be given: {type(self).__name__} looks at the photo.")
        size = self.check_call(batch_size, "np", int(self.model.config.sample_size))
        check_callback(callback)
        try:
            with self.evaluation_mode():
                found = [self.compare_objects(scene, size, callback) for scene in scenes]
        finally:
            self.maybe_free_model_hooks()
        orders: Any = [order for order, _ in found]
        probabilities: Any = [likely for _, likely in found]
        if not batched:
            orders, probabilities = found[0]
        fields = (None, probabilities, orders) if self.answers_depth else (orders, probabilities, None)
        return OrderNetPipelineOutput(*fields) if return_dict else fields

    def infer_order(self, masks: np.ndarray, image: Any = None) -> np.ndarray:
        """The order of the objects of one photo.

        Args:
            masks: (N, H, W) visible masks.
            image: the photo, where the network looks at it.

        Returns:
            (N, N) int8 order matrix.

        Raises:
            ValueError: a network that answers depth.
        """
        if self.answers_depth:
            raise ValueError("`model` must answer occlusion, and this OrderNet tells who is closer.")
        return np.asarray(self(image, masks, return_dict=False)[0])

    def infer_depth_order(self, masks: np.ndarray, image: Any = None) -> np.ndarray:
        """The depth order of the objects of one photo.

        Args:
            masks: (N, H, W) visible masks.
            image: the photo, where the network looks at it.

        Returns:
            (N, N) int8, see `ordering.depth_order`.

        Raises:
            ValueError: a network that answers occlusion.
        """
        if not self.answers_depth:
            raise ValueError("`model` must answer depth, and this OrderNet tells who hides whom.")
        return np.asarray(self(image, masks, return_dict=False)[2])

    def _pairs(self, scene: MaskInputs) -> tuple[np.ndarray, np.ndarray]:
        """The pairs that are asked about: neighbours, or of depth all that are seen."""
        asked = scene.visible[:, None] & scene.visible if self.answers_depth else scene.modal.neighbours
        first, second = np.nonzero(np.triu(asked, k=1))
        return first, second

    def compare_objects(
        self, scene: MaskInputs, batch_size: int, callback: PipelineCallback | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Order and P(i occludes j), or depth order and P(i is closer), of one photo.

        Args:
            scene: its masks, checked, and the photo, where the network looks at it.
            batch_size: pairs in one pass through the network, each both ways round.
            callback: see the call.

        Returns:
            (N, N) int8 and (N, N) float32, 0 for pairs that nobody asked about.
        """
        device, count = self._execution_device, len(scene)
        first, second = self._pairs(scene)
        found = torch.zeros(len(first), 3, device=device)
        boxes, masks = scene.modal.boxes, scene.modal.tensor(device)
        squares = torch.from_numpy(
            crop_boxes(join_boxes(boxes[first], boxes[second]), enlarge_box=self.config.enlarge_box)
        )  # [P, 4]
        photo = None
        if self.needs_image and scene.photo is not None:
            photo = image_to_tensor(scene.photo, torch.uint8).to(device)
        with self.progress("order", len(first), callback) as advance:
            for part in batches(len(first), max(1, batch_size // 2)):
                found[part] = self._compare(masks, photo, squares[part], first[part], second[part])
                advance(len(first[part]))
        behind, front, apart = found.cpu().numpy().T
        order, likely = np.zeros((count, count), np.int8), np.zeros((count, count), np.float32)
        relation = np.where(front > behind, 1, -1) * (np.maximum(front, behind) >= apart)
        order[first, second], order[second, first] = relation, -relation
        likely[first, second], likely[second, first] = front, behind
        return order, likely

    def _compare(
        self, masks: Tensor, photo: Tensor | None, boxes: Tensor, first: np.ndarray, second: np.ndarray
    ) -> Tensor:
        """(B, 3) float32: the probabilities that the second, the first and none of two objects is in front."""
        size, dtype = int(self.model.config.sample_size), self.model.dtype
        one, two = (
            crop_masks(masks, boxes, size, indices=rows, rule=self.config.crop)[:, None].to(dtype)
            for rows in (first, second)
        )
        image = None
        if photo is not None:
            image = normalize_images(crop_images(photo, boxes, size)).to(dtype)
        pairs = (torch.cat([one, two]), torch.cat([two, one]))
        twice = None if image is None else torch.cat([image, image])
        logits = self.model(*pairs, twice).logits.float()
        return mean_of_both_ways(logits)


def mean_of_both_ways(logits: Tensor) -> Tensor:
    """The probabilities of the relations of pairs that a network saw both ways round.

    Args:
        logits: (2 B, R), first of B pairs as they are, then with their objects exchanged.

    Returns:
        (B, 3) float32, as `RELATIONS` names them; the last is 0 for a network that knows two.

    Example:
        >>> mean_of_both_ways(torch.tensor([[0.0, 9.0], [9.0, 0.0]])).argmax(1)  # both say: the first
        tensor([1])
    """
    given: Sequence[Tensor] = logits.float().softmax(1).chunk(2)
    there, back = given
    exchanged = [1, 0, 2][: logits.shape[1]]
    mean = (there + back[:, exchanged]) / 2
    return nn.functional.pad(mean, (0, 3 - logits.shape[1]))
