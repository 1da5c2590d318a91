"""The OrderNet pipeline: a network with a known rule, both ways round, empty and wrong inputs, loading, other uses."""

import json

import numpy as np
import pytest
import torch

from amodal_diffusion import AmodalPipeline, OrderNet, OrderNetPipeline
from amodal_diffusion.data.samplers import order_by_pipeline
from amodal_diffusion.models.order_net import RELATIONS, OrderNetOutput
from amodal_diffusion.ordering import neighbours, order_by_area
from amodal_diffusion.pipelines import CallInterruptedError
from amodal_diffusion.pipelines.order_net import mean_of_both_ways
from photo_helpers import draw_scene, tiny_order_net
from pipeline_helpers import tiny_pipeline


class LargerInFront(OrderNet):
    """By the pixels of the crops; the first object is a little in front for itself, which both ways round undo."""

    def forward(self, first, second, image=None, return_dict=True):
        more = (first.sum((1, 2, 3)) - second.sum((1, 2, 3))) / 50
        logits = torch.stack([-more, more + 0.01], dim=1)
        if self.config.num_relations == 3:
            logits = torch.cat([logits, torch.full_like(logits[:, :1], 0.5)], dim=1)
        return OrderNetOutput(logits)


def ruled(**config):
    sizes = {"hidden_sizes": (4,), "depths": (1,), "embedding_size": 4, "layer_type": "basic"}
    return quiet(OrderNetPipeline(LargerInFront(**{"use_rgb": False, "sample_size": 64, **sizes, **config}).eval()))


def quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_pairs_are_ordered_whatever_the_order_of_the_masks():
    _, modal, _ = draw_scene(3)
    output = ruled()(None, modal)
    np.testing.assert_array_equal(output.order, order_by_area(modal, front="larger"))
    touch = neighbours(modal)
    assert output.order.dtype == np.int8 and (output.order != 0).sum() == touch.sum() > 0
    likely = output.probabilities
    np.testing.assert_allclose((likely + likely.T)[touch], 1, atol=1e-6)
    assert (likely[~touch] == 0).all()
    turned = ruled()(None, modal[::-1])
    np.testing.assert_array_equal(turned.order, output.order[::-1, ::-1])
    np.testing.assert_allclose(turned.probabilities, likely[::-1, ::-1], atol=1e-6)


def test_a_third_answer_leaves_pairs_unrelated():
    masks = np.zeros((2, 40, 60), bool)
    masks[0, :, :30], masks[1, :, 30:] = True, True  # of one size
    assert ruled()(None, masks).order.any()
    assert not ruled(num_relations=3)(None, masks).order.any()
    masks[1, :20] = False
    assert ruled(num_relations=3)(None, masks).order[0, 1] == 1


def test_mean_of_both_ways():
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0]])
    there, back = logits.softmax(1)
    expected = [(there[0] + back[1]) / 2, (there[1] + back[0]) / 2, (there[2] + back[2]) / 2]
    torch.testing.assert_close(mean_of_both_ways(logits), torch.stack(expected)[None])
    assert len(RELATIONS) == 3


def test_a_real_network_in_any_batch_in_lists_and_in_half_precision():
    photo, modal, _ = draw_scene(1, 48, 64)
    pipeline = quiet(OrderNetPipeline(tiny_order_net()))
    expected = pipeline(photo, modal)
    assert expected.order.any()
    np.testing.assert_allclose(pipeline(photo, modal, batch_size=1).probabilities, expected.probabilities, atol=1e-6)
    both = pipeline([photo, photo], [modal, modal[:0]])
    np.testing.assert_array_equal(both.order[0], expected.order)
    assert both.order[1].shape == both.probabilities[1].shape == (0, 0)
    order, likely, _ = pipeline(photo, modal, return_dict=False)
    assert np.array_equal(order, expected.order) and likely.dtype == np.float32
    half = quiet(OrderNetPipeline(tiny_order_net()).to(torch.bfloat16))(photo, modal)
    assert abs(half.probabilities - expected.probabilities).max() < 0.1
    empty = pipeline(photo, np.zeros_like(modal))
    assert not empty.order.any() and not empty.probabilities.any()


def test_wrong_inputs_are_named():
    photo, modal, _ = draw_scene(1, 48, 64)
    pipeline = quiet(OrderNetPipeline(tiny_order_net()))
    for given, error, message in (
        ((None, modal), ValueError, "`image` must be given: OrderNetPipeline looks at the photo"),
        (([photo, None], [modal, modal]), ValueError, r"`image\[1\]` must be given"),
        ((photo[:9], modal), ValueError, r"`masks`.*\(48, 64\).*\(9, 64\)"),
        ((photo, "masks"), TypeError, "`masks`"),
    ):
        with pytest.raises(error, match=message):
            pipeline(*given)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
        pipeline(photo, modal, batch_size=0)
    with pytest.raises(TypeError, match="`callback` must be a function or None"):
        pipeline(photo, modal, callback=3)
    with pytest.raises(CallInterruptedError):
        pipeline(photo, modal, callback=lambda *told: False)
    with pytest.raises(ValueError, match="`crop` must be one of"):
        OrderNetPipeline(tiny_order_net(), crop="round")


def test_saves_and_loads(tmp_path):
    photo, modal, _ = draw_scene(1, 48, 64)
    pipeline = quiet(OrderNetPipeline(tiny_order_net(), enlarge_box=2.5))
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline", "OrderNetPipeline"]
    assert index["model"] == ["amodal_diffusion", "OrderNet"]
    loaded = quiet(AmodalPipeline.from_pretrained(tmp_path))
    assert type(loaded) is OrderNetPipeline and loaded.config.enlarge_box == 2.5
    np.testing.assert_allclose(loaded(photo, modal).probabilities, pipeline(photo, modal).probabilities, atol=1e-6)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_runtimes(runtime):
    photo, modal, _ = draw_scene(1, 48, 64)
    pipeline = quiet(OrderNetPipeline(tiny_order_net()))
    expected = pipeline(photo, modal).probabilities
    np.testing.assert_allclose(pipeline.use_runtime(runtime)(photo, modal).probabilities, expected, atol=1e-3)


def test_its_order_is_taken_wherever_one_is_asked_for():
    _, modal, _ = draw_scene(3)
    order = ruled().infer_order(modal)
    np.testing.assert_array_equal(tiny_pipeline()(None, modal, order=order).order, order)
    np.testing.assert_array_equal(order_by_pipeline(ruled())(modal), order)


def test_of_depth_all_pairs_are_asked_about(tmp_path):
    masks = np.zeros((4, 40, 90), bool)
    masks[0, 4:36, :30], masks[1, :10, 34:40], masks[2, 10:30, 60:80] = True, True, True  # none touches another
    pipeline = ruled(num_relations=3, answer="depth")
    output = pipeline(None, masks)
    assert output.order is None and pipeline.answers_depth
    np.testing.assert_array_equal(output.depth_order[:3, :3], [[0, 1, 1], [-1, 0, -1], [-1, 1, 0]])  # larger is closer
    assert not output.depth_order[3].any() and not output.probabilities[3].any()  # it is not seen
    np.testing.assert_array_equal(pipeline.infer_depth_order(masks), output.depth_order)
    order, likely, depth = pipeline(None, masks, return_dict=False)
    assert order is None and likely[0, 1] > 0.5 and depth is not None
    first, second = pipeline([None, None], [masks[:2], masks[1:]]).depth_order
    assert first.shape == (2, 2) and second.shape == (3, 3)
    with pytest.raises(ValueError, match="must answer occlusion, and this OrderNet tells who is closer"):
        pipeline.infer_order(masks)
    with pytest.raises(ValueError, match="must answer depth, and this OrderNet tells who hides whom"):
        ruled().infer_depth_order(masks)
    assert ruled()(None, masks).depth_order is None and ruled()(None, masks, return_dict=False)[2] is None


def test_a_folder_of_before_answers_occlusion(tmp_path):
    OrderNetPipeline(tiny_order_net()).save_pretrained(tmp_path)
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    del config["answer"]
    path.write_text(json.dumps(config))
    assert not AmodalPipeline.from_pretrained(tmp_path).answers_depth
