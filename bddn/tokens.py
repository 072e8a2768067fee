"""What a backbone gives for a batch of images.

Shape letters: B images, C channels, R register tokens, H rows, W columns.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class LayerTokens:
    """Tokens of one layer; layers may differ in C, H and W.

    `local_` is (B, C, H, W); `global_` is (B, C), or None where the layer has no global token;
    `register` is (B, R, C) or None, kept apart so that it never enters a spatial mean.
    """

    local_: Tensor
    global_: Tensor | None = None
    register: Tensor | None = None

    def __post_init__(self) -> None:
        assert self.local_.ndim == 4, f"local tokens must be (B, C, H, W), not {tuple(self.local_.shape)}"
        b, c = self.local_.shape[:2]
        assert self.global_ is None or self.global_.shape == (b, c), "global token must be (B, C)"
        assert self.register is None or self.register.shape[::2] == (b, c), "register tokens must be (B, R, C)"

    def resized(self, grid: tuple[int, int]) -> "LayerTokens":
        """Local tokens resized to `grid` (rows, columns): bilinear, pixel centres, no antialias (code recipe)."""
        local = F.interpolate(self.local_, size=grid, mode="bilinear", align_corners=False)
        return LayerTokens(local, self.global_, self.register)


@dataclass(frozen=True)
class Tokens(Mapping[str, LayerTokens]):
    """Tokens of every layer, early to late, for the images of one batch (all on one device, any float dtype)."""

    layers: dict[str, LayerTokens] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert len({t.local_.shape[0] for t in self.layers.values()}) <= 1, "layers differ in the number of images"

    def __getitem__(self, layer: str) -> LayerTokens:
        return self.layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)
