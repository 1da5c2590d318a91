"""The page as a server: uploads of visitors, requests that cannot be read, many at once."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

import app
from demo_helpers import save_pipelines
from page.models import Models
from page.wiring import used_up
from page.work.files.photos import open_photo


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    root = tmp_path_factory.mktemp("server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(root / "uploads"))
        patch.setattr(app.route_utils, "GradioUploadFile", app.route_utils.GradioUploadFile)
        patch.setattr(app.processing_utils, "hash_bytes", app.processing_utils.hash_bytes)
        page = app.serve(Models(save_pipelines(root)), "127.0.0.1", block=False)
        yield page.local_url.rstrip("/") + "/gradio_api"
        page.close()


def upload(address, content, name="photo.png"):
    (path,) = httpx.post(f"{address}/upload", files={"files": (name, content)}, timeout=60).json()
    return path


def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)).save(path)
    return path.read_bytes()


def test_uploads_of_one_file_share_no_path_and_are_gone_when_they_are_read(address, tmp_path):
    content = photo(tmp_path)
    first, second = upload(address, content), upload(address, content)
    assert first != second
    assert httpx.get(f"{address}/file={first}", timeout=60).content == content
    with used_up(first):
        open_photo(first)
    assert httpx.get(f"{address}/file={first}", timeout=60).status_code in (403, 404)
    assert httpx.get(f"{address}/file={second}", timeout=60).status_code == 200


def test_requests_that_cannot_be_read_are_answered_in_words(address):
    requests = [
        ("GET", "/file=a%00b", None),
        ("POST", "/queue/join", b"{"),
        ("POST", "/queue/join", json.dumps({"data": [], "fn_index": 9999, "session_hash": "x"}).encode()),
        ("POST", "/queue/join", b"[]"),
        ("POST", "/upload", b"no form"),
        ("POST", "/reset", b"null"),
    ]
    for method, path, content in requests:
        headers = {"Content-Type": "application/json"} if content else {}
        answer = httpx.request(method, address + path, content=content, headers=headers, timeout=60)
        assert answer.status_code < 500 and answer.text not in ("", "Internal Server Error", '{"error":null}'), path


def test_many_requests_at_once_wait_for_their_turn(address):
    config = httpx.get(f"{address.removesuffix('/gradio_api')}/config", timeout=60).json()
    number = next(step["id"] for step in config["dependencies"] if step["targets"][0][1] == "choose")

    def join(index):
        request = {
            "data": [None],
            "fn_index": number,
            "session_hash": f"visitor{index}",
            "event_data": {"key": "woven"},
        }
        return httpx.post(f"{address}/queue/join", json=request, timeout=120).status_code

    with ThreadPoolExecutor(60) as pool:
        assert set(pool.map(join, range(60))) == {200}
