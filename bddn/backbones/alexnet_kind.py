"""The kind `family.alexnet`: AlexNet, a classical control."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bddn.backbones.kind import Description, Kind, Outline
from bddn.backbones.layers import select
from bddn.backbones.weights.local import STATE
from bddn.spec import AlexNetSpec, CacheSpec, WeightsSpec

if TYPE_CHECKING:
    from bddn.backbones.backbone import Backbone

NETWORK = "bddn.backbones.alexnet.AlexNet"
CONVOLUTIONS = ("features.1", "features.4", "features.7", "features.9", "features.11")
CHANNELS = (64, 192, 384, 256, 256)


class AlexNetKind(Kind):
    """AlexNet."""

    spec = AlexNetSpec

    def open(self, spec: CacheSpec, device: str) -> "Backbone":
        from bddn.backbones.alexnet import open_alexnet

        return open_alexnet(spec, device)

    def outline(self, spec: CacheSpec) -> dict[str, Outline]:
        """See `Kind.outline`. Empty if layers are not the outputs of the convolutions after their ReLU."""
        wanted = [str(layer) for layer in spec.section(AlexNetSpec).layers or CONVOLUTIONS]
        if not all(one in CONVOLUTIONS for one in wanted):
            return {}
        (height, width), places = spec.image_hw, []
        for side, stride, padding in ((11, 4, 2), (3, 2, 0), (3, 2, 0)):  # the first convolution and two poolings
            height, width = ((n + 2 * padding - side) // stride + 1 for n in (height, width))
            places.append((height, width))
        grids = (places[0], places[1], places[2], places[2], places[2])
        each = dict(zip(CONVOLUTIONS, map(Outline, CHANNELS, grids), strict=True))
        return {name: each[name] for name in select(wanted, CONVOLUTIONS, f"spec '{spec.title}'")}

    def describe(self, spec: CacheSpec, network: "Backbone | None" = None) -> Description:
        return Description(
            family="alexnet",
            network="AlexNet, as in torchvision, without its fully connected layers",
            outline=self.outline(spec),
            architecture=("5 convolutions of 64, 192, 384, 256 and 256 channels",),
            stored="output of each convolution, after its ReLU;",
            local="maps",
        )

    def may_match(self, spec: CacheSpec, layers: Sequence[str], identity: Mapping[str, Any]) -> bool:
        return identity.get("class") == NETWORK

    def in_folder(self, spec: CacheSpec, folder: Path) -> CacheSpec:
        return spec.model_copy(update={"weights": WeightsSpec(file=str(folder / STATE), format="torchvision")})

    def section_of(self, identity: Mapping[str, Any], layers: Sequence[str]) -> AlexNetSpec | None:
        if identity.get("class") != NETWORK:
            return None
        return AlexNetSpec.parse({"family": "alexnet", "layers": layers}, "cache")


KIND = AlexNetKind()
