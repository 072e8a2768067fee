"""Recognise what replaces a file of a store, such as a Git LFS pointer, a git-annex link or a web page.

Links in a store are never followed, because a cache must not point outside itself.
"""

from pathlib import Path

from bddn.files.filekind import EMPTY, FOLDER, HEAD_BYTES, MISSING, ZEROS, FileKind, kind_of, kind_of_bytes, link_kind
from bddn.store.files import Files


def kind_in_store(files: Files, name: str) -> FileKind | None:
    """Return the kind of a file of a store, or None if it is missing or its first bytes do not show it."""
    head = files.read(name, 0, HEAD_BYTES)
    kind = link_kind(Path(files.place, name)) if head is None else kind_of_bytes(head)
    return None if kind in (EMPTY, ZEROS) else kind  # its size shows an empty file; tokens may begin with zeros


def kind_of_place(files: Files) -> FileKind | None:
    """Return what is at the path of a store instead of a folder, or None for a folder, a missing path or a URL."""
    kind = kind_of(Path(files.place))
    return None if kind in (FOLDER, MISSING) else kind


def describe_replaced(files: Files, name: str, words: str) -> str:
    """Return a description of what has replaced a file of a store, or `words` if that is unknown."""
    kind = kind_in_store(files, name)
    return words if kind is None else f"{name} is {kind.name}. {kind.fix}".rstrip(" .")
