"""Clicks of a simulated person: where they fall, and that a batch is a function of the step."""

import numpy as np
import pytest
import torch

from amodal_diffusion.data import read_annotations
from amodal_diffusion.data.samplers import ClickSampler, list_objects, next_click
from amodal_diffusion.data.samplers.clicks import crop_object, distance_to_edge, first_prompt, place_click
from photo_helpers import write_photos


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    return read_annotations(write_photos(folder, images=3, amodal=False), folder)


def box(x, y, w, h, size=(60, 80)):
    mask = np.zeros(size, bool)
    mask[y : y + h, x : x + w] = True
    return mask


def test_the_next_click_is_in_the_middle_of_the_largest_mistake():
    target = box(10, 10, 41, 31)
    assert next_click(np.zeros_like(target), target)[2] == 1
    x, y, label = next_click(box(10, 10, 41, 11), target)  # anywhere along the middle of what is missed
    assert label == 1 and 19 < x < 42 and y == pytest.approx(31, abs=1)
    x, y, label = next_click(target | box(60, 0, 19, 60), target)
    assert label == 0 and 65 < x < 74 and 8 < y < 52
    assert next_click(target, target) is None
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y, label = next_click(target & ~box(30, 10, 21, 31), target, rng)
        assert label == 1 and box(30, 10, 21, 31)[int(y), int(x)]


def test_clicks_lie_on_the_object_and_seldom_at_its_edge():
    rng = np.random.default_rng(0)
    target = box(20, 10, 30, 30)
    depth = distance_to_edge(target)
    found = [place_click(target, rng) for _ in range(200)]
    depths = np.array([depth[int(y), int(x)] for x, y in found])
    assert (depths > 1).all() and np.median(depths) > 0.4 * depth.max()
    with pytest.raises(ValueError, match="`target` must hold an object"):
        place_click(np.zeros((3, 3), bool), rng)


def test_first_prompts_are_clicks_or_boxes():
    rng = np.random.default_rng(0)
    target = box(20, 10, 30, 30)
    kinds = np.zeros(3, int)
    for _ in range(300):
        planes = first_prompt(target, rng)
        assert planes.shape == (4, 60, 80) and planes.dtype == np.float32 and not planes[1:3].any()
        clicked, boxed = planes[0].any(), planes[3].any()
        kinds += [clicked and not boxed, boxed and not clicked, clicked and boxed]
        if boxed:
            near = planes[3] > 0
            assert (near & target).sum() / (near | target).sum() > 0.6
    assert kinds[0] > 200 and kinds[1] > 15 and kinds[2] > 15


def test_crops_show_the_object():
    rng = np.random.default_rng(0)
    target = box(50, 5, 20, 30)
    photo = np.zeros((60, 80, 3), np.uint8)
    photo[target] = 255
    for _ in range(50):
        crop, shown = crop_object(photo, target, 64, rng)
        assert crop.shape == (64, 64, 3) and shown.sum() > 100
        assert (crop[..., 0][shown] > 100).mean() > 0.85  # photo and mask moved alike


def test_a_batch_is_a_function_of_the_step(rows):
    sampler = ClickSampler(rows, 64, seed=3, min_area=40)
    batch, again = sampler.sample(5, 4), ClickSampler(rows, 64, seed=3, min_area=40).sample(5, 4)
    assert torch.equal(batch.image, again.image) and torch.equal(batch.prompts, again.prompts)
    assert not torch.equal(batch.image, sampler.sample(6, 4).image)
    assert not torch.equal(batch.image, ClickSampler(rows, 64, seed=3, process_index=1, min_area=40).sample(5, 4).image)
    assert batch.image.shape == (4, 3, 64, 64) and set(batch.target.unique().tolist()) == {0.0, 1.0}


def test_more_clicks(rows):
    batch = ClickSampler(rows, 64, seed=3, min_area=40).sample(0, 4)
    before = batch.prompts.clone()
    answer = torch.zeros(4, 1, 64, 64)
    answer[0] = batch.target[0]
    batch.add_clicks(answer, np.random.default_rng(0))
    added = (batch.prompts[:, :2] - before[:, :2]).flatten(1).sum(1)
    assert added[0] == 0 and (batch.prompts[1:, 0] >= before[1:, 0]).all()
    assert torch.equal(batch.prompts[:, 2:3], answer)


def test_small_objects_and_crowds_are_left_out(rows):
    every = list_objects(rows, min_area=1, min_share=0)
    assert list_objects(rows, min_area=10**6) == [] and len(every) == sum(len(row["objects"]) for row in rows)
    with pytest.raises(ValueError, match="`rows` must hold an object of 1000000 pixels"):
        ClickSampler(rows, 64, min_area=10**6)
