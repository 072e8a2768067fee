"""Stage two: the encoder and its training."""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from bddn.spec.base import NonNegative, Positive, PositiveFloat, Seed, Spec, reject_duplicates
from bddn.spec.split_by import SplitBy


def _different(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if names is not None and len({*names}) < len(names):
        raise ValueError("names of different covariates, each once")
    return names


Layers = Annotated[tuple[str, ...] | None, AfterValidator(reject_duplicates)]


SHARP = (0.0,)
"""The blurs of the published model."""


_NEED_WHITENED = {
    "blurred_tokens": "scaled",
    "initial_align": "responses",
    "shared_noise": "limited",
    "shared_signal": "late",
    "sampled": "responsive",
}


def _rising(blurs: tuple[float, ...]) -> tuple[float, ...]:
    if any(b <= a for a, b in pairwise(blurs)):
        raise ValueError("blurs that rise, each once")
    return blurs


class FitSpec(Spec):
    """Stage two: the encoder and its training. The defaults are the recipe `paper`."""

    seed: Seed = 0
    """Seed of the split, the initial weights and the order of images."""
    split: tuple[Positive, Positive, Positive] = (8, 1, 1)
    """Shares of training, validation and test images."""
    split_seed: Seed | None = Field(default=None, exclude_if=lambda seed: seed is None)
    """Seed of the split alone, so that fits of different seeds have the same test images. None means `seed`."""
    split_by: SplitBy | None = Field(default=None, exclude_if=lambda by: by is None)
    """What decides the split beside the seed: clusters of similar images, categories of a table, or a file of the
    split. None means that single images are drawn."""
    covariates: Annotated[tuple[str, ...] | None, AfterValidator(_different)] = Field(
        default=None, min_length=1, exclude_if=lambda names: names is None
    )
    """Covariates of single responses, by name, such as old: their linear part is estimated on the training images, and
    taken out of the responses before the fit (see `bddn.data.covariates`). None means none."""
    layers: Layers = Field(default=None, min_length=2)
    """Cached layers to use, early to late; none means all."""
    channels: Positive = 128
    """D, the number of shared channels to which every layer is aligned."""
    code_frequencies: Positive = 32
    """Frequencies per axis of the sinusoidal position code."""
    code_period: PositiveFloat = 1000.0
    """Base of the periods of the position code."""
    code_steps: PositiveFloat = 100.0
    """Length to which the largest extent of the voxel positions is scaled."""
    resolution: PositiveFloat | None = Field(default=None, exclude_if=lambda resolution: resolution is None)
    """Spacing of a cubic grid, in steps of the position code, whose cells merge positions before they are coded. Voxels
    in one cell select the same, which saves time where the mesh is finer than the data. None: no merging."""
    merged_at: Literal["centre", "mean"] = Field(default="centre", exclude_if=lambda at: at == "centre")
    """Where the voxels of one cell of `resolution` are: at its `centre`; or at the `mean` of their positions, so that a
    voxel that is alone in its cell stays where it is."""
    selection: Literal["topological", "free", "unfactorized"] = "topological"
    """Selection of a voxel: `topological`, computed by small networks from its position; or, as in the ablations of the
    paper, `free`, with free parameters per voxel, or `unfactorized`, with a free weight per voxel and token."""
    selector_width: Positive = 128
    """Width of the two hidden layers of each selector."""
    blurs: Annotated[tuple[NonNegative, ...], AfterValidator(_rising)] = Field(
        default=SHARP, min_length=1, exclude_if=lambda blurs: blurs == SHARP
    )
    """Blurs of the grid, as standard deviations in tokens, between which every voxel selects the size of its receptive
    field. This is not in the paper, whose model reads the sharp grid: (0,)."""
    blurred_tokens: Literal["kept", "scaled"] = Field(default="kept", exclude_if=lambda tokens: tokens == "kept")
    """Tokens of the blurs, which vary less between images than sharp ones: `kept`; or `scaled` to the same variance in
    training, so that voxels do not prefer sharp and global tokens because these are larger. Needs whitened features."""
    fixed: Literal["layer", "local", "place", "scale"] | None = Field(
        default=None, exclude_if=lambda part: part is None
    )
    """A part of the selection that is not learned, as a control: equal weights of all layers (`layer`), the centre of
    the image (`place`), or local and global token in equal parts (`scale`), as at the start; or local tokens alone
    (`local`), for networks whose global token is only the mean of the local ones. None: all are learned."""
    readout: Literal["mean", "root"] = "mean"
    """Divisor of the sum over the D shared channels in a prediction: D (`mean`), or √D (`root`), which fits faster."""
    features: Literal["raw", "whitened"] = "raw"
    """Input of the alignment: `raw` tokens, or tokens `whitened` by each layer's covariance over a sample of training
    images. The saved encoder takes raw tokens in both cases."""
    initial_align: Literal["random", "responses"] = Field(default="random", exclude_if=lambda kind: kind == "random")
    """Channel align before the first step: `random`, or turned towards the principal components of the training
    `responses` if a layer has more than D channels, which is not in the paper. Needs whitened features."""
    shared_noise: Literal["kept", "limited"] = Field(default="kept", exclude_if=lambda kind: kind == "kept")
    """Noise that voxels share, as of arousal or motion, in the responses from which selectors and alignment are
    learned: `kept`; or `limited` in every principal component to what it would have if no two voxels shared noise,
    which is not in the paper. Noise is what tokens do not explain. Needs whitened features."""
    shared_signal: Literal["kept", "late"] = Field(default="kept", exclude_if=lambda kind: kind == "kept")
    """A large signal that voxels share, in the same responses: `kept`; or learned `late`, which is not in the paper: at
    first only 10 % of the variance, until the selectors have found their places. Needs whitened features."""
    bootstrap: Seed | None = None
    """Seed of a bootstrap, which draws training images with replacement; none means each image once."""
    half: Literal[0, 1] | None = Field(default=None, exclude_if=lambda half: half is None)
    """Half of the training images that is used. The two halves of one split have no image in common. None means all."""
    sample: Positive | None = Field(default=None, exclude_if=lambda sample: sample is None)
    """Number of voxels, spread evenly over cortex, on which selectors and alignment are trained. All voxels then get
    their channel weights from the closed form (`polish`). None means all voxels, as do selections that are not
    functions of position."""
    sampled: Literal["evenly", "responsive"] = Field(default="evenly", exclude_if=lambda how: how == "evenly")
    """Which voxels are in `sample`: spread `evenly` over cortex; or, where tokens explain the responses of less than
    half of the voxels, mostly those (`responsive`), because the noise of all others would mislead the selectors. Needs
    whitened features."""
    epochs: Positive = 20
    """Passes over the training images."""
    max_steps: Positive | None = Field(default=None, exclude_if=lambda steps: steps is None)
    """Largest number of steps: fewer epochs are made if they have more steps, but at least one. None means no limit."""
    min_steps: Positive | None = Field(default=None, exclude_if=lambda steps: steps is None)
    """Number of steps, if not limited by `max_steps`, below which a step has fewer images, down to two: few images then
    still give enough steps. None means that every step has `batch_size` images."""
    batch_size: Positive = 8
    """Largest number of images in one step."""
    learning_rate: PositiveFloat = 1e-3
    """Learning rate of AdamW; with a schedule, its largest value."""
    schedule: Literal["constant", "one_cycle"] = "constant"
    """Learning-rate schedule: `constant`; or `one_cycle`, which rises over the first 30 % of the steps, while selectors
    have little information, and then falls to zero."""
    weight_decay: NonNegative = 0.01
    """Weight decay of AdamW."""
    gradient_clip: PositiveFloat = 0.5
    """Largest norm of the whole gradient."""
    loss_beta: PositiveFloat = 0.1
    """Error at which the smooth-L1 loss changes from square to linear, in units of the responses."""
    regularizer: NonNegative = 0.1
    """Initial weight λ of the term that keeps the selectors soft."""
    regularizer_steps: Positive = 2000
    """Number of steps over which the weight λ falls to zero; with `one_cycle`, at most 40 % of the steps."""
    regularizer_fall: Literal["linear", "exponential"] = Field(
        default="linear", exclude_if=lambda fall: fall == "linear"
    )
    """How the weight λ falls: `linear`ly to zero, or `exponential`ly to 1 % and then to zero, which is not in the
    paper: layers that predict almost as well as others then have more steps to become different."""
    layer_regularizer: NonNegative = Field(default=0.0, exclude_if=lambda weight: weight == 0)
    """Weight of the negative entropy of layers that stays when λ has fallen, which is not in the paper: a weak reward
    of even weights, so that one layer does not take the place of others that predict almost as well."""
    scale_regularizer: Literal["square", "logit"] = Field(default="square", exclude_if=lambda kind: kind == "square")
    """What the regularizer limits of the scale: the `square` of its distance from 1/2, as in the paper; or that of its
    `logit`, whose gradient does not fade where a scale has run to 0 or 1."""
    polish: bool = False
    """Whether ridge regression on the selected features gives the channel weights of every voxel after the last epoch.
    Otherwise those of the epoch with the best score on the validation images are kept."""
    arithmetic: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Number format of the readout's products on a GPU. Sums, and everything on a CPU, are float32."""

    @model_validator(mode="after")
    def _sizes_are_selected(self) -> Self:
        if self.selection == "unfactorized" and self.blurs != SHARP:
            raise ValueError("with blurs: [0] where selection is unfactorized, which has no size")
        if self.blurred_tokens == "scaled" and len(self.blurs) == 1:
            raise ValueError("with several blurs, or with blurred_tokens: kept")
        return self

    @model_validator(mode="after")
    def _whitened_where_needed(self) -> Self:
        needing = [f"{name} is {value}" for name, value in _NEED_WHITENED.items() if getattr(self, name) == value]
        if needing and self.features != "whitened":
            raise ValueError(f"with features: whitened where {' and '.join(needing)}")
        return self

    @model_validator(mode="after")
    def _positions_are_merged(self) -> Self:
        if self.merged_at != "centre" and self.resolution is None:
            raise ValueError("with resolution, or without merged_at")
        return self

    @model_validator(mode="after")
    def _half_is_not_resampled(self) -> Self:
        if self.half is not None and self.bootstrap is not None:
            raise ValueError("with half or bootstrap, not both")
        return self

    @model_validator(mode="after")
    def _fixed_is_selected(self) -> Self:
        if self.fixed is not None and self.selection != "topological":
            raise ValueError("with selection: topological, or without fixed")
        return self

    @model_validator(mode="after")
    def _sample_can_be_extended(self) -> Self:
        if self.sample is not None and self.selection == "topological" and not self.polish:
            raise ValueError("with polish: true, or without sample: only the closed form gives weights to other voxels")
        return self

    @property
    def seed_of_split(self) -> int:
        """The seed that draws the split."""
        return self.seed if self.split_seed is None else self.split_seed

    @classmethod
    def recipe(cls, name: str) -> "FitSpec":
        """Return the recipe with this name, one of `RECIPES`."""
        return cls(**RECIPES[name])


RECIPES: dict[str, dict[str, Any]] = {
    "paper": {},
    "fast": {
        "readout": "root",
        "features": "whitened",
        "initial_align": "responses",
        "shared_noise": "limited",
        "shared_signal": "late",
        "blurs": (0.0, 1.0, 2.0),
        "blurred_tokens": "scaled",
        "resolution": 0.6,
        "merged_at": "mean",
        "sample": 4000,
        "sampled": "responsive",
        "epochs": 5,
        "max_steps": 1600,
        "min_steps": 500,
        "learning_rate": 5e-3,
        "schedule": "one_cycle",
        "regularizer_steps": 640,
        "regularizer_fall": "exponential",
        "layer_regularizer": 2e-4,
        "scale_regularizer": "logit",
        "polish": True,
    },
}
"""The published settings, and faster ones that need a quarter of the training: see `tests/bench/results/README.md`."""
