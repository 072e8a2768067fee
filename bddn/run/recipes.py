"""The settings of a fit, as users name them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bddn.errors import SpecError
from bddn.files.paths import expand_home
from bddn.spec import RECIPES, FitSpec


def fit_spec(spec: FitSpec | str | Path, settings: Mapping[str, Any], place: str) -> FitSpec:
    """Return the settings of a fit.

    Parameters
    ----------
    spec : FitSpec, str or Path
        Settings, the name of a recipe ('paper' or 'fast'), or a YAML file of settings.
    settings : mapping
        Fields of `FitSpec` that replace those of `spec`.
    place : str
        Names `settings` in an error.

    Raises
    ------
    SpecError
        If there is no such recipe or file, or a setting is unknown or wrong.
    """
    found = spec if isinstance(spec, FitSpec) else _read(str(spec))
    return FitSpec.parse(found.to_dict() | dict(settings), place)


def _read(name: str) -> FitSpec:
    if name in RECIPES:
        return FitSpec.recipe(name)
    path = Path(expand_home(name))
    if not path.exists() or path.is_dir():  # a pipe will do, as of --spec <(command)
        raise SpecError(
            f"fit spec '{name}'",
            expected=f"a recipe ({', '.join(RECIPES)}), or a YAML file of fit settings",
            got="no such recipe or file",
            fix="Correct the name.",
        )
    return FitSpec.from_yaml(path.read_bytes(), name)
