"""Deterministic weights and inputs for checking a converted network against a published one.

Every tensor is a function of its key (or name) and its shape alone, so no checkpoint has to be stored:
numpy's legacy RandomState stream is frozen for ever, and zlib.crc32 gives the seed.

    keys = json.load(open("pcnet_mask.keys.json"))     # {published key: shape}
    published = state_dict(keys)                        # what torch.load(...)["state_dict"] would hold
    x = tensor("pcnet_mask/mask", (1, 1, 64, 64), binary=True)
"""

import zlib

import numpy as np
import torch


def _rng(name: str, seed: int = 0) -> np.random.RandomState:
    return np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)


def weight(key: str, shape: list[int], seed: int = 0) -> torch.Tensor:
    """The value of one state_dict entry; the rule depends on the end of the key."""
    if key.endswith("num_batches_tracked"):
        return torch.tensor(1)
    noise = _rng(key, seed).standard_normal(tuple(shape)).astype(np.float32)
    if "mask_conv" in key:  # the constant kernel of a partial convolution
        value = np.ones(shape, np.float32)
    elif key.endswith("running_var"):
        value = 1 + 0.1 * np.abs(noise)
    elif key.endswith("running_mean") or key.endswith("bias"):
        value = 0.1 * noise
    elif len(shape) == 1:  # scale of a normalisation layer; u and v vectors of a spectral norm
        value = noise / (np.linalg.norm(noise) + 1e-12) if key.endswith(("_u", "_v")) else 1 + 0.1 * noise
    else:  # He scaling keeps activations of a deep network in range
        fan_in = int(np.prod(shape[1:]))
        value = noise * np.sqrt(2.0 / fan_in)
    return torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))


def state_dict(keys: dict[str, list[int]], seed: int = 0) -> dict[str, torch.Tensor]:
    return {key: weight(key, shape, seed) for key, shape in keys.items()}


def tensor(name: str, shape: tuple[int, ...], binary: bool = False, seed: int = 0) -> torch.Tensor:
    """An input: standard normal, or a {0, 1} blob mask made of a few random ellipses when ``binary``."""
    rng = _rng(name, seed)
    if not binary:
        return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
    height, width = shape[-2:]
    yy, xx = np.mgrid[:height, :width]
    flat = np.zeros((int(np.prod(shape[:-2])), height, width), np.float32)
    for plane in flat:
        for _ in range(3):
            cy, cx = rng.uniform(0.2, 0.8, 2) * (height, width)
            ry, rx = rng.uniform(0.1, 0.35, 2) * (height, width)
            plane[((yy - cy) / ry) ** 2 + ((xx - cx) / rx) ** 2 <= 1] = 1
    return torch.from_numpy(flat.reshape(shape))


def scene(
    index: int, count: int = 7, height: int = 120, width: int = 160, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """(modal, amodal) uint8 masks, each (count, height, width); an object hides the ones before it in the stack."""
    amodal = np.empty((count, height, width), np.uint8)
    for i in range(count):
        name = f"scene{index}/object{i}"
        rng = _rng(name + "/shift", seed)
        blob = tensor(name, (1, 1, height, width), binary=True, seed=seed).numpy()[0, 0].astype(np.uint8)
        blob = blob[:: rng.randint(1, 3), :: rng.randint(1, 3)]
        top, left = rng.randint(0, height - blob.shape[0] + 1), rng.randint(0, width - blob.shape[1] + 1)
        amodal[i] = 0
        amodal[i, top : top + blob.shape[0], left : left + blob.shape[1]] = blob
    modal = amodal.copy()
    for i in range(count):
        modal[i][amodal[i + 1 :].any(0)] = 0
    return modal, amodal
