"""The parts of a diffusion pipeline, from a folder of diffusers or with random weights.

The folder has the subfolders of `diffusion_families`: unet or transformer, vae, text_encoder, tokenizer, scheduler.
Only the configuration of the scheduler is used, not its class: noise levels, and what a U-Net predicts.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bddn.backbones.backbone import add_weights
from bddn.backbones.diffusion.families import FAMILIES, T5, Family, encoders_of
from bddn.backbones.diffusion.pipeline_parts import Folder, Source, Untrained, keep_quiet, not_readable
from bddn.backbones.diffusion.prompt import Encoded, Text, encode, n_t5_tokens, read_text, text_of
from bddn.backbones.weights.loading import refuse_architecture
from bddn.backbones.weights.local import folder_of
from bddn.errors import BackboneError, SpecError
from bddn.spec import CacheSpec, DiffusionSpec

PREDICTIONS = ("epsilon", "sample", "v_prediction")  # of a DDIMInverseScheduler; for flow a config says nothing


@dataclass(frozen=True)
class Pipeline:
    """What a diffusion network needs to run.

    Attributes
    ----------
    network, vae
        Frozen models on the CPU. A transformer is in the precision of the forward pass, all others in float32.
    scheduler
        That of the inversion.
    text : Text
    configs : mapping of str to mapping
        Configurations of all models and of the scheduler as JSON types, without private fields of the libraries (`_…`).
    weights_sha256 : str
        Of all models.
    """

    network: Any
    vae: Any
    scheduler: Any
    text: Text
    configs: Mapping[str, Mapping[str, Any]]
    weights_sha256: str


def load(spec: CacheSpec) -> Pipeline:
    """Return the pipeline with all weights from the place in the spec. Text encoders are in memory one at a time.

    Raises
    ------
    BackboneError, SpecError
        If parts or weights are missing, do not fit together, or have another architecture.
    """
    assert spec.weights is not None
    weights, about = spec.weights, spec.section(DiffusionSpec)
    family, encoders = FAMILIES[about.family], encoders_of(about)
    allowed = (*family.parts, "scheduler")
    unknown = sorted(about.architecture.keys() - set(allowed))
    if unknown:
        raise SpecError(
            "backbone.architecture",
            expected=f"some of {', '.join(allowed[:-1])} and scheduler",
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
    text = read_text(Path(about.text)) if about.text.endswith(".safetensors") else None
    keep_quiet()
    parts = (family.network, "vae", *encoders)
    source: Source
    if weights.random is not None:
        source = Untrained(about, parts, weights.random)
    else:
        source = Folder(folder_of(weights), family, parts)
    scheduler = _scheduler(family, *source.scheduler())
    dtype = getattr(torch, spec.autocast) if family.is_flow and spec.autocast else torch.float32
    digest = hashlib.sha256()
    models: dict[str, Any] = {}
    configs: dict[str, dict[str, Any]] = {}
    encoded: dict[str, Encoded] = {}
    for part in sorted(parts):  # in the order of the names of all weights
        wanted = dtype if part == family.network else torch.float32
        model = source.model(part, wanted).eval().requires_grad_(False)
        for weight in model.parameters():  # diffusers keeps the file's precision if its first tensor has the wanted one
            weight.data = weight.data.to(wanted)
        add_weights(digest, model.state_dict(), f"{part}.")
        configs[part] = plain(model.config.to_dict() if part in encoders else model.config)
        if part not in encoders:
            models[part] = model
        elif encoders[part] == T5:
            encoded[part] = encode(model, n_t5_tokens(about.family, source.config(family.network)))
        else:
            encoded[part] = encode(model, source.clip_prompt(part, model))
        del model
    configs["scheduler"] = plain(scheduler.config)
    if weights.random is None:
        _check_architecture(configs, about.architecture, weights.place)
    network, vae = models[family.network], models["vae"]
    if text is None:
        text = text_of(about, encoded, network.config)
    _check_fit(about.family, network, vae, text, weights.place)
    return Pipeline(network, vae, scheduler, text, configs, digest.hexdigest())


def _scheduler(family: Family, config: Mapping[str, Any], place: object) -> Any:
    """Return the scheduler of the inversion.

    Predicted clean latents are never clipped, even if the configuration says so: they are not limited to [-1, 1].
    """
    import diffusers

    kind: Any = diffusers.FlowMatchEulerDiscreteScheduler if family.is_flow else diffusers.DDIMInverseScheduler
    try:
        scheduler = kind.from_config(dict(config), **({} if family.is_flow else {"clip_sample": False}))
        levels = _trained_levels(scheduler)
        scheduler.set_timesteps(1, **({"mu": 1.0} if family.is_flow else {}))  # raises an error for some spacings
        name = config.get("_class_name")
        own = levels if name is None else _trained_levels(getattr(diffusers, name).from_config(dict(config)))
    except Exception as error:
        raise not_readable(place, "the configuration of a scheduler that can be inverted", error) from error
    alike = own is not None and own.shape == levels.shape and torch.allclose(own.float(), levels, atol=1e-6)
    prediction = config.get("prediction_type", PREDICTIONS[0])
    if not alike or prediction not in PREDICTIONS:
        raise BackboneError(
            place,
            expected=f"the noise levels of a {kind.__name__}, and one of its predictions",
            got=f"prediction_type {prediction}" if alike else f"other noise levels, of a {name}",
            fix="Use a pipeline whose network was trained with such noise levels.",
        )
    return scheduler


def _trained_levels(scheduler: Any) -> Any:
    """Return ᾱ of each training step, or σ where a network was trained by flow matching; None for other schedulers."""
    return getattr(scheduler, "alphas_cumprod", getattr(scheduler, "sigmas", None))


def _check_architecture(
    found: Mapping[str, Mapping[str, Any]], architecture: Mapping[str, Mapping[str, Any]], place: str
) -> None:
    differ = [
        f"{part}.{name} {json.dumps(plain(value))} → {json.dumps(found[part].get(name))}"
        for part, fields in architecture.items()
        for name, value in fields.items()
        if part in found and found[part].get(name) != plain(value)
    ]
    refuse_architecture(place, differ)


def _check_fit(family: str, network: Any, vae: Any, text: Text, place: str) -> None:
    """Check that the network takes a latent and a text in the sizes of the other parts, and no other input."""
    config, channels = network.config, vae.config.latent_channels
    packed = 4 if family == "flux" else 1
    pairs = {
        "in_channels": (config.in_channels, packed * channels),
        "out_channels": (config.out_channels or config.in_channels, packed * channels),
        **text.fits(family, config),
        "latents_mean of the vae": (vae.config.get("latents_mean"), None),
    }
    if FAMILIES[family].network == "unet":
        pairs |= {
            "addition_embed_type": (config.addition_embed_type, "text_time" if family == "sdxl" else None),
            "class_embed_type": (config.class_embed_type, None),
            "num_class_embeds": (config.num_class_embeds, None),
            "time_cond_proj_dim": (config.time_cond_proj_dim, None),
            "dual_cross_attention": (config.dual_cross_attention, False),
            "encoder_hid_dim_type": (config.encoder_hid_dim_type, None),
            "shift_factor of the vae": (vae.config.shift_factor, None),
        }
    wrong = [f"{name} {has}, not {wants}" for name, (has, wants) in pairs.items() if has != wants]
    if wrong:
        raise BackboneError(
            place,
            expected=f"{FAMILIES[family].title}, which takes a latent of the vae and a text",
            got="; ".join(wrong),
            fix="Use the folder of a text-to-image pipeline, or correct family in the spec.",
        )


def plain(value: Mapping[str, Any] | Any) -> Any:
    """Return the value as JSON types, without keys that begin with an underscore."""
    if isinstance(value, Mapping):
        value = {name: of for name, of in value.items() if not name.startswith("_")}
    return json.loads(json.dumps(value))
