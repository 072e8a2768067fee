"""A user's own pictures: where they are, and that all of them are whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bddn.data import Stimuli
from bddn.data.checking import combined_error, inspect_images
from bddn.data.listing import SUFFIXES, is_printable, visible_images
from bddn.errors import DataError

THUMBNAIL = 256


@dataclass(frozen=True)
class Pictures:
    """Whole pictures: `stimuli`, named by their paths, the `sha256` of their files, and `notes`: in words, what is to
    be told of how they are read, which is as in an extraction."""

    stimuli: Stimuli
    sha256: tuple[str, ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sha256)

    def part(self, start: int, stop: int) -> "Pictures":
        """Some of them."""
        some = slice(start, stop)
        return Pictures(Stimuli(self.stimuli.ids[some], self.stimuli.paths[some]), self.sha256[some], self.notes)

    def thumbnails(self) -> list[npt.NDArray[np.uint8]]:
        """All of them for a figure, n × (256, 256, 3), squashed to a square."""
        return [np.asarray(self.stimuli.read(i)[0].resize((THUMBNAIL, THUMBNAIL))) for i in range(len(self))]


def read_pictures(places: Sequence[Path]) -> Pictures:
    """Find pictures, and decode every one to see that it is whole.

    Parameters
    ----------
    places : sequence of Path
        Files of any of `bddn.data.decoding.FORMATS`, and folders, of which all PNG and JPEG files are taken by name,
        but no hidden ones and none of inner folders. A file that is named twice is taken once.

    Raises
    ------
    DataError
        Listing all files that are missing, damaged or no pictures, and all folders without any.
    """
    paths, bad = list[Path](), list[DataError]()
    for place in places:
        found = visible_images(place) if place.is_dir() else [place]
        if not found:
            bad.append(_bad(str(place), f"a folder without {', '.join(SUFFIXES)}"))
        paths += found
    paths = list(dict.fromkeys(paths))
    bad += [_bad(ascii(str(path)), "a name that cannot be printed") for path in paths if not is_printable(str(path))]
    stimuli = Stimuli(tuple(str(path) for path in paths), tuple(paths))
    checked, unread = inspect_images(stimuli)
    if bad or unread:
        raise combined_error([*bad, *unread], "pictures")
    if not paths:
        raise _bad("pictures", "none")
    return Pictures(stimuli, tuple(checked.sha256), tuple(checked.notes))


def _bad(place: str, got: str) -> DataError:
    return DataError(
        place,
        expected="files of whole pictures, or folders of them",
        got=got,
        fix="Correct or leave out what is listed.",
    )
