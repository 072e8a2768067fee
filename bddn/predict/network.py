"""Open the network of a run, and check that it is identical to the network that filled the cache."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bddn.backbones.backbone import Backbone
from bddn.backbones.kind import kind_of
from bddn.backbones.registry import load_specs, open_backbone
from bddn.backbones.weights.fetch import is_available, is_remote
from bddn.backbones.weights.local import not_downloaded
from bddn.errors import BddnError, MismatchError, RunError
from bddn.extraction.source import network_identity
from bddn.identity import Identity
from bddn.machine.parallel import choose_device
from bddn.machine.settings import own_settings
from bddn.predict.exported import SPEC, check_export, exported_spec
from bddn.run import Run
from bddn.spec import CacheSpec

AS_EXTRACTED = "Give --spec and --weights as for 'bddn extract'."


@dataclass(frozen=True)
class Network:
    """The open network of a run. `made_with` is the device and the versions of libraries, which change only the last
    bits of tokens, and `version_differences` describes how they differ from the cache."""

    name: str
    spec: CacheSpec
    backbone: Backbone
    device: str
    made_with: dict[str, Any]
    version_differences: list[str]


def specs_of(run: Run) -> dict[str, CacheSpec]:
    """Return the named specs that may belong to the cache of the run, without opening their networks. Of a folder of
    `bddn export`, return the spec in it.

    Raises
    ------
    BddnError
        If an exported folder is not such as `bddn export` writes.
    """
    about = cache_of(run)
    if (exported := exported_spec(run)) is not None:
        return {str(run.folder / SPEC): exported}
    return {
        name: spec
        for name, spec in load_specs().items()
        if spec.backbone is not None
        and spec.identity() == about["spec"]
        and kind_of(spec).may_match(spec, run.layers, about["backbone"])
    }


@own_settings()
def open_network(run: Run, specs: Mapping[str, CacheSpec], device: str = "auto") -> Network:
    """Open the network of a run.

    Parameters
    ----------
    run : Run
    specs : mapping of str to CacheSpec
        Candidates by name; the first that gives the identical network is used.
    device : {'auto', 'cpu', 'cuda'}

    Raises
    ------
    BddnError
        If none of them gives this network: weights are missing, or it is another network.
    """
    check_export(run)
    device, refused = choose_device(device), dict[str, BddnError]()
    for name, spec in specs.items():
        try:
            # the spec first, so that a spec that differs needs no weights
            cached = Identity(cache_of(run)).only("spec")
            _refuse(run, name, cached.differences(Identity({"spec": spec.identity()})))
            if spec.weights is not None and is_remote(spec) and not is_available(spec):
                raise not_downloaded(spec.weights, name)
            needed = _only_layers(spec, run.layers)
            return check_network(run, name, needed, open_backbone(needed, device), device)
        except BddnError as error:
            refused[name] = error
    if len(refused) == 1:
        raise next(iter(refused.values()))
    about = cache_of(run)["backbone"]
    raise MismatchError(
        run.folder,
        expected=f"the network of this run, a {about['class']} with weights {about['weights_sha256'][:16]}",
        got="; ".join(f"{name}: {error.got}" for name, error in refused.items()) or "no suitable spec in cache_specs/",
        fix=AS_EXTRACTED,
    )


@own_settings()
def check_network(run: Run, name: str, spec: CacheSpec, backbone: Backbone, device: str) -> Network:
    """Check that an open backbone, for example of `bddn.from_module`, is the network of a run.

    Parameters
    ----------
    run : Run
    name : str
        Name of the network in error messages.
    spec : CacheSpec
    backbone : Backbone
    device : {'cpu', 'cuda'}
        The device of the backbone.

    Raises
    ------
    MismatchError
        If the spec, weights or architecture differ from those of the cache, or a layer of the run is missing.
    """
    before, now = Identity(cache_of(run)), network_identity(spec, backbone, device)
    words = before.only("spec", "backbone").differences(now.only("spec", "backbone"))
    _refuse(run, name, [*words, *(f"no layer '{layer}'" for layer in run.layers if layer not in backbone.layers)])
    made_with = now.parts["made_with"]
    differences = Identity(before.parts["made_with"]).differences(Identity(made_with))
    return Network(name, spec, backbone, device, made_with, differences)


def cache_of(run: Run) -> dict[str, Any]:
    """Return `digest`, `spec`, `backbone` and `made_with` of the cache of a run, from `run.json`.

    Raises
    ------
    RunError
        If one of them is missing.
    """
    try:
        return {key: run.about["cache"][key] for key in ("digest", "spec", "backbone", "made_with")}
    except (KeyError, TypeError) as error:
        raise RunError(
            run.folder / "run.json",
            expected="a description of the cache of this run",
            got=f"{type(error).__name__}: {error}",
            fix="Run 'bddn fit' again with another --out.",
        ) from error


def _refuse(run: Run, name: str, words: Sequence[str]) -> None:
    if words:
        raise MismatchError(
            f"network '{name}'",
            expected=f"the network of run {run.folder}",
            got=f"a network that differs in: {'; '.join(words)}",
            fix=AS_EXTRACTED,
        )


def _only_layers(spec: CacheSpec, layers: tuple[str, ...]) -> CacheSpec:
    """Return the spec with only the layers of a run if this keeps the network."""
    if spec.backbone is None or not kind_of(spec).narrows:
        return spec
    return spec.model_copy(update={"backbone": spec.backbone.model_copy(update={"layers": layers})})
