"""What lies in a store in the place of one of its files: a pointer of Git LFS, a link of git-annex, a web page.

Links in a store are never followed: a cache must not lead out of itself.
"""

from pathlib import Path

from bddn.files.filekind import EMPTY, FOLDER, HEAD_BYTES, MISSING, ZEROS, FileKind, kind_of, kind_of_bytes, link_kind
from bddn.store.files import Files


def kind_in_store(files: Files, name: str) -> FileKind | None:
    """The kind of a file of a store; None where its first bytes tell nothing, or where it is simply not there."""
    head = files.read(name, 0, HEAD_BYTES)
    kind = link_kind(Path(files.place, name)) if head is None else kind_of_bytes(head)
    return None if kind in (EMPTY, ZEROS) else kind  # the size tells the first; tokens may begin with zeros


def kind_of_place(files: Files) -> FileKind | None:
    """What lies at the place of a store instead of a folder; None where that is a folder, nothing or a URL."""
    kind = kind_of(Path(files.place))
    return None if kind in (FOLDER, MISSING) else kind


def instead(files: Files, name: str, words: str) -> str:
    """`words` about a file of a store that is wrong, or what is there instead of it, if that is known."""
    kind = kind_in_store(files, name)
    return words if kind is None else f"{name} is {kind.name}. {kind.fix}".rstrip(" .")
