"""Where weights lie on this machine. Nothing here asks the network: only `bddn fetch` downloads."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from bddn.errors import BackboneError
from bddn.files.checksum import file_sha256
from bddn.files.filekind import MISSING, explain
from bddn.spec import WeightsSpec

TRANSFORMERS_FILES = ("model.safetensors", "pytorch_model.bin")  # of weights on the hub, the first that is there
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def folder_of(weights: WeightsSpec) -> Path:
    """The folder of `weights.folder`, or of the snapshot of `weights.hub` in the Hugging Face cache.

    Raises
    ------
    BackboneError
        Where it is not on this machine.
    """
    if weights.hub is None:
        assert weights.folder is not None
        return _there(
            Path(weights.folder),
            Path(weights.folder).is_dir(),
            "folder",
            "a folder of weights in the Hugging Face format, with config.json or model_index.json",
        )
    folder = snapshot_of(weights)
    if folder is None:
        raise not_downloaded(weights)
    return folder


def snapshot_of(weights: WeightsSpec) -> Path | None:
    """The snapshot of `weights.hub` in the Hugging Face cache, which may lack files; None where there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    assert weights.hub is not None
    try:
        # Without patterns, a snapshot is refused that lacks any file of its repository, needed or not.
        found = snapshot_download(weights.hub, revision=weights.revision, local_files_only=True, allow_patterns=[])
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise BackboneError(
            weights.hub, expected="a hub id, owner/name", got=str(error), fix="Correct weights.hub in the spec."
        ) from error
    return Path(found)


def file_of(weights: WeightsSpec) -> Path:
    """The file of `weights.file`, or the one that was downloaded from `weights.url`.

    Downloads lie where torch.hub keeps them, so that those of torchvision are found.

    Raises
    ------
    BackboneError
        Where it is not on this machine, or its SHA-256 is not that of the spec.
    """
    if weights.file is not None:
        path = _there(Path(weights.file), Path(weights.file).is_file(), "file", "a file of weights")
    else:
        path = download_path(weights)
        if not path.is_file():
            raise not_downloaded(weights)
    if weights.sha256 is not None and (found := file_sha256(path)) != weights.sha256:
        raise BackboneError(
            path,
            expected=f"the file whose SHA-256 is {weights.sha256}, as the spec says",
            got=found,
            fix="Delete it and run 'bddn fetch' again, or correct weights.sha256 in the spec.",
        )
    return path


def download_path(weights: WeightsSpec) -> Path:
    """Where the file of `weights.url` is kept."""
    import torch

    assert weights.url is not None
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]


def whole_or_shards(files: Collection[str], names: Sequence[str]) -> list[str]:
    """The first of some names that is among `files`, whole, or as an index and all shards; none where there is none."""
    for name in names:
        if name in files:
            return [name]
        stem, _, end = name.rpartition(".")
        shard = re.compile(rf"{re.escape(stem)}-(\d{{5}})-of-(\d{{5}})\.{end}")
        shards = {file: match for file in sorted(files) if (match := shard.fullmatch(file))}
        numbers, totals = [int(match[1]) for match in shards.values()], {int(match[2]) for match in shards.values()}
        index = f"{name}.index.json"
        if index in files and len(totals) == 1 and numbers == list(range(1, totals.pop() + 1)):
            return [index, *shards]
    return []


def not_downloaded(weights: WeightsSpec, name: str | None = None) -> BackboneError:
    """The error of weights that are not on this machine; `name` is that of the spec, where it is known."""
    command = f"'bddn fetch {name}'" if name else "'bddn fetch' with the name of the spec"
    revision = f" at revision {weights.revision}" if weights.revision else ""
    return BackboneError(
        f"{weights.place}{revision}",
        expected="the weights on this machine",
        got="none, or not all of them",
        fix=f"Run {command} where there is a network, or give local ones with --weights.",
    )


def _there(path: Path, there: bool, what: str, expected: str) -> Path:
    if not there:
        fix = f"Correct weights.{what} in the spec, or give --weights."
        got, fix = explain(path, f"no such {what}", fix, MISSING)
        raise BackboneError(path, expected=expected, got=got, fix=fix)
    return path
