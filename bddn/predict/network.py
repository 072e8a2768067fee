"""The network that a run was fitted through: where it may come from, and that it is this very one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bddn.backbones.backbone import Backbone
from bddn.backbones.fetch import is_here, is_remote
from bddn.backbones.kind import kind_of
from bddn.backbones.registry import load_specs, open_backbone
from bddn.backbones.weights import not_downloaded
from bddn.errors import BddnError, MismatchError, RunError
from bddn.extract.source import network_identity
from bddn.identity import Identity
from bddn.machine.parallel import choose_device
from bddn.machine.settings import own_settings
from bddn.run import Run
from bddn.spec import CacheSpec

AS_EXTRACTED = "Give --spec and --weights as they were given to 'bddn extract'."


@dataclass(frozen=True)
class Network:
    """The network that a run was fitted through, open on a device; `made_with` what changes last bits of its tokens
    only, device and versions of libraries, and in words how these are `others` than those of the cache."""

    name: str
    spec: CacheSpec
    backbone: Backbone
    device: str
    made_with: dict[str, str]
    others: list[str]


def specs_of(run: Run) -> dict[str, CacheSpec]:
    """Specs that can be called by name and may be that of the run's cache, as far as is told without opening them."""
    about = cache_of(run)
    return {
        name: spec
        for name, spec in load_specs().items()
        if spec.backbone is not None
        and spec.identity() == about["spec"]
        and kind_of(spec).may_be(spec, run.layers, about["backbone"])
    }


@own_settings()
def open_network(run: Run, specs: Mapping[str, CacheSpec], device: str = "auto") -> Network:
    """Open the network that a run was fitted through.

    Parameters
    ----------
    run : Run
    specs : mapping of str to CacheSpec
        Where it may come from, by name; the first that gives this very network is taken.
    device : {'auto', 'cpu', 'cuda'}

    Raises
    ------
    BddnError
        Where none of them does: its weights are not here, or it is another network.
    """
    device, refused = choose_device(device), dict[str, BddnError]()
    for name, spec in specs.items():
        try:
            # before its weights are asked for
            before = Identity(cache_of(run)).only("spec")
            _refuse(run, name, before.differences(Identity({"spec": spec.identity()})))
            if spec.weights is not None and is_remote(spec) and not is_here(spec):
                raise not_downloaded(spec.weights, name)
            only = _only(spec, run.layers)
            return check_network(run, name, only, open_backbone(only, device), device)
        except BddnError as error:
            refused[name] = error
    if len(refused) == 1:
        raise next(iter(refused.values()))
    about = cache_of(run)["backbone"]
    raise MismatchError(
        run.folder,
        expected=f"its network, a {about['class']} with weights {about['weights_sha256'][:16]}",
        got="; ".join(f"{name}: {error.got}" for name, error in refused.items())
        or "no spec in cache_specs/ that could be it",
        fix=AS_EXTRACTED,
    )


@own_settings()
def check_network(run: Run, name: str, spec: CacheSpec, backbone: Backbone, device: str) -> Network:
    """Take a backbone that is open, as `bddn.backbones.from_module` gives it, for the network of a run.

    Parameters
    ----------
    run : Run
    name : str
        For messages.
    spec : CacheSpec
    backbone : Backbone
    device : {'cpu', 'cuda'}
        Where it is.

    Raises
    ------
    MismatchError
        Where spec, weights or architecture are not those of the run's cache, or a layer of the run is not given.
    """
    before, now = Identity(cache_of(run)), network_identity(spec, backbone, device)
    words = before.only("spec", "backbone").differences(now.only("spec", "backbone"))
    _refuse(run, name, [*words, *(f"no layer '{layer}'" for layer in run.layers if layer not in backbone.layers)])
    made_with = now.parts["made_with"]
    others = Identity(before.parts["made_with"]).differences(Identity(made_with))
    return Network(name, spec, backbone, device, made_with, others)


def cache_of(run: Run) -> dict[str, Any]:
    """What the run says of the cache that it was fitted on: `digest`, `spec`, `backbone` and `made_with`.

    Raises
    ------
    RunError
        Where it says nothing.
    """
    try:
        return {key: run.about["cache"][key] for key in ("digest", "spec", "backbone", "made_with")}
    except (KeyError, TypeError) as error:
        raise RunError(
            run.folder / "run.json",
            expected="what the run was fitted on, as 'bddn fit' wrote it",
            got=f"{type(error).__name__}: {error}",
            fix="Fit again.",
        ) from error


def _refuse(run: Run, name: str, words: Sequence[str]) -> None:
    if words:
        raise MismatchError(
            f"network '{name}'",
            expected=f"the one that {run.folder} was fitted through",
            got=f"one that differs in: {'; '.join(words)}",
            fix=AS_EXTRACTED,
        )


def _only(spec: CacheSpec, layers: tuple[str, ...]) -> CacheSpec:
    """The spec with the layers of a run, where these do not make another network."""
    if spec.backbone is None or not kind_of(spec).narrows:
        return spec
    return spec.model_copy(update={"backbone": spec.backbone.model_copy(update={"layers": layers})})
