"""Procedural surfaces for walls and floors, so that nothing but numbers is needed for them. All of them tile."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SIDE = 512
"""Pixels of a texture on each side."""
Color = np.ndarray


def tiling_noise(random: np.random.Generator, cells: tuple[int, int], octaves: int = 4, side: int = SIDE) -> np.ndarray:
    """(side, side) float32 smooth noise of mean 0 and about unit deviation that goes on at its edges.

    Args:
        random: where chance comes from.
        cells: of the coarsest grid, down and across.
        octaves: grids, each twice as fine and half as strong as the one before.
        side: pixels.

    Example:
        >>> tiling_noise(np.random.default_rng(0), (4, 4), side=64).shape
        (64, 64)
    """
    total = np.zeros((side, side), dtype=np.float32)
    for octave in range(octaves):
        rows, columns = (min(count << octave, side) for count in cells)
        grid = random.standard_normal((rows, columns)).astype(np.float32)
        total += _stretch(_stretch(grid, side).T, side).T * 0.5**octave
    return total / max(float(total.std()), 1e-6)


def _stretch(grid: np.ndarray, side: int) -> np.ndarray:
    """Rows drawn out smoothly to `side`, the last one going on with the first."""
    place = np.arange(side, dtype=np.float32) * (len(grid) / side)
    low = place.astype(int)
    share = place - low
    share = (share * share * (3 - 2 * share))[:, None]
    return grid[low % len(grid)] * (1 - share) + grid[(low + 1) % len(grid)] * share


def paint(random: np.random.Generator, color: Color) -> np.ndarray:
    """A painted wall: hardly any pattern.

    Example:
        >>> paint(np.random.default_rng(0), np.array([0.6, 0.5, 0.4])).shape
        (512, 512, 3)
    """
    return _to_pixels(color * (1 + 0.012 * tiling_noise(random, (6, 6), 6)[..., None]))


def plaster(random: np.random.Generator, color: Color) -> np.ndarray:
    """Rough plaster or concrete.

    Example:
        >>> plaster(np.random.default_rng(0), np.array([0.6, 0.5, 0.4])).shape
        (512, 512, 3)
    """
    return _to_pixels(color * (1 + float(random.uniform(0.015, 0.045)) * tiling_noise(random, (6, 6), 7)[..., None]))


def carpet(random: np.random.Generator, color: Color) -> np.ndarray:
    """Pile of a carpet.

    Example:
        >>> carpet(np.random.default_rng(0), np.array([0.6, 0.5, 0.4])).shape
        (512, 512, 3)
    """
    noise = 0.10 * tiling_noise(random, (128, 128), 3) + 0.015 * tiling_noise(random, (7, 7), 3)
    return _to_pixels(color * (1 + noise[..., None]))


def planks(random: np.random.Generator, color: Color) -> np.ndarray:
    """A wooden floor of planks, each with a colour and a grain of its own.

    Example:
        >>> planks(np.random.default_rng(0), np.array([0.6, 0.5, 0.4])).shape
        (512, 512, 3)
    """
    rows = int(random.choice([8, 12, 16]))
    height = SIDE // rows
    picture = np.zeros((SIDE, SIDE, 3), dtype=np.float32)
    grain = tiling_noise(random, (48, 3), 4)
    fine = tiling_noise(random, (128, 8), 2)
    for row in range(rows):
        cut = int(random.integers(SIDE))
        edges = [cut, cut + int(random.integers(SIDE // 3, 2 * SIDE // 3)), cut + SIDE]
        lines = slice(row * height, (row + 1) * height if row < rows - 1 else SIDE)
        for start, stop in zip(edges, edges[1:], strict=False):
            columns = np.arange(start, stop) % SIDE
            shade = 1 + random.normal(0, 0.10) + random.normal(0, 0.03, 3)
            roll = int(random.integers(SIDE))
            pattern = 1 + 0.09 * np.roll(grain, roll, 0)[lines][:, columns] + 0.05 * fine[lines][:, columns]
            picture[lines, columns] = color * shade * pattern[..., None]
            picture[lines, start % SIDE] *= 0.55
        picture[row * height] *= 0.55
    return _to_pixels(picture)


def tiles(random: np.random.Generator, color: Color) -> np.ndarray:
    """Square tiles with joints.

    Example:
        >>> tiles(np.random.default_rng(0), np.array([0.6, 0.5, 0.4])).shape
        (512, 512, 3)
    """
    count = int(random.choice([4, 5, 8]))
    return _laid(random, color, count, count, 0.0, float(random.uniform(0.02, 0.06)))


def bricks(random: np.random.Generator, color: Color) -> np.ndarray:
    """A wall of bricks, every other row shifted.

    Example:
        >>> bricks(np.random.default_rng(0), np.array([0.6, 0.5, 0.4])).shape
        (512, 512, 3)
    """
    return _laid(random, color, 16, 6, 0.5, 0.14)


def _laid(
    random: np.random.Generator, color: Color, rows: int, columns: int, shift: float, spread: float
) -> np.ndarray:
    down, across = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    row = (down * rows).astype(int)
    place = across * columns + shift * (row % 2)
    column = place.astype(int) % columns
    shades = 1 + random.normal(0, spread, (rows, columns, 1)) + random.normal(0, spread / 3, (rows, columns, 3))
    picture = color * shades[row, column] * (1 + 0.04 * tiling_noise(random, (8, 8), 6)[..., None])
    near = np.minimum((down * rows) % 1, 1 - (down * rows) % 1) / rows
    beside = np.minimum(place % 1, 1 - place % 1) / columns
    joint = np.minimum(near, beside) < float(random.uniform(0.003, 0.007))
    picture[joint] = np.clip(color.mean() * float(random.uniform(0.5, 1.3)), 0, 0.9)
    return _to_pixels(picture)


def wallpaper(random: np.random.Generator, color: Color) -> np.ndarray:
    """Stripes or a repeated motif.

    Example:
        >>> wallpaper(np.random.default_rng(0), np.array([0.6, 0.5, 0.4])).shape
        (512, 512, 3)
    """
    other = np.clip(color * random.uniform(0.75, 1.15, 3), 0, 1)
    repeats = int(random.choice([4, 6, 8, 12]))
    if random.random() < 0.5:
        wave = np.sin(np.arange(SIDE) / SIDE * 2 * np.pi * repeats)[None] + np.zeros((SIDE, 1))
        share = (wave > float(random.uniform(-0.6, 0.6))).astype(np.float32)
    else:
        cell = tiling_noise(random, (3, 3), 3, SIDE // repeats)
        cell = cell + cell[:, ::-1]
        share = np.tile(1 / (1 + np.exp(-6 * cell)), (repeats + 1, repeats + 1))[:SIDE, :SIDE]
    mixed = color * (1 - share[..., None]) + other * share[..., None]
    return _to_pixels(mixed * (1 + 0.015 * tiling_noise(random, (8, 8), 5)[..., None]))


def _to_pixels(picture: np.ndarray) -> np.ndarray:
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


FLOORS: tuple[tuple[Callable[[np.random.Generator, Color], np.ndarray], float], ...] = (
    (planks, 0.45), (tiles, 0.2), (carpet, 0.2), (plaster, 0.15),
)  # fmt: skip
WALLS: tuple[tuple[Callable[[np.random.Generator, Color], np.ndarray], float], ...] = (
    (paint, 0.5), (wallpaper, 0.2), (plaster, 0.15), (tiles, 0.08), (bricks, 0.07),
)  # fmt: skip


def draw_surface(
    random: np.random.Generator, kinds: tuple[tuple[Callable[..., np.ndarray], float], ...], brightness: float
) -> tuple[str, np.ndarray]:
    """A surface of a random kind and colour.

    Args:
        random: where chance comes from.
        kinds: functions and how often each is taken.
        brightness: of its colour, about, 0 to 1.

    Returns:
        Name of the kind, and (SIDE, SIDE, 3) uint8.

    Example:
        >>> kind, picture = draw_surface(np.random.default_rng(0), ((tiles, 1.0),), brightness=0.6)
        >>> kind, picture.shape
        ('tiles', (512, 512, 3))
    """
    weights = np.array([weight for _, weight in kinds])
    make = kinds[int(random.choice(len(kinds), p=weights / weights.sum()))][0]
    warmth = random.normal(0, 0.08)
    value = float(np.clip(random.normal(brightness, 0.14), 0.1, 0.93))
    color = np.clip(value * (1 + np.array([warmth, random.normal(0, 0.02), -warmth])), 0.03, 0.95)
    if make is planks:
        color = value * np.array([0.95, 0.72, 0.50]) ** float(random.uniform(0.4, 1.3))
    elif make is bricks:
        color = np.array([0.62, 0.36, 0.28]) * float(random.uniform(0.7, 1.3))
    elif random.random() < 0.15:  # something bold
        color = np.clip(value * random.uniform(0.4, 1.2, 3), 0.05, 0.95)
    return make.__name__, make(random, color)
