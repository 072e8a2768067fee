"""The help: commands in panels by stage, and one example for each that can be run as it stands."""

import shlex
from itertools import pairwise

import pytest
from typer.testing import CliRunner

from bddn.cli import app
from command_words import all_commands, command_of

PANELS = ("Data", "Stage one", "Stage two", "Numbers", "Pictures", "Caches")
WIDTH = 78  # of a terminal of 80 columns, without its margins


NAMES = [path for path, _ in all_commands()]


def test_every_command_has_a_panel() -> None:
    panels = [one.rich_help_panel for path, one in all_commands() if len(path) == 1]
    assert len(panels) > 12
    assert set(panels) == set(PANELS)
    said = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).output
    places = [said.index(f"─ {panel} ─") for panel in PANELS]
    assert places == sorted(places)
    assert "─ Commands ─" not in said


@pytest.mark.parametrize("path", NAMES, ids=" ".join)
def test_the_help_of_a_command_ends_with_an_example_that_parses(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert done.exit_code == 0
    last = done.output.rstrip().splitlines()[-1].strip()
    assert last.startswith("Example: bddn ")
    assert len(last) <= WIDTH
    words = shlex.split(last.removeprefix("Example: bddn "))
    assert words[: len(path)] == list(path)
    assert command_of(words)[: len(path)] == path
    words_of = [line.split() for line in done.output.split("╭")[0].splitlines()]
    for line, after in pairwise(words_of):  # each line of a paragraph is full
        assert not line or not after or len(" ".join([*line, after[0]])) > WIDTH, line
