"""What a fit is to predict."""

from collections.abc import Callable

from torch import Tensor

Targets = Callable[[Tensor], Tensor]
"""Rows (B,) of a dataset to its responses (B, N) float32."""
