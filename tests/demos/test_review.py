"""The review page's server: what it shows, what it takes, what it refuses."""

import json
import urllib.error
from io import BytesIO

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

import asking
import review
from amodal_diffusion.data import amodal_features, build_objects
from amodal_diffusion.masks.rle import encode_rle
from server_helpers import get, post, serving


@pytest.fixture
def server(tmp_path):
    amodal = np.zeros((24, 32), dtype=bool)
    amodal[4:20, 6:26] = True
    modal = amodal.copy()
    modal[:, 16:] = False
    rows = []
    for number in range(2):
        fields = {"id": 0, "name": "cup", "category_id": None, "is_stuff": False, "is_crowd": False}
        item = {**fields, "modal_mask": encode_rle(modal), "amodal_mask": encode_rle(amodal)}
        photo = BytesIO()
        Image.new("RGB", (32, 24), "white").save(photo, "PNG")
        row = {"image_id": str(number), "file_name": "", "height": 24, "width": 32, "objects": build_objects([item])}
        rows.append({**row, "order_relations": [], "source": "", "image": {"bytes": photo.getvalue(), "path": None}})
    dataset = Dataset.from_list(rows, features=amodal_features(with_image=True))
    with serving(review.make_server(review.Review(dataset, tmp_path / "reviews.jsonl"))) as url:
        yield url


def test_both_rounds(server):
    assert b"Are both masks of good quality?" in get(server + "/")
    state = json.loads(get(server + "/next?person=ann&round=1"))
    assert (state["image_id"], state["name"], state["hidden"], state["total"]) == ("0", "cup", 0.5, 2)
    assert state["agreement"]["kappa"] is None
    answer = {"person": "ann", "round": 1, "image_id": "0", "index": 0, "accepted": True}
    state = post(server + "/answer", answer)
    assert (state["image_id"], state["done"]) == ("1", 1)
    assert post(server + "/undo", {"person": "ann", "round": 1})["image_id"] == "0"
    post(server + "/answer", answer)
    state = json.loads(get(server + "/next?person=bob&round=2"))
    assert (state["image_id"], state["done"], state["total"]) == ("0", 0, 1)
    assert "image_id" not in post(server + "/answer", {**answer, "person": "bob", "round": 2})


def test_pictures(server):
    assert Image.open(BytesIO(get(server + "/photo?image_id=0"))).size == (32, 24)
    drawn = np.asarray(Image.open(BytesIO(get(server + "/outlines?image_id=0&index=0"))))
    assert drawn.shape == (48, 64, 4)
    assert tuple(drawn[8, 40]) == (*asking.AMODAL, 255)  # the upper edge of the hidden half
    assert tuple(drawn[8, 20]) == (*asking.MODAL, 255)
    assert drawn[24, 40, 3] == 0


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/next?person=ann", 400),
        ("/next?person=&round=1", 400),
        ("/photo?image_id=9", 400),
        ("/outlines?image_id=0&index=-1", 400),
        ("/outlines?image_id=0&index=1", 400),
        ("/other", 404),
    ],
)
def test_wrong_addresses(server, path, code):
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(server + path)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accepted", "yes"),
        ("accepted", 1),
        ("accepted", None),
        ("round", 1.7),
        ("round", True),
        ("index", -1),
        ("index", "0.0"),
        ("image_id", 0),
        ("person", None),
        ("person", ["ann"]),
    ],
)
def test_answers_that_are_none_are_refused_by_name(server, tmp_path, name, value):
    answer = {"person": "ann", "round": 1, "image_id": "0", "index": 0, "accepted": True}
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(server + "/answer", answer | {name: value})
    assert caught.value.code == 400 and f"`{name}`" in json.loads(caught.value.read())["error"]
    assert not (tmp_path / "reviews.jsonl").exists()


def test_a_form_of_another_site_is_refused(server):
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(server + "/undo", {"person": "ann", "round": 1}, kind="text/plain")
    assert b"application/json" in caught.value.read()
