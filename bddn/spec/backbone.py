"""The section `backbone` of a spec: which network, and which of its layers. Each kind of backbone has its own fields.

A package adds a kind by an entry point of the group `bddn.backbones`, whose value is the import path of a
`bddn.backbones.kind.Kind`. Its name is a key that the section of this kind has and no other, or KEY.VALUE where the key
must have that value:

    [project.entry-points."bddn.backbones"]
    mylab = "mylab.bddn:MYLAB"

Then a spec with `backbone: {mylab: …}` works in every command.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, field_validator, model_validator

from bddn.entry_points import installed, load
from bddn.errors import SpecError
from bddn.files.paths import expand_home
from bddn.spec.base import Positive, Seed, Spec, reject_duplicates

ENTRY_POINTS = "bddn.backbones"


def _path(value: object) -> object:
    """Accept a whole number or a text. A fraction would be cut to a whole number."""
    if value is None or isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ValueError("a whole number, a key, or a path in quotes such as 'hidden_states/3'")


OutputPath = Annotated[int | str | None, BeforeValidator(_path)]
Layers = Annotated[tuple[str | int, ...] | None, AfterValidator(reject_duplicates)]


class BackboneSpec(Spec):
    """Fields of the section of some kind of backbone."""

    brings_weights: ClassVar[bool] = False
    """Whether the network brings its weights; if not, `weights` in the spec says where they are."""

    layers: Layers = Field(default=None, min_length=1)
    """Layers to store; none means all."""


class FamilySpec(BackboneSpec):
    """A network of a family that bddn knows: a vision transformer."""

    family: Literal["clip", "vit", "dinov2", "dinov2_registers", "sam"]
    """Which class of transformers reads the weights. MAE, MoCo v3 and ImageNet networks are `vit`."""
    architecture: dict[str, JsonValue] = Field(default_factory=dict)
    """Fields of the class's configuration. Weights must agree with them; random and foreign weights need them."""
    layers: Layers = Field(default=None, min_length=1)
    """Blocks to store, in any order: names or globs (block_3, block_1*), numbers from the first or last (0, -1), or
    relative depth (0%, 50%, 100%); none means all. They are stored early to late, under their names."""


class DiffusionSpec(BackboneSpec):
    """The network of a diffusion pipeline, seen at steps between an image and noise."""

    family: Literal["stable_diffusion", "sdxl", "sd3", "flux"]
    """Which pipeline of diffusers, given as its folder: U-Nets of Stable Diffusion 1.x and 2.x or XL, transformers of
    Stable Diffusion 3.x or FLUX.1."""
    architecture: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    """Fields of the configurations of its parts: `unet` or `transformer`, `vae`, `text_encoder` (also `_2`, `_3`) and
    `scheduler`."""
    n_steps: Positive = 50
    """Steps from the image to noise."""
    latents: Literal["inverted", "noised"] = Field(default="inverted", exclude_if=lambda x: x == "inverted")
    """How the latents of later steps are made: `inverted`, by the network itself step by step, or `noised`, by mixing
    the latent of the image with fixed noise."""
    noise_seed: Seed = Field(default=0, exclude_if=lambda x: x == 0)
    """Seed of the noise of noised latents, which is the same for all images."""
    text: Annotated[str, Field(pattern=r"^(encoded|without_t5|zeros|.+\.safetensors)$")] = Field(
        default="encoded", exclude_if=lambda x: x == "encoded"
    )
    """The text that the network gets: `encoded`, the empty prompt through all text encoders; `without_t5`, the same
    with zeros for the T5 encoder of Stable Diffusion 3; `zeros`; or a safetensors file of embeddings."""
    layers: Layers = Field(default=None, min_length=1)
    """Blocks at steps to store, e.g. up_2.resnet_0@t40, or globs: up_*.resnet_*@t25 (layers), up_2.resnet_0@t* (time
    steps). None means all."""

    @field_validator("text")
    @classmethod
    def _at_home(cls, text: str) -> str:
        return expand_home(text)

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        if self.noise_seed and self.latents != "noised":
            raise ValueError("with 'noise_seed' only beside 'latents: noised'")
        if self.text == "without_t5" and self.family != "sd3":
            raise ValueError("with 'text: without_t5' only for the family sd3")
        return self


class HookedSpec(BackboneSpec):
    """A network whose layers are the outputs of its submodules."""

    layers: Layers = Field(default=None, min_length=1)
    """Submodules whose outputs are stored: names or globs as `named_modules` gives them (blocks.3, blocks.*); `*` is
    one level of a name, `**` any number of levels."""
    output: OutputPath = None
    """Which tensor of a submodule's output is stored, where it returns several: its number in a tuple (0, 1, …), its
    key in a dict or dataclass, or a path of both ("hidden_states/3")."""
    leading_tokens: Annotated[int, Field(ge=0)] | None = None
    """Tokens before those of places, the first of them global, where shapes alone do not tell."""
    channels: Literal["first", "last"] | None = None
    """Where the channels of maps are, where shapes alone do not tell."""


class TimmSpec(HookedSpec):
    """A network of the library timm, which the extra `timm` installs."""

    family: Literal["timm"]
    """The library."""
    model: Annotated[str, Field(pattern=r"^\w+(\.\w+)?$")]
    """Name of the network in timm; after a dot the tag of its weights, as in vit_pe_core_base_patch16_224.fb.
    `preprocess: native` uses the mean and deviation of config.json beside the weights, or else of this tag."""
    architecture: dict[str, JsonValue] = Field(default_factory=dict)
    """Arguments of the network that replace its own. With depth, embed_dim and patch_size, the layers of a transformer
    are listed without opening it."""


class AlexNetSpec(HookedSpec):
    """AlexNet as in torchvision, without its fully connected layers, which have no places."""

    family: Literal["alexnet"]
    """The network."""


class ModuleSpec(HookedSpec):
    """A network of the user's own."""

    brings_weights: ClassVar[bool] = True

    module: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    """Import path of a function without arguments, `package.module:function`, that returns the torch module, or a pair
    of it and a function from a picture to pixels (for `preprocess: native`)."""
    state: Annotated[str, Field(pattern=r"\.safetensors$")] | None = Field(default=None, exclude_if=lambda x: x is None)
    """A safetensors file of all weights and buffers, which replace those of the module; its path is relative to the
    working directory, or from ~. None keeps the module's own."""

    @field_validator("state")
    @classmethod
    def _at_home(cls, path: str | None) -> str | None:
        return None if path is None else expand_home(path)


def find_kind(section: "Mapping[str, Any] | BackboneSpec") -> Any:
    """Return the kind of backbone (`bddn.backbones.kind.Kind`) whose key the section has; None if no kind claims it.

    Raises
    ------
    SpecError
        If the package of the kind cannot be imported, or two packages claim one key.
    """
    kinds = installed(ENTRY_POINTS, SpecError)
    for key, value in dict(section).items():
        for name in (f"{key}.{value}", str(key)):
            if value is not None and name in kinds:
                return load(kinds[name], SpecError)
    return None


def section_of_kind(value: object) -> object:
    """Check a section by the fields of its kind.

    Raises
    ------
    ValueError
        If no kind claims it, or fields are wrong.
    """
    if value is None or isinstance(value, BackboneSpec):
        return value
    kind = find_kind(value) if isinstance(value, dict) else None
    if kind is None:
        keys = dict.fromkeys(name.partition(".")[0] for name in installed(ENTRY_POINTS, SpecError))
        raise ValueError(f"a mapping with one of the keys {', '.join(keys)}")
    found: BackboneSpec = kind.spec.model_validate(value)
    return found
