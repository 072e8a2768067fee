"""From the name of a spec to the spec, and from the spec to the backbone."""

from pathlib import Path

from bddn.backbones.base import Backbone
from bddn.errors import SpecError
from bddn.spec import CacheSpec


def spec_folder() -> Path:
    """Where the specs that come with bddn lie: in the installed package, or beside it in a checkout."""
    inside = Path(__file__).parent.parent / "cache_specs"
    return inside if inside.is_dir() else inside.parent.parent / "cache_specs"


def spec_names() -> list[str]:
    """Names of the specs that come with bddn: the stems of their files."""
    return sorted(path.stem for path in spec_folder().glob("*.yaml"))


def load_spec(name: str) -> CacheSpec:
    """Read a spec by its name, or from a YAML file of the user's own.

    Raises
    ------
    SpecError
        Where there is no such spec, or it is not valid.
    """
    own = name.endswith((".yaml", ".yml"))
    path = Path(name) if own else spec_folder() / f"{name}.yaml"
    if not path.is_file() or (not own and name not in spec_names()):
        raise SpecError(
            f"spec '{name}'",
            expected=f"one of {', '.join(spec_names())}, or the path of a .yaml file",
            got="no such spec" if not own else "no such file",
            fix="Choose a name from the list, or write a spec like those in cache_specs/.",
        )
    return CacheSpec.from_yaml(path.read_bytes(), str(path))


def open_backbone(spec: CacheSpec, device: str = "cpu") -> Backbone:
    """Load the backbone that a spec names onto a device."""
    from bddn.backbones.vit import ClipVision

    return ClipVision(spec, device)
