"""AlexNet: torchvision's file without its classifier, against an independent forward."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bddn.backbones.backbone import Backbone
from bddn.backbones.kind import kind_of
from bddn.backbones.registry import load_spec, open_backbone
from bddn.backbones.untrained import untrained_spec
from bddn.errors import BackboneError, SpecError
from bddn.spec import CacheSpec
from bddn.testing import BackboneContract

SHAPES = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}


def state() -> dict[str, Tensor]:
    """Weights as in torchvision's file, its classifier small."""
    g = torch.Generator().manual_seed(0)
    found = {"classifier.6.weight": torch.zeros(2, 2), "classifier.6.bias": torch.zeros(2)}
    for i, shape in SHAPES.items():
        size = (2 / (shape[1] * shape[2] ** 2)) ** 0.5
        found |= {
            f"features.{i}.weight": size * torch.randn(shape, generator=g),
            f"features.{i}.bias": 0.1 * torch.randn(shape[0], generator=g),
        }
    return found


def spec_of(path: Path, **fields: Any) -> CacheSpec:
    given = {"weights": {"file": str(path), "format": "torchvision"}, "image_size": [96, 128], "grid": [3, 4]}
    return CacheSpec.parse(load_spec("alexnet").to_dict() | given | fields, "test")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("alexnet") / "alexnet.pth"
    torch.save(state(), found)
    return found


@pytest.fixture(scope="module")
def network(path: Path) -> Any:
    return open_backbone(spec_of(path))


class TestAlexNet(BackboneContract):
    atol = 1e-4  # of tokens up to 20

    @pytest.fixture
    def spec(self, network: Any) -> CacheSpec:
        found: CacheSpec = network.spec
        return found

    @pytest.fixture
    def backbone(self, network: Backbone) -> Backbone:
        return network


def test_maps_are_those_of_the_formulas(network: Any) -> None:
    pixels = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    weights, x, expected = state(), pixels, []
    for i, (stride, padding) in {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)}.items():
        if i in (3, 6):
            x = F.max_pool2d(x, 3, 2)
        x = F.conv2d(x, weights[f"features.{i}.weight"], weights[f"features.{i}.bias"], stride, padding).relu()
        expected.append(x)
    found = network.each_layer(pixels, lambda tokens: tokens.local_.clone())
    for (name, local), one in zip(found.items(), expected, strict=True):
        torch.testing.assert_close(local, one, rtol=0, atol=1e-4, msg=name)
    outline = kind_of(network.spec).outline(network.spec)
    assert {name: tuple(one.shape[1:]) for name, one in found.items()} == {
        name: (one.channels, *one.places) for name, one in outline.items()
    }
    assert [one.places for one in kind_of(load_spec("alexnet")).outline(load_spec("alexnet")).values()] == [
        (55, 55),
        (27, 27),
        *[(13, 13)] * 3,
    ]


def test_its_weights_are_complete_or_refused(path: Path, tmp_path: Path) -> None:
    found = state()
    del found["features.8.bias"]
    torch.save(found, tmp_path / "cut.pth")
    with pytest.raises(BackboneError, match=r"1 missing: features\.8\.bias"):
        open_backbone(spec_of(tmp_path / "cut.pth"))
    with pytest.raises(SpecError, match="format: torchvision"):
        open_backbone(spec_of(path, weights={"hub": "a/b"}))
    with pytest.raises(SpecError, match="AlexNet's own"):
        open_backbone(spec_of(path, preprocess="native"))


def test_its_untrained_twin_is_built_from_a_cache(path: Path) -> None:
    spec = spec_of(path, weights={"random": 1})
    network = open_backbone(spec)
    twin = untrained_spec({"backbone": network.identity, "spec": spec.identity()}, network.layers, 1)
    assert open_backbone(twin).identity == network.identity
    assert network.identity["weights_sha256"] != open_backbone(spec_of(path)).identity["weights_sha256"]


def test_it_has_the_convolutions_that_were_published() -> None:
    network: Any = open_backbone(spec_of(Path(), weights={"random": 0}))
    whole = 61_100_840  # torchvision's documentation
    classifier = 256 * 36 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000
    assert sum(weight.numel() for weight in network.module.parameters()) == whole - classifier
