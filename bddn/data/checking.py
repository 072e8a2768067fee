"""Look at every image before the long work: all that are bad are listed at once, and what is to be told is counted."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from bddn.data.dataset import Stimuli
from bddn.data.decoding import Remark
from bddn.errors import DataError
from bddn.machine.parallel import ahead, n_threads
from bddn.progress import progress

SHOWN = 8  # bad files in a message
FIXES = 5
TOGETHER = 64  # images that are looked at in one go by a thread, so that a million of them do not take as many futures


@dataclass(frozen=True)
class Checked:
    """Whole images: the SHA-256 of their files, in order, and in words what is to be told of some of them."""

    sha256: list[str]
    notes: list[str]


def check_images(stimuli: Stimuli, decode: bool = True) -> Checked:
    """Hash every image and, where it will be needed, decode it.

    Raises
    ------
    DataError
        Naming the files that are missing, damaged or no images.
    """
    found, bad = inspect_images(stimuli, decode)
    if bad:
        raise all_bad(bad, "images")
    return found


def inspect_images(stimuli: Stimuli, decode: bool = True) -> tuple[Checked, list[DataError]]:
    """As `check_images`; errors are returned, in the order of the images."""

    def look(i: int) -> tuple[str, frozenset[Remark]] | DataError:
        try:
            return stimuli.inspect(i) if decode else (stimuli.sha256(i), frozenset())
        except DataError as error:
            return error

    hashes, bad = list[str](), list[DataError]()
    first: dict[Remark, Path] = {}
    counts = dict.fromkeys(Remark, 0)
    starts = range(0, len(stimuli), TOGETHER)
    with ThreadPoolExecutor(n_threads()) as pool, progress("check", len(stimuli), "images") as advance:
        looked = ahead(
            lambda a: [look(i) for i in range(len(stimuli))[a : a + TOGETHER]], starts, 4 * n_threads(), pool
        )
        for path, seen in zip(stimuli.paths, chain.from_iterable(looked), strict=True):
            if isinstance(seen, DataError):
                bad.append(seen)
            else:
                hashes.append(seen[0])
                for remark in seen[1]:
                    counts[remark] += 1
                    first.setdefault(remark, path)
            advance()
    notes = [f"{remark} {_counted(counts[remark])}, the first {first[remark]}" for remark in Remark if counts[remark]]
    return Checked(hashes, notes), bad


def all_bad(bad: Sequence[DataError], what: str) -> DataError:
    """One error for all: the first files with what each is, how many more there are, and what to do."""
    if len(bad) == 1:
        return bad[0]
    shown = "; ".join(f"{error.place} ({error.got})" for error in bad[:SHOWN])
    more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    fixes = list(dict.fromkeys(error.fix for error in bad))
    return DataError(
        f"{len(bad)} {what}",
        expected="whole images",
        got=shown + more,
        fix=" ".join(fixes[:FIXES]),
    )


def _counted(n: int) -> str:
    return "1 image" if n == 1 else f"{n} images"
