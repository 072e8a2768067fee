"""A planted brain."""

from typing import Annotated

from pydantic import Field

from bddn.spec.base import Positive, PositiveFloat, Seed, Spec


class PlantSpec(Spec):
    """A planted brain: a synthetic subject, and a network that its responses come from, with a known answer."""

    seed: Seed = 0
    """Seed of pictures, network, maps and noise."""
    n_images: Annotated[int, Field(ge=20, le=9999)] = 1600
    """Pictures, and rows of responses."""
    radius_rad: Annotated[float, Field(ge=0.1, lt=1.2)] = 0.56
    """Angular radius on the sphere of each hemisphere's patch of voxels; 0.56 gives about 780 voxels each."""
    n_layers: Annotated[int, Field(ge=2)] = 8
    """Blocks of the network."""
    width: Annotated[int, Field(gt=0, multiple_of=24)] = 96
    """Channels of the network."""
    image_size: Positive = 112
    """Side in pixels of what the network sees."""
    patch: Positive = 14
    """Side in pixels of its patches."""
    n_features: Positive = 8
    """Random channel mixtures per layer of which every voxel reads its own mixture."""
    layer_spread: PositiveFloat = 0.6
    """Standard deviation, in layers, of a voxel's tuning to depth."""
    mean_ceiling: Annotated[float, Field(gt=0.2, lt=0.7)] = 0.42
    """Mean over voxels of the explainable share of variance."""
