"""Load weights into the vision transformers of the `transformers` library, completely or with an error."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bddn.backbones import convert
from bddn.backbones.family_kind import FAMILIES, Family
from bddn.backbones.loading import first_line, keep_transformers_quiet, refuse_architecture, refuse_misfits
from bddn.backbones.weights import OPEN_CLIP_FILES, TRANSFORMERS_FILES, file_of, folder_of
from bddn.errors import BackboneError, SpecError
from bddn.files.filekind import explain_folder
from bddn.spec import CacheSpec, FamilySpec

INITIAL_STD = 0.02  # of random weights: the default of all classes but SAM, whose 1e-10 gives almost zero outputs


def load(spec: CacheSpec) -> Any:
    """Return the model, in float32 on the CPU, with all weights from the place in the spec.

    Raises
    ------
    BackboneError, SpecError
        If weights are missing, do not fit, or have another architecture.
    """
    assert spec.weights is not None
    keep_transformers_quiet()
    weights, about = spec.weights, spec.section(FamilySpec)
    family, architecture = FAMILIES[about.family], about.architecture
    if weights.random is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(weights.random)
            return untrained(family, {**architecture, "initializer_range": INITIAL_STD} if architecture else {})
    if weights.format is not None:
        return _converted(family, architecture, file_of(weights), weights.format)
    folder = folder_of(weights)
    open_clip = [folder / name for name in OPEN_CLIP_FILES if (folder / name).is_file()]
    if (
        about.family == "clip"
        and open_clip
        and not any(path.name.startswith(TRANSFORMERS_FILES) for path in folder.iterdir())
    ):
        return _converted(family, architecture, open_clip[0], "open_clip")
    model = _pretrained(family, folder)
    differ = [
        f"{name} {json.dumps(value)} → {json.dumps(getattr(model.config, name, None))}"
        for name, value in architecture.items()
        if json.dumps(getattr(model.config, name, None)) != json.dumps(value)
    ]
    refuse_architecture(weights.place, differ)
    return model


def untrained(family: Family, architecture: Mapping[str, Any]) -> Any:
    """Return a model with the initial weights of its constructor, on torch's current device."""
    import transformers

    model_class = getattr(transformers, family.model)
    known = model_class.config_class().to_dict()
    unknown = sorted(architecture.keys() - known.keys())
    if unknown or not architecture:
        raise SpecError(
            "backbone.architecture",
            expected=f"fields of {model_class.config_class.__name__}",
            got=f"unknown: {', '.join(unknown)}" if unknown else "no fields, so the network cannot be built",
            fix="Correct it in the spec; the specs in cache_specs/ are examples.",
        )
    try:
        return model_class(model_class.config_class(**architecture), **family.options).eval()
    except Exception as error:
        raise SpecError(
            "backbone.architecture",
            expected=f"a network of class {family.model}",
            got=first_line(error),
            fix="Correct these fields in the spec.",
        ) from error


def _converted(family: Family, architecture: Mapping[str, Any], path: Path, source: convert.Format) -> Any:
    model = untrained(family, architecture)
    convert.load_converted(model, path, source)
    return model


def _pretrained(family: Family, folder: Path) -> Any:
    import transformers

    config = folder / "config.json"
    if not config.is_file():
        got, fix = "a folder without config.json", "Correct weights.folder in the spec, or give --weights."
        got, fix = explain_folder(folder, [config.name], got, fix)
        raise BackboneError(
            folder,
            expected="a folder in the Hugging Face format, with config.json and model.safetensors",
            got=got,
            fix=fix,
        )
    try:
        kind = json.loads(config.read_bytes()).get("model_type")
        if kind not in family.kinds:
            raise ValueError(f"model_type '{kind}' in config.json, not {' or '.join(family.kinds)}")
        model, info = getattr(transformers, family.model).from_pretrained(
            folder,
            dtype=torch.float32,  # the checkpoint may be in half precision
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # listed below
            local_files_only=True,
            trust_remote_code=False,
            **family.options,
        )
    except Exception as error:
        fix = "Correct weights in the spec, or give --weights."
        names = sorted(path.name for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".bin"))
        got, fix = explain_folder(folder, names, first_line(error), fix)
        raise BackboneError(folder, expected=f"weights of a {family.model}", got=got, fix=fix) from error
    left = [key for key in info["unexpected_keys"] if _is_of_blocks(key)]
    misfits = {
        "missing": sorted(info["missing_keys"]),
        "of another shape": sorted(f"{key} {tuple(a)} for {tuple(b)}" for key, a, b in info["mismatched_keys"]),
        "of blocks that config.json does not contain": sorted(left),
    }
    expected = f"the weights of a {family.model}, all and only those"
    refuse_misfits(folder, expected, misfits, "Use a checkpoint of this architecture.")
    return model


def _is_of_blocks(key: str) -> bool:
    """Return whether an unknown key belongs to a block of a vision encoder, not to a head or another tower."""
    return ".layer" in f".{key}" and not any(word in key for word in ("text_model", "decoder", "prompt_encoder"))
