"""Paths as users write them: `~` stands for a home folder, wherever a path is taken from words."""

import os
from pathlib import Path

from bddn.errors import BddnError


def expand_home(text: str) -> str:
    """Replace `~` or `~user` at the start of a path by the home folder that it stands for.

    A shell does this only at the start of a word: not in `--out=~/run`, `planted:~/demo` or a YAML file.

    Parameters
    ----------
    text : str
        Any path. One that does not start with `~` comes back as it is.

    Returns
    -------
    str

    Raises
    ------
    BddnError
        Where no such home folder is known, and no file has this very name.
    """
    if not text.startswith("~"):
        return text
    found = os.path.expanduser(text)  # noqa: PTH111 - Path.expanduser would raise, and forgets a trailing slash
    if found.startswith("~") and not os.path.lexists(text):
        user = text.partition("/")[0]
        raise BddnError(
            text,
            expected="a path whose home folder is known",
            got=f"'{user}', for which this machine knows no home folder",
            fix="Write the whole path; for a name that starts with ~, write its folder in front.",
        )
    return found


def expanded(path: Path) -> Path:
    """The same for a path that is one already. Errors as of `expand_home`."""
    return Path(expand_home(str(path)))


def printable(text: str) -> str:
    """Text that every file and drawing can hold: of a name in no valid encoding, odd bytes become escapes (\\xe9)."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def refuse_unexpanded(path: Path) -> None:
    """Refuse to write below a relative path that starts with `~`, which would make a folder of this name.

    Raises
    ------
    BddnError
        Where it starts so.
    """
    if path.parts[:1] and path.parts[0].startswith("~") and not os.path.lexists(path.parts[0]):
        raise BddnError(
            path,
            expected="a path to write to",
            got="one that starts with '~', which is not a folder here",
            fix="Expand it, for instance with Path.expanduser(), or give an absolute path.",
        )
