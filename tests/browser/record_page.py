"""The story of the page as a strip of pictures, at the size of a desktop and of a phone.

`python tests/browser/record_page.py --docs docs` starts `demos/app.py`, goes through it in a headless
Chromium, and writes docs/page.jpg and docs/page_phone.jpg. The extra `browser` is needed. It shows the examples alone.
"""

import argparse
import contextlib
import io
import os
import shutil
import socket
import subprocess  # noqa: S404
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

DEMOS = Path(__file__).resolve().parents[2] / "demos"
SIZES = {"page": (1440, 900), "page_phone": (390, 844)}
HEIGHT = {"page": 420, "page_phone": 640}
"""Of one picture of the strip."""
COLUMNS = {"page": 2, "page_phone": 6}
NETWORKS = 300_000
"""Milliseconds for what runs networks."""


@contextlib.contextmanager
def served() -> Iterator[tuple[str, int]]:
    """The address of the page and the number of its process, while it runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "GRADIO_TEMP_DIR": folder, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, str(DEMOS / "app.py"), "--port", str(port)]
        server = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
        try:
            address = f"http://127.0.0.1:{port}"
            while server.poll() is None:
                with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):  # noqa: S310
                    yield address, server.pid
                    return
                time.sleep(1)
            raise RuntimeError("demos/app.py ended before it served anything.")
        finally:
            server.terminate()
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def find_chromium() -> str | None:
    """Its executable; None, after that was said, where there is none."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "chrome")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        sys.stderr.write("there is no Chromium: install one, or set CHROMIUM=/path/to/it\n")
    return found


class Story:
    """One visit, whose steps are kept as pictures."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.pictures: list[Image.Image] = []

    def keep(self) -> None:
        self.page.wait_for_timeout(400)
        self.pictures.append(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"))

    def after(self, action: Any, timeout: int = NETWORKS) -> None:
        """Do something and wait until the picture shows what came of it."""
        stage = self.page.locator(".ad-stage")
        before = stage.get_attribute("data-stamp") or ""
        action()
        expect(stage).not_to_have_attribute("data-stamp", before, timeout=timeout)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag on the picture, in its pixels."""
        self.page.locator(".ad-stage").evaluate("stage => stage.scrollIntoView({ block: 'nearest' })")
        stage = self.page.locator(".ad-stage")
        box = stage.locator("canvas").bounding_box() or {}
        scale, left, top = (float(stage.get_attribute(f"data-{name}") or 0) for name in ("scale", "left", "top"))
        points = [(box["x"] + left + scale * x, box["y"] + top + scale * y) for x, y in (start, end)]
        self.page.mouse.move(*points[0])
        self.page.mouse.down()
        self.page.mouse.move(*points[1], steps=8)
        self.page.mouse.up()

    def row(self, name: str) -> None:
        self.after(lambda: self.page.locator("#edit-panel .ad-row", has_text=name).first.click())

    def type_number(self, label: str, value: str) -> None:
        field = self.page.get_by_label(label, exact=True)
        field.fill(value)
        self.after(lambda: field.press("Enter"))

    def tell(self) -> list[Image.Image]:
        """Mark, complete, look, edit: the pictures of the steps."""
        page = self.page
        self.after(lambda: page.click(".ad-example[data-key=coffee]"))
        self.keep()
        page.click("#complete")
        expect(page.locator(".ad-stage")).to_have_attribute("data-mode", "look", timeout=NETWORKS)
        self.keep()
        page.locator("#shape-of input").click()
        page.get_by_role("option", name="saucer").click()
        page.click("#draw-shapes")
        shapes = page.locator("#shape-gallery button img")
        expect(shapes).to_have_count(6, timeout=NETWORKS)
        self.after(lambda: shapes.nth(1).click())
        self.keep()
        page.click("#to-edit")
        expect(page.locator(".ad-stage")).to_have_attribute("data-mode", "edit", timeout=NETWORKS)
        self.after(lambda: page.get_by_role("button", name="Show coffee", exact=True).click())
        self.row("cup")
        self.after(lambda: self.drag((212, 285), (386, 290)))
        self.keep()
        self.type_number("Width %", "75")
        self.type_number("Rotation °", "-15")
        self.keep()
        page.locator(".ad-stage").focus()
        page.keyboard.down("b")
        self.keep()
        page.keyboard.up("b")
        return self.pictures


def strip(pictures: list[Image.Image], height: int, columns: int, gap: int = 12) -> Image.Image:
    """Pictures of one size, row by row on white."""
    width = round(pictures[0].width * height / pictures[0].height)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        small = picture.resize((width, height), Image.Resampling.LANCZOS)
        sheet.paste(small, (column * (width + gap), row * (height + gap)))
    return sheet


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--docs", type=Path, default=Path("out"), help="Folder of the pictures.")
    options = parser.parse_args(arguments)
    options.docs.mkdir(parents=True, exist_ok=True)
    chromium = find_chromium()
    if chromium is None:
        return 1
    with served() as (address, _), sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, (width, height) in SIZES.items():
            context = browser.new_context(viewport={"width": width, "height": height})
            context.set_default_timeout(90_000)
            page = context.new_page()
            page.goto(f"{address}/?__theme=light&start=")
            pictures = Story(page).tell()
            strip(pictures, HEIGHT[name], COLUMNS[name]).save(options.docs / f"{name}.jpg", quality=80, optimize=True)
            context.close()
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
