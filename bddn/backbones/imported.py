"""Whether code that this process imported is still what its files say.

A process that lives long, such as a dask worker or a notebook, keeps a module as it was imported. When its file is
edited, the source that Python shows is the new one and the code that runs is the old one.
"""

import sys
import sysconfig
from pathlib import Path
from types import ModuleType

from bddn.errors import BackboneError
from bddn.files.checksum import file_sha256

_LIBRARIES = tuple({Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")})

_seen: dict[str, tuple[object, str]] = {}
"""Of modules by name: by which import they came, and the SHA-256 of their file when they were seen first."""


def check_as_imported(package: str) -> None:
    """Refuse a module, or one of the user's own that are loaded beside it, whose file has changed since its import.

    Parameters
    ----------
    package : str
        Import path of the module. Other libraries are not looked at.

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
        if by is not module.__spec__:  # imported or reloaded since it was seen
            _seen[name] = module.__spec__, now
        elif now != before:
            raise BackboneError(
                f"module '{name}'",
                expected="the code that this process has imported",
                got=f"{path}, which was edited since then",
                fix="Start this process again: all dask workers, or the notebook's kernel.",
            )


def _own_file(module: ModuleType, top: str) -> Path | None:
    """The source of a module that is of the user's own, or belongs to the package `top`."""
    name, file = getattr(module, "__name__", ""), getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py") or getattr(module, "__spec__", None) is None:
        return None
    path = Path(file)
    is_library = any(path.is_relative_to(folder) for folder in _LIBRARIES) and name.partition(".")[0] != top
    return None if is_library or not path.is_file() else path
