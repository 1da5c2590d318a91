"""Pinhole cameras from matrices, nerfstudio and NeRF, COLMAP and Matterport3D.

A camera looks along +z, x to the right, y down, and pixel (0, 0) has its centre at (0.5, 0.5), as in COLMAP.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...files import read_json

Convention = Literal["opencv", "opengl", "pytorch3d"]
CONVENTIONS: dict[str, tuple[float, float, float]] = {
    "opencv": (1.0, 1.0, 1.0),
    "opengl": (1.0, -1.0, -1.0),
    "pytorch3d": (-1.0, -1.0, 1.0),
}
"""Signs that turn a camera's axes into ours: x right, y down, z ahead; x right, y up, z back; x left, y up, z ahead."""
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
_COLMAP_MODELS = {"SIMPLE_PINHOLE": 3, "PINHOLE": 4, "SIMPLE_RADIAL": 4, "RADIAL": 5, "OPENCV": 8}
_MAX_SIDE = 2**14


class CameraError(ValueError):
    """A file of cameras that cannot be used; the message names the file, what was expected and what came.

    Example:
        >>> try:
        ...     Camera(0, 48, 60.0, 60.0, 32.0, 24.0, np.eye(4), "left.jpg")
        ... except CameraError as error:
        ...     print(error)
        camera 'left.jpg': size must be from 1 to 16384 pixels, got 0×48
    """


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera in the world.

    Args:
        width, height: size of its photos in pixels.
        fx, fy: focal lengths in pixels.
        cx, cy: principal point in pixels, from the upper left corner of the photo.
        camera_to_world: (4, 4) float64, axes x right, y down, z ahead.
        name: file name of its photo, or what the source calls it.

    Raises:
        CameraError: a size or focal length that is not positive, or a matrix that is no pose.

    Example:
        >>> camera = Camera(64, 48, 60.0, 60.0, 32.0, 24.0, np.eye(4))
        >>> camera.project(np.array([[0.0, 0.0, 2.0]])).tolist()  # what lies ahead is in the middle
        [[32.0, 24.0]]
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    camera_to_world: np.ndarray
    name: str = ""

    def __post_init__(self) -> None:
        what = f"camera {self.name!r}"
        if not (0 < self.width <= _MAX_SIDE and 0 < self.height <= _MAX_SIDE):
            raise CameraError(f"{what}: size must be from 1 to {_MAX_SIDE} pixels, got {self.width}×{self.height}")
        if not (0 < self.fx < math.inf and 0 < self.fy < math.inf):
            raise CameraError(f"{what}: focal lengths must be positive, got {self.fx} and {self.fy}")
        if not (math.isfinite(self.cx) and math.isfinite(self.cy)):
            raise CameraError(f"{what}: the principal point must be finite, got ({self.cx}, {self.cy})")
        object.__setattr__(self, "camera_to_world", check_pose(self.camera_to_world, what))

    @property
    def position(self) -> np.ndarray:
        """(3,) float64, in the world."""
        return self.camera_to_world[:3, 3]

    def world_to_camera(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) points of the world in the camera's axes."""
        return (points - self.position) @ self.camera_to_world[:3, :3]

    def project(self, points: np.ndarray) -> np.ndarray:
        """(N, 2) pixels (x, y) of (N, 3) points of the world; only those ahead of the camera have a meaning."""
        local = self.world_to_camera(points)
        return local[:, :2] / local[:, 2:] * (self.fx, self.fy) + (self.cx, self.cy)

    def directions(self, window: tuple[int, int, int, int] | None = None) -> np.ndarray:
        """(h, w, 3) directions through the centres of the pixels of a window (x, y, w, h), in the world.

        Their length is 1 along the optical axis, so that a distance in lengths of the direction is a depth.
        """
        x, y, width, height = window or (0, 0, self.width, self.height)
        rays = np.ones((height, width, 3))
        rays[..., 0] = (np.arange(x, x + width) + 0.5 - self.cx) / self.fx
        rays[..., 1] = ((np.arange(y, y + height) + 0.5 - self.cy) / self.fy)[:, None]
        return rays @ self.camera_to_world[:3, :3].T

    def resized(self, width: int, height: int) -> Camera:
        """The same camera with photos of another size."""
        across, down = width / self.width, height / self.height
        return replace(
            self, width=width, height=height, fx=self.fx * across, fy=self.fy * down, cx=self.cx * across,
            cy=self.cy * down,
        )  # fmt: skip


def check_pose(matrix: Any, what: str) -> np.ndarray:
    """A (4, 4) pose from a (4, 4) or (3, 4) matrix; a common scale of its axes is taken out, as COLMAP exports have it.

    Raises:
        CameraError: another shape, values that are not finite, axes that are no rotation.

    Example:
        >>> check_pose(2 * np.eye(4)[:3], "camera 0").tolist()
        [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    """
    try:
        given = np.asarray(matrix, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CameraError(f"{what}: pose must be a matrix of numbers, got {matrix!r:.100}") from error
    if given.shape not in ((3, 4), (4, 4)):
        raise CameraError(f"{what}: pose must be a 3×4 or 4×4 matrix, got shape {given.shape}")
    if not np.isfinite(given).all():
        raise CameraError(f"{what}: pose must be finite, got {given.tolist()}")
    pose = np.eye(4)
    pose[: len(given)] = given
    scale = np.cbrt(np.linalg.det(pose[:3, :3]))
    if scale <= 0 or not np.allclose(pose[:3, :3] @ pose[:3, :3].T / scale**2, np.eye(3), atol=1e-3):
        raise CameraError(f"{what}: pose must have a rotation in its first three columns, got {pose[:3, :3].tolist()}")
    # Embree works in single precision, but the projected boxes do not: the axes are made square to each other.
    left, _, right = np.linalg.svd(pose[:3, :3])
    pose[:3, :3] = left @ right
    return pose


def read_cameras(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    intrinsics: Sequence[float] | None = None,
    convention: Convention | None = None,
) -> list[Camera]:
    r"""Cameras of a file of any known form.

    Args:
        path: `transforms.json` of nerfstudio or NeRF; a COLMAP text model (its folder, or `images.txt` in it);
            `undistorted_camera_parameters` of Matterport3D (`.conf`); or matrices from camera to world, 3×4 or 4×4,
            in a text file (numbers in rows, poses one after the other) or `.npy`.
        size: (width, height) in pixels, where the file does not say it.
        intrinsics: (fx, fy, cx, cy), likewise; the principal point may be left out for the middle.
        convention: axes of the camera in files of matrices: "opencv" (x right, y down, z ahead; what None takes),
            "opengl" (x right, y up, z back) or "pytorch3d" (x left, y up, z ahead). In `transforms.json` None is
            "opengl", as nerfstudio and NeRF have it.

    Raises:
        FileNotFoundError: nothing there.
        CameraError: a file of another form, lens distortion, no camera, or size and intrinsics that neither the file
            nor the arguments give.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "poses.txt"
        ...     _ = file.write_text("1 0 0 0\n0 1 0 0\n0 0 1 -3\n")
        ...     read_cameras(file, size=(64, 48), intrinsics=(60, 60))[0].position.tolist()
        [0.0, 0.0, -3.0]
    """
    path = Path(path)
    if convention is not None and convention not in CONVENTIONS:
        raise CameraError(f"convention must be one of {sorted(CONVENTIONS)}, got {convention!r}")
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder of cameras: {os.fspath(path)!r}")
    if path.is_dir() or path.name in ("images.txt", "cameras.txt"):
        cameras = _read_colmap(path if path.is_dir() else path.parent)
    elif path.suffix == ".json":
        cameras = _read_transforms(path, convention or "opengl", size)
    elif path.suffix == ".conf":
        cameras = _read_matterport(path, size)
    else:
        cameras = _read_matrices(path, convention or "opencv", size, intrinsics)
    if not cameras:
        raise CameraError(f"{path}: expected at least one camera, got none")
    return cameras


def _convert(pose: Any, convention: str, what: str) -> np.ndarray:
    matrix = check_pose(pose, what)
    matrix[:3, :3] *= CONVENTIONS[convention]
    return matrix


def _read_matrices(
    path: Path, convention: str, size: tuple[int, int] | None, intrinsics: Sequence[float] | None
) -> list[Camera]:
    if size is None or intrinsics is None or len(intrinsics) not in (2, 4):
        raise CameraError(f"{path}: poses alone need size=(width, height) and intrinsics=(fx, fy[, cx, cy])")
    try:
        numbers = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise CameraError(f"{path}: expected matrices of numbers, got {error}") from error
    rows = numbers.shape[-2] if numbers.ndim == 3 else 4 if _has_last_rows(numbers) else 3
    if numbers.size % (4 * rows) or numbers.ndim not in (2, 3) or numbers.shape[-1] not in (4, 12, 16):
        raise CameraError(f"{path}: expected 3×4 or 4×4 matrices, got numbers of shape {numbers.shape}")
    fx, fy, cx, cy = (*intrinsics, *(side / 2 for side in size))[:4] if len(intrinsics) == 2 else intrinsics
    poses = numbers.reshape(-1, rows, 4)
    return [
        Camera(*size, fx, fy, cx, cy, _convert(pose, convention, f"{path}: pose {index}"), f"{index:06d}")
        for index, pose in enumerate(poses)
    ]


def _has_last_rows(numbers: np.ndarray) -> bool:
    """Whether flat poses are 4×4: every fourth row is 0 0 0 1, or a row has 16 numbers."""
    if numbers.shape[-1] != 4:
        return bool(numbers.shape[-1] == 16)
    return bool(len(numbers) % 4 == 0 and np.allclose(numbers[3::4], (0, 0, 0, 1)))


def _read_transforms(path: Path, convention: str, size: tuple[int, int] | None) -> list[Camera]:
    try:
        content = read_json(path)
    except ValueError as error:
        raise CameraError(str(error)) from error
    frames = content.get("frames") if isinstance(content, Mapping) else None
    if not isinstance(frames, list):
        raise CameraError(f"{path}: expected a list under 'frames', got {type(frames).__name__}")
    cameras = []
    for index, frame in enumerate(frames):
        what = f"{path}: frame {index}"
        if not isinstance(frame, Mapping):
            raise CameraError(f"{what}: expected an object, got {type(frame).__name__}")
        values = {**content, **frame}
        bent = [name for name in _DISTORTION if _number(values, name, what, 0.0) != 0]
        if bent:
            raise CameraError(f"{what}: photos must be undistorted, got {bent[0]} = {values[bent[0]]}")
        given = size or (None, None)
        width = round(_number(values, "w", what, given[0]))
        height = round(_number(values, "h", what, given[1]))
        fx = _focal(values, "x", width, what)
        fy = _focal(values, "y", height, what, fx)
        pose = _convert(frame.get("transform_matrix"), convention, what)
        center = (_number(values, "cx", what, width / 2), _number(values, "cy", what, height / 2))
        cameras.append(Camera(width, height, fx, fy, *center, pose, str(frame.get("file_path", f"{index:06d}"))))
    return cameras


def _number(values: Mapping[str, Any], key: str, what: str, default: float | None = None) -> float:
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise CameraError(f"{what}: {key} must be a number, got {value!r}")
    return float(value)


def _focal(values: Mapping[str, Any], axis: str, side: int, what: str, default: float | None = None) -> float:
    if f"fl_{axis}" not in values and f"camera_angle_{axis}" in values:
        return side / 2 / math.tan(_number(values, f"camera_angle_{axis}", what) / 2)
    return _number(values, f"fl_{axis}", what, default)


def _lines(path: Path) -> list[list[str]]:
    if not path.is_file():
        raise FileNotFoundError(f"no such file of cameras: {os.fspath(path)!r}")
    text = path.read_text(encoding="utf-8", errors="replace")
    return [line.split() for line in text.splitlines() if not line.startswith("#")]


def _read_colmap(folder: Path) -> list[Camera]:
    lenses: dict[str, tuple[int, int, float, float, float, float]] = {}
    for parts in filter(None, _lines(folder / "cameras.txt")):
        try:
            number, model, width, height, *rest = parts
            lenses[number] = (int(width), int(height), *_colmap_lens(model, [float(value) for value in rest]))
        except ValueError as error:
            raise CameraError(f"{folder / 'cameras.txt'}: camera {parts[0]}: {error}") from error
    # Two lines a photo, the second with its points, which may be empty.
    lines = _lines(folder / "images.txt")
    while lines and not lines[0]:
        lines.pop(0)
    cameras = []
    for parts in lines[::2]:
        if not parts:
            continue
        what = f"{folder / 'images.txt'}: image {parts[0]}"
        try:
            turn, shift = np.array(parts[1:5], dtype=float), np.array(parts[5:8], dtype=float)
            lens, name = lenses[parts[8]], " ".join(parts[9:])
        except (ValueError, KeyError, IndexError) as error:
            raise CameraError(f"{what}: expected ID QW QX QY QZ TX TY TZ CAMERA NAME, got {' '.join(parts)}") from error
        pose = np.eye(4)
        pose[:3, :3] = _rotation(turn, what).T
        pose[:3, 3] = -pose[:3, :3] @ shift
        cameras.append(Camera(*lens, pose, name))
    return sorted(cameras, key=lambda camera: camera.name)


def _colmap_lens(model: str, values: list[float]) -> tuple[float, float, float, float]:
    if model not in _COLMAP_MODELS:
        raise ValueError(f"model must be one of {sorted(_COLMAP_MODELS)}, got {model}")
    if len(values) != _COLMAP_MODELS[model]:
        raise ValueError(f"{model} has {_COLMAP_MODELS[model]} parameters, got {len(values)}")
    single = model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
    lens = (values[0], *values[:3]) if single else tuple(values[:4])
    if any(values[3 if single else 4 :]):
        raise ValueError(f"photos must be undistorted, got {model} with {values[3 if single else 4 :]}")
    return lens  # type: ignore[return-value]


def _rotation(quaternion: np.ndarray, what: str) -> np.ndarray:
    """(3, 3) of a quaternion (w, x, y, z)."""
    length = float(np.linalg.norm(quaternion))
    if not 0 < length < math.inf:
        raise CameraError(f"{what}: expected a quaternion, got {quaternion.tolist()}")
    w, x, y, z = quaternion / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _read_matterport(path: Path, size: tuple[int, int] | None) -> list[Camera]:
    """Its photos are 1280×1024, its principal points counted from the lower left corner, its axes those of OpenGL."""
    width, height = size or (1280, 1024)
    lens: tuple[float, float, float, float] | None = None
    cameras = []
    for parts in filter(None, _lines(path)):
        try:
            if parts[0] == "intrinsics_matrix":
                numbers = [float(value) for value in parts[1:10]]
                lens = (numbers[0], numbers[4], numbers[2], height - numbers[5])
            elif parts[0] == "scan":
                pose = np.array(parts[3:19], dtype=float).reshape(4, 4)
                if lens is None:
                    raise ValueError("a scan before intrinsics_matrix")
                what = f"{path}: {parts[2]}"
                cameras.append(Camera(width, height, *lens, _convert(pose, "opengl", what), parts[2]))
        except (ValueError, IndexError) as error:
            raise CameraError(f"{path}: {error}") from error
    return cameras
