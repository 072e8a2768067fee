"""Find a spec by its name, and open the backbone of a spec."""

import difflib
import os
from collections.abc import Mapping
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING

from bddn.backbones.kind import kind_of
from bddn.backbones.tuned import read_tuned, tuned_folder
from bddn.backbones.weights.lock import WeightsLock, pin, read_lock
from bddn.errors import SpecError
from bddn.files.paths import expand_home
from bddn.spec import CacheSpec

if TYPE_CHECKING:
    from bddn.backbones.backbone import Backbone

ENTRY_POINTS = "bddn.specs"  # each is the import path of a package with spec files


def spec_folder() -> Path:
    """Return the folder of the specs of bddn: in the installed package, or beside it in a checkout."""
    inside = Path(__file__).parent.parent / "cache_specs"
    return inside if inside.is_dir() else inside.parent.parent / "cache_specs"


def spec_files() -> Mapping[str, Traversable]:
    """Return the specs of bddn and of other packages by name, which is the stem of the file.

    A package registers its specs by an entry point of the group `bddn.specs`, whose value is the import path of a
    package with .yaml files.

    Raises
    ------
    SpecError
        If two specs have the same name.
    """
    folders: list[Traversable] = [spec_folder()]
    folders += [files(point.value) for point in entry_points(group=ENTRY_POINTS)]
    found: dict[str, Traversable] = {}
    for folder in folders:
        for path in folder.iterdir():
            name, _, end = path.name.rpartition(".")
            if end != "yaml" or name.startswith("."):  # macOS leaves hidden files that are not specs
                continue
            if name in found:
                raise SpecError(
                    f"spec '{name}'",
                    expected="one spec of this name",
                    got=f"two: {found[name]} and {path}",
                    fix="Rename one of them, or remove its package.",
                )
            found[name] = path
    return dict(sorted(found.items()))


def spec_names() -> list[str]:
    """Return the names of all specs of `spec_files`."""
    return list(spec_files())


def load_specs() -> dict[str, CacheSpec]:
    """Return all specs of `spec_files` by name; see `load_spec`."""
    lock = read_lock()
    return {name: _read(path, lock) for name, path in spec_files().items()}


def load_spec(name: str) -> CacheSpec:
    """Read a spec by its name, from a YAML file, or from a folder of 'bddn finetune'.

    If the working directory has a file `weights.lock`, the commit of the weights is that of the file.

    Raises
    ------
    SpecError
        If the spec does not exist or is not valid.
    """
    path = Path(expand_home(name))
    is_file = path.exists() and not path.is_dir()  # a pipe, too, as of <(command)
    own = name.endswith((".yaml", ".yml")) or (os.sep in name and is_file)
    named = spec_files() if not own else {name: path} if is_file else {}
    if (tuned := tuned_folder(path)) is not None and (own or name not in named):
        return read_tuned(tuned)
    if name not in named:
        near = difflib.get_close_matches(name, spec_names(), n=3)
        raise SpecError(
            f"spec '{name}'",
            expected="a name that 'bddn backbones' lists, the path of a .yaml file, or a folder of 'bddn finetune'",
            got="a folder without finetune.json" if path.is_dir() else "no such file" if own else "no such spec",
            fix=f"Did you mean {' or '.join(near)}?" if near else "See 'bddn backbones'.",
        )
    return _read(named[name], read_lock())


def _read(path: Traversable, lock: WeightsLock) -> CacheSpec:
    return pin(CacheSpec.from_yaml(path.read_bytes(), str(path)), lock)


def open_backbone(spec: CacheSpec, device: str = "cpu") -> "Backbone":
    """Load the backbone of a spec onto a device.

    Raises
    ------
    BddnError
        If the spec has no backbone, or its weights are missing or do not fit.
    """
    from bddn.machine.settings import own_settings  # which loads torch; lists of specs need none

    with own_settings():
        return kind_of(spec).open(spec, device)
