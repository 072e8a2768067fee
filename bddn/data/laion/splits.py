"""The known test sets of LAION-fMRI.

The images that are out of distribution tell it by their names. The other sets are JSON files of the official package
(`laion_fmri/splits/data/POOL/NAME.json`): they are read from ROOT/splits/POOL, or from the package if it is installed.
The pool is that of the subject: the images that all saw and its own, without those out of distribution.
"""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from bddn.data.laion.files import subject_name
from bddn.errors import DataError
from bddn.files.filekind import explain

OOD, SHARED = "ood", "shared"
OOD_NAME = "shared_4rep_OOD_"
SHARED_NAME = "shared_"
PACKAGE = "laion_fmri"


def splits_folder(root: Path, subject: int) -> Path | None:
    """Return the folder of the JSON files of a subject's pool, or None if there is none on this machine."""
    places = [root / "splits"]
    package = find_spec(PACKAGE)  # which is not imported
    if package is not None and package.submodule_search_locations:
        places += [Path(place) / "splits" / "data" for place in package.submodule_search_locations]
    return next((path for place in places if (path := place / subject_name(subject)).is_dir()), None)


def named_tests(root: Path, subject: int, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the ids of the test images of each known set, of those among `ids`.

    Raises
    ------
    DataError
        If a JSON file is not one of the package, or an image is for training and for testing in it.
    """
    found = {
        OOD: tuple(name for name in ids if name.startswith(OOD_NAME)),
        SHARED: tuple(name for name in ids if name.startswith(SHARED_NAME)),
    }
    folder = splits_folder(root, subject)
    for path in sorted(folder.glob("[!.]*.json")) if folder else []:
        if path.stem not in found:
            tests = _test_ids(path)
            found[path.stem] = tuple(name for name in ids if name in tests)
    return {name: tests for name, tests in found.items() if tests}


def _test_ids(path: Path) -> set[str]:
    try:
        first = json.loads(path.read_bytes())["variants"][0]
        train, test = ({str(name) for name in first[part]} for part in ("train_ids", "test_ids"))
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        fix = "Restore the file of the official package."
        got, fix = explain(path, f"something else ({type(error).__name__}: {error})", fix)
        raise DataError(
            path, expected="JSON with variants, of which the first has train_ids and test_ids", got=got, fix=fix
        ) from error
    if train & test:
        raise DataError(
            path,
            expected="images that are either for training or for testing",
            got=f"{len(train & test)} in both, the first '{min(train & test)}'",
            fix="Restore the file of the official package.",
        )
    return test
