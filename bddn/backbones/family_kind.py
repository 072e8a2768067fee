"""The kind `family`: vision transformers of the `transformers` library."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bddn.backbones.kind import Description, Kind, Outline
from bddn.backbones.layers import select
from bddn.backbones.weights.local import OPEN_CLIP_FILES, TRANSFORMERS_FILES, whole_or_shards
from bddn.errors import SpecError
from bddn.spec import CacheSpec, FamilySpec, WeightsSpec

if TYPE_CHECKING:
    from bddn.backbones.backbone import Backbone

CONFIG, PROCESSOR, OPEN_CLIP_CONFIG = "config.json", "preprocessor_config.json", "open_clip_config.json"
ALL_PROCESSORS = "processor_config.json"  # where newer versions of transformers save the image processor with others
SIZE_FIELDS = ("num_hidden_layers", "hidden_size", "patch_size")
"""Fields of an architecture that determine the layers."""


@dataclass(frozen=True)
class Family:
    """A class of transformers.

    Attributes
    ----------
    model : str
        The class.
    kinds : tuple of str
        Values of `model_type` in the config.json of checkpoints with its weights; empty if it is that of the class, or
        of a larger model that contains it.
    cls : bool
        Whether its sequences begin with a CLS token; otherwise its blocks return maps (B, H, W, C).
    options : mapping
        Options of its constructor.
    interpolates : bool
        Whether its forward needs an option to adapt position codes to another image size.
    short : str
        Short name for a narrow column, if it has one.
    tower : str, optional
        Path of the network in the files of a larger one.
    """

    model: str
    kinds: tuple[str, ...] = ()
    cls: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    interpolates: bool = False
    short: str = ""
    tower: str | None = None


FAMILIES = {
    "clip": Family("CLIPVisionModel", ("clip", "clip_vision_model"), interpolates=True),
    # The encoder of MAE also uses this class, because its own class shuffles the patches of every image.
    "vit": Family("ViTModel", ("vit", "vit_mae"), options={"add_pooling_layer": False}, interpolates=True),
    "dinov2": Family("Dinov2Model", ("dinov2",)),
    "dinov2_registers": Family("Dinov2WithRegistersModel", ("dinov2_with_registers",), short="dinov2+reg"),
    "sam": Family("SamVisionModel", ("sam", "sam_vision_model"), cls=False),
}


class FamilyKind(Kind):
    """Vision transformers."""

    spec = FamilySpec
    narrows = True  # because the forward pass ends with the last layer

    def open(self, spec: CacheSpec, device: str) -> "Backbone":
        from bddn.backbones.vit import VisionTransformer

        return VisionTransformer(spec, device)

    def outline(self, spec: CacheSpec) -> dict[str, Outline]:
        """See `Kind.outline`. Empty if the architecture lacks one of `SIZE_FIELDS`."""
        about = spec.section(FamilySpec)
        if not about.architecture.keys() >= set(SIZE_FIELDS):
            return {}
        depth, width, patch = (positive(spec, name, about.architecture[name]) for name in SIZE_FIELDS)
        height, width_px = spec.image_hw
        chosen = select(about.layers, tuple(f"block_{i}" for i in range(depth)), f"spec '{spec.title}'")
        registers = about.architecture.get("num_register_tokens", 0)
        n_registers = registers if isinstance(registers, int) else 0
        return dict.fromkeys(chosen, Outline(width, (height // patch, width_px // patch), n_registers))

    def files(self, spec: CacheSpec, names: Collection[str]) -> tuple[list[str], str]:
        """See `Kind.files`. Safetensors come first; for CLIP, files of open_clip are used if there are no others."""
        family = spec.section(FamilySpec).family
        processor = [PROCESSOR] if PROCESSOR in names else []
        without = f"{PROCESSOR}, for preprocess: native" if spec.preprocess == "native" and not processor else ""
        found, lacks = transformers_files(names)
        if found:
            return [found[0], *processor, *found[1:]], without
        foreign = [name for name in OPEN_CLIP_FILES if name in names] if family == "clip" else []
        if foreign:  # without config.json, which marks weights of transformers
            return [*([OPEN_CLIP_CONFIG] if OPEN_CLIP_CONFIG in names else []), *processor, foreign[0]], without
        return [], f"{lacks}, or {OPEN_CLIP_FILES[0]}" if family == "clip" else lacks

    def describe(self, spec: CacheSpec, network: "Backbone | None" = None) -> Description:
        about = spec.section(FamilySpec)
        family, sizes = FAMILIES[about.family], about.architecture
        depth, width, patch = (str(sizes.get(name, "?")) for name in SIZE_FIELDS)
        return Description(
            family=family.short or about.family,
            network=f"{family.model} of transformers, family {about.family}",
            outline=self.outline(spec),
            architecture=(describe_fields(sizes) or "unknown",),
            positions=interpolated(spec, sizes.get("image_size")),
            stored="output of each transformer block (residual stream, before the final norm);",
            local="patch tokens",
            cls=family.cls,
            registers=bool(sizes.get("num_register_tokens")),
            blocks=f"{depth}×{width}",
            patch=patch,
        )

    def may_match(self, spec: CacheSpec, layers: Sequence[str], identity: Mapping[str, Any]) -> bool:
        """See `Kind.may_match`: the class and all fields of the architecture are the same."""
        about, config = spec.section(FamilySpec), identity.get("config", {})
        alike = all(config.get(name, value) == value for name, value in about.architecture.items())
        return alike and FAMILIES[about.family].model == identity["class"]

    def in_folder(self, spec: CacheSpec, folder: Path) -> CacheSpec:
        return spec.model_copy(update={"weights": WeightsSpec(folder=str(folder))})

    def section_of(self, identity: Mapping[str, Any], layers: Sequence[str]) -> FamilySpec | None:
        names = [name for name, family in FAMILIES.items() if family.model == identity.get("class")]
        if not names:
            return None
        return FamilySpec.parse({"family": names[0], "architecture": identity["config"], "layers": layers}, "cache")


KIND = FamilyKind()


def transformers_files(names: Collection[str]) -> tuple[list[str], str]:
    """Return config.json and the weights of a repository, and a text that names them if one is missing ('' if none)."""
    weights = whole_or_shards(names, TRANSFORMERS_FILES)
    first, second = TRANSFORMERS_FILES
    if CONFIG in names and weights:
        return [CONFIG, *weights], ""
    return [], f"{CONFIG} and {first} (or all of its shards, or {second})"


def interpolated(spec: CacheSpec, trained: object) -> str:
    """Return how position codes fit the image of a spec, if the network was trained at another size: a number of pixels
    (the side), or two (height and width)."""
    sides = trained if isinstance(trained, list) and len(trained) == 2 else [trained, trained]
    if trained is None or list(spec.image_hw) == sides:
        return ""
    return f"position codes interpolated from {sides[0]}×{sides[1]} pixels"


def describe_fields(fields: Mapping[str, object]) -> str:
    """Return the names and values of an architecture as text."""
    return ", ".join(f"{name} {_plain(value)}" for name, value in fields.items())


def _plain(value: object) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def positive(spec: CacheSpec, name: str, value: object) -> int:
    """Return a size of an architecture, or raise a SpecError if it is not a whole number from 1, or two equal ones."""
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    if not isinstance(value, int) or value < 1:
        raise SpecError(
            f"spec '{spec.title}'",
            expected=f"{name} in backbone.architecture to be a whole number from 1",
            got=repr(value),
            fix="Correct it in the spec; the specs in cache_specs/ are examples.",
        )
    return value
