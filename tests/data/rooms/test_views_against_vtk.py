"""Our masks against those of another renderer, VTK, on a furnished CAD room that is not part of the repository."""

import os
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.data.rooms import read_cameras, read_scene, trace_view

vtk = pytest.importorskip("vtk")
numpy_support = pytest.importorskip("vtk.util.numpy_support")

DATA = Path(os.environ.get("AMODAL_DATA", Path(__file__).parents[4] / "shared" / "data")) / "scene3d"
POSES = DATA / "room_89_simple_data" / "room_89_simple_trajectory_random_poses_SE3_3x4.txt"
SIZE = 640, 480
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not POSES.exists(), reason="shared/data/scene3d is not here (AMODAL_DATA)"),
]


class Rasteriser:
    """Draws objects in flat colours, a colour an object, at the centres of pixels."""

    def __init__(self, objects):
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.SetSize(*SIZE)
        self.renderer = vtk.vtkRenderer()
        self.renderer.SetBackground(0, 0, 0)
        self.window.AddRenderer(self.renderer)
        self.actors = [self.actor(index, item) for index, item in enumerate(objects)]

    def actor(self, index, item):
        data = vtk.vtkPolyData()
        points = vtk.vtkPoints()
        points.SetData(numpy_support.numpy_to_vtk(np.ascontiguousarray(item.world_vertices), deep=True))
        data.SetPoints(points)
        faces = np.column_stack([np.full(len(item.mesh.faces), 3), item.mesh.faces]).astype(np.int64)
        cells = vtk.vtkCellArray()
        cells.ImportLegacyFormat(numpy_support.numpy_to_vtkIdTypeArray(faces.ravel(), deep=True))
        data.SetPolys(cells)
        mapper = vtk.vtkPolyDataMapper()
        mapper.SetInputData(data)
        actor = vtk.vtkActor()
        actor.SetMapper(mapper)
        look = actor.GetProperty()
        look.SetLighting(False)
        look.SetInterpolationToFlat()
        look.SetColor((index + 1) / 255, 0, 0)
        self.renderer.AddActor(actor)
        return actor

    def draw(self, camera, shown):
        for index, actor in enumerate(self.actors):
            actor.SetVisibility(index in shown)
        view = self.renderer.GetActiveCamera()
        pose = camera.camera_to_world
        view.SetPosition(*pose[:3, 3])
        view.SetFocalPoint(*(pose[:3, 3] + pose[:3, 2]))
        view.SetViewUp(*-pose[:3, 1])
        view.SetViewAngle(np.degrees(2 * np.arctan(camera.height / 2 / camera.fy)))
        view.SetClippingRange(0.01, 30)
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.Update()
        pixels = numpy_support.vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars())
        return pixels.reshape(SIZE[1], SIZE[0], -1)[::-1, :, 0].astype(int) - 1


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_masks_are_those_of_a_rasteriser():
    objects = read_scene(DATA / "room_89_simple.obj")
    cameras = read_cameras(POSES, size=SIZE, intrinsics=(540, 540), convention="opengl")
    rasteriser = Rasteriser(objects)
    compared, worst = 0, 1.0
    for camera in cameras[::25]:
        view = trace_view(objects, camera)
        modal, amodal = view.modal_masks(), view.amodal_masks()
        everything = rasteriser.draw(camera, set(range(len(objects))))
        for index in range(len(objects)):
            alone = rasteriser.draw(camera, {index}) == index
            for ours, theirs in ((amodal[index], alone), (modal[index], everything == index)):
                if max(ours.sum(), theirs.sum()) < 400:  # where one pixel of an outline is more than the bound
                    assert abs(int(ours.sum()) - int(theirs.sum())) < 40
                    continue
                compared += 1
                worst = min(worst, iou(ours, theirs))
    assert len(cameras[::25]) == 20
    assert compared > 100
    assert worst >= 0.995
