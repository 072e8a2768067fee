"""The section `backbone` of any network of the transformers library."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, JsonValue, field_validator, model_validator

from bddn.spec.backbone import BackboneSpec, Layers, OutputPath
from bddn.spec.base import Positive, PositiveFloat, Spec


class PixelsSpec(Spec):
    """How a network wants its pixels, which are numbers from 0 to 1: minus a mean, divided by a deviation."""

    mean: tuple[float, float, float]
    """Of red, green and blue."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    """Of red, green and blue."""


IMAGENET = PixelsSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
UNIT = PixelsSpec(mean=(0, 0, 0), std=(1, 1, 1))
PIXELS = {
    "imagenet": IMAGENET,
    "clip": PixelsSpec(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711)),
    "half": PixelsSpec(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    "unit": UNIT,
}


def _pixels(value: object) -> object:
    """Replace a name by its mean and deviation."""
    if isinstance(value, str):
        if value not in PIXELS:
            raise ValueError(f"one of {', '.join(PIXELS)}, or {{mean: [r, g, b], std: [r, g, b]}}")
        return PIXELS[value]
    return value


def _order(value: object) -> object:
    if value in ("rows", "mask_units") or (isinstance(value, list | tuple) and value):
        return value
    raise ValueError("rows, mask_units, or a list of the sides of nested windows, such as [8, 2]")


class PrefixSpec(Spec):
    """Tokens of a sequence before or after the local ones: first CLS tokens, then registers."""

    cls: Annotated[int, Field(ge=0)] = 0
    """Number of CLS tokens."""
    registers: Annotated[int, Field(ge=0)] = 0
    """Number of register tokens."""
    global_cls: Annotated[int, Field(ge=0)] = 0
    """Which of several CLS tokens is the global one, counted from 0; the others are left out."""

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if self.global_cls >= max(1, self.cls):
            raise ValueError(f"with global_cls below the number of CLS tokens, {self.cls}")
        return self


class TransformersSpec(BackboneSpec):
    """Any network of the transformers library: its class, and where its blocks and tokens are."""

    family: Literal["transformers"]
    """The library."""
    model: Annotated[str, Field(pattern=r"^[A-Z]\w*$")]
    """A class that transformers itself exports, for instance DINOv3ViTModel. Code of a hub repository is never run."""
    blocks: str
    """Path of the blocks in the network, with wildcards as for the layers of a module: `encoder.layers.*`. They are
    called block_0, block_1, …; with two levels of wildcards (`encoder.stages.*.layers.*`) stage_0.block_0, …."""
    stages: tuple[tuple[Positive, Positive, Positive], ...] | None = Field(default=None, min_length=1)
    """Number of blocks, channels, and pixels along the side of a token, of each stage. None: one stage, of the
    architecture's num_hidden_layers, hidden_size and patch_size."""
    prefix: PrefixSpec = PrefixSpec()
    """Tokens before the local ones."""
    suffix: PrefixSpec = Field(default=PrefixSpec(), exclude_if=lambda tokens: tokens == PrefixSpec())
    """Tokens after the local ones: {cls: 1} in Llama 4, {registers: 100} for the detection tokens of YOLOS."""
    order: Annotated[Literal["rows", "mask_units"] | tuple[Positive, ...], BeforeValidator(_order)] = "rows"
    """Order of the local tokens, which are stored row by row: rows, the mask units of Hiera, or the sides in tokens of
    nested windows, outer first ([2] in Qwen3-VL, [8, 2] in Qwen2.5-VL)."""
    output: OutputPath = None
    """Which tensor of a block's output is stored, where it returns several; as for a module."""
    channels: Literal["first", "last"] | None = None
    """Where the channels of maps are, where shapes alone do not tell."""
    pixels: Annotated[PixelsSpec, BeforeValidator(_pixels)] = IMAGENET
    """What `preprocess: native` subtracts and divides by: imagenet, clip, half (0.5 and 0.5), unit (nothing: the
    network normalizes inside), or {mean, std}."""
    input: Literal["image", "video", "patches", "packed"] = "image"
    """What the network reads: pixels (B, 3, H, W); the image repeated as `frames` of a video (V-JEPA 2); patches with
    their numbers of rows and columns (SigLIP 2 NaFlex); or the patches of all images in one sequence, each repeated as
    `frames` (Qwen-VL)."""
    frames: Positive = 2
    """How often an image is repeated in time, for `input: video` and `packed`."""
    architecture: dict[str, JsonValue] = Field(default_factory=dict)
    """Fields of the class's configuration. Weights must agree with them; random weights need them."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Options of the class's constructor, such as add_pooling_layer: false."""
    forward: dict[str, JsonValue] = Field(default_factory=dict)
    """Options of its forward, such as interpolate_pos_encoding: true."""
    tower: Annotated[str, Field(pattern=r"^\w+(\.\w+)*$")] | None = None
    """Path of this network in the files of a larger one, whose other weights are not read: visual in Qwen-VL."""
    layers: Layers = Field(default=None, min_length=1)
    """Blocks to store, as for a family: names or globs (block_3, stage_2.*), numbers, or relative depth (50%)."""

    @property
    def not_local(self) -> tuple[int, int]:
        """Numbers of CLS tokens and of registers, before and after the local tokens."""
        return self.prefix.cls + self.suffix.cls, self.prefix.registers + self.suffix.registers

    @field_validator("blocks")
    @classmethod
    def _one_or_two_wildcards(cls, path: str) -> str:
        if not 1 <= len(wild_levels(path)) <= 2 or "**" in path:
            raise ValueError("a path with one or two levels that have a wildcard, such as encoder.layers.*")
        return path

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        if self.input == "packed" and not isinstance(self.order, tuple):
            raise ValueError("with the sides of windows as 'order' where input is packed")
        return self


def wild_levels(path: str) -> list[int]:
    """Return which levels of a path, counted from 0, have a wildcard."""
    return [i for i, level in enumerate(path.split(".")) if any(wild in level for wild in "*?[")]
