"""Check that the code that this process imported is still that of its files.

A long process, such as a dask worker or a notebook, keeps a module as it was imported. If the file is edited, Python
shows the new source but runs the old code.
"""

import sys
import sysconfig
from pathlib import Path
from types import ModuleType

from bddn.errors import BackboneError
from bddn.files.checksum import file_sha256

_LIBRARIES = tuple({Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")})

_seen: dict[str, tuple[object, str]] = {}
"""By module name: the import spec, and the SHA-256 of the file when the module was first checked."""


def check_as_imported(package: str) -> None:
    """Raise an error if the file of a module, or of another loaded module of the user, has changed since its import.

    Parameters
    ----------
    package : str
        Import path of the module. Other installed libraries are not checked.

    Raises
    ------
    BackboneError
    """
    for name, module in list(sys.modules.items()):
        path = _own_file(module, package.partition(".")[0])
        if path is None:
            continue
        now = file_sha256(path)
        by, before = _seen.get(name, (None, ""))
        if by is not module.__spec__:  # imported or reloaded since the last check
            _seen[name] = module.__spec__, now
        elif now != before:
            raise BackboneError(
                f"module '{name}'",
                expected="the code that this process has imported",
                got=f"{path}, which was edited after the import",
                fix="Restart this process: all dask workers, or the notebook's kernel.",
            )


def _own_file(module: ModuleType, top: str) -> Path | None:
    """Return the source file of a module of the user, or of the package `top`; else None."""
    name, file = getattr(module, "__name__", ""), getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py") or getattr(module, "__spec__", None) is None:
        return None
    path = Path(file)
    is_library = any(path.is_relative_to(folder) for folder in _LIBRARIES) and name.partition(".")[0] != top
    return None if is_library or not path.is_file() else path
