"""Small networks and scenes for the tests of pipelines."""

import json

import numpy as np
import torch

import parity
from amodal_diffusion import MaskModelOutput, PCNetMask, PCNetMaskPipeline
from amodal_diffusion.pipelines import contexts
from amodal_diffusion.pipelines.completion.mask_pipeline import MaskCall
from repository_helpers import PARITY


def torchs_threads(monkeypatch, count):
    """For a fixture: torch has so many threads, and `work_beside` has not counted others before."""
    monkeypatch.setattr(contexts, "_threads", [])
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def published_weights(scale=None):
    """Deterministic weights under the published keys; `scale` divides every width, to make them small."""
    keys = json.loads((PARITY / "pcnet_mask.keys.json").read_text(encoding="utf-8"))
    if scale:
        keys = {key: [n if n in (2, 3, 1) else n // scale for n in shape] for key, shape in keys.items()}
    return parity.state_dict(keys)


def tiny_model(**config):
    torch.manual_seed(0)
    config = {"block_out_channels": (4, 8, 8), "sample_size": 32, **config}
    return PCNetMask(**config).eval()


def tiny_pipeline(model=None, **settings):
    pipeline = PCNetMaskPipeline(model or tiny_model(), **settings)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def dual_call(pipeline, masks, *, batch_size=4, **options):
    """The checked call of a dual completion pipeline, for tests of its steps."""
    defaults = {"return_order": True, "eraser_dilation": 0}
    names = ("occluder_rule", "order_threshold", "mask_threshold")
    options = pipeline.read_options({**dict.fromkeys(names), **defaults, **options})
    scenes, _ = pipeline.check_inputs(None, masks)
    return MaskCall(scenes, options, [None] * len(scenes), batch_size)


class GapFiller(PCNetMask):
    """Completes by a rule: a pixel of the eraser is object where the mask lies on both sides, in its row or column.

    `rows` counts the crops that went through it.
    """

    confidence = 0.9
    rows = 0

    def forward(self, mask, eraser, image=None, category_ids=None, return_dict=True):
        type(self).rows += len(mask)
        between = torch.zeros_like(mask, dtype=torch.bool)
        for axis in (-1, -2):
            between |= (mask.cummax(axis).values * mask.flip(axis).cummax(axis).values.flip(axis)).bool()
        filled = mask.bool() | (eraser.bool() & between)
        odds = float(np.log(self.confidence / (1 - self.confidence)))
        logits = torch.where(filled, odds, -20.0)
        return MaskModelOutput(torch.cat([torch.zeros_like(logits), logits], dim=1))


def gap_filler(sample_size=64, **settings):
    GapFiller.rows = 0
    return tiny_pipeline(GapFiller(block_out_channels=(4, 4), sample_size=sample_size).eval(), **settings)


def crossing_bars(height=60, width=80):
    """A horizontal bar behind a vertical one: modal and amodal masks, (2, H, W) bool each."""
    amodal = np.zeros((2, height, width), bool)
    amodal[0, 20:40, 5:75] = True
    amodal[1, 5:55, 30:46] = True
    modal = amodal.copy()
    modal[0] &= ~amodal[1]
    return modal, amodal


def stacked_bars(height=64, width=96):
    """Three overlapping objects, 2 in front of 1 and 0, 1 in front of 0; all are neighbours: modal, amodal."""
    amodal = np.zeros((3, height, width), bool)
    amodal[0, 20:40, 4:90] = True
    amodal[1, 10:50, 30:50] = True
    amodal[2, 16:30, 20:70] = True
    modal = amodal.copy()
    modal[1] &= ~amodal[2]
    modal[0] &= ~(amodal[1] | amodal[2])
    return modal, amodal


def iou(first, second):
    return (first & second).sum((-2, -1)) / np.maximum((first | second).sum((-2, -1)), 1)
