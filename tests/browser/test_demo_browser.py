"""From a photo to an exported scene in a browser, as visitors do it."""

import zipfile

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from amodal_diffusion import Scene
from demo_page import SLOW

pytestmark = pytest.mark.browser


@pytest.fixture
def photo_file(tmp_path):
    """A photo of 320 x 240 pixels with a disc before a bar, and the masks of both."""
    rows, columns = np.mgrid[:240, :320]
    photo = np.stack([rows // 2, columns // 3, np.full_like(rows, 90)], axis=2).astype(np.uint8)
    bar = (rows > 90) & (rows < 150) & (columns > 30) & (columns < 290)
    disc = (rows - 120) ** 2 + (columns - 160) ** 2 < 60**2
    photo[bar], photo[disc] = (210, 160, 40), (40, 120, 200)
    Image.fromarray(photo).save(tmp_path / "shapes.png")
    for name, mask in (("bar", bar & ~disc), ("disc", disc)):
        Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / f"{name}.png")
    return tmp_path / "shapes.png"


def test_example_to_exported_scene(open_page, screenshots, tmp_path):
    visitor = open_page()
    visitor.screenshot(screenshots, "1-start")
    visitor.example("coffee")
    expect(visitor.rows("mark-panel")).to_have_count(4)
    visitor.screenshot(screenshots, "2-marked")
    visitor.complete()
    visitor.screenshot(screenshots, "3-parts")
    for view in ("Order", "Whole objects"):
        visitor.after_step(lambda view=view: visitor.page.get_by_label(view, exact=True).click())
        visitor.screenshot(screenshots, f"3-{view.split()[0].lower()}")
    visitor.edit()
    untouched = visitor.pixels()

    # Drag the cup by 60 to the left and 40 up: its handle is where nothing else is.
    visitor.choose("cup")
    x, y = visitor.number("X"), visitor.number("Y")
    visitor.after_step(lambda: visitor.drag([(212, 285), (182, 265), (152, 245)]))
    assert (visitor.number("X"), visitor.number("Y")) == (pytest.approx(x - 60, abs=2), pytest.approx(y - 40, abs=2))
    visitor.screenshot(screenshots, "4-dragged")
    visitor.after_step(lambda: visitor.page.keyboard.press("Control+z"))
    assert (visitor.number("X"), visitor.number("Y")) == (x, y)

    # Type numbers, and undo with the button.
    visitor.type_number("X", x + 150)
    visitor.type_number("Width %", 80)
    visitor.type_number("Rotation °", 15)
    assert (visitor.number("Width %"), visitor.number("Rotation °")) == (80, 15)
    visitor.screenshot(screenshots, "5-typed")
    for _ in range(2):
        visitor.press("Undo (Ctrl+Z)")
    assert (visitor.number("Width %"), visitor.number("X")) == (100, x + 150)
    visitor.press("Bring to the front of everything")
    assert visitor.pixels() != untouched

    # Take it home.
    picture = Image.open(visitor.export("Picture (.png)", tmp_path))
    assert picture.size == (600, 400) and picture.format == "PNG"
    scene = Scene.load(visitor.export("OpenRaster", tmp_path))
    assert [layer.name for layer in scene.layers] == ["saucer", "cup", "coffee", "spoon"]
    assert scene.layers[1].box[:2] == (x + 150, y)
    assert (np.asarray(picture) == scene.render(output_type="np")).all()
    with zipfile.ZipFile(visitor.export("Layers as PNG", tmp_path)) as archive:
        archive.extractall(tmp_path / "layers")
    assert Scene.load(tmp_path / "layers" / "coffee-layers").equals(scene)
    visitor.press("Back to the photo as it was")
    assert (visitor.number("X"), visitor.number("Y")) == (x, y)
    visitor.go_back_to("Mark")
    visitor.wait_mode("mark")
    visitor.page.locator("#mark-panel .ad-row").first.click()
    visitor.press("Delete this object")
    expect(visitor.rows("mark-panel")).to_have_count(3)


def test_handles_resize_and_turn(open_page, screenshots):
    visitor = open_page(width=420, height=860)  # a telephone
    visitor.example("astronaut")
    visitor.complete()
    visitor.edit()
    visitor.choose("shuttle model")
    x, y, width, height = visitor.box("shuttle model")
    centre = np.array([x + width / 2, y + height / 2])
    corner = np.array([x, y + height])
    visitor.after_step(lambda: visitor.drag([corner, centre + 0.75 * (corner - centre)]))
    assert visitor.number("Width %") == pytest.approx(75, abs=3)
    visitor.screenshot(screenshots, "6-telephone")
    visitor.type_number("Width %", 50)
    reach = 0.5 * height / 2 + 26 / visitor.scale  # of the knob above the centre
    visitor.after_step(lambda: visitor.drag([centre - (0, reach), centre + (reach, -reach), centre + (reach, 0)]))
    assert visitor.number("Rotation °") == pytest.approx(-90, abs=3)
    visitor.stage.focus()
    left = visitor.number("X")
    visitor.after_step(lambda: visitor.page.keyboard.press("Shift+ArrowLeft"))
    assert visitor.number("X") == pytest.approx(left - 10)
    visitor.after_step(lambda: visitor.page.keyboard.press("Delete"))
    expect(visitor.rows("edit-panel")).to_have_count(4)


def test_each_visitor_has_a_scene(open_page, screenshots):
    first, second = open_page(), open_page(dark=True)
    first.example("woven")
    assert second.mode == ""
    second.example("astronaut")
    expect(first.rows("mark-panel")).to_have_count(2)
    expect(second.rows("mark-panel")).to_have_count(5)
    second.screenshot(screenshots, "6-dark-marked")
    for visitor in (first, second):
        visitor.complete()
        visitor.edit()
    first.choose("bar")
    before = first.number("X")
    second.choose("helmet")
    second.press("Remove it (Del)")
    expect(second.rows("edit-panel")).to_have_count(4)
    second.screenshot(screenshots, "6-dark-removed")
    expect(first.rows("edit-panel")).to_have_count(2)
    first.press("Mirror left to right")
    assert first.number("X") == before
    expect(first.rows("edit-panel")).to_have_count(2)
    expect(second.rows("edit-panel")).to_have_count(4)


def test_photo_marked_by_hand(open_page, screenshots, photo_file):
    visitor = open_page()
    visitor.after_step(lambda: visitor.upload("photo-upload", photo_file))
    turn = np.linspace(0, 2 * np.pi, 24)
    circle = [(160 + 60 * np.cos(t), 120 + 60 * np.sin(t)) for t in turn]
    visitor.page.get_by_role("button", name="Outline").click()
    visitor.after_step(lambda: visitor.drag(circle))
    expect(visitor.rows("mark-panel")).to_have_count(1)
    # The bar with the brush: its left part, as a new object.
    visitor.page.get_by_role("button", name="Choose").click()
    visitor.after_step(lambda: visitor.page.mouse.click(*visitor.point(10, 10)))
    visitor.page.get_by_role("button", name="Brush").click()
    visitor.after_step(lambda: visitor.drag([(45, 120), (85, 120)]))
    expect(visitor.rows("mark-panel")).to_have_count(2)
    visitor.screenshot(screenshots, "7-by-hand")
    visitor.after_step(lambda: visitor.page.keyboard.press("Control+z"))
    expect(visitor.rows("mark-panel")).to_have_count(1)
    # Point by point.
    visitor.page.get_by_role("button", name="Outline").click()
    for x, y in ((40, 100), (90, 100), (90, 140), (40, 140)):
        visitor.page.mouse.click(*visitor.point(x, y))
    visitor.after_step(lambda: visitor.page.keyboard.press("Enter"))
    expect(visitor.rows("mark-panel")).to_have_count(2)
    visitor.complete("By the outlines, the quickest (PCNet-M)")
    expect(visitor.page.locator("#summary")).to_contain_text("object")


def test_masks_of_files(open_page, photo_file):
    visitor = open_page()
    visitor.after_step(lambda: visitor.drop_photo(photo_file))
    files = [photo_file.with_name("bar.png"), photo_file.with_name("disc.png")]
    visitor.after_step(lambda: visitor.upload("mask-upload", files))
    expect(visitor.rows("mark-panel")).to_have_count(2)
    expect(visitor.rows("mark-panel").first).to_contain_text("disc")


def test_other_shapes(open_page, screenshots):
    visitor = open_page()
    visitor.example("woven")
    visitor.complete()
    visitor.page.locator("#shape-of input").click()
    visitor.page.get_by_role("option", name="frame").click()
    visitor.page.click("#draw-shapes")
    shapes = visitor.page.locator("#shape-gallery img")
    expect(shapes.nth(2)).to_be_visible(timeout=SLOW)
    assert 3 <= shapes.count() <= 6  # those that would be alike are left out
    visitor.screenshot(screenshots, "8-several-shapes")
    shapes.nth(2).click()
    expect(visitor.page.locator("#use-shape")).to_be_enabled()
    visitor.after_step(lambda: visitor.page.click("#use-shape"))
    visitor.screenshot(screenshots, "8-shapes")


def test_what_does_not_work_is_a_message(open_page, screenshots, tmp_path, photo_file):
    visitor = open_page()
    visitor.page.click("#complete")
    assert "Mark at least one object first" in visitor.message()
    (tmp_path / "no-photo.png").write_bytes(b"this is text")
    visitor.upload("photo-upload", tmp_path / "no-photo.png")
    expect(visitor.page.locator(".toast-body", has_text="no-photo.png is not an image")).to_be_visible()
    visitor.screenshot(screenshots, "9-bad-upload")
    assert visitor.mode == ""  # and the page goes on
    (tmp_path / "huge.png").write_bytes(bytes(41 * 2**20))
    visitor.upload("photo-upload", tmp_path / "huge.png")
    expect(visitor.page.locator(".toast-body", has_text="size")).to_be_visible()
    visitor.example("coffee")
    visitor.upload("mask-upload", photo_file.with_name("bar.png"))
    expect(visitor.page.locator(".toast-body", has_text="bar.png is 320x240 pixels")).to_be_visible()
    assert "Traceback" not in visitor.page.content() and str(tmp_path) not in visitor.page.content()
    expect(visitor.rows("mark-panel")).to_have_count(4)
    visitor.page.get_by_role("button", name="Eraser").click()
    visitor.after_step(lambda: visitor.drag([(10, 10), (50, 50)]))
    expect(visitor.page.locator(".toast-body", has_text="Choose the object to erase from")).to_be_visible()
