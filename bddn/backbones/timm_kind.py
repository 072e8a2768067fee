"""The kind `family.timm`: networks of the library timm, which is an optional extra."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bddn.backbones.family_kind import CONFIG, describe_fields, interpolated, positive
from bddn.backbones.kind import Description, Kind, Outline
from bddn.backbones.layers import matching, select
from bddn.backbones.weights.local import STATE, TRANSFORMERS_FILES
from bddn.spec import CacheSpec, TimmSpec, WeightsSpec

if TYPE_CHECKING:
    from bddn.backbones.backbone import Backbone

PACKAGE = "timm"
SIZE_FIELDS = ("depth", "embed_dim", "patch_size")
"""Arguments of a plain vision transformer that determine its blocks."""
REGISTERS = ("num_reg_tokens", "reg_tokens")
BLOCKS = "blocks.*"


class TimmKind(Kind):
    """Networks of timm."""

    spec = TimmSpec

    def open(self, spec: CacheSpec, device: str) -> "Backbone":
        from bddn.backbones.timm_network import open_timm

        return open_timm(spec, device)

    def outline(self, spec: CacheSpec) -> dict[str, Outline]:
        """See `Kind.outline`. Empty if `architecture` lacks one of `SIZE_FIELDS`, or layers are not blocks."""
        about = spec.section(TimmSpec)
        sizes = about.architecture
        if not sizes.keys() >= set(SIZE_FIELDS):
            return {}
        depth, width, patch = (positive(spec, name, sizes[name]) for name in SIZE_FIELDS)
        blocks = tuple(f"blocks.{i}" for i in range(depth))
        wanted = [str(layer) for layer in about.layers or (BLOCKS,)]
        if not all(matching(one, blocks) and "**" not in one for one in wanted):
            return {}
        height, width_px = spec.image_hw
        registers = next((n for name in REGISTERS if isinstance(n := sizes.get(name), int)), 0)
        one = Outline(width, (height // patch, width_px // patch), registers)
        return dict.fromkeys(select(wanted, blocks, f"spec '{spec.title}'"), one)

    def files(self, spec: CacheSpec, names: Collection[str]) -> tuple[list[str], str]:
        """See `Kind.files`. Safetensors come first. config.json says of which network the weights are."""
        found = [name for name in TRANSFORMERS_FILES if name in names]
        return [name for name in (CONFIG, *found[:1]) if name in names], "" if found else " or ".join(
            TRANSFORMERS_FILES
        )

    def describe(self, spec: CacheSpec, network: "Backbone | None" = None) -> Description:
        """See `Kind.describe`. The name of a network of timm ends with the image size of its training."""
        about = spec.section(TimmSpec)
        sizes, trained = about.architecture, re.search(r"_(\d{3,4})(?:\.|$)", about.model)
        depth, width, patch = (str(sizes.get(name, "?")) for name in SIZE_FIELDS)
        outline = self.outline(spec)
        return Description(
            family=PACKAGE,
            network=f"{about.model} of timm",
            outline=outline,
            architecture=(describe_fields(sizes) or "as in timm",),
            pixels="the network's own mean and deviation" if spec.preprocess == "native" else "",
            positions=interpolated(spec, int(trained[1]) if trained else None),
            stored="output of each block (residual stream, before the final norm);" if outline else "output of layers;",
            local="patch tokens" if outline else "tokens of places",
            cls=True if spec.global_token == "cls" else None,
            registers=any(layer.n_registers for layer in outline.values()),
            blocks=f"{depth}×{width}" if outline else "-",
            patch=patch if outline else "",
        )

    def may_match(self, spec: CacheSpec, layers: Sequence[str], identity: Mapping[str, Any]) -> bool:
        """See `Kind.may_match`: the name and the arguments are the same."""
        about = spec.section(TimmSpec)
        return identity.get(PACKAGE) == {"model": about.model, "architecture": about.architecture}

    def in_folder(self, spec: CacheSpec, folder: Path) -> CacheSpec:
        return spec.model_copy(update={"weights": WeightsSpec(file=str(folder / STATE), format="timm")})

    def section_of(self, identity: Mapping[str, Any], layers: Sequence[str]) -> TimmSpec | None:
        if PACKAGE not in identity:
            return None
        return TimmSpec.parse({"family": "timm", **identity[PACKAGE], "layers": layers}, "cache")


KIND = TimmKind()
