"""ContentPipeline: every wrong input and setting is refused by name."""

import numpy as np
import pytest
import torch

from amodal_diffusion import ContentPipeline
from content_helpers import tiny_content, tiny_content_model
from diffusion_helpers import photo
from pipeline_helpers import crossing_bars


@pytest.fixture(scope="module")
def pipeline():
    return tiny_content()


MODAL, AMODAL = crossing_bars()
UNKNOWN = MODAL[1]
WRONG_CALLS = {
    "modal size": ({"masks": MODAL[:, :50]}, ValueError, r"`masks`.*\(50, 80\).*\(60, 80\)"),
    "amodal size": ({"amodal_masks": AMODAL[:, :50]}, ValueError, r"`amodal_masks`.*\(50, 80\).*\(60, 80\)"),
    "numbers": ({"amodal_masks": AMODAL[:1]}, ValueError, "`amodal_masks` must hold a mask for each of the 2.*got 1"),
    "NaN": ({"amodal_masks": np.full((2, 60, 80), np.nan)}, ValueError, "`amodal_masks`.*NaN"),
    "NaN in the photo": ({"image": np.full((60, 80, 3), np.nan)}, ValueError, "`image`.*NaN"),
    "several photos": ({"image": [photo(1, 60, 80)] * 2}, TypeError, "`image` must be one photo, got list"),
    "no photo": ({"image": None}, TypeError, "`image` must be one photo, got NoneType"),
    "occluder size": ({"occluder_masks": MODAL[:, 1:]}, ValueError, "`occluder_masks`"),
    "occluders": ({"occluder_masks": np.zeros((3, 60, 80))}, ValueError, "`occluder_masks` must hold one.*got 3"),
    "unknown size": ({"unknown": UNKNOWN[1:]}, ValueError, "`unknown`"),
    "seen in unknown": ({"unknown": UNKNOWN}, ValueError, "`masks` must lie outside of `unknown`.*object 1 does"),
    "order shape": ({"order": np.zeros((3, 3))}, ValueError, r"`order` must have shape \(2, 2\), got \(3, 3\)"),
    "order values": ({"order": [[0, 2], [-2, 0]]}, ValueError, "`order` must hold -1, 0 and 1"),
    "order signs": ({"order": [[0, 1], [1, 0]]}, ValueError, "`order` must be antisymmetric"),
    "names": ({"names": ["car"]}, ValueError, "`names` must have one entry for each of the 2 objects, got 1"),
    "name": ({"names": "car"}, TypeError, "`names` must be a list with one text for each object, got str"),
    "name kind": ({"names": ["car", 3]}, TypeError, r"`names` must hold texts or None, got \['car', 3\]"),
    "prompts": ({"prompts": ["a"] * 3}, ValueError, "`prompts` must have one entry for each of the 2 objects, got 3"),
    "prompt kind": ({"prompts": 3}, TypeError, "`prompts` must be a list with one text for each object, got int"),
    "batch size": ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1"),
    "output type": ({"output_type": "latent"}, ValueError, "`output_type` must be one of 'np', 'pt', 'pil'"),
    "return dict": ({"return_dict": "x"}, TypeError, "`return_dict` must be True or False, got 'x'"),
    "generator": ({"generator": 3}, TypeError, "`generator` must be a torch.Generator, or a list"),
    "generators": ({"generator": [torch.Generator()]}, ValueError, "`generator` must have one entry for each of the 2"),
    "options": ({"inpainter_kwargs": {"strength": 1.0}}, ValueError, "`inpainter_kwargs` are for an `inpainter`"),
    "options kind": (
        {"inpainter_kwargs": ["strength"]},
        TypeError,
        "`inpainter_kwargs` must be a dictionary, got list",
    ),
}


@pytest.mark.parametrize("case", WRONG_CALLS)
def test_wrong_calls(case, pipeline):
    changed, kind, message = WRONG_CALLS[case]
    arguments = {"image": photo(1, 60, 80), "masks": MODAL, "amodal_masks": AMODAL, **changed}
    with pytest.raises(kind, match=message):
        pipeline(**arguments)


WRONG_BACKGROUNDS = {
    "size": ({"masks": MODAL[:, 1:]}, ValueError, "`masks`"),
    "NaN": ({"masks": np.full((60, 80), np.nan)}, ValueError, "`masks` has NaN"),
    "photo": ({"image": [1]}, TypeError, "`image` must be one photo"),
    "unknown": ({"unknown": np.zeros((3, 3))}, ValueError, "`unknown`"),
    "prompt": ({"prompt": ["a"]}, TypeError, "`prompt` must be a text, got list"),
    "output type": ({"output_type": "x"}, ValueError, "`output_type` must be one of"),
    "generator": ({"generator": 1}, TypeError, "`generator` must be"),
}


@pytest.mark.parametrize("case", WRONG_BACKGROUNDS)
def test_wrong_backgrounds(case, pipeline):
    changed, kind, message = WRONG_BACKGROUNDS[case]
    with pytest.raises(kind, match=message):
        pipeline.background(**{"image": photo(1, 60, 80), "masks": MODAL, **changed})


WRONG_SETTINGS = {
    "enlarge_box": ({"enlarge_box": 0.5}, ValueError, r"`enlarge_box` must lie in \[1, 100\)"),
    "hole_dilation": ({"hole_dilation": -1}, ValueError, "`hole_dilation` must lie in"),
    "background_size": ({"background_size": 100}, ValueError, "`background_size` must be a multiple of 8, got 100"),
    "background_dilation": ({"background_dilation": "3"}, TypeError, "`background_dilation` must be a number"),
    "feather": ({"feather": float("nan")}, ValueError, "`feather` must lie in"),
    "inpainter_size": ({"inpainter_size": 4}, ValueError, "`inpainter_size` must be at least 8"),
    "inpainter_id": ({"inpainter_id": 3}, TypeError, "`inpainter_id` must be a Hub id or the path of a folder, got 3"),
    "neither": ({"model": None}, ValueError, "Exactly one of `model` .* got neither"),
    "both": ({"inpainter": "a/b"}, ValueError, "Exactly one of `model` .* got both"),
    "model": ({"model": torch.nn.Linear(1, 1)}, TypeError, "`model` must be of PCNetContent, got Linear"),
}


@pytest.mark.parametrize("case", WRONG_SETTINGS)
def test_wrong_settings(case):
    changed, kind, message = WRONG_SETTINGS[case]
    with pytest.raises(kind, match=message):
        ContentPipeline(**{"model": tiny_content_model(), **changed})
