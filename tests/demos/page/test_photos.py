"""Photos that visitors bring to the page."""

import re

import pytest
from PIL import Image

from page.work.files import photos
from page.work.files.photos import open_photo, with_photo
from page.work.session import PageError, Session


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no picture", "is not an image that can be read"),
        ("GIF", "is GIF. PNG, JPEG and WebP work"),
        ((20, 400), "20 x 400 pixels; each side must have at least 32"),
        ((40, 400), "at most 8 times the other"),
        ((3000, 2000), "6 million pixels; up to 5 million work"),
        ("cut", "photo.png cannot be read: image file is truncated"),
    ],
)
def test_refused_photos(tmp_path, monkeypatch, content, says):
    monkeypatch.setattr(photos, "MAX_SOURCE_PIXELS", 5_000_000)
    path = tmp_path / "photo.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "GIF":
        Image.new("P", (64, 64)).save(path, "GIF")
    elif content == "cut":
        Image.effect_noise((200, 200), 90).save(path)
        path.write_bytes(path.read_bytes()[:9000])
    else:
        Image.new("RGB", content).save(path)
    with pytest.raises(PageError, match=re.escape(says)) as error:
        open_photo(path)
    assert str(tmp_path) not in str(error.value)  # a visitor need not know where uploads lie


def test_large_photo_is_scaled_and_the_visitor_told(monkeypatch):
    monkeypatch.setattr(photos, "MAX_PIXELS", 10_000)
    session, note = with_photo(Session(stamp=4), Image.new("RGB", (400, 300)), "big")
    assert session.size == (86, 115) and session.source_size == (300, 400)
    assert "preview of 115 x 86" in note and "own 400 x 300" in note and session.stamp == 5
    same, note = with_photo(Session(), Image.new("RGB", (100, 50)), "small")
    assert note == "" and same.size == (50, 100)
