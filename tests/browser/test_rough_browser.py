"""Rough use of the page: no mouse, a full disk, odd files, lines instead of boxes, work that is cancelled, haste."""

import contextlib
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from amodal_diffusion import Scene
from demo_page import SLOW

pytestmark = pytest.mark.browser

SIZES = pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)], ids=["desktop", "phone"])
HANDLE = [(212, 285), (182, 265), (152, 245)]
"""Along the handle of the cup, where nothing else is."""


def toast(visitor, words):
    return visitor.page.locator(".toast-body", has_text=words)


def shapes_photo(path, scale=1, **how):
    """A photo of 320 x 240 times `scale` pixels with a disc before a bar, saved in the format of `path`."""
    rows, columns = np.mgrid[: 240 * scale, : 320 * scale] // scale
    photo = np.stack([rows // 4 + 60, columns // 6 + 60, np.full_like(rows, 90)], axis=2).astype(np.uint8)
    photo[(rows > 150) & (rows < 220) & (columns > 30) & (columns < 290)] = (210, 160, 40)
    photo[(rows - 110) ** 2 + (columns - 160) ** 2 < 60**2] = (40, 120, 220)
    Image.fromarray(photo).save(path, **how)
    return path


# Without a mouse


class Keys:
    """A visitor who has nothing but keys."""

    def __init__(self, visitor):
        self.visitor, self.keyboard = visitor, visitor.page.keyboard

    def tab_to(self, selector, most=150, back=False):
        """Go on with Tab until what the selector names has the focus."""
        for _ in range(most):
            if self.visitor.page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
            self.keyboard.press("Shift+Tab" if back else "Tab")
        raise AssertionError(f"Tab does not come to {selector}")

    def press_at(self, selector, key="Enter", **options):
        self.tab_to(selector, **options)
        self.keyboard.press(key)

    def cross_to(self, x, y, start):
        """Move the cross from one pixel of the picture to another."""
        for axis, (less, more) in enumerate((("ArrowLeft", "ArrowRight"), ("ArrowUp", "ArrowDown"))):
            far, near = divmod(round(abs((x, y)[axis] - start[axis]) * self.visitor.scale / 2), 10)
            way = more if (x, y)[axis] > start[axis] else less
            for _ in range(far):
                self.keyboard.press(f"Shift+{way}")
            for _ in range(near):
                self.keyboard.press(way)
        return x, y


@SIZES
def test_a_whole_session_by_keys_alone(open_page, screenshots, tmp_path, width, height):
    visitor = open_page(width=width, height=height)
    keys, step = Keys(visitor), visitor.after_step
    step(lambda: keys.press_at(".ad-example[data-key=coffee]"))
    step(lambda: keys.press_at('[aria-label="Remove all objects"]'))
    # The cup by a click, the spoon by a box.
    keys.tab_to(".ad-stage", back=True)
    expect(visitor.stage.locator(".ad-hint")).to_contain_text("Enter brings a cross")
    keys.keyboard.press("Enter")
    place = keys.cross_to(212, 285, (300, 200))
    step(lambda: keys.keyboard.press("Enter"))
    expect(visitor.rows("mark-panel")).to_have_count(1)
    assert visitor.stage.locator(".ad-hint").evaluate("hint => hint.scrollHeight <= hint.clientHeight")
    visitor.screenshot(screenshots, f"rough-keys-cross-{width}")
    keys.keyboard.press("n")
    visitor.settle()
    place = keys.cross_to(325, 220, place)
    keys.keyboard.press("b")
    keys.cross_to(425, 320, place)
    step(lambda: keys.keyboard.press("b"))
    expect(visitor.rows("mark-panel")).to_have_count(2)
    keys.keyboard.press("Escape")  # the cross goes, then the choice
    # A corner of the table by an outline, and out again.
    step(lambda: keys.keyboard.press("n"))
    keys.press_at('.ad-tools [data-key="outline"]', back=True)
    keys.tab_to(".ad-stage", back=True)
    keys.keyboard.press("Enter")
    place = (300, 200)
    for corner in ((20, 20), (60, 20), (60, 60)):
        place = keys.cross_to(*corner, place)
        keys.keyboard.press("Enter")
    step(lambda: keys.keyboard.press("Enter"))
    expect(visitor.rows("mark-panel")).to_have_count(3)
    visitor.screenshot(screenshots, f"rough-keys-marked-{width}")
    step(lambda: keys.keyboard.press("Delete"))
    expect(visitor.rows("mark-panel")).to_have_count(2)

    keys.press_at("#complete")
    visitor.wait_mode("look", SLOW)
    keys.press_at("#to-edit")
    visitor.wait_mode("edit")
    step(lambda: keys.press_at("#edit-panel .ad-row"))
    expect(visitor.page.locator('#edit-panel .ad-row[aria-pressed="true"]')).to_have_count(1)
    x = visitor.number("X")
    keys.tab_to(".ad-stage", back=True)
    step(lambda: keys.keyboard.press("Shift+ArrowLeft"))
    assert visitor.number("X") == pytest.approx(x - 10)
    step(lambda: keys.keyboard.press("Control+z"))
    assert visitor.number("X") == pytest.approx(x)
    step(lambda: keys.keyboard.press("Delete"))
    expect(visitor.rows("edit-panel")).to_have_count(1)
    step(lambda: keys.keyboard.press("Control+z"))
    expect(visitor.rows("edit-panel")).to_have_count(2)
    visitor.screenshot(screenshots, f"rough-keys-edited-{width}")
    with visitor.page.expect_download() as download:
        keys.press_at("#export")
    download.value.save_as(tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").size == (600, 400)


@SIZES
def test_tab_goes_down_the_page_as_the_eye_does(open_page, width, height):
    visitor = open_page(width=width, height=height)
    visitor.example("coffee")
    visitor.page.evaluate("scrollTo(0, 0)")
    visitor.page.wait_for_timeout(1000)  # Chromium counts the order of Tab anew some time after the layout
    seen, places = [], []
    visitor.stage.focus()
    for _ in range(80):
        place = visitor.page.evaluate(
            """() => {
                const node = document.activeElement, box = node.getBoundingClientRect();
                const part = node.closest("#stage-column") ? "picture" : node.closest("#steps") ? "steps" : "";
                const words = node.getAttribute("aria-label") || node.textContent.trim() || node.id;
                const scroller = node.closest(".ad-list");  // in a list of its own height the list counts
                const top = scroller ? scroller.getBoundingClientRect().top : box.top;
                const middle = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
                const seen = Boolean(middle && (node.contains(middle) || middle.contains(node)));
                return [part, words, part === "picture" ? top : top + scrollY, seen, node.tagName];
            }"""
        )
        if place[4] == "BODY" or (seen and place[:2] == seen[0]):
            break
        seen.append(place[:2])
        places.append(place)
        visitor.page.keyboard.press("Tab")
    hidden = [words for part, words, _, is_seen, _ in places if part == "steps" and not is_seen]
    assert hidden == [], f"covered while they have the focus: {hidden}"
    parts = [part for part, _ in seen if part]
    assert parts == sorted(parts) and {"picture", "steps"} <= set(parts), seen
    for part in ("picture", "steps"):
        tops = [(top, words) for name, words, top, _, _ in places if name == part][part == "picture" :]
        for (before, first), (after, second) in zip(tops, tops[1:], strict=False):
            assert after > before - 60, f"from {first!r} Tab goes up to {second!r}: {seen}"


# Pointers


@SIZES
def test_lines_slips_and_boxes_beyond_the_picture(open_page, screenshots, tmp_path, width, height):
    visitor = open_page(width=width, height=height)
    visitor.after_step(lambda: visitor.upload("photo-upload", shapes_photo(tmp_path / "shapes.png")))
    visitor.into_view()
    rows = visitor.rows("mark-panel")
    visitor.after_step(lambda: visitor.drag([(60, 30), (200, 30)]))  # a box without any height
    expect(toast(visitor, "Drag from one corner of the object to the one across")).to_be_visible()
    expect(rows).to_have_count(0)
    visitor.screenshot(screenshots, f"rough-line-{width}")
    slip = 9 / visitor.scale
    visitor.after_step(lambda: visitor.drag([(160, 90), (160 + slip, 90)]))  # a hand that shakes
    expect(rows).to_have_count(1)
    assert float(rows.first.locator("small").inner_text().split("%")[0]) > 5
    visitor.after_step(lambda: visitor.tool("New object"))
    stamp = visitor.stamp
    visitor.drag([(-4, 40), (-2, 90)])  # beside the picture
    visitor.page.wait_for_timeout(800)
    assert visitor.stamp == stamp
    visitor.after_step(lambda: visitor.drag([(-3, 145), (322, 242)]))  # around the bar, and beyond
    expect(rows).to_have_count(2)
    visitor.screenshot(screenshots, f"rough-box-beyond-{width}")
    visitor.page.mouse.move(*visitor.point(250, 100))
    visitor.page.mouse.down()
    visitor.page.mouse.move(*visitor.point(330, 60), steps=4)
    visitor.page.mouse.up()  # let go outside
    visitor.settle()
    assert "Traceback" not in visitor.page.content()


def test_a_photo_of_12_megapixels_from_a_click_to_its_export(open_page, screenshots, tmp_path):
    visitor = open_page(width=390, height=844)
    path = shapes_photo(tmp_path / "IMG_0042.jpg", 13, quality=95)
    visitor.after_step(lambda: visitor.upload("photo-upload", path))
    width, height = Image.open(path).size
    assert width * height > 12_000_000
    expect(toast(visitor, f"own {width} x {height}")).to_be_visible()
    scale = float(re.search(r"preview of (\d+)", toast(visitor, "preview of").inner_text())[1]) / 320
    visitor.click_at(160 * scale, 100 * scale)
    visitor.after_step(lambda: visitor.tool("New object"))
    visitor.after_step(lambda: visitor.drag([(28 * scale, 148 * scale), (292 * scale, 222 * scale)]))
    expect(visitor.rows("mark-panel")).to_have_count(2)
    visitor.complete()
    visitor.edit()
    visitor.choose("object 1")
    visitor.type_number("Y", visitor.number("Y") - round(30 * scale))
    visitor.screenshot(screenshots, "rough-large-390")
    picture = Image.open(visitor.export("Picture (.png)", tmp_path, timeout=3 * SLOW)).convert("RGB")
    assert picture.size == (width, height)
    assert picture.getpixel((160 * 13, 40 * 13)) == pytest.approx((40, 120, 220), abs=12)  # the disc is up there now


# Long work that is cancelled


def cancel_at_once(visitor, act, in_time=True):
    """Do something that takes long, and press "Cancel" as soon as it is there; whether that was in time.

    Work of less than a second may end first; what has to be in time is `in_time`.
    """
    visitor.page.evaluate(
        """() => {
            const bar = document.querySelector(".ad-work");
            const seen = new MutationObserver(() => {
                if (bar.hidden) return;
                seen.disconnect();
                bar.querySelector("button").click();
            });
            seen.observe(bar, { attributes: true });
        }"""
    )
    said, before = toast(visitor, "Everything is as it was"), visitor.stamp
    act()
    ended = """before => document.querySelector(".ad-stage").dataset.stamp > before ||
        document.querySelector(".toast-body, #shape-gallery img")"""
    visitor.page.wait_for_function(ended, arg=before, timeout=SLOW)
    if in_time:
        expect(said.first).to_be_visible(timeout=SLOW)
    expect(visitor.work).to_be_hidden()
    return said.count() > 0


@SIZES
def test_each_kind_of_long_work_can_be_cancelled(open_page, screenshots, tmp_path, width, height):
    visitor = open_page(width=width, height=height, start="coffee")

    def cancelled(act, shot="", in_time=True):
        before = visitor.pixels()
        if not cancel_at_once(visitor, act, in_time):
            return False
        if shot:
            visitor.screenshot(screenshots, f"rough-cancel-{shot}-{width}")
        expect(toast(visitor, "Everything is as it was")).to_have_count(0)
        assert visitor.pixels() == before
        return True

    panel = visitor.page.locator("#edit-panel")
    visitor.choose("saucer")
    visitor.page.get_by_label("Fill the hidden part with").select_option("pcnet-c")
    paint = panel.get_by_role("button", name="Paint the hidden part of saucer anew")
    if cancelled(paint.click, "paint", in_time=False):
        expect(panel.get_by_role("button", name="Undo (Ctrl+Z)")).to_be_disabled()
    else:
        visitor.press("Undo (Ctrl+Z)")
    visitor.go_back_to("Complete")
    if cancelled(lambda: visitor.page.click("#draw-shapes"), in_time=False):
        expect(visitor.page.locator("#shape-gallery img")).to_have_count(0)
    # At the photo's own size, and once more to the end.
    visitor.go_back_to("Mark")
    photo = shapes_photo(tmp_path / "large.png", 10)
    visitor.after_step(lambda: visitor.upload("photo-upload", photo))
    scale = float(re.search(r"preview of (\d+)", toast(visitor, "preview of").inner_text())[1]) / 320
    visitor.click_at(160 * scale, 100 * scale)
    visitor.complete()
    visitor.edit()
    visitor.page.locator("#format input").click()
    visitor.page.get_by_role("option", name="OpenRaster").click()
    downloads = []
    visitor.page.on("download", lambda download: downloads.append(download))
    cancelled(lambda: visitor.page.click("#export"), "export")
    assert downloads == []
    scene = Scene.load(visitor.export("OpenRaster", tmp_path, timeout=3 * SLOW))
    assert scene.size == (3200, 2400)


def test_looking_for_objects_can_be_cancelled(open_page, sam_address, tmp_path):
    visitor = open_page(at=sam_address)
    visitor.after_step(lambda: visitor.upload("photo-upload", shapes_photo(tmp_path / "shapes.png", 3)))
    cancel_at_once(visitor, lambda: visitor.page.click("#find"))
    expect(visitor.rows("mark-panel")).to_have_count(0)


# Haste


@SIZES
def test_two_examples_in_quick_succession(open_page, width, height):
    visitor = open_page(width=width, height=height)
    visitor.example("ring")
    for first, second, count in (("coffee", "astronaut", 5), ("astronaut", "woven", 2), ("woven", "coffee", 4)):
        for key in (first, second):
            visitor.page.locator(f".ad-example[data-key={key}]").dispatch_event("click")
        expect(visitor.rows("mark-panel")).to_have_count(count)
        visitor.settle()
    # Another one while the first is completed.
    visitor.page.click("#complete")
    visitor.page.locator(".ad-example[data-key=astronaut]").dispatch_event("click")
    expect(visitor.rows("mark-panel")).to_have_count(5)
    visitor.page.wait_for_timeout(3000)
    expect(visitor.work).to_be_hidden(timeout=SLOW)
    expect(visitor.rows("mark-panel")).to_have_count(5)  # whichever of the two has ended first
    assert visitor.mode == "mark"
    visitor.complete()
    expect(visitor.page.locator("#summary")).to_contain_text("flag")


# Files


def odd_files(folder):
    """Pictures that are seldom seen, by what the page says of each: "" where it takes it."""
    noise = Image.effect_noise((96, 64), 90)
    plain = noise.convert("RGB")
    made = {}

    def save(name, image, says, **how):
        image.save(folder / name, **how)
        made[name] = says

    save("cmyk.jpg", plain.convert("CMYK"), "")
    save("sixteen.png", Image.fromarray(np.full((64, 96), 40_000, np.uint16)), "")
    save("sixteen.tif", Image.fromarray(np.full((64, 96), 40_000, np.uint16)), "")
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    save("turned.jpg", plain, "", exif=exif)
    clear = plain.convert("RGBA")
    clear.putalpha(noise)
    save("clear.png", clear, "")
    save("palette.png", plain.quantize(16), "", transparency=0)
    save("moving.webp", plain, "", save_all=True, append_images=[plain.rotate(90)], duration=80)
    save("moving.png", plain, "", save_all=True, append_images=[plain.rotate(90)], duration=80)
    save("one.png", Image.new("RGB", (1, 1)), "1 x 1 pixels; each side must have at least 32")
    save("wide.png", Image.new("RGB", (4000, 40)), "4000 x 40 pixels")
    (folder / "cut.jpg").write_bytes((folder / "turned.jpg").read_bytes()[:900])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("no picture")
    plain.save(folder / "moving.gif")
    (folder / "gif.png").write_bytes((folder / "moving.gif").read_bytes())
    return made | {
        "cut.jpg": "cut.jpg cannot be read",
        "empty.png": "empty.png is not an image that can be read",
        "text.jpg": "text.jpg is not an image that can be read",
        "gif.png": "gif.png is GIF",
    }


@SIZES
def test_odd_pictures_are_taken_or_refused_by_name(open_page, screenshots, tmp_path, width, height):
    visitor = open_page(width=width, height=height)
    for name, says in odd_files(tmp_path).items():
        if says:
            visitor.upload("photo-upload", tmp_path / name)
            expect(toast(visitor, says)).to_be_visible()
        else:
            visitor.after_step(lambda name=name: visitor.upload("photo-upload", tmp_path / name))
            shown = "64 × 96 px" if name == "turned.jpg" else "96 × 64 px"
            expect(visitor.stage.locator(".ad-dims")).to_have_text(shown)
    visitor.screenshot(screenshots, f"rough-odd-files-{width}")
    assert "Traceback" not in visitor.page.content() and str(tmp_path) not in visitor.page.content()


@pytest.mark.parametrize(
    "name",
    [
        "späße & <b>größe<b> #1 %41.png",
        "猫 🐈 'und' \"hund\".png",
        "..." + "x" * 180 + ".png",
        "-rf $(HOME);.PNG",
    ],
    ids=["markup", "far", "long", "shell"],
)
def test_names_of_files_with_odd_characters(open_page, tmp_path, name):
    visitor = open_page()
    path = shapes_photo(tmp_path / name, format="PNG")
    visitor.after_step(lambda: visitor.upload("photo-upload", path))
    visitor.click_at(160, 90)
    visitor.complete()
    visitor.edit()
    out = visitor.export("OpenRaster", tmp_path)
    assert out.suffix == ".ora" and len(out.name) <= 120 and "/" not in out.name
    assert Scene.load(out).size == (320, 240)
    assert visitor.page.locator(".ad-stage b b, .ad-toast b").count() == 0
    other = open_page()
    other.after_step(lambda: other.upload("scene-upload", [out]))
    other.wait_mode("edit")


# A full disk


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 12 MB, and what fills it to the last byte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)]
    if os.getuid() != 0 or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk can be mounted by root alone")

    def fill():
        with (place / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass

    yield place, fill, (place / "filler").unlink
    subprocess.run(["umount", "-l", str(place)], check=True)


@SIZES
def test_a_full_disk(open_page, screenshots, tmp_path, small_disk, start_server, width, height):
    place, fill, empty = small_disk
    for name in ("files", "tmp", "kept"):
        (place / name).mkdir()
    folder = tmp_path / "server"
    folder.mkdir()
    environ = {"GRADIO_TEMP_DIR": str(place / "files"), "TMPDIR": str(place / "tmp")}
    server = start_server(folder, "--keep", str(place / "kept"), **environ)
    visitor = open_page(at=server.url, width=width, height=height, start="coffee")
    fill()
    visitor.after_step(lambda: visitor.drag(HANDLE))  # which is done, although it cannot be kept
    visitor.page.wait_for_timeout(4000)
    visitor.type_number("Rotation °", 12)
    expect(toast(visitor, "Your work cannot be kept on the server")).to_be_visible()
    visitor.screenshot(screenshots, f"rough-full-disk-{width}")
    visitor.page.locator(".toast-close").first.click()  # it stays until then
    visitor.page.click("#export")
    expect(toast(visitor, "cannot write files at the moment")).to_be_visible()
    visitor.go_back_to("Mark")
    visitor.upload("photo-upload", shapes_photo(tmp_path / "shapes.png", 8))
    expect(toast(visitor, re.compile("cannot|failed|again"))).not_to_have_count(0)
    visitor.screenshot(screenshots, f"rough-full-disk-upload-{width}")
    visitor.page.click("#complete")  # which is done already
    visitor.wait_mode("look")
    visitor.edit()
    visitor.choose("cup")
    assert visitor.number("Rotation °") == 12
    empty()
    visitor.type_number("Rotation °", 24)
    assert visitor.export("OpenRaster", tmp_path).stat().st_size > 10_000
    visitor.page.wait_for_timeout(4000)
    visitor.visit()
    visitor.answer("Open")
    visitor.wait_mode("edit")
    visitor.choose("cup")
    assert visitor.number("Rotation °") == 24
