"""Which layers a spec asks for."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from bddn.errors import SpecError


def select(wanted: Sequence[str | int] | None, names: Sequence[str], place: str) -> tuple[str, ...]:
    """The layers that are asked for, early to late, each once.

    Parameters
    ----------
    wanted : sequence of str or int, optional
        Names, globs (`block_1*`), numbers from the first or the last (0, -1), or relative depth, from the first layer
        (0%) to the last (100%); None means all.
    names : sequence of str
        All layers, early to late.
    place : str
        The network, for messages.

    Raises
    ------
    SpecError
        Where one of them is no layer of the network.
    """
    if wanted is None:
        return tuple(names)
    found = [_matching(one, names) for one in wanted]
    nowhere = [str(one) for one, some in zip(wanted, found, strict=True) if not some]
    if nowhere:
        raise SpecError(
            f"'layers' of {place}",
            expected=f"some of its {len(names)} layers, {names[0]} … {names[-1]}: names, globs, numbers or per cents",
            got=", ".join(f"'{one}'" for one in nowhere),
            fix="Correct 'layers' in the spec.",
        )
    chosen = set().union(*found)
    return tuple(name for name in names if name in chosen)


def _matching(one: str | int, names: Sequence[str]) -> set[str]:
    n = len(names)
    if isinstance(one, int):
        return {names[one]} if -n <= one < n else set()
    if re.fullmatch(r"\d+(\.\d+)?%", one):
        share = float(one[:-1]) / 100
        return {names[round(share * (n - 1))]} if share <= 1 else set()
    return {name for name in names if fnmatchcase(name, one)}
