"""Run folders that `bddn export` wrote, which somebody else may have made."""

from collections.abc import Sequence
from pathlib import Path

from bddn.errors import RunError

EXPORT = "export.json"  # in a folder of 'bddn export': its files


def is_export(folder: Path) -> bool:
    """Return whether `bddn export` wrote a folder."""
    return (folder / EXPORT).is_file()


def refuse_outside(folder: Path, fits: Sequence[str]) -> None:
    """Refuse an exported ensemble whose fits are not inside its folder. Other ensembles have their fits beside them.

    Raises
    ------
    RunError
    """
    outside = [fit for fit in fits if Path(fit).is_absolute() or ".." in Path(fit).parts]
    if outside and is_export(folder):
        raise RunError(
            folder,
            expected="fits inside this folder",
            got=repr(outside[0]),
            fix="Do not use this folder: 'bddn export' did not write it.",
        )
