"""Everybody can mark an object: clicks and boxes, zoom, brush, overlaps; on a desktop and on a telephone."""

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

DESKTOP, TELEPHONE = (1440, 900), (390, 844)
SIZES = pytest.mark.parametrize("size", [DESKTOP, TELEPHONE], ids=["desktop", "telephone"])


@pytest.fixture
def photo_file(tmp_path):
    """A photo of 320 x 240 pixels with a disc, a bar that it does not touch, and a dot of 12 pixels."""
    rows, columns = np.mgrid[:240, :320]
    photo = np.stack([rows // 4 + 60, columns // 6 + 60, np.full_like(rows, 90)], axis=2).astype(np.uint8)
    photo[(rows > 170) & (rows < 220) & (columns > 30) & (columns < 290)] = (210, 160, 40)
    photo[(rows - 80) ** 2 + (columns - 120) ** 2 < 50**2] = (40, 120, 220)
    photo[(rows - 50) ** 2 + (columns - 280) ** 2 < 6**2] = (240, 60, 60)
    Image.fromarray(photo).save(tmp_path / "shapes.png")
    return tmp_path / "shapes.png"


@pytest.fixture
def visit(open_page, photo_file):
    """A visitor with the photo on the page."""

    def upload(size, **options):
        visitor = open_page(width=size[0], height=size[1], **options)
        visitor.after_step(lambda: visitor.upload("photo-upload", photo_file))
        return visitor

    return upload


def shares(visitor):
    """How much of the photo each object is, in percent, the newest first."""
    texts = visitor.page.locator("#mark-panel .ad-row small").all_inner_texts()
    return [float(text.split("%")[0]) for text in texts]


def clicks(visitor):
    return int(visitor.stage.get_attribute("data-clicks"))


@SIZES
def test_clicks_and_boxes(visit, screenshots, size):
    visitor = visit(size)
    visitor.click_at(120, 80)
    expect(visitor.rows("mark-panel")).to_have_count(1)
    disc = 100 * np.pi * 50**2 / (320 * 240)
    assert shares(visitor)[0] == pytest.approx(disc, rel=0.15)
    visitor.screenshot(screenshots, f"marking-click-{size[0]}")
    visitor.click_at(150, 100)  # more of the same object
    expect(visitor.rows("mark-panel")).to_have_count(1)
    both = shares(visitor)[0]
    assert both == pytest.approx(disc, rel=0.15) and clicks(visitor) == 2
    visitor.tool("Leave out")
    visitor.click_at(120, 100)
    assert shares(visitor)[0] <= both and clicks(visitor) == 3
    visitor.screenshot(screenshots, f"marking-refined-{size[0]}")
    visitor.after_step(lambda: visitor.tool("Take the last step back"))
    assert shares(visitor)[0] == both and clicks(visitor) == 2
    visitor.after_step(lambda: visitor.tool("New object"))
    visitor.after_step(lambda: visitor.drag([(268, 38), (292, 62)]))
    expect(visitor.rows("mark-panel")).to_have_count(2)
    assert 0.05 < shares(visitor)[0] < 0.6
    visitor.screenshot(screenshots, f"marking-box-{size[0]}")
    # What was pointed at belongs to the object that it made, and the ground to none.
    visitor.after_step(lambda: visitor.tool("New object"))
    visitor.tool("Choose")
    rows = visitor.rows("mark-panel")
    for x, y, pressed in ((120, 80, ["false", "true"]), (280, 50, ["true", "false"]), (30, 30, ["false", "false"])):
        visitor.click_at(x, y)
        assert [row.get_attribute("aria-pressed") for row in rows.all()] == pressed


def test_clicks_of_a_mouse_with_shift_and_its_other_button(visit):
    visitor = visit(DESKTOP)
    visitor.click_at(120, 80)
    visitor.click_at(150, 195)
    both = visitor.pixels()
    visitor.page.keyboard.down("Shift")
    visitor.click_at(200, 195)
    visitor.page.keyboard.up("Shift")
    less = visitor.pixels()
    assert clicks(visitor) == 3 and less != both
    visitor.after_step(lambda: visitor.page.keyboard.press("Control+z"))
    visitor.click_at(200, 195, button="right")
    assert clicks(visitor) == 3 and visitor.pixels() == less
    # Two clicks before the first is answered are one object.
    visitor.after_step(lambda: visitor.tool("New object"))
    for x in (280, 281):
        visitor.page.mouse.click(*visitor.point(x, 50))
    visitor.page.wait_for_function("document.querySelectorAll('#mark-panel .ad-row').length == 2")
    visitor.page.wait_for_timeout(3000)
    expect(visitor.rows("mark-panel")).to_have_count(2)


@SIZES
def test_a_small_object_is_outlined_under_zoom(visit, screenshots, size):
    visitor = visit(size)
    visitor.into_view()
    level = visitor.stage.locator(".ad-zoom output")
    before = tuple(map(round, visitor.point(280, 50)))
    x, y = visitor.photo_point(*before)
    visitor.page.mouse.move(*before)
    for _ in range(4):
        visitor.page.mouse.wheel(0, -200)
    assert visitor.zoom > 4 and visitor.point(x, y) == pytest.approx(before, abs=1)
    expect(level).to_have_text(f"{100 * visitor.scale:.0f}%")
    visitor.tool("Outline")
    turn = np.linspace(0, 2 * np.pi, 24)
    visitor.after_step(lambda: visitor.drag([(280 + 6 * np.cos(t), 50 + 6 * np.sin(t)) for t in turn]))
    assert shares(visitor)[0] == pytest.approx(100 * np.pi * 36 / (320 * 240), abs=0.06)
    visitor.screenshot(screenshots, f"zoom-outline-{size[0]}")
    # It can be chosen where it is seen, and nothing beside it.
    visitor.after_step(lambda: visitor.tool("New object"))
    visitor.tool("Choose")
    visitor.click_at(284, 50)
    expect(visitor.page.locator("#mark-panel .ad-row[aria-pressed=true]")).to_have_count(1)
    visitor.click_at(288, 58)
    expect(visitor.page.locator("#mark-panel .ad-row[aria-pressed=true]")).to_have_count(0)
    visitor.tool("Fit")
    assert visitor.zoom == 1


def test_ways_to_zoom_and_to_move(visit):
    visitor = visit(DESKTOP)
    mouse, keys = visitor.page.mouse, visitor.page.keyboard
    visitor.tool("Choose")
    visitor.stage.focus()
    keys.press("+")
    keys.press("+")
    assert visitor.zoom == pytest.approx(1.25**2)
    keys.press("-")
    visitor.tool("Zoom in")
    visitor.tool("Zoom in")
    assert visitor.zoom == pytest.approx(1.25**3)
    visitor.stage.focus()
    start = visitor.point(160, 120)
    keys.press("ArrowLeft")
    assert visitor.point(160, 120) == pytest.approx((start[0] + 60, start[1]), abs=1)
    keys.press("ArrowRight")
    for button in ("left", "middle"):
        mouse.move(*start)
        if button == "left":
            keys.down(" ")
        mouse.down(button=button)
        mouse.move(start[0] + 50, start[1] + 30, steps=3)
        mouse.up(button=button)
        keys.up(" ")
    assert visitor.point(160, 120) == pytest.approx((start[0] + 100, start[1] + 60), abs=1)
    expect(visitor.rows("mark-panel")).to_have_count(0)  # nothing was marked by it
    keys.press("0")
    assert visitor.zoom == 1


def test_two_fingers_zoom_and_one_marks(visit, screenshots):
    visitor = visit(TELEPHONE, touch=True)
    visitor.into_view()
    (x, y) = visitor.point(120, 80)
    stamp = visitor.stamp
    spread = [[(x - a, y), (x + a, y)] for a in (20, 30, 40, 50, 60)]
    visitor.touches([(x - 20, y)], *spread)
    assert visitor.zoom == pytest.approx(3, abs=0.05) and visitor.point(120, 80) == pytest.approx((x, y), abs=1)
    assert visitor.stamp == stamp  # the first finger has not clicked
    visitor.touches([(x, y), (x + 40, y)], [(x + 25, y + 10), (x + 65, y + 10)])
    assert visitor.point(120, 80) == pytest.approx((x + 25, y + 10), abs=1)
    visitor.after_step(lambda: visitor.page.touchscreen.tap(*visitor.point(120, 80)))
    expect(visitor.rows("mark-panel")).to_have_count(1)
    visitor.tool("Brush")
    line = [visitor.point(100 + 4 * step, 80) for step in range(6)]
    visitor.into_view()
    visitor.after_step(lambda: visitor.touches(*[[point] for point in line]))
    visitor.screenshot(screenshots, "zoom-fingers-390")


def test_objects_are_dragged_under_zoom(open_page, screenshots):
    visitor = open_page()
    visitor.example("woven")
    visitor.complete()
    visitor.into_view()
    visitor.page.mouse.move(*visitor.point(360, 240))
    visitor.page.mouse.wheel(0, -400)
    assert visitor.zoom > 2  # what was found can be looked at closely
    visitor.screenshot(screenshots, "zoom-parts-1440")
    visitor.edit()
    visitor.choose("bar")
    x, y, width, height = visitor.box("bar")
    visitor.page.mouse.move(*visitor.point(x + width / 2, y + height / 2))
    visitor.page.mouse.wheel(0, -300)
    middle = (x + width / 2, y + height / 2)
    visitor.after_step(lambda: visitor.drag([middle, (middle[0] + 30, middle[1] + 20)]))
    assert (visitor.number("X"), visitor.number("Y")) == (pytest.approx(x + 30, abs=1), pytest.approx(y + 20, abs=1))
    visitor.screenshot(screenshots, "zoom-edit-1440")


@SIZES
def test_the_brush_shows_its_size_and_begins_a_new_object(open_page, screenshots, size):
    visitor = open_page(width=size[0], height=size[1])
    visitor.example("coffee")
    count = visitor.rows("mark-panel").count()
    expect(visitor.stage.get_by_role("button", name="New object")).to_have_attribute("aria-pressed", "true")
    visitor.tool("Brush")
    width = visitor.stage.locator(".ad-width")
    ring = visitor.stage.locator(".ad-ring i")
    expect(width).to_have_text("24 px")
    visitor.into_view()
    large = ring.bounding_box()["width"]
    assert large == pytest.approx(min(32, 24 * visitor.scale), abs=1)
    visitor.stage.focus()
    for _ in range(6):
        visitor.page.keyboard.press("[")
    assert ring.bounding_box()["width"] < large and int(width.inner_text().split()[0]) < 10
    visitor.page.mouse.move(*visitor.point(30, 30))
    visitor.screenshot(screenshots, f"brush-{size[0]}")
    visitor.after_step(lambda: visitor.drag([(20, 20), (60, 20)]))
    expect(visitor.rows("mark-panel")).to_have_count(count + 1)
    visitor.after_step(lambda: visitor.drag([(20, 24), (60, 24)]))  # the same object goes on
    expect(visitor.rows("mark-panel")).to_have_count(count + 1)
    visitor.after_step(lambda: visitor.tool("New object"))
    visitor.after_step(lambda: visitor.drag([(20, 380), (60, 380)]))
    expect(visitor.rows("mark-panel")).to_have_count(count + 2)


@SIZES
def test_no_object_loses_pixels_without_a_word(visit, screenshots, size):
    visitor = visit(size)
    visitor.tool("Outline")
    # Both below 10%, from where on the list says whole percents.
    square = [(40, 40), (120, 40), (120, 120), (40, 120), (40, 40)]
    visitor.after_step(lambda: visitor.drag(square))
    large = shares(visitor)[0]
    assert large == pytest.approx(100 * 80**2 / (320 * 240), abs=0.3)
    inner = [(60, 60), (100, 60), (100, 100), (60, 100), (60, 60)]
    visitor.after_step(lambda: visitor.drag(inner))
    notice = visitor.stage.locator(".ad-notice")
    expect(notice).to_contain_text("It lies in front of “object 1”")
    expect(visitor.stage.locator(".ad-hint")).to_contain_text("the smaller one is in front")
    assert sum(shares(visitor)) == pytest.approx(large, abs=0.2) and min(shares(visitor)) > 1.5
    visitor.screenshot(screenshots, f"overlap-{size[0]}")
    visitor.after_step(lambda: notice.get_by_role("button", name="Put it behind").click())
    expect(notice).to_contain_text("All of it belongs to “object 1”")
    expect(visitor.rows("mark-panel")).to_have_count(1)
    visitor.after_step(lambda: notice.get_by_role("button", name="Put it in front").click())
    expect(visitor.rows("mark-panel")).to_have_count(2)
    notice.get_by_role("button", name="Close").click()
    expect(notice).to_be_hidden()


def test_a_segmenter_of_transformers(open_page, sam_address, screenshots):
    visitor = open_page(at=sam_address)
    expect(visitor.page.locator("#about-marking")).to_contain_text("Clicks and boxes are answered by tiny-sam.")
    visitor.example("woven")
    visitor.press("Remove all objects")
    expect(visitor.page.locator("#find")).to_be_visible()
    visitor.click_at(360, 240)  # answered, with a mask or with a word that it found none
    visitor.screenshot(screenshots, "segmenter-1440")


@SIZES
def test_clicks_on_what_is_marked_and_beside_the_picture(open_page, screenshots, size):
    visitor = open_page(width=size[0], height=size[1])
    visitor.example("coffee")
    chosen = visitor.page.locator("#mark-panel .ad-row[aria-pressed=true]")
    for (x, y), name in (((300, 270), "cup"), ((120, 270), "saucer"), ((365, 285), "spoon")):
        visitor.click_at(x, y)
        expect(chosen).to_contain_text(name)
    expect(visitor.rows("mark-panel")).to_have_count(4)
    stamp = visitor.stamp
    visitor.page.mouse.click(*visitor.point(-4, 200))
    visitor.page.wait_for_timeout(800)
    assert visitor.stamp == stamp
    visitor.after_step(lambda: visitor.tool("New object"))
    visitor.click_at(120, 270)  # what is there is marked: no second saucer, and no sliver
    visitor.screenshot(screenshots, f"marked-already-{size[0]}")
    notice = visitor.stage.locator(".ad-notice")
    expect(notice).to_contain_text("That is “saucer”, which is marked already")
    expect(visitor.rows("mark-panel")).to_have_count(4)
    expect(chosen).to_contain_text("saucer")
    if size == TELEPHONE:  # no scrolling between picture and list
        assert visitor.rows("mark-panel").first.bounding_box()["y"] < size[1] - 150
