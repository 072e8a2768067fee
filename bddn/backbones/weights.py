"""Where weights lie on this machine. Nothing here asks the network: only `bddn fetch` downloads."""

from pathlib import Path

from bddn.errors import BackboneError
from bddn.spec import WeightsSpec


def folder_of(weights: WeightsSpec) -> Path:
    """The folder of `weights.folder`, or of the snapshot of `weights.hub` in the Hugging Face cache.

    Raises
    ------
    BackboneError
        Where it is not on this machine.
    """
    if weights.hub is None:
        assert weights.folder is not None
        return _there(Path(weights.folder), Path(weights.folder).is_dir(), "folder")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(weights.hub, revision=weights.revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise not_downloaded(weights) from error
    except HFValidationError as error:
        raise BackboneError(
            weights.hub, expected="a hub id, owner/name", got=str(error), fix="Correct weights.hub in the spec."
        ) from error


def file_of(weights: WeightsSpec) -> Path:
    """The file of `weights.file`, or the one that was downloaded from `weights.url`.

    Downloads lie where torch.hub keeps them, so that those of torchvision are found.

    Raises
    ------
    BackboneError
        Where it is not on this machine.
    """
    if weights.file is not None:
        return _there(Path(weights.file), Path(weights.file).is_file(), "file")
    path = download_path(weights)
    if not path.is_file():
        raise not_downloaded(weights)
    return path


def download_path(weights: WeightsSpec) -> Path:
    """Where the file of `weights.url` is kept."""
    import torch

    assert weights.url is not None
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]


def not_downloaded(weights: WeightsSpec) -> BackboneError:
    """The error of weights that are not on this machine."""
    revision = f" at revision {weights.revision}" if weights.revision else ""
    return BackboneError(
        f"{weights.place}{revision}",
        expected="the weights on this machine",
        got="none in its cache",
        fix="Run 'bddn fetch' with the name of the spec where there is a network, or give local ones with --weights.",
    )


def _there(path: Path, there: bool, what: str) -> Path:
    if not there:
        raise BackboneError(
            path,
            expected=f"a {what} of weights",
            got=f"no such {what}",
            fix=f"Correct weights.{what} in the spec, or give --weights.",
        )
    return path
