"""The images of several subjects together, so that one extraction serves all of them.

Images are equal if their pixels are, in whatever files they lie: the identity of an image is `pixels_sha256`. Each is
there once. Its other ids, in another subject or in the same one, are `aliases` of the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self

from bddn.data.checking import CheckedImages, combined_error, inspect_images
from bddn.data.dataset import Dataset, Stimuli, pixels_sha256
from bddn.data.decoding import Decoded
from bddn.data.plugins import open_dataset
from bddn.errors import DataError
from bddn.text import count

Place = tuple[int, int]
"""A source, and a row of it."""


@dataclass(frozen=True)
class UnitedStimuli(Stimuli):
    """Images of several sources, each identified by its pixels.

    Attributes
    ----------
    sources : tuple of Stimuli
    at : tuple of (int, int)
        The source of each image, and its row there.
    aliases : mapping of str to str
        Other ids of these images, each with the id that the image has here.
    checked : CheckedImages, optional
        What is known of them, since they were decoded to find equal ones.
    """

    sources: tuple[Stimuli, ...] = ()
    at: tuple[Place, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    checked: CheckedImages | None = None

    def part(self, rows: Sequence[int]) -> Self:
        """Return the images in these rows."""
        found = replace(self, at=tuple(self.at[i] for i in rows), aliases={}, checked=None)
        return replace(found, ids=tuple(self.ids[i] for i in rows), paths=tuple(self.paths[i] for i in rows))

    def absolute(self) -> Self:
        """Return the same images, for processes with another working directory."""
        sources = tuple(source.absolute() for source in self.sources)
        return replace(self, sources=sources, paths=tuple(path.absolute() for path in self.paths), checked=None)

    def place(self, i: int) -> str:
        """Return where image `i` is, for messages."""
        source, row = self.at[i]
        return self.sources[source].place(row)

    def sha256(self, i: int) -> str:
        """Return the identity of image `i`."""
        return self.decoded(i)[1]

    def decoded(self, i: int) -> tuple[Decoded, str]:
        """Decode image `i`; see `Stimuli.decoded`. Its identity is `pixels_sha256`."""
        source, row = self.at[i]
        found, _ = self.sources[source].decoded(row)
        return found, pixels_sha256(found.image)


class Subjects:
    """Several datasets whose images are extracted together.

    Parameters
    ----------
    datasets : sequence of Dataset
        At least one. The images of the first come first.
    """

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self.datasets = tuple(datasets)
        self.name = " + ".join(dataset.name for dataset in self.datasets)

    @cached_property
    def stimuli(self) -> UnitedStimuli:
        """All different images; see `unite`, whose errors it raises. Every image is decoded."""
        return unite([dataset.stimuli for dataset in self.datasets])

    def in_words(self) -> str:
        """Return how many images there are."""
        found, n = self.stimuli, sum(len(dataset.stimuli) for dataset in self.datasets)
        aliases = f"; {len(found.aliases)} of them under another id" if found.aliases else ""
        return f"{len(found)} different images, of {n} in {len(self.datasets)} datasets{aliases}"


def open_subjects(names: Sequence[str]) -> Dataset | Subjects:
    """Open one dataset by its name, or several together.

    Raises
    ------
    DataError
        If one of them is unknown or cannot be opened.
    """
    opened = [open_dataset(name) for name in dict.fromkeys(names)]
    return opened[0] if len(opened) == 1 else Subjects(opened)


def unite(sources: Sequence[Stimuli]) -> UnitedStimuli:
    """Return the different images of several sources, in the order in which they come first.

    Raises
    ------
    DataError
        If an image cannot be read, or one id means two different images.
    """
    files = [_files(stimuli, sources) for stimuli in sources]
    at: dict[File, Place] = {}
    for source, rows in enumerate(files):
        for row, file in enumerate(rows):
            at.setdefault(file, (source, row))
    every = UnitedStimuli(
        tuple(sources[source].ids[row] for source, row in at.values()),
        tuple(sources[source].paths[row] for source, row in at.values()),
        sources=tuple(sources),
        at=tuple(at.values()),
    )
    checked, bad = inspect_images(every)
    if bad:
        raise combined_error(bad)
    row_of, known = {file: row for row, file in enumerate(at)}, checked.sha256
    named, first = dict[str, tuple[str, Place]](), dict[str, tuple[str, int]]()
    aliases, clashes = dict[str, str](), list[tuple[str, Place, Place]]()
    for source, rows in enumerate(files):
        for row, (stimulus, file) in enumerate(zip(sources[source].ids, rows, strict=True)):
            sha256 = known[row_of[file]]
            other, place = named.setdefault(stimulus, (sha256, (source, row)))
            if other != sha256:
                clashes.append((stimulus, place, (source, row)))
            own, _ = first.setdefault(sha256, (stimulus, row_of[file]))
            if own != stimulus:
                aliases[stimulus] = own
    if clashes:
        stimulus, *places = clashes[0]
        one, another = (sources[source].place(row) for source, row in places)
        raise DataError(
            f"stimulus '{stimulus}'",
            expected="one image for each id, in all datasets that share a cache",
            got=f"{one} and {another}, whose pixels differ; {count(len(clashes), 'id')} with two images",
            fix="Extract these datasets into a cache each, or give different images different ids.",
        )
    found = every.part([row for _, row in first.values()])
    ids = tuple(stimulus for stimulus, _ in first.values())
    return replace(found, ids=ids, aliases=aliases, checked=replace(checked, sha256=list(first)))


File = tuple[Path, int, int]
"""A file, the row in it, and the number of the container that reads it, from 0; -1 for files of one image."""


def _files(stimuli: Stimuli, sources: Sequence[Stimuli]) -> list[File]:
    """Return where the images of one of the sources are. Subjects that share a file share its images."""
    if stimuli.container is None or stimuli.rows is None:
        return [(path, -1, -1) for path in stimuli.paths]
    kind = [source.container for source in sources].index(stimuli.container)
    return [(path, row, kind) for path, row in zip(stimuli.paths, stimuli.rows, strict=True)]
