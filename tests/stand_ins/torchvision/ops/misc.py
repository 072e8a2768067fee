"""A layer that timm asks for by its class, and that none of the tested networks has."""

from torch import nn


class FrozenBatchNorm2d(nn.Module):
    """A batch normalization that is not trained."""
