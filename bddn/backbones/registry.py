"""From the name of a spec to the spec, and from the spec to the backbone."""

import difflib
from collections.abc import Mapping
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from bddn.backbones.backbone import Backbone
from bddn.backbones.kind import kind_of
from bddn.errors import SpecError
from bddn.files.paths import expand_home
from bddn.machine.settings import own_settings
from bddn.spec import CacheSpec

ENTRY_POINTS = "bddn.specs"  # each names a package in which spec files lie


def spec_folder() -> Path:
    """Where the specs that come with bddn lie: in the installed package, or beside it in a checkout."""
    inside = Path(__file__).parent.parent / "cache_specs"
    return inside if inside.is_dir() else inside.parent.parent / "cache_specs"


def spec_files() -> Mapping[str, Traversable]:
    """Specs by name, the stem of the file: those that come with bddn, and those that other packages register.

    A package registers its specs by an entry point of the group `bddn.specs`, whose value is the import path of a
    package with .yaml files.

    Raises
    ------
    SpecError
        Where two of them have the same name.
    """
    folders: list[Traversable] = [spec_folder()]
    folders += [files(point.value) for point in entry_points(group=ENTRY_POINTS)]
    found: dict[str, Traversable] = {}
    for folder in folders:
        for path in folder.iterdir():
            name, _, end = path.name.rpartition(".")
            if end != "yaml" or name.startswith("."):  # a hidden file, as macOS leaves them, is no spec
                continue
            if name in found:
                raise SpecError(
                    f"spec '{name}'",
                    expected="one of this name",
                    got=f"two: {found[name]} and {path}",
                    fix="Rename one, or remove the package that it comes with.",
                )
            found[name] = path
    return dict(sorted(found.items()))


def spec_names() -> list[str]:
    """Names of all specs that can be called by name."""
    return list(spec_files())


def load_specs() -> dict[str, CacheSpec]:
    """All specs that can be called by name."""
    return {name: _read(path) for name, path in spec_files().items()}


def load_spec(name: str) -> CacheSpec:
    """Read a spec by its name, or from a YAML file of the user's own.

    Raises
    ------
    SpecError
        Where there is no such spec, or it is not valid.
    """
    own = name.endswith((".yaml", ".yml"))
    path = Path(expand_home(name)) if own else None
    named = spec_files() if path is None else {name: path} if path.is_file() else {}
    if name not in named:
        near = difflib.get_close_matches(name, spec_names(), n=3)
        raise SpecError(
            f"spec '{name}'",
            expected="a name that 'bddn backbones' lists, or the path of a .yaml file",
            got="no such spec" if not own else "no such file",
            fix=f"Did you mean {' or '.join(near)}?" if near else "See 'bddn backbones'.",
        )
    return _read(named[name])


def _read(path: Traversable) -> CacheSpec:
    return CacheSpec.from_yaml(path.read_bytes(), str(path))


@own_settings()
def open_backbone(spec: CacheSpec, device: str = "cpu") -> Backbone:
    """Load the backbone that a spec names onto a device.

    Raises
    ------
    BddnError
        Where the spec names none, or its weights are not there or do not fit.
    """
    return kind_of(spec).open(spec, device)
