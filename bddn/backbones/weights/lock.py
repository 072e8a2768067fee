"""The file `weights.lock`: commits and hashes of the weights of a lab, so that others fetch the same files.

It lies in the working directory. If it exists, every command uses the commits in it (see `pin`), and `bddn fetch`
refuses files that differ from it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from bddn.backbones.weights.local import MAIN
from bddn.errors import BackboneError, SpecError
from bddn.files.atomic import write_text
from bddn.spec import CacheSpec, WeightsSpec
from bddn.spec.base import Spec
from bddn.text import shorten

FILE = "weights.lock"
SHOWN = 4  # files in a message
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
UNLOCK = f"delete this entry of {FILE} and run 'bddn fetch --lock'."


class Content(NamedTuple):
    """The SHA-256 (hexadecimal) and the size in bytes of a file."""

    sha256: str
    size: int


class LockedFile(Spec):
    """A file of weights."""

    name: str
    """Its path in the repository, or the last part of its address."""
    sha256: Sha256
    """SHA-256 of its content, hexadecimal."""
    size: Annotated[int, Field(ge=0)]
    """In bytes."""


class Locked(Spec):
    """The weights of one repository of the hub, or of one address."""

    hub: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """Id of the repository."""
    revision: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """Revision that the specs name; none means main."""
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = Field(
        default=None, exclude_if=lambda value: value is None
    )
    """Commit that this revision was."""
    url: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """Address of the file."""
    files: tuple[LockedFile, ...]
    """The files that bddn reads."""

    @property
    def place(self) -> str:
        """Name for messages."""
        return f"{FILE}, {self.hub or self.url}"

    def contents(self) -> dict[str, Content]:
        """Return hash and size of the files by name."""
        return {file.name: Content(file.sha256, file.size) for file in self.files}


class WeightsLock(Spec):
    """The content of the file."""

    format: Literal[1] = 1
    """Version of this format."""
    weights: tuple[Locked, ...] = ()
    """Repositories and addresses, sorted."""

    def of(self, weights: WeightsSpec | None) -> Locked | None:
        """Return the entry for these weights; None if there is none."""
        if weights is None or (weights.hub is None and weights.url is None):
            return None
        return next((one for one in self.weights if (one.hub, one.url) == (weights.hub, weights.url)), None)


def read_lock() -> WeightsLock:
    """Return the content of the lock file of the working directory. Without a file, it is empty.

    Raises
    ------
    SpecError
        If the file is damaged.
    """
    path = Path(FILE)
    return WeightsLock.from_yaml(path.read_bytes(), str(path)) if path.is_file() else WeightsLock()  # JSON is YAML


def pin(spec: CacheSpec, lock: WeightsLock) -> CacheSpec:
    """Return the spec with the commit, or the SHA-256, that the lock has for its weights.

    Raises
    ------
    SpecError
        If the spec names another revision or SHA-256 than the lock.
    """
    weights, entry = spec.weights, lock.of(spec.weights)
    if weights is None or entry is None:
        return spec
    if weights.hub is not None:
        revision, locked = weights.revision or MAIN, entry.revision or MAIN
        if revision not in (locked, entry.commit):
            raise SpecError(
                entry.place,
                expected=f"revision {locked}, which was commit {entry.commit}",
                got=f"revision {revision} in the spec '{spec.title}'",
                fix=f"Correct weights.revision in the spec, or {UNLOCK}",
            )
        pinned: dict[str, str | None] = {"revision": entry.commit}
    else:
        sha256 = entry.files[0].sha256 if entry.files else None
        if weights.sha256 not in (None, sha256):
            raise SpecError(
                entry.place,
                expected=f"the SHA-256 {sha256}",
                got=f"{weights.sha256} in the spec '{spec.title}'",
                fix=f"Correct weights.sha256 in the spec, or {UNLOCK}",
            )
        pinned = {"sha256": sha256}
    return spec.model_copy(update={"weights": weights.model_copy(update=pinned)})


def check(entry: Locked, found: Mapping[str, Content]) -> None:
    """Compare files with their entry. Files that only one of both has are not compared.

    Raises
    ------
    BackboneError
        If a file differs. The message names the differences.
    """
    locked = entry.contents()
    differ = [name for name in sorted(found) if name in locked and locked[name] != found[name]]
    if differ:
        raise BackboneError(
            entry.place,
            expected=shorten([f"{name} of {_words(locked[name])}" for name in differ], SHOWN),
            got=", ".join(_words(found[name]) for name in differ[:SHOWN]),
            fix=f"These are not the weights of the lab that wrote the file. To use them all the same, {UNLOCK}",
        )


def record(weights: WeightsSpec, commit: str | None, found: Mapping[str, Content]) -> None:
    """Add files to the lock file of the working directory. The entry keeps the other files that it has.

    Parameters
    ----------
    weights : WeightsSpec
    commit : str, optional
        The commit of the files, if they are of the hub.
    found : mapping of str to Content
        Files by name.
    """
    lock = read_lock()
    entry = lock.of(weights)
    every = {**(entry.contents() if entry else {}), **found}
    files = [{"name": name, **content._asdict()} for name, content in sorted(every.items())]
    own = {"hub": weights.hub, "revision": entry.revision if entry else weights.revision, "commit": commit}
    new = Locked.parse({**own, "url": weights.url, "files": files}, FILE)
    others = [one for one in lock.weights if one is not entry]
    kept = WeightsLock(weights=tuple(sorted([*others, new], key=lambda one: one.hub or one.url or "")))
    write_text(Path(FILE), json.dumps(kept.to_dict(), indent=1) + "\n")


def _words(content: Content) -> str:
    return f"SHA-256 {content.sha256} ({content.size:,} bytes)"
