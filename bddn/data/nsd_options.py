"""The options of a dataset name `nsd:ROOT,subject=1,…`."""

import re
from collections.abc import Iterable

from bddn.data.nsd_files import N_SESSIONS
from bddn.errors import DataError

RANGES = re.compile(r"[0-9]{1,2}(-[0-9]{1,2})?(\+[0-9]{1,2}(-[0-9]{1,2})?)*")


def choice(option: str, value: str, allowed: Iterable[str]) -> str:
    """Return a value if it is one of the allowed ones.

    Raises
    ------
    DataError
        If it is not.
    """
    names = tuple(allowed)
    if value not in names:
        raise DataError(
            f"nsd option '{option}'",
            expected=f"one of {', '.join(names)}",
            got=f"'{value}'",
            fix=f"Correct {option}=….",
        )
    return value


def subject_number(value: str) -> int:
    """Return the number of a subject, 1 to 8; also from texts such as 'subj01'.

    Raises
    ------
    DataError
        If it is none.
    """
    found = re.fullmatch(r"(?:subj)?0?([1-8])", value)
    if not found:
        raise DataError(
            "nsd option 'subject'",
            expected=f"a number from 1 to {len(N_SESSIONS)}",
            got=f"'{value}'",
            fix="Write nsd:ROOT,subject=1.",
        )
    return int(found[1])


def session_numbers(value: str, subject: int) -> tuple[int, ...] | None:
    """Return the sessions that a text names, ascending, or None for 'all'.

    Parameters
    ----------
    value : str
        Numbers and ranges, joined by +, e.g. '1-37' or '1-10+12'.
    subject : int

    Raises
    ------
    DataError
        If it is another text, or names a session that the subject does not have.
    """
    if value == "all":
        return None
    found, most = list[int](), N_SESSIONS[subject - 1]
    if RANGES.fullmatch(value):
        for part in value.split("+"):
            low, _, high = part.partition("-")
            found += range(int(low), int(high or low) + 1) or [0]
    if not found or min(found) < 1 or max(found) > most or len(set(found)) < len(found):
        raise DataError(
            "nsd option 'sessions'",
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
