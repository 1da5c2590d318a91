"""What all interactive segmenters share: prompts, embeddings, pieces with a point on them; and GrabCut."""

import numpy as np
import pytest

from amodal_diffusion import GrabCutSegmenter, InteractiveSegmenter
from amodal_diffusion.pipelines.segmentation.interactive import keep_pointed_at, pixels_of, read_prompt

SIZE = {"height": 48, "width": 70}


class Counting(InteractiveSegmenter):
    """Answers with the prompt itself, and counts its looks at photos."""

    looks = 0

    def encode(self, photo):
        self.looks += 1
        return photo.shape

    def answer(self, embedding, prompt):
        assert embedding.features == (48, 70, 3)
        return prompt


class Other(Counting):
    pass


PHOTO = np.zeros((48, 70, 3), np.uint8)


def test_a_photo_is_looked_at_once():
    segmenter = Counting()
    embedding = segmenter.embed(PHOTO)
    for _ in range(3):
        segmenter.click(embedding, (3, 4))
    assert segmenter.looks == 1 and segmenter.can_click and embedding.size == (48, 70)
    segmenter.click(PHOTO, (3, 4))
    assert segmenter.looks == 2
    with pytest.raises(ValueError, match="`image` was embedded by Counting, which Other cannot read"):
        Other().click(embedding, (3, 4))


def test_prompts():
    mask = np.zeros((48, 70), bool)
    mask[3:9, 4:20] = True
    prompt = Counting().click(PHOTO, [[1, 2], [70, 48]], [1, 0], box=(-5, 10, 30, 100), mask=mask)
    assert prompt.positive.tolist() == [[1, 2]] and prompt.negative.tolist() == [[70, 48]]
    assert prompt.box.tolist() == [0, 10, 25, 38]
    np.testing.assert_array_equal(prompt.mask, mask)
    assert pixels_of(prompt.negative, (48, 70)) == (69, 47)
    only = read_prompt([[1, 2]], [0], None, mask, **SIZE)  # an earlier mask says where the object is
    assert not len(only.positive)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({}, "`points` must hold one on the object, where neither `box` nor `mask`"),
        ({"points": [[1, 2]], "labels": [0]}, "`points` must hold one on the object"),
        ({"labels": [1]}, "`labels` must be None where there are no `points`"),
        ({"points": []}, r"`points` must have shape \(P, 2\)"),
        ({"points": [[70.5, 1]]}, "`points` must lie on the photo of 70 x 48 pixels"),
        ({"points": [[np.nan, 1]]}, "`points` must lie on the photo"),
        ({"points": [[1, 2]], "labels": [1, 0]}, "`labels` must have one entry for each of the 1 points"),
        ({"points": [[1, 2]], "labels": [2]}, "`labels` must be 1"),
        ({"box": (1, 2, 3)}, r"`box` must be \(x, y, w, h\)"),
        ({"box": (1, 2, 0, 3)}, "`box` must be .*positive width and height"),
        ({"box": (1, np.nan, 3, 3)}, "`box` must be"),
        ({"box": (80, 2, 3, 3)}, "`box` must lie on the photo of 70 x 48 pixels"),
        ({"mask": np.zeros((48, 69), bool)}, "`mask`: .* has size"),
        ({"points": "a"}, "`points` must hold numbers, got 'a'"),
        ({"points": [[1, 2], [3]]}, "`points` must hold numbers"),
        ({"box": "a"}, "`box` must hold numbers, got 'a'"),
        ({"box": (1, 2, None, {})}, "`box` must hold numbers"),
        ({"mask": np.zeros((2, 48, 70), bool)}, "`mask` must be one mask, got 2"),
    ],
)
def test_refuses(prompt, message):
    with pytest.raises(ValueError, match=message):
        Counting().click(PHOTO, **prompt)


def test_pieces_with_a_point_on_them():
    cv2 = pytest.importorskip("cv2")
    generator = np.random.default_rng(0)
    for _ in range(8):
        mask = cv2.GaussianBlur(generator.normal(size=(60, 80)).astype(np.float32), (0, 0), 3) > 0
        points = generator.uniform(0, 1, (3, 2)) * (160, 120)
        _, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
        x, y = pixels_of(points, mask.shape, 0.5)
        hit = set(pieces[y, x]) - {0}
        expected = np.isin(pieces, list(hit)) if hit else mask
        np.testing.assert_array_equal(keep_pointed_at(mask, points, 0.5), expected)
    assert not keep_pointed_at(np.zeros((4, 5), bool), np.array([[1.0, 1.0]])).any()


class TestGrabCut:
    """A red square and a green one on grey, at twice the size that is cut."""

    @pytest.fixture
    def photo(self):
        photo = np.full((80, 128, 3), 90, np.uint8)
        photo[20:60, 10:50], photo[20:60, 76:116] = (190, 40, 40), (40, 170, 50)
        return photo

    @pytest.mark.parametrize("prompt", [
        {"points": (30, 40)}, {"box": (4, 12, 52, 54)}, {"points": [[30, 40], [96, 40]], "labels": [1, 0]},
    ])  # fmt: skip
    def test_finds_the_square(self, photo, prompt):
        segmenter = GrabCutSegmenter(side=64)
        mask = segmenter.click(photo, **prompt)
        expected = np.zeros((80, 128), bool)
        expected[20:60, 10:50] = True
        assert mask.dtype == bool and (mask & expected).sum() / (mask | expected).sum() > 0.95
        np.testing.assert_array_equal(mask, segmenter.click(photo, **prompt))  # it repeats
        again = segmenter.click(photo, mask=mask)
        assert (again & expected).sum() / (again | expected).sum() > 0.95

    def test_small_and_plain_photos(self):
        for shape in ((1, 1, 3), (2, 40, 3), (30, 30, 3)):
            assert GrabCutSegmenter().click(np.zeros(shape, np.uint8), (0, 0)).shape == shape[:2]

    def test_settings_are_checked(self):
        with pytest.raises(ValueError, match="`side` must be at least 16"):
            GrabCutSegmenter(side=3)
        with pytest.raises(ValueError, match="`iterations` must be at least 1"):
            GrabCutSegmenter(iterations=0)
