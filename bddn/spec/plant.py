"""A planted brain."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bddn.spec.base import Positive, PositiveFloat, Seed, Spec

Depth = Literal["linear", "quadratic", "sigmoid", "peaked", "borders", "mixture"]


class PlantSpec(Spec):
    """A planted brain: a synthetic subject, and a network that its responses come from, with a known answer."""

    seed: Seed = 0
    """Seed of images, network, maps and noise."""
    n_images: Annotated[int, Field(ge=20, le=9999)] = 1600
    """Images, and rows of responses."""
    scenes: Literal["shapes", "leaves", "gratings", "photographs"] = "shapes"
    """Shapes and stripes, overlapping discs of all sizes (dead leaves), sums of gratings, or random crops of
    photographs."""
    photographs: str = ""
    """Folder of the photographs."""
    mesh: Literal["fsaverage5", "fsaverage6", "fsaverage7"] = "fsaverage5"
    """Mesh whose vertices are the voxels; each has four times those of the one before."""
    radius_rad: Annotated[float, Field(ge=0.1, lt=1.2)] = 0.56
    """Angular radius on the sphere of each hemisphere's patch of voxels; 0.56 gives about 780 voxels each on
    fsaverage5."""
    n_layers: Annotated[int, Field(ge=2)] = 8
    """Blocks of the network that is made."""
    width: Annotated[int, Field(gt=0, multiple_of=24)] = 96
    """Its channels."""
    image_size: Positive = 112
    """Side in pixels of what it sees."""
    patch: Positive = 14
    """Side in pixels of its patches."""
    n_features: Positive = 8
    """Random channel mixtures per layer of which every voxel reads its own mixture."""
    shared_tuning: Annotated[float, Field(ge=0, lt=1, exclude_if=lambda share: not share)] = 0.0
    """Share of the variance of these mixtures that is the same for all voxels, so that a large part of the signal is
    common to the whole cortex."""
    depth_law: Depth = "linear"
    """How depth grows with the distance from the calcarine sulcus; `peaked` falls again, `borders` makes four areas of
    one depth each, and voxels of `mixture` read two layers."""
    layer_spread: PositiveFloat = 0.6
    """Standard deviation, in layers, of a voxel's tuning to depth."""
    place_law: Literal["contralateral", "whole"] = "contralateral"
    """Whether each hemisphere sees the other half of the image, or all of it."""
    field_size: tuple[PositiveFloat, PositiveFloat] = (0.3, 0.42)
    """Standard deviation of the receptive fields at depth 0 and at depth 1, in image coordinates (-1 to 1)."""
    elongation: Annotated[float, Field(ge=1, le=4)] = 1.0
    """Ratio of a field's long to its short side; the direction changes over cortex."""
    scale_law: Literal["depth", "anywhere"] = "depth"
    """Whether the share of the global token grows with depth, or is high and low anywhere."""
    mean_ceiling: Annotated[float, Field(gt=0.05, lt=0.7)] = 0.42
    """Mean over voxels of the explainable share of variance."""
    silent: Annotated[float, Field(ge=0, lt=0.9)] = 0.0
    """Share of the cortex, the upper end of each patch, whose responses are noise alone."""
    noise: Literal["gaussian", "heavy", "correlated", "shared"] = "gaussian"
    """Gaussian, of heavy tails (Student's t of 3 degrees of freedom), half of it shared by neighbours, or most of it
    shared by all voxels, as of arousal."""

    @model_validator(mode="after")
    def _photographs_have_a_folder(self) -> Self:
        if (self.scenes == "photographs") != bool(self.photographs):
            raise ValueError("`photographs: FOLDER` with `scenes: photographs`, and only with it")
        return self
