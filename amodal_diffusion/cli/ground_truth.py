"""The commands `amodal-diffusion ground-truth` and `make-rooms`: photos with true whole masks from 3D."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..data import rooms
from ..files import check_output_folder
from .options import add_command, check_given, local_path, seed, write_bad_records, write_out

if TYPE_CHECKING:
    from ..data import BadRecord

# As `data.rooms.CONVENTIONS` and `SCENE_FORMATS` have them; a test compares.
CONVENTIONS = ("opencv", "opengl", "pytorch3d")
SCENE_FORMATS = ("obj", "gltf", "ply", "sdf", "matterport", "replica", "scannet")

_EXAMPLES = """\
scenes:
  scene.obj            an object for each `o`, else for each `g`
  scene.glb            for each node with a mesh
  scene.ply            for each object_id (or instance) of faces or vertices
  layout.sdf           for each model of a robot simulator's world, its meshes found by their URIs or beside it
  house_segmentations/ of Matterport3D; a room of Replica; a scan of ScanNet

cameras:
  transforms.json      of nerfstudio or NeRF
  sparse/              a COLMAP text model
  house.conf           undistorted_camera_parameters of Matterport3D
  poses.txt, .npy      3x4 or 4x4 matrices from camera to world, with --size, --intrinsics and --convention

examples:
  amodal-diffusion ground-truth house_segmentations/ --cameras house.conf --photos undistorted_color_images/ \\
      --output truth/ --occluded-only
  amodal-diffusion ground-truth room.obj --cameras poses.txt --size 640 480 --intrinsics 540 540 \\
      --convention opengl --output truth/

Without --photos the views are rendered, and layers/ holds depth and every object that is hidden in part as a whole.
The output folder is a data set of the one schema: data/, README.md, and layers/.
"""
_ROOM_EXAMPLES = """\
examples:
  amodal-diffusion make-rooms furniture/ --output rooms-train/ --rooms 1500 --size 448
  amodal-diffusion make-rooms furniture/ --output rooms-test/ --rooms 300 --views 1 --split test --size 512
  amodal-diffusion make-rooms furniture/ --output rooms-masks/ --rooms 5000 --views 4 --masks-only --size 256

FURNITURE is a folder with libraries of Sweet Home 3D (.sh3f), as training/get_furniture.sh fetches them. Run it again
to go on where it was cut off, or with more --rooms to make a data set larger. The splits share no furniture.
"""


def add_ground_truth(commands: Any, parents: list[Any]) -> None:
    """Add both commands to the subparsers `commands`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_ground_truth(parser.add_subparsers(), parents=[])
        >>> parser.parse_args("ground-truth room.obj --cameras poses.txt --output out --size 640 480".split()).size
        [640, 480]
    """
    text = "Whole masks, order and depth of every object of a 3D scene, as cameras see them."
    parser = add_command(commands, "ground-truth", _run_ground_truth, text, _EXAMPLES, parents)
    parser.add_argument("scene", type=local_path, metavar="SCENE", help="file or folder, see below")
    parser.add_argument("--cameras", type=local_path, required=True, metavar="PATH", help="file or folder, see below")
    parser.add_argument("--photos", type=local_path, metavar="DIR", help="the real photos, by the cameras' file names")
    parser.add_argument("--output", type=local_path, required=True, metavar="DIR", help="folder of the result")
    parser.add_argument("--format", choices=("auto", *SCENE_FORMATS), default="auto", help="of the scene (auto)")
    parser.add_argument("--size", nargs=2, type=int, metavar=("W", "H"), help="of photos, where no file says it")
    parser.add_argument(
        "--intrinsics", nargs="+", type=float, metavar="F", help="fx fy [cx cy] in pixels, where no file says it"
    )
    parser.add_argument("--convention", choices=CONVENTIONS, help="axes of cameras in files of matrices")
    parser.add_argument("--scale", type=float, default=1.0, metavar="M", help="metres in a unit of the scene (1)")
    parser.add_argument("--stuff", nargs="+", default=[], metavar="NAME", help="objects that are ground or wall")
    parser.add_argument("--with-stuff", action="store_true", help="rows have ground, walls and ceiling too")
    parser.add_argument("--occluded-only", action="store_true", help="keep area(amodal) > 1.2 area(modal) alone [Z24]")
    parser.add_argument("--min-area", type=int, default=16, metavar="PX", help="of an amodal mask (16)")
    parser.add_argument("--split", default="train", metavar="NAME", help="name of the split (train)")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N cameras alone")
    parser.add_argument("--masks-only", action="store_true", help="neither photos nor colours")
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="of rendered photos (0)")
    parser.add_argument("--overwrite", action="store_true", help="replace a data set that is there")
    parser.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise", help="for a bad object or view (raise)"
    )
    _add_make_rooms(commands, parents)


def _add_make_rooms(commands: Any, parents: list[Any]) -> None:
    text = "Render furnished rooms with ground truth, for training and for testing."
    parser = add_command(commands, "make-rooms", _run_make_rooms, text, _ROOM_EXAMPLES, parents)
    parser.add_argument("furniture", type=local_path, metavar="FURNITURE", help="folder of furniture libraries")
    parser.add_argument("--output", type=local_path, required=True, metavar="DIR", help="folder of the data set")
    parser.add_argument("--rooms", type=int, required=True, metavar="N", help="rooms to have in the end")
    parser.add_argument("--views", type=int, default=2, metavar="N", help="photos of each room (2)")
    parser.add_argument("--split", choices=("train", "test"), default="train", help="which furniture (train)")
    parser.add_argument("--size", type=int, default=448, metavar="PX", help="longer side of a photo (448)")
    parser.add_argument("--masks-only", action="store_true", help="no photos: about twenty times as fast")
    parser.add_argument("--no-colors", action="store_true", help="keep neither depth nor hidden colours")
    parser.add_argument("--with-stuff", action="store_true", help="make floor, walls and ceiling objects of rows too")
    parser.add_argument("--libraries", nargs="+", default=[], metavar="NAME", help="such as BlendSwap-CC-0 (all)")
    parser.add_argument("--rooms-per-shard", type=int, default=25, metavar="N", help="rooms in a file (25)")
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="another number, other rooms (0)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (1)")
    parser.add_argument(
        "--cache", type=local_path, metavar="DIR", help="keep models as arrays there, which load far faster"
    )
    parser.add_argument("--license", metavar="NAME", help="the Hub's name of the licence, for the card")


def _run_ground_truth(options: argparse.Namespace) -> None:
    """Run `amodal-diffusion ground-truth`."""
    check_given(files={"scene": options.scene, "--cameras": options.cameras, "--photos": options.photos})
    check_output_folder(options.output)
    bad_records: list[BadRecord] = []
    settings = rooms.GroundTruthOptions(
        scene_format=options.format,
        size=None if options.size is None else (options.size[0], options.size[1]),
        intrinsics=None if options.intrinsics is None else tuple(options.intrinsics),
        convention=options.convention,
        scale=options.scale,
        stuff=tuple(options.stuff),
        with_stuff=options.with_stuff,
        occluded_only=options.occluded_only,
        min_area=options.min_area,
        split=options.split,
        limit=options.limit,
        masks_only=options.masks_only,
        seed=options.seed,
    )
    written = rooms.write_ground_truth(
        options.scene,
        options.cameras,
        options.output,
        photos=options.photos,
        options=settings,
        overwrite=options.overwrite,
        on_error=options.on_error,
        bad_records=bad_records,
    )
    for path in written.files:
        write_out(f"{path}\n")
    for name, value in written.statistics.items():
        write_out(f"{name}: {value}\n")
    write_bad_records(bad_records)


def _run_make_rooms(options: argparse.Namespace) -> None:
    """Run `amodal-diffusion make-rooms`."""
    check_given(files={"furniture": options.furniture})
    check_output_folder(options.output)
    settings = rooms.RoomSettings(
        split=options.split,
        libraries=tuple(_sorted(options.libraries)),
        size=options.size,
        masks_only=options.masks_only,
        colors=not (options.no_colors or options.masks_only),
        views=options.views,
        rooms_per_shard=options.rooms_per_shard,
        seed=options.seed,
        with_stuff=options.with_stuff,
    )
    folder = rooms.generate_rooms(
        options.furniture,
        options.output,
        options.rooms,
        settings,
        workers=options.workers,
        cache=options.cache,
        on_shard=lambda done, total: write_out(f"{done} of {total} shards\n"),
        license=options.license,
    )
    write_out(f"{folder / 'README.md'}\n")


def _sorted(names: Sequence[str]) -> list[str]:
    return sorted(set(names))
