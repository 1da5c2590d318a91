"""Cameras of every form, and what is refused."""

import json

import numpy as np
import pytest

from amodal_diffusion.data.rooms import CameraError, read_cameras

POSE = np.array([[0, 0, 1, 1], [1, 0, 0, 2], [0, 1, 0, 3.0]])


def full(pose):
    return np.vstack([pose, [0, 0, 0, 1]])


@pytest.mark.parametrize("rows", [3, 4])
def test_matrices_in_text(tmp_path, rows):
    poses = np.concatenate([full(POSE)[:rows]] * 2)
    np.savetxt(tmp_path / "poses.txt", poses)
    cameras = read_cameras(tmp_path / "poses.txt", size=(64, 48), intrinsics=(60, 61, 31, 23))
    assert len(cameras) == 2
    assert np.allclose(cameras[1].camera_to_world, full(POSE))
    assert (cameras[0].fx, cameras[0].fy, cameras[0].cx, cameras[0].cy) == (60, 61, 31, 23)


@pytest.mark.parametrize("shape", [(1, 3, 4), (1, 12), (1, 16), (1, 4, 4)])
def test_matrices_in_arrays(tmp_path, shape):
    numbers = full(POSE) if np.prod(shape) == 16 else POSE
    np.save(tmp_path / "poses.npy", numbers.reshape(shape))
    camera = read_cameras(tmp_path / "poses.npy", size=(64, 48), intrinsics=(60, 60))[0]
    assert np.allclose(camera.camera_to_world, full(POSE))
    assert (camera.cx, camera.cy) == (32, 24)


def test_conventions_turn_axes(tmp_path):
    np.savetxt(tmp_path / "poses.txt", np.eye(4)[:3])
    options = {"size": (8, 8), "intrinsics": (8, 8)}
    ahead = {
        name: read_cameras(tmp_path / "poses.txt", convention=name, **options)[0].camera_to_world[:3, 2].tolist()
        for name in ("opencv", "opengl", "pytorch3d")
    }
    assert ahead == {"opencv": [0, 0, 1], "opengl": [0, 0, -1], "pytorch3d": [0, 0, 1]}


def test_nerfstudio(tmp_path):
    frame = {"file_path": "images/1.jpg", "transform_matrix": full(POSE).tolist()}
    content = {"fl_x": 50, "fl_y": 51, "cx": 30, "cy": 20, "w": 64, "h": 48, "k1": 0.0, "frames": [frame]}
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    (camera,) = read_cameras(tmp_path / "transforms.json")
    assert (camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy) == (64, 48, 50, 51, 30, 20)
    assert camera.name == "images/1.jpg"
    assert np.allclose(camera.camera_to_world[:3, 2], -POSE[:, 2])


def test_nerf_gives_an_angle(tmp_path):
    frame = {"file_path": "r_0", "transform_matrix": full(POSE).tolist()}
    (tmp_path / "t.json").write_text(json.dumps({"camera_angle_x": np.pi / 2, "frames": [frame]}))
    (camera,) = read_cameras(tmp_path / "t.json", size=(64, 48))
    assert (camera.fx, camera.fy) == pytest.approx((32, 32))


def test_colmap_text(tmp_path):
    (tmp_path / "cameras.txt").write_text("# cameras\n1 PINHOLE 64 48 50 51 30 20\n2 SIMPLE_PINHOLE 32 32 40 16 16\n")
    # World to camera: a quarter turn about z, then one ahead.
    half = np.sqrt(0.5)
    (tmp_path / "images.txt").write_text(
        f"# images\n1 {half} 0 0 {half} 0 0 1 1 b.jpg\n1.0 2.0 -1\n2 1 0 0 0 0 0 0 2 a b.jpg\n\n"
    )
    first, second = read_cameras(tmp_path)
    assert (first.name, second.name) == ("a b.jpg", "b.jpg")
    assert np.allclose(first.camera_to_world, np.eye(4))
    point = np.array([[1.0, 0, 1]])
    assert np.allclose(second.world_to_camera(point), [[0, 1, 2]])
    assert np.allclose(second.project(point), [[30, 20 + 51 / 2]])


def test_matterport(tmp_path):
    pose = " ".join(str(value) for value in np.eye(4).ravel())
    (tmp_path / "house.conf").write_text(
        f"dataset matterport\nn_images 1\nintrinsics_matrix 1075 0 629  0 1076 500  0 0 1\nscan d.png c.jpg {pose}\n"
    )
    (camera,) = read_cameras(tmp_path / "house.conf")
    assert (camera.width, camera.height, camera.cy, camera.name) == (1280, 1024, 524, "c.jpg")
    assert camera.camera_to_world[:3, 2].tolist() == [0, 0, -1]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n", {}, "poses alone need size="),
        ("1 0 0 0\n0 1 0 0\n", {"size": (8, 8), "intrinsics": (8, 8)}, "expected 3×4 or 4×4 matrices"),
        ("1 0 0 0\n0 1 0 0\n0 0 x 0\n", {"size": (8, 8), "intrinsics": (8, 8)}, "expected matrices of numbers"),
        ("1 0 0 0\n0 1 0 0\n0 0 0 0\n", {"size": (8, 8), "intrinsics": (8, 8)}, "pose 0: pose must have a rotation"),
        ("1 0 0 0\n0 1 0 0\n0 0 nan 0\n", {"size": (8, 8), "intrinsics": (8, 8)}, "pose 0: pose must be finite"),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n", {"size": (0, 8), "intrinsics": (8, 8)}, "size must be from 1 to"),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n", {"size": (8, 8), "intrinsics": (-8, 8)}, "focal lengths must be positive"),
    ],
)
def test_bad_matrices(tmp_path, content, options, message):
    (tmp_path / "poses.txt").write_text(content)
    with pytest.raises(CameraError, match=message):
        read_cameras(tmp_path / "poses.txt", **options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no valid JSON"),
        ("[]", "expected a list under 'frames', got NoneType"),
        ('{"frames": []}', "expected at least one camera, got none"),
        ('{"frames": [3]}', "frame 0: expected an object, got int"),
        ('{"frames": [{"w": 8, "h": 8, "fl_x": 8, "k1": 0.1}]}', "frame 0: photos must be undistorted, got k1 = 0.1"),
        ('{"frames": [{"w": 8, "h": 8, "fl_x": 8}]}', "frame 0: pose must be a"),
        ('{"frames": [{"w": 8, "fl_x": 8}]}', "frame 0: h must be a number, got None"),
    ],
)
def test_bad_transforms(tmp_path, content, message):
    (tmp_path / "transforms.json").write_text(content)
    with pytest.raises(CameraError, match=message):
        read_cameras(tmp_path / "transforms.json")


@pytest.mark.parametrize(
    ("cameras", "images", "message"),
    [
        ("1 FISHEYE 8 8 1", "", "camera 1: model must be one of"),
        ("1 PINHOLE 8 8 1", "", "camera 1: PINHOLE has 4 parameters, got 1"),
        ("1 OPENCV 8 8 8 8 4 4 0.1 0 0 0", "", "camera 1: photos must be undistorted"),
        ("1 PINHOLE 8 8 8 8 4 4", "1 1 0 0 0 0 0 0 9 a.jpg", "image 1: expected ID QW"),
        ("1 PINHOLE 8 8 8 8 4 4", "1 0 0 0 0 0 0 0 1 a.jpg", "image 1: expected a quaternion"),
    ],
)
def test_bad_colmap(tmp_path, cameras, images, message):
    (tmp_path / "cameras.txt").write_text(cameras)
    (tmp_path / "images.txt").write_text(images)
    with pytest.raises(CameraError, match=message):
        read_cameras(tmp_path)


def test_missing_file_and_unknown_convention(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder of cameras"):
        read_cameras(tmp_path / "none.json")
    with pytest.raises(CameraError, match="convention must be one of"):
        read_cameras(tmp_path, convention="blender")
