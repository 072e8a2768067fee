"""Small stand-ins for the specs of cache_specs: the true class, in the true file format, with seeded random weights.

Each comes with a reference: what its own class, or an independently written source network, gives for every block.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from backbones.sources import WRITERS, seeded
from bddn.backbones.backbone import Backbone
from bddn.planted.scenes import draw_scene
from bddn.spec import CacheSpec, FamilySpec

DEPTH = 3


def scenes(network: Backbone, n: int = 5) -> Tensor:
    """Pixels of the first n scenes; by default five, fewer than there are tokens."""
    return torch.stack([network.preprocess(draw_scene(np.random.default_rng([7, i]))) for i in range(n)])


Reference = Callable[[Tensor], list[tuple[Tensor, Tensor]]]  # pixels to (local (B, H, W, C), global (B, C)) per block


@dataclass(frozen=True)
class Small:
    """A spec whose network is small, and whose tokens are stored unpooled.

    Attributes
    ----------
    spec : CacheSpec
        As the one in cache_specs in all but sizes and the place of the weights.
    reference : function
    """

    spec: CacheSpec
    reference: Reference


def shrink(spec: CacheSpec, folder: Path) -> Small:
    """Write a small checkpoint for a spec of a transformer."""
    about, weights = spec.backbone, spec.weights
    assert isinstance(about, FamilySpec)
    assert weights is not None
    large = about.architecture
    patch = int(str(large["patch_size"]))
    heads = 12 if large["hidden_size"] == 384 and weights.format == "moco" else 4
    places = 6
    trained = places * patch if spec.image_size == large["image_size"] else (places + 1) * patch
    small: dict[str, Any] = dict(large) | {
        "hidden_size": 48,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": heads,
        "image_size": trained,
    }
    if "intermediate_size" in large:
        small["intermediate_size"] = 96
    if about.family == "sam":
        small |= {"global_attn_indexes": [1], "window_size": 4, "output_channels": 16}
    if weights.format:
        where, reference = _foreign(weights.format, small, folder)
    else:
        where, reference = _of_hub(spec, small, folder)
    changed = {
        "backbone": {"family": about.family, "architecture": small},
        "weights": where,
        "image_size": places * patch,
        "grid": [places, places],
    }
    return Small(CacheSpec.parse(spec.to_dict() | changed, spec.title), reference)


def _foreign(source: str, small: dict[str, Any], folder: Path) -> tuple[dict[str, str], Reference]:
    writer, names = WRITERS[source]
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    network = writer(folder / names[0], 3, small["image_size"], small["patch_size"], *(small[name] for name in sizes))
    return {"file": str(folder / names[0]), "format": source}, partial(_sequences, network, 1)


def _of_hub(spec: CacheSpec, small: dict[str, Any], folder: Path) -> tuple[dict[str, str], Reference]:
    """The folder that the hub has for this spec, written by the class that published it."""
    import transformers as t

    assert isinstance(spec.backbone, FamilySpec)
    family = spec.backbone.family
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model: Any
    if family == "clip":  # with its text tower
        text = sizes | {"vocab_size": 30, "intermediate_size": 16}
        whole: Any = t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=small, projection_dim=16))
        model, tower = whole, whole.vision_model
    elif "MAE" in spec.title:  # with its decoder, and its own shuffling
        decoder: dict[str, Any] = {
            "decoder_hidden_size": 16,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 2,
        }
        model = t.ViTMAEForPreTraining(t.ViTMAEConfig(**small, **decoder, decoder_intermediate_size=16))
        tower = model.vit
        tower.embeddings.position_embeddings.requires_grad_()  # a fixed table, here of zeros: to be drawn as well
    elif family == "sam":  # with its prompt encoder and mask decoder
        model = t.SamModel(t.SamConfig(vision_config=small, **_small_sam()))
        tower = model.vision_encoder
    elif family == "dinov2":
        model = tower = t.Dinov2Model(t.Dinov2Config(**small))
    else:
        model = tower = t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**small))
    seeded(model, 3)
    model.save_pretrained(folder)
    return {"folder": str(folder)}, partial(_hidden_states, tower, small)


def _small_sam() -> dict[str, Any]:
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "mlp_dim": 16,
        "iou_head_hidden_dim": 16,
    }
    return {"prompt_encoder_config": {"hidden_size": 16, "image_size": 96}, "mask_decoder_config": sizes}


def _hidden_states(tower: Any, small: dict[str, Any], pixels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What transformers itself calls hidden states, without the input of the first block."""
    options: dict[str, Any] = {}
    kind = type(tower).__name__
    if kind in ("CLIPVisionTransformer", "CLIPVisionModel"):
        options = {"interpolate_pos_encoding": True}
    if kind == "ViTMAEModel":  # ordered noise keeps every patch at its place, and nothing is masked
        tower.config.mask_ratio = 0.0
        n = (small["image_size"] // small["patch_size"]) ** 2
        options = {"noise": torch.arange(n).float().expand(len(pixels), -1)}
    with torch.inference_mode():
        states = tower(pixels, output_hidden_states=True, **options).hidden_states[1:]
    if "Sam" in kind:
        return [(state, state.mean((1, 2))) for state in states]
    return _split(states, 1 + small.get("num_register_tokens", 0))


def _sequences(network: nn.Module, n_leading: int, pixels: Tensor) -> list[tuple[Tensor, Tensor]]:
    with torch.inference_mode():
        return _split(network(pixels), n_leading)


def _split(states: Iterable[Tensor], n_leading: int) -> list[tuple[Tensor, Tensor]]:
    """The first token, and those after the leading ones as a square, row by row."""
    found = []
    for state in states:
        patches = state[:, n_leading:]
        side = round(patches.shape[1] ** 0.5)
        found.append((patches.reshape(len(patches), side, side, -1), state[:, 0]))
    return found
