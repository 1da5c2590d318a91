"""The object that a person points at, by its colours alone: GrabCut, without any model."""

import numpy as np
import numpy.typing as npt

from ...arguments.numeric import check_integer
from ...masks import BoolArray
from .interactive import InteractiveSegmenter, PhotoEmbedding, Prompt, keep_pointed_at, pixels_of

_POINT = 0.02  # radius of what a point says surely, as a share of the side
_AROUND = 0.12  # radius of what the first points make likely


class GrabCutSegmenter(InteractiveSegmenter):
    """GrabCut of OpenCV (extras `train` and `rooms`), on the photo made small: colours inside against colours outside.

    It knows nothing of objects, so it takes what has the colours of what it was pointed at; `ClickSegmenterPipeline`
    is better in every figure. Source: Rother, Kolmogorov and Blake, SIGGRAPH 2004.

    Args:
        side: longer side in pixels to which photos are made smaller.
        iterations: of colour models and cuts in turn.

    Raises:
        ValueError, TypeError: naming the argument.

    Example:
        >>> photo = np.full((40, 60, 3), 40, np.uint8)
        >>> photo[10:30, 20:45] = (200, 60, 60)
        >>> segmenter = GrabCutSegmenter()
        >>> embedding = segmenter.embed(photo)
        >>> mask = segmenter.click(embedding, [30, 20])
        >>> mask.sum(), mask[10:30, 20:45].sum()
        (np.int64(500), np.int64(500))
    """

    def __init__(self, side: int = 320, iterations: int = 3) -> None:
        self.side = check_integer("side", side, 16)
        self.iterations = check_integer("iterations", iterations, 1)

    def encode(self, photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """(h, w, 3) uint8, the photo at the size at which it is cut."""
        import cv2

        height, width = photo.shape[:2]
        scale = min(1.0, self.side / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        return np.ascontiguousarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA))

    def answer(self, embedding: PhotoEmbedding, prompt: Prompt) -> BoolArray:
        """See `click`."""
        import cv2

        small: npt.NDArray[np.uint8] = embedding.features
        scale = small.shape[1] / embedding.size[1]
        says = self._seeds(small.shape[:2], embedding, prompt, scale)
        for kinds in ((cv2.GC_FGD, cv2.GC_PR_FGD), (cv2.GC_BGD, cv2.GC_PR_BGD)):
            if np.isin(says, kinds).sum() < 8:  # too little to learn colours from
                break
        else:
            cv2.setRNGSeed(0)  # the clusters of colours start at random, and an answer must repeat
            colours = np.zeros((1, 65)), np.zeros((1, 65))  # of the background and the object, to be learned
            cv2.grabCut(small, says, (0, 0, 1, 1), *colours, self.iterations, cv2.GC_INIT_WITH_MASK)
        mask = np.isin(says, (cv2.GC_FGD, cv2.GC_PR_FGD))
        mask = keep_pointed_at(mask, prompt.positive, scale)
        size = embedding.size[::-1]
        return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5

    def _seeds(
        self, shape: tuple[int, int], embedding: PhotoEmbedding, prompt: Prompt, scale: float
    ) -> npt.NDArray[np.uint8]:
        """What is sure and what is likely before any colour is looked at, in OpenCV's four values."""
        import cv2

        says = np.full(shape, cv2.GC_PR_BGD, np.uint8)
        side = max(shape)
        if prompt.mask is not None:
            earlier = cv2.resize(prompt.mask.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST)
            says[earlier > 0] = cv2.GC_PR_FGD
        elif prompt.box is None:
            for x, y in zip(*pixels_of(prompt.positive, shape, scale), strict=True):
                cv2.circle(says, (int(x), int(y)), round(_AROUND * side), cv2.GC_PR_FGD, -1)
            border = max(1, side // 160)
            says[:border] = says[-border:] = cv2.GC_BGD
            says[:, :border] = says[:, -border:] = cv2.GC_BGD
        if prompt.box is not None:
            x, y, w, h = prompt.box * scale
            window = np.zeros(shape, bool)
            window[int(y) : max(int(y) + 1, round(y + h)), int(x) : max(int(x) + 1, round(x + w))] = True
            if prompt.mask is None:
                says[window] = cv2.GC_PR_FGD
            says[~window] = cv2.GC_BGD
        for points, kind in ((prompt.positive, cv2.GC_FGD), (prompt.negative, cv2.GC_BGD)):
            for x, y in zip(*pixels_of(points, shape, scale), strict=True):
                cv2.circle(says, (int(x), int(y)), max(1, round(_POINT * side)), kind, -1)
        return says
