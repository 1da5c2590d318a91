"""The contract that all mask pipelines keep: one call, its options, its output, folders, copies, and devices."""

import copy
import inspect
import json
import pickle
from dataclasses import fields

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion import (
    AmodalPipeline,
    AmodalPipelineOutput,
    AmodalVAE,
    AmodalVAEPipeline,
    ASBUPipeline,
    ASBUPredictor,
    MaskPipeline,
    OccAmodalPipeline,
    PCNetMaskPipeline,
    PhotoPCNetMaskPipeline,
    SDAmodalPipeline,
    SingleStagePipeline,
)
from amodal_diffusion.masks import TileStack
from amodal_diffusion.pipelines import CallInterruptedError
from amodal_diffusion.pipelines.completion.mask_pipeline import COMMON_OPTIONS
from amodal_diffusion.pipelines.registry import find_pipeline, list_pipelines
from diffusion_helpers import offload, tiny_sdamodal
from fresh_process import run_fresh
from photo_helpers import draw_scene, tiny_occamodal, tiny_order_net, tiny_photo_pcnet, tiny_predictor
from pipeline_helpers import tiny_model, tiny_pipeline

FIELDS = tuple(field.name for field in fields(AmodalPipelineOutput))
PLANES = {
    "amodal_masks": bool,
    "probabilities": np.float32,
    "uncertainty": np.float32,
    "occluder_masks": bool,
    "samples": bool,
}
FRESH_PROCESS = """
import sys
import numpy as np
import torch
from amodal_diffusion import AmodalPipeline
scene = np.load("scene.npz")
for name in sys.argv[1:]:
    pipeline = AmodalPipeline.from_pretrained(name)
    assert type(pipeline).__name__ == name and not any(network.training for network in pipeline.networks)
    np.save(name + ".npy", pipeline(scene["photo"], scene["modal"], category_ids=[1, 2, 3]).probabilities)
"""


def mask_pipelines():
    """The classes of the package that complete masks."""
    classes = [find_pipeline(name) for name in list_pipelines()]
    ours = [known for known in classes if known.__module__.startswith("amodal_diffusion.")]
    return [known for known in ours if issubclass(known, MaskPipeline)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def assert_alike(first, second, **tolerance):
    """Two outputs have the same fields with the same values; a few pixels of masks may differ."""
    tolerance = {"atol": 1e-4, **tolerance}
    for name in FIELDS:
        one, other = getattr(first, name), getattr(second, name)
        assert (one is None) == (other is None), name
        for a, b in zip(*([x] if isinstance(x, np.ndarray) else x or [] for x in (one, other)), strict=True):
            if a.dtype == bool:
                assert a.shape == b.shape and (a != b).sum() <= 1e-3 * a.size, name
            else:
                np.testing.assert_allclose(a, b, err_msg=name, **tolerance)


class MaskPipelineTesterMixin:
    """Tests that every mask pipeline passes; a subclass says what it is and makes one with tiny networks.

    `options` bring out all that a call can give, `given` are the fields that the output then has.
    """

    pipeline_class = None
    options = {}
    given = ()
    draws = False
    """The generator decides something."""
    related = False
    """The objects of a call occlude each other."""
    photo_optional = False
    """Masks without a photo are completed too, otherwise."""
    stages = ("masks",)
    """What the callback is told of."""
    compiled_parts = ()
    """Parts of the networks that are compiled; whole networks where there are none."""

    def make(self, **settings):
        raise NotImplementedError

    @pytest.fixture
    def pipeline(self):
        return self.make()

    @pytest.fixture
    def scene(self):
        photo, modal, _ = draw_scene(1, 48, 64)
        return photo, modal

    def call(self, pipeline, *scene, **options):
        return pipeline(*scene, **{"generator": seeded(), **self.options, **options})

    # The signature

    def test_the_class_declares_the_options_of_its_call(self):
        parameters = inspect.signature(self.pipeline_class.__call__).parameters
        first, second, *last = COMMON_OPTIONS
        assert list(parameters) == ["self", "image", "masks", first, second, *self.pipeline_class.call_options, *last]
        for name, parameter in list(parameters.items())[3:]:
            assert parameter.kind is parameter.KEYWORD_ONLY
            assert self.pipeline_class.takes_option(name)
            assert f"            {name}: " in self.pipeline_class.__call__.__doc__, f"{name} is not documented"
        defaults = {name: parameters[name].default for name in COMMON_OPTIONS}
        special = {"output_type": "np", "return_dict": True}
        assert defaults == {**dict.fromkeys(COMMON_OPTIONS), **special}

    def test_options_of_other_pipelines_are_named(self, pipeline, scene):
        every = {name for other in mask_pipelines() for name in other.call_options}
        unusable = sorted(every - set(self.pipeline_class.call_options))
        assert unusable
        for name in (*unusable, "mask_treshold"):
            message = f"^{self.pipeline_class.__name__} takes no `{name}`; its options are occluder_masks, .*callback.$"
            with pytest.raises(TypeError, match=message):
                pipeline(*scene, **{name: None})
            assert not pipeline.takes_option(name)

    # The output

    def test_fields(self, pipeline, scene):
        photo, modal = scene
        output = self.call(pipeline, photo, modal)
        assert {name for name in FIELDS if getattr(output, name) is not None} == set(self.given)
        for name in set(PLANES) & set(self.given):
            value = getattr(output, name)
            assert value.dtype == PLANES[name] and value.shape[0] == 3 and value.shape[-2:] == modal.shape[1:]
        assert not (modal & ~output.amodal_masks).any() and (output.probabilities[modal] == 1).all()
        assert 0 <= output.probabilities.min() and output.probabilities.max() <= 1
        if "order" in self.given:
            assert output.order.shape == (3, 3) and output.order.dtype == np.int8
        if "uncertainty" in self.given:
            assert (output.uncertainty[modal] == 0).all() and output.uncertainty.max() > 0

    def test_tuple_has_every_field_in_its_order(self, pipeline, scene):
        expected = self.call(pipeline, *scene)
        values = self.call(pipeline, *scene, return_dict=False)
        assert type(values) is tuple and len(values) == len(FIELDS)
        assert_alike(AmodalPipelineOutput(*values), expected, atol=0)

    def test_tensors_and_pictures(self, pipeline, scene):
        expected = self.call(pipeline, *scene)
        tensors = self.call(pipeline, *scene, output_type="pt")
        pictures = self.call(pipeline, *scene, output_type="pil")
        for name in self.given:
            value = getattr(tensors, name)
            assert isinstance(value, torch.Tensor) and not value.requires_grad and not value.is_inference()
            np.testing.assert_array_equal(value.numpy(), getattr(expected, name))
            if PLANES.get(name) is bool:
                rows = getattr(pictures, name)
                rows = [row if isinstance(row, list) else [row] for row in rows]
                assert all(picture.mode == "L" for row in rows for picture in row)
                found = np.array([[np.asarray(picture) > 0 for picture in row] for row in rows])
                np.testing.assert_array_equal(found.reshape(getattr(expected, name).shape), getattr(expected, name))
            else:
                np.testing.assert_array_equal(getattr(pictures, name), getattr(expected, name))

    @pytest.mark.parametrize("return_dict", [True, False])
    def test_no_photos(self, pipeline, return_dict):
        output = pipeline([], [], return_dict=return_dict, **self.options)
        output = output if return_dict else AmodalPipelineOutput(*output)
        for name in FIELDS:
            assert getattr(output, name) == ([] if name in self.given else None), name

    @pytest.mark.parametrize("occluders", ["none", "one for all", "one each"])
    def test_compact_is_what_is_dense(self, pipeline, scene, occluders):
        """Among the objects: one without a visible pixel, a speck, one as large as the photo."""
        photo, modal = scene
        modal = np.concatenate([modal, np.zeros((2, *modal.shape[1:]), bool), ~modal[:1]])
        modal[4, 7, 5] = True
        given = {"none": None, "one for all": ~modal[1], "one each": ~modal}[occluders]
        options = {"occluder_masks": given, "category_ids": [1] * len(modal)}
        dense, compact = (self.call(pipeline, photo, modal, output_type=kind, **options) for kind in ("np", "compact"))
        for name in FIELDS:
            expected, found = getattr(dense, name), getattr(compact, name)
            assert isinstance(found, TileStack) == (name in PLANES and expected is not None), name
            if isinstance(found, TileStack) and found.dtype == bool:
                np.testing.assert_array_equal(np.asarray(found), expected, err_msg=name)
            elif expected is not None:
                assert np.asarray(found).dtype == np.asarray(expected).dtype
                np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=1e-6, err_msg=name)
        if dense.probabilities is not None:
            assert compact.probabilities.nbytes <= dense.probabilities.nbytes
        none = self.call(pipeline, photo, modal[:0], output_type="compact")
        assert none.amodal_masks.shape == (0, *modal.shape[1:]) and none.amodal_masks.dtype == bool

    def test_no_masks(self, pipeline, scene):
        output = self.call(pipeline, scene[0], scene[1][:0])
        for name in self.given:
            value = getattr(output, name)
            assert value.shape[0] == 0 and (name not in PLANES or value.shape[-2:] == (48, 64)), name
        assert output.amodal_masks.dtype == bool and output.probabilities.dtype == np.float32

    def test_masks_without_visible_pixels(self, pipeline, scene):
        photo, modal = scene
        nothing = self.call(pipeline, photo, np.zeros((2, 48, 64), bool))
        for name in self.given:
            assert not getattr(nothing, name).any() and getattr(nothing, name).shape[0] == 2, name
        among = self.call(pipeline, photo, np.concatenate([modal[:1], np.zeros((1, 48, 64), bool), modal[1:]]))
        for name in self.given:
            assert not getattr(among, name)[1].any(), name

    def test_full_frame_mask_stays(self, pipeline, scene):
        output = self.call(pipeline, scene[0], np.ones((48, 64), bool))
        assert output.amodal_masks.all() and (output.probabilities == 1).all()

    def test_lists_may_hold_photos_of_every_kind(self, pipeline, scene):
        """Also none that has anything to complete between others."""
        photo, modal = scene
        other, masks, _ = draw_scene(3, 40, 50)
        photos, stacks = [photo, other, other, photo], [modal, masks[:0], np.zeros((2, 40, 50), bool), modal[:1]]
        together = self.call(pipeline, photos, stacks, generator=[seeded() for _ in photos], batch_size=2)
        for index, (image, stack) in enumerate(zip(photos, stacks, strict=True)):
            alone = self.call(pipeline, image, stack, batch_size=5)
            assert_alike(
                AmodalPipelineOutput(
                    **{name: [getattr(together, name)[index]] if name in self.given else None for name in FIELDS}
                ),
                AmodalPipelineOutput(
                    **{name: [getattr(alone, name)] if name in self.given else None for name in FIELDS}
                ),
            )
        errors = [([photo], modal, TypeError, "`masks` must be a list"), ([photo] * 2, [modal], ValueError, "`image`")]
        for images, wrong, error, message in errors:
            with pytest.raises(error, match=message):
                self.call(pipeline, images, wrong)
        with pytest.raises(ValueError, match=r"`masks\[1\]`"):
            self.call(pipeline, [photo, photo], [modal, modal[:, 1:]])

    @pytest.mark.parametrize("batch_size", [1, 2, 100])
    def test_batch_size_changes_nothing(self, pipeline, scene, batch_size):
        assert_alike(self.call(pipeline, *scene, batch_size=batch_size), self.call(pipeline, *scene))

    def test_the_order_of_the_objects_changes_nothing(self, pipeline, scene):
        photo, modal = scene
        turn = np.array([2, 0, 1])
        options = {**self.options, "num_samples": 0} if "num_samples" in self.options else self.options
        expected, turned = pipeline(photo, modal, **options), pipeline(photo, modal[turn], **options)
        turned_back = {}
        for name in FIELDS:
            value = getattr(turned, name)
            if value is not None:
                back = np.argsort(turn)
                turned_back[name] = value[np.ix_(back, back)] if name == "order" else value[back]
        assert_alike(AmodalPipelineOutput(**turned_back), expected)

    def test_other_objects_matter_where_they_occlude(self, pipeline, scene):
        photo, modal = scene
        together = self.call(pipeline, photo, modal, occluder_masks=None)
        alone = [pipeline(photo, mask).probabilities[0] for mask in modal]
        assert pipeline.sees_neighbours == self.related
        assert np.allclose(together.probabilities, alone, atol=1e-4) != self.related

    def test_nothing_given_is_changed(self, pipeline, scene):
        photo, modal = (array.copy() for array in scene)
        for array in (photo, modal):
            array.flags.writeable = False
        first = self.call(pipeline, photo, modal, occluder_masks=modal.any(axis=0))
        again = self.call(pipeline, photo.copy(), modal.copy(), occluder_masks=modal.any(axis=0))
        assert_alike(first, again, atol=0)
        np.testing.assert_array_equal(modal, scene[1])

    # Common options

    def test_occluder_masks(self, pipeline, scene):
        photo, modal = scene
        for given in (modal[1], np.stack([modal[1]] * 3), torch.from_numpy(modal[1])):
            assert self.call(pipeline, photo, modal, occluder_masks=given).amodal_masks.shape == modal.shape
        with pytest.raises(ValueError, match="`occluder_masks` must hold one mask, or one for each of the 3 objects"):
            self.call(pipeline, photo, modal, occluder_masks=modal[:2])
        with pytest.raises(ValueError, match="`occluder_masks`.*48"):
            self.call(pipeline, photo, modal, occluder_masks=modal[:, 1:])

    def test_category_ids(self, pipeline, scene):
        assert not pipeline.class_conditioned
        expected = self.call(pipeline, *scene)
        for ids in ([1, 2, 3], np.array([3, 1, 1]), torch.tensor([1, 1, 9])):
            assert_alike(self.call(pipeline, *scene, category_ids=ids), expected, atol=0)
        for wrong in ([1, 2], [1.5, 1, 1], [-1, 1, 1]):
            with pytest.raises(ValueError, match="`category_ids` must"):
                self.call(pipeline, *scene, category_ids=wrong)

    def test_generator(self, pipeline, scene):
        generators = (seeded(1), [seeded(1)], seeded(2))  # a list may hold the one of a photo
        first, same, other = (self.call(pipeline, *scene, generator=one) for one in generators)
        assert_alike(first, same, atol=0)
        name = "samples" if "samples" in self.given else "probabilities"
        assert (getattr(first, name) != getattr(other, name)).any() == self.draws
        for wrong, error, message in (
            (7, TypeError, "`generator` must be a torch.Generator, or a list of these, got int"),
            ([seeded()] * 2, ValueError, "`generator` must be one generator where one photo is given, got a list of 2"),
        ):
            with pytest.raises(error, match=message):
                self.call(pipeline, *scene, generator=wrong)
        with pytest.raises(ValueError, match="`generator` must hold one generator for each of the 2 photos, got 1"):
            self.call(pipeline, [scene[0]] * 2, [scene[1]] * 2, generator=[seeded()])

    def test_callback(self, pipeline, scene):
        calls = []
        if hasattr(pipeline, "pair_crop"):  # or every completion is taken over from the pairs
            pipeline.register_to_config(crop="mixed")
        self.call(pipeline, *scene, batch_size=1, callback=lambda *told: calls.append(told))
        assert calls and all(told[0] is pipeline for told in calls)
        stages = list(dict.fromkeys(stage for _, stage, _, _ in calls))
        assert stages == list(self.stages)
        for stage in stages:
            done = [(count, total) for _, name, count, total in calls if name == stage]
            assert done == sorted(done) and done[0][0] == 0 and done[-1][0] == done[-1][1]  # from 0 to the end
        idle = []
        empty = np.zeros((2, *scene[1].shape[1:]), bool)
        self.call(pipeline, scene[0], empty, callback=lambda *told: idle.append(told[1:]))
        assert all(total for _, _, total in idle)  # a stage without work is not reported
        with pytest.raises(TypeError, match="`callback` must be a function or None, got int"):
            self.call(pipeline, *scene, callback=3)

    def test_callback_ends_a_call(self, pipeline, scene, monkeypatch):
        expected, freed = self.call(pipeline, *scene), []
        monkeypatch.setattr(self.pipeline_class, "maybe_free_model_hooks", lambda _: freed.append(True))
        pipeline.networks[0].train()
        for stop in (CallInterruptedError, KeyError):

            def callback(pipeline, stage, done, total, stop=stop):
                if stop is CallInterruptedError:
                    return done < 1  # nothing is done yet when a stage begins
                raise KeyError(stage)

            with pytest.raises(stop):
                self.call(pipeline, *scene, callback=callback)
            assert pipeline.networks[0].training
        assert len(freed) == 2  # offloaded networks go back in any case
        assert_alike(self.call(pipeline, *scene), expected, atol=1e-6)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1, got 0"),
            ({"batch_size": 1.5}, TypeError, "`batch_size` must be an integer, got 1.5"),
            ({"output_type": "latent"}, ValueError, "`output_type` must be one of 'np', 'pt', 'pil'"),
            ({"mask_threshold": 1.0}, ValueError, r"`mask_threshold` must lie in \[0, 1\), got 1.0"),
            ({"mask_threshold": "high"}, TypeError, "`mask_threshold` must be a number.*, got 'high'"),
        ],
    )
    def test_wrong_options_are_named(self, pipeline, scene, options, error, message):
        with pytest.raises(error, match=message):
            self.call(pipeline, *scene, **options)

    def test_own_numbers_are_checked(self, pipeline, scene):
        for name in self.pipeline_class.call_options:
            if name.endswith("_threshold"):
                for wrong, error in (
                    (1.5, ValueError),
                    (-0.1, ValueError),
                    (float("nan"), ValueError),
                    ("x", TypeError),
                ):
                    with pytest.raises(error, match=f"`{name}` must"):
                        self.call(pipeline, *scene, **{name: wrong})
        if pipeline.takes_option("eraser_dilation"):
            for wrong, error in ((-1, ValueError), (1.5, TypeError)):
                with pytest.raises(error, match="`eraser_dilation` must"):
                    self.call(pipeline, *scene, eraser_dilation=wrong)

    @pytest.mark.parametrize(
        ("image", "masks", "error", "message"),
        [
            (np.zeros((9, 64, 3), np.uint8), None, ValueError, r"`masks`.*\(48, 64\).*\(9, 64\)"),
            ("nowhere.jpg", None, FileNotFoundError, r"nowhere\.jpg"),
            (3, None, TypeError, "`image`"),
            (None, np.full((1, 48, 64), np.nan), ValueError, "`masks`.*NaN"),
            (None, np.zeros((2, 0, 64), bool), ValueError, "`masks`"),
            (None, "masks", TypeError, "`masks`"),
        ],
    )
    def test_wrong_inputs_are_named(self, pipeline, scene, image, masks, error, message):
        with pytest.raises(error, match=message):
            self.call(pipeline, scene[0] if image is None else image, scene[1] if masks is None else masks)

    def test_a_missing_photo_is_named_where_it_is_needed(self, pipeline, scene):
        if not pipeline.needs_image:
            assert_alike(self.call(pipeline, None, scene[1]), self.call(pipeline, *scene), atol=0)
            return
        if self.photo_optional:
            with pytest.raises(AssertionError):
                assert_alike(self.call(pipeline, None, scene[1]), self.call(pipeline, *scene), atol=0)
            return
        with pytest.raises(ValueError, match="`image` must be given"):
            self.call(pipeline, None, scene[1])
        with pytest.raises(ValueError, match=r"`image\[1\]` must be given"):
            self.call(pipeline, [scene[0], None], [scene[1]] * 2)

    # The networks

    def test_half_precision(self, scene):
        expected, output = (self.call(self.make().to(dtype), *scene) for dtype in (torch.float32, torch.bfloat16))
        assert output.probabilities.dtype == np.float32
        assert abs(output.probabilities - expected.probabilities).mean() < 0.1

    @pytest.mark.parametrize("runtime", ["onnx", "openvino"])
    def test_runtimes(self, pipeline, scene, runtime):
        """Everything but the networks of this package stays with torch, and torch comes back."""
        expected = self.call(pipeline, *scene)
        assert pipeline.use_runtime(runtime) is pipeline
        assert all(network.graphs for network in pipeline.networks)
        assert_alike(self.call(pipeline, *scene), expected, atol=1e-3)
        assert_alike(self.call(pipeline.use_runtime("torch"), *scene), expected, atol=0)

    def test_compiled_without_a_break(self, pipeline, scene):
        """By a backend that runs what was captured as it is: whether there is one graph is what compilers need."""
        torch._dynamo.reset()  # eight networks of any kind are what a process has room for
        expected = self.call(pipeline, *scene)
        for network in pipeline.networks:
            parts = [getattr(network, name) for name in self.compiled_parts] or [network]
            for part in parts:
                part.compile(fullgraph=True, backend="eager")
        assert_alike(self.call(pipeline, *scene), expected, atol=1e-5)

    def test_layerwise_casting(self, pipeline, scene):
        """Weights are kept in half of the memory and computed with in float32."""
        expected = self.call(pipeline, *scene)
        for network in pipeline.networks:
            network.enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float32)
            assert network.dtype == torch.float32
            assert any(value.dtype == torch.bfloat16 for value in network.parameters())
        output = self.call(pipeline, *scene)
        assert abs(output.probabilities - expected.probabilities).mean() < 0.1

    def test_networks_are_evaluated_and_left_as_they_were(self, pipeline, scene):
        expected = self.call(pipeline, *scene)
        for network in pipeline.networks:
            network.train()
            next(network.children()).eval()
        modes = [module.training for network in pipeline.networks for module in network.modules()]
        assert_alike(self.call(pipeline, *scene), expected, atol=1e-6)
        assert [module.training for network in pipeline.networks for module in network.modules()] == modes

    def test_offloading(self, pipeline, scene):
        """With the CPU in the accelerator's place: each network is fetched by its hook before it computes."""
        named = set(pipeline.model_cpu_offload_seq.split("->"))
        there = {name for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
        assert there <= named <= set(pipeline.components)  # those that are optional may be missing
        expected, used = self.call(pipeline, *scene), set()
        offload(pipeline, sequential=False)
        for name in there:
            hook = getattr(pipeline, name)._hf_hook
            before = hook.pre_forward
            hook.pre_forward = lambda module, *a, n=name, b=before, **k: used.add(n) or b(module, *a, **k)
        assert_alike(self.call(pipeline, *scene), expected, atol=1e-6)
        assert set(pipeline.mask_networks) & there <= used

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
    def test_offloading_from_an_accelerator(self, pipeline, scene):
        expected = self.call(pipeline, *scene)
        pipeline.enable_model_cpu_offload()
        assert_alike(self.call(pipeline, *scene), expected, atol=1e-2)
        assert all(next(network.parameters()).device.type == "cpu" for network in pipeline.networks)

    # Copies and folders

    @pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda pipeline: pickle.loads(pickle.dumps(pipeline))])
    def test_copies(self, pipeline, scene, make_copy):
        twin = make_copy(pipeline)
        twin.set_progress_bar_config(disable=True)
        assert type(twin) is self.pipeline_class and twin.networks[0] is not pipeline.networks[0]
        assert dict(twin.config) == dict(pipeline.config)
        assert_alike(self.call(twin, *scene), self.call(pipeline, *scene), atol=0)

    def test_save_and_load(self, pipeline, scene, tmp_path):
        pipeline.register_to_config(mask_threshold=0.4)
        pipeline.save_pretrained(tmp_path / "one")
        index = json.loads((tmp_path / "one" / "model_index.json").read_text())
        assert index["_class_name"] == ["pipeline", self.pipeline_class.__name__] and index["mask_threshold"] == 0.4
        for name in pipeline.mask_networks:
            network = getattr(pipeline, name)
            kind = [None, None] if network is None else ["amodal_diffusion", type(network).__name__]
            assert index[name] == kind
        loaded = AmodalPipeline.from_pretrained(tmp_path / "one")
        loaded.save_pretrained(tmp_path / "two")
        expected = self.call(pipeline, *scene)
        for again in (loaded, self.pipeline_class.from_pretrained(tmp_path / "two")):
            assert type(again) is self.pipeline_class and not any(network.training for network in again.networks)
            again.set_progress_bar_config(disable=True)
            assert_alike(self.call(again, *scene), expected, atol=1e-6)
        other = AmodalPipeline.from_pretrained(tmp_path / "one", mask_threshold=0.6)
        assert other.config.mask_threshold == 0.6

    def test_unknown_settings_of_a_folder_are_refused(self, pipeline, tmp_path):
        """diffusers would ignore them, so that an older folder would load and give other masks."""
        pipeline.save_pretrained(tmp_path)
        index = json.loads((tmp_path / "model_index.json").read_text())
        others = "its settings are .*mask"
        renamed = "it is now `confine_to_occluders`" if "confine_to_occluders" in pipeline.settings else others
        for name, advice in (("confine_to_all", others), ("confine_to_eraser", renamed)):
            (tmp_path / "model_index.json").write_text(json.dumps({**index, name: True}))
            message = f"holds `{name}`, which {self.pipeline_class.__name__} does not have; {advice}"
            for loader in (AmodalPipeline, self.pipeline_class):
                with pytest.raises(ValueError, match=message):
                    loader.from_pretrained(tmp_path)


class TestPCNetMask(MaskPipelineTesterMixin):
    pipeline_class = PCNetMaskPipeline
    given = ("amodal_masks", "probabilities", "order")
    related = True
    stages = ("order", "masks")

    def make(self, **settings):
        return tiny_pipeline(order_rule="evidence", **settings)


class TestASBU(MaskPipelineTesterMixin):
    pipeline_class = ASBUPipeline
    given = ("amodal_masks", "probabilities", "order", "uncertainty")
    related = True
    stages = ("order", "masks")

    def make(self, **settings):
        torch.manual_seed(0)
        model = ASBUPredictor(block_out_channels=(4, 8, 8), sample_size=32).eval()
        pipeline = ASBUPipeline(model, order_rule="evidence", occluder_rule="growth", **settings)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


class TestPhotoPCNetMask(MaskPipelineTesterMixin):
    pipeline_class = PhotoPCNetMaskPipeline
    given = ("amodal_masks", "probabilities", "uncertainty", "order", "occluder_masks")
    related = True
    stages = ("order", "masks")
    photo_optional = True

    def make(self, **settings):
        return tiny_photo_pcnet(**settings)


class TestPhotoPCNetMaskWithOrderModel(TestPhotoPCNetMask):
    stages = ("order", "pairs", "masks")

    def make(self, **settings):
        return tiny_photo_pcnet(order_model=tiny_model(), **settings)


class TestPhotoPCNetMaskWithOrderNet(TestPhotoPCNetMask):
    stages = ("order", "pairs", "masks")

    def make(self, **settings):
        return tiny_photo_pcnet(order_model=tiny_order_net(use_rgb=False), **settings)


class TestPhotoPCNetMaskWithMaskModel(TestPhotoPCNetMask):
    """At twice the size of the crops."""

    stages = ("order", "masks", "shapes")

    def make(self, **settings):
        return tiny_photo_pcnet(mask_model=tiny_model(sample_size=64, patch_size=2), **settings)


class TestOccAmodal(MaskPipelineTesterMixin):
    pipeline_class = OccAmodalPipeline
    given = ("amodal_masks", "probabilities", "uncertainty", "occluder_masks")

    def make(self, **settings):
        return tiny_occamodal(rim_width=0, **settings)


class TestAmodalVAE(MaskPipelineTesterMixin):
    pipeline_class = AmodalVAEPipeline
    options = {"num_samples": 2}
    given = ("amodal_masks", "probabilities", "uncertainty", "samples", "sample_scores")
    draws = True
    compiled_parts = ("encoder", "decoder", "spatial_transformer")

    def make(self, **settings):
        torch.manual_seed(0)
        model = AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(4, 8)).eval()
        with torch.no_grad():  # far from the shapes that an untrained decoder agrees on
            last = [module for module in model.decoder.modules() if isinstance(module, torch.nn.Conv2d)][-1]
            last.weight *= 20
        pipeline = AmodalVAEPipeline(model, rim_width=1, **settings)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


class TestSDAmodal(MaskPipelineTesterMixin):
    pipeline_class = SDAmodalPipeline
    options = {"return_uncertainty": True}
    given = ("amodal_masks", "probabilities", "uncertainty")
    draws = True

    def make(self, **settings):
        return tiny_sdamodal(**settings)


class TestSingleStage(MaskPipelineTesterMixin):
    pipeline_class = SingleStagePipeline
    given = ("amodal_masks", "probabilities")
    network = {}

    def make(self, **settings):
        pipeline = SingleStagePipeline(tiny_predictor(1, **self.network), **settings)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


class TestSupervisedMasks(TestSingleStage):
    """Without the photo."""

    network = {"image_feature_stages": ()}


TESTED = (
    TestPCNetMask, TestPhotoPCNetMask, TestASBU, TestOccAmodal, TestAmodalVAE, TestSDAmodal, TestSingleStage,
    TestSupervisedMasks,
)  # fmt: skip


def test_every_pipeline_is_tested():
    assert {case.pipeline_class for case in TESTED} == set(mask_pipelines())


def test_saved_pipelines_give_the_same_in_a_fresh_process(tmp_path):
    photo, modal, _ = draw_scene(1, 48, 64)
    np.savez(tmp_path / "scene.npz", photo=photo, modal=modal)
    pipelines = {case.pipeline_class.__name__: case().make() for case in TESTED}
    for name, pipeline in pipelines.items():
        pipeline.save_pretrained(tmp_path / name)
    run_fresh(FRESH_PROCESS, *pipelines, folder=tmp_path)
    for name, pipeline in pipelines.items():
        expected = pipeline(Image.fromarray(photo), modal).probabilities
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), expected, atol=1e-5, err_msg=name)
