"""Names in own data that tell whether two files have one order."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath

from bddn.data.image_files import SUFFIXES
from bddn.errors import DataError

WHOLE = re.compile(r"0*(\d+)(\.0+)?")  # 7, 007 and 7.0
DIGITS = re.compile(r"(\d+)")


def refuse_other_order(
    path: Path | str, what: str, names: Sequence[str], wanted: Sequence[str], whose: str, listed: str = ""
) -> bool:
    """Refuse names that are those of something else in another order.

    The folder, the suffix of an image, case, and zeros before a number make no difference.

    Parameters
    ----------
    path : Path or str
        For messages.
    what : str
        What a name is: 'row', 'column' or 'file'.
    names, wanted : sequence of str
    whose : str
        Whose order is wanted, e.g. 'of the stimuli'.
    listed : str
        The fix, if not that of the names in a file.

    Returns
    -------
    bool
        Whether the names are the same.

    Raises
    ------
    DataError
    """
    mine, theirs = [_plain(name) for name in names], [_plain(name) for name in wanted]
    if not mine or Counter(mine) != Counter(theirs):
        return False
    i = next((i for i, (one, other) in enumerate(zip(mine, theirs, strict=True)) if one != other), None)
    if i is None:
        return True
    raise DataError(
        path,
        expected=f"the order {whose}, because the names are the same",
        got=f"'{names[i]}' as {what} {i + 1}, which is '{wanted[i]}' there",
        fix=listed or "Bring both into one order; or give the file other names, if only its names are wrong.",
    )


def same_order(names: Sequence[str], wanted: Sequence[str]) -> bool:
    """Return whether names are those of something else in its order, as `refuse_other_order` compares them."""
    return [_plain(name) for name in names] == [_plain(name) for name in wanted]


def differing(names: Sequence[str]) -> list[str]:
    """Return what differs between names, e.g. '1' and '10' of 'ses-1.npy' and 'ses-10.npy'; numbers stay whole."""
    start = _n_shared(names)
    rest = [name[start:][::-1] for name in names]
    end = _n_shared(rest)
    return [name[end:][::-1] for name in rest]


def is_counted(names: Sequence[str]) -> bool:
    """Return whether names are numbers from 0 or 1 on, which may only number the files."""
    numbers = [int(name) if name.isdecimal() else -1 for name in names]
    return numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def by_number(name: str) -> list[tuple[int, str]]:
    """Return the key of a natural order, in which 'part.2' is before 'part.10'."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in DIGITS.split(name)]


def as_text_only(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the first neighbours of names that are sorted as texts but not by their numbers; None if there are none,
    or the names are not sorted as texts."""
    if list(names) != sorted(names) or list(names) == sorted(names, key=by_number):
        return None
    return next((one, other) for one, other in pairwise(names) if by_number(one) > by_number(other))


def _n_shared(names: Sequence[str]) -> int:
    """Return how many letters all names begin with, without digits of a number that may go on."""
    least = min(map(len, names), default=0)
    n = next((i for i in range(least) if len({name[i] for name in names}) > 1), least)
    return len(names[0][:n].rstrip("0123456789")) if names else 0


def _plain(name: str) -> str:
    path = PurePosixPath(name.strip().replace("\\", "/"))
    plain = (path.stem if path.suffix.casefold() in SUFFIXES else path.name).casefold()
    number = WHOLE.fullmatch(plain)
    return number[1] if number else plain
