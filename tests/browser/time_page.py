"""How long things take on the page, in a real browser, and what a server's memory comes to.

`python tests/browser/time_page.py` starts `demos/app.py` and times in a headless Chromium: from an example to the
finished scene, a drag, a change of the view, the same with 60 objects; then `--visitors` people come, each drags an
object of a scene of their own, and goes. Beside each time stands the processor time of the server, which tells the time
on an idle machine, and the load of the machine. The baseline of the first is the pipeline alone, in this process.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright
from record_page import DEMOS, SIZES, find_chromium, served

os.environ.setdefault("BROWSER_PATIENCE", "60")
sys.path[:0] = [str(DEMOS), str(DEMOS.parent / "tests" / "helpers")]

from amodal_diffusion.runtimes import preferred_dtype, processor_name  # noqa: E402
from demo_page import DemoPage  # noqa: E402
from page.examples import EXAMPLES, open_example  # noqa: E402
from page.models import Models  # noqa: E402
from page.work.session import Session  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
HANDLE = [(212, 285), (182, 265), (152, 245)]
"""Of the cup, where nothing else is."""


class Watch:
    """Wall-clock time, and what the server's processor did in it."""

    def __init__(self, server: int) -> None:
        self.server = server

    def processor(self) -> float:
        fields = Path(f"/proc/{self.server}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self) -> int:
        """MB that the server holds."""
        pages = int(Path(f"/proc/{self.server}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 2**20

    def time(self, what: str, action: Callable[[], Any], repeats: int = 1) -> float:
        """Do something `repeats` times and write the medians; returns that of the processor."""
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter(), self.processor()
            action()
            seconds.append((time.perf_counter() - start[0], self.processor() - start[1]))
        wall, processor = (statistics.median(column) for column in zip(*seconds, strict=True))
        load = os.getloadavg()[0]
        sys.stdout.write(f"{what:44s}{wall:9.2f} s{processor:10.2f} s{load:8.1f}\n")
        sys.stdout.flush()
        return processor


def many_objects(folder: Path, rows: int = 6, columns: int = 10) -> tuple[Path, Path]:
    """A photo of discs in rows, each before its neighbours, and their masks as a label map."""
    y, x = np.mgrid[:800, :1200]
    photo = np.stack([90 + x // 20, 120 - y // 10, 100 + (x + y) // 25], axis=2).astype(np.uint8)
    labels = np.zeros((800, 1200), np.uint8)
    colours = np.random.default_rng(0).integers(30, 226, (rows * columns, 3))
    for number in range(rows * columns):
        row, column = divmod(number, columns)
        disc = (x - 80 - 115 * column) ** 2 + (y - 80 - 128 * row) ** 2 < 72**2
        photo[disc], labels[disc] = colours[number], number + 1
    for name, pixels in (("many", photo), ("labels", labels)):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder / "many.png", folder / "labels.png"


def pipeline_alone() -> float:
    """Processor seconds from the masks of the first example to its scene, without the page; networks are loaded."""
    models = Models(DEMOS.parent / "pipelines", dtype=preferred_dtype("cpu"))
    session = open_example(Session(), EXAMPLES[0].key)
    key = models.usual
    models.complete(session, key)
    start = time.process_time()
    models.complete(session, key)
    return time.process_time() - start


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--visitors", type=int, default=100, help="Scenes after which memory is told; 0 for none.")
    parser.add_argument("--repeats", type=int, default=5, help="Of each drag and change of the view.")
    options = parser.parse_args(arguments)
    chromium = find_chromium()
    if chromium is None:
        return 1
    sys.stdout.write(f"{processor_name()}, {preferred_dtype('cpu')}, {os.cpu_count()} cores\n")
    sys.stdout.write(f"{'':44s}{'wall':>11s}{'server cpu':>12s}{'load':>8s}\n")
    with served() as (address, server), sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        watch = Watch(server)
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        width, height = SIZES["page"]
        page = DemoPage(browser, address, width=width, height=height)
        page.example("coffee")
        page.complete()  # networks are loaded
        page.go_back_to("Mark")
        page.page.click(".ad-example[data-key=astronaut]")
        if page.question.is_visible():
            page.answer("Open")
        page.wait_mode("mark")

        def example() -> None:
            page.example("coffee")
            page.complete()
            page.edit()

        ours = watch.time("example to finished scene", example)
        alone = pipeline_alone()
        sys.stdout.write(f"  the pipeline alone {alone:.2f} s of processor: ratio {alone / ours:.2f}\n")
        page.choose("cup")
        watch.time("a drag", lambda: page.after_step(lambda: page.drag(HANDLE)) or page.press("Undo (Ctrl+Z)"),
                   options.repeats)  # fmt: skip
        page.go_back_to("Complete")
        views = iter(["Order", "Whole objects", "Parts"] * options.repeats)
        look = lambda: page.after_step(lambda: page.page.get_by_label(next(views), exact=True).click())  # noqa: E731
        watch.time("a change of the view", look, options.repeats)
        page.close()
        photo, labels = many_objects(Path(folder))
        page = DemoPage(browser, address, width=width, height=height)
        page.after_step(lambda: page.upload("photo-upload", photo))
        page.after_step(lambda: page.upload("mask-upload", [labels]))
        watch.time("60 objects: complete", page.complete)
        watch.time("60 objects: to the editor", page.edit)
        page.page.locator("#edit-panel .ad-row").first.click()
        page.settle()
        nudge = lambda: page.after_step(lambda: page.type_number("X", page.number("X") + 9))  # noqa: E731
        watch.time("60 objects: move one", nudge, options.repeats)
        page.close()
        if options.visitors:
            before = watch.memory()
            told = []
            for number in range(1, options.visitors + 1):
                visitor = DemoPage(browser, address, width=width, height=height, start="coffee")
                visitor.after_step(lambda visitor=visitor: visitor.drag(HANDLE))
                visitor.close()
                if number in (10, 50, options.visitors):
                    told.append(f"{watch.memory()} MB after {number}")
            sys.stdout.write(f"memory: {before} MB before, {', '.join(told)} scenes\n")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
