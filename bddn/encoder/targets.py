"""The responses that a fit predicts."""

from collections.abc import Callable

from torch import Tensor

Targets = Callable[[Tensor], Tensor]
"""Takes rows (B,) of a dataset; returns their responses (B, N) float32."""
