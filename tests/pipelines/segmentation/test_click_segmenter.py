"""Clicks by the small network: what it is shown, the second look, saving, dtypes; and the shipped folder."""

import numpy as np
import pytest
import torch

from amodal_diffusion import AmodalPipeline, ClickSegmenter, ClickSegmenterPipeline
from amodal_diffusion.models.photo.click_segmenter import draw_click
from diffusion_helpers import offload
from photo_helpers import draw_scene
from repository_helpers import ROOT

PHOTO = np.random.default_rng(0).integers(0, 256, (60, 84, 3), dtype=np.uint8)


class Scripted(ClickSegmenter):
    """Says that the object is a square around the first click, and keeps what it was shown."""

    def __init__(self):
        super().__init__((2, 2, 2, 2, 2), embedding_channels=2, sample_size=32)
        self.shown, self.looks = [], 0

    def encode_image(self, image):
        self.looks += 1
        return (image,)

    def forward(self, prompts, image=None, features=None, return_dict=True):
        assert features[0].shape[-2:] == prompts.shape[-2:]
        self.shown.append(prompts[0].clone())
        logits = torch.full_like(prompts[:, :1], -5.0)
        rows, columns = torch.nonzero(prompts[0, 0], as_tuple=True)
        if len(rows):
            y, x = int(rows.float().mean()), int(columns.float().mean())
            logits[:, :, max(0, y - 6) : y + 7, max(0, x - 6) : x + 7] = 5.0
        logits[:, :, -3:, -3:] = 5.0  # a piece that nobody pointed at
        return type("Output", (), {"logits": logits})


@pytest.fixture
def pipe():
    return ClickSegmenterPipeline(Scripted(), side=96, crop_side=64)


def test_planes_show_clicks_the_box_and_the_earlier_answer(pipe):
    pipe = ClickSegmenterPipeline(pipe.model, side=96, crop_side=0)
    earlier = np.zeros((60, 84), bool)
    earlier[10:30, 10:40] = True
    pipe.click(PHOTO, [[42, 30], [80, 5]], [1, 0], box=(21, 15, 42, 30), mask=earlier)
    (planes,) = pipe.model.shown
    assert planes.shape == (4, 64, 96)  # longer side 96, both multiples of 32
    middle = [torch.nonzero(plane).float().mean(0).tolist() for plane in planes]
    np.testing.assert_allclose(middle[0], (32, 48), atol=0.6)  # (y, x)
    np.testing.assert_allclose(middle[1], (5 * 64 / 60, 80 * 96 / 84), atol=1)
    np.testing.assert_allclose(middle[2], (20 * 64 / 60, 25 * 96 / 84), atol=1)
    np.testing.assert_allclose(middle[3], (32, 48), atol=1)


def test_a_small_object_is_looked_at_again(pipe):
    embedding = pipe.embed(PHOTO)
    assert pipe.model.looks == 1
    mask = pipe.click(embedding, (42, 30))
    assert pipe.model.looks == 2 and len(pipe.model.shown) == 2
    again = pipe.model.shown[1]
    assert again.shape == (4, 64, 64) and again[2].max() > 0.9  # the first answer goes along
    rows, columns = np.nonzero(mask)
    assert abs(rows.mean() - 30) < 2 and abs(columns.mean() - 42) < 2
    assert not mask[-5:, -5:].any() and mask.any()  # the piece in the corner has no click on it
    pipe.click(embedding, (42, 30), box=(0, 0, 84, 60))  # nothing smaller to look at
    assert pipe.model.looks == 2
    pieces = ClickSegmenterPipeline(pipe.model, side=96, crop_side=0, keep_pointed_at=False).click(PHOTO, (42, 30))
    assert pieces[-2:, -2:].all()


def test_every_click_is_on_its_side(pipe):
    """The network answers with a square around the middle of the clicks on the object, so it misses each of two."""
    pipe = ClickSegmenterPipeline(pipe.model, side=96, crop_side=0)
    embedding = pipe.embed(PHOTO)
    both = pipe.click(embedding, [[10, 30], [60, 30]])
    assert both[30, 10] and both[30, 60] and not both[30, 35]  # pieces around both, none between them
    assert both[26:35, 6:15].all() and both.sum() < 2 * 13 * 13 + 20  # each what the click alone gives
    without = pipe.click(embedding, [[42, 30], [44, 30]], [1, 0])
    assert without[30, 42] and not without[30, 44] and not without[30, 46]  # what is nearer to the other click goes
    again = pipe.click(embedding, [[42, 30], [44, 30], [46, 30]], [1, 0, 1])
    assert again[30, 42] and not again[30, 44] and again[30, 46]
    closer = ClickSegmenterPipeline(pipe.model, side=96, crop_side=64).click(PHOTO, [[30, 30], [50, 30]])
    assert closer[30, 30] and closer[30, 50]


def test_settings_are_saved(tmp_path):
    torch.manual_seed(0)
    model = ClickSegmenter((4, 4, 4, 8, 8), embedding_channels=4, sample_size=32)
    pipe = ClickSegmenterPipeline(model, side=64, crop_side=32, crop_margin=2.0, keep_pointed_at=False)
    expected = pipe.click(PHOTO, (42, 30))
    pipe.save_pretrained(tmp_path)
    loaded = AmodalPipeline.from_pretrained(tmp_path)
    assert type(loaded) is ClickSegmenterPipeline and loaded.settings == pipe.settings
    np.testing.assert_array_equal(loaded(PHOTO, (42, 30)), expected)
    for dtype in (torch.bfloat16, torch.float16):
        low = AmodalPipeline.from_pretrained(tmp_path, dtype=dtype)
        assert low.model.dtype == dtype and low.click(PHOTO, (42, 30)).shape == expected.shape


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"side": 16}, "`side` must be at least 32"),
        ({"crop_side": -1}, "`crop_side` must be at least 0"),
        ({"crop_margin": 0.5}, "`crop_margin` must lie in"),
        ({"crop_below": -1}, "`crop_below` must lie in"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        ClickSegmenterPipeline(Scripted(), **settings)


def test_inputs_of_the_network():
    model = ClickSegmenter((4, 4, 4, 8, 8), embedding_channels=4, sample_size=32).eval()
    prompts, image = torch.zeros(2, 4, 40, 56), torch.zeros(2, 3, 40, 56)
    with torch.no_grad():
        logits = model(prompts, image).logits
        torch.testing.assert_close(model(prompts, features=model.encode_image(image)).logits, logits)
    assert logits.shape == (2, 1, 40, 56)
    for given, message in (
        ((prompts[:, :3], image), r"`prompts` must have shape \(B, 4, h, w\), got \(2, 3, 40, 56\)"),
        ((prompts, image[:, :, :32]), r"`image` must have shape \(2, 3, 40, 56\)"),
        ((prompts,), "One of `image` and `features`"),
    ):
        with pytest.raises(ValueError, match=message):
            model(*given)
    with pytest.raises(ValueError, match="`decoder_channels` must hold 5 integers"):
        ClickSegmenter(decoder_channels=(4, 4))
    plane = np.zeros((8, 8), np.float32)
    draw_click(plane, 0.2, 7.9)
    assert plane[7, 0] == 1 and plane[7, 4] == 1 and plane[3, 0] == 1 and plane[2, 0] == 0


def test_the_shipped_folder_marks_simple_objects():
    pipe = AmodalPipeline.from_pretrained(ROOT / "pipelines" / "click-segmenter")
    found = []
    for seed in range(3):
        photo, modal, _ = draw_scene(seed)
        embedding = pipe.embed(photo)
        rows, columns = np.nonzero(modal[2])  # the object in front
        mask = pipe.click(embedding, (columns.mean(), rows.mean()))
        found.append((mask & modal[2]).sum() / (mask | modal[2]).sum())
    assert np.median(found) > 0.5


def test_an_offloaded_network_is_brought_before_it_encodes_the_photo(monkeypatch):
    pipe = ClickSegmenterPipeline(ClickSegmenter((2, 2, 2, 2, 2), embedding_channels=2, sample_size=32), side=64)
    expected, done = pipe.click(PHOTO, (42, 30)), []
    offload(pipe, sequential=False)
    hook, bring = pipe.model._hf_hook, pipe.model._hf_hook.pre_forward
    monkeypatch.setattr(hook, "pre_forward", lambda *args, **planes: done.append("brought") or bring(*args, **planes))
    pipe.model.image_encoder.register_forward_pre_hook(lambda module, args: done.append("encoded"))
    np.testing.assert_array_equal(pipe.click(PHOTO, (42, 30)), expected)
    assert done[:2] == ["brought", "encoded"]
