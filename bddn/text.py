"""Numbers of things and lists of names, as text for messages."""

import shlex
from collections.abc import Sequence

SHOWN = 5  # names in a message


def count(n: int, what: str) -> str:
    """Return a number of things as text: '1 image', '2 images'."""
    return f"1 {what}" if n == 1 else f"{n} {what}s"


def word(path: object) -> str:
    """Return a path as a word of a command line, in quotes where it has spaces or other signs of a shell."""
    return shlex.quote(str(path))


def joined(names: Sequence[str]) -> str:
    """Return names as text: 'V1', 'V1 and V2', 'V1, V2 and V3'; '' for none."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def cut(text: str, longest: int) -> str:
    """Return a text of at most so many characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def listed(text: str) -> list[str]:
    """Return what is between the commas of a text, without spaces around it."""
    return [one.strip() for one in text.split(",")]


def both_ends(text: str, longest: int) -> str:
    """Return a text of at most so many characters: of a long one, both ends."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[: half - 1]}…{text[-half:]}"


def shorten(names: Sequence[str], shown: int = SHOWN) -> str:
    """Return the first names as text, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
