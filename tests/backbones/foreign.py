"""Networks that bddn knows nothing of, small and with random weights, as a user would hand them to `from_module`.

Each with the submodules that are layers, and what the order probe must find: row by row, or the words of a refusal.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers as t
from diffusers.models.attention import JointTransformerBlock
from diffusers.models.transformers.transformer_flux import FluxTransformerBlock
from torch import Tensor, nn
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

SIZE = 128


@dataclass(frozen=True)
class Foreign:
    """A network: how it is made, its layers, and the words with which it is refused, if it is."""

    make: Callable[[], nn.Module]
    layers: list[str]
    refused: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


class Block(nn.Module):
    """A block of a transformer, norms first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class PlainViT(nn.Module):
    """A plain vision transformer, whose tokens may be brought into another order before one of its blocks."""

    def __init__(
        self,
        image_hw: tuple[int, int] = (SIZE, SIZE),
        patch: int = 8,
        n_registers: int = 0,
        order: Tensor | None = None,
        before: int = 0,
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        width, n = 48, image_hw[0] // patch * (image_hw[1] // patch)
        self.patch_embed = nn.Conv2d(3, width, patch, stride=patch)
        self.leading = nn.Parameter(torch.randn(1, 1 + n_registers, width) / 10)
        self.pos_embed = nn.Parameter(torch.randn(1, n, width) / 10)
        self.blocks = nn.ModuleList([Block(width) for _ in range(3)])
        self.order, self.before = order, before

    def forward(self, pixels: Tensor) -> Any:
        x = self.patch_embed(pixels).flatten(2).transpose(1, 2) + self.pos_embed
        n = self.leading.shape[1]
        x = torch.cat([self.leading.expand(len(x), -1, -1), x], 1)
        for i, block in enumerate(self.blocks):
            if self.order is not None and i == self.before:
                x = torch.cat([x[:, :n], x[:, n:][:, self.order]], 1)
            x = block(x)
        return x


class MultiModal(nn.Module):
    """Blocks that take text and image together, and return both, on patches of an image."""

    def __init__(self, block: Callable[[], nn.Module], n_text: int, pair: Callable[..., tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.cut, self.blocks, self.pair = nn.Conv2d(3, 64, 8, stride=8), nn.ModuleList([block(), block()]), pair
        self.text, self.time = nn.Parameter(torch.randn(1, n_text, 64)), nn.Parameter(torch.randn(1, 64))

    def forward(self, pixels: Tensor) -> Tensor:
        image = self.cut(pixels).flatten(2).transpose(1, 2)
        text, time = self.text.expand(len(image), -1, -1), self.time.expand(len(image), -1)
        for block in self.blocks:
            text, image = self.pair(block, image, text, time)
        return image  # type: ignore[no-any-return]


def flux() -> nn.Module:
    def pair(block: nn.Module, image: Tensor, text: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        return block(hidden_states=image, encoder_hidden_states=text, temb=time)  # type: ignore[no-any-return]

    return MultiModal(lambda: FluxTransformerBlock(dim=64, num_attention_heads=4, attention_head_dim=16), 64, pair)


def stable_diffusion_3() -> nn.Module:
    def pair(block: nn.Module, image: Tensor, text: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        return block(image, text, time)  # type: ignore[no-any-return]

    return MultiModal(lambda: JointTransformerBlock(64, 4, 16), 77, pair)


class QwenTower(nn.Module):
    """Qwen2.5-VL's tower takes patches, in the order in which 2×2 of them are merged, and returns them without a batch
    axis. Here it takes pixels; each of its blocks is followed by a `layer` that returns (B, T, C) or, without one, what
    the block does.
    """

    def __init__(self, batch_axis: bool = True) -> None:
        super().__init__()
        config = Qwen2_5_VLVisionConfig(
            depth=3, hidden_size=64, intermediate_size=96, num_heads=4, patch_size=8, window_size=32, out_hidden_size=64
        )
        config.fullatt_block_indexes = [1]
        self.tower, self.batch_axis, self.n = Qwen2_5_VisionTransformerPretrainedModel(config), batch_axis, 0
        self.layers = nn.ModuleList([nn.Identity() for _ in self.tower.blocks])
        for block, layer in zip(self.tower.blocks, self.layers, strict=True):
            block.register_forward_hook(lambda _block, _inputs, output, layer=layer: self._told(layer, output))

    def _told(self, layer: nn.Module, output: Tensor) -> None:
        layer(output.unflatten(0, (self.n, -1)) if self.batch_axis else output)

    def forward(self, pixels: Tensor) -> Any:
        self.n, (h, w), merged = len(pixels), (pixels.shape[2] // 8, pixels.shape[3] // 8), 2
        frames = pixels[:, None].expand(-1, 2, -1, -1, -1)
        cut = frames.reshape(self.n, 2, 3, h // merged, merged, 8, w // merged, merged, 8)
        patches = cut.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(self.n * h * w, -1)
        return self.tower(patches, grid_thw=torch.tensor([[1, h, w]] * self.n))


def _vit(**more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    return sizes | {"image_size": SIZE, "patch_size": 8} | more


def _stages(**more: Any) -> dict[str, Any]:
    return {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]} | more


def sam2() -> nn.Module:
    hiera = t.Sam2HieraDetConfig(
        hidden_size=24,
        image_size=[SIZE, SIZE],
        query_stride=[2, 2],
        blocks_per_stage=[1, 2, 2, 1],
        embed_dim_per_stage=[24, 48, 96, 192],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 4, 4],
        global_attention_blocks=[4],
    )
    sides = [[SIZE // n, SIZE // n] for n in (4, 8, 16)]
    config = t.Sam2VisionConfig(
        backbone_config=hiera, backbone_channel_list=[192, 96, 48, 24], backbone_feature_sizes=sides, fpn_hidden_size=32
    )
    network: nn.Module = t.Sam2VisionModel(config)
    return network


def hiera() -> nn.Module:
    heads: dict[str, Any] = {"depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]}
    network: nn.Module = t.HieraModel(t.HieraConfig(embed_dim=24, image_size=[SIZE, SIZE], **heads))
    return network


def segformer() -> nn.Module:
    network: nn.Module = t.SegformerModel(t.SegformerConfig(**_stages(num_attention_heads=[1, 2, 4, 4])))
    return network


MEAN = {"global_token": "mean"}
SWIN: dict[str, Any] = {
    "embed_dim": 24,
    "depths": (2, 2, 2),
    "num_heads": (1, 2, 4),
    "window_size": 4,
    "image_size": SIZE,
}
NETWORKS: dict[str, Foreign] = {
    "hiera": Foreign(hiera, ["encoder.stages.*.layers.*"], "mask units of 8×8 places, as Hiera's", MEAN),
    "hiera, its last stage": Foreign(hiera, ["encoder.stages.3.layers.*"], fields=MEAN),
    "swin": Foreign(lambda: t.SwinModel(t.SwinConfig(**SWIN)), ["encoder.layers.*.blocks.*"], fields=MEAN),
    "swin v2": Foreign(lambda: t.Swinv2Model(t.Swinv2Config(**SWIN)), ["encoder.layers.*.blocks.*"], fields=MEAN),
    "convnext": Foreign(
        lambda: t.ConvNextModel(t.ConvNextConfig(**_stages())), ["encoder.stages.*.layers.*"], fields=MEAN
    ),
    "dinov3": Foreign(lambda: t.DINOv3ViTModel(t.DINOv3ViTConfig(**_vit(num_register_tokens=4))), ["model.layer.*"]),
    "dinov3 convnext": Foreign(
        lambda: t.DINOv3ConvNextModel(t.DINOv3ConvNextConfig(**_stages())), ["**.stages.*.layers.*"], fields=MEAN
    ),
    "siglip": Foreign(lambda: t.SiglipVisionModel(t.SiglipVisionConfig(**_vit())), ["encoder.layers.*"], fields=MEAN),
    "sam 2": Foreign(sam2, ["backbone.blocks.*"], fields=MEAN),
    "qwen 2.5 vl": Foreign(QwenTower, ["layers.*"], "window by window, of 4×4 places, each in windows of 2×2", MEAN),
    "qwen 2.5 vl, as it is": Foreign(lambda: QwenTower(False), ["layers.*"], r"as \(B, 256, C\)", MEAN),
    "flux": Foreign(flux, ["blocks.*"], fields=MEAN | {"output": 1}),
    "flux, without an answer": Foreign(flux, ["blocks.*"], "Set output in the spec: 0 or 1", MEAN),
    "stable diffusion 3": Foreign(stable_diffusion_3, ["blocks.*"], fields=MEAN | {"output": 1}),
    "plain vit": Foreign(PlainViT, ["blocks.*"]),
    "plain vit with registers": Foreign(lambda: PlainViT(n_registers=4), ["blocks.*"]),
    "beit": Foreign(lambda: t.BeitModel(t.BeitConfig(**_vit())), ["layers.*"]),
    "i-jepa": Foreign(lambda: t.IJepaModel(t.IJepaConfig(**_vit())), ["**.layer*.?"], fields=MEAN),
    "vitdet, with windows": Foreign(
        lambda: t.VitDetModel(
            t.VitDetConfig(**_vit(pretrain_image_size=SIZE, window_block_indices=[0, 2], window_size=4))
        ),
        ["encoder.layer.*"],
        fields=MEAN,
    ),
    "resnet": Foreign(
        lambda: t.ResNetModel(t.ResNetConfig(embedding_size=16, **_stages())), ["encoder.stages.*"], fields=MEAN
    ),
    "focalnet": Foreign(
        lambda: t.FocalNetModel(t.FocalNetConfig(image_size=SIZE, embed_dim=24, depths=[1, 1, 1, 1])),
        ["encoder.stages.*.layers.*"],
        fields=MEAN,
    ),
    "poolformer": Foreign(
        lambda: t.PoolFormerModel(t.PoolFormerConfig(**_stages())), ["encoder.block.*.*"], fields=MEAN
    ),
    "segformer": Foreign(segformer, ["stages.*.blocks.*"], fields=MEAN),
    "mobilevit, whose random weights fade to nothing": Foreign(
        lambda: t.MobileViTModel(
            t.MobileViTConfig(image_size=SIZE, hidden_sizes=[24, 32, 40], neck_hidden_sizes=[8, 12, 16, 24, 32, 40, 64])
        ),
        ["encoder.layer.*"],
        "almost zero for an image of normal noise",
        MEAN,
    ),
}
