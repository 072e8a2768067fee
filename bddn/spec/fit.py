"""Stage two: the encoder and its training."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from bddn.spec.base import NonNegative, Positive, PositiveFloat, Seed, Spec, each_once

Layers = Annotated[tuple[str, ...] | None, AfterValidator(each_once)]


class FitSpec(Spec):
    """Stage two: the encoder and its training. The defaults are the recipe `paper`."""

    seed: Seed = 0
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
    selection: Literal["topological", "free", "unfactorized"] = "topological"
    """How voxels select: by small networks of their position, or as the paper's ablations do, by free numbers of each
    voxel, or by a free weight of each voxel for every token."""
    selector_width: Positive = 128
    """Width of the two hidden layers of each selector."""
    readout: Literal["mean", "root"] = "mean"
    """Whether a prediction is the sum over shared channels divided by D, or by its root, with which fits are faster."""
    features: Literal["raw", "whitened"] = "raw"
    """Whether layers are decorrelated, by their covariance over a sample of training images, before they are aligned;
    the saved encoder takes raw tokens either way."""
    bootstrap: Seed | None = None
    """Number of a bootstrap: training images are drawn with replacement; none means each of them once."""
    epochs: Positive = 20
    """Passes over the training images."""
    batch_size: Positive = 8
    """Images in one step."""
    learning_rate: PositiveFloat = 1e-3
    """Of AdamW; the largest one where it changes."""
    schedule: Literal["constant", "one_cycle"] = "constant"
    """Whether the learning rate stays, or rises over three tenths of the steps, so that selectors move slowly while
    there is little to select by, and then falls to nothing."""
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
    polish: bool = False
    """Whether, in the end, the channel weights of every voxel are solved for by ridge regression on what it selects,
    where that is better on the validation images."""
    arithmetic: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Of the readout's products on a GPU; sums are float32 always, and so is everything on a CPU."""

    @classmethod
    def recipe(cls, name: str) -> "FitSpec":
        """A recipe by its name, one of `RECIPES`."""
        return cls(**RECIPES[name])


RECIPES: dict[str, dict[str, Any]] = {
    "paper": {},
    "fast": {
        "readout": "root",
        "features": "whitened",
        "epochs": 5,
        "batch_size": 16,
        "learning_rate": 4e-3,
        "schedule": "one_cycle",
        "regularizer": 0.01,
        "regularizer_steps": 250,
        "polish": True,
    },
}
"""Published numbers, and those that get further with a quarter of the images: see `tests/bench/results/quality.md`."""
