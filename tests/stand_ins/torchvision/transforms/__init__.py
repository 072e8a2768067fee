"""Preprocessing, for which bddn uses its own."""

from . import functional

__all__ = ["ToTensor", "functional"]


class ToTensor:
    """From an image to a tensor."""
