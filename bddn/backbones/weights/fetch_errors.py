"""Errors of `bddn fetch`: what a hub, a server, a connection or a disk refuses, and what the user can do."""

import os
from pathlib import Path

from bddn.backbones.weights.loading import first_line
from bddn.backbones.weights.local import MAIN
from bddn.errors import BackboneError, BddnError
from bddn.spec import WeightsSpec

AGAIN = "then run 'bddn fetch' again; completed parts are kept"
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def hub_place(weights: WeightsSpec) -> str:
    """Return the repository and its revision, for messages."""
    return f"{weights.hub} at revision {weights.revision}" if weights.revision else str(weights.hub)


def hub_error(weights: WeightsSpec, error: Exception) -> BackboneError:
    """Return the error about a repository of the hub that could not be downloaded."""
    from huggingface_hub import constants, errors

    place, page, hub = hub_place(weights), f"{constants.ENDPOINT}/{weights.hub}", f"the hub at {constants.ENDPOINT}"
    wrapped = isinstance(error, errors.LocalEntryNotFoundError | errors.RevisionResolutionError)
    cause = error.__cause__ if wrapped and isinstance(error.__cause__, Exception) else error
    status = cause.response.status_code if isinstance(cause, errors.HfHubHTTPError) else None
    if isinstance(cause, errors.GatedRepoError) or status == 403:
        return _gated(weights, page, f"HTTP {status}", _said(cause))
    if status == 401 and token_place():
        expected, got = "a valid token, or none", f"HTTP 401 for the token in {token_place()}"
        fix = f"Make a new token at {constants.ENDPOINT}/settings/tokens and run 'hf auth login', or remove this one."
    elif isinstance(cause, errors.RepositoryNotFoundError):
        expected, got = "a repository of the hub", f"no repository of this name, or a private one (HTTP {status})"
        fix = "Correct weights.hub in the spec; if it is private, log in with 'hf auth login'."
    elif isinstance(cause, errors.RevisionNotFoundError):
        expected, got = "a revision of the repository", "no revision of this name"
        fix = f"Correct weights.revision in the spec, or the commit in weights.lock; see {page}/commits/{MAIN}."
    elif isinstance(cause, errors.HFValidationError):
        expected, got, fix = "a hub id, owner/name", first_line(cause), "Correct weights.hub in the spec."
    elif isinstance(cause, errors.OfflineModeIsEnabled):
        expected, got, fix = "network access", "HF_HUB_OFFLINE is set", f"Unset HF_HUB_OFFLINE, {AGAIN}."
    elif status is not None:
        expected, got, fix = f"{hub} to answer", f"HTTP {status}{_said(cause)}", f"Wait a minute, {AGAIN}."
    elif _is_of_disk(cause):
        return disk_error(place, Path(constants.HF_HUB_CACHE), cause)
    else:
        expected, got, fix = f"{hub} to answer", first_line(cause), f"Check the network, {AGAIN}."
    return BackboneError(place, expected=expected, got=without_token(got), fix=fix)


def url_error(url: str, folder: Path, error: Exception) -> BackboneError:
    """Return the error about a file that could not be downloaded into a folder."""
    from huggingface_hub import errors

    if isinstance(error, errors.HfHubHTTPError):
        code = f"HTTP {error.response.status_code} {error.response.reason_phrase}".strip()
        fix = "Correct weights.url in the spec, or try later."
        return BackboneError(url, expected="a file at this address", got=code, fix=fix)
    if _is_of_disk(error):
        return disk_error(url, folder, error)
    expected, fix = "the server to answer", f"Check the network, {AGAIN}."
    return BackboneError(url, expected=expected, got=first_line(error), fix=fix)


def disk_error(place: str, folder: Path, error: Exception) -> BackboneError:
    """Return the error about a folder that cannot be written."""
    return BackboneError(
        place,
        expected=f"permission and space to write to {folder}",
        got=getattr(error, "strerror", None) or first_line(error),
        fix=f"Check permissions and free space, or set {variable_of(folder)} to another folder, {AGAIN}.",
    )


def variable_of(folder: Path) -> str:
    """Return the environment variable that moves a folder of downloads."""
    from huggingface_hub import constants

    if folder != Path(constants.HF_HUB_CACHE):
        return "TORCH_HOME"
    return "HF_HUB_CACHE" if "HF_HUB_CACHE" in os.environ else "HF_HOME"


def token_place() -> str:
    """Return where the token is that is sent to the hub, in words; '' if none is sent. The token is never shown."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN or get_token() is None:
        return ""
    return next((name for name in TOKEN_VARIABLES if os.environ.get(name)), constants.HF_TOKEN_PATH)


def without_token(text: str) -> str:
    """Return the text without the token, in case a server repeats it."""
    from huggingface_hub import get_token

    token = get_token()
    return text.replace(token, "…") if token else text


def _gated(weights: WeightsSpec, page: str, got: str, said: str) -> BackboneError:
    from huggingface_hub import constants

    if place := token_place():
        got += f" with the token in {place}"
        fix = (
            f"Ask for access at {page} with the account of this token, and wait if its owners decide; a fine-grained "
            f"token also needs the permission to read gated repositories ({constants.ENDPOINT}/settings/tokens). Then "
            "run 'bddn fetch' again."
        )
    else:
        got += f" without a token (none in HF_TOKEN or {constants.HF_TOKEN_PATH})"
        fix = (
            f"Accept the terms at {page}, make a token at {constants.ENDPOINT}/settings/tokens, give it to "
            "'hf auth login' or HF_TOKEN, then run 'bddn fetch' again."
        )
    return BackboneError(
        hub_place(weights),
        expected=f"access to the gated repository {weights.hub}",
        got=without_token(got + said),
        fix=fix + _mirror(weights),
    )


def _mirror(weights: WeightsSpec) -> str:
    """Return a sentence about a repository with the same weights that anybody can read; '' if none is known."""
    from bddn.backbones.registry import load_spec

    if weights.mirror is None:
        return ""
    try:
        spec = load_spec(weights.mirror)
    except BddnError:  # the error about the gate matters more
        return ""
    place = "" if spec.weights is None else f" from {spec.weights.place}"
    return (
        f" Or use the spec '{weights.mirror}', which reads the same weights{place} without a request, licence "
        f"{spec.licence or 'unknown'}: 'bddn fetch {weights.mirror}'."
    )


def _said(error: BaseException) -> str:
    """Return the message of the server, after a colon and in quotes; '' if there is none."""
    message = getattr(error, "server_message", None) or ""
    line = " ".join(message.split())[:300].rstrip(".")
    return f": '{line}'" if line else ""


def _is_of_disk(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError)
