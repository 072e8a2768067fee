"""Stage one: backbones and feature caches."""

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, SerializeAsAny, field_validator, model_validator

from bddn.files.paths import expand_home
from bddn.spec.backbone import BackboneSpec, find_kind, section_of_kind
from bddn.spec.base import Positive, Seed, Spec
from bddn.spec.finetune import ParentSpec

VALUE_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "bitround": 2, "int8": 1}  # of a stored number
PRECISION = r"^(float16|bfloat16|float32|int8|bitround:[1-9])$"
Section = TypeVar("Section", bound=BackboneSpec)


class WeightsSpec(Spec):
    """Where the weights of a backbone come from, exactly one of `hub`, `folder`, `url`, `file` and `random`.

    The word `random` alone means `{random: 0}`.
    """

    hub: str | None = None
    """Hugging Face hub id, e.g. laion/CLIP-ViT-B-16-DataComp.L-s1B-b8K."""
    revision: str | None = None
    """Commit of the hub repository; none means its current main."""
    folder: str | None = None
    """Local folder in the Hugging Face on-disk format, relative to the working directory, or from ~."""
    url: str | None = None
    """Address of a foreign checkpoint, which `bddn fetch` downloads."""
    file: str | None = None
    """A foreign checkpoint on this machine, relative to the working directory, or from ~."""
    format: Literal["open_clip", "torchvision", "timm", "moco"] | None = None
    """Whose format the foreign checkpoint has; `timm` is also that of the MAE releases."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        default=None, exclude_if=lambda x: x is None
    )
    """SHA-256 of the foreign checkpoint in hexadecimal; any other file is refused."""
    random: Seed | None = None
    """Seed of random weights: the untrained twin of the spec's architecture."""
    mirror: str | None = Field(default=None, exclude_if=lambda x: x is None)
    """Name of a spec that reads the same weights from a repository without a gate, if that of `hub` is gated."""

    @field_validator("folder", "file")
    @classmethod
    def _at_home(cls, path: str | None) -> str | None:
        return None if path is None else expand_home(path)

    @model_validator(mode="before")
    @classmethod
    def _random_alone(cls, value: Any) -> Any:
        return {"random": 0} if value == "random" else value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = ("hub", "folder", "url", "file", "random")
        if sum(getattr(self, name) is not None for name in sources) != 1:
            raise ValueError(f"one of {', '.join(repr(name) for name in sources)}, exactly one")
        if self.hub is None and self.revision is not None:
            raise ValueError("without 'revision' where it is not on the hub")
        if self.hub is None and self.mirror is not None:
            raise ValueError("without 'mirror' where it is not on the hub")
        foreign = self.url is not None or self.file is not None
        if foreign != (self.format is not None):
            raise ValueError("with 'format' where it is a 'url' or a 'file', and only there")
        if self.sha256 is not None and not foreign:
            raise ValueError("without 'sha256' where it is no 'url' or 'file'")
        return self

    @property
    def place(self) -> str:
        """The source, for messages."""
        return self.hub or self.folder or self.url or self.file or f"random weights of seed {self.random}"


def _rows_and_columns(given: object) -> object:
    return (given, given) if type(given) is int else given


class CacheSpec(Spec):
    """Stage one: which backbone, which image size, which layers and tokens, and how they are stored."""

    title: str
    """One line for people."""
    backbone: Annotated[SerializeAsAny[BackboneSpec] | None, BeforeValidator(section_of_kind)] = None
    """Which network, and which of its layers; none where it is handed over in Python."""
    weights: WeightsSpec | None = None
    """Where the weights come from; none for a module of the user's own, which brings them."""
    licence: str | None = None
    """Licence of the weights, for people."""
    parent: ParentSpec | None = Field(default=None, exclude_if=lambda parent: parent is None)
    """The network that this one was fine-tuned from, and how. It is recorded in caches, and changes no token."""
    groups: tuple[str, ...] = ()
    """Tables and figures that it belongs to; `make extract-GROUP` extracts all of a group."""
    image_size: Positive | tuple[Positive, Positive] = 224
    """Side, or height and width, in pixels of the image that the backbone sees."""
    preprocess: Literal["paper", "native"] = "paper"
    """`paper`: squash to image_size, ImageNet mean and deviation, for every backbone. `native`: the backbone's own."""
    autocast: Literal["float16", "bfloat16"] | None = None
    """Lower precision of the forward pass, by torch.autocast; none is float32."""
    compile: bool = False
    """Compile the blocks with torch.compile: slow to start, faster on a GPU."""
    grid: Annotated[tuple[Positive, Positive], BeforeValidator(_rows_and_columns)] = (8, 8)
    """Rows and columns, or one number for both, to which local tokens are resized (bilinear) before they are stored."""
    global_token: Literal["cls", "mean"] = "cls"
    """The global token of a layer: its CLS token, or the mean of its local tokens before resizing."""
    registers: bool = Field(default=False, exclude_if=lambda stored: not stored)
    """Whether the registers of a layer, if it has any, are stored too. No fit reads them."""
    precision: Annotated[str, Field(pattern=PRECISION)] = "float16"
    """Number format of the stored tokens: float16, bfloat16, float32, bitround:K (float16 of which K bits of the
    mantissa are kept, compressed), or int8 (with a scale per channel and shard)."""
    batch_size: Positive = 32
    """Images in one forward pass; changes speed and memory only. A CPU takes at most 8 at once on each core."""
    chunk_images: Positive = 16
    """Images in one chunk of the store: the least that a reader fetches."""
    shard_images: Positive = 256
    """Images in one shard of the store: the unit of work and of commitment."""

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        if self.shard_images % self.chunk_images:
            raise ValueError(f"such that shard_images is a multiple of chunk_images ({self.chunk_images})")
        needs_weights = self.backbone is not None and not self.backbone.brings_weights
        if needs_weights != (self.weights is not None):
            raise ValueError("with 'weights' where the backbone does not bring them, and only there")
        return self

    @classmethod
    def class_of(cls, field: str, value: object) -> type[BaseModel] | None:
        if field == "backbone" and isinstance(value, dict) and (kind := find_kind(value)) is not None:
            found: type[BackboneSpec] = kind.spec
            return found
        return super().class_of(field, value)

    def section(self, kind: type[Section]) -> Section:
        """Return the section `backbone` as this class."""
        assert isinstance(self.backbone, kind)
        return self.backbone

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width in pixels of the image that the backbone sees."""
        return self.image_size if isinstance(self.image_size, tuple) else (self.image_size, self.image_size)

    def identity(self) -> dict[str, Any]:
        """Return the fields that decide what is stored, so neither texts for people nor the batch size.

        Backbone, weights and layers are told by the backbone itself, as they were found.
        """
        apart = {"title", "backbone", "weights", "licence", "parent", "groups", "batch_size"}
        return {k: v for k, v in self.to_dict().items() if k not in apart} | {"image_size": list(self.image_hw)}
