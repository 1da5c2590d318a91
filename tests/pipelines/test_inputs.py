"""Wrong calls and wrong settings of a mask pipeline: every message names the argument."""

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion import PCNetMaskPipeline
from amodal_diffusion.pipelines.inputs import read_category_ids, to_device
from pipeline_helpers import crossing_bars, tiny_model, tiny_pipeline

MODAL = crossing_bars()[0]
WRONG_CALLS = {
    "size of the photo": (
        dict(image=Image.new("RGB", (81, 60)), masks=MODAL),
        ValueError,
        r"`masks`.*\(60, 80\).*\(60, 81\)",
    ),
    "NaN": (dict(masks=np.full((1, 4, 4), np.nan)), ValueError, "`masks`.*NaN"),
    "five dimensions": (dict(masks=np.zeros((1, 1, 1, 4, 4))), ValueError, "`masks"),
    "mixed sizes": (dict(masks=[MODAL[0], MODAL[0][:-1]]), ValueError, r"masks\[1\]"),
    "no masks, no size": (dict(masks=[]), ValueError, "`masks`"),
    "no pixels": (dict(masks=np.zeros((2, 0, 4), bool)), ValueError, r"`masks`.* at least one pixel, got .*\(0, 4\)"),
    "a word": (dict(masks="photo.png"), TypeError, "`masks`"),
    "photo of another kind": (dict(image=3, masks=MODAL), TypeError, "`image`"),
    "order shape": (dict(masks=MODAL, order=np.zeros((3, 3))), ValueError, r"`order`.*\(2, 2\).*\(3, 3\)"),
    "order symmetric": (dict(masks=MODAL, order=[[0, 1], [1, 0]]), ValueError, "`order`.*antisymmetric"),
    "order values": (dict(masks=MODAL, order=[[0, 2], [-2, 0]]), ValueError, "`order`.*-1, 0 and 1"),
    "occluder size": (dict(masks=MODAL, occluder_masks=MODAL[:, :-1]), ValueError, "`occluder_masks`.*60"),
    "occluder count": (
        dict(masks=MODAL, occluder_masks=MODAL[[0, 1, 1]]),
        ValueError,
        "`occluder_masks`.*2 objects, got 3",
    ),
    "category shape": (dict(masks=MODAL, category_ids=[1]), ValueError, r"`category_ids`.*\(2,\).*\(1,\)"),
    "category below zero": (dict(masks=MODAL, category_ids=[-1, 1]), ValueError, "`category_ids`.*at least 0"),
    "category float": (dict(masks=MODAL, category_ids=[1.5, 1]), ValueError, "`category_ids`.*integers of at least 0"),
    "threshold": (dict(masks=MODAL, mask_threshold=1.0), ValueError, r"`mask_threshold` must lie in \[0, 1\), got 1.0"),
    "threshold NaN": (dict(masks=MODAL, order_threshold=float("nan")), ValueError, "`order_threshold`.*nan"),
    "threshold word": (dict(masks=MODAL, order_threshold="0.1"), TypeError, "`order_threshold` must be a number"),
    "dilation": (dict(masks=MODAL, eraser_dilation=-1), ValueError, "`eraser_dilation` must be at least 0, got -1"),
    "dilation float": (
        dict(masks=MODAL, eraser_dilation=1.5),
        TypeError,
        "`eraser_dilation` must be an integer, got 1.5",
    ),
    "batch size": (dict(masks=MODAL, batch_size=0), ValueError, "`batch_size` must be at least 1, got 0"),
    "output type": (
        dict(masks=MODAL, output_type="latent"),
        ValueError,
        "`output_type` must be one of 'np', 'pt', 'pil'",
    ),
    "list and stack": (dict(image=[None], masks=MODAL), TypeError, "`masks` must be a list"),
    "lengths": (dict(image=[None, None], masks=[MODAL]), ValueError, "`image` must have one entry.*1 stacks.*got 2"),
    "list and matrix": (dict(image=[None], masks=[MODAL], order=np.zeros((2, 2))), TypeError, "`order` must be a list"),
    "second scene": (dict(image=[None, None], masks=[MODAL, MODAL], order=[None, [[0]]]), ValueError, r"`order\[1\]`"),
}


@pytest.mark.parametrize("case", WRONG_CALLS)
def test_wrong_calls(case):
    arguments, error, message = WRONG_CALLS[case]
    with pytest.raises(error, match=message):
        tiny_pipeline()(**{"image": None, **arguments})


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ({"mask_threshold": -0.1}, ValueError, r"`mask_threshold` must lie in \[0, 1\)"),
        ({"order_threshold": None}, TypeError, "`order_threshold` must be a number"),
        ({"enlarge_box": 0.5}, ValueError, r"`enlarge_box` must lie in \[1, 100\)"),
        ({"paste": "cubic"}, ValueError, "`paste` must be one of 'probability', 'binary', got 'cubic'"),
        ({"crop": "cubic"}, ValueError, "`crop` must be one of 'nearest', 'bilinear', 'mixed', got 'cubic'"),
        ({"order_rule": "area"}, ValueError, "`order_rule` must be one of"),
    ],
)
def test_wrong_settings(setting, error, message):
    with pytest.raises(error, match=message):
        PCNetMaskPipeline(tiny_model(), **setting)


@pytest.mark.filterwarnings("error")
def test_read_only_masks_give_no_warning():
    array = np.array([0, 1], np.uint8)
    array.flags.writeable = False
    tensor = to_device(array, torch.device("cpu"))
    tensor += 1
    assert array.tolist() == [0, 1]


@pytest.mark.parametrize("ids", [[2**63, 1], np.array([1, 2**64 - 1], np.uint64), [[1], [1, 2]], [[1, 2]], "cup", {}])
@pytest.mark.parametrize("categories", [None, ["cup"]])
def test_category_ids_that_are_none(ids, categories):
    with pytest.raises(ValueError, match=r"^`category_ids\[3\]` must "):
        read_category_ids(ids, 2, "[3]", categories=categories)


def test_names_of_categories_in_other_letters():
    categories = ["cat", "dining table", "Cat", "TV"]
    given = ["CAT", "Cat", "Dining_Table", " dining  table", "tv", "", None, "unicorn", 2]
    found = read_category_ids(given, len(given), lowest=0, categories=categories)
    assert found.tolist() == [1, 3, 2, 2, 4, 0, 0, 0, 2]
