"""Registers as a third kind of token: stored where a spec asks for them, and nothing else changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from typer.testing import CliRunner

from bddn.backbones.registry import open_backbone
from bddn.cli import app
from bddn.errors import SpecError
from bddn.extraction import extract
from bddn.planted.subject import Planted
from bddn.run import fit_run
from bddn.spec import CacheSpec, FitSpec
from bddn.store.check import verify
from bddn.store.reader import Cache

ARCHITECTURE: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_register_tokens": 3,
}
FIT = FitSpec.parse(FitSpec.recipe("fast").to_dict() | {"channels": 8, "selector_width": 8, "epochs": 1}, "test")


def with_registers(**fields: Any) -> CacheSpec:
    backbone = {"family": "dinov2_registers", "architecture": ARCHITECTURE}
    value = {"title": "t", "backbone": backbone, "weights": "random", "image_size": [32, 48], "grid": [2, 3]}
    return CacheSpec.parse(value | {"registers": True, "chunk_images": 4, "shard_images": 32} | fields, "test")


@pytest.fixture(scope="module")
def caches(brain: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One cache with registers, the same without, and one in int8 with them."""
    folder = tmp_path_factory.mktemp("registers")
    fields: dict[str, dict[str, Any]] = {
        "with": {},
        "without": {"registers": False},
        "int8": {"precision": "int8"},
    }
    for name, one in fields.items():
        extract(with_registers(**one), Planted(brain), folder / f"{name}.zarr")
    return {name: folder / f"{name}.zarr" for name in fields}


def test_registers_are_what_the_network_gives(caches: dict[str, Path], planted: Planted) -> None:
    cache, network = Cache(caches["with"]), open_backbone(with_registers())
    assert [(layer.name, layer.channels, layer.n_registers) for layer in cache.layers] == [
        ("block_0", 24, 3),
        ("block_1", 24, 3),
    ]
    rows = range(30, 36)  # of two shards
    pixels = torch.stack([network.preprocess(planted.stimuli.image(row)) for row in rows])
    seen: dict[str, torch.Tensor] = network.each_layer(pixels, lambda tokens: tokens.register)  # type: ignore[attr-defined]
    for name, registers in seen.items():
        found = cache.read("register", name, rows.start, rows.stop)
        assert found.shape == (6, 3, 24)
        torch.testing.assert_close(found.float(), registers, rtol=1e-3, atol=1e-3)
        whole = Cache(caches["int8"]).read("register", name, rows.start, rows.stop)
        assert (whole - registers).abs().max() < 0.05
    stored = zarr.open_group(caches["with"], mode="r")["register/block_1"]
    assert stored.metadata.dimension_names == ("stimulus", "register_3", "channel_24")  # type: ignore[union-attr]


def test_other_tokens_and_caches_without_registers_are_as_before(caches: dict[str, Path]) -> None:
    one, other = Cache(caches["with"]), Cache(caches["without"])
    for path in other.layout.arrays():
        name = other.layout.token_file(path, 1)
        assert (caches["with"] / name).read_bytes() == (caches["without"] / name).read_bytes()
    assert one.layout.arrays().keys() - other.layout.arrays().keys() == {"register/block_0", "register/block_1"}
    assert not (caches["without"] / "register").exists()
    assert "registers" not in str(other.header)
    assert one.digest != other.digest
    assert all(verify(place).bad == [] for place in caches.values())


def test_a_fit_reads_the_same_tokens(caches: dict[str, Path], planted: Planted, tmp_path: Path) -> None:
    for name in ("with", "without"):
        fit_run(caches[name], planted, tmp_path / name, FIT)
    one, other = ((tmp_path / name / "encoder.safetensors").read_bytes() for name in ("with", "without"))
    assert one == other


def test_the_card_and_the_cache_tell_of_them(caches: dict[str, Path], tmp_path: Path) -> None:
    import yaml

    (tmp_path / "r.yaml").write_text(yaml.safe_dump(with_registers().to_dict()))
    card = CliRunner().invoke(app, ["backbones", "show", str(tmp_path / "r.yaml")], terminal_width=200).output
    assert "registers: as they are" in " ".join(card.split())
    assert "positions" not in card
    assert "position codes interpolated from 32×32 pixels" in " ".join(card.split())
    n_bytes = Cache(caches["with"]).layout.image_bytes()
    assert f"{n_bytes / 1e6:.3f} MB" in card
    assert n_bytes == 2 * 2 * 24 * (2 * 3 + 1 + 3)
    said = CliRunner().invoke(app, ["cache", "info", str(caches["with"])]).output
    assert "one global and up to 3 registers" in said
    assert "register/block_0" in said


def test_a_network_without_registers_has_none_to_store(planted: Planted, tmp_path: Path) -> None:
    about = {key: value for key, value in ARCHITECTURE.items() if key != "num_register_tokens"}
    spec = with_registers(backbone={"family": "dinov2", "architecture": about})
    with pytest.raises(SpecError, match="registers is true; got none in any layer"):
        extract(spec, planted, tmp_path / "no.zarr")
    assert not np.any([path.exists() for path in tmp_path.iterdir()])
