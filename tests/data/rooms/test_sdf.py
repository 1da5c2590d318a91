"""Worlds of robot simulators: models, poses, shapes, and meshes found by their URIs."""

import numpy as np
import pytest

from amodal_diffusion.data.rooms import Camera, MeshError, read_scene, trace_view
from amodal_diffusion.data.rooms.furnishing import look_at
from amodal_diffusion.data.rooms.scans import read_sdf
from repository_helpers import SHARED, needs_shared

TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"


def visual(geometry, pose=""):
    return f"<visual name='v'>{pose}<geometry>{geometry}</geometry></visual>"


def model(name, content, pose="", link_pose=""):
    return f"<model name='{name}'>{pose}<link name='l'>{link_pose}{content}</link></model>"


def write(folder, *parts, name="world.sdf"):
    folder.mkdir(parents=True, exist_ok=True)
    text = f"<?xml version='1.0'?><sdf version='1.6'><world name='w'>{''.join(parts)}</world></sdf>"
    (folder / name).write_text(text)
    return folder / name


def bounds(item):
    return item.bounds.round(6).tolist()


def test_poses_of_model_link_and_visual_follow_each_other(tmp_path):
    (tmp_path / "tri.obj").write_text(TRIANGLE)
    mesh = visual("<mesh><uri>tri.obj</uri><scale>2 3 1</scale></mesh>", "<pose>0 0 1 0 0 0</pose>")
    turned = "<pose>10 0 0 0 0 1.5707963267948966</pose>"
    write(tmp_path, model("wedge", mesh, turned, "<pose>0 5 0 0 0 0</pose>"))
    (item,) = read_scene(tmp_path / "world.sdf")
    # Scaled to 2 by 3, lifted by 1, moved by 5 along y, turned by 90 degrees about z, moved by 10 along x.
    assert bounds(item) == [[10 - 8, 0, 1], [10 - 5, 2, 1]]
    assert item.mesh.name == item.mesh.label == "wedge"


def test_roll_pitch_yaw_in_radians_and_degrees(tmp_path):
    box = visual("<box><size>2 4 6</size></box>")
    write(
        tmp_path,
        model("roll", box, "<pose>0 0 0 1.5707963267948966 0 0</pose>"),
        model("pitch", box, "<pose degrees='true'>0 0 0 0 90 0</pose>"),
        model("all", box, "<pose degrees='true'>0 0 0 90 90 0</pose>"),
    )
    sizes = [np.ptp(item.bounds, axis=0).round(6).tolist() for item in read_scene(tmp_path / "world.sdf")]
    assert sizes == [[2, 6, 4], [6, 4, 2], [4, 6, 2]]  # rolled first, then pitched


def test_shapes_and_stuff(tmp_path):
    color = "<material><diffuse>1 0.5 0 1</diffuse></material>"
    parts = {
        "ball": "<sphere><radius>0.5</radius></sphere>",
        "can": "<cylinder><radius>0.5</radius><length>2</length></cylinder>",
        "ground_plane": "<plane><normal>0 0 1</normal><size>6 4</size></plane>",
    }
    write(
        tmp_path,
        *(model(name, visual(shape).replace("</visual>", color + "</visual>")) for name, shape in parts.items()),
    )
    objects = {item.mesh.name: item for item in read_scene(tmp_path / "world.sdf")}
    assert np.allclose(objects["ball"].bounds, [[-0.5] * 3, [0.5] * 3], atol=2e-3)
    assert np.allclose(objects["can"].bounds, [[-0.5, -0.5, -1], [0.5, 0.5, 1]], atol=2e-3)
    assert bounds(objects["ground_plane"]) == [[-3, -2, 0], [3, 2, 0]]
    assert [item.mesh.is_stuff for item in objects.values()] == [False, False, True]
    assert objects["ball"].mesh.materials[0].color == (1, 0.5, 0)
    camera = look_at(np.array([0.0, 0.1, 5]), np.zeros(3), (64, 64), 0.6)
    assert trace_view([objects["ball"]], camera).areas()[0][0] > 300


def test_links_are_one_object_and_collisions_are_none(tmp_path):
    box = "<geometry><box><size>1 1 1</size></box></geometry>"
    links = "".join(
        f"<link name='{x}'><pose>{x} 0 0 0 0 0</pose><visual name='v'>{box}</visual>"
        f"<collision name='c'><geometry><mesh><uri>gone.obj</uri></mesh></geometry></collision></link>"
        for x in (0, 3)
    )
    write(tmp_path, f"<model name='robot'>{links}</model><model name='sensor'><link name='l'/></model>")
    (item,) = read_scene(tmp_path / "world.sdf")
    assert item.mesh.name == "robot" and bounds(item) == [[-0.5, -0.5, -0.5], [3.5, 0.5, 0.5]]


@pytest.mark.parametrize(
    "uri",
    ["../moved/away/cup/tri.obj", "model://cup/tri.obj", "package://robots/cup/tri.obj", "file:///gone/cup/tri.obj"],
)
def test_meshes_are_found_where_they_are_now(tmp_path, uri):
    (tmp_path / "cup").mkdir()
    (tmp_path / "cup" / "tri.obj").write_text(TRIANGLE)
    (tmp_path / "tri.obj").write_text("not this one")
    write(tmp_path / "layouts", model("cup", visual(f"<mesh><uri>{uri}</uri></mesh>")))
    assert len(read_sdf(tmp_path / "layouts" / "world.sdf")) == 1


def test_included_models(tmp_path):
    (tmp_path / "cup").mkdir()
    own = "<pose>9 9 9 0 0 0</pose>"
    text = f"<sdf version='1.6'>{model('cup', visual('<box><size>1 1 1</size></box>'), own)}</sdf>"
    (tmp_path / "cup" / "model.sdf").write_text(text)
    one = "<include><uri>model://cup</uri><name>left cup</name><pose>1 0 0 0 0 0</pose></include>"
    write(tmp_path, one, "<include><uri>model://cup</uri></include>")
    objects = read_sdf(tmp_path / "world.sdf")
    assert [(mesh.name, pose[:3, 3].tolist()) for mesh, pose in objects] == [
        ("left cup", [1, 0, 0]),
        ("cup", [9, 9, 9]),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (model("a", visual("<mesh><uri>gone.obj</uri></mesh>")), "model 'a': no file 'gone.obj' beside .*world.sdf"),
        (model("a", visual("<mesh></mesh>")), "model 'a': mesh must have a uri, got none"),
        (model("a", visual("<mesh><uri>http://x/a.obj</uri></mesh>")), "uri must be a path, file://, model://"),
        (model("a", visual("<box><size>1 1</size></box>")), "model 'a': box size must be 3 numbers, got '1 1'"),
        (model("a", "", "<pose>1 2 3</pose>"), "model 'a': pose must be 6 numbers, got '1 2 3'"),
        (model("a", "", "<pose>1 2 3 nan 0 0</pose>"), "pose must be 6 numbers"),
        (model("a", "", "<pose relative_to='b'>1 2 3 0 0 0</pose>"), "poses relative to 'b' are not read"),
        ("<include><uri>model://gone</uri></include>", "include 'model://gone': no file"),
        ("", "expected at least one object"),
        ("<model", "expected SDF, got no XML"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, message):
    with pytest.raises(MeshError, match=message):
        read_scene(write(tmp_path, content))


def test_other_xml_and_entities_are_refused(tmp_path):
    (tmp_path / "a.sdf").write_text("<robot name='r'/>")
    with pytest.raises(MeshError, match="expected SDF, got <robot>"):
        read_sdf(tmp_path / "a.sdf")
    (tmp_path / "a.sdf").write_text("<!DOCTYPE sdf [<!ENTITY a 'aaaa'>]><sdf>&a;</sdf>")
    with pytest.raises(MeshError, match="no XML that can be read"):
        read_sdf(tmp_path / "a.sdf")


def test_a_model_that_includes_itself(tmp_path):
    write(tmp_path, "<include><uri>world.sdf</uri></include>")
    with pytest.raises(MeshError, match="include each other without end"):
        read_sdf(tmp_path / "world.sdf")


@needs_shared
def test_a_layout_of_ycb_objects():
    objects = read_scene(SHARED / "scene3d" / "ycb" / "layout_0.sdf")
    names = [item.mesh.label for item in objects]
    assert names == ["YcbBanana", "YcbMustardBottle", "YcbPottedMeatCan", "YcbGelatinBox", "YcbFoamBrick"]
    sizes = {name: np.ptp(item.bounds, axis=0) for name, item in zip(names, objects, strict=True)}
    assert 0.17 < sizes["YcbMustardBottle"][2] < 0.21  # it stands, 19 cm high
    assert np.allclose(objects[0].to_world[:3, 3], [-0.196, 0.11794, 0.005])
    low = np.array([item.bounds[0][2] for item in objects])
    assert (np.abs(low) < 0.03).all()  # all on the table at z = 0
    eye = np.array([-0.2, -0.5, 0.3])
    ahead = np.array([-0.25, 0.17, 0.05]) - eye
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(ahead, right), ahead], axis=1)
    pose[:3, 3] = eye
    view = trace_view(objects, Camera(320, 240, 300.0, 300.0, 160.0, 120.0, pose))
    modal, amodal = view.areas()
    assert (amodal > 100).all() and (modal < amodal).any()
