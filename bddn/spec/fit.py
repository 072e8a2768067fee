"""Stage two: the encoder and its training."""

from typing import Annotated

from pydantic import AfterValidator, Field

from bddn.spec.base import NonNegative, Positive, PositiveFloat, Spec, each_once

Layers = Annotated[tuple[str, ...] | None, AfterValidator(each_once)]


class FitSpec(Spec):
    """Stage two: the encoder and its training. The defaults are the recipe `paper`."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the split, of the initial weights and of the order of images."""
    split: tuple[Positive, Positive, Positive] = (8, 1, 1)
    """Shares of training, validation and test images."""
    layers: Layers = Field(default=None, min_length=2)
    """Cached layers to fit on, early to late; none means all."""
    channels: Positive = 128
    """D, the number of shared channels to which every layer is aligned."""
    code_frequencies: Positive = 32
    """Frequencies per axis of the sinusoidal position code."""
    code_period: PositiveFloat = 1000.0
    """Base of the periods of the position code."""
    code_steps: PositiveFloat = 100.0
    """Length to which the longest side of the voxel positions is scaled."""
    selector_width: Positive = 128
    """Width of the two hidden layers of each selector."""
    epochs: Positive = 20
    """Passes over the training images."""
    batch_size: Positive = 8
    """Images in one step."""
    learning_rate: PositiveFloat = 1e-3
    """Of AdamW."""
    weight_decay: NonNegative = 0.01
    """Of AdamW."""
    gradient_clip: PositiveFloat = 0.5
    """Largest norm of the whole gradient."""
    loss_beta: PositiveFloat = 0.1
    """Where the smooth-L1 loss turns from square to linear, in units of the responses."""
    regularizer: NonNegative = 0.1
    """Weight λ of the term that keeps the selectors soft at first."""
    regularizer_steps: Positive = 2000
    """Steps over which that term fades to nothing."""
