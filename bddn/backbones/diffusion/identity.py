"""The identity of a diffusion network: what determines its tokens, as JSON types, for the header of a cache."""

import inspect
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from bddn.backbones.diffusion.families import FAMILIES, T5
from bddn.backbones.diffusion.noise_levels import Levels
from bddn.backbones.diffusion.pipeline import Pipeline
from bddn.spec import DiffusionSpec

TEXT_FIELDS = (
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "layer_norm_eps",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "vocab_size",
)
PROJECTED_TEXT_FIELDS = (*TEXT_FIELDS, "eos_token_id", "projection_dim")  # where the pooled text is used
T5_FIELDS = (
    "d_ff",
    "d_kv",
    "d_model",
    "eos_token_id",
    "feed_forward_proj",
    "layer_norm_epsilon",
    "num_heads",
    "num_layers",
    "pad_token_id",
    "relative_attention_max_distance",
    "relative_attention_num_buckets",
    "vocab_size",
)
CONVENTIONS = (
    "latent: mode of the posterior, scaled; empty prompt, no guidance; DDIM inversion; step k counts from the image: "
    "the U-Net is told timestep k and sees the latent of alpha_bar"
)
SIZES = "; time_ids: the size of the image, not cropped"
FLOW_CONVENTIONS = (
    "latent: mode of the posterior, shifted and scaled; {text}, no guidance (1); {path}; step k counts from the image: "
    "the network is told sigma, the level of its latent; tokens of the image, not of the text"
)


def identity_of(about: DiffusionSpec, parts: Pipeline, levels: Levels, at: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return what determines the tokens besides the spec; see `Backbone.identity`.

    For Stable Diffusion 1.x and 2.x, it names family, text and latents only if they are not the default ones.

    Parameters
    ----------
    about : DiffusionSpec
    parts : Pipeline
    levels : Levels
    at : sequence of sequence of str
        The selected blocks of each step.
    """
    configs = _configs(about.family, parts)
    first = about.family == "stable_diffusion"
    given: dict[str, Any] = {} if first else {"family": about.family}
    if not first or parts.text.source != "encoded":
        given["text"] = parts.text.source
    if not first or about.latents == "noised":
        given["latents"] = about.latents
    if about.latents == "noised":
        given["noise_seed"] = about.noise_seed
    return {
        "class": type(parts.network).__name__,
        "weights_sha256": parts.weights_sha256,
        "config": {part: fields for part, fields in configs.items() if part != "scheduler"},
        "scheduler": configs["scheduler"],
        "prompt": parts.text.prompt.get("text_encoder") if first else dict(parts.text.prompt),
        "n_steps": about.n_steps,
        "steps": [levels.describe(k) for k, names in enumerate(at) if names],
        "conventions": _conventions(about),
        "made_with": {name: version(name) for name in ("torch", "diffusers", "transformers", "pillow")},
        **given,
    }


def _conventions(about: DiffusionSpec) -> str:
    """Return what the numbers of the identity do not say."""
    noised = about.latents == "noised"
    if FAMILIES[about.family].is_flow:
        path = "mixed with fixed noise, (1 - sigma) latent + sigma noise" if noised else "inversion by Euler steps"
        return FLOW_CONVENTIONS.format(text="empty prompt" if about.text == "encoded" else "text", path=path)
    path = "mixed with fixed noise, sqrt(alpha_bar) latent + sqrt(1 - alpha_bar) noise"
    words = CONVENTIONS.replace("DDIM inversion", path) if noised else CONVENTIONS
    return words + (SIZES if about.family == "sdxl" else "")


def _configs(family: str, parts: Pipeline) -> dict[str, dict[str, Any]]:
    """Return what determines the tokens besides the weights; of large configurations, fields with other values."""
    encoders = FAMILIES[family].encoders
    found: dict[str, dict[str, Any]] = {}
    for part, model in ((FAMILIES[family].network, parts.network), ("vae", parts.vae)):
        defaults = {k: list(v) if isinstance(v, tuple) else v for k, v in _parameters(model).items()}
        found[part] = {k: v for k, v in parts.configs[part].items() if k in defaults and v != defaults[k]}
        if part != "transformer":
            found[part].pop("sample_size", None)  # the size of training images
    for part in (part for part in encoders if part in parts.configs):
        fields = TEXT_FIELDS if family == "stable_diffusion" else PROJECTED_TEXT_FIELDS
        found[part] = {k: parts.configs[part][k] for k in (T5_FIELDS if encoders[part] == T5 else fields)}
    own = _parameters(parts.scheduler)
    found["scheduler"] = {k: v for k, v in parts.configs["scheduler"].items() if k in own}
    return found


def _parameters(made: Any) -> dict[str, Any]:
    """Return the parameters of the constructor with their defaults."""
    return {k: p.default for k, p in inspect.signature(type(made).__init__).parameters.items() if k != "kwargs"}
