"""Find weights on this machine. Nothing here uses the network; only `bddn fetch` downloads."""

import os
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from bddn.errors import BackboneError
from bddn.files.checksum import file_sha256
from bddn.files.filekind import MISSING, explain
from bddn.spec import WeightsSpec

TRANSFORMERS_FILES = ("model.safetensors", "pytorch_model.bin")  # the first existing one is read
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
STATE = "state.safetensors"  # weights of a fine-tuned network, by its own names
MAIN = "main"
COMMIT = re.compile(r"[0-9a-f]{40}")


def folder_of(weights: WeightsSpec) -> Path:
    """Return the folder of `weights.folder`, or of the snapshot of `weights.hub` in the Hugging Face cache.

    Raises
    ------
    BackboneError
        If it is not on this machine.
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


def repository_of(weights: WeightsSpec) -> Path:
    """Return the folder of the repository of `weights.hub` in the Hugging Face cache, also before it is fetched."""
    from huggingface_hub import constants

    assert weights.hub is not None
    return Path(constants.HF_HUB_CACHE) / f"models--{weights.hub.replace('/', '--')}"


def snapshot_of(weights: WeightsSpec) -> Path | None:
    """Return the snapshot of `weights.hub` in the Hugging Face cache, which may lack files; None if there is none.

    The cache is read directly, because `huggingface_hub.snapshot_download` takes longer to import than all of
    `bddn backbones`, and refuses a snapshot that lacks any file of its repository.
    """
    repository, revision = repository_of(weights), weights.revision or MAIN
    try:
        commit = revision if COMMIT.fullmatch(revision) else (repository / "refs" / revision).read_text().strip()
    except (OSError, ValueError):
        return None
    found = repository / "snapshots" / commit
    return found if COMMIT.fullmatch(commit) and found.is_dir() else None


def file_of(weights: WeightsSpec) -> Path:
    """Return the file of `weights.file`, or the downloaded file of `weights.url`.

    Downloads are in the folder of torch.hub, so that downloads of torchvision are found.

    Raises
    ------
    BackboneError
        If it is not on this machine, or its SHA-256 differs from the spec.
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
    """Return the path of the downloaded file of `weights.url`."""
    assert weights.url is not None
    return _torch_hub() / "checkpoints" / weights.url.rpartition("/")[2]


def _torch_hub() -> Path:
    """Return the folder of torch.hub. torch, which takes seconds to import, is asked only if it is loaded."""
    if torch := sys.modules.get("torch"):
        return Path(torch.hub.get_dir())
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser() / "hub"


def whole_or_shards(files: Collection[str], names: Sequence[str]) -> list[str]:
    """Return the first of `names` that is in `files`: the file, or its index and all shards; [] if there is none."""
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
    """Return the error about weights that are not on this machine. `name` is the name of the spec, if known."""
    command = f"'bddn fetch {name}'" if name else "'bddn fetch' with the name of the spec"
    revision = f" at revision {weights.revision}" if weights.revision else ""
    return BackboneError(
        f"{weights.place}{revision}",
        expected="the weights on this machine",
        got="no files, or not all of them",
        fix=f"Run {command} on a machine with network access, or give local weights with --weights.",
    )


def _there(path: Path, there: bool, what: str, expected: str) -> Path:
    if not there:
        fix = f"Correct weights.{what} in the spec, or give --weights."
        got, fix = explain(path, f"no such {what}", fix, MISSING)
        raise BackboneError(path, expected=expected, got=got, fix=fix)
    return path
