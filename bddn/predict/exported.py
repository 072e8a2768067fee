"""Folders of `bddn export`: an encoder with the network that it reads, to predict without cache and data.

Such a folder is a run folder with three more things: `export.json` with the size and the SHA-256 of every file,
`spec.yaml` with the network, and, if its weights have no public address, `network/` with them as safetensors.

A stranger may have made it. So its files are checked before they are used, all of them are inside the folder, and
nothing in them can name code: weights are safetensors, everything else is JSON, YAML or Parquet, and a network that is
code of its author is not opened from the folder.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from bddn.backbones.weights.local import STATE
from bddn.encoder import saved
from bddn.errors import RunError, SpecError
from bddn.files import atomic
from bddn.files.checksum import file_sha256
from bddn.files.paths import is_left_by_system
from bddn.run import Run
from bddn.run.folder import FILES, SPLIT, encoder_files
from bddn.run.passed_on import EXPORT, is_export
from bddn.spec import CacheSpec

FORMAT = 1
SPEC, NETWORK = "spec.yaml", "network"
OF_NETWORK = re.compile(r"(config|preprocessor_config)\.json|(model[\w-]*|state)\.safetensors(\.index\.json)?")
FOREIGN_CODE = ("auto_map", "implementation", "quantization")
"""Parts of keys in the files of a network that make `transformers` load other code than its own class."""
HARMLESS = (None, "eager", "sdpa")  # values of such keys that stand for code of PyTorch
MAX_BYTES = 1 << 22  # of JSON and YAML files of a network
MAX_SIDE, MAX_PLACES = 8192, 1 << 14  # pixels of an image's side, and places of a grid
FIX = "Copy the folder again. If that does not help, do not use it."


def check_export(run: Run) -> None:
    """Check that the files of an exported folder are those that its `export.json` lists. Other runs need no check.

    Raises
    ------
    RunError
        If a file is missing, differs, is a link or outside the folder, or the list lacks a file that predictions need.
    """
    folder, place = run.folder, run.folder / EXPORT
    if not is_export(folder):
        return
    try:
        found = atomic.read_object(place)
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']!r}, not {FORMAT}")
        files = {str(name): (int(one["bytes"]), str(one["sha256"])) for name, one in found["files"].items()}
    except (OSError, LookupError, AttributeError, TypeError, ValueError) as error:
        got = f"{type(error).__name__}: {error}"
        raise RunError(place, expected="the list of the files of 'bddn export'", got=got, fix=FIX) from error
    for name, (n_bytes, sha256) in files.items():
        if words := _wrong(folder, name, n_bytes, sha256):
            raise RunError(folder / name, expected=f"the file that {EXPORT} describes", got=words, fix=FIX)
    unlisted = {*FILES, SPLIT} - files.keys() | {*_inside(folder, NETWORK)} - files.keys()
    if unlisted:
        name = min(unlisted)
        raise RunError(place, expected=f"the size and the SHA-256 of '{name}'", got="none", fix=FIX)
    _check_encoders(run, {*files})


def exported_spec(run: Run) -> CacheSpec | None:
    """Return the spec of the network in an exported folder, with its weights in the folder or at their public address;
    None if the folder does not contain it, or is another run.

    Raises
    ------
    SpecError
        If spec or weights are not such as `bddn export` writes.
    """
    path = run.folder / SPEC
    if not (is_export(run.folder) and path.is_file()):
        return None
    spec = CacheSpec.from_yaml(_text(path), str(path))
    (height, width), (rows, columns) = spec.image_hw, spec.grid
    if max(height, width) > MAX_SIDE or rows * columns > MAX_PLACES:
        raise _refused(
            path, "images and a grid of a usual size", f"{height} × {width} pixels, {rows} × {columns} places"
        )
    if spec.backbone is None or spec.backbone.brings_weights or spec.weights is None:
        raise _refused(path, "a network whose code is part of bddn", "one that is code of its author")
    if foreign := sorted(_foreign(spec.to_dict())):
        raise _refused(path, "fields of a network", f"'{foreign[0]}', which may load other code")
    local = spec.weights.folder or spec.weights.file
    if local is None:
        return spec
    if local not in (NETWORK, f"{NETWORK}/{STATE}"):
        raise _refused(path, f"weights in the folder '{NETWORK}' or at a public address", spec.weights.place)
    for name in _inside(run.folder, NETWORK):
        _check_network_file(run.folder / name)
    field = "file" if spec.weights.folder is None else "folder"
    here = spec.weights.model_copy(update={field: str(run.folder / local)})
    return spec.model_copy(update={"weights": here})


def _wrong(folder: Path, name: str, n_bytes: int, sha256: str) -> str:
    """Return how a listed file differs from the list; '' if it does not."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or not pure.parts:
        return "a path out of the folder"
    path = folder / pure
    if any(part.is_symlink() for part in (path, *path.parents[: len(pure.parts) - 1])):
        return "a link"
    if not path.is_file():
        return "no such file"
    if (size := path.stat().st_size) != n_bytes:
        return f"{size:,} bytes, not {n_bytes:,}"
    return "" if file_sha256(path) == sha256 else "other bytes"


def _inside(folder: Path, name: str) -> Iterator[str]:
    """Yield the files of a subfolder, as paths from the folder."""
    for path in sorted((folder / name).rglob("*")):
        if path.is_symlink() or not (path.is_dir() or is_left_by_system(path.name)):
            yield path.relative_to(folder).as_posix()


def _check_encoders(run: Run, listed: set[str]) -> None:
    """Refuse encoders that the list lacks, or whose grid is not that of the run."""
    for path in encoder_files(run):
        if path.relative_to(run.folder).as_posix() not in listed:
            raise RunError(path, expected=f"a file that {EXPORT} describes", got="another file", fix=FIX)
        _, about = saved.read(path, saved.AN_ENCODER, FIX, [])
        try:
            grid, expected = about["layers"][0][1]["grid"], run.about["cache"]["spec"]["grid"]
        except (LookupError, TypeError) as error:
            got = f"{type(error).__name__}: {error}"
            raise RunError(path, expected=saved.AN_ENCODER, got=got, fix=FIX) from error
        if grid != expected:
            raise RunError(path, expected=f"the grid {expected} of the run", got=f"{grid}", fix=FIX)


def _check_network_file(path: Path) -> None:
    """Refuse files that libraries would read in other ways than as weights and sizes."""
    if not OF_NETWORK.fullmatch(path.name) or path.parent.name != NETWORK:
        raise _refused(path, "only config.json, preprocessor_config.json and safetensors", path.name)
    if path.suffix != ".json":
        return
    try:
        foreign = sorted(_foreign(json.loads(_text(path))))
    except (ValueError, RecursionError) as error:
        raise _refused(path, "JSON", f"{type(error).__name__}: {error}") from error
    if foreign:
        raise _refused(path, "sizes of a network", f"'{foreign[0]}', which may load other code")


def _foreign(value: Any) -> Iterator[str]:
    """Yield the keys, at any depth, that may load other code."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if any(part in str(key) for part in FOREIGN_CODE) and not (isinstance(inner, str | None) and inner in HARMLESS):
            yield str(key)
        yield from _foreign(inner)


def _text(path: Path) -> bytes:
    if (size := path.stat().st_size) > MAX_BYTES:
        raise _refused(path, f"at most {MAX_BYTES:,} bytes", f"{size:,}")
    return path.read_bytes()


def _refused(path: Path, expected: str, got: str) -> SpecError:
    fix = "If you trust its author, give the network yourself: --spec, and --weights."
    return SpecError(path, expected=expected, got=got, fix=fix)
