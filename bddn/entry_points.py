"""Plug-ins: objects that installed packages register as entry points of a group."""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from bddn.errors import BddnError


@cache  # each call reads the metadata of all packages
def installed(group: str, error: type[BddnError]) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, sorted, without importing them.

    Raises
    ------
    BddnError
        Of the class `error`, if two packages register one name, or there is no entry point.
    """
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        if point.name in found and found[point.name].value != point.value:
            raise error(
                f"'{point.name}' of {group}",
                expected="one package that registers it",
                got=f"two: {found[point.name].value} and {point.value}",
                fix="Remove one of the two packages.",
            )
        found[point.name] = point
    if not found:  # bddn registers some in each group
        raise error(
            f"entry points of the group {group}",
            expected="those that bddn registers",
            got="none: bddn is not installed correctly, or its installation is older than its code",
            fix="Install it again: 'pip install bddn', or 'pip install -e .' in a checkout.",
        )
    return found


def load(point: EntryPoint, error: type[BddnError]) -> Any:
    """Import the object of an entry point.

    Raises
    ------
    BddnError
        Of the class `error`, if it cannot be imported.
    """
    try:
        return point.load()
    except Exception as cause:  # the import of another package may raise anything
        raise error(
            f"'{point.name}' of {point.group}",
            expected=f"an object at {point.value}",
            got=f"{type(cause).__name__}: {cause}",
            fix="Repair or update the package that registers it.",
        ) from cause
