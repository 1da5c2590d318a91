"""The objects of a photo as other parts of the package take them."""

import numpy as np

from amodal_diffusion import PCNetMask, PCNetMaskPipeline
from amodal_diffusion.io import ObjectMasks
from amodal_diffusion.masks import to_mask_stack


def test_objects_are_taken_where_masks_are():
    masks = np.zeros((2, 12, 16), bool)
    masks[0, 4:8], masks[1, :, 6:10] = True, True
    objects = ObjectMasks(masks, names=["bar", "post"])
    np.testing.assert_array_equal(to_mask_stack(objects), masks)
    assert np.asarray(objects, np.uint8).dtype == np.uint8
    pipe = PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16))
    np.testing.assert_array_equal(pipe(None, objects).amodal_masks, pipe(None, masks).amodal_masks)
