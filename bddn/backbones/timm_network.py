"""Open a network of the library timm, with hooks on its submodules. timm never downloads here."""

import difflib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bddn.backbones.family_kind import CONFIG
from bddn.backbones.module import HookedModule, Library
from bddn.backbones.preprocess import squash
from bddn.backbones.timm_kind import BLOCKS, PACKAGE
from bddn.backbones.weights.convert import read_checkpoint
from bddn.backbones.weights.loading import first_line, refuse_misfits
from bddn.backbones.weights.local import TRANSFORMERS_FILES, file_of, folder_of
from bddn.errors import BackboneError, SpecError
from bddn.machine.settings import seeded
from bddn.spec import CacheSpec, TimmSpec
from bddn.tokens import Prefix

NOT_SIZES = {  # arguments of timm.create_model that choose weights, or return something else than the network
    *("cache_dir", "checkpoint_path", "exportable", "features_only", "in_chans", "no_jit", "num_classes", "pretrained"),
    *("pretrained_cfg", "pretrained_cfg_overlay", "pruned", "scriptable"),
}
NOT_OF_TOKENS = NOT_SIZES | {"global_pool", "img_size", "weight_init"}
"""Arguments of a saved network, besides rates of dropout, that a spec need not have."""
LONGEST = 400  # characters of an error of timm


def open_timm(spec: CacheSpec, device: str = "cpu") -> HookedModule:
    """Return the network of a spec whose backbone has `family: timm`.

    Positions are adapted to `image_size` by timm, where the network is built for one size.

    Raises
    ------
    BackboneError
        If timm is not installed, or weights are missing or do not fit: every weight of the network must be in the file,
        and no other.
    SpecError
        If timm has no such network, or the network does not support the spec.
    """
    about = spec.section(TimmSpec)
    timm = _timm()
    saved = _saved(spec)
    _check_saved(timm, spec, saved)
    pixels = {name: value for name, value in saved.get("pretrained_cfg", {}).items() if name in ("mean", "std")}
    settings = _settings(timm, about) | pixels
    options = dict(about.architecture)
    if settings["fixed_input_size"]:
        options.setdefault("img_size", list(spec.image_hw))
    module = _built(timm, spec, options, _state(spec), settings)
    _check_size(spec, module)
    mean, std = (tuple(settings[name]) for name in ("mean", "std"))
    native = partial(squash, size=spec.image_hw, mean=mean, std=std) if spec.preprocess == "native" else None
    answers = about if about.layers is not None else about.model_copy(update={"layers": (BLOCKS,)})
    built_from = {PACKAGE: {"model": about.model, "architecture": about.architecture}}
    return HookedModule(module, answers, native, spec, device, Library(PACKAGE, built_from, _prefix(module)))


def _timm() -> Any:
    try:
        import timm
    except Exception as error:  # torchvision, which timm needs, fails in several ways if it does not fit torch
        absent = isinstance(error, ModuleNotFoundError) and error.name == PACKAGE
        raise BackboneError(
            "family timm",
            expected="the package timm, and torchvision of the same build as torch",
            got="no timm" if absent else first_line(error),
            fix="Install it: pip install 'bddn[timm]'.",
        ) from error
    return timm


def _settings(timm: Any, about: TimmSpec) -> dict[str, Any]:
    """Return timm's settings of a network and tag: mean, std, fixed_input_size."""
    if not timm.is_model(about.model):
        known = timm.list_models(pretrained=False)
        near = difflib.get_close_matches(about.model.partition(".")[0], known, n=3)
        raise SpecError(
            f"model '{about.model}'",
            expected=f"one of the {len(known)} networks of timm {timm.__version__}",
            got="no such network",
            fix=f"Did you mean {' or '.join(near)}?" if near else "timm.list_models() lists them.",
        )
    try:
        found: dict[str, Any] = vars(timm.models.get_pretrained_cfg(about.model, allow_unregistered=False))
    except RuntimeError as error:
        tags = timm.list_pretrained(f"{about.model.partition('.')[0]}.*")
        raise SpecError(
            f"model '{about.model}'",
            expected=f"a tag of weights that timm knows: {', '.join(tags) or 'none for this network'}",
            got=first_line(error),
            fix="Correct the part after the dot, or leave it out.",
        ) from error
    return found


def _saved(spec: CacheSpec) -> dict[str, Any]:
    """Return what the config.json beside the weights says of their network: architecture, model_args, pretrained_cfg.
    Empty if there is none of timm."""
    weights = spec.weights
    assert weights is not None
    if weights.hub is None and weights.folder is None:
        return {}
    path = folder_of(weights) / CONFIG
    try:
        found = json.loads(path.read_bytes()) if path.is_file() else {}
    except ValueError as error:
        raise BackboneError(
            path, expected="a file of JSON", got=first_line(error), fix="Restore it, or delete it."
        ) from error
    parts = [found.get(name, {}) for name in ("pretrained_cfg", "model_args")] if isinstance(found, dict) else [None]
    return found if "architecture" in found and all(isinstance(part, dict) for part in parts) else {}


def _check_saved(timm: Any, spec: CacheSpec, saved: Mapping[str, Any]) -> None:
    """Raise a BackboneError if the spec names another network than the config.json beside the weights, which may fit
    the weights, and yet compute something else: with another activation or number of heads."""
    about = spec.section(TimmSpec)
    own, told = about.model.partition(".")[0], str(saved.get("architecture", ""))
    arguments = {
        name: value
        for name, value in saved.get("model_args", {}).items()
        if name not in NOT_OF_TOKENS and not name.endswith("_rate")
    }
    differ = {name: value for name, value in arguments.items() if about.architecture.get(name) != value}
    other = told if timm.is_model(told) and told != own else ""
    if other or differ:
        raise BackboneError(
            folder_of(spec.weights) if spec.weights else spec.title,
            expected=f"{f'model: {other}' if other else ''}{' and ' if other and differ else ''}"
            f"{f'architecture with {json.dumps(differ)}' if differ else ''}, as {CONFIG} of the weights says",
            got=f"model: {about.model}, architecture: {json.dumps(about.architecture)}",
            fix="Correct them in the spec, or use other weights.",
        )


def _n_classes(settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> int | None:
    """Return for how many classes the weights have a classifier: those of another training have other classes than
    timm's. None if its name in the file is not known."""
    given = settings.get("classifier")
    names = (given,) if isinstance(given, str) else tuple(given or ())
    found = next((state[f"{name}.weight"] for name in names if f"{name}.weight" in state), None)
    if found is not None:
        return len(found)
    first = tuple(name.partition(".")[0] for name in names)
    return None if any(key.startswith(first) and value.ndim > 1 for key, value in state.items()) or not names else 0


def _built(
    timm: Any,
    spec: CacheSpec,
    options: Mapping[str, Any],
    state: dict[str, Tensor] | None,
    settings: Mapping[str, Any],
) -> nn.Module:
    """Return the network with all of its weights. timm converts older names, and resizes position codes."""
    about, weights = spec.section(TimmSpec), spec.weights
    assert weights is not None
    if others := sorted(NOT_SIZES & about.architecture.keys()):
        raise SpecError(
            "backbone.architecture",
            expected="arguments of the network only",
            got=", ".join(others),
            fix="Delete them from the spec.",
        )
    given: dict[str, Any] = {}
    if state is not None:
        overlay = {"state_dict": state, "custom_load": False}
        if (n := _n_classes(settings, state)) is not None:
            given["num_classes"] = n
            overlay |= {"num_classes": n, "label_offset": 0}  # or timm would leave the classifier out, and not check it
        given["pretrained_cfg_overlay"] = overlay
    try:
        with seeded(weights.random or 0):
            module: nn.Module = timm.create_model(about.model, pretrained=state is not None, **given, **options)
    except Exception as error:
        if state is None or isinstance(error, TypeError):
            raise SpecError(
                "backbone.architecture",
                expected=f"arguments of {about.model}",
                got=first_line(error)[:LONGEST],
                fix="Correct these fields, or image_size, in the spec.",
            ) from error
        raise BackboneError(
            weights.place,
            expected=f"the weights of {about.model}, all and only those",
            got=first_line(error)[:LONGEST],
            fix="Use weights of this network, or correct model and architecture in the spec.",
        ) from error
    getattr(module, "pretrained_cfg", {}).pop("state_dict", None)  # a copy of the weights
    return module


def _state(spec: CacheSpec) -> dict[str, Tensor] | None:
    """Return the weights of the spec by timm's names; None if they are random."""
    weights = spec.weights
    assert weights is not None
    if weights.random is not None:
        return None
    if weights.format is not None:
        if weights.format != PACKAGE:
            raise SpecError(
                f"spec '{spec.title}'",
                expected="weights of format: timm, because the family is timm",
                got=f"format: {weights.format}",
                fix="Use a file in timm's names, or another family.",
            )
        return _values(file_of(weights))
    folder = folder_of(weights)
    paths = [folder / name for name in TRANSFORMERS_FILES if (folder / name).is_file()]
    return _values(paths[0] if paths else folder / TRANSFORMERS_FILES[0])


def _values(path: Path) -> dict[str, Tensor]:
    """Return the weights of a file; raise a BackboneError if some are small integers, which torch would take for
    values."""
    state = read_checkpoint(path)
    quantized = [f"{name} of type {one.dtype}" for name, one in state.items() if one.dtype in (torch.int8, torch.uint8)]
    fix = "Use the weights as they were before they were quantized."
    refuse_misfits(path, "weights in float32, float16 or bfloat16", {"quantized": quantized}, fix)
    return state


def _prefix(module: Any) -> Prefix | None:
    """Return the CLS tokens and registers of a network's sequences, if it tells them."""
    n: int | None = getattr(module, "num_prefix_tokens", None)
    if n is None:
        return None
    n_cls = int(n > 0 and getattr(module, "cls_token", None) is not None)
    return n_cls, n - n_cls


def _check_size(spec: CacheSpec, module: Any) -> None:
    embed = getattr(module, "patch_embed", None)
    patch = getattr(embed, "patch_size", None)
    overlaps = getattr(getattr(embed, "proj", None), "stride", patch) != patch  # as in PVT v2: any size is filled
    if overlaps or not isinstance(patch, tuple) or all(n % p == 0 for n, p in zip(spec.image_hw, patch, strict=True)):
        return
    raise SpecError(
        f"spec '{spec.title}'",
        expected=f"image_size to be a multiple of the patch size {' × '.join(map(str, patch))}",
        got=" × ".join(map(str, spec.image_hw)),
        fix="Correct image_size in the spec.",
    )
