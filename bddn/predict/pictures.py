"""A user's own pictures: where they are, and that all of them are whole."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bddn.data import Stimuli
from bddn.errors import DataError
from bddn.parallel import n_threads

SUFFIXES = (".png", ".jpg", ".jpeg")
ORIENTATION, UPRIGHT = 0x0112, 1  # of EXIF
THUMBNAIL = 256


@dataclass(frozen=True)
class Pictures:
    """Whole pictures: `stimuli`, named by their paths, the `sha256` of their files, and those that are `turned`: whose
    EXIF asks for a rotation, which is not applied, as in an extraction."""

    stimuli: Stimuli
    sha256: tuple[str, ...]
    turned: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.sha256)

    def part(self, start: int, stop: int) -> "Pictures":
        """Some of them."""
        some = slice(start, stop)
        return Pictures(Stimuli(self.stimuli.ids[some], self.stimuli.paths[some]), self.sha256[some], self.turned)

    def thumbnails(self) -> list[npt.NDArray[np.uint8]]:
        """All of them for a figure, n × (256, 256, 3), squashed to a square."""
        return [np.asarray(self.stimuli.read(i)[0].resize((THUMBNAIL, THUMBNAIL))) for i in range(len(self))]


def read_pictures(places: Sequence[Path]) -> Pictures:
    """Find pictures, and decode every one to see that it is whole.

    Parameters
    ----------
    places : sequence of Path
        Files in any format that Pillow reads, and folders, of which all PNG and JPEG files are taken by name, those of
        its folders not. A file that is named twice is taken once.

    Raises
    ------
    DataError
        Listing all files that are missing, damaged or no pictures, and all folders without any.
    """
    paths, bad = list[Path](), list[str]()
    for place in places:
        found = _in_folder(place) if place.is_dir() else [place]
        if not found:
            bad.append(f"{place} (a folder without {', '.join(SUFFIXES)})")
        paths += found
    paths = list(dict.fromkeys(paths))
    stimuli = Stimuli(tuple(str(path) for path in paths), tuple(paths))

    def read(i: int) -> tuple[str, bool]:
        try:
            if not stimuli.ids[i].isprintable():  # tables and GIFTI could not hold it
                raise DataError(ascii(stimuli.ids[i]), expected="", got="a name that cannot be printed", fix="")
            image, sha256 = stimuli.read(i)
        except DataError as error:
            bad.append(f"{error.place} ({error.got})")
            return "", False
        return sha256, image.getexif().get(ORIENTATION, UPRIGHT) != UPRIGHT

    with ThreadPoolExecutor(n_threads()) as pool:
        seen = list(pool.map(read, range(len(paths))))
    if bad or not paths:
        raise DataError(
            "pictures",
            expected="files of whole pictures, or folders of them",
            got="; ".join(sorted(bad)) or "none",
            fix="Correct or leave out what is listed.",
        )
    turned = tuple(path for path, (_, is_turned) in zip(paths, seen, strict=True) if is_turned)
    return Pictures(stimuli, tuple(sha256 for sha256, _ in seen), turned)


def _in_folder(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
