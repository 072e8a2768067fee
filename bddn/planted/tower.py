"""Make the network of a planted brain: a small CLIP vision tower with seeded weights, in the Hugging Face format.

Standard random weights would not resemble a trained network: the residual stream would hardly change between blocks.
Here every block adds as much to the stream as it removes, measured on sample images (similar to layer-sequential
unit-variance initialisation, Mishkin & Matas, ICLR 2016). So layers differ, and no layer dominates.
"""

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bddn.backbones.preprocess import IMAGENET_MEAN, IMAGENET_STD
from bddn.backbones.weights.loading import keep_transformers_quiet

STREAM_STD = 6.0  # size of the residual stream, the same after every block
ATTENTION_SHARE = 0.6  # standard deviation of the attention output, relative to the stream
FORGET = 0.45  # fraction of the stream that a block removes
WHITENING_FLOOR = 1.0  # regulariser of the whitening, relative to the first principal component
HEAD_WIDTH = 24
N_PATCHES = 4000  # from which filters are made


def write_small_clip(folder: Path, sample: Tensor, seed: int, n_layers: int, width: int, patch: int) -> None:
    """Make the tower and write `config.json`, `model.safetensors` and `preprocessor_config.json`.

    Parameters
    ----------
    folder : Path
    sample : Tensor, (B, 3, S, S) float32
        Preprocessed images for scaling the weights; their side S becomes the image size of the tower.
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
    model.embeddings.patch_embedding.weight.copy_(_patch_filters(sample, width, patch, generator))
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


def _patch_filters(sample: Tensor, width: int, patch: int, generator: torch.Generator) -> Tensor:
    """Return patch filters (width, 3, patch, patch): random mixtures of partly whitened principal components."""
    patches = F.unfold(sample, patch, stride=patch).transpose(1, 2).flatten(0, 1)
    patches = patches[torch.randperm(len(patches), generator=generator)[:N_PATCHES]]
    patches = patches - patches.mean(0)
    _, singular, components = torch.linalg.svd(patches, full_matrices=False)
    std = singular[:width] / math.sqrt(len(patches))
    whitened = components[:width] / (std + WHITENING_FLOOR * std[0])[:, None]
    rotation = torch.linalg.qr(torch.randn(width, len(whitened), generator=generator))[0]
    filters = rotation @ whitened
    scaled: Tensor = filters / (patches @ filters.T).std()
    return scaled.view(width, 3, patch, patch)


def _scale_block(block: Any, stream: Tensor) -> Tensor:
    """Scale the branches of a block for its input stream, and return its output stream.

    Two groups of hidden units carry +z and -z, whose GELUs differ by exactly z. Through them the MLP removes a fraction
    of its (normalised) input.
    """
    width = stream.shape[-1]
    attended = block.self_attn(block.layer_norm1(stream))[0]
    block.self_attn.out_proj.weight.mul_(ATTENTION_SHARE * stream.std() / attended.std())
    stream = stream + block.self_attn(block.layer_norm1(stream))[0]

    mlp = block.mlp
    mlp.fc1.weight.mul_(2.0)  # large enough for the nonlinear part of GELU to create new features
    mlp.fc1.weight[: 2 * width] = torch.cat([torch.eye(width), -torch.eye(width)])
    mlp.fc2.weight[:, : 2 * width] = 0
    normed = block.layer_norm2(stream)
    kept = (1 - FORGET) * stream.std()
    mlp.fc2.weight.mul_((STREAM_STD**2 - kept**2).clamp_min(0.1).sqrt() / mlp(normed).std())
    forget = FORGET * stream.std() * torch.eye(width)
    mlp.fc2.weight[:, : 2 * width] = torch.cat([-forget, forget], dim=1)
    left: Tensor = stream + mlp(normed)
    return left
