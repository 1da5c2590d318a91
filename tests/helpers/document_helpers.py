"""What documents show: their text, their blocks of code, the commands in blocks and tables."""

import re
import shlex

from repository_helpers import ROOT


def text_of(document):
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(language, document):
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(document), flags=re.MULTILINE | re.DOTALL)


def commands(program, documents):
    """The arguments of all commands of a program in the blocks of some documents."""
    lines = []
    for document in documents:
        lines += "\n".join(blocks("bash", document)).replace("\\\n", " ").splitlines()
    found = (shlex.split(line.removeprefix(".venv/bin/"), comments=True) for line in lines)
    return [words[1:] for words in found if words[:1] == [program]]


def table_rows(document):
    """The cells of all rows of tables with a column "command", without their heads: {column: text}."""
    found, columns = [], None
    for line in text_of(document).splitlines():
        if not line.startswith("|"):
            columns = None
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if columns is None:
            columns = cells
        elif "command" in columns and set(cells[0]) != {"-"}:
            found.append(dict(zip(columns, cells, strict=True)))
    return found
