"""Names of interpolations."""

from enum import Enum


class InterpolationMode(Enum):
    """As in torchvision."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"
