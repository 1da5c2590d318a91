"""The page of the demo in a real browser: started with `demos/app.py`, driven through Playwright.

These tests run only where they are asked for: `python -m pytest tests/browser -m browser`, which `make test-browser`
does. They need playwright and a Chromium of the system: CHROMIUM names its executable, otherwise the PATH is searched.
Screenshots go to SCREENSHOTS, or out/browser. BROWSER_PATIENCE=10 waits ten times as long, on a busy machine.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from repository_helpers import ROOT
from server_helpers import free_port, wait_for

collect_ignore = ["record_page.py", "time_page.py"]  # programs
EXECUTABLES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def pytest_configure(config):
    config.addinivalue_line("markers", "browser: drives the demo in a Chromium (make test-browser)")


def is_asked(config):
    """Whether the run names these tests, by marker or by path."""
    expression = config.option.markexpr or ""
    named = any("browser" in Path(str(argument)).parts for argument in config.invocation_params.args)
    return named or ("browser" in expression and "not browser" not in expression)


def pytest_ignore_collect(collection_path, config):
    """Leave these tests out of all other runs, which need neither playwright nor a Chromium."""
    if not is_asked(config):
        return True
    if importlib.util.find_spec("playwright") is None:
        raise pytest.UsageError("tests/browser needs playwright: pip install -c constraints.txt playwright")
    return None


def chromium_path():
    named = os.environ.get("CHROMIUM")
    found = named if named else next(filter(None, map(shutil.which, EXECUTABLES)), None)
    if not found or not shutil.which(found):
        pytest.fail(
            f"no Chromium: {f'CHROMIUM={named} cannot be run' if named else 'none of ' + ', '.join(EXECUTABLES)}. "
            "On Debian `apt-get install --no-install-recommends chromium` installs one.",
            pytrace=False,
        )
    return found


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory):
    """The shipped pipelines; networks of random weights where some of them are not there."""
    from demo_helpers import save_pipelines
    from page.models import Models

    shipped = ROOT / "pipelines"
    if not Models(shipped).missing:
        return shipped
    return save_pipelines(tmp_path_factory.mktemp("pipelines"))


class Server:
    """The page as `python demos/app.py` serves it; it can be killed and started anew, with the work that it kept."""

    def __init__(self, folder, pipelines, *options, **environ):
        self.folder, self.pipelines, self.options, self.port = folder, pipelines, options, free_port()
        self.environ = environ
        self.url, self.log = f"http://127.0.0.1:{self.port}", folder / "log.txt"
        self.process = None

    def start(self):
        command = [sys.executable, str(ROOT / "demos" / "app.py"), "--port", str(self.port)]
        command += ["--pipelines", str(self.pipelines), "--keep", str(self.folder / "kept"), *self.options]
        files = {"GRADIO_TEMP_DIR": str(self.folder / "files"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **files, **self.environ},
                cwd=self.folder,
            )
        wait_for(self.process, self.url, self.log, "demos/app.py")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
        said = self.log.read_text(encoding="utf-8", errors="replace")
        assert "Traceback" not in said, said


@pytest.fixture(scope="session")
def server(tmp_path_factory, pipelines):
    started = Server(tmp_path_factory.mktemp("server"), pipelines)
    started.start()
    yield started
    started.stop()


@pytest.fixture
def own_server(tmp_path_factory, pipelines):
    """One that keeps no other visitor's work, and that a test may kill without troubling those of others."""
    started = Server(tmp_path_factory.mktemp("own-server"), pipelines)
    started.start()
    yield started
    started.stop()


@pytest.fixture
def start_server(pipelines):
    """Starts servers whose log may say that something went wrong; `environ` are variables."""
    started = []

    def start(folder, *options, **environ):
        started.append(Server(folder, pipelines, *options, **environ))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.process.terminate()
        one.process.wait(30)


@pytest.fixture(scope="session")
def address(server):
    """Where the page is."""
    return server.url


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def screenshots():
    folder = Path(os.environ.get("SCREENSHOTS", ROOT / "out" / "browser"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def sam_address(tmp_path_factory, pipelines):
    """Where the page is with a SAM, a tiny one of random weights."""
    from segmenter_helpers import sam_pipeline

    folder = tmp_path_factory.mktemp("sam")
    sam_pipeline().save_pretrained(folder / "tiny-sam")
    started = Server(folder, pipelines, "--segmenter", str(folder / "tiny-sam"))
    started.start()
    yield started.url
    started.stop()


@pytest.fixture
def open_page(browser, address):
    """Opens the page in a context of its own, as another visitor; checks at the end what all pages asked for."""
    from demo_page import DemoPage

    pages = []

    def visit(*, at=address, **options):
        pages.append(DemoPage(browser, at, **options))
        return pages[-1]

    yield visit
    for page in pages:
        page.close()
    assert [problem for page in pages for problem in page.problems] == []
