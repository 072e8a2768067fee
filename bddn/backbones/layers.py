"""The selection of layers in a spec."""

import re
from collections.abc import Sequence

from bddn.errors import SpecError

WILD = re.compile(r"(?:(?<=\.)|^)\*\*\.|\*\*|\*|\?|\[!?\]?[^\]]*\]")  # the wildcards of a glob
STANDS_FOR = {"**.": r"(?:.+\.)?", "**": ".*", "*": r"[^.]*", "?": r"[^.]"}


def select(wanted: Sequence[str | int] | None, names: Sequence[str], place: str) -> tuple[str, ...]:
    """Return the selected layers, early to late, each once.

    Parameters
    ----------
    wanted : sequence of str or int, optional
        Names; globs (see `matching`); numbers from the first or the last (0, -1); or relative depth, from the first
        layer (0%) to the last (100%). None means all.
    names : sequence of str
        All layers, early to late.
    place : str
        Name of the network for error messages.

    Raises
    ------
    SpecError
        If one of them is not a layer of the network.
    """
    if wanted is None:
        return tuple(names)
    found = [_asked_for(one, names) for one in wanted]
    nowhere = [str(one) for one, layers in zip(wanted, found, strict=True) if not layers]
    if nowhere:
        wider = [re.sub(r"\*+", "**", one) for one in nowhere if "*" in one] + [f"**.{one}" for one in nowhere]
        would = next((f"{glob} would match {there[0]}" for glob in wider if (there := matching(glob, names))), "")
        raise SpecError(
            f"'layers' of {place}",
            expected=f"some of its {len(names)} layers, {names[0]} … {names[-1]}: names, globs, numbers or percentages",
            got=", ".join(f"'{one}'" for one in nowhere),
            fix=f"'*' matches one level of a name, '**' any number of levels: {would}."
            if would
            else "Correct 'layers' in the spec.",
        )
    chosen = {name for layers in found for name in layers}
    return tuple(name for name in names if name in chosen)


def matching(glob: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names that a glob matches, in their order.

    `*` matches any text and `?` one character within one level of a name; dots separate levels.
    `**` stands for any text, dots included, and `**.` also for no level at all: `**.norm` matches `norm` and
    `blocks.0.norm`. `[01]`, `[0-3]` and `[!0]` stand for one character.
    """
    pattern, end = "", 0
    for wild in WILD.finditer(glob):
        pattern += re.escape(glob[end : wild.start()])
        pattern += STANDS_FOR.get(wild.group()) or _one_of(wild.group()[1:-1])
        end = wild.end()
    try:
        compiled = re.compile(pattern + re.escape(glob[end:]))
    except re.error:  # a range that runs backwards, [3-0], matches nothing
        return ()
    return tuple(name for name in names if compiled.fullmatch(name))


def matched(wanted: Sequence[str | int] | None, layers: Sequence[str]) -> list[str]:
    """Return a text for each glob of a spec that says what it matched: `blocks.* → 12: blocks.0 … blocks.11`.

    Parameters
    ----------
    wanted : sequence of str or int, optional
        As in the spec.
    layers : sequence of str
        The selected layers.
    """
    globs = [one for one in wanted or () if isinstance(one, str) and WILD.search(one)]
    return [f"{glob} → {len(found)}: {_shortened(found)}" for glob in globs if (found := matching(glob, layers))]


def _asked_for(one: str | int, names: Sequence[str]) -> tuple[str, ...]:
    n = len(names)
    if isinstance(one, int):
        return (names[one],) if -n <= one < n else ()
    if re.fullmatch(r"\d+(\.\d+)?%", one):
        share = float(one[:-1]) / 100
        return (names[round(share * (n - 1))],) if share <= 1 else ()
    return matching(one, names)


def _one_of(characters: str) -> str:
    """Return the character set of a regular expression; neither it nor its complement (`!…`) contains the dot."""
    complement = characters.startswith("!")
    body = re.sub(r"([\\\[\]^&~|])", r"\\\1", characters.removeprefix("!"))
    return rf"(?!\.)[{'^' if complement else ''}{body}]"


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} … {names[-1]}"
