"""Layers as in an image editor, before and after, fillers and shapes: on a desktop and on a phone."""

import numpy as np
import pytest
from playwright.sync_api import expect

from amodal_diffusion import Scene
from axe_helpers import serious_findings
from demo_page import SLOW

pytestmark = pytest.mark.browser
SIZES = {"desktop": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(params=SIZES)
def visitor(request, open_page):
    """At one of two sizes, with the coffee completed and opened for editing; `visitor.size` is its name."""
    page = open_page(**SIZES[request.param])
    page.size = request.param
    return page


def edited_coffee(visitor):
    visitor.example("coffee")
    visitor.complete()
    visitor.edit()
    return visitor


def names(visitor):
    return [name.strip() for name in visitor.page.locator("#edit-panel .ad-name").all_inner_texts()]


def flag(visitor, label):
    return visitor.page.locator("#edit-panel").get_by_role("button", name=label, exact=True)


def no_overflow(visitor):
    widths = visitor.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    return widths[0] <= widths[1]


def test_layers(visitor, screenshots, tmp_path):
    edited_coffee(visitor)
    page = visitor.page
    whole = visitor.pixels()
    assert names(visitor)[-1] == "saucer" and no_overflow(visitor)

    # The eye and the lock.
    visitor.after_step(lambda: flag(visitor, "Show cup").click())
    expect(flag(visitor, "Show cup")).to_have_attribute("aria-pressed", "false")
    expect(flag(visitor, "Show cup")).to_be_focused()  # the list is made anew, and nobody loses the focus
    without = visitor.pixels()
    assert without != whole
    visitor.after_step(lambda: page.keyboard.press("Enter"))
    expect(flag(visitor, "Show cup")).to_have_attribute("aria-pressed", "true")
    visitor.after_step(lambda: flag(visitor, "Lock saucer").click())
    visitor.choose("saucer")
    left = visitor.number("X")
    visitor.drag([(110, 250), (160, 300)])
    page.wait_for_timeout(500)
    assert visitor.number("X") == left
    visitor.press("Mirror left to right")
    expect(page.locator(".toast-body", has_text="saucer is locked")).to_be_visible()
    visitor.after_step(lambda: flag(visitor, "Lock saucer").click())

    # Width and height, apart and together; opacity.
    visitor.type_number("Width %", 60)
    assert (visitor.number("Width %"), visitor.number("Height %")) == (60, 60)
    flag(visitor, "Keep the ratio of width and height").click()
    visitor.type_number("Height %", 90)
    assert (visitor.number("Width %"), visitor.number("Height %")) == (60, 90)
    for _ in range(2):
        visitor.press("Undo (Ctrl+Z)")
    page.get_by_label("Width %", exact=True).fill("")
    page.get_by_label("Width %", exact=True).press("Enter")
    assert visitor.number("Width %") == 100
    opacity = page.get_by_label("Opacity", exact=True)
    opacity.focus()
    visitor.after_step(lambda: opacity.fill("40"))
    expect(page.get_by_label("Opacity", exact=True)).to_have_value("40")
    visitor.screenshot(screenshots, f"layers-{visitor.size}-1-faded")

    # A handle moves a layer, with the keyboard and with the pointer.
    grip = "Move saucer in the stack with the arrow keys"
    flag(visitor, grip).focus()
    visitor.after_step(lambda: page.keyboard.press("ArrowUp"))
    assert names(visitor).index("saucer") == 2
    expect(flag(visitor, grip)).to_be_focused()
    expect(page.locator("#edit-panel .ad-told")).to_have_text("saucer is 3 of 4 from the front")
    flag(visitor, grip).scroll_into_view_if_needed()
    start, goal = flag(visitor, grip).bounding_box(), page.locator("#edit-panel .ad-item").first.bounding_box()
    page.mouse.move(start["x"] + 8, start["y"] + 15)
    page.mouse.down()
    page.mouse.move(start["x"] + 8, goal["y"] + 4, steps=6)
    visitor.screenshot(screenshots, f"layers-{visitor.size}-2-dragging")
    visitor.after_step(lambda: page.mouse.up())
    assert names(visitor)[0] == "saucer"

    # A name in place, and who is in front of whom.
    visitor.page.locator("#edit-panel .ad-row", has_text="saucer").press("F2")
    field = page.get_by_label("New name of saucer")
    field.fill("plate")
    visitor.after_step(lambda: field.press("Enter"))
    expect(page.locator("#edit-panel .ad-name").first).to_have_text("plate")
    visitor.choose("plate") if page.locator(".ad-overlaps").count() == 0 else None
    visitor.press("Put behind cup")
    expect(flag(visitor, "Bring in front of cup")).to_be_visible()
    visitor.screenshot(screenshots, f"layers-{visitor.size}-3-behind")

    scene = Scene.load(visitor.export("OpenRaster", tmp_path))
    plate = scene.layers[scene.index("plate")]
    assert plate.opacity == pytest.approx(0.4) and plate.visible and not plate.locked
    assert not scene.in_front(scene.index("plate"), scene.index("cup"))
    assert no_overflow(visitor) and visitor.problems == []


def test_what_stands_on_an_object_goes_along(visitor, screenshots):
    edited_coffee(visitor)
    page, panel = visitor.page, visitor.page.locator("#edit-panel")
    visitor.choose("spoon")
    choice = page.get_by_label("With what stands on it")
    expect(choice).to_have_count(0)
    visitor.choose("saucer")
    expect(choice).to_have_count(1)
    panel.locator(".ad-carrying").scroll_into_view_if_needed()
    empty = choice.screenshot()
    visitor.after_step(lambda: choice.focus() or page.keyboard.press("Space"))
    expect(choice).to_be_checked()
    expect(choice).to_be_focused()
    assert choice.screenshot() != empty  # one sees whether it is checked
    box, details = choice.bounding_box(), panel.locator(".ad-details").bounding_box()
    assert 14 <= box["width"] <= 24 and box["height"] == box["width"]
    words = panel.locator(".ad-carrying").bounding_box()
    assert words["x"] + words["width"] <= details["x"] + details["width"] and no_overflow(visitor)
    visitor.screenshot(screenshots, f"along-{visitor.size}-1-chosen")

    places = {}
    for name in names(visitor):
        visitor.choose(name)
        places[name] = visitor.number("X"), visitor.number("Y")
    visitor.choose("saucer")
    whole = visitor.pixels()
    visitor.into_view()
    left, top = (visitor.stage.locator("canvas").bounding_box()[side] for side in "xy")

    def colour(x, y):
        at = visitor.point(x, y)
        pixel = "([x, y]) => [...document.querySelector('canvas').getContext('2d').getImageData(x, y, 1, 1).data]"
        return np.array(page.evaluate(pixel, [round(at[0] - left), round(at[1] - top)])[:3])

    crema = colour(240, 150)
    page.mouse.move(*visitor.point(110, 250))
    page.mouse.down()
    page.mouse.move(*visitor.point(150, 230), steps=4)
    assert np.abs(colour(280, 130) - crema).max() < 40  # the coffee is seen where it goes
    visitor.screenshot(screenshots, f"along-{visitor.size}-2-dragging")
    visitor.after_step(page.mouse.up)
    for name, (x, y) in places.items():
        visitor.choose(name)
        assert visitor.number("X") - x == pytest.approx(40, abs=2) and visitor.number("Y") - y == pytest.approx(
            -20, abs=2
        )
    visitor.choose("saucer")
    visitor.press("Undo (Ctrl+Z)")
    assert visitor.pixels() == whole
    visitor.press("Remove it (Del)")
    assert names(visitor) == []
    visitor.press("Undo (Ctrl+Z)")
    assert names(visitor) == list(places)

    visitor.after_step(lambda: flag(visitor, "Lock cup").click())
    visitor.choose("saucer")
    visitor.press("Mirror left to right")
    expect(page.locator(".toast-body", has_text="cup is locked and stands on it")).to_be_visible()
    visitor.press("Bring in front of cup")  # which leaves the cup where it is
    expect(flag(visitor, "Put behind cup")).to_be_visible()


def test_before_and_after(visitor, screenshots):
    edited_coffee(visitor)
    page = visitor.page
    photo = visitor.pixels()
    visitor.choose("cup")
    visitor.press("Remove it (Del)")
    edited = visitor.pixels()
    assert edited != photo
    visitor.stage.focus()
    page.keyboard.down("b")
    expect(visitor.stage).to_have_class("ad-stage comparing")
    assert visitor.pixels() == photo
    visitor.screenshot(screenshots, f"before-{visitor.size}")
    page.keyboard.up("b")
    expect(visitor.stage).to_have_class("ad-stage")
    assert visitor.pixels() == edited
    page.get_by_role("button", name="Hold to see the photo as it was (B)").hover()
    page.mouse.down()
    assert visitor.pixels() == photo
    page.mouse.up()
    assert visitor.pixels() == edited
    visitor.screenshot(screenshots, f"after-{visitor.size}")


def test_fillers(visitor, screenshots):
    visitor.example("coffee")
    visitor.page.locator("#filler input").click()
    visitor.page.get_by_role("option", name="Smooth colours", exact=True).click()
    visitor.complete()
    visitor.edit()
    visitor.choose("cup")
    visitor.after_step(lambda: visitor.drag([(212, 285), (120, 285)]))
    smooth = visitor.pixels()
    visitor.choose("saucer")
    visitor.page.get_by_label("Fill the hidden part with").select_option("exemplar")
    visitor.after_step(lambda: flag(visitor, "Paint the hidden part of saucer anew").click())
    expect(visitor.page.get_by_label("Fill the hidden part with")).to_have_value("exemplar")
    assert visitor.pixels() != smooth
    visitor.screenshot(screenshots, f"repainted-{visitor.size}")
    visitor.press("Undo (Ctrl+Z)")


def test_a_shape_is_drawn_by_hand(visitor, screenshots, tmp_path):
    edited_coffee(visitor)
    visitor.choose("saucer")
    whole, (x, y, w, h) = visitor.pixels(), visitor.box("saucer")
    visitor.tool("Add to shape")
    expect(visitor.page.locator(".ad-hint")).to_contain_text("its colours are carried over")
    end = [(x + w - 8, y + h // 2), (x + w + 40, y + h // 2 - 30)]
    visitor.after_step(lambda: visitor.drag(end))
    assert visitor.box("saucer")[2] > w + 20 and visitor.pixels() != whole
    visitor.screenshot(screenshots, f"reshaped-{visitor.size}")
    visitor.tool("Take from shape")
    visitor.after_step(lambda: visitor.drag([(x, y + h // 2), (x + 30, y + h // 2)]))
    expect(visitor.stage.get_by_role("button", name="Take from shape")).to_have_attribute("aria-pressed", "true")
    visitor.page.keyboard.press("Escape")
    expect(visitor.stage.get_by_role("button", name="Take from shape")).to_have_attribute("aria-pressed", "false")
    assert no_overflow(visitor)
    for _ in range(2):
        visitor.press("Undo (Ctrl+Z)")
    assert visitor.box("saucer") == (x, y, w, h) and not visitor.problems


def test_shapes_are_seen_large_and_where_they_differ(visitor, screenshots):
    visitor.example("coffee")
    visitor.complete()
    page = visitor.page
    page.locator("#shape-of input").click()
    options = page.get_by_role("option")
    expect(options).to_have_count(3)
    offered = {option.get_attribute("aria-label") for option in options.all()}
    assert offered == {"saucer", "cup", "spoon"}  # nothing hides the coffee
    page.get_by_role("option", name="saucer").click()
    page.click("#draw-shapes")
    shapes = page.locator("#shape-gallery button img")
    expect(shapes).to_have_count(6, timeout=SLOW)
    visitor.after_step(lambda: shapes.nth(2).click())
    expect(page.locator(".ad-hint")).to_contain_text("Orange")
    visitor.screenshot(screenshots, f"shapes-{visitor.size}")
    expect(page.locator("#use-shape")).to_be_enabled()
    visitor.after_step(lambda: page.click("#use-shape"))
    visitor.edit()
    assert names(visitor) == ["coffee", "cup", "spoon", "saucer"]  # the order stays


def test_nothing_serious_for_screen_readers(visitor, screenshots):
    """By axe-core, on all three steps; and the picture stays on the screen."""
    found = {"start": serious_findings(visitor.page)}
    visitor.example("coffee")
    visitor.page.locator("#mark-panel .ad-row").first.click()
    found["mark"] = serious_findings(visitor.page)
    visitor.complete()
    found["complete"] = serious_findings(visitor.page)
    visitor.edit()
    visitor.choose("saucer")
    found["edit"] = serious_findings(visitor.page)
    assert found == dict.fromkeys(found, [])
    expect(visitor.stage).to_have_attribute("aria-label", "Scene with 4 objects; saucer is chosen")
    assert no_overflow(visitor)
    if visitor.size == "desktop":
        visitor.page.mouse.move(1250, 860)
        visitor.page.mouse.wheel(0, 2000)
        visitor.page.wait_for_timeout(300)
        assert visitor.page.evaluate("scrollY") > 50 and visitor.stage.bounding_box()["y"] >= 0
        visitor.screenshot(screenshots, "desktop-scrolled")
    else:
        stage = visitor.stage.bounding_box()
        assert stage["x"] == 0 and stage["width"] == SIZES["phone"]["width"]
        visitor.page.locator("#edit-panel .ad-details").scroll_into_view_if_needed()
        visitor.page.mouse.move(200, 700)
        visitor.page.mouse.wheel(0, 400)
        visitor.page.wait_for_timeout(300)
        canvas = visitor.stage.locator("canvas").bounding_box()
        tools = visitor.stage.locator(".ad-tools").bounding_box()
        assert canvas["y"] >= 0 and tools["y"] + tools["height"] < SIZES["phone"]["height"]  # both are seen
        assert tools["y"] >= canvas["y"] + canvas["height"] - 1  # below the picture
        visitor.screenshot(screenshots, "phone-scrolled")


def test_focus_goes_from_the_picture_to_the_list(visitor):
    edited_coffee(visitor)
    visitor.stage.focus()
    order = []
    for _ in range(14):
        visitor.page.keyboard.press("Tab")
        order.append(
            visitor.page.evaluate(
                "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"
            )
        )
    before = next(index for index, label in enumerate(order) if "Hold to see the photo" in label)
    eye, lock, grip = (
        order.index(label) for label in ("Show coffee", "Lock coffee", "Move coffee in the stack with the arrow keys")
    )
    assert before < eye < lock < grip == lock + 1 and np.diff([eye, lock]).item() == 2  # the row lies between
