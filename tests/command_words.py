"""Commands in documentation: words of a shell, and what bddn understands of them; nothing is run."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

import typer

from bddn.cli import app

HEREDOC = re.compile(r"<<\s*'?(\w+)'?(.*?)\n.*?^\1$", re.MULTILINE | re.DOTALL)
SEPARATORS = {"|", "||", "&&", ";", "&", "(", ")"}
KEYWORDS = {"for", "do", "done", "if", "then", "fi", "while"}


def all_commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands and groups below `bddn`, with the words that call them."""
    command = typer.main.get_command(app) if command is None else command
    for name, one in getattr(command, "commands", {}).items():
        yield (*path, name), one
        yield from all_commands(one, (*path, name))


def command_of(words: list[str]) -> tuple[str, ...]:
    """Which command some words (without `bddn`) run; words that do not parse are an error of click."""
    root, ran = _parser()
    ran.clear()
    root.main(list(words), standalone_mode=False)
    return ran[-1] if ran else ()


@cache
def _parser() -> tuple[Any, list[tuple[str, ...]]]:
    root = typer.main.get_command(app)
    ran: list[tuple[str, ...]] = []

    def noting(path: tuple[str, ...]) -> Any:
        return lambda **_: ran.append(path)

    for path, one in all_commands(root):
        one.callback = noting(path)
    root.callback = noting(())
    return root, ran


def shell_commands(text: str) -> list[list[str]]:
    """The simple commands of lines of a shell, each as its words; here-documents, comments and redirections are left
    out."""
    text = HEREDOC.sub(r"\2", text).replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        words: list[str] = []
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, "#"
        tokens = list(lexer)
        for at, token in enumerate([*tokens, ";"]):
            if token in SEPARATORS:
                found.append(words)
                words = []
            elif token not in {">", ">>", "<", "2>"} and not (at and tokens[at - 1] in {">", ">>", "<", "2>"}):
                words.append(token)
    return [simple for words in found if (simple := _simple(words))]


def _simple(words: list[str]) -> list[str]:
    """A command without keywords of the shell and variables before it."""
    if words and words[0] == "for":  # its words are a list of values
        return []
    while words and (words[0] in KEYWORDS or re.match(r"\w+=", words[0])):
        words = words[1:]
    return words
