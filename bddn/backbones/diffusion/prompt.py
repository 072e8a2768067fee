"""The text that a diffusion network gets: the empty prompt through its text encoders, zeros, or embeddings of a file.

The network always gets the same text, so text encoders are used once. T5-XXL, of Stable Diffusion 3 and FLUX.1, has 4.8
billion weights for this one constant: `write_text` writes it to a file that replaces all text encoders.

Shape letters: T text tokens, C channels of a text token, P channels of the pooled text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bddn.backbones.backbone import weights_sha256
from bddn.backbones.weights.loading import first_line
from bddn.errors import BackboneError
from bddn.files.atomic import replace_file
from bddn.spec import DiffusionSpec

if TYPE_CHECKING:
    from bddn.spec import CacheSpec

EMBEDS, POOLED = "prompt_embeds", "pooled_prompt_embeds"  # names of diffusers
CLIP_TOKENS = 77
T5_TOKENS = 256  # of Stable Diffusion 3 and FLUX.1 schnell
T5_TOKENS_GUIDED = 512  # of FLUX.1 dev


@dataclass(frozen=True)
class Text:
    """What the network gets as text.

    Attributes
    ----------
    embeds : Tensor, (1, T, C) float32
    pooled : Tensor, (1, P) float32, optional
    prompt : mapping of str to list of int
        Ids of the empty prompt for each text encoder.
    source : str or dict
        The field `text` of the spec; for a file, {'sha256': its tensors'}.
    """

    embeds: Tensor
    pooled: Tensor | None
    prompt: Mapping[str, list[int]] = field(default_factory=dict)
    source: str | dict[str, str] = "encoded"

    def fits(self, family: str, config: Any) -> dict[str, tuple[object, object]]:
        """Return what the network expects and what this is, by the name of a field of its configuration."""
        width, pooled = _sizes(family, config)
        named = "cross_attention_dim" if family in ("stable_diffusion", "sdxl") else "joint_attention_dim"
        own = None if self.pooled is None else self.pooled.shape[-1]
        return {named: (width, self.embeds.shape[-1]), "channels of the pooled text": (pooled, own)}


class Encoded(NamedTuple):
    """The outputs of a text encoder for the empty prompt: the ids, the last and the last but one hidden state, and the
    pooled text, if it has one."""

    ids: list[int]
    last: Tensor
    before: Tensor
    pooled: Tensor | None


def n_t5_tokens(family: str, config: Mapping[str, Any]) -> int:
    """Return the number of text tokens of T5, as the pipelines have it."""
    return T5_TOKENS_GUIDED if family == "flux" and config.get("guidance_embeds") else T5_TOKENS


def encode(model: Any, prompt: Tensor | int) -> Encoded:
    """Return the outputs of a text encoder on the CPU.

    Parameters
    ----------
    model
        Of transformers.
    prompt : Tensor (1, T), or int
        Ids of the empty prompt of CLIP; for T5, the number of tokens: its empty prompt is an end and padding.
    """
    if isinstance(prompt, int):
        ids = torch.full((1, prompt), model.config.pad_token_id)
        ids[0, 0] = model.config.eos_token_id
    else:
        ids = prompt
    with torch.no_grad():
        out = model(ids, output_hidden_states=True)
    pooled = out.get("text_embeds")
    pooled = out.get("pooler_output") if pooled is None else pooled
    return Encoded(ids[0].tolist(), out["last_hidden_state"], out["hidden_states"][-2], pooled)


def text_of(about: DiffusionSpec, encoded: Mapping[str, Encoded], config: Any) -> Text:
    """Return the text of a spec that does not name a file.

    Parameters
    ----------
    about : DiffusionSpec
    encoded : mapping of str to Encoded
        By the folder of the text encoder.
    config
        Configuration of the network.
    """
    width, pooled = _sizes(about.family, config)
    if about.text == "zeros":
        n = CLIP_TOKENS if about.family in ("stable_diffusion", "sdxl") else n_t5_tokens(about.family, config)
        n += CLIP_TOKENS if about.family == "sd3" else 0
        return Text(torch.zeros(1, n, width), None if pooled is None else torch.zeros(1, pooled), source="zeros")
    one, *others = encoded.values()
    prompt = {part: each.ids for part, each in encoded.items()}
    if about.family == "stable_diffusion":
        return Text(one.last, None, prompt)
    if about.family == "sdxl":
        return Text(torch.cat([one.before, others[0].before], -1), others[0].pooled, prompt)
    if about.family == "flux":
        return Text(others[0].last, one.pooled, prompt)
    assert one.pooled is not None
    assert others[0].pooled is not None
    clip = torch.cat([one.before, others[0].before], -1)
    t5 = others[1].last if others[1:] else torch.zeros(1, T5_TOKENS, width)
    wide = max(clip.shape[-1], t5.shape[-1])
    embeds = torch.cat([F.pad(each, (0, wide - each.shape[-1])) for each in (clip, t5)], 1)
    return Text(embeds, torch.cat([one.pooled, others[0].pooled], -1), prompt, about.text)


def write_text(spec: "CacheSpec", path: Path) -> None:
    """Write the text of a spec to a file, which `text` in another spec names.

    Parameters
    ----------
    spec : CacheSpec
        Of a diffusion pipeline.
    path : Path
        A safetensors file with `prompt_embeds` (T, C) and, except for Stable Diffusion 1 and 2, `pooled_prompt_embeds`
        (P,), float32.

    Raises
    ------
    BackboneError, SpecError
        If the pipeline cannot be loaded.
    """
    from safetensors.torch import save_file

    from bddn.backbones.diffusion.pipeline import load

    text = load(spec).text
    tensors = {EMBEDS: text.embeds[0].contiguous()}
    if text.pooled is not None:
        tensors[POOLED] = text.pooled[0].contiguous()
    replace_file(path, lambda aside: save_file(tensors, aside))


def read_text(path: Path) -> Text:
    """Return the text in a file that `write_text` wrote, or another program.

    Raises
    ------
    BackboneError
        If it lacks the embeddings, or contains anything else.
    """
    from safetensors.torch import load_file

    axes = {EMBEDS: 2, POOLED: 1}
    try:
        found = load_file(path)
        if EMBEDS not in found or not found.keys() <= axes.keys():
            raise ValueError(f"tensors {', '.join(sorted(found))}")
        rows = {name: one.float()[None] if one.ndim == axes[name] else one.float() for name, one in found.items()}
        wrong = [name for name, row in rows.items() if row.ndim != axes[name] + 1 or len(row) != 1]
        if wrong:
            raise ValueError(f"{wrong[0]} of shape {tuple(found[wrong[0]].shape)}")
    except Exception as error:
        raise BackboneError(
            path,
            expected=f"a safetensors file with {EMBEDS} (tokens, channels) and {POOLED} (channels)",
            got=first_line(error),
            fix="Correct text in the spec; bddn/backbones/README.md says how to write this file.",
        ) from error
    return Text(rows[EMBEDS], rows.get(POOLED), source={"sha256": weights_sha256(rows)})


def _sizes(family: str, config: Any) -> tuple[int, int | None]:
    """Return C and P that the network expects; P is None if it takes no pooled text."""
    if family == "stable_diffusion":
        return config.cross_attention_dim, None
    if family == "sdxl":
        sizes = config.projection_class_embeddings_input_dim or 0
        return config.cross_attention_dim, sizes - 6 * (config.addition_time_embed_dim or 0)
    return config.joint_attention_dim, config.pooled_projection_dim
