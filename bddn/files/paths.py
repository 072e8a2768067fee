"""Paths as users write them: expand `~` to a home folder, and make names printable. Names that nobody wrote."""

import os
from pathlib import Path

from bddn.errors import BddnError

LEFT_BY_SYSTEMS = frozenset(
    (
        *(".ds_store", ".fseventsd", ".spotlight-v100", ".temporaryitems", ".trashes", "__macosx", "icon\r"),  # macOS
        *("$recycle.bin", "desktop.ini", "ehthumbs.db", "system volume information", "thumbs.db"),  # Windows
        *("#recycle", "#snapshot", "@eadir", "lost+found"),  # disks of a network, whose @eaDir has thumbnails; ext4
    )
)


def is_left_by_system(name: str) -> bool:
    """Return whether a system puts a file or folder of this name beside those of users, such as `._a.png`, which macOS
    writes beside `a.png`."""
    return name.startswith("._") or name.casefold() in LEFT_BY_SYSTEMS


def expand_home(text: str) -> str:
    """Replace `~` or `~user` at the start of a path by the home folder.

    A shell does this only at the start of a word: not in `--out=~/run`, `planted:~/demo` or a YAML file.

    Parameters
    ----------
    text : str
        Any path. A path that does not start with `~` is returned unchanged.

    Returns
    -------
    str

    Raises
    ------
    BddnError
        If the home folder is unknown, and no file has exactly this name.
    """
    if not text.startswith("~"):
        return text
    found = os.path.expanduser(text)  # noqa: PTH111 - Path.expanduser would raise, and forgets a trailing slash
    if found.startswith("~") and not os.path.lexists(text):
        user = text.partition("/")[0]
        raise BddnError(
            text,
            expected="a path whose home folder is known",
            got=f"'{user}', which has no home folder on this machine",
            fix="Write the absolute path; if the name itself starts with ~, write ./ in front.",
        )
    return found


def expanded(path: Path) -> Path:
    """Return a path with `~` expanded. It raises the errors of `expand_home`."""
    return Path(expand_home(str(path)))


def printable(text: str) -> str:
    """Return text that can be written to any file or figure: bytes that are not UTF-8 become escapes such as \\xe9."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def refuse_unexpanded(path: Path) -> None:
    """Refuse a relative path that starts with `~`, because writing to it would make a folder named `~`.

    Raises
    ------
    BddnError
        If the path starts with `~` and no such folder exists.
    """
    if path.parts[:1] and path.parts[0].startswith("~") and not os.path.lexists(path.parts[0]):
        raise BddnError(
            path,
            expected="a path to write to",
            got="a path that starts with '~', which is not a folder here",
            fix="Expand it, for example with Path.expanduser(), or give an absolute path.",
        )
