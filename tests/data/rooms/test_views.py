"""Visible and whole masks, order by pixel, windows at the edges, holes in textures."""

import numpy as np
import pytest

from amodal_diffusion.data import amodal_features, record_depths
from amodal_diffusion.data.parquet import row_tables
from amodal_diffusion.data.rooms import Material, ObjectMesh, PlacedObject, find_cycles, trace_view, views
from amodal_diffusion.data.rooms.view_rows import RowOptions, view_row
from amodal_diffusion.data.rooms.views import camera_inside, projected_window
from amodal_diffusion.ordering import depth_order
from room_helpers import box, camera, tile

pytest.importorskip("embreex")


def test_modal_is_the_nearest_and_amodal_each_alone():
    view = trace_view([tile("near", -1, -1, 0.5, 1, 2.0), tile("far", -2, -2, 2, 2, 4.0)], camera())
    modal, amodal = view.modal_masks(), view.amodal_masks()
    assert amodal[1].sum() == 64 * 64
    assert amodal[0].sum() == 64 * 48
    assert (modal[0] == amodal[0]).all()
    assert (modal[1] == amodal[1] & ~amodal[0]).all()
    assert np.allclose(view.depth[modal[0]], 2.0)
    assert np.allclose(view.depth[modal[1]], 4.0)
    assert [areas.tolist() for areas in view.areas()] == [[3072, 1024], [3072, 4096]]


def test_a_mask_is_what_pixel_centres_see():
    # From x = -0.25 to 0.25 at depth 1 with focal length 64 is from pixel 16 to 48.
    view = trace_view([tile("tile", -0.25, -0.25, 0.25, 0.25, 1.0)], camera())
    expected = np.zeros((64, 64), dtype=bool)
    expected[16:48, 16:48] = True
    assert (view.amodal_masks()[0] == expected).all()


def test_mutual_occlusion_has_both_relations():
    # Two tiles that cut each other like an X seen from above.
    one = tile("one", -1, -1, 1, 1, (2.0, 3.0, 3.0, 2.0))
    two = tile("two", -1, -0.5, 1, 0.5, (3.0, 2.0, 2.0, 3.0))
    front = trace_view([one, two], camera()).front_pixels()
    assert front[0, 1] > 100
    assert front[1, 0] > 100
    assert find_cycles(front).mutual == ((0, 1),)


def test_cyclic_occlusion_of_three_bars():
    bars = []
    for turn in np.array([0, 120, 240]) * np.pi / 180:
        cos, sin = np.cos(turn), np.sin(turn)
        to_world = np.eye(4)
        to_world[:3, :3] = [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]
        # Beside the middle, each bar comes nearer from one end to the other.
        bar = tile("bar", -1, 0.25, 1, 0.45, (2.0, 3.0, 3.0, 2.0))
        bars.append(PlacedObject(bar.mesh, to_world))
    view = trace_view(bars, camera(128, 160.0))
    found = find_cycles(view.front_pixels())
    assert found.mutual == ()
    assert len(found.cycles) == 1
    assert sorted(found.cycles[0]) == [0, 1, 2]


def test_boxes_spare_the_vertices_of_what_is_out_of_the_frame_alone(monkeypatch):
    found = {True: [], False: []}
    for sparing in (True, False):
        if not sparing:
            monkeypatch.setattr(views, "_is_outside", lambda item, camera: False)
        random = np.random.default_rng(0)
        for _ in range(300):
            to_world = np.eye(4)
            to_world[:3, :3] = np.linalg.qr(random.normal(size=(3, 3)))[0] * random.uniform(0.1, 2)
            to_world[:3, 3] = random.uniform((-4, -4, -2), (4, 4, 5))
            found[sparing].append(projected_window(PlacedObject(box(), to_world), camera()))
    assert found[True] == found[False]
    assert 50 < sum(window is None for window in found[True]) < 250


def test_what_touches_hides_nothing():
    view = trace_view([tile("a", -1, -1, 1, 1, 2.0), tile("b", -1, -1, 1, 1, 2.0 + 1e-6)], camera())
    assert view.front_pixels().sum() == 0


def test_objects_behind_and_around_the_camera():
    behind = tile("behind", -1, -1, 1, 1, -2.0)
    beside = tile("beside", 50, -1, 52, 1, 2.0)
    corners = np.array([[-9, 1, -9], [9, 1, -9], [9, 1, 9], [-9, 1, 9.0]])
    ground = PlacedObject(ObjectMesh("ground", corners, np.array([[0, 1, 2], [0, 2, 3]])))
    view = trace_view([behind, beside, ground], camera())
    assert view.hits[0] is None
    assert view.hits[1] is None
    assert projected_window(ground, camera()) == (0, 38, 64, 26)  # its far edge is 64 / 9 pixels below the middle
    assert view.amodal_masks()[2][39:].all()
    assert not view.amodal_masks()[2][:39].any()


def test_nothing_in_view():
    view = trace_view([], camera())
    assert view.modal_masks().shape == (0, 64, 64)
    assert view.front_pixels().shape == (0, 0)
    assert (view.owner == -1).all()


def test_a_placed_object_is_traced_where_it_stands():
    mesh = box(half=0.5)
    to_world = np.diag([2.0, 1.0, 1.0, 1.0])
    to_world[:3, 3] = (0, 0, 4)
    moved = PlacedObject(ObjectMesh("box", mesh.vertices @ to_world[:3, :3].T + to_world[:3, 3], mesh.faces))
    placed = trace_view([PlacedObject(mesh, to_world)], camera())
    assert (placed.amodal_masks() == trace_view([moved], camera()).amodal_masks()).all()
    assert np.allclose(
        placed.depth[placed.owner == 0], trace_view([moved], camera()).depth[placed.owner == 0], atol=1e-4
    )


@pytest.mark.parametrize("flip", [False, True])
def test_which_way_round_faces_are_does_not_matter(flip):
    mesh = box(half=0.5, center=(0, 0, 3))
    faces = mesh.faces[:, ::-1] if flip else mesh.faces
    assert trace_view([PlacedObject(ObjectMesh("box", mesh.vertices, faces))], camera()).areas()[0][0] == 26 * 26


def test_rays_go_through_holes_of_a_texture():
    texture = np.full((2, 2, 4), 255, dtype=np.uint8)
    texture[:, 0, 3] = 0  # the left half
    uvs = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32)[[[0, 1, 2], [0, 2, 3]]]
    leaf = tile("leaf", -1, -1, 1, 1, 2.0, materials=(Material(texture=texture),), corner_uvs=uvs)
    view = trace_view([leaf, tile("wall", -2, -2, 2, 2, 4.0)], camera())
    assert (view.owner[:, :32] == 1).all()
    assert (view.owner[:, 32:] == 0).all()


def test_a_camera_inside_an_object():
    assert camera_inside(PlacedObject(box(half=1.0)), camera())
    assert not camera_inside(PlacedObject(box(half=1.0, center=(0, 0, 3))), camera())
    assert not camera_inside(tile("tile", -1, -1, 1, 1, 2.0), camera())


def test_rows_know_the_depths_of_whole_objects():
    """Of what is hidden too, and of a slanted tile from its nearest to its farthest pixel."""
    near, far = tile("near", -1, -1, 0.5, 1, 2.0), tile("far", -2, -2, 2, 2, 4.0)
    slanted = tile("slanted", -3, -0.5, 3, 0.5, (3.0, 5.0, 5.0, 3.0))
    items = [near, far, slanted]
    view = trace_view(items, camera())
    row, kept = view_row(items, view, "room-0", options=RowOptions(max_hidden=1.0))
    depths = record_depths(row)
    assert kept == [0, 1, 2]
    np.testing.assert_allclose(depths[:2], [[2.0] * 3, [4.0] * 3], rtol=1e-5)
    nearest, mean, farthest = depths[2]
    traced = view.hits[2].depth[view.hits[2].face >= 0]
    assert (nearest, farthest) == (traced.min(), traced.max()) and nearest < mean < farthest
    np.testing.assert_array_equal(depth_order(depths[:, [0, 2]])[:2], [[0, 1, 1], [-1, 0, 0]])
    (table,) = row_tables([row], amodal_features(with_depth=True))
    assert record_depths(table.to_pylist()[0]).tolist() == depths.astype(np.float32).tolist()
