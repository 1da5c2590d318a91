"""`amodal-diffusion dataset export`: a data set to the files of tools, and back."""

import pytest

from amodal_diffusion import interop
from amodal_diffusion.cli.dataset import TOOLS
from amodal_diffusion.cli.main import main
from amodal_diffusion.data import convert_dataset
from amodal_diffusion.interop import write_cvat, write_kins
from interop_helpers import kitchen_row


def export(*arguments):
    return main(["dataset", "export", *map(str, arguments)])


def test_tools_are_those_of_the_package():
    assert sorted(TOOLS) == list(TOOLS) and set(TOOLS) == set(interop.TOOLS)


def test_every_tool(tmp_path, capsys):
    convert_dataset({"train": [kitchen_row()]}, tmp_path / "set")
    for tool in TOOLS:
        assert export(tmp_path / "set", "--to", tool, "--output", tmp_path / "out" / tool) == 0
    written = capsys.readouterr().out.splitlines()
    assert len(written) == 7 and sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "cocoa", "cvat", "cvat-labels.json", "d2sa", "kins", "label-studio", "label-studio-interface.xml",
    ]  # fmt: skip
    write_kins([kitchen_row()], tmp_path / "mine.json")
    assert (tmp_path / "out" / "kins").read_text() == (tmp_path / "mine.json").read_text()


def test_from_one_tool_to_another(tmp_path):
    write_cvat([kitchen_row()], tmp_path / "a.xml")
    assert export(tmp_path / "a.xml", "--to", "cvat", "--output", tmp_path / "b.xml") == 0
    assert (tmp_path / "a.xml").read_text() == (tmp_path / "b.xml").read_text()


def test_errors(tmp_path, capsys):
    write_cvat([kitchen_row()], tmp_path / "a.xml")
    assert export(tmp_path / "a.xml", "--to", "kins", "--split", "test", "--output", tmp_path / "b.json") == 2
    assert "--split is of Parquet alone" in capsys.readouterr().err
    assert export(tmp_path / "gone", "--to", "kins", "--output", tmp_path / "b.json") == 2
    with pytest.raises(SystemExit):
        export(tmp_path / "a.xml", "--to", "vgg", "--output", tmp_path / "b.json")
    assert "invalid choice: 'vgg'" in capsys.readouterr().err
