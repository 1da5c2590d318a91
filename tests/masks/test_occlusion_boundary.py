"""`occlusion_boundary`: an independent computation, dtypes, errors."""

import pytest
import torch
import torch.nn.functional as F

from amodal_diffusion.masks import occlusion_boundary


def random_masks():
    generator = torch.Generator().manual_seed(0)
    modal = F.max_pool2d((torch.rand(3, 1, 20, 30, generator=generator) > 0.97).float(), 5, 1, 2)
    occluder = F.max_pool2d((torch.rand(3, 1, 20, 30, generator=generator) > 0.97).float(), 3, 1, 1)
    return modal, occluder * (1 - modal)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_is_the_overlap_of_max_pools(size):
    modal, occluder = random_masks()
    expected = F.max_pool2d(modal, size, 1, size // 2) * F.max_pool2d(occluder, size, 1, size // 2)
    assert expected.any()
    assert torch.equal(occlusion_boundary(modal, occluder, size=size), expected)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.bfloat16])
def test_keeps_the_dtype(dtype):
    modal, occluder = random_masks()
    boundary = occlusion_boundary(modal.to(dtype), occluder.to(dtype))
    assert boundary.dtype == dtype
    assert torch.equal(boundary.float(), occlusion_boundary(modal, occluder))


def test_nothing_meets_nothing():
    modal, occluder = random_masks()
    assert not occlusion_boundary(modal, occluder * 0).any()
    assert not occlusion_boundary(modal * 0, occluder).any()


def test_is_symmetric():
    modal, occluder = random_masks()
    assert torch.equal(occlusion_boundary(modal, occluder), occlusion_boundary(occluder, modal))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"`occluder` must have the shape of `modal` \(1, 4, 4\), got \(1, 4, 5\)"):
        occlusion_boundary(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5))


def test_the_published_boundary_is_the_default():
    """[N21]: max-pooling of 5 x 5 of both masks, so two pixels on each side of where they meet."""
    modal, occluder = torch.zeros(2, 1, 1, 9, 12)
    modal[..., :6], occluder[..., 6:] = 1, 1
    assert occlusion_boundary(modal, occluder)[0, 0, 4].tolist() == [0] * 4 + [1] * 4 + [0] * 4
