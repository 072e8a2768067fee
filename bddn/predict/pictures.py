"""Find the images of a user, and check that all of them can be decoded."""

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
    """Checked images of a user: `stimuli` with their paths as ids, the `sha256` of their files, and `notes` on how some
    of them are decoded, which is the same as in an extraction."""

    stimuli: Stimuli
    sha256: tuple[str, ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sha256)

    def part(self, start: int, stop: int) -> "Pictures":
        """Return the images in the rows from `start` to `stop`, without `stop`."""
        rows = range(len(self))[start:stop]
        return Pictures(self.stimuli.part(rows), self.sha256[start:stop], self.notes)

    def thumbnails(self) -> list[npt.NDArray[np.uint8]]:
        """Return all images for a figure, n × (256, 256, 3) uint8, resized to a square."""
        return [np.asarray(self.stimuli.read(i)[0].resize((THUMBNAIL, THUMBNAIL))) for i in range(len(self))]


def read_pictures(places: Sequence[Path]) -> Pictures:
    """Find images, and decode each of them to check it.

    Parameters
    ----------
    places : sequence of Path
        Image files in one of `bddn.data.decoding.FORMATS`, and folders. In folders, all PNG and JPEG files are used,
        except hidden files and files in subfolders. A file that is given twice is used once.

    Raises
    ------
    DataError
        If files are missing, damaged or not images, or folders contain no image. The message names them.
    """
    paths, bad = list[Path](), list[DataError]()
    for place in places:
        files = files_of(place)
        if not files:
            bad.append(_bad(str(place), f"a folder without {', '.join(SUFFIXES)}"))
        elif not place.exists():
            bad.append(_bad(str(place), "no such file or folder"))
            continue
        paths += files
    paths = list(dict.fromkeys(paths))
    bad += [_bad(ascii(str(path)), "a name that cannot be printed") for path in paths if not is_printable(str(path))]
    stimuli = Stimuli(tuple(str(path) for path in paths), tuple(paths))
    checked, unread = inspect_images(stimuli)
    if bad or unread:
        raise combined_error([*bad, *unread])
    if not paths:
        raise _bad("images", "none")
    return Pictures(stimuli, tuple(checked.sha256), tuple(checked.notes))


def files_of(place: Path) -> list[Path]:
    """Return the images in a folder, or the file itself."""
    return visible_images(place) if place.is_dir() else [place]


def _bad(place: str, got: str) -> DataError:
    return DataError(
        place,
        expected="complete image files, or folders of them",
        got=got,
        fix="Correct the paths, replace the files, or leave them out.",
    )
