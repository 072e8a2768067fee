"""The help: commands in panels by stage, and one example for each that can be run as it stands."""

import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from bddn.cli import app

PANELS = ("Data", "Stage one", "Stage two", "Numbers", "Pictures", "Caches")
WIDTH = 78  # of a terminal of 80 columns, without its margins


def _commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands and groups below `bddn`, with the words that call them."""
    command = typer.main.get_command(app) if command is None else command
    for name, one in getattr(command, "commands", {}).items():
        yield (*path, name), one
        yield from _commands(one, (*path, name))


NAMES = [path for path, _ in _commands()]


def test_every_command_has_a_panel() -> None:
    panels = [one.rich_help_panel for path, one in _commands() if len(path) == 1]
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
    assert _run_of(words)[: len(path)] == path


def _run_of(words: list[str]) -> tuple[str, ...]:
    """Which command some words run; nothing is run, and words that do not parse are an error."""
    root = typer.main.get_command(app)
    ran: list[tuple[str, ...]] = []

    def noted(path: tuple[str, ...]) -> Callable[..., None]:
        return lambda **_: ran.append(path)

    for path, one in _commands(root):
        one.callback = noted(path)
    root.callback = noted(())
    root.main(words, standalone_mode=False)
    return ran[-1]
