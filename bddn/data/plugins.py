"""Open a dataset by name. All kinds of datasets are plug-ins, including those of bddn itself.

A package adds a kind by an entry point of the group `bddn.datasets`. The name of the entry point is the word before the
colon; its value is the import path of a class that implements `DatasetKind`:

    [project.entry-points."bddn.datasets"]
    mylab = "mylab.bddn:MyLab"

Then `--data mylab:PATH` works in every command.
"""

import difflib
import inspect
import re
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

from bddn.data.dataset import Dataset, DatasetKind
from bddn.entry_points import installed, load
from bddn.errors import DataError
from bddn.files.paths import expand_home

ENTRY_POINTS = "bddn.datasets"
OPTION = re.compile(r", *([a-z_]+)=([^,]*)$")


def dataset_kinds() -> dict[str, EntryPoint]:
    """Return the entry points of all installed kinds, by name, without importing them; see `installed`."""
    return installed(ENTRY_POINTS, DataError)


def load_kind(name: str, wanted: str = "") -> type[DatasetKind]:
    """Import and return the class of a kind; `wanted` is the full dataset name for messages.

    Raises
    ------
    DataError
        If no installed package registers it, or it cannot be imported.
    """
    kinds = dataset_kinds()
    if name not in kinds:
        near = difflib.get_close_matches(name, kinds, n=1)
        raise DataError(
            f"dataset '{wanted or name}'",
            expected=f"KIND:PATH with KIND one of {', '.join(kinds)}",
            got=f"KIND '{name}'",
            fix=f"Did you mean {near[0]}?" if near else "See 'bddn datasets', or install the package that adds it.",
        )
    found: type[DatasetKind] = load(kinds[name], DataError)
    return found


def open_dataset(name: str) -> Dataset:
    """Open a dataset by its name, `KIND:PATH` or `KIND:PATH,option=value`.

    Parameters
    ----------
    name : str
        For example `algonauts:PATH/subj01`, a subject folder of the Algonauts 2023 Challenge, or `planted:PATH`, a
        folder that `bddn plant` wrote. `bddn datasets` lists the installed kinds with their options.

    Raises
    ------
    DataError
        If the kind or an option is unknown, or the folder is not such a dataset.
    """
    kind, colon, path = name.partition(":")
    if not colon or not path:
        raise DataError(
            f"dataset '{name}'",
            expected=f"KIND:PATH with KIND one of {', '.join(dataset_kinds())}",
            got=f"'{name}'",
            fix="For example --data algonauts:algonauts_2023/subj01.",
        )
    found = load_kind(kind, name)
    path, options = split_options(name, found, found.about.usage)
    return found(Path(expand_home(path)), **options)


def split_options(name: str, opens: Callable[..., object], usage: str) -> tuple[str, dict[str, str]]:
    """Split a name, `KIND:PATH,option=value`, and return the path and the options.

    Parameters
    ----------
    name : str
    opens : callable
        Its parameters after the first are the options. If it has none, all after the colon is the path.
    usage : str
        The form of such a name, for messages.

    Raises
    ------
    DataError
        If an option is unknown, given twice, or not written as one.
    """
    path = name.partition(":")[2]
    known = list(inspect.signature(opens).parameters)[1:]
    options: dict[str, str] = {}
    while known and (match := OPTION.search(path)):
        if match[1] not in known or match[1] in options:
            raise DataError(
                f"dataset '{name}'",
                expected=f"each of the options {', '.join(known)} at most once",
                got=f"{match[1]}={match[2]}",
                fix=f"Write {usage}.",
            )
        options[match[1]], path = match[2], path[: match.start()]
    if known and (rest := re.search(rf", *(?:{'|'.join(known)}) *=.*", path, re.IGNORECASE)):
        raise DataError(
            f"dataset '{name}'",
            expected="options at its end, each as ',option=value' in small letters",
            got=f"'{rest[0]}'",
            fix=f"Write {usage}.",
        )
    return path, options
