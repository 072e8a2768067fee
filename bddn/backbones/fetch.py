"""Download weights, for `bddn fetch`. No other module of bddn downloads."""

import http.client
import logging
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from bddn.backbones.kind import kind_of
from bddn.backbones.loading import first_line
from bddn.backbones.weights import download_path, file_of, folder_of, snapshot_of
from bddn.errors import BackboneError, BddnError
from bddn.files.atomic import replace_file
from bddn.files.checksum import file_sha256
from bddn.progress import progress
from bddn.spec import CacheSpec, WeightsSpec

SHA256_IN_NAME = re.compile(r"-([0-9a-f]{8})\.pth$")  # first digits of the SHA-256 in torchvision's file names
MAX_LISTED = 16
TIMEOUT_S = 60
READ_BYTES = 1 << 20


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
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        whole = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=weights.hub, repo_type="model")
        return snapshot_of(weights) or whole
    if weights.url is not None:
        return download_path(weights)
    return Path(weights.folder or weights.file or "")


def fetch(spec: CacheSpec) -> None:
    """Download the weights of a spec. If they are on this machine, the network is not used.

    Raises
    ------
    BackboneError
        If the download fails. A partial download is never used.
    """
    weights = spec.weights
    if weights is None or is_available(spec):
        return
    if weights.hub is not None:
        _fetch_hub(spec, weights)
    elif weights.url is not None:
        _fetch_url(weights)
    else:  # raises the error about missing local weights
        _ = file_of(weights) if weights.file is not None else folder_of(weights)


def _listing(folder: Path) -> list[str]:
    """Return the files of a folder, without broken links."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _lacking(place: str, lacks: str, files: Sequence[str]) -> BackboneError:
    shown = sorted(files)[:MAX_LISTED]
    more = f" and {len(files) - len(shown)} more" if len(files) > len(shown) else ""
    return BackboneError(
        place,
        expected=lacks,
        got=f"only {', '.join(shown)}{more}" if files else "no files",
        fix="Correct weights or family in the spec: this repository lacks files that the family needs.",
    )


def _fetch_hub(spec: CacheSpec, weights: WeightsSpec) -> None:
    """Download the files that the network needs, all from one commit."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    assert weights.hub is not None
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # bddn raises errors for what it warns of
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        revision = HfApi().resolve_revision(weights.hub, revision=weights.revision or "main")
        names = HfApi().list_repo_files(weights.hub, revision=revision.resolved)
        files, lacks = kind_of(spec).files(spec, names)
        if lacks:
            raise _lacking(_hub_place(weights), lacks, names)
        snapshot_download(weights.hub, revision=revision, allow_patterns=files)
    except BddnError:
        raise
    except Exception as error:  # from the hub's client, its HTTP library, or the disk
        raise _hub_error(weights, error) from error


def _hub_place(weights: WeightsSpec) -> str:
    return f"{weights.hub} at revision {weights.revision}" if weights.revision else str(weights.hub)


def _hub_error(weights: WeightsSpec, error: Exception) -> BackboneError:
    from huggingface_hub import constants, errors

    place, page, hub = _hub_place(weights), f"{constants.ENDPOINT}/{weights.hub}", f"the hub at {constants.ENDPOINT}"
    wrapped = isinstance(error, errors.LocalEntryNotFoundError | errors.RevisionResolutionError)
    cause = error.__cause__ if wrapped and error.__cause__ else error
    status = cause.response.status_code if isinstance(cause, errors.HfHubHTTPError) else None
    retry_hint = "then run 'bddn fetch' again; complete files are kept."
    if isinstance(cause, errors.GatedRepoError) or status == 403:
        expected, got = f"access to the gated repository {weights.hub}", f"HTTP {status}"
        fix = f"Accept its terms at {page}, then log in with 'hf auth login', {retry_hint}"
    elif isinstance(cause, errors.RepositoryNotFoundError):
        expected, got = "a repository of the hub", f"no repository of this name, or a private one (HTTP {status})"
        fix = "Correct weights.hub in the spec; if it is private, log in with 'hf auth login'."
    elif isinstance(cause, errors.RevisionNotFoundError):
        expected, got = "a revision of the repository", "no revision of this name"
        fix = f"Correct weights.revision in the spec; see {page}/commits/main."
    elif isinstance(cause, errors.HFValidationError):
        expected, got, fix = "a hub id, owner/name", first_line(cause), "Correct weights.hub in the spec."
    elif isinstance(cause, errors.OfflineModeIsEnabled):
        expected, got, fix = "network access", "HF_HUB_OFFLINE is set", f"Unset HF_HUB_OFFLINE, {retry_hint}"
    elif status is not None:
        expected, got, fix = f"{hub} to answer", f"HTTP {status}", f"Wait a minute, {retry_hint}"
    elif isinstance(cause, OSError) and cause.errno is not None and not isinstance(cause, ConnectionError):
        return _disk_error(place, Path(constants.HF_HUB_CACHE), cause, "HF_HOME")
    else:
        expected, got, fix = f"{hub} to answer", first_line(cause), f"Check the network, {retry_hint}"
    return BackboneError(place, expected=expected, got=got, fix=fix)


def _fetch_url(weights: WeightsSpec) -> None:
    """Download a file to a temporary name, check it, and move it to its place."""
    url, path = str(weights.url), download_path(weights)
    if not url.startswith(("https://", "http://")):
        raise BackboneError(
            url, expected="an address, https://…", got="another one", fix="Correct weights.url, or use weights.file."
        )
    begins = SHA256_IN_NAME.search(path.name)
    sha256 = weights.sha256 or (begins[1] if begins else "")
    try:
        replace_file(path, lambda aside: _download(url, aside, sha256))
    except urllib.error.HTTPError as error:
        error.close()
        raise BackboneError(
            url,
            expected="a file at this address",
            got=f"HTTP {error.code} {error.reason}",
            fix="Correct weights.url in the spec, or try later.",
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ValueError) as error:
        raise BackboneError(
            url,
            expected="the server to answer",
            got=first_line(error),
            fix="Check the network, then run 'bddn fetch' again.",
        ) from error
    except OSError as error:
        raise _disk_error(url, path.parent, error, "TORCH_HOME") from error


def _download(url: str, aside: Path, sha256: str) -> None:
    """Download to a file, and check its length and the known first digits of its SHA-256.

    `torch.hub.download_url_to_file` would accept a file after a lost connection.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "bddn"})  # noqa: S310 (its scheme was checked)
    n = 0
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer, aside.open("wb") as file:  # noqa: S310
        length = int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else None
        shown: Any = nullcontext(lambda n=1, note="": None)
        if length is not None and sys.stderr.isatty():
            shown = progress(aside.name, -(-length // READ_BYTES), "MiB")
        with shown as advance:
            while part := answer.read(READ_BYTES):
                file.write(part)
                n += len(part)
                advance()
    if length is not None and n != length:
        raise BackboneError(
            url, expected=f"{length} bytes", got=f"{n} bytes", fix="Run 'bddn fetch' again; nothing was kept."
        )
    if not (found := file_sha256(aside)).startswith(sha256):
        raise BackboneError(
            url,
            expected=f"a file whose SHA-256 begins with {sha256}, as its name or weights.sha256 says",
            got=found,
            fix="Run 'bddn fetch' again; if it fails again, do not use this address. Nothing was kept.",
        )


def _disk_error(place: str, folder: Path, error: OSError, variable: str) -> BackboneError:
    return BackboneError(
        place,
        expected=f"permission and space to write to {folder}",
        got=error.strerror or first_line(error),
        fix=f"Check permissions and free space, or set {variable} to another folder; then run 'bddn fetch' again.",
    )
