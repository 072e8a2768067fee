"""The kind `family: transformers`: any network of the `transformers` library, described by its spec alone."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bddn.backbones.family_kind import (
    ALL_PROCESSORS,
    PROCESSOR,
    SIZE_FIELDS,
    Family,
    describe_fields,
    interpolated,
    positive,
    transformers_files,
)
from bddn.backbones.kind import Description, Kind, Outline
from bddn.backbones.layers import select
from bddn.errors import SpecError
from bddn.spec import CacheSpec, TransformersSpec, WeightsSpec
from bddn.spec.library import PIXELS, UNIT, wild_levels

if TYPE_CHECKING:
    from bddn.backbones.backbone import Backbone

WIDTH = 10  # of the column `family`
Stage = tuple[int, int, int]  # number of blocks, channels, pixels along the side of a token


class TransformersKind(Kind):
    """Networks of the transformers library."""

    spec = TransformersSpec
    narrows = True  # because the identity has no layers

    def open(self, spec: CacheSpec, device: str) -> "Backbone":
        from bddn.backbones.transformers_network import TransformersNetwork

        return TransformersNetwork(spec, device)

    def outline(self, spec: CacheSpec) -> dict[str, Outline]:
        """See `Kind.outline`. Empty if the spec has neither `stages` nor the sizes of the architecture."""
        about = spec.section(TransformersSpec)
        blocks = outline_of_blocks(spec)
        chosen = select(about.layers, tuple(blocks), f"spec '{spec.title}'") if blocks else ()
        return {name: blocks[name] for name in chosen}

    def files(self, spec: CacheSpec, names: Collection[str]) -> tuple[list[str], str]:
        """See `Kind.files`: config.json, weights, and for its own preprocessing the image processor; never code."""
        found, without = transformers_files(names)
        native = (PROCESSOR, ALL_PROCESSORS) if found and spec.preprocess == "native" else ()
        return found + [name for name in native if name in names], without

    def describe(self, spec: CacheSpec, network: "Backbone | None" = None) -> Description:
        about = spec.section(TransformersSpec)
        stages, prefix, (n_cls, n_registers) = stages_of(spec), about.prefix, about.not_local
        all_forms = {} if network is None or stages else getattr(network, "forms", {})
        forms = {name: form for name, form in all_forms.items() if network is not None and name in network.layers}
        opened = {name: Outline(form.channels, form.places, form.prefix[1]) for name, form in forms.items()}
        widths, sides = ([stage[i] for stage in stages] for i in (1, 2))
        several = f"; CLS token {prefix.global_cls} of {prefix.cls} is the global one" if prefix.cls > 1 else ""
        repeated = (
            f", the image repeated as {about.frames} frames of a video" if about.input in ("video", "packed") else ""
        )
        sizes = about.architecture.get("image_size")
        return Description(
            family=_short(about.model),
            network=f"{about.model} of transformers",
            outline=opened or self.outline(spec),
            layers=tuple(f"{name} → {form}" for name, form in forms.items()),
            architecture=(describe_fields(about.architecture) or "unknown",),
            positions=interpolated(spec, sizes) if about.forward.get("interpolate_pos_encoding") else "",
            pixels=f"{_pixels(spec, about)}{repeated}",
            stored=f"output of each block, {about.blocks}, before any final norm{several};",
            local="patch tokens" if len(stages) < 2 else "tokens of places",
            cls=n_cls > 0,
            registers=n_registers > 0,
            blocks=f"{sum(stage[0] for stage in stages)}×{_range(widths)}" if stages else "-",
            patch=str(sides[0]) if len(stages) == 1 else "",
        )

    def may_match(self, spec: CacheSpec, layers: Sequence[str], identity: Mapping[str, Any]) -> bool:
        """See `Kind.may_match`: the class, how it is read and all fields of the architecture are the same."""
        about = spec.section(TransformersSpec)
        alike = identity["class"] == class_name(about) and identity.get("section") == identity_of(about)
        return alike and _agrees(identity["config"], about.architecture)

    def in_folder(self, spec: CacheSpec, folder: Path) -> CacheSpec:
        return spec.model_copy(update={"weights": WeightsSpec(folder=str(folder))})

    def section_of(self, identity: Mapping[str, Any], layers: Sequence[str]) -> TransformersSpec | None:
        section = identity.get("section", {})
        if section.get("family") != "transformers":
            return None
        return TransformersSpec.parse({**section, "architecture": identity["config"], "layers": layers}, "cache")


KIND = TransformersKind()


def family_of(about: TransformersSpec) -> Family:
    """Return the class of a section, and how its weights are read."""
    return Family(about.model, options=about.options, tower=about.tower)


def class_name(about: TransformersSpec) -> str:
    """Return the name of the network in identities."""
    return f"transformers.{about.model}"


def identity_of(about: TransformersSpec) -> dict[str, Any]:
    """Return the fields of a section that decide what the blocks give and how it is read. The configuration is recorded
    as it was found, and the layers are known by their names."""
    return about.model_dump(mode="json", exclude={"architecture", "stages", "layers", "tower"})


def stages_of(spec: CacheSpec) -> tuple[Stage, ...]:
    """Return the stages of a network from its spec alone; () if it does not contain them.

    Raises
    ------
    SpecError
        If a field of the architecture is wrong, or tokens would be cut at the edge of the image.
    """
    about = spec.section(TransformersSpec)
    stages = about.stages or ()
    if not stages and about.architecture.keys() >= set(SIZE_FIELDS):
        depth, width, patch = (positive(spec, name, about.architecture[name]) for name in SIZE_FIELDS)
        stages = ((depth, width, patch),)
    for _, _, side in stages:
        if any(pixels % side for pixels in spec.image_hw):
            raise SpecError(
                f"spec '{spec.title}'",
                expected=f"image_size to be a multiple of {side} pixels, the side of a token",
                got=" × ".join(map(str, spec.image_hw)),
                fix="Correct image_size in the spec.",
            )
    return stages


def outline_of_blocks(spec: CacheSpec) -> dict[str, Outline]:
    """Return the outline of all blocks from the spec alone; empty if it does not contain their sizes."""
    about, (height, width) = spec.section(TransformersSpec), spec.image_hw
    stages = stages_of(spec)
    names = names_of([n for n, _, _ in stages], about.blocks)
    shapes = [
        Outline(channels, (height // side, width // side), about.not_local[1])
        for n, channels, side in stages
        for _ in range(n)
    ]
    return dict(zip(names, shapes, strict=True))


def names_of(counts: Sequence[int], path: str) -> list[str]:
    """Return the names of all blocks, early to late, from the number of blocks of each stage and their path."""
    if len(wild_levels(path)) == 1:
        return [f"block_{i}" for i in range(sum(counts))]
    return [f"stage_{i}.block_{j}" for i, n in enumerate(counts) for j in range(n)]


def _agrees(config: Mapping[str, Any], architecture: Mapping[str, Any]) -> bool:
    """Return whether a configuration, which lacks fields with default values, has the fields of an architecture."""
    for name, value in architecture.items():
        found = config.get(name, value)
        if isinstance(found, Mapping) and isinstance(value, Mapping):
            if not _agrees(found, value):
                return False
        elif found != value:
            return False
    return True


def _pixels(spec: CacheSpec, about: TransformersSpec) -> str:
    if spec.preprocess == "paper":
        return "ImageNet mean and deviation"
    if about.pixels == UNIT:
        return "scaled to [0, 1]; the network normalizes them itself"
    names = {"imagenet": "ImageNet", "clip": "CLIP's", "half": "0.5 as"}
    name = next((word for key, word in names.items() if PIXELS[key] == about.pixels), "its own")
    return f"{name} mean and deviation"


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else f"{values[0]}…"


def _short(model: str) -> str:
    """Return the name of a class for a narrow column: CLIP for CLIPVisionModel."""
    name = re.sub(r"_?(Vision)?(Transformer)?(Pretrained)?(Model|For[A-Z]\w*)?$", "", model)
    return name if len(name) <= WIDTH else f"{name[: WIDTH - 1]}…"
