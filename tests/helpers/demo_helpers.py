"""What the tests of the demo's page share: tiny pipelines in folders, sessions."""

import numpy as np
from PIL import Image

from amodal_diffusion import (
    AmodalVAE,
    AmodalVAEPipeline,
    ContentPipeline,
    PCNetContent,
    PCNetMask,
    PCNetMaskPipeline,
    ScenePipeline,
)
from page.steps.complete import complete
from page.work.actions import act
from page.work.files.photos import with_photo
from page.work.marks import add_marks
from page.work.session import Session
from photo_helpers import draw_scene


def save_pipelines(root):
    """Pipelines with tiny networks, in folders as the repository has them."""
    masks = PCNetMaskPipeline(PCNetMask(block_out_channels=(4, 4), sample_size=32))
    content = ContentPipeline(PCNetContent(block_out_channels=(4, 4, 4), sample_size=32), background_size=32)
    masks.save_pretrained(root / "pcnet-m")
    ScenePipeline(masks, content).save_pretrained(root / "deocclusion")
    network = AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(4, 8))
    AmodalVAEPipeline(network).save_pretrained(root / "amodal-vae")
    return root


def blank_session():
    """A photo of 64 x 96 pixels and no mark."""
    rows, columns = np.mgrid[:64, :96]
    photo = np.stack([rows * 3, columns * 2, rows + columns], axis=2).astype(np.uint8)
    return with_photo(Session(), Image.fromarray(photo), "test")[0]


def marked_session():
    """Two objects; the second hides a part of the first."""
    back, front = np.zeros((2, 64, 96), bool)
    back[10:40, 10:50] = True
    front[20:50, 30:80] = True
    return add_marks(blank_session(), np.stack([back, front]), ["box", "lid"])


def completed_session(models):
    """Three drawn objects, `a`, `b` and `c`, completed."""
    photo, modal, _ = draw_scene(3)
    session = with_photo(Session(), Image.fromarray(photo), "drawn")[0]
    session = add_marks(session, modal, ["a", "b", "c"])
    return complete(session, models, "pcnet-m")


def edit(session, op, **event):
    """An event of the third step."""
    return act(session, {"mode": "edit", "op": op, **event})


def mark(session, op, **event):
    """An event of the first step."""
    return act(session, {"mode": "mark", "op": op, **event})
