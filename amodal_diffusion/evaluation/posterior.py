"""Rows of models that draw samples of each object: choices among them, and the completion in the true box [L20]."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch

from ..arguments.numeric import check_integer
from ..data.synthesis import mix_seed
from ..masks import mask_boxes
from ..metrics import sample_widths
from ..pipelines import AmodalPipelineOutput, MaskPipeline
from .calls import call_pipeline
from .methods import PipelineMethod
from .samples import Method, Prediction, Sample


class TrueBoxMethod(PipelineMethod):
    """A pipeline that is told the amodal box of each object, as a user can draw it ("GT box" in Table 1 of [L20]).

    Args:
        pipeline: a pipeline whose call takes `amodal_box`, and whose objects do not know of each other.
        name: the row of the table.
        call_options: further keyword arguments of each call.

    Raises:
        TypeError: naming an option that the pipeline's call does not take.

    Example:
        >>> from amodal_diffusion import AmodalVAE, AmodalVAEPipeline
        >>> pipe = AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=2, block_out_channels=(2, 4)))
        >>> modal = np.zeros((1, 12, 16), bool)
        >>> modal[0, 3:9, 4:8] = True
        >>> sample = Sample("photo-1", modal, modal | modal[:, ::-1], np.zeros((1, 1), np.int8), [0])
        >>> TrueBoxMethod(pipe, "tiny, true box")(sample).masks.shape
        (1, 12, 16)
    """

    uses_truth = True

    def __init__(self, pipeline: MaskPipeline, name: str, **call_options: Any) -> None:
        pipeline.check_options(["amodal_box"])
        super().__init__(pipeline, name, **call_options)

    def _options(self, sample: Sample) -> dict[str, Any]:
        known = (sample.amodal & sample.modal).any(axis=(1, 2))
        boxes = [box.tolist() if use else None for box, use in zip(mask_boxes(sample.amodal), known, strict=True)]
        return {**self.call_options, "amodal_box": boxes}


class PosteriorSamples:
    """The K samples that a pipeline draws of each object, drawn once a photo for all methods that choose among them.

    Args:
        pipeline: a pipeline whose call takes `num_samples` and `generator`.
        num_samples: K, at least 1.
        seed: with the id of the image, it determines the samples, whatever was drawn for other images.
        call_options: further keyword arguments of each call.

    Raises:
        ValueError: `num_samples` below 1.
        TypeError: naming an option that the pipeline's call does not take.

    Example:
        >>> from amodal_diffusion import AmodalVAE, AmodalVAEPipeline
        >>> pipe = AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=2, block_out_channels=(2, 4)))
        >>> modal = np.zeros((1, 12, 16), bool)
        >>> modal[0, 3:9, 4:8] = True
        >>> sample = Sample("photo-1", modal, modal | modal[:, ::-1], np.zeros((1, 1), np.int8), [0])
        >>> PosteriorSamples(pipe, 3)(sample).samples.shape
        (1, 3, 12, 16)
    """

    def __init__(self, pipeline: MaskPipeline, num_samples: int, *, seed: int = 0, **call_options: Any) -> None:
        check_integer("num_samples", num_samples, 1)
        pipeline.check_options(["num_samples", "generator", *call_options])
        self.pipeline, self.num_samples, self.seed, self.call_options = pipeline, num_samples, seed, call_options
        self._last: tuple[Sample, bool, AmodalPipelineOutput] | None = None

    def __call__(self, sample: Sample, *, alone: bool = False) -> AmodalPipelineOutput:
        """The pipeline's output for the sample, with `samples` and `sample_scores`."""
        if self._last is None or self._last[0] is not sample or self._last[1] != alone:
            seed = mix_seed(self.seed, zlib.crc32(sample.image_id.encode()))
            output = call_pipeline(
                self.pipeline,
                sample.image,
                sample.modal,
                sample.category_ids,
                names=sample.names,
                alone=alone,
                num_samples=self.num_samples,
                generator=torch.Generator().manual_seed(seed),
                **self.call_options,
            )
            self._last = sample, alone, output
        return self._last[2]


class PosteriorMethod:
    """The best of the samples of each object (Table 4 of [L20]).

    Args:
        samples: of the pipeline, shared by the methods that choose among them.
        name: the row of the table.
        choose: "visible" takes the sample with the best score, which a user can do; "truth" that with the largest IoU
            with the amodal truth, which nobody can: it says what the samples hold at best.

    Raises:
        ValueError: for another `choose`.

    Example:
        >>> from amodal_diffusion import AmodalVAE, AmodalVAEPipeline
        >>> pipe = AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=2, block_out_channels=(2, 4)))
        >>> modal = np.zeros((1, 12, 16), bool)
        >>> modal[0, 3:9, 4:8] = True
        >>> sample = Sample("photo-1", modal, modal | modal[:, ::-1], np.zeros((1, 1), np.int8), [0])
        >>> method = PosteriorMethod(PosteriorSamples(pipe, 3), "best by truth", "truth")
        >>> method.uses_truth, method(sample).masks.shape
        (True, (1, 12, 16))
    """

    def __init__(self, samples: PosteriorSamples, name: str, choose: Literal["visible", "truth"] = "visible") -> None:
        if choose not in ("visible", "truth"):
            raise ValueError(f"`choose` must be 'visible' or 'truth', got {choose!r}.")
        self.samples, self.name, self.choose = samples, name, choose

    @property
    def uses_truth(self) -> bool:
        """The choice looks at the amodal truth."""
        return self.choose == "truth"

    def __call__(self, sample: Sample) -> Prediction:
        """The chosen sample of each object."""
        return self._predict(sample, alone=False)

    def predict_alone(self, sample: Sample) -> Prediction:
        """Likewise, but no object knows of the others."""
        return self._predict(sample, alone=True)

    def _predict(self, sample: Sample, *, alone: bool) -> Prediction:
        output = self.samples(sample, alone=alone)
        values = output.sample_scores
        if self.choose == "truth":
            common = [(drawn & whole).sum(axis=(1, 2)) for drawn, whole in _pairs(output.samples, sample.amodal)]
            joined = [(drawn | whole).sum(axis=(1, 2)) for drawn, whole in _pairs(output.samples, sample.amodal)]
            values = np.array(common).reshape(values.shape) / np.maximum(np.array(joined).reshape(values.shape), 1)
        best = values.argmax(axis=1)
        # The samples are the same for every choice: one row says how far apart they are.
        apart = self.choose == "visible" and output.samples.shape[1] > 1
        widths = sample_widths(output.samples) if apart else None
        return Prediction(masks=output.samples[np.arange(len(best)), best], widths=widths)


def posterior_methods(
    pipeline: MaskPipeline, name: str, num_samples: int, *, seed: int = 0, **call_options: Any
) -> list[Method]:
    """What [L20] reports beside the completion by the mean code: best of K samples by visible part and by truth, and,
    where the pipeline takes `amodal_box`, the completion in the true box. The last two look at the truth.

    Args:
        pipeline: a pipeline whose call takes `num_samples`.
        name: the row of the plain completion; the rows here are "NAME, best of K by visible" and so on.
        num_samples: K, at least 1.
        seed: of the samples.
        call_options: keyword arguments of each call.

    Raises:
        ValueError, TypeError: as `PosteriorSamples` says.

    Example:
        >>> from amodal_diffusion import AmodalVAE, AmodalVAEPipeline
        >>> pipe = AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=2, block_out_channels=(2, 4)))
        >>> [method.name for method in posterior_methods(pipe, "tiny", 3)]
        ['tiny, best of 3 by visible', 'tiny, best of 3 by truth', 'tiny, true box']
    """
    samples = PosteriorSamples(pipeline, num_samples, seed=seed, **call_options)
    methods: list[Method] = [
        PosteriorMethod(samples, f"{name}, best of {num_samples} by visible", "visible"),
        PosteriorMethod(samples, f"{name}, best of {num_samples} by truth", "truth"),
    ]
    if pipeline.takes_option("amodal_box"):
        methods.append(TrueBoxMethod(pipeline, f"{name}, true box", **call_options))
    return methods


def _pairs(samples: np.ndarray, amodal: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(K, H, W) samples and (H, W) truth of one object after the other: all at once would take N * K masks more."""
    return zip(samples, amodal, strict=True)
