"""The steps of Modular Diffusers: the same scene as `ScenePipeline`, saved and loaded, one of them replaced."""

import json

import numpy as np
import pytest
import torch
from diffusers.modular_pipelines import ModularPipelineBlocks
from diffusers.modular_pipelines.modular_pipeline_utils import InputParam, OutputParam

from amodal_diffusion import PCNetContent, ScenePipeline
from amodal_diffusion.pipelines import ContentPipeline, SceneBlocks
from interop_helpers import FakeSegmenter
from pipeline_helpers import gap_filler, tiny_pipeline

PHOTO = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
MASKS = FakeSegmenter.masks


@pytest.fixture(scope="module")
def parts():
    return {
        "mask_pipeline": tiny_pipeline(),
        "content_pipeline": ContentPipeline(PCNetContent((4, 4), sample_size=32)),
    }


def steps_with(parts, blocks=None):
    pipe = (blocks or SceneBlocks()).init_pipeline()
    pipe.update_components(**parts)
    return pipe


def test_random_numbers_of_the_pipeline(parts):
    call = {"filler": "exemplar", "background_filler": "exemplar"}
    expected = ScenePipeline(**parts)(PHOTO, MASKS, generator=torch.Generator().manual_seed(3), **call)
    scene = steps_with(parts)(
        image=PHOTO, masks=MASKS, output="scene", generator=torch.Generator().manual_seed(3), **call
    )
    assert scene.equals(expected)


@pytest.mark.parametrize("settings", [{}, {"edge_width": 3.0, "shadows": True, "min_hidden_width": 0}])
def test_the_scene_of_the_pipeline(parts, settings):
    call = {"names": ["cup", "plate"]}
    expected = ScenePipeline(**parts, **settings)(PHOTO, MASKS, **call)
    scene = steps_with(parts)(image=PHOTO, masks=MASKS, output="scene", **call, **settings)
    assert scene.equals(expected)
    np.testing.assert_array_equal(scene.render(output_type="np"), PHOTO)
    order = -expected.order
    given = ScenePipeline(**parts, **settings)(PHOTO, MASKS, order=order)
    assert steps_with(parts)(image=PHOTO, masks=MASKS, order=order, output="scene", **settings).equals(given)


def test_no_objects(parts):
    scene = steps_with(parts)(image=PHOTO, masks=np.zeros((0, 12, 16), bool), output="scene")
    assert len(scene) == 0 and scene.equals(ScenePipeline(**parts)(PHOTO, np.zeros((0, 12, 16), bool)))


def test_saved_and_loaded(parts, tmp_path):
    expected = ScenePipeline(**parts)(PHOTO, MASKS)
    steps_with(parts).save_pretrained(str(tmp_path / "steps"), overwrite_modular_index=True)
    index = json.loads((tmp_path / "steps" / "modular_model_index.json").read_text())
    assert index["mask_pipeline"][:2] == ["amodal_diffusion", "PCNetMaskPipeline"]
    ScenePipeline(**parts).save_pretrained(tmp_path / "scene")
    for folder in ("steps", "scene"):  # the folder of a scene pipeline holds all that the steps need
        pipe = SceneBlocks().init_pipeline(str(tmp_path / folder))
        pipe.load_components(names=["mask_pipeline", "content_pipeline"])
        assert pipe(image=PHOTO, masks=MASKS, output="scene").equals(expected)


class FlatPaint(ModularPipelineBlocks):
    """A step of a user's own in place of ours."""

    inputs = [InputParam("photo", required=True), InputParam("outlines", required=True)]
    intermediate_outputs = [OutputParam("contents"), OutputParam("background")]

    def __call__(self, components, state):
        fields = self.get_block_state(state)
        fields.contents = []
        for mask in fields.outlines.amodal:
            rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
            tile = np.full((np.ptp(rows) + 1, np.ptp(columns) + 1, 4), 200, np.uint8)
            tile[..., 3] = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] * 255
            fields.contents.append(tile)
        fields.background = np.full_like(fields.photo, 7)
        self.set_block_state(state, fields)
        return components, state


def test_a_step_is_replaced(parts):
    blocks = SceneBlocks()
    blocks.sub_blocks["paint"] = FlatPaint()
    scene = steps_with(parts, blocks)(image=PHOTO, masks=MASKS, output="scene")
    assert (scene.background == 7).all() and (scene.layers[0].rgba[..., :3] == 200).all()


def test_segmenter(parts):
    pipe = steps_with({**parts, "mask_pipeline": gap_filler()})
    with pytest.raises(ValueError, match="`masks` must be given: these steps have no segmenter"):
        pipe(image=PHOTO)


def test_state_between_the_steps(parts):
    """Every step reads what an earlier one gives or what the caller may give."""
    state = steps_with(parts)(image=PHOTO, masks=MASKS)
    for block in SceneBlocks().sub_blocks.values():
        for name in block.intermediate_output_names:
            assert name in state.values, name
