"""The SAM family by one interface: points, boxes, earlier masks, everything, and text; with tiny random models."""

import numpy as np
import pytest
import torch

from amodal_diffusion import Segmenter
from amodal_diffusion.pipelines.segmentation.interactive import PhotoEmbedding
from amodal_diffusion.pipelines.segmentation.sam import SamPrompts
from sam_helpers import POINT_MODELS, make, sam3_tokenizer
from segmenter_helpers import PHOTO, sam_pipeline

EVERYTHING = {"score_threshold": 0.0, "min_area": 0.0, "max_overlap": 1.0, "max_containment": 1.0, "max_objects": 400}
NAMES = ["sam", *POINT_MODELS]


def build(name):
    return Segmenter(sam_pipeline() if name == "sam" else make(name), **EVERYTHING)


@pytest.mark.parametrize("name", NAMES)
def test_clicks_boxes_and_masks(name):
    segmenter = build(name)
    embedding = segmenter.embed(PHOTO)
    assert isinstance(embedding, PhotoEmbedding) and embedding.maker == f"Segmenter ({name})"
    mask = segmenter.click(embedding, (10, 20))
    assert mask.dtype == bool and mask.shape == (48, 70)
    np.testing.assert_array_equal(mask, segmenter.click(PHOTO, [[10, 20]], [1]))  # the photo itself
    answers = set()
    prompts = SamPrompts(segmenter.model)
    labels = np.array([[1, 0]])
    for box, earlier in ((None, None), (np.array([5.0, 5, 30, 20]), None), (None, mask)):
        points = np.array([[[10.0, 20], [60, 40]]])
        with torch.no_grad():
            found = prompts.ask(embedding, points, labels, box=box, mask=earlier)
        assert found.scores.shape == (3,) and found.logits.shape[0] == 3
        answers.add(found.logits.numpy().tobytes())
    assert len(answers) == 3  # each of them matters
    for options in ({"box": (5, 5, 30, 20)}, {"mask": mask}, {"box": (5, 5, 30, 20), "mask": mask}):
        assert segmenter.click(embedding, **options).shape == (48, 70)
    with pytest.raises(ValueError, match="`points` must lie on the photo of 70 x 48 pixels"):
        segmenter.click(embedding, (71, 3))
    with pytest.raises(ValueError, match=r"was embedded by Segmenter \(" + name):
        Other(segmenter.pipeline or segmenter.model).click(embedding, (1, 2))


class Other(Segmenter):
    pass


@pytest.mark.parametrize("name", POINT_MODELS)
def test_a_photo_is_encoded_once(name):
    segmenter = build(name)
    looks = []
    segmenter.model.vision_encoder.register_forward_hook(lambda *args: looks.append(1))
    embedding = segmenter.embed(PHOTO)
    for x in (3, 5, 60):
        segmenter.click(embedding, (x, 9))
    assert len(looks) == 1


@pytest.mark.parametrize("name", NAMES)
def test_points_are_those_of_the_photo(name):
    """(x, y) in pixels of the photo reach the model in pixels of what it looks at."""
    segmenter = build(name)
    asked = []
    segmenter.model.prompt_encoder.register_forward_pre_hook(
        lambda module, args, kwargs: asked.append(kwargs), with_kwargs=True
    )
    segmenter.click(PHOTO, [[10, 20], [69.5, 47]], [1, 0], box=(7, 12, 35, 24))
    inner = np.array([64, 64 * 48 / 70 if name in ("sam", "sam_hq") else 64])
    scale = inner / (70, 48)
    points, box = asked[0]["input_points"][0, 0].numpy(), asked[0]["input_boxes"][0, 0].numpy()
    np.testing.assert_allclose(points, np.array([[10, 20], [69.5, 47]]) * scale, rtol=0.02)
    np.testing.assert_allclose(box, np.array([7, 12, 42, 36]) * np.tile(scale, 2), rtol=0.02)
    assert asked[0]["input_labels"][0, 0].tolist() == [1, 0]


@pytest.mark.parametrize("name", POINT_MODELS)
def test_everything(name):
    segmenter = build(name)
    segmenter.grid = {"points_per_side": 3, "least_score": -10.0, "least_stability": -1.0}
    found = segmenter(PHOTO)
    assert found.masks.shape[1:] == (48, 70) and len(found.masks) and set(found.names) == {""}
    assert (np.diff(found.scores) <= 0).all()
    segmenter.grid["least_score"] = 10.0
    assert segmenter(PHOTO).masks.shape == (0, 48, 70)


@pytest.mark.parametrize("name", POINT_MODELS)
def test_save_and_load(name, tmp_path):
    segmenter = build(name)
    segmenter.save_pretrained(tmp_path)
    loaded = Segmenter.from_pretrained(tmp_path, dtype=torch.float32)
    assert loaded.settings == segmenter.settings and loaded.can_click and loaded.pipeline is None
    np.testing.assert_array_equal(loaded.click(PHOTO, (5, 5)), segmenter.click(PHOTO, (5, 5)))
    assert loaded.to(torch.bfloat16).click(PHOTO, (5, 5), box=(1, 1, 30, 30)).shape == (48, 70)


def test_text(tmp_path):
    model = make("sam3")
    segmenter = Segmenter(model, tokenizer=sam3_tokenizer(), **EVERYTHING)
    assert segmenter.takes_text and not segmenter.can_click
    found = segmenter(PHOTO, text="a b")
    assert found.masks.shape[1:] == (48, 70) and set(found.names) <= {"a b"} and found.scores.dtype == np.float32
    with pytest.raises(ValueError, match="`text` must be given: a model of type 'sam3' finds what it names"):
        segmenter(PHOTO)
    with pytest.raises(ValueError, match="`click` needs a SAM model.*'sam3'"):
        segmenter.click(PHOTO, (1, 1))
    segmenter.save_pretrained(tmp_path)
    loaded = Segmenter.from_pretrained(tmp_path)
    np.testing.assert_array_equal(loaded(PHOTO, text="a b").scores, found.scores)


def test_text_beside_points():
    segmenter = Segmenter(make("sam3_tracker"), text_model=make("sam3"), tokenizer=sam3_tokenizer(), **EVERYTHING)
    assert segmenter.takes_text and segmenter.can_click
    assert segmenter(PHOTO, text="b").masks.shape[1:] == segmenter.click(PHOTO, (3, 3)).shape
    with pytest.raises(ValueError, match="two models cannot be saved in one folder"):
        segmenter.save_pretrained("nowhere")
    with pytest.raises(ValueError, match="`text` needs a SAM 3 with its tokenizer.*'sam2'"):
        build("sam2")(PHOTO, text="b")
