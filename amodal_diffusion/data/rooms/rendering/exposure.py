"""From light to a photo: exposure, white balance, tone curve, lens, sensor and JPEG, drawn anew for each photo."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True, eq=False)
class Development:
    """How one photo is taken and developed.

    Attributes:
        exposure: factor on linear light.
        balance: (3,) factors of the channels.
        contrast: 0 (flat) to 1 (hard) of the tone curve.
        saturation: 1 keeps colours.
        vignette: share of the light that the corners lose.
        blur: deviation of the lens's blur in pixels.
        sharpening: of the camera's processor, 0 for none.
        noise: deviation of the sensor's noise at middle grey, 0 to 1.
        quality: of the JPEG.

    Example:
        >>> developed = draw_development(np.random.default_rng(0), np.full((4, 4, 3), 0.2, dtype=np.float32))
        >>> developed.tone(np.zeros((1, 3))).max() < 0.1
        np.True_
    """

    exposure: float
    balance: np.ndarray
    contrast: float
    saturation: float
    vignette: float
    blur: float
    sharpening: float
    noise: float
    quality: int

    def tone(self, light: np.ndarray, corner: np.ndarray | float = 0.0) -> np.ndarray:
        """(..., 3) sRGB, 0 to 1, of linear light.

        Args:
            light: (..., 3).
            corner: (...), squared distance from the middle of the photo, 1 in the corners.
        """
        falloff = np.asarray(1 - self.vignette * np.asarray(corner))[..., None]
        value = np.maximum(light * self.balance * self.exposure * falloff, 0)
        grey = value @ np.array([0.21, 0.72, 0.07])
        value = np.maximum(grey[..., None] + (value - grey[..., None]) * self.saturation, 0)
        # Highlights roll off; what is white for a surface in plain light stays below 1.
        rolled = value * (1 + value / 9) / (1 + value)
        curve = np.minimum(rolled, 1.0) ** (1 / 2.2)
        shaped = curve * curve * (3 - 2 * curve)
        mixed: np.ndarray = np.clip(curve * (1 - self.contrast) + shaped * self.contrast, 0, 1)
        return mixed

    def photograph(self, light: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, bytes]:
        """The photo of (H, W, 3) linear light.

        Returns:
            (H, W, 3) uint8 before compression, and the JPEG file.
        """
        height, width = light.shape[:2]
        picture: np.ndarray = self.tone(_blurred(light, self.blur), corner_distance(height, width))
        if self.sharpening:
            picture = picture + self.sharpening * (picture - _blurred(picture.astype(np.float32), 1.0))
        grain: np.ndarray = random.standard_normal(picture.shape).astype(np.float32)
        grain = 0.6 * grain + 0.8 * _blurred(grain, 0.7)
        picture = picture + self.noise * grain * np.sqrt(0.25 + picture)
        pixels = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=self.quality)
        return pixels, file.getvalue()


def draw_development(random: np.random.Generator, light: np.ndarray) -> Development:
    """Settings for a photo of (H, W, 3) linear light, exposed for its middle tones as a camera does.

    Example:
        >>> development = draw_development(np.random.default_rng(0), np.full((4, 4, 3), 0.2, dtype=np.float32))
        >>> 78 <= development.quality < 96
        True
    """
    grey = light.mean(axis=2)
    middle = float(np.exp(np.log(grey + 1e-4).mean()))
    bright = float(np.quantile(grey, 0.95))
    exposure = min(0.34 / max(middle, 1e-4), 1.5 / max(bright, 1e-4)) * float(np.exp(random.normal(0, 0.22)))
    cast = light.reshape(-1, 3).mean(axis=0)
    neutral = (cast.mean() / np.maximum(cast, 1e-6)) ** float(random.uniform(0.35, 0.9))
    return Development(
        exposure=exposure,
        balance=neutral * np.exp(random.normal(0, 0.02, 3)),
        contrast=float(random.uniform(0.0, 0.6)),
        saturation=float(random.uniform(0.75, 1.1)),
        vignette=float(random.uniform(0, 0.3)),
        blur=float(random.uniform(0.35, 0.9)),
        sharpening=float(random.uniform(0, 0.6)),
        noise=float(np.exp(random.uniform(np.log(0.004), np.log(0.03)))),
        quality=int(random.integers(78, 96)),
    )


def corner_distance(height: int, width: int) -> np.ndarray:
    """(H, W) squared distance from the middle, 1 in the corners.

    Example:
        >>> corner_distance(3, 3).tolist()
        [[1.0, 0.5, 1.0], [0.5, 0.0, 0.5], [1.0, 0.5, 1.0]]
    """
    down, across = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    distance: np.ndarray = (down**2 + across**2) / 2
    return distance


def _blurred(picture: np.ndarray, deviation: float) -> np.ndarray:
    """Gaussian blur of the first two axes."""
    if deviation < 0.2:
        return picture
    reach = max(1, round(3 * deviation))
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * deviation**2))
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (0, 1):
        pad = [(reach, reach) if axis == other else (0, 0) for other in range(picture.ndim)]
        padded = np.pad(picture, pad, mode="edge")
        length = picture.shape[axis]
        total = np.zeros(picture.shape, dtype=np.float32)
        for step, weight in enumerate(weights):
            total += weight * np.take(padded, range(step, step + length), axis=axis)
        picture = total
    return picture
