"""The site is built without network and without a warning; every public name and every command is on it."""

import os
import re
import subprocess
import sys

import pytest

from amodal_diffusion.cli.main import build_parser
from repository_helpers import PACKAGE, ROOT

pytest.importorskip("mkdocs")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    environment |= {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert not re.search(r"WARNING|ERROR", done.stderr), done.stderr[-3000:]
    return folder


def test_every_public_name_has_its_place(site):
    missing = []
    for stub in PACKAGE.rglob("__init__.pyi"):
        room = ".".join(stub.relative_to(ROOT).parent.parts)
        for module, name in re.findall(r"^from \.(\w+) import \w+ as (\w+)$", stub.read_text(), flags=re.MULTILINE):
            source = stub.parent / f"{module}.py"
            if source.is_file() and re.search(rf"^(?:def|class) {name}\b", source.read_text(), flags=re.MULTILINE):
                page = site / "api" / f"{room}.html"
                if f'id="{room}.{module}.{name}"' not in page.read_text(encoding="utf-8"):
                    missing.append(f"{room}.{name}")
    assert not missing


def test_examples_are_shown_as_code(site):
    page = (site / "api" / "amodal_diffusion.masks.html").read_text(encoding="utf-8")
    assert "Examples:" in page and "blockquote" not in page


def test_every_command_is_there(site):
    page = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    parser = build_parser()
    for action in parser._actions:
        for name in getattr(action, "choices", None) or ():
            assert f"amodal-diffusion {name}" in page


def test_every_card_and_the_changelog_are_there(site):
    zoo = (site / "zoo.html").read_text(encoding="utf-8")
    assert zoo.count("<table>") == 3 and "inv-mIoU pooled" in zoo  # the pipelines, and two tables of figures
    for card in (ROOT / "pipelines").glob("*/README.md"):
        assert f"zoo/{card.parent.name}.html" in zoo and (site / "zoo" / f"{card.parent.name}.html").is_file()
        pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", card.read_text(encoding="utf-8"))
        page = (site / "zoo" / f"{card.parent.name}.html").read_text(encoding="utf-8")
        for picture in pictures:
            place = f"{card.parent.name}/{picture}"
            assert f'src="{place}"' in page and (site / "zoo" / place).is_file()
    assert "Unreleased" in (site / "changelog.html").read_text(encoding="utf-8") or re.search(
        r"\d+\.\d+\.\d+", (site / "changelog.html").read_text(encoding="utf-8")
    )


def test_nothing_comes_from_elsewhere(site):
    """No font, script or style of another server: the site works where there is no network."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'<(?:script|link|img)[^>]*(?:src|href)="https?://(?!127)[^"]*"', text), page.name
