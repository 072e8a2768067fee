"""The settings of a planted brain."""

from typing import Annotated

from pydantic import Field

from bddn.spec.base import Positive, PositiveFloat, Seed, Spec


class PlantSpec(Spec):
    """A planted brain: a synthetic subject with known true maps, and the network that its responses are made from."""

    seed: Seed = 0
    """Seed of images, network, maps and noise."""
    n_images: Annotated[int, Field(ge=20, le=9999)] = 1600
    """Number of images, and rows of responses."""
    radius_rad: Annotated[float, Field(ge=0.1, lt=1.2)] = 0.56
    """Angular radius, on the sphere, of the patch of voxels in each hemisphere; 0.56 gives about 780 voxels each."""
    n_layers: Annotated[int, Field(ge=2)] = 8
    """Number of blocks of the network."""
    width: Annotated[int, Field(gt=0, multiple_of=24)] = 96
    """Number of channels of the network."""
    image_size: Positive = 112
    """Side in pixels of the network's input image."""
    patch: Positive = 14
    """Side in pixels of the network's patches."""
    n_features: Positive = 8
    """Number of random channel mixtures per layer; every voxel combines them with its own weights."""
    layer_spread: PositiveFloat = 0.6
    """Standard deviation, in layers, of a voxel's tuning to depth."""
    mean_ceiling: Annotated[float, Field(gt=0.2, lt=0.7)] = 0.42
    """Mean noise ceiling of the voxels: explainable share of variance."""
