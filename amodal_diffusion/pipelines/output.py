"""What the mask pipelines return."""

from dataclasses import dataclass
from typing import Any

from diffusers.utils import BaseOutput


@dataclass
class AmodalPipelineOutput(BaseOutput):
    """The whole objects of a photo.

    Every field describes the N objects of one photo, or is a list with one entry a photo where a list of photos was
    given. `output_type` decides the container: "np" numpy arrays; "pt" tensors, the masks on the device of the
    pipeline; "pil" lists of N images of mode L (0 and 255) for masks (N lists of K for samples), and numpy for the
    rest.

    Args:
        amodal_masks: (N, H, W) bool, visible and hidden part. All False where an object has no visible pixel.
        probabilities: (N, H, W) float32 in [0, 1], P(object) per pixel; 0 outside of the crop box of an object.
        order: (N, N) int8, `order[i, j]` = 1 i occludes j, -1 i is occluded by j, 0 no relation. None where the call
            neither was given an order nor needed one.
        uncertainty: (N, H, W) float32, where the model predicts it.
        occluder_masks: (N, H, W) bool, the predicted mask of all that hides an object, where the model predicts it.
        samples: (N, K, H, W) bool, where the model draws several completions of each object.
        sample_scores: (N, K) float32 in [0, 1], how well each sample agrees with what is visible.
    """

    amodal_masks: Any
    probabilities: Any
    order: Any = None
    uncertainty: Any = None
    occluder_masks: Any = None
    samples: Any = None
    sample_scores: Any = None
