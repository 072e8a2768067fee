"""Download weights, for `bddn fetch`. No other command of bddn downloads."""

import logging
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bddn.backbones.kind import kind_of
from bddn.backbones.weights.download import PART, Digest, download
from bddn.backbones.weights.fetch_errors import disk_error, hub_error, hub_place, url_error, variable_of
from bddn.backbones.weights.local import MAIN, download_path, file_of, folder_of, repository_of, snapshot_of
from bddn.backbones.weights.lock import Content, check, read_lock
from bddn.errors import BackboneError, BddnError
from bddn.files.checksum import file_sha256
from bddn.spec import CacheSpec, WeightsSpec
from bddn.text import shorten

SHA256_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.pth$")  # first digits of the SHA-256 in torchvision's file names
BLOB_NAME = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # the hash of its content, in the Hugging Face cache
MAX_LISTED = 16

State = Literal["on this machine", "fetched", "missing", "damaged"]


@dataclass(frozen=True)
class Fetched:
    """What `fetch` found and did.

    Attributes
    ----------
    state : str
        'missing' and 'damaged' only without the network.
    contents : mapping of str to Content
        The files by name, if they come from a network and are here.
    """

    state: State
    contents: Mapping[str, Content] = field(default_factory=dict)


def is_available(spec: CacheSpec) -> bool:
    """Return whether all files that `bddn fetch` would download are on this machine. Does not use the network."""
    weights = spec.weights
    if weights is None or weights.random is not None:
        return True
    if weights.hub is not None:
        folder = snapshot_of(weights)
        return folder is not None and not kind_of(spec).files(spec, _listing(folder))[1]
    if weights.folder is not None:
        return Path(weights.folder).is_dir()
    return (Path(weights.file) if weights.file is not None else download_path(weights)).is_file()


def is_remote(spec: CacheSpec) -> bool:
    """Return whether the weights come from a network."""
    return spec.weights is not None and (spec.weights.hub is not None or spec.weights.url is not None)


def location_of(spec: CacheSpec) -> Path | None:
    """Return the folder or file of the weights, also before they are fetched; None if there is no file."""
    weights = spec.weights
    if weights is None or weights.random is not None:
        return None
    if weights.hub is not None:
        return snapshot_of(weights) or repository_of(weights)
    if weights.url is not None:
        return download_path(weights)
    return Path(weights.folder or weights.file or "")


def fetch(spec: CacheSpec, *, offline: bool = False) -> Fetched:
    """Download those files of the weights of a spec that are missing or damaged, and compare them with `weights.lock`.

    All files are read once to check their hashes. If they are whole and on this machine, the network is not used.

    Parameters
    ----------
    spec : CacheSpec
    offline : bool
        Whether only to say what is on this machine.

    Raises
    ------
    BackboneError
        If the download fails, or files differ from `weights.lock`. A partial download is never used.
    """
    weights = spec.weights
    here = is_available(spec)
    if weights is None or not is_remote(spec):
        if weights is not None and not here and not offline:  # raises the error about missing local weights
            _ = file_of(weights) if weights.file is not None else folder_of(weights)
        return Fetched("on this machine" if here else "missing")
    state: State = "on this machine" if here else "missing"
    contents, damaged = _read(spec, weights) if here else ({}, [])
    if damaged or not here:
        if offline:
            return Fetched("damaged" if damaged else "missing")
        _download(spec, weights, damaged)
        contents, damaged = _read(spec, weights)
        state = "fetched"
    if damaged:
        raise BackboneError(
            weights.place,
            expected=f"a file of {_digest_of(weights, damaged[0])}",
            got=f"a damaged file, {damaged[0]}",
            fix="Run 'bddn fetch' again; if the same file is damaged again, check the disk.",
        )
    if entry := read_lock().of(weights):
        check(entry, contents)
    return Fetched(state, contents)


def _read(spec: CacheSpec, weights: WeightsSpec) -> tuple[dict[str, Content], list[Path]]:
    """Return the contents of the files of a network by name, and the paths of the damaged ones."""
    if weights.hub is None:
        path = download_path(weights)
        paths = {path.name: path}
    else:
        folder = snapshot_of(weights)
        assert folder is not None
        paths = {name: folder / name for name in kind_of(spec).files(spec, _listing(folder))[0]}
    contents = {name: Content(file_sha256(path), path.stat().st_size) for name, path in paths.items()}
    damaged = []
    for name, path in paths.items():
        digest = _digest_of(weights, path)
        found = "" if digest is None else digest.of(path) if digest.git else contents[name].sha256
        if digest is not None and not found.startswith(digest.begins):
            damaged.append(path)
    return contents, damaged


def _download(spec: CacheSpec, weights: WeightsSpec, damaged: Sequence[Path]) -> None:
    commit = getattr(snapshot_of(weights), "name", None) if damaged and weights.hub is not None else None
    try:
        for path in damaged:
            if path.is_symlink():
                (path.parent / path.readlink()).unlink(missing_ok=True)
            path.unlink()
    except OSError as error:
        raise disk_error(weights.place, path.parent, error) from error
    if weights.hub is not None:
        _fetch_hub(spec, weights, commit or weights.revision or MAIN)
    else:
        _fetch_url(weights)


def _listing(folder: Path) -> list[str]:
    """Return the files of a folder, without broken links."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _fetch_hub(spec: CacheSpec, weights: WeightsSpec, revision: str) -> None:
    """Download the files that the network needs, all from one commit, into the Hugging Face cache.

    The client of the hub starts a file anew after an interruption, and does not check hashes. So the blobs of its
    cache, whose names are their hashes, are downloaded here, and the client only adds the links to them.
    """
    from huggingface_hub import HfApi, hf_hub_url, snapshot_download
    from huggingface_hub.hf_api import RepoFile
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    assert weights.hub is not None
    _keep_quiet()
    try:
        found = HfApi().resolve_revision(weights.hub, revision=revision)
        tree = HfApi().list_repo_tree(weights.hub, revision=found.resolved, recursive=True)
        listed = {one.path: one for one in tree if isinstance(one, RepoFile)}
        files, lacks = kind_of(spec).files(spec, list(listed))
        if lacks:
            raise _lacking(hub_place(weights), lacks, list(listed))
        _refuse_other_hashes(weights, {name: listed[name].lfs for name in files})
        repository = repository_of(weights)
        blobs = {name: repository / "blobs" / _blob_name(listed[name]) for name in files}
        snapshot = repository / "snapshots" / found.resolved
        absent = [name for name in files if not (snapshot / name).is_file() and not blobs[name].is_file()]
        _refuse_full_disk(hub_place(weights), {blobs[name]: listed[name].size for name in absent})
        for name in absent:
            url = hf_hub_url(weights.hub, name, revision=found.resolved)
            digest = _digest_of_blob(blobs[name].name)
            download(url, blobs[name], digest, size=listed[name].size, headers=build_hf_headers())
        snapshot_download(weights.hub, revision=found, allow_patterns=files)
    except BddnError:
        raise
    except Exception as error:  # from the hub's client, its HTTP library, or the disk
        raise hub_error(weights, error) from error


def _fetch_url(weights: WeightsSpec) -> None:
    """Download a file."""
    url, path = str(weights.url), download_path(weights)
    if not url.startswith(("https://", "http://")):
        raise BackboneError(
            url, expected="an address, https://…", got="another one", fix="Correct weights.url, or use weights.file."
        )
    _keep_quiet()
    try:
        download(url, path, _digest_of_url(weights), headers={"user-agent": "bddn"})
    except BddnError:
        raise
    except Exception as error:  # from the HTTP library or the disk
        raise url_error(url, path.parent, error) from error


def _keep_quiet() -> None:
    from huggingface_hub.utils.tqdm import disable_progress_bars

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # bddn raises errors for what it warns of
    if not sys.stderr.isatty():
        disable_progress_bars()


def _digest_of(weights: WeightsSpec, path: Path) -> Digest | None:
    """Return the hash that a downloaded file should have, if it is known."""
    if weights.hub is None:
        return _digest_of_url(weights)
    blob = path.readlink().name if path.is_symlink() else ""  # without links, the cache contains copies
    return _digest_of_blob(blob) if BLOB_NAME.fullmatch(blob) else None


def _digest_of_url(weights: WeightsSpec) -> Digest | None:
    """Return the hash of a file of `weights.url`, or its first digits, if the spec or the file name contains it."""
    in_name = SHA256_IN_NAME.search(str(weights.url))
    if weights.sha256 is not None:
        return Digest(weights.sha256, "weights.sha256 or weights.lock")
    return None if in_name is None else Digest(in_name[1], "its name")


def _digest_of_blob(name: str) -> Digest:
    return Digest(name, "the hub", git=len(name) == 40)


def _blob_name(file: Any) -> str:
    """Return the name of a file of a repository in the Hugging Face cache."""
    return str(file.blob_id if file.lfs is None else file.lfs.sha256)


def _lacking(place: str, lacks: str, files: Sequence[str]) -> BackboneError:
    return BackboneError(
        place,
        expected=lacks,
        got=f"only {shorten(sorted(files), MAX_LISTED)}" if files else "no files",
        fix="Correct weights or family in the spec: this repository lacks files that the family needs.",
    )


def _refuse_other_hashes(weights: WeightsSpec, listed: Mapping[str, Any]) -> None:
    """Compare the hashes that the hub has of its large files with `weights.lock`, before they are downloaded."""
    if entry := read_lock().of(weights):
        check(entry, {name: Content(lfs.sha256, lfs.size) for name, lfs in listed.items() if lfs is not None})


def _refuse_full_disk(place: str, sizes: Mapping[Path, int]) -> None:
    """Refuse files (sizes in bytes by path) for which the disk has no space."""
    begun = sum(part.stat().st_size for path in sizes if (part := path.with_name(path.name + PART)).is_file())
    needed = sum(sizes.values()) - begun
    folder = next((parent for path in sizes for parent in path.parents if parent.is_dir()), None)
    if folder is not None and needed > (free := shutil.disk_usage(folder).free):
        cache = next(iter(sizes)).parent.parent.parent
        raise BackboneError(
            place,
            expected=f"{needed / 1e6:,.2f} MB of free space in {cache}",
            got=f"{free / 1e6:,.2f} MB",
            fix=f"Free space, or set {variable_of(cache)} to another folder, then run 'bddn fetch' again.",
        )
