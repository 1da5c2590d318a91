"""The objects of a photo at the doors that take masks."""

import numpy as np
import pytest

from amodal_diffusion import PCNetMask, PCNetMaskPipeline
from amodal_diffusion.io import ObjectMasks


def test_objects_in_place_of_masks_are_refused_with_the_way_out():
    """Their names and crowds would be lost."""
    objects = ObjectMasks(np.ones((2, 12, 16), bool), names=["bar", "post"])
    pipe = PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16))
    with pytest.raises(TypeError, match="`masks` must be .* got ObjectMasks: pass its `masks`"):
        pipe(None, objects)
