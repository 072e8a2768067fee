"""What installed packages bring to bddn: named objects, registered as entry points of a group."""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from bddn.errors import BddnError


@cache  # each call reads the metadata of all packages
def installed(group: str, error: type[BddnError]) -> dict[str, EntryPoint]:
    """Entry points of a group by name, sorted; none is imported.

    Raises
    ------
    BddnError
        Of the class `error`, where two packages register one name.
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
    return found


def load(point: EntryPoint, error: type[BddnError]) -> Any:
    """Import what an entry point names.

    Raises
    ------
    BddnError
        Of the class `error`, where it cannot be imported.
    """
    try:
        return point.load()
    except Exception as cause:  # whatever a foreign package raises when it is imported
        raise error(
            f"'{point.name}' of {point.group}",
            expected=f"an object at {point.value}",
            got=f"{type(cause).__name__}: {cause}",
            fix="Repair or update the package that brings it.",
        ) from cause
