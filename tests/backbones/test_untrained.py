"""The untrained twin of a cached network: its architecture, with random weights."""

from pathlib import Path

import pytest

from backbones.small_diffusion import ARCHITECTURE
from bddn.backbones.registry import open_backbone
from bddn.backbones.untrained import untrained_spec
from bddn.errors import BackboneError
from bddn.extraction.source import network_identity
from bddn.identity import Identity
from bddn.spec import CacheSpec
from bddn.store.reader import Cache

DIFFUSION = CacheSpec.parse(
    {
        "title": "small",
        "backbone": {
            "family": "stable_diffusion",
            "architecture": ARCHITECTURE,
            "n_steps": 4,
            "layers": ["down_0.resnet_0@t2", "up_1.resnet_0@t2"],
        },
        "weights": {"random": 5},
        "image_size": 64,
        "preprocess": "native",
        "global_token": "mean",
    },
    "test",
)


def _differences(header: dict[str, object], twin: CacheSpec) -> list[str]:
    parts = [
        one.only("spec", "backbone") for one in (Identity(header), network_identity(twin, open_backbone(twin), "cpu"))
    ]
    return [words.partition(" ")[0] for words in parts[0].differences(parts[1])]


def test_a_twin_differs_only_in_its_weights(sealed: Path) -> None:
    cache = Cache(sealed)
    names = [layer.name for layer in cache.layers]
    twin = untrained_spec(cache.header, names, seed=0)
    assert open_backbone(twin).layers == tuple(names)
    assert _differences(cache.header, twin) == ["backbone.weights_sha256"]
    other = untrained_spec(cache.header, names[1:], seed=1)
    assert open_backbone(other).layers == tuple(names[1:])
    weights = [open_backbone(spec).identity["weights_sha256"] for spec in (twin, other)]
    assert weights[0] != weights[1]


def test_a_twin_of_a_diffusion_network_differs_only_in_its_weights() -> None:
    backbone = open_backbone(DIFFUSION)
    header = dict(network_identity(DIFFUSION, backbone, "cpu").parts)
    twin = untrained_spec(header, backbone.layers, seed=0)
    assert open_backbone(twin).layers == backbone.layers
    assert _differences(header, twin) == ["backbone.weights_sha256"]


def test_a_network_that_brings_its_weights_has_no_twin(sealed: Path) -> None:
    header = Cache(sealed).header | {"backbone": {"class": "mylab.nets.Net", "weights_sha256": "0" * 64}}
    with pytest.raises(BackboneError, match=r"mylab\.nets\.Net: .* brings its weights"):
        untrained_spec(header, ["blocks.0"], 0)
