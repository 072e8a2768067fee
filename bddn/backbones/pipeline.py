"""The parts of a Stable Diffusion pipeline, from a folder of diffusers or with random weights.

The folder has the subfolders unet, vae, text_encoder, tokenizer and scheduler. Only the configuration of the scheduler
is used, not its class: noise levels, and what the U-Net predicts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bddn.backbones.loading import first_line, keep_transformers_quiet, refuse_architecture, refuse_misfits
from bddn.backbones.weights import folder_of
from bddn.errors import BackboneError, BddnError, SpecError
from bddn.files.filekind import explain, explain_folder
from bddn.spec import CacheSpec, DiffusionSpec

CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
SCHEDULER = Path("scheduler") / "scheduler_config.json"
FILES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "pytorch_model"}


@dataclass(frozen=True)
class Pipeline:
    """Frozen models in float32 on the CPU, the scheduler of the inversion, and the ids (1, T) of the empty prompt."""

    unet: Any
    vae: Any
    text_encoder: Any
    scheduler: Any
    prompt: Tensor

    def configs(self) -> dict[str, dict[str, Any]]:
        """Return the configurations as JSON types, without private fields of the libraries (`_…`)."""
        found = {
            "unet": dict(self.unet.config),
            "vae": dict(self.vae.config),
            "text_encoder": self.text_encoder.config.to_dict(),
            "scheduler": dict(self.scheduler.config),
        }
        return {part: _plain(config) for part, config in found.items()}


def load(spec: CacheSpec) -> Pipeline:
    """Return the pipeline with all weights from the place in the spec.

    Raises
    ------
    BackboneError, SpecError
        If parts or weights are missing, do not fit together, or have another architecture.
    """
    assert spec.weights is not None
    weights, architecture = spec.weights, spec.section(DiffusionSpec).architecture
    unknown = sorted(architecture.keys() - {*CLASSES, "scheduler"})
    if unknown:
        raise SpecError(
            "backbone.architecture",
            expected="some of unet, vae, text_encoder and scheduler",
            got=", ".join(unknown),
            fix="Correct it in the spec.",
        )
    if weights.format is not None:
        raise SpecError(
            weights.place,
            expected="a pipeline folder of diffusers",
            got=f"a checkpoint in the format {weights.format}",
            fix="Give weights.hub or weights.folder.",
        )
    _quiet()
    if weights.random is not None:
        parts = _untrained(architecture, weights.random)
    else:
        parts = _from_folder(folder_of(weights))
        _check_architecture(parts, architecture, weights.place)
    _check_fit(parts, weights.place)
    for model in (parts.unet, parts.vae, parts.text_encoder):
        model.eval().requires_grad_(False)
    return parts


def set_steps(scheduler: Any, n_steps: int) -> None:
    """Set the timesteps of the inversion. Afterwards `step` does not change the scheduler.

    Raises
    ------
    SpecError
        If there are too many.
    """
    n_train = scheduler.config.num_train_timesteps
    if n_steps <= n_train:
        scheduler.set_timesteps(n_steps)
    if n_steps > n_train or scheduler.timesteps[-1] >= n_train:
        raise SpecError(
            "backbone.n_steps",
            expected=f"fewer steps than the {n_train} noise levels of the network",
            got=str(n_steps),
            fix="Correct n_steps in the spec.",
        )


def _from_folder(folder: Path) -> Pipeline:
    names = (*CLASSES, "tokenizer", "scheduler")
    gone = [name for name in names if not (folder / name).is_dir()]
    if gone:
        raise BackboneError(
            folder,
            expected=f"a pipeline folder of diffusers, with {', '.join(names)}",
            got=f"a folder without {', '.join(gone)}",
            fix="Correct weights in the spec, or give --weights.",
        )
    try:
        config = dict(json.loads((folder / SCHEDULER).read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise _not_readable(folder / SCHEDULER, "the configuration of a scheduler", error) from error
    scheduler = _scheduler(config, folder / SCHEDULER)
    unet, vae, text_encoder = (_pretrained(part, folder / part) for part in CLASSES)
    return Pipeline(unet, vae, text_encoder, scheduler, _empty_prompt(folder / "tokenizer", text_encoder))


def _scheduler(config: Mapping[str, Any], place: object) -> Any:
    """Return the scheduler of the inversion.

    Predicted clean latents are never clipped, even if the configuration says so: they are not limited to [-1, 1].
    """
    from diffusers import DDIMInverseScheduler

    scheduler_class: Any = DDIMInverseScheduler
    try:
        scheduler = scheduler_class.from_config(dict(config), clip_sample=False)
        scheduler.set_timesteps(1)  # raises an error for some spacings
    except Exception as error:
        raise _not_readable(place, "the configuration of a scheduler that can be inverted", error) from error
    return scheduler


def _pretrained(part: str, folder: Path) -> Any:
    name = CLASSES[part]
    # float32, because the checkpoint may be in half precision
    options: dict[str, Any] = {"dtype": torch.float32}
    if part != "text_encoder":
        options = {"torch_dtype": torch.float32, "low_cpu_mem_usage": False}
    # Pickles are read only if there is nothing else; both libraries read them as plain tensors (weights_only).
    safetensors = any(folder.glob("*.safetensors")) or not (folder / f"{FILES[part]}.bin").is_file()
    try:
        kind = json.loads((folder / "config.json").read_bytes()).get("_class_name", name)
        if kind != name:
            raise ValueError(f"a {kind} in config.json")
        model, info = _class(part).from_pretrained(
            folder,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # listed below
            local_files_only=True,
            use_safetensors=safetensors,
            **options,
        )
    except Exception as error:
        raise _not_readable(folder, f"weights of a {name}", error) from error
    misfits = {
        "missing": sorted(info["missing_keys"]),
        "of another shape": sorted(str(key) for key in info["mismatched_keys"]),
        "unknown": sorted(info["unexpected_keys"]),
    }
    refuse_misfits(folder, f"the weights of a {name}, all and only those", misfits, "Use weights that fit config.json.")
    return model


def _empty_prompt(folder: Path, text_encoder: Any) -> Tensor:
    from transformers import CLIPTokenizer

    length, size = text_encoder.config.max_position_embeddings, text_encoder.config.vocab_size
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        ids = tokenizer("", padding="max_length", max_length=length, truncation=True, return_tensors="pt")["input_ids"]
        if int(ids.max()) >= size:
            raise ValueError(f"id {int(ids.max())}, where the text encoder knows {size}")
    except Exception as error:
        raise _not_readable(folder, "a CLIP tokenizer", error) from error
    return torch.as_tensor(ids)


def _untrained(architecture: Mapping[str, Mapping[str, Any]], seed: int) -> Pipeline:
    from diffusers import DDIMScheduler, PNDMScheduler
    from transformers import CLIPTextConfig

    gone = sorted({*CLASSES, "scheduler"} - architecture.keys())
    known = {  # constructors of the other parts check their fields
        "text_encoder": CLIPTextConfig().to_dict().keys(),
        "scheduler": {name for kind in (DDIMScheduler, PNDMScheduler) for name in signature(kind).parameters},
    }
    unknown = [f"{part}.{name}" for part in known for name in architecture.get(part, {}) if name not in known[part]]
    if gone or unknown:
        raise SpecError(
            "backbone.architecture",
            expected="unet, vae, text_encoder and scheduler, from which the network is built",
            got=f"no {', '.join(gone)}" if gone else f"unknown: {', '.join(unknown)}",
            fix="Correct it in the spec.",
        )
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            unet, vae = (_class(part)(**architecture[part]) for part in ("unet", "vae"))
            text_encoder = _class("text_encoder")(CLIPTextConfig(**architecture["text_encoder"]))
    except Exception as error:
        raise SpecError(
            "backbone.architecture",
            expected="a network of Stable Diffusion",
            got=first_line(error),
            fix="Correct these fields in the spec.",
        ) from error
    size = text_encoder.config.vocab_size  # the last two ids are begin and end of a text
    ids = [size - 2] + [size - 1] * (text_encoder.config.max_position_embeddings - 1)
    scheduler = _scheduler(architecture["scheduler"], "backbone.architecture.scheduler")
    return Pipeline(unet, vae, text_encoder, scheduler, torch.tensor([ids]))


def _class(part: str) -> Any:
    import diffusers
    import transformers

    return getattr(transformers if part == "text_encoder" else diffusers, CLASSES[part])


def _check_architecture(parts: Pipeline, architecture: Mapping[str, Mapping[str, Any]], place: str) -> None:
    found = parts.configs()
    differ = [
        f"{part}.{name} {json.dumps(_plain(value))} → {json.dumps(found[part].get(name))}"
        for part, fields in architecture.items()
        for name, value in fields.items()
        if found[part].get(name) != _plain(value)
    ]
    refuse_architecture(place, differ)


def _check_fit(parts: Pipeline, place: str) -> None:
    """Check that the U-Net takes a latent and a text in the sizes of the other parts, and no other input."""
    unet, vae, text = parts.unet.config, parts.vae.config, parts.text_encoder.config
    pairs = {
        "in_channels": (unet.in_channels, vae.latent_channels),
        "out_channels": (unet.out_channels, vae.latent_channels),
        "cross_attention_dim": (unet.cross_attention_dim, text.hidden_size),
        "addition_embed_type": (unet.addition_embed_type, None),
        "class_embed_type": (unet.class_embed_type, None),
        "encoder_hid_dim_type": (unet.encoder_hid_dim_type, None),
        "shift_factor of the vae": (vae.shift_factor, None),
    }
    wrong = [f"{name} {has}, not {wants}" for name, (has, wants) in pairs.items() if has != wants]
    if wrong:
        raise BackboneError(
            place,
            expected="a U-Net of Stable Diffusion 1 or 2, which takes a latent of the vae and a text",
            got="; ".join(wrong),
            fix="Use the folder of a text-to-image pipeline.",
        )


def _plain(value: Mapping[str, Any] | Any) -> Any:
    """Return the value as JSON types, without keys that begin with an underscore."""
    if isinstance(value, Mapping):
        value = {name: of for name, of in value.items() if not name.startswith("_")}
    return json.loads(json.dumps(value))


def _not_readable(place: object, what: str, error: Exception) -> BddnError:
    got, fix = first_line(error), "Correct weights in the spec, or give --weights."
    if isinstance(place, Path) and place.is_dir():
        names = sorted(path.name for path in place.iterdir() if path.suffix in (".json", ".safetensors", ".bin"))
        got, fix = explain_folder(place, names, got, fix)
    elif isinstance(place, Path):
        got, fix = explain(place, got, fix)
    return BackboneError(place, expected=what, got=got, fix=fix)


def _quiet() -> None:
    from diffusers.utils import logging

    keep_transformers_quiet()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
