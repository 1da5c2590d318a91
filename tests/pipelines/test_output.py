"""The output of mask pipelines: what it prints, how it is indexed, one output a photo."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion import AmodalPipelineOutput
from amodal_diffusion.masks import TileStack

ORDER = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 0]], np.int8)


def masks(count=3, height=48, width=64):
    planes = np.zeros((count, height, width), bool)
    for index, plane in enumerate(planes):
        plane[index : index + 4, 5:10] = True
    return planes


def make(kind="np", count=3, names=("bird", "giraffe", "bird")):
    planes = masks(count)
    probabilities = planes.astype(np.float32)
    if kind == "pt":
        planes, probabilities = torch.from_numpy(planes), torch.from_numpy(probabilities)
    elif kind == "pil":
        planes = [Image.fromarray(plane.astype(np.uint8) * 255) for plane in planes]
    elif kind == "compact":
        planes, probabilities = TileStack.from_dense(planes), TileStack.from_dense(probabilities)
    order = ORDER[:count, :count]
    return AmodalPipelineOutput(planes, probabilities, order, names=names and list(names)[:count])


KINDS = pytest.mark.parametrize("kind", ["np", "pt", "pil", "compact"])


class TestRepr:
    @KINDS
    def test_one_line_for_any_container(self, kind):
        expected = "AmodalPipelineOutput(3 objects, 64x48: amodal_masks, probabilities, order, names)"
        assert repr(make(kind)) == str(make(kind)) == expected

    def test_of_a_list_of_photos(self):
        out = AmodalPipelineOutput([masks(3), masks(1)], [masks(3), masks(1)])
        assert repr(out) == "AmodalPipelineOutput(2 photos, 3 + 1 objects: amodal_masks, probabilities)"

    def test_of_an_object(self):
        assert repr(make().objects[0]) == "AmodalObject(0, 'bird', 20 pixels, in front of: giraffe)"
        assert repr(make(names=None).objects[1]) == "AmodalObject(1, 20 pixels, behind: 0)"
        assert repr(make().objects) == "3 objects: bird, giraffe, bird"


class TestAsADiffusersOutput:
    def test_indexed_by_field_and_as_a_tuple(self):
        out = make(names=None)
        assert out["amodal_masks"] is out.amodal_masks is out[0] is out.to_tuple()[0]
        assert list(out) == ["amodal_masks", "probabilities", "order"]
        assert out.to_tuple() == (out.amodal_masks, out.probabilities, out.order, *[None] * 5)
        assert out[3] is None and AmodalPipelineOutput(masks(), masks(), uncertainty=masks())[3] is not None

    @KINDS
    def test_survives_pickling(self, kind):
        back = pickle.loads(pickle.dumps(make(kind)))
        assert type(back) is AmodalPipelineOutput and back.names == ["bird", "giraffe", "bird"]


class TestObjects:
    @KINDS
    def test_planes_of_one_object(self, kind):
        obj = make(kind).objects["giraffe"]
        np.testing.assert_array_equal(np.asarray(obj.amodal_mask) != 0, masks()[1])
        np.testing.assert_array_equal(np.asarray(obj.probability), masks()[1])
        assert obj.index == 1 and obj.name == "giraffe" and obj.uncertainty is None
        assert obj.behind == [0] and obj.in_front_of == []
        assert "20 pixels" in repr(obj)

    def test_by_index(self):
        objects = make().objects
        assert [obj.index for obj in objects] == [0, 1, 2] and len(objects) == 3
        assert objects[-1].index == 2 and [obj.index for obj in objects[1:]] == [1, 2]
        with pytest.raises(IndexError, match="there are 3 objects, got the index 3"):
            objects[3]

    def test_samples_and_occluders(self):
        out = make()
        out.samples, out.sample_scores = np.zeros((3, 4, 48, 64), bool), np.ones((3, 4), np.float32)
        out.occluder_masks = masks()
        obj = out.objects[2]
        assert obj.samples.shape == (4, 48, 64) and obj.sample_scores.shape == (4,)
        np.testing.assert_array_equal(obj.occluder_mask, masks()[2])

    def test_names_that_are_wrong_or_not_unique(self):
        with pytest.raises(KeyError, match="no object is named 'cup'; the names are 'bird', 'giraffe'"):
            make().objects["cup"]
        with pytest.raises(KeyError, match=r"2 objects are named 'bird': \[0, 2\]"):
            make().objects["bird"]
        with pytest.raises(KeyError, match="no names were given"):
            make(names=None).objects["bird"]

    def test_without_order(self):
        obj = AmodalPipelineOutput(masks(), masks().astype(np.float32)).objects[0]
        assert obj.behind is None and obj.in_front_of is None and obj.name == ""

    def test_of_a_list_of_photos_needs_split(self):
        out = AmodalPipelineOutput(
            [masks(3), masks(1)], [masks(3), masks(1)], [ORDER, None], names=[["a", "b", "c"], None]
        )
        with pytest.raises(TypeError, match=r"this output has 2 photos: `out.split\(\)`"):
            out.objects  # noqa: B018
        first, second = out.split()
        assert first.objects["b"].behind == [0] and second.order is None and second.names is None
        assert first.split() == [first]
