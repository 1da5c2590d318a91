"""Nothing is lost on the page: reloads, crashes, steps back, slow servers; scenes go out and come in again."""

import json
import time
import zipfile

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from amodal_diffusion import Scene
from demo_page import SLOW, USUAL

pytestmark = pytest.mark.browser

HANDLE = [(212, 285), (182, 265), (152, 245)]
"""Along the handle of the cup, where nothing else is, by 60 to the left and 40 up."""


def slow_down(visitor, milliseconds):
    """Let everything that the browser asks for take longer."""
    devtools = visitor.context.new_cdp_session(visitor.page)
    conditions = {"offline": False, "latency": milliseconds, "downloadThroughput": -1, "uploadThroughput": -1}
    devtools.send("Network.enable")
    devtools.send("Network.emulateNetworkConditions", conditions)
    return lambda: devtools.send("Network.emulateNetworkConditions", {**conditions, "latency": 0})


SLOW_PAINTING = """
import time
from amodal_diffusion import ScenePipeline

paint = ScenePipeline.repaint


def painted_later(*args, **kwargs):
    time.sleep(2)
    return paint(*args, **kwargs)


ScenePipeline.repaint = painted_later
"""
"""Run by a server's Python as it starts, as its `sitecustomize`."""


SIZES = pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)], ids=["desktop", "phone"])


def wait_kept(visitor, server, edits, since=0.0):
    """Until a server that has no other visitors has written a work with so many edits, and did so `since` then."""
    for _ in range(600):
        for path in (server.folder / "kept").glob("*/*/work.json"):
            edited = json.loads(path.read_text(encoding="utf-8"))["edits"]
            if edited == edits and path.stat().st_mtime > since:
                return
        visitor.page.wait_for_timeout(200)
    raise AssertionError(f"no work with {edits} edits was kept")


@SIZES
def test_the_first_thing_is_to_drag_a_whole_object(open_page, screenshots, width, height):
    visitor = open_page(width=width, height=height, start="coffee")
    visitor.screenshot(screenshots, f"work-start-{width}")
    before = visitor.pixels()
    visitor.after_step(lambda: visitor.drag(HANDLE))
    assert visitor.pixels() != before
    assert (visitor.number("X"), visitor.number("Y")) == (pytest.approx(110, abs=2), pytest.approx(-24, abs=2))
    visitor.screenshot(screenshots, f"work-dragged-{width}")


@SIZES
def test_work_is_offered_again(open_page, screenshots, own_server, width, height):
    visitor = open_page(at=own_server.url, width=width, height=height, start="coffee")
    visitor.choose("cup")
    x = visitor.number("X")
    visitor.after_step(lambda: visitor.drag(HANDLE))
    dragged = visitor.number("X")
    visitor.type_number("Rotation °", 20)
    wait_kept(visitor, own_server, 2)
    visitor.visit()
    expect(visitor.question).to_contain_text("coffee: 4 objects, 2 edits")
    visitor.screenshot(screenshots, f"work-offer-{width}")
    visitor.answer("Open")
    visitor.choose("cup")
    assert visitor.number("Rotation °") == 20
    visitor.screenshot(screenshots, f"work-opened-{width}")
    visitor.press("Undo (Ctrl+Z)")  # all steps are there again
    assert (visitor.number("Rotation °"), visitor.number("X")) == (0, dragged)
    visitor.press("Undo (Ctrl+Z)")
    assert visitor.number("X") == x
    visitor.after_step(lambda: visitor.page.keyboard.press("Control+Shift+z"))
    since = time.time()
    visitor.after_step(lambda: visitor.page.keyboard.press("Control+Shift+z"))
    assert visitor.number("Rotation °") == 20
    wait_kept(visitor, own_server, 2, since)

    own_server.kill()  # a crash
    own_server.start()
    visitor.visit()
    expect(visitor.question).to_contain_text("coffee: 4 objects")
    visitor.page.keyboard.press("Escape")  # which is no answer
    visitor.visit()
    visitor.answer("Open")
    visitor.choose("cup")
    assert visitor.number("Rotation °") == 20
    other = open_page(at=own_server.url, width=width, height=height)  # another browser
    assert other.mode == "" and other.question.is_hidden()
    visitor.visit()
    visitor.answer("Discard")
    visitor.visit()
    visitor.wait_mode("edit", SLOW)
    assert visitor.question.is_hidden()


@SIZES
def test_steps_back_and_forth_keep_the_edits(open_page, screenshots, width, height):
    visitor = open_page(width=width, height=height, start="coffee")
    visitor.after_step(lambda: visitor.drag(HANDLE))
    x = visitor.number("X")
    visitor.go_back_to("Mark")
    visitor.page.click("#complete")  # the same masks
    visitor.wait_mode("look")
    visitor.edit()
    visitor.choose("cup")
    assert visitor.number("X") == x

    visitor.go_back_to("Mark")
    visitor.page.locator("#mark-panel .ad-row", has_text="cup").click()
    visitor.settle()
    visitor.page.get_by_role("button", name="Brush").click()
    visitor.after_step(lambda: visitor.drag([(30, 30), (60, 40)]))
    visitor.page.click("#complete")
    expect(visitor.question).to_contain_text("The outlines of cup have changed")
    visitor.screenshot(screenshots, f"work-ask-masks-{width}")
    visitor.answer("Back to marking")
    assert visitor.mode == "mark"
    visitor.page.click("#complete")
    visitor.answer("Complete")
    expect(visitor.work).to_be_visible()
    visitor.screenshot(screenshots, f"work-bar-{width}")
    visitor.wait_mode("look", SLOW)
    visitor.edit()
    visitor.choose("cup")
    assert visitor.number("X") != x


@SIZES
def test_another_photo_asks_first(open_page, screenshots, width, height):
    visitor = open_page(width=width, height=height, start="coffee")
    visitor.go_back_to("Mark")
    visitor.example("coffee")  # nothing is lost: no question
    visitor.page.get_by_role("button", name="Brush").click()
    visitor.after_step(lambda: visitor.drag([(30, 30), (60, 40)]))
    visitor.page.click(".ad-example[data-key=woven]")
    expect(visitor.question).to_contain_text("You have 5 marked objects here, which it would replace")
    visitor.screenshot(screenshots, f"work-ask-photo-{width}")
    visitor.answer("Stay here")
    expect(visitor.rows("mark-panel")).to_have_count(5)
    visitor.page.click(".ad-example[data-key=woven]")
    visitor.after_step(lambda: visitor.answer("Open"))
    expect(visitor.rows("mark-panel")).to_have_count(2)


@SIZES
def test_a_slow_server_does_what_was_seen(open_page, screenshots, width, height):
    visitor = open_page(width=width, height=height, start="coffee")
    visitor.choose("coffee")
    x = visitor.number("X")
    visitor.choose("cup")
    fast = slow_down(visitor, 1200)
    panel = visitor.page.locator("#edit-panel")
    panel.get_by_role("button", name="Send behind everything", exact=True).click()
    panel.locator(".ad-row", has_text="spoon").click()
    visitor.stage.focus()
    visitor.page.keyboard.press("Delete")  # before any answer is there
    visitor.page.keyboard.press("Delete")  # nothing is chosen any more
    visitor.settle()
    names = panel.locator(".ad-name").all_inner_texts()
    assert sorted(names) == ["coffee", "cup", "saucer"]
    surface = [(320, 150), (290, 145), (260, 140)]
    visitor.drag(surface)
    visitor.drag(surface[::-1])
    visitor.drag(surface)
    visitor.settle()
    fast()
    visitor.choose("coffee")
    assert visitor.number("X") == pytest.approx(x - 60, abs=2)
    visitor.screenshot(screenshots, f"work-slow-{width}")

    # What the server chose, a copy, stays chosen while the next answer is not there.
    visitor.choose("cup")
    visitor.press("A copy beside it")
    fast = slow_down(visitor, 1200)
    panel.get_by_role("button", name="Mirror left to right", exact=True).click()
    expect(panel.locator('.ad-row[aria-pressed="true"]')).to_contain_text("cup copy")
    visitor.page.keyboard.press("Delete")
    visitor.settle()
    fast()
    assert sorted(panel.locator(".ad-name").all_inner_texts()) == ["coffee", "cup", "saucer"]


@SIZES
def test_long_work_can_be_cancelled(open_page, screenshots, width, height):
    visitor = open_page(width=width, height=height)
    visitor.example("coffee")
    before = visitor.pixels()
    visitor.page.locator("#pipeline input").click()
    visitor.page.get_by_role("option", name="OccAmodal").click()
    expect(visitor.page.locator("#about")).to_contain_text("Finds by itself what hides an object")
    visitor.page.click("#complete")
    expect(visitor.work).to_contain_text("…")
    assert visitor.pixels() == before  # the picture stays in view
    for part in (visitor.work, visitor.stage.locator("canvas")):
        expect(part).to_be_in_viewport(ratio=0.9)
    visitor.work.get_by_role("button", name="Cancel").click()
    expect(visitor.page.locator(".toast-body", has_text="Everything is as it was")).to_be_visible(timeout=SLOW)
    expect(visitor.work).to_be_hidden()
    assert visitor.mode == "mark"
    toast = visitor.page.locator(".toast-body").first.bounding_box()
    steps = visitor.page.locator("#steps").get_by_role("tablist").bounding_box()
    beside = toast["x"] + toast["width"] <= steps["x"]
    assert beside or toast["y"] >= steps["y"] + steps["height"] or toast["y"] + toast["height"] <= steps["y"]
    visitor.screenshot(screenshots, f"work-cancelled-{width}")
    expect(visitor.page.locator(".toast-body")).to_have_count(0, timeout=USUAL)


@SIZES
def test_steps_lead_on_where_somebody_has_been(open_page, width, height):
    """Gradio's own stepper leads back alone."""
    visitor = open_page(width=width, height=height, start="coffee")

    def press(step):
        box = visitor.page.locator("#steps").get_by_role("tab", name=step).bounding_box()
        visitor.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    visitor.go_back_to("Mark")
    for step, mode in (("Edit", "edit"), ("Mark", "mark"), ("Complete", "look")):
        press(step)
        visitor.wait_mode(mode)
        visitor.settle()


@SIZES
def test_what_goes_out_comes_in_again(open_page, screenshots, tmp_path, width, height):
    visitor = open_page(width=width, height=height, start="coffee")
    visitor.after_step(lambda: visitor.drag(HANDLE))
    x = visitor.number("X")
    exported = {
        label: visitor.export(label, tmp_path) for label in ("OpenRaster", "Photoshop", "Layers as PNG", "COCO")
    }
    names = sorted(path.name for path in exported.values())
    assert names == ["coffee-coco.zip", "coffee-layers.ora", "coffee-layers.psd", "coffee-layers.zip"]
    with zipfile.ZipFile(exported["Layers as PNG"]) as archive:
        archive.extractall(tmp_path / "folder")
    loose = [path for path in (tmp_path / "folder").rglob("*") if path.is_file()]
    other = open_page(width=width, height=height)
    for files in (*([path] for path in exported.values()), loose):
        other.after_step(lambda files=files: other.upload("scene-upload", files))
        other.wait_mode("edit")
        other.choose("cup")
        assert other.number("X") == x
        other.go_back_to("Mark")
    other.screenshot(screenshots, f"work-opened-scene-{width}")
    (tmp_path / "broken.ora").write_bytes(exported["OpenRaster"].read_bytes()[:5000])
    other.upload("scene-upload", [tmp_path / "broken.ora"])
    expect(other.page.locator(".toast-body", has_text="broken.ora: no complete zip")).to_be_visible()
    other.screenshot(screenshots, f"work-broken-scene-{width}")


@SIZES
def test_a_photo_of_12_megapixels_keeps_its_pixels(open_page, screenshots, tmp_path, width, height):
    rows, columns = np.mgrid[:3000, :4000]
    photo = np.stack([rows // 16, columns // 20, (rows ^ columns) & 63], axis=2).astype(np.uint8)
    bar = (rows > 1100) & (rows < 1900) & (columns > 400) & (columns < 3600)
    disc = (rows - 1500) ** 2 + (columns - 2000) ** 2 < 750**2
    photo[bar], photo[disc] = (210, 160, 40), (40, 120, 200)
    Image.fromarray(photo).save(tmp_path / "large.png")
    for name, mask in (("bar", bar & ~disc), ("disc", disc)):
        Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / f"{name}.png")
    visitor = open_page(width=width, height=height)
    visitor.after_step(lambda: visitor.upload("photo-upload", tmp_path / "large.png"))
    expect(visitor.page.locator(".toast-body", has_text="own 4000 x 3000")).to_be_visible()
    visitor.after_step(lambda: visitor.upload("mask-upload", [tmp_path / "bar.png", tmp_path / "disc.png"]))
    visitor.complete()
    visitor.edit()
    visitor.choose("disc")
    visitor.after_step(lambda: visitor.page.keyboard.press("Escape"))
    visitor.screenshot(screenshots, f"work-large-{width}")
    picture = Image.open(visitor.export("Picture (.png)", tmp_path, timeout=3 * SLOW))
    assert picture.size == (4000, 3000) and (np.asarray(picture) == photo).all()
    visitor.choose("disc")
    visitor.type_number("X", visitor.number("X") + 100)
    scene = Scene.load(visitor.export("OpenRaster", tmp_path, timeout=3 * SLOW))
    assert scene.size == (4000, 3000) and [layer.name for layer in scene.layers] == ["bar", "disc"]
    visitor.page.locator("#own-size input").click()
    preview = Image.open(visitor.export("Picture (.png)", tmp_path))
    assert preview.width * preview.height <= 1_500_000 and "preview" in preview.filename


def test_a_finished_example_says_what_was_found(open_page):
    """The second step knows of scenes that were completed elsewhere, and the page stays at the step that it opened."""
    visitor = open_page(start="coffee")
    visitor.page.wait_for_timeout(1500)
    assert visitor.mode == "edit"
    visitor.go_back_to("Complete")
    expect(visitor.page.locator("#summary")).to_contain_text("saucer: ")
    expect(visitor.page.locator("#shape-of input")).to_have_value("saucer")


def test_a_reload_at_once_and_two_tabs(open_page):
    visitor = open_page(start="coffee")
    visitor.after_step(lambda: visitor.drag(HANDLE))
    visitor.visit()
    visitor.answer("Open")
    visitor.wait_mode("edit")
    first = visitor.page
    visitor.page = second = visitor.context.new_page()
    visitor.visit()
    visitor.answer("Open")
    visitor.wait_mode("edit")
    visitor.choose("spoon")
    visitor.type_number("Rotation °", 33)
    visitor.page = first
    visitor.choose("saucer")
    visitor.type_number("Rotation °", 10)
    visitor.visit()
    visitor.answer("Open")  # the last one
    visitor.choose("saucer")
    assert visitor.number("Rotation °") == 10
    visitor.visit()
    visitor.answer("Discard")
    visitor.visit()
    visitor.answer("Open")  # that of the other tab
    visitor.choose("spoon")
    assert visitor.number("Rotation °") == 33
    second.close()


def test_a_server_that_was_started_anew_wipes_nothing(open_page, own_server):
    visitor = open_page(at=own_server.url, start="coffee")
    visitor.after_step(lambda: visitor.drag(HANDLE))
    wait_kept(visitor, own_server, 1)
    own_server.kill()
    own_server.start()
    visitor.drag(HANDLE[::-1])
    expect(visitor.page.locator(".toast-body", has_text="Reload the page")).to_be_visible()
    assert visitor.mode == "edit"
    visitor.visit()
    visitor.answer("Open")
    visitor.wait_mode("edit")


def test_nothing_is_done_beside_long_work(open_page, start_server, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SLOW_PAINTING, encoding="utf-8")
    server = start_server(tmp_path, PYTHONPATH=str(tmp_path))
    visitor = open_page(at=server.url, start="coffee")
    visitor.choose("saucer")
    panel = visitor.page.locator("#edit-panel")
    late = visitor.work.locator("button").element_handle()
    panel.get_by_role("button", name="Paint the hidden part of saucer anew").click()
    expect(visitor.work).to_be_visible()
    panel.get_by_role("button", name="Show spoon", exact=True).dispatch_event("click")
    visitor.page.keyboard.press("Delete")
    expect(visitor.work).to_be_hidden(timeout=SLOW)
    assert panel.get_by_role("button", name="Show spoon", exact=True).get_attribute("aria-pressed") == "true"
    late.evaluate("button => button.click()")  # as the work had just ended
    visitor.page.wait_for_timeout(500)
    before = visitor.stamp
    panel.get_by_role("button", name="Paint the hidden part of saucer anew").click()
    visitor.page.wait_for_function(
        "before => document.querySelector('.ad-stage').dataset.stamp > before", arg=before, timeout=SLOW
    )
    expect(visitor.page.locator(".toast-body", has_text="as it was")).to_have_count(0)


@SIZES
def test_keys_wait_for_the_answer_to_a_question(open_page, width, height):
    visitor = open_page(width=width, height=height, start="coffee")
    visitor.after_step(lambda: visitor.drag(HANDLE))
    visitor.go_back_to("Mark")
    visitor.page.locator("#mark-panel .ad-row", has_text="cup").click()
    visitor.settle()
    visitor.page.click(".ad-example[data-key=woven]")
    expect(visitor.question).to_be_visible()
    visitor.page.keyboard.press("Delete")
    visitor.page.keyboard.press("Control+z")
    visitor.answer("Stay here")
    expect(visitor.rows("mark-panel")).to_have_count(4)
