"""HTML made from data: whatever comes from a run is text, and only what this module builds is markup."""

from collections.abc import Iterable, Mapping
from html import escape


class Html(str):
    """Text that is markup already; all other text is escaped before it goes into a page."""

    __slots__ = ()


_EMPTY = {"line", "circle", "rect"}  # of a drawing, without an end


def element(name: str, attributes: Mapping[str, object] | None = None, *children: str) -> Html:
    """An element of a page.

    Parameters
    ----------
    name : str
        Such as 'td'.
    attributes : mapping, optional
        Values are escaped; True gives the attribute without a value, and False or None leaves it out.
    children : str
        Their text, escaped where it is not `Html`.
    """
    words = [name]
    for key, value in (attributes or {}).items():
        if value is True:
            words.append(key)
        elif value is not None and value is not False:
            words.append(f'{key}="{escape(str(value), quote=True)}"')
    start = " ".join(words)
    return Html(f"<{start}/>" if name in _EMPTY else f"<{start}>{joined(children)}</{name}>")


def joined(children: Iterable[str]) -> Html:
    """Several pieces one after the other, escaped where they are not `Html`."""
    return Html("".join(child if isinstance(child, Html) else escape(child, quote=False) for child in children))
