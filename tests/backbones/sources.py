"""Vision transformers as other libraries name their weights, and files as those libraries write them.

Each network is written from the architecture's formulas; its forward gives the residual stream after each block, before
the final norm: a list of (images, 1 + patches, channels), the class token first, patches row by row. Each writer makes
one with weights that a seed decides, writes its file and returns it.
"""

from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor, nn


class OpenClipBlock(nn.Module):
    """A pre-norm block with `nn.MultiheadAttention`; open_clip's text tower has the same."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width, eps=1e-5), nn.LayerNorm(width, eps=1e-5)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, hidden))
        self.mlp.add_module("gelu", nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False)[0]
        added: Tensor = self.mlp(self.ln_2(x))
        return x + added


class OpenClipTower(nn.Module):
    """open_clip's visual tower, `clip.visual`."""

    def __init__(self, size: int, patch: int, width: int, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((size // patch) ** 2 + 1, width))
        self.proj = nn.Parameter(torch.zeros(width, 8))  # of the pooled token: no block's output has it
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.ln_pre, self.ln_post = nn.LayerNorm(width, eps=1e-5), nn.LayerNorm(width, eps=1e-5)
        self.transformer: Any = nn.Module()
        self.transformer.resblocks = nn.ModuleList(OpenClipBlock(width, heads, hidden) for _ in range(depth))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        x = self.ln_pre(x)
        return _stream(x, self.transformer.resblocks)


class TorchvisionBlock(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.0), nn.Linear(hidden, width), nn.Dropout(0.0)
        )

    def forward(self, x: Tensor) -> Tensor:
        normed = self.ln_1(x)
        x = x + self.self_attention(normed, normed, normed, need_weights=False)[0]
        added: Tensor = self.mlp(self.ln_2(x))
        return x + added


class TorchvisionViT(nn.Module):
    """torchvision's `VisionTransformer`, with its head."""

    def __init__(self, size: int, patch: int, width: int, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.conv_proj = nn.Conv2d(3, width, patch, stride=patch)
        self.encoder: Any = nn.Module()
        self.encoder.pos_embedding = nn.Parameter(torch.zeros(1, (size // patch) ** 2 + 1, width))
        self.encoder.layers = nn.Sequential()
        for i in range(depth):
            self.encoder.layers.add_module(f"encoder_layer_{i}", TorchvisionBlock(width, heads, hidden))
        self.encoder.ln = nn.LayerNorm(width, eps=1e-6)
        self.heads = nn.Sequential()
        self.heads.add_module("head", nn.Linear(width, 10))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = self.conv_proj(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1) + self.encoder.pos_embedding
        return _stream(x, self.encoder.layers)


class FusedAttention(nn.Module):
    """Attention whose queries, keys and values are one layer's outputs, each of all heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        images, tokens, width = x.shape
        q, k, v = self.qkv(x).view(images, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5).softmax(-1)
        mixed: Tensor = self.proj((weights @ v).transpose(1, 2).flatten(2))
        return mixed


class TimmBlock(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = FusedAttention(width, heads)
        self.mlp: Any = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        added: Tensor = self.mlp.fc2(nn.functional.gelu(self.mlp.fc1(self.norm2(x))))
        return x + added


class TimmViT(nn.Module):
    """timm's `VisionTransformer` without head, as MAE's encoder has it."""

    def __init__(self, size: int, patch: int, width: int, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, (size // patch) ** 2 + 1, width))
        self.patch_embed: Any = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, patch, stride=patch)
        self.blocks = nn.ModuleList(TimmBlock(width, heads, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = self.patch_embed.proj(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return _stream(x, self.blocks)


class MocoViT(TimmViT):
    """MoCo v3's encoder: timm's with a fixed table of sines and cosines for positions, and a projector as its head."""

    def __init__(self, size: int, patch: int, width: int, depth: int, heads: int, hidden: int) -> None:
        super().__init__(size, patch, width, depth, heads, hidden)
        rate = 10_000.0 ** -(torch.arange(width // 4) / (width // 4))
        down, right = torch.meshgrid(*[torch.arange(size // patch).float()] * 2, indexing="ij")
        angles = [place.flatten()[:, None] * rate for place in (right, down)]
        table = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], 1)
        self.pos_embed = nn.Parameter(torch.cat([torch.zeros(1, width), table])[None], requires_grad=False)
        self.head = nn.Sequential(nn.Linear(width, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8))


class Writer(Protocol):
    """Writes a file with weights of its own format, and returns the network that has them."""

    def __call__(
        self,
        path: Path,
        seed: int,
        image_size: int,
        patch_size: int,
        hidden_size: int,
        num_hidden_layers: int,
        num_attention_heads: int,
        intermediate_size: int,
    ) -> nn.Module:
        """The arguments after `seed` are named as in the configs of `transformers`."""


def write_open_clip(
    path: Path,
    seed: int,
    image_size: int,
    patch_size: int,
    hidden_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    intermediate_size: int,
) -> nn.Module:
    """A whole CLIP, `.safetensors` or `.bin`, whose text tower has blocks of the visual tower's shapes."""
    shape = hidden_size, num_attention_heads, intermediate_size
    tower = seeded(OpenClipTower(image_size, patch_size, hidden_size, num_hidden_layers, *shape[1:]), seed)
    text: Any = nn.Module()
    text.positional_embedding = nn.Parameter(torch.zeros(7, hidden_size))
    text.text_projection = nn.Parameter(torch.zeros(hidden_size, 8))
    text.logit_scale = nn.Parameter(torch.zeros(()))
    text.token_embedding = nn.Embedding(11, hidden_size)
    text.transformer = nn.Module()
    text.transformer.resblocks = nn.ModuleList(OpenClipBlock(*shape) for _ in range(num_hidden_layers))
    text.ln_final = nn.LayerNorm(hidden_size)
    state = seeded(text, seed + 1000).state_dict() | _prefixed("visual.", tower)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return tower


def write_torchvision(
    path: Path,
    seed: int,
    image_size: int,
    patch_size: int,
    hidden_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    intermediate_size: int,
) -> nn.Module:
    """A state dict, with the classifier's head."""
    shape = image_size, patch_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size
    network = seeded(TorchvisionViT(*shape), seed)
    torch.save(network.state_dict(), path)
    return network


def write_timm(
    path: Path,
    seed: int,
    image_size: int,
    patch_size: int,
    hidden_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    intermediate_size: int,
) -> nn.Module:
    """MAE's release with its decoder: a state dict under `model`."""
    shape = image_size, patch_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size
    network = seeded(TimmViT(*shape), seed)
    decoder: Any = nn.Module()
    decoder.mask_token = nn.Parameter(torch.zeros(1, 1, 8))
    decoder.decoder_embed = nn.Linear(hidden_size, 8)
    decoder.decoder_pos_embed = nn.Parameter(torch.zeros(1, (image_size // patch_size) ** 2 + 1, 8))
    decoder.decoder_blocks = nn.ModuleList([TimmBlock(8, 2, 16)])
    decoder.decoder_norm = nn.LayerNorm(8)
    decoder.decoder_pred = nn.Linear(8, patch_size**2 * 3)
    torch.save({"model": network.state_dict() | seeded(decoder, seed + 1000).state_dict()}, path)
    return network


def write_moco(
    path: Path,
    seed: int,
    image_size: int,
    patch_size: int,
    hidden_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    intermediate_size: int,
) -> nn.Module:
    """What MoCo v3's training saves: base encoder, momentum encoder and predictor of a distributed model."""
    shape = image_size, patch_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size
    base, momentum = seeded(MocoViT(*shape), seed), seeded(MocoViT(*shape), seed + 1000)
    predictor = seeded(nn.Sequential(nn.Linear(8, 16, bias=False), nn.BatchNorm1d(16)), seed + 2000)
    state = (
        _prefixed("module.base_encoder.", base)
        | _prefixed("module.momentum_encoder.", momentum)
        | _prefixed("module.predictor.", predictor)
    )
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    torch.save({"epoch": 300, "arch": "vit_small", "state_dict": state, "optimizer": optimizer}, path)
    return base


def seeded(network: nn.Module, seed: int) -> nn.Module:
    """The network, ready to run, with weights that are all distinct and none of them trivial."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in network.named_parameters():
        if not weight.requires_grad:
            continue  # a fixed table
        drawn = torch.randn(weight.shape, generator=generator)
        with torch.no_grad():
            if weight.ndim > 1:
                drawn /= weight[0].numel() ** 0.5 if "weight" in name else 2
            elif name.endswith("weight"):
                drawn = 1 + drawn / 5  # of a norm
            weight.copy_(drawn)
    return network.eval()


def _stream(x: Tensor, blocks: nn.Module) -> list[Tensor]:
    found = []
    for block in blocks.children():
        x = block(x)
        found.append(x)
    return found


def _prefixed(prefix: str, network: nn.Module) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in network.state_dict().items()}


WRITERS: dict[str, tuple[Writer, tuple[str, ...]]] = {  # per format: its writer, and how its files are called
    "open_clip": (write_open_clip, ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")),
    "torchvision": (write_torchvision, ("vit_b_16-c867db91.pth",)),
    "timm": (write_timm, ("mae_pretrain_vit_base_full.pth",)),
    "moco": (write_moco, ("vit-s-300ep.pth.tar",)),
}
