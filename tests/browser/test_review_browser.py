"""Two people review a data set in a browser, one after the other, and a third at the same time."""

import json
import os
import re
import subprocess
import sys

import pytest
from playwright.sync_api import expect

from amodal_diffusion.cli import main as cli
from amodal_diffusion.data import load_amodal_dataset
from repository_helpers import ROOT
from server_helpers import free_port, wait_for

pytestmark = pytest.mark.browser
DATASET = ROOT / "datasets" / "rooms-amodal"


@pytest.fixture
def reviews(tmp_path):
    return tmp_path / "reviews.jsonl"


@pytest.fixture
def serve(reviews, tmp_path):
    """Starts the page, and again where it was killed."""
    servers = []

    def start(*options):
        port = free_port()
        command = [sys.executable, str(ROOT / "demos" / "review.py"), str(DATASET), "--split", "test"]
        command += ["--reviews", str(reviews), "--port", str(port), "--min-rate", "0.9", *options]
        log = tmp_path / f"log-{len(servers)}.txt"
        environ = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        with log.open("wb") as output:
            servers.append(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environ, cwd=ROOT))
        url = f"http://127.0.0.1:{port}"
        wait_for(servers[-1], url, log, "demos/review.py")
        return url, servers[-1]

    yield start
    for server in servers:
        server.kill()
        server.wait()


class Visitor:
    """A person at the page; waits until an answer has arrived and the next object is drawn."""

    def __init__(self, browser, url, person, number):
        self.page = browser.new_page(viewport={"width": 1100, "height": 760})
        self.problems = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto(url)
        self.page.fill("#person", person)
        self.page.select_option("#round", str(number))
        self.page.click("#who button")
        expect(self.page.locator("body")).to_have_attribute("data-key", re.compile("."), timeout=30_000)

    @property
    def key(self):
        return self.page.get_attribute("body", "data-key")

    @property
    def count(self):
        return self.page.inner_text("#count")

    def press(self, key):
        before = self.key
        self.page.keyboard.press(key)
        expect(self.page.locator("body")).not_to_have_attribute("data-key", before, timeout=30_000)
        return before

    def picture(self):
        """What the canvas shows."""
        return self.page.evaluate("document.getElementById('canvas').toDataURL()")


def answers(reviews):
    return [json.loads(line) for line in reviews.read_text().splitlines()]


def test_two_rounds(browser, serve, reviews, screenshots, tmp_path):
    url, server = serve()
    ann = Visitor(browser, url, "ann", 1)
    total = int(ann.count.split(" of ")[1])
    assert total > 6 and ann.count == f"0 of {total}"
    ann.page.screenshot(path=screenshots / "review-1-first.png")
    # Space hides the outlines, F frames the object, the wheel zooms: each another picture.
    seen = [ann.picture()]
    ann.page.keyboard.press(" ")
    seen.append(ann.picture())
    ann.page.keyboard.press(" ")
    assert ann.picture() == seen[0]
    ann.page.keyboard.press("f")
    seen.append(ann.picture())
    ann.page.screenshot(path=screenshots / "review-2-object.png")
    ann.page.mouse.move(550, 380)
    ann.page.mouse.wheel(0, -300)
    ann.page.wait_for_timeout(100)
    seen.append(ann.picture())
    assert len(set(seen)) == 4
    # A third person at the same time is shown something else.
    cleo = Visitor(browser, url, "cleo", 1)
    assert cleo.key != ann.key
    first = ann.press("j")
    second = ann.press("k")
    assert first != second and ann.count == f"2 of {total}"
    # Undo brings the last one back; it is answered the other way.
    ann.page.keyboard.press("u")
    expect(ann.page.locator("body")).to_have_attribute("data-key", second, timeout=30_000)
    assert ann.press("j") == second
    # The server dies; what was said is not lost.
    server.kill()
    server.wait()
    url, _ = serve()
    ann = Visitor(browser, url, "ann", 1)
    assert ann.count == f"2 of {total}"
    rejected = []
    while ann.key != "none":
        bad = len(rejected) < 2
        key = ann.press("k" if bad else "j")
        rejected += [key] if bad else []
    assert ann.count == f"{total} of {total}" and ann.page.inner_text("#title") == "Nothing to review"
    assert ann.page.is_disabled("#yes")
    ann.page.screenshot(path=screenshots / "review-3-done.png")

    # The second round is another person's: it sees what the first accepted, and some of what it rejected.
    bob = Visitor(browser, url, "bob", 2)
    left = int(bob.count.split(" of ")[1])
    assert total - 2 <= left <= total
    shown = []
    while bob.key != "none":
        shown.append(bob.press("k" if len(shown) == 1 else "j"))
    assert len(shown) == left and first in shown
    assert re.search(rf"both rounds: {left} objects, \d+ % alike", bob.page.inner_text("#agreement"))
    bob.page.screenshot(path=screenshots / "review-4-second-round.png")
    # Whoever did the first round has nothing to do in the second.
    again = Visitor(browser, url, "ann", 2)
    assert again.key == "none"
    said = answers(reviews)
    assert {line["person"] for line in said} == {"ann", "bob"}
    assert [problem for visitor in (ann, bob, cleo, again) for problem in visitor.problems] == []

    # What both rounds accepted is written as a data set.
    output = tmp_path / "accepted"
    command = ["dataset", "accept", DATASET, "--split", "test", "--reviews", reviews, "--output", output]
    assert cli.main([str(part) for part in command]) == 0
    rows = load_amodal_dataset(output, "test").remove_columns("image")
    accepted = set(shown) - {shown[1]} - set(rejected)
    assert sum(len(row["objects"]) for row in rows) == len(accepted)
    assert {row["image_id"] for row in rows} == {key.rpartition("/")[0] for key in accepted}


def test_a_server_that_is_gone_is_a_message(browser, serve, screenshots):
    url, server = serve()
    ann = Visitor(browser, url, "ann", 1)
    server.kill()
    server.wait()
    ann.page.keyboard.press("j")
    expect(ann.page.locator("#error")).to_have_text("The server does not answer; the last answer was not kept.")
    ann.page.screenshot(path=screenshots / "review-5-gone.png")
