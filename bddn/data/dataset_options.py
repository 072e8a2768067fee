"""The options of a dataset's name, such as `nsd:ROOT,subject=1,sessions=1-37`."""

import inspect
import re
from collections.abc import Callable, Iterable, Sequence

from bddn.errors import DataError

RANGES = re.compile(r"[0-9]{1,2}(-[0-9]{1,2})?(\+[0-9]{1,2}(-[0-9]{1,2})?)*")
SUBJECT = re.compile(r"(?:sub-?|subj)?0?([0-9]{1,2})")


def choice(kind: str, option: str, value: str, allowed: Iterable[str]) -> str:
    """Return a value if it is one of the allowed ones, or raise a DataError; `kind` is that of the dataset."""
    names = tuple(allowed)
    if value not in names:
        raise DataError(
            f"{kind} option '{option}'",
            expected=f"one of {', '.join(names)}",
            got=f"'{value}'",
            fix=f"Correct {option}=….",
        )
    return value


def subject_number(kind: str, value: str, known: Sequence[int], words: str) -> int:
    """Return the number of a subject; also from texts such as '01', 'subj01' and 'sub-01'.

    Parameters
    ----------
    kind, value : str
    known : sequence of int
        Those that there are.
    words : str
        These in words.

    Raises
    ------
    DataError
        If it is none of them.
    """
    found = SUBJECT.fullmatch(value)
    if not found or int(found[1]) not in known:
        raise DataError(
            f"{kind} option 'subject'",
            expected=words,
            got=f"'{value}'",
            fix=f"Write {kind}:ROOT,subject={known[0]}.",
        )
    return int(found[1])


def session_numbers(kind: str, value: str, most: int, subject: int) -> tuple[int, ...] | None:
    """Return the sessions that a text names, ascending, or None for 'all'.

    Parameters
    ----------
    kind : str
    value : str
        Numbers and ranges, joined by +, e.g. '1-37' or '1-10+12'.
    most : int
        The number of sessions of the subject.
    subject : int

    Raises
    ------
    DataError
        If it is another text, or names a session that the subject does not have.
    """
    if value == "all":
        return None
    found = list[int]()
    if RANGES.fullmatch(value):
        for part in value.split("+"):
            low, _, high = part.partition("-")
            found += range(int(low), int(high or low) + 1) or [0]
    if not found or min(found) < 1 or max(found) > most or len(set(found)) < len(found):
        raise DataError(
            f"{kind} option 'sessions'",
            expected=f"'all', or some of sessions 1 to {most} of subject {subject}, each once, e.g. 1-20 or 1-10+12",
            got=f"'{value}'",
            fix="Correct sessions=….",
        )
    return tuple(sorted(found))


def sessions_in_words(sessions: Iterable[int]) -> str:
    """Return ascending numbers as ranges, e.g. '1-10, 12'."""
    ranges: list[list[int]] = []
    for session in sessions:
        if ranges and session == ranges[-1][1] + 1:
            ranges[-1][1] = session
        else:
            ranges.append([session, session])
    return ", ".join(f"{low}-{high}" if high > low else f"{low}" for low, high in ranges)


def given_options(made_by: Callable[..., object], **given: str) -> str:
    """Return the options of a name that are not the defaults of what is made by them, e.g. ',betas=b2'."""
    defaults = inspect.signature(made_by).parameters
    return "".join(f",{key}={value}" for key, value in given.items() if value != defaults[key].default)
