"""The pages of the site that are made from the repository: API, commands, cards, changelog; a hook of mkdocs.

Links of a page to files that are no pages of the site lead to these files where the repository is published.
"""

import argparse
import ast
import json
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "amodal_diffusion"
REPOSITORY = os.environ.get("SITE_REPOSITORY", "")
"""Address of the published repository, to which links to its files go; without one they are text."""

CARDS = (
    "pcnet-m pcnet-m-photo pcnet-m-photo-256 order-net asbu amodal-vae occamodal sdamodal click-segmenter pcnet-c "
    "deocclusion"
).split()


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    pages = {
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "reference/commands.md": commands_page(),
        "zoo.md": zoo_page(),
        **{f"zoo/{name}.md": card_page(name) for name in cards()},
        **{
            f"notebooks/{path.stem}.md": notebook_page(path)
            for path in sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
        },
        **dict(api_pages()),
    }
    for place, text in pages.items():
        files.append(File.generated(config, place, content=text))
    for name in cards():
        for picture in card_pictures(name):
            source = ROOT / "pipelines" / name / picture
            files.append(File.generated(config, f"zoo/{name}/{picture}", abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to files outside of the site where they are."""
    folder = posixpath.dirname(page.file.src_uri)

    def replaced(match: re.Match[str]) -> str:
        text, target = match["text"], match["target"]
        path, _, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", path) or path.startswith("/"):
            return match[0]
        place = posixpath.normpath(posixpath.join(folder, path))
        if files.get_file_from_path(place) is not None:
            return match[0]
        return link_outside(text, posixpath.normpath(posixpath.join("docs", place)), folder, anchor)

    parts = re.split(r"(^```.*?^```)", markdown, flags=re.MULTILINE | re.DOTALL)
    pattern = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
    return "".join(part if part.startswith("```") else pattern.sub(replaced, part) for part in parts)


def link_outside(text: str, place: str, folder: str, anchor: str) -> str:
    """A link to a file of the repository: to its page, to the published repository, or the text alone."""
    card = re.fullmatch(r"pipelines/([\w-]+)(/README\.md)?", place)
    pages = {"CHANGELOG.md": "changelog.md"}
    page = f"zoo/{card[1]}.md" if card and card[1] in cards() else pages.get(place)
    if page:
        return f"[{text}]({posixpath.relpath(page, folder or '.')})"
    if not (ROOT / place).exists():
        raise FileNotFoundError(f"a page of the site links to {place}, which is not there")
    return f"[{text}]({REPOSITORY}/blob/main/{place}{'#' + anchor if anchor else ''})" if REPOSITORY else text


# Notebooks


def notebook_page(path: Path) -> str:
    """The text and the code of a notebook, which has no outputs, with a link to the file."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    title, _, rest = parts[0].partition("\n")
    return "\n\n".join([title, f"[The notebook]({path.name})", rest.strip(), *parts[1:]]) + "\n"


# API


def api_pages() -> Iterator[tuple[str, str]]:
    """A page for each room with public names, and their index."""
    rows = []
    for stub in sorted(PACKAGE.rglob("__init__.pyi")):
        room = ".".join(stub.relative_to(ROOT).parent.parts)
        names = list(public_names(stub, room))
        if not names or room == "amodal_diffusion":
            continue
        subject = ast.get_docstring(ast.parse(stub.with_suffix(".py").read_text(encoding="utf-8"))) or ""
        body = "\n".join(f"::: {path}\n" for _, path in names)
        yield f"api/{room}.md", f"# {room}\n\n{subject}\n\n{body}"
        shown = ", ".join(f"[`{name}`]({room}.md#{path})" for name, path in names)
        rows.append(f"## [{room}]({room}.md)\n\n{subject.splitlines()[0]}\n\n{shown}\n")
    head = (
        "# API\n\nEvery public name, by room. Networks, pipelines and scenes can be imported from `amodal_diffusion` "
        "itself.\n\n"
    )
    yield "api/index.md", head + "\n".join(rows)


def public_names(stub: Path, room: str) -> Iterator[tuple[str, str]]:
    """The functions and classes of a room, with the modules that define them; constants are told where they belong."""
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ImportFrom) or node.level != 1 or node.module is None:
            continue
        source = stub.parent.joinpath(*node.module.split("."))
        file = source.with_suffix(".py")
        if not file.is_file():
            continue  # a room within, which has a page of its own
        defined = {
            part.name
            for part in ast.parse(file.read_text(encoding="utf-8")).body
            if isinstance(part, ast.FunctionDef | ast.ClassDef)
        }
        for alias in node.names:
            if alias.name in defined:
                yield alias.name, f"{room}.{node.module}.{alias.name}"


# Commands


def commands_page() -> str:
    """What `--help` says of every command."""
    from amodal_diffusion.cli.main import build_parser

    os.environ["COLUMNS"] = "110"
    parts = ["# All options\n\nAs `--help` prints them.\n"]
    for name, parser in all_commands(build_parser()):
        text = parser.format_help().replace(str(ROOT), ".")
        parts.append(f"## {name}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


def all_commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The commands, each before its own."""
    yield parser.prog, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in dict.fromkeys(action.choices.values()):
                yield from all_commands(inner)


# Cards


def cards() -> list[str]:
    """Pipelines with a card, in the order of the zoo."""
    there = {path.parent.name for path in (ROOT / "pipelines").glob("*/README.md")}
    return [name for name in CARDS if name in there] + sorted(there - set(CARDS))


def card_body(name: str) -> str:
    text = (ROOT / "pipelines" / name / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL).strip()


PICTURE = re.compile(r"!\[([^\]]*)\]\((?!https?:)([^)\s]+)\)")


def card_pictures(name: str) -> list[str]:
    """What the card of a pipeline shows, by its places in the pipeline's folder."""
    return sorted({match[2] for match in PICTURE.finditer(card_body(name))})


def card_page(name: str) -> str:
    """The card of a pipeline: its pictures go with it, its links lead to their places in the repository."""
    body = PICTURE.sub(rf"![\1]({name}/\2)", card_body(name))
    # From zoo/NAME.md, `../../pipelines/NAME/x` is what `x` is from the card.
    return re.sub(r"(?<!!)\[([^\]]*)\]\((?![a-z]+:|#|/)([^)\s]+)\)", rf"[\1](../../pipelines/{name}/\2)", body)


def zoo_page() -> str:
    """A line for each pipeline: what its card says first."""
    rows = []
    for name in cards():
        title, _, rest = card_body(name).partition("\n")
        paragraphs = (part.strip() for part in rest.split("\n\n"))
        first = next(part for part in paragraphs if part and not part.startswith(("#", "!", "<")))
        rows.append(f"| [`{name}`](zoo/{name}.md) | {title.lstrip('# ')} | {' '.join(first.split())} |")
    head = (
        "# Model zoo\n\nThe pipelines of `pipelines/`, with their weights; each card has its use, limits, data and "
        "figures.\n\n"
    )
    table = "| folder | system | what it does |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    return head + table + zoo_figures()


def zoo_figures() -> str:
    """The tables of masks and order on photos, and where the other figures are."""
    text = (ROOT / "docs/figures.md").read_text(encoding="utf-8")
    together, alone = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)[:2]
    return (
        f"\n## Figures\n\nFive photos with real amodal ground truth, percent, all masks of a photo given:\n\n{together}"
        f"\nEach object from the photo and its own mask alone:\n\n{alone}"
        "\nA star looks at the ground truth. [All figures](figures.md) have intervals, rendered rooms and times; those "
        "of clicks and of hidden colours are in the cards.\n"
    )
