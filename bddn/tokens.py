"""The tokens of a backbone for a batch of images.

Shape letters: B images, C channels, R register tokens, H rows, W columns.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor

Prefix = tuple[int, int]
"""Numbers of CLS tokens and, after them, of registers, which come before the local tokens of a sequence."""


@dataclass(frozen=True)
class LayerTokens:
    """Tokens of one layer; layers may differ in C, H and W.

    `local_` is (B, C, H, W). `global_` is (B, C), or None if the layer has no global token. `register` is (B, R, C) or
    None; it is separate, so that it never enters a spatial mean.
    """

    local_: Tensor
    global_: Tensor | None = None
    register: Tensor | None = None

    def __post_init__(self) -> None:
        assert self.local_.ndim == 4, f"local tokens must be (B, C, H, W), not {tuple(self.local_.shape)}"
        b, c = self.local_.shape[:2]
        assert self.global_ is None or self.global_.shape == (b, c), "global token must be (B, C)"
        assert self.register is None or self.register.shape[::2] == (b, c), "register tokens must be (B, R, C)"

    @classmethod
    def of_sequence(cls, tokens: Tensor, prefix: Prefix, places: tuple[int, int]) -> "LayerTokens":
        """Split tokens (B, T, C) of a transformer: its prefix, then the local tokens of `places` (rows, columns), row
        by row. The global token is the first CLS token; further ones are left out."""
        n_cls, n_registers = prefix
        first = n_cls + n_registers
        return cls(
            tokens[:, first:].transpose(1, 2).unflatten(2, places),
            tokens[:, 0] if n_cls else None,
            tokens[:, n_cls:first] if n_registers else None,
        )

    def pooled(self, grid: tuple[int, int], global_token: str, registers: bool = False) -> "LayerTokens":
        """Return the tokens to store, as float32: local tokens resized to `grid` (rows, columns), and the global token.

        Resizing is bilinear, from pixel centres, without antialias (code recipe). With `global_token="mean"`, the
        global token is the mean of the local tokens before resizing. Registers are left out, unless they are asked for.
        The result shares no memory with these tokens: later changes do not affect it, and it does not keep them in
        memory.
        """
        resized = F.interpolate(self.local_.float(), size=grid, mode="bilinear", align_corners=False)
        kept = self._apart(self.register.float()) if registers and self.register is not None else None
        return LayerTokens(self._apart(resized), self._apart(self.stored_global(global_token)), kept)

    def stored_global(self, global_token: str) -> Tensor:
        """Return the global token (B, C) that is stored, as float32; see `pooled`. It may share memory with these."""
        global_ = self.local_.float().mean((2, 3)) if global_token == "mean" else self.global_
        assert global_ is not None, "these tokens have no global token"
        return global_.float()

    def _apart(self, values: Tensor) -> Tensor:
        """Return the values if they have memory of their own, else a copy."""
        ours = [t for t in (self.local_, self.global_, self.register) if t is not None]
        shared = {t.untyped_storage().data_ptr() for t in ours}
        return values.clone() if values.untyped_storage().data_ptr() in shared else values


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
