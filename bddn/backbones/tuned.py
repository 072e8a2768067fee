"""Folders of fine-tuned networks: weights, and beside them the spec that opens them. The folder may move."""

from pathlib import Path

from bddn.backbones.kind import kind_of
from bddn.files.atomic import write_text
from bddn.spec import CacheSpec

SPEC, ABOUT = "spec.yaml", "finetune.json"


def tuned_folder(path: Path) -> Path | None:
    """Return the folder of a fine-tuned network at this path, or of which this path is the spec; else None."""
    folder = path.parent if path.name == SPEC else path
    return folder if (folder / ABOUT).is_file() and (folder / SPEC).is_file() else None


def read_tuned(folder: Path) -> CacheSpec:
    """Return the spec of a fine-tuned network. Its weights are those of the folder, wherever that is.

    Raises
    ------
    SpecError
        If the spec is not valid.
    """
    path = folder / SPEC
    spec = CacheSpec.from_yaml(path.read_bytes(), str(path))
    return kind_of(spec).in_folder(spec, folder)


def write_tuned(spec: CacheSpec, folder: Path) -> None:
    """Write the spec of a fine-tuned network into the folder with its weights."""
    import yaml

    fields = kind_of(spec).in_folder(spec, Path()).to_dict()
    text = yaml.safe_dump(_without_none(fields), sort_keys=False, allow_unicode=True, width=120)
    write_text(
        folder / SPEC, f"# Give the folder of this file as the spec: the weights beside it belong to it.\n{text}"
    )


def _without_none(fields: dict[str, object]) -> dict[str, object]:
    return {
        name: _without_none(value) if isinstance(value, dict) and name in ("backbone", "weights") else value
        for name, value in fields.items()
        if value is not None
    }
