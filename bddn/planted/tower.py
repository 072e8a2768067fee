"""A small CLIP vision tower with seeded weights, written in the Hugging Face format: the network of a planted brain.

Plainly random weights would make a poor stand-in for a network: its residual stream would hardly change from block to
block. Here every block adds as much as it forgets, measured on sample images (in the manner of layer-sequential
unit-variance initialisation, Mishkin & Matas, ICLR 2016), so that layers differ and none drowns the others.
"""

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bddn.backbones.loading import keep_transformers_quiet
from bddn.backbones.preprocess import IMAGENET_MEAN, IMAGENET_STD

STREAM_STD = 6.0  # size of the residual stream, the same after every block
ATTENTION_SHARE = 0.6  # size of what attention adds, relative to the stream
FORGET = 0.45  # share of the stream that a block takes away
WHITENING_FLOOR = 1.0  # relative to the first principal component: how far patch filters flatten its lead
HEAD_WIDTH = 24


def write_small_clip(
    folder: Path, sample: Tensor, seed: int, n_layers: int, width: int, patch: int, rows_sampled: int = 4000
) -> None:
    """Make the tower and write `config.json`, `model.safetensors` and `preprocessor_config.json`.

    Parameters
    ----------
    folder : Path
    sample : Tensor, (B, 3, S, S) float32
        Prepared images that the weights are scaled on; their side becomes the tower's.
    seed : int
    n_layers, width, patch : int
        Blocks, channels (a multiple of 24) and side of a patch in pixels.
    """
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

    keep_transformers_quiet()
    generator = torch.Generator().manual_seed(seed)
    size = sample.shape[-1]
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=n_layers,
        num_attention_heads=width // HEAD_WIDTH,
        image_size=size,
        patch_size=patch,
        hidden_act="gelu",
    )
    model = CLIPVisionModel(config).eval().requires_grad_(False)
    for name, weight in sorted(model.named_parameters()):
        if weight.ndim >= 2:
            std = 0.3 if "position" in name else 1 / math.sqrt(weight[0].numel())
            sharpen = 2.0 if "q_proj" in name or "k_proj" in name else 1.0
            weight.copy_(torch.randn(weight.shape, generator=generator) * std * sharpen)
        elif "class_embedding" in name:
            weight.copy_(torch.randn(weight.shape, generator=generator))
    model.embeddings.patch_embedding.weight.copy_(_patch_filters(sample, width, patch, rows_sampled, generator))
    model.pre_layrnorm.weight.fill_(STREAM_STD)
    stream = model.pre_layrnorm(model.embeddings(sample))
    for block in model.encoder.layers:
        stream = _scale_block(block, stream)
    model.save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"height": size, "width": size},
        do_center_crop=False,
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STD),
    ).save_pretrained(folder)


def _patch_filters(sample: Tensor, width: int, patch: int, n_rows: int, generator: torch.Generator) -> Tensor:
    """Random mixtures of the patches' principal components, partly whitened, as trained filters are."""
    patches = F.unfold(sample, patch, stride=patch).transpose(1, 2).flatten(0, 1)
    patches = patches[torch.randperm(len(patches), generator=generator)[:n_rows]]
    patches = patches - patches.mean(0)
    _, singular, components = torch.linalg.svd(patches, full_matrices=False)
    std = singular[:width] / math.sqrt(len(patches))
    whitened = components[:width] / (std + WHITENING_FLOOR * std[0])[:, None]
    rotation = torch.linalg.qr(torch.randn(width, len(whitened), generator=generator))[0]
    filters = rotation @ whitened
    scaled: Tensor = filters / (patches @ filters.T).std()
    return scaled.view(width, 3, patch, patch)


def _scale_block(block: Any, stream: Tensor) -> Tensor:
    """Scale a block's branches on the stream that enters it; returns the stream that leaves it.

    Two blocks of hidden units carry +z and -z, whose GELUs differ by z: through them the MLP takes a share of its
    (normed) input away, exactly.
    """
    width = stream.shape[-1]
    attended = block.self_attn(block.layer_norm1(stream))[0]
    block.self_attn.out_proj.weight.mul_(ATTENTION_SHARE * stream.std() / attended.std())
    stream = stream + block.self_attn(block.layer_norm1(stream))[0]

    mlp = block.mlp
    mlp.fc1.weight.mul_(2.0)  # far enough into GELU's bend to make something new
    mlp.fc1.weight[: 2 * width] = torch.cat([torch.eye(width), -torch.eye(width)])
    mlp.fc2.weight[:, : 2 * width] = 0
    normed = block.layer_norm2(stream)
    kept = (1 - FORGET) * stream.std()
    mlp.fc2.weight.mul_((STREAM_STD**2 - kept**2).clamp_min(0.1).sqrt() / mlp(normed).std())
    forget = FORGET * stream.std() * torch.eye(width)
    mlp.fc2.weight[:, : 2 * width] = torch.cat([-forget, forget], dim=1)
    left: Tensor = stream + mlp(normed)
    return left
