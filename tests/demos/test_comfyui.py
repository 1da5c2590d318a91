"""The nodes of ComfyUI, run as ComfyUI runs them, with small networks."""

import asyncio
import importlib.util
import sys
import tomllib

import numpy as np
import pytest
import torch

import comfy_stub
from amodal_diffusion import OrderNetPipeline, PCNetContent, Scene, ScenePipeline
from amodal_diffusion.pipelines import ContentPipeline
from interop_helpers import FakeSegmenter
from photo_helpers import tiny_order_net
from pipeline_helpers import gap_filler, tiny_pipeline
from repository_helpers import ROOT

PACK = ROOT / "demos" / "comfyui"


@pytest.fixture
def nodes(tmp_path, monkeypatch):
    """The nodes by their id, from the pack as ComfyUI imports it."""
    for name, module in comfy_stub.modules(tmp_path).items():
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)])
    pack = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pack", pack)
    spec.loader.exec_module(pack)
    del sys.modules["pack.nodes"]

    async def found():
        return await (await pack.comfy_entrypoint()).get_node_list()

    return {node.define_schema().node_id: node for node in asyncio.run(found())}


@pytest.fixture
def image():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 12, 16, 3)).astype(np.float32) / 255)


@pytest.fixture
def masks():
    return torch.from_numpy(FakeSegmenter.masks.astype(np.float32))


@pytest.fixture(scope="module")
def scene_pipeline():
    pipeline = ScenePipeline(gap_filler(), ContentPipeline(PCNetContent((4, 4), sample_size=32)))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_list_of_nodes(nodes):
    schemas = {name: node.define_schema() for name, node in nodes.items()}
    types = {
        name: (schema.display_name, *([slot.io_type for slot in slots] for slots in (schema.inputs, schema.outputs)))
        for name, schema in schemas.items()
    }
    assert types == {
        "AmodalLoadPipeline": ("Load Amodal Pipeline", ["STRING", "COMBO"], ["AMODAL_PIPELINE"]),
        "AmodalCompleteMasks": (
            "Complete Masks", ["AMODAL_PIPELINE", "IMAGE", "MASK"], ["MASK", "MASK", "MASK", "AMODAL_ORDER"],
        ),
        "AmodalOrder": ("What Is in Front", ["AMODAL_ORDER", "IMAGE", "MASK", "INT"], ["IMAGE", "STRING", "MASK"]),
        "AmodalTakeApart": ("Take Photo Apart", ["AMODAL_PIPELINE", "IMAGE", "MASK", "STRING"], ["AMODAL_SCENE"]),
        "AmodalSceneLayers": ("Layers of Scene", ["AMODAL_SCENE"], ["IMAGE", "MASK", "IMAGE"]),
        "AmodalEditScene": (
            "Edit Scene",
            ["AMODAL_SCENE", "INT", "COMBO", "FLOAT", "FLOAT", "FLOAT", "FLOAT", "BOOLEAN"],
            ["AMODAL_SCENE"],
        ),
        "AmodalRenderScene": ("Render Scene", ["AMODAL_SCENE"], ["IMAGE"]),
        "AmodalSaveScene": ("Save Scene", ["AMODAL_SCENE", "STRING", "COMBO"], ["STRING"]),
    }  # fmt: skip
    assert all(schema.category == "amodal" and schema.description for schema in schemas.values())
    assert [name for name, schema in schemas.items() if schema.is_output_node] == ["AmodalSaveScene"]
    guide = (PACK / "README.md").read_text(encoding="utf-8")
    assert all(f"| {schema.display_name} |" in guide for schema in schemas.values())


def test_complete_and_order(nodes, image, masks, scene_pipeline):
    pipeline = gap_filler()
    expected = pipeline(None, FakeSegmenter.masks)
    for given in (pipeline, scene_pipeline):
        whole, hidden, probability, order = comfy_stub.run(
            nodes["AmodalCompleteMasks"], pipeline=given, image=image, masks=masks
        ).args
        np.testing.assert_array_equal(whole.numpy() > 0, expected.amodal_masks)
        np.testing.assert_array_equal(hidden.numpy() > 0, expected.amodal_masks & ~FakeSegmenter.masks)
        np.testing.assert_allclose(probability, expected.probabilities, atol=1e-6)
        np.testing.assert_array_equal(order, expected.order)
    order = np.array([[0, 1], [-1, 0]], np.int8)
    graph, pairs, in_front = comfy_stub.run(nodes["AmodalOrder"], order=order, image=image, masks=masks, object=1).args
    assert graph.shape[0] == 1 and pairs == "0 in front of 1"
    np.testing.assert_array_equal(in_front[0] > 0, FakeSegmenter.masks[0])


def test_scene_from_photo_to_file(nodes, image, masks, scene_pipeline, tmp_path):
    (scene,) = comfy_stub.run(
        nodes["AmodalTakeApart"], pipeline=scene_pipeline, image=image, masks=masks, names="cup\nplate"
    ).args
    assert [layer.name for layer in scene.layers] == ["cup", "plate"]
    (picture,) = comfy_stub.run(nodes["AmodalRenderScene"], scene=scene).args
    torch.testing.assert_close(picture, image)
    layers, alpha, background = comfy_stub.run(nodes["AmodalSceneLayers"], scene=scene).args
    assert layers.shape == (2, 12, 16, 3) and alpha.shape == (2, 12, 16) and background.shape == (1, 12, 16, 3)
    for edit in nodes["AmodalEditScene"].define_schema().inputs[2].widget["options"]:
        (edited,) = comfy_stub.run(
            nodes["AmodalEditScene"], scene=scene, object=0, edit=edit, x=3, factor=1.5, degrees=20
        ).args
        assert len(edited) == {"remove": 1, "duplicate": 3}.get(edit, 2) and not edited.equals(scene)
    for suffix in ("ora", "psd"):
        names = [comfy_stub.run(nodes["AmodalSaveScene"], scene=scene, format=suffix).args[0] for _ in range(2)]
        assert names == [str(tmp_path / "amodal" / f"scene_0000{number}_.{suffix}") for number in (1, 2)]
        assert all(Scene.load(name).equals(scene) for name in names)


def test_loading(nodes, tmp_path):
    tiny_pipeline().save_pretrained(tmp_path / "pcnet-m")
    (pipeline,) = comfy_stub.run(nodes["AmodalLoadPipeline"], model=str(tmp_path / "pcnet-m"), device="cpu").args
    assert type(pipeline).__name__ == "PCNetMaskPipeline"


def test_errors(nodes, image, masks):
    complete, apart, edit = (nodes[name] for name in ("AmodalCompleteMasks", "AmodalTakeApart", "AmodalEditScene"))
    with pytest.raises(ValueError, match=r"`image` must be a batch of one photo \(1, H, W, 3\), got \(2, 12, 16, 3\)"):
        comfy_stub.run(complete, pipeline=gap_filler(), image=image.repeat(2, 1, 1, 1), masks=masks)
    with pytest.raises(ValueError, match=r"`masks` must have the size of the image, \(12, 16\), got \(12, 8\)"):
        comfy_stub.run(complete, pipeline=gap_filler(), image=image, masks=masks[..., :8])
    with pytest.raises(ValueError, match="`image` must hold numbers from 0 to 1, and has NaN in it"):
        comfy_stub.run(complete, pipeline=gap_filler(), image=image * np.nan, masks=masks)
    for other in (OrderNetPipeline(tiny_order_net()), ContentPipeline(filler="smooth")):
        with pytest.raises(TypeError, match=f"`pipeline` must be a mask pipeline .*, got {type(other).__name__}"):
            comfy_stub.run(complete, pipeline=other, image=image, masks=masks)
    with pytest.raises(TypeError, match="`pipeline` must be a scene pipeline"):
        comfy_stub.run(apart, pipeline=gap_filler(), image=image, masks=masks)
    empty = Scene(np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(ValueError, match="`object` must be a number of the 0 objects"):
        comfy_stub.run(edit, scene=empty)
    with pytest.raises(ValueError, match="has no objects"):
        comfy_stub.run(nodes["AmodalSceneLayers"], scene=empty)


def test_package():
    package = tomllib.loads((PACK / "pyproject.toml").read_text())
    assert package["project"]["dependencies"] == (PACK / "requirements.txt").read_text().split()
