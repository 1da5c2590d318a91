"""Switches: True or False, of Python or numpy."""

import numpy as np
import pytest

from amodal_diffusion.arguments.flags import check_flag


def test_flags_of_numpy():
    assert check_flag("return_dict", np.True_) is True and check_flag("return_dict", np.False_) is False
    for wrong in (0, 1, None, "no", np.int64(1)):
        with pytest.raises(TypeError, match="`return_dict` must be True or False, got"):
            check_flag("return_dict", wrong)
