"""Load weights into networks of the `transformers` library, completely or with an error."""

import difflib
import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bddn.backbones.family_kind import OPEN_CLIP_CONFIG, Family
from bddn.backbones.weights import convert
from bddn.backbones.weights.loading import (
    SHOWN,
    UNREADABLE,
    common_prefix,
    first_line,
    keep_transformers_quiet,
    refuse_architecture,
    refuse_misfits,
)
from bddn.backbones.weights.local import OPEN_CLIP_FILES, TRANSFORMERS_FILES, file_of, folder_of
from bddn.errors import BackboneError, SpecError
from bddn.files.filekind import explain_folder
from bddn.machine.settings import seeded
from bddn.spec import WeightsSpec
from bddn.text import shorten

ADAPTER = "adapter_config.json"
MERGE = "Merge them in Python, by merge_and_unload() of peft and save_pretrained(), and give that folder."
# types of safetensors and of torch that are no weights; buffers of networks are int64 or bool
NO_WEIGHTS = ("I8", "U8", "I16", "U16", "C64", torch.int8, torch.uint8, torch.int16, torch.uint16, torch.complex64)
POOLING = "add_pooling_layer"  # an option of many constructors
INITIAL_STD = 0.02  # of random weights: the default of all classes but SAM, whose 1e-10 gives almost zero outputs


def load(weights: WeightsSpec, family: Family, architecture: Mapping[str, Any]) -> Any:
    """Return the model, in float32 on the CPU, with all weights.

    Parameters
    ----------
    weights : WeightsSpec
        Their place.
    family : Family
        The class.
    architecture : mapping
        Fields of the class's configuration, with which weights must agree.

    Raises
    ------
    BackboneError, SpecError
        If weights are missing, do not fit, or have another architecture.
    """
    keep_transformers_quiet()
    if weights.random is not None:
        with seeded(weights.random):
            return untrained(family, architecture, INITIAL_STD)
    if weights.format is not None:
        return _converted(family, architecture, file_of(weights), weights.format)
    folder = folder_of(weights)
    open_clip = [folder / name for name in OPEN_CLIP_FILES if (folder / name).is_file()]
    if (
        family.model == "CLIPVisionModel"
        and open_clip
        and not any(path.name.startswith(TRANSFORMERS_FILES) for path in folder.iterdir())
    ):
        _check_open_clip(folder, architecture)
        return _converted(family, architecture, open_clip[0], "open_clip")
    model = _pretrained(family, folder)
    refuse_architecture(weights.place, _differences(model.config.to_dict(), architecture))
    return model


def untrained(family: Family, architecture: Mapping[str, Any], initial_std: float | None = None) -> Any:
    """Return a model with the initial weights of its constructor, on torch's current device.

    Parameters
    ----------
    family : Family
    architecture : mapping
        Fields of the class's configuration.
    initial_std : float, optional
        Standard deviation of initial weights, where the class has a setting for it.
    """
    model_class = class_of(family.model)
    known = model_class.config_class().to_dict()
    unknown = sorted(architecture.keys() - known.keys())
    if unknown or not architecture:
        raise SpecError(
            "backbone.architecture",
            expected=f"fields of {model_class.config_class.__name__}",
            got=f"unknown: {', '.join(unknown)}" if unknown else "no fields, so the network cannot be built",
            fix="Correct it in the spec; the specs in cache_specs/ are examples.",
        )
    std = {"initializer_range": initial_std} if initial_std is not None and "initializer_range" in known else {}
    try:
        return model_class(model_class.config_class(**{**architecture, **std}), **family.options).eval()
    except Exception as error:
        raise SpecError(
            "backbone.architecture",
            expected=f"a network of class {family.model}",
            got=first_line(error),
            fix="Correct these fields in the spec.",
        ) from error


def class_of(name: str) -> Any:
    """Return a class of networks that transformers itself exports.

    Raises
    ------
    SpecError
        If there is none of this name.
    """
    import transformers

    found = getattr(transformers, name, None)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        near = difflib.get_close_matches(name, [one for one in dir(transformers) if one[0].isupper()], n=3)
        raise SpecError(
            "backbone.model",
            expected=f"a class of networks that transformers {transformers.__version__} exports",
            got=name,
            fix=f"Did you mean {' or '.join(near)}?" if near else "Correct it, or update transformers.",
        )
    return found


def _differences(config: Mapping[str, Any], architecture: Mapping[str, Any], place: str = "") -> list[str]:
    """Return a text for each field of an architecture that differs in the configuration of weights."""
    texts = []
    for name, value in architecture.items():
        found = config.get(name)
        if isinstance(value, Mapping) and isinstance(found, Mapping):
            texts += _differences(found, value, f"{place}{name}.")
        elif json.dumps(found, sort_keys=True) != json.dumps(value, sort_keys=True):
            texts.append(f"{place}{name} {json.dumps(value)} → {json.dumps(found)}")
    return texts


def _converted(family: Family, architecture: Mapping[str, Any], path: Path, source: convert.Format) -> Any:
    model = untrained(family, architecture)
    convert.load_converted(model, path, source)
    return model


def _check_open_clip(folder: Path, architecture: Mapping[str, Any]) -> None:
    """Raise a BackboneError if the file of open_clip beside its weights tells another activation or number of heads,
    which do not show in the weights."""
    path = folder / OPEN_CLIP_CONFIG
    if not path.is_file():
        return
    try:
        told = json.loads(path.read_bytes())["model_cfg"]
        tower = told["vision_cfg"]
        heads = tower.get("width", 768) // tower.get("head_width", 64)
        act = "quick_gelu" if told.get("quick_gelu") else "gelu"
    except (ValueError, LookupError, TypeError, AttributeError):  # of a kind that open_clip itself may not read
        return
    config = class_of("CLIPVisionModel").config_class(**architecture)
    own = {"hidden_act": config.hidden_act, "num_attention_heads": config.num_attention_heads}
    differ = _differences({"hidden_act": act, "num_attention_heads": heads}, own)
    refuse_architecture(folder, [f"{text} in {OPEN_CLIP_CONFIG}" for text in differ])


def _pretrained(family: Family, folder: Path) -> Any:
    config = folder / "config.json"
    if (folder / ADAPTER).is_file():  # transformers would apply it where peft is installed, and else leave it out
        raise BackboneError(
            folder,
            expected="all weights of a network",
            got=f"{ADAPTER}: an adapter, such as LoRA, to the weights of another network",
            fix=MERGE,
        )
    if not config.is_file():
        got, fix = "a folder without config.json", "Correct weights.folder in the spec, or give --weights."
        got, fix = explain_folder(folder, [config.name], got, fix)
        raise BackboneError(
            folder,
            expected="a folder in the Hugging Face format, with config.json and model.safetensors",
            got=got,
            fix=fix,
        )
    model_class = class_of(family.model)
    settings = model_class.config_class
    prefix = {} if family.tower is None else {"key_mapping": {rf"^(model\.)?{re.escape(family.tower)}\.": ""}}
    try:
        fields = json.loads(config.read_bytes())
        kind, kinds = fields.get("model_type"), family.kinds or (settings.model_type,)
        part = None if family.kinds else fields.get(settings.base_config_key)  # the configuration of a tower
        if kind not in kinds and part is not None:  # some publishers give it the model_type of the whole
            kind, kinds = part.get("model_type", kind), (*kinds, kind)
        if kind not in kinds:
            raise ValueError(f"model_type '{kind}' in config.json, not {' or '.join(kinds)}")
        _check_files(folder, fields, family)
        model, info = model_class.from_pretrained(
            folder,
            dtype=torch.float32,  # the checkpoint may be in half precision
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # listed below
            local_files_only=True,
            trust_remote_code=False,
            **prefix,
            **family.options,
        )
    except BackboneError:
        raise
    except Exception as error:
        fix = UNREADABLE
        names = sorted(path.name for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".bin"))
        got = "a pickle with more than tensors" if "weights_only" in str(error) else first_line(error)
        if isinstance(error, OSError) and not _index(folder)[0]:
            got = f"neither {' nor '.join(TRANSFORMERS_FILES)}, nor an index of their shards"
            fix = (
                "Save the network with save_pretrained(); weights that training split over processes are merged first."
            )
        got, fix = explain_folder(folder, names, got, fix)
        raise BackboneError(folder, expected=f"weights of a {family.model}", got=got, fix=fix) from error
    left = [key for key in info["unexpected_keys"] if _is_of_blocks(key, model)]
    misfits = {
        "missing": sorted(info["missing_keys"]),
        "of another shape": sorted(f"{key} {tuple(a)} for {tuple(b)}" for key, a, b in info["mismatched_keys"]),
        "of blocks that config.json does not contain": sorted(left),
    }
    expected = f"the weights of a {family.model}, all and only those"
    fix = "Use a checkpoint of this architecture."
    if before := common_prefix(misfits["missing"], info["unexpected_keys"]):
        fix = f"Save the weights with names that do not begin with '{before}.', and give that folder."
        if not family.kinds:
            fix = (
                f"Set tower: {before} in the spec if this is a part of a larger network; it must be of the same class."
            )
    if any(".base_layer." in key for key in info["unexpected_keys"]):
        fix = MERGE
    has_option = POOLING in inspect.signature(model_class.__init__).parameters
    if has_option and all("pool" in key for keys in misfits.values() for key in keys):
        fix = f"Set options: {{{POOLING}: false}} in the spec, because no block needs the pooling."
    refuse_misfits(folder, expected, misfits, fix)
    return model


def _check_files(folder: Path, config: Mapping[str, Any], family: Family) -> None:
    """Raise a BackboneError if weights are integers or complex numbers, which transformers would take for values, or in
    more than one file of an index, of which it would take the last."""
    quantization = config.get("quantization_config")
    got = f"quantized ones: quantization_config of config.json says {quantization}" if quantization else ""
    index, place_of = _index(folder)
    for name in () if got else sorted(set(place_of.values())):
        types = {key: one for key, one in _types(folder / name).items() if (family.tower or "") in key}
        got = got or next((f"{key} of type {one}" for key, one in types.items() if one in NO_WEIGHTS), "")
        twice = [key for key in types if place_of.get(key, name) != name]
        if twice:
            raise BackboneError(
                folder,
                expected=f"each weight only in the file that {index} names",
                got=f"{len(twice)} of them also in {name}: {shorten(twice, SHOWN)}",
                fix="Use the folder as it was published, or save the network into an empty folder.",
            )
    if got:
        raise BackboneError(
            folder,
            expected="weights in float32, float16 or bfloat16",
            got=got,
            fix="Use the weights as they were before they were quantized.",
        )


def _index(folder: Path) -> tuple[str, dict[str, str]]:
    """Return the name of the file, or of the index of files, that transformers reads, and the file of each weight."""
    for name in TRANSFORMERS_FILES:
        if (folder / name).is_file():
            return name, {"": name}
        if (folder / f"{name}.index.json").is_file():
            return f"{name}.index.json", json.loads((folder / f"{name}.index.json").read_bytes())["weight_map"]
    return "", {}


def _types(path: Path) -> dict[str, Any]:
    """Return the type of each tensor of a file of weights."""
    from safetensors import safe_open

    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            return {key: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    found = torch.load(path, map_location="meta", weights_only=True)
    return {key: one.dtype for key, one in found.items() if isinstance(one, torch.Tensor)}


def _is_of_blocks(key: str, model: Any) -> bool:
    """Return whether an unknown key belongs to a list of modules of a network, such as its blocks, and not to a head or
    another part of a larger network, which may have lists of the same names."""
    keys = (key, key.removeprefix(f"{model.base_model_prefix}."))  # which files of a network with a head have first
    lists = [f"{name}." for name, one in model.named_modules() if isinstance(one, nn.ModuleList | nn.Sequential)]
    return any(one.startswith(tuple(lists)) for one in keys)
