"""What a visitor does on the page of the demo, in words of the page."""

import json
import os
import re

from playwright.sync_api import expect

PATIENCE = float(os.environ.get("BROWSER_PATIENCE", "1"))
"""Times what is waited on a machine that is not busy."""
USUAL = 30_000 * PATIENCE
"""Milliseconds for an answer."""
SLOW = 120_000 * PATIENCE
"""Milliseconds for what runs networks."""
expect.set_options(timeout=USUAL)


class DemoPage:
    """One visitor: a browser context with the page open.

    `problems` gathers errors of the page's scripts and requests to anywhere but the demo's own server.
    """

    def __init__(self, browser, address, *, dark=False, width=1440, height=900, start="", touch=False):
        self.address, self.problems = address, []
        size = {"width": width, "height": height}
        self.context = browser.new_context(viewport=size, accept_downloads=True, has_touch=touch)
        self.context.set_default_timeout(USUAL)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))
        self.page.on("request", self._check_request)
        self.url = f"{address}/?__theme={'dark' if dark else 'light'}&start={start}"
        self.visit()
        if start:
            self.wait_mode("edit", SLOW)

    def visit(self):
        """Open the page, or open it anew."""
        self.page.goto(self.url)
        expect(self.page.locator(".ad-example")).to_have_count(4)
        expect(self.page.locator("body.ad-open .ad-stage")).to_have_attribute(
            "data-mode", re.compile("mark|edit|look|^$")
        )

    def _check_request(self, request):
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.problems.append(f"request: {request.url}")

    def close(self):
        self.context.close()

    def screenshot(self, folder, name):
        self.page.screenshot(path=folder / f"{name}.png")

    # The picture

    @property
    def stage(self):
        return self.page.locator(".ad-stage")

    @property
    def stamp(self):
        return int(self.stage.get_attribute("data-stamp") or -1)

    @property
    def scale(self):
        """Pixels of the screen a pixel of the picture."""
        return float(self.stage.get_attribute("data-scale"))

    @property
    def mode(self):
        return self.stage.get_attribute("data-mode")

    def wait_mode(self, mode, timeout=USUAL):
        expect(self.stage).to_have_attribute("data-mode", mode, timeout=timeout)

    def after_step(self, action):
        """Do something and wait until the picture shows what came of it."""
        before = self.stage.get_attribute("data-stamp") or ""
        action()
        expect(self.stage).not_to_have_attribute("data-stamp", before)
        self.settle()

    def settle(self):
        """Wait until all actions are answered, and the list shows what the picture shows."""
        expect(self.stage).to_have_attribute("data-waits", "false")
        panel = {"mark": "mark-panel", "edit": "edit-panel"}.get(self.mode)
        if panel:
            stamp = self.stage.get_attribute("data-stamp")
            expect(self.page.locator(f"#{panel} .ad-panel")).to_have_attribute("data-stamp", stamp)

    def point(self, x, y):
        """Where a pixel of the picture is on the screen."""
        box = self.stage.locator("canvas").bounding_box()
        scale, left, top = (float(self.stage.get_attribute(f"data-{name}")) for name in ("scale", "left", "top"))
        return box["x"] + left + scale * x, box["y"] + top + scale * y

    def photo_point(self, x, y):
        """Which pixel of the picture is at a place of the screen."""
        left, top = self.point(0, 0)
        return (x - left) / self.scale, (y - top) / self.scale

    def drag(self, points):
        self.into_view()
        mouse = self.page.mouse
        mouse.move(*self.point(*points[0]))
        mouse.down()
        for point in points[1:]:
            mouse.move(*self.point(*point), steps=4)
        mouse.up()

    def click_at(self, x, y, **options):
        """Click a pixel of the picture and wait for the answer."""
        self.into_view()
        self.after_step(lambda: self.page.mouse.click(*self.point(x, y), **options))

    def into_view(self):
        self.stage.locator(".ad-view").evaluate("view => view.scrollIntoView({ block: 'center', behavior: 'instant' })")

    def tool(self, name):
        self.stage.get_by_role("button", name=name, exact=True).click()

    def touches(self, *steps):
        """Fingers on the screen: each step is a list of points, of as many fingers; they are lifted at the end."""
        fingers = self.context.new_cdp_session(self.page)
        for number, points in enumerate(steps):
            event = {"type": "touchMove" if number else "touchStart"}
            event["touchPoints"] = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(points)]
            fingers.send("Input.dispatchTouchEvent", event)
        fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    @property
    def zoom(self):
        """How much larger the picture is than the view shows it whole."""
        return float(self.stage.get_attribute("data-zoom"))

    def pixels(self):
        """What the canvas shows, as text to compare."""
        return self.page.evaluate("document.querySelector('.ad-stage canvas').toDataURL()")

    # Steps

    def example(self, key):
        self.after_step(lambda: self.page.click(f".ad-example[data-key={key}]"))
        self.wait_mode("mark")

    def complete(self, network=None):
        if network is not None:
            self.page.locator("#pipeline input").click()
            self.page.get_by_role("option", name=network, exact=True).click()
        self.page.click("#complete")
        self.wait_mode("look", SLOW)

    def edit(self):
        self.page.click("#to-edit")
        self.wait_mode("edit")

    def go_back_to(self, step):
        """Click one of the steps above the controls."""
        self.after_step(lambda: self.page.locator("#steps").get_by_text(step, exact=True).click())

    def drop_photo(self, path):
        """Drop a file on the picture, as from the desktop."""
        transfer = self.page.evaluate_handle(
            """([bytes, name]) => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
                return transfer;
            }""",
            [list(path.read_bytes()), path.name],
        )
        self.page.dispatch_event(".ad-view", "drop", {"dataTransfer": transfer})

    # Questions and long work

    @property
    def question(self):
        return self.page.locator("dialog.ad-ask")

    def answer(self, label):
        """Press a button of the question on the page."""
        self.question.get_by_role("button", name=label, exact=True).click()
        expect(self.question).to_be_hidden()

    @property
    def work(self):
        return self.page.locator(".ad-work")

    # The list

    def rows(self, panel):
        return self.page.locator(f"#{panel} .ad-row")

    def choose(self, name):
        row = self.page.locator("#edit-panel .ad-row", has_text=name).first
        if row.get_attribute("aria-pressed") != "true":
            self.after_step(row.click)

    def box(self, name):
        """(x, y, width, height) of the chosen object on the picture."""
        about = self.page.locator("#edit-panel .ad-row", has_text=name).first.locator("small").inner_text()
        width, height = re.match(r"(\d+) × (\d+) px", about).groups()
        return self.number("X"), self.number("Y"), int(width), int(height)

    def number(self, label):
        return float(self.page.get_by_label(label, exact=True).input_value())

    def type_number(self, label, value):
        def fill():
            field = self.page.get_by_label(label, exact=True)
            field.fill(str(value))
            field.press("Enter")

        self.after_step(fill)

    def press(self, title):
        panel = "#edit-panel" if self.mode == "edit" else "#mark-panel"
        self.after_step(lambda: self.page.locator(panel).get_by_role("button", name=title, exact=True).click())

    # Files

    def upload(self, button, files):
        with self.page.expect_file_chooser() as chooser:
            self.page.click(f"#{button}")
        chooser.value.set_files(files)

    def message(self):
        """The words of the newest message on the page."""
        toast = self.page.locator(".toast-body").first
        expect(toast).to_be_visible()
        return toast.inner_text()

    def export(self, label, folder, timeout=USUAL):
        self.page.locator("#format input").click()
        self.page.get_by_role("option", name=label).click()
        with self.page.expect_download(timeout=timeout) as download:
            self.page.click("#export")
        path = folder / download.value.suggested_filename
        download.value.save_as(path)
        return path

    def __repr__(self):
        return json.dumps({"mode": self.mode, "stamp": self.stamp})
