"""What a user asks for: frozen specs, checked when they are made, without any input or output."""

import difflib
import hashlib
import json
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from bddn.errors import SpecError

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PRECISION = r"^(float16|bfloat16|float32|int8|bitround:[1-9])$"
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def digest(value: Any) -> str:
    """SHA-256 of `value` as canonical JSON: sorted keys, no white space, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Spec(BaseModel):
    """A frozen set of checked fields; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def parse(cls, value: object, place: str) -> Self:
        """Check `value` (a mapping, as read from YAML or JSON); `place` names its source in an error.

        Raises
        ------
        SpecError
            Naming every wrong field at once.
        """
        if not isinstance(value, dict):
            raise SpecError(
                place,
                expected=f"a mapping with the keys {', '.join(cls.model_fields)}",
                got=f"{type(value).__name__}",
                fix="Compare it with the files in cache_specs/.",
            )
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise _spec_error(cls, error, place) from None

    @classmethod
    def from_yaml(cls, text: bytes, place: str) -> Self:
        """Check the content of a YAML file; `place` names the file in an error."""
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SpecError(
                place, expected="YAML", got=" ".join(str(error).split()), fix="Correct the file's syntax."
            ) from error
        return cls.parse({} if value is None else value, place)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """SHA-256 over all fields."""
        return digest(self.to_dict())


def _spec_error(cls: type[Spec], error: ValidationError, place: str) -> SpecError:
    expected, got, fixes = [], [], []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "the whole"
        if item["type"] == "extra_forbidden":
            known = _keys_at(cls, item["loc"][:-1])
            near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
            expected.append(f"one of the keys {', '.join(known)}")
            got.append(f"unknown key '{where}'")
            fixes.append(f"Did you mean '{near[0]}'?" if near else f"Remove '{where}'.")
        elif item["type"] == "missing":
            expected.append(f"the key '{where}'")
            got.append("none")
            fixes.append(f"Add '{where}'.")
        else:
            message = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            expected.append(f"'{where}' to be {message}")
            got.append(repr(item["input"]))
            fixes.append(f"Correct '{where}'.")
    return SpecError(place, expected=" and ".join(expected), got=" and ".join(got), fix=" ".join(fixes))


def _keys_at(cls: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        kind = cls.model_fields[str(part)].annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            cls = kind
    return list(cls.model_fields)


def _each_once(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    twice = sorted({name for name in names or () if (names or ()).count(name) > 1})
    if twice:
        raise ValueError(f"layers named once each, not '{twice[0]}' twice")
    return names


Layers = Annotated[tuple[str, ...] | None, AfterValidator(_each_once)]


class WeightsSpec(Spec):
    """Where the weights of a backbone come from: a hub id or a local folder, exactly one."""

    hub: str | None = None
    """Hugging Face hub id, e.g. laion/CLIP-ViT-B-16-DataComp.L-s1B-b8K."""
    revision: str | None = None
    """Commit of the hub repository; none means its current main."""
    folder: str | None = None
    """Local folder in the Hugging Face on-disk format, relative to the working directory."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.hub is None) == (self.folder is None):
            raise ValueError("either 'hub' or 'folder', exactly one of the two")
        if self.folder is not None and self.revision is not None:
            raise ValueError("without 'revision' where 'folder' is given")
        return self


class CacheSpec(Spec):
    """Stage one: which backbone, which images sizes, which layers and tokens, and how they are stored."""

    title: str
    """One line for people."""
    family: Literal["clip"]
    """Which loader of bddn.backbones reads the weights."""
    weights: WeightsSpec
    """Where the weights come from."""
    licence: str | None = None
    """Licence of the weights, for people."""
    image_size: Positive = 224
    """Side in pixels of the square image that the backbone sees (`paper` preprocessing)."""
    preprocess: Literal["paper", "native"] = "paper"
    """`paper`: squash to image_size, ImageNet mean and deviation, for every backbone. `native`: the backbone's own."""
    layers: Layers = Field(default=None, min_length=1)
    """Names of the layers to store; none means all."""
    grid: tuple[Positive, Positive] = (8, 8)
    """Rows and columns to which local tokens are resized (bilinear) before they are stored."""
    global_token: Literal["cls", "mean"] = "cls"
    """The global token of a layer: its CLS token, or the mean of its local tokens before resizing."""
    precision: Annotated[str, Field(pattern=PRECISION)] = "float16"
    """Number format of the stored tokens: float16, bfloat16, float32, bitround:K (float16 of which K bits of the
    mantissa are kept, compressed), or int8 (with a scale per channel and shard)."""
    batch_size: Positive = 32
    """Images in one forward pass; changes speed and memory only."""
    chunk_images: Positive = 16
    """Images in one chunk of the store: the least that a reader fetches."""
    shard_images: Positive = 256
    """Images in one shard of the store: the unit of work and of commitment."""

    @model_validator(mode="after")
    def _shards_of_whole_chunks(self) -> Self:
        if self.shard_images % self.chunk_images:
            raise ValueError(f"such that shard_images is a multiple of chunk_images ({self.chunk_images})")
        return self

    def identity(self) -> dict[str, Any]:
        """The fields that decide what is stored; texts for people and the batch size do not."""
        return {k: v for k, v in self.to_dict().items() if k not in {"title", "licence", "batch_size", "weights"}}


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


class PlantSpec(Spec):
    """A planted brain: a synthetic subject, and a network that its responses come from, with a known answer."""

    seed: Annotated[int, Field(ge=0)] = 0
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
