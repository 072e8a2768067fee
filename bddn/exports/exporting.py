"""Write an encoder as a folder that predicts without cache and data, and that states its terms."""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bddn import __version__
from bddn.backbones.backbone import Trainable
from bddn.backbones.kind import kind_of
from bddn.backbones.registry import open_backbone
from bddn.backbones.weights.local import file_of, snapshot_of
from bddn.data.splits import Split
from bddn.evaluation.kept_responses import read_held_out
from bddn.exports.terms import Terms, data_terms, network_terms
from bddn.exports.writing import MADE_OF, write_descriptions, write_list, write_network, write_run
from bddn.files import atomic
from bddn.files.checksum import file_sha256
from bddn.files.output import check_new_or_result, is_vacant, new_folder, occupied
from bddn.files.paths import expanded, printable
from bddn.identity import Identity, digest
from bddn.machine.settings import own_settings
from bddn.predict import Network, cache_of, check_network, network_of
from bddn.predict.exported import NETWORK, SPEC, check_export, exported_spec
from bddn.predict.loaded import Device, GivenSpec
from bddn.run import Run, read_run, read_split
from bddn.run.encoders import load_encoders
from bddn.run.folder import VOXELS, about_data, encoder_files
from bddn.run.passed_on import EXPORT
from bddn.run.together import check_split
from bddn.spec import CacheSpec

_occupied = partial(occupied, mine="this export")


@dataclass(frozen=True)
class Exported:
    """A folder of `export`.

    Attributes
    ----------
    folder : Path
    terms : dict of str to str
        The sentences about terms on its card.
    way : str
        Where the weights of the network are: 'included', 'public', 'left out', or 'own code'.
    n_bytes : int
        Size of all files.
    fresh : bool
        False if it existed already.
    """

    folder: Path
    terms: dict[str, str]
    way: str
    n_bytes: int
    fresh: bool


def export(
    run: Run | str | Path,
    out: str | Path,
    *,
    terms: str | None = None,
    spec: GivenSpec | None = None,
    weights: bool = True,
    responses: bool = False,
    device: Device = "auto",
) -> Exported:
    """Write an encoder, its network and all that describes them into a folder that can be passed on.

    `load_encoder` and `bddn predict` load the folder, on any machine, without cache and data.

    Parameters
    ----------
    run : Run, str or Path
        A run or the ensemble of several, or its folder.
    out : str or Path
        A new or empty folder.
    terms : str, optional
        A statement for the card; required if the dataset does not state its terms.
    spec : str, Path, CacheSpec or what `from_module` returned, optional
        The network, if no spec that `bddn backbones` lists is it.
    weights : bool
        Whether weights of the network that have no public address are copied. Their licence must be known.
    responses : bool
        Whether the responses to the test images that `bddn score` keeps are copied, if the terms of the data allow it.
    device : {'auto', 'cpu', 'cuda'}

    Returns
    -------
    Exported

    Raises
    ------
    BddnError
        If terms are not stated, the network is not on this machine or another one, or `out` contains something else.

    Examples
    --------
    >>> bddn.export("clip_subj01", "clip_subj01_encoder", terms="CC BY 4.0, with permission of the owner of the data")
    """
    found, folder = run if isinstance(run, Run) else read_run(expanded(Path(run))), expanded(Path(out))
    check_terms(found, terms, responses)
    check_out(folder)
    network = network_of(found, spec, device)
    return export_with(found, network, folder, terms=terms, weights=weights, responses=responses)


def check_terms(run: Run, terms: str | None, responses: bool) -> None:
    """Refuse, before any work, terms that are not stated and responses that are not there or must not be passed on.

    Raises
    ------
    BddnError
    """
    data_terms(about_data(run), terms, responses)
    if responses:
        read_held_out(run)


def check_out(out: Path) -> None:
    """Refuse an output folder that contains other files, or that cannot be written.

    Raises
    ------
    OutputError, RunError
    """
    check_new_or_result(out, EXPORT, lambda: _occupied(out, "a folder with other files"))


@own_settings()
def export_with(
    run: Run, network: Network, out: Path, *, terms: str | None = None, weights: bool = True, responses: bool = False
) -> Exported:
    """Write the folder with the open network of the run. Parameters and errors as of `export`."""
    data, statement, kept = data_terms(about_data(run), terms, responses)
    way, spec = _way(network, weights)
    said = Terms(data, statement, network_terms(spec, way), kept)
    title = title_of(run)
    identity = Identity(
        {
            "encoders_sha256": digest([file_sha256(path) for path in encoder_files(run)]),
            "voxels_sha256": file_sha256(run.folder / VOXELS),
            "cache_digest": cache_of(run)["digest"],
            "network": way,
            "terms": said.lines(),
            "bddn": __version__,
        }
    )
    fresh = not _is_done(out, identity)
    if fresh:
        load_encoders(run)
        check_split(run.folder, run.about, Split.of(read_split(run)))
        try:
            with new_folder(out, EXPORT) as aside:
                write_run(run, title, aside, responses)
                if way != "own code":
                    write_network(network, spec, way, aside)
                write_descriptions(run, network, title, said, way, printable(out.name), aside)
                write_list(aside, identity)
                if way == "included":
                    _check_copy(aside, network)
        except FileExistsError:
            fresh = not _is_done(out, identity)
    check_export(read_run(out))
    n_bytes = sum(one["bytes"] for one in atomic.read_object(out / EXPORT)["files"].values())
    return Exported(out, said.lines(), way, n_bytes, fresh)


def title_of(run: Run) -> str:
    """Return the title of a run without the folders of its owner: of paths only the last part."""
    data, through, cache = str(run.metrics["title"]).rpartition(" through ")
    kind, colon, rest = data.partition(":")
    parts = [f"{name}{equals}{Path(value).name}" for name, equals, value in map(_option, rest.split(","))]
    return f"{kind}{colon}{','.join(parts)}{through}{cache}" if through and colon else f"{cache}"


def _option(text: str) -> tuple[str, str, str]:
    name, equals, value = text.partition("=")
    return (name, equals, value) if equals and re.fullmatch(r"\w+", name) else ("", "", text)


def _way(network: Network, weights: bool) -> tuple[str, CacheSpec]:
    """Return where users of the folder find the weights, a key of `card.WAYS`, and the spec that says so."""
    spec = network.spec
    if spec.backbone is None or spec.backbone.brings_weights or spec.weights is None:
        return "own code", spec
    given = spec.weights
    if given.hub is not None:
        commit = given.revision or getattr(snapshot_of(given), "name", None)
        return "public", spec.model_copy(update={"weights": given.model_copy(update={"revision": commit})})
    if given.url is not None:
        sha256 = given.sha256 or file_sha256(file_of(given))
        return "public", spec.model_copy(update={"weights": given.model_copy(update={"sha256": sha256})})
    if given.random is not None:
        return "public", spec
    if weights and isinstance(network.backbone, Trainable):
        return "included", kind_of(spec).in_folder(spec, Path(NETWORK))
    here = given.model_copy(update={"folder": NETWORK, "file": None, "format": None, "sha256": None})
    return "left out", spec.model_copy(update={"weights": here})


def _check_copy(aside: Path, network: Network) -> None:
    """Open the copied network and compare it with that of the run, as whoever loads the folder will."""
    run = read_run(aside)
    spec = exported_spec(run)
    assert spec is not None
    check_network(run, str(aside / SPEC), spec, open_backbone(spec, network.device), network.device)


def _is_done(out: Path, wanted: Identity) -> bool:
    """Return whether the folder contains this export; refuse another one."""
    if is_vacant(out, EXPORT):
        return False
    try:
        there = Identity(atomic.read_object(out / EXPORT)[MADE_OF])
        words = there.differences(wanted)
    except (OSError, LookupError, AttributeError, TypeError, ValueError) as error:
        raise _occupied(out, f"a folder with a damaged or no {EXPORT}") from error
    if words:
        raise _occupied(out, f"an export that differs in: {'; '.join(words)}")
    return True
