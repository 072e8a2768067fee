"""Check every image before the long work, list all bad images in one error, and count the notes on decoding."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

from bddn.data.dataset import Inspected, Stimuli
from bddn.data.decoding import Remark
from bddn.errors import DataError
from bddn.machine.parallel import ahead, n_threads
from bddn.progress import progress
from bddn.text import count

SHOWN = 8  # bad files in a message
FIXES = 5
ROW = ", row "  # in the place of an image in an array or a table
BLOCK_IMAGES = 64  # images that a thread checks in one task, so that a million images do not need a million futures


@dataclass(frozen=True)
class CheckedImages:
    """Checked images: the SHA-256 of their files, in order. If they were decoded, also notes on how some of them are
    decoded, and the number of images of each size (width, height)."""

    sha256: list[str]
    notes: list[str]
    sizes: dict[tuple[int, int], int]


def check_images(stimuli: Stimuli, decode: bool = True) -> CheckedImages:
    """Hash every image and, if `decode` is set, decode it.

    Raises
    ------
    DataError
        If files are missing, damaged or not images. The message names them.
    """
    before: CheckedImages | None = getattr(stimuli, "checked", None)  # of `united.UnitedStimuli`
    if before is not None:
        return before
    found, bad = inspect_images(stimuli, decode)
    if bad:
        raise combined_error(bad)
    return found


def inspect_images(stimuli: Stimuli, decode: bool = True) -> tuple[CheckedImages, list[DataError]]:
    """Do the same as `check_images`, but return the errors, in the order of the images."""

    def inspect(i: int) -> Inspected | str | DataError:
        try:
            return stimuli.inspect(i) if decode else stimuli.sha256(i)
        except DataError as error:
            return error

    hashes, bad = list[str](), list[DataError]()
    first: dict[Remark, int] = {}
    counts, sizes = dict.fromkeys(Remark, 0), Counter[tuple[int, int]]()
    starts = range(0, len(stimuli), BLOCK_IMAGES)
    with ThreadPoolExecutor(n_threads()) as pool, progress("check", len(stimuli), "images") as advance:
        inspected = ahead(
            lambda a: [inspect(i) for i in range(len(stimuli))[a : a + BLOCK_IMAGES]], starts, 4 * n_threads(), pool
        )
        for i, result in enumerate(chain.from_iterable(inspected)):
            if isinstance(result, DataError):
                bad.append(result)
            elif isinstance(result, str):
                hashes.append(result)
            else:
                hashes.append(result.sha256)
                sizes[result.size] += 1
                for remark in result.remarks:
                    counts[remark] += 1
                    first.setdefault(remark, i)
            advance()
    notes = [
        f"{remark} {count(counts[remark], 'image')}, the first {stimuli.place(first[remark])}"
        for remark in Remark
        if counts[remark]
    ]
    return CheckedImages(hashes, notes, dict(sizes)), bad


def combined_error(bad: Sequence[DataError]) -> DataError:
    """Combine several errors into one that names the first files with their causes, and the next steps."""
    if len(bad) == 1:
        return bad[0]
    places_of: dict[tuple[str, str], list[str]] = {}  # rows of a file that cannot be read have one cause
    for error in bad:
        places_of.setdefault((f"{error.place}".partition(ROW)[0], error.got), []).append(f"{error.place}")
    some = list(places_of.items())[:SHOWN]
    shown = "; ".join(
        f"{places[0]}{f' and {len(places) - 1} more' if len(places) > 1 else ''} ({got})" for (_, got), places in some
    )
    n_more = len(bad) - sum(len(places) for _, places in some)
    more = f"; and {n_more} more" if n_more else ""
    fixes = list(dict.fromkeys(error.fix for error in bad))
    return DataError(
        f"{len(bad)} images",
        expected="readable images",
        got=shown + more,
        fix=" ".join(fixes[:FIXES]),
    )
