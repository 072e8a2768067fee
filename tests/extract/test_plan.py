"""What an extraction will need is told before, and is what it then takes."""

from collections import namedtuple
from pathlib import Path

import pytest

from bddn.data.planted import Planted
from bddn.errors import StoreError
from bddn.extract import extract
from bddn.extract.plan import advice, plan, shard_bytes_in_memory
from bddn.spec import CacheSpec
from bddn.store.layout import Layer, Layout
from bddn.store.precision import precision

VIT_B = Layout(9841, tuple(Layer(f"block_{i}", 768) for i in range(12)), (8, 8), precision("float16"), 16, 256)
Usage = namedtuple("Usage", "total used free")


def test_one_subject_through_vit_b_takes_what_arithmetic_says() -> None:
    assert VIT_B.image_bytes() == 12 * 65 * 768 * 2
    assert VIT_B.disk_bytes() == pytest.approx(11.8e9, rel=0.002)


@pytest.mark.parametrize(("layers", "channels", "expected_mb"), [(24, 1024, 3.2), (32, 1280, 5.3), (40, 1536, 8.0)])
def test_larger_networks_take_more(layers: int, channels: int, expected_mb: float) -> None:
    made = Layout(100, tuple(Layer(f"b{i}", channels) for i in range(layers)), (8, 8), precision("float16"), 16, 256)
    assert made.image_bytes() / 1e6 == pytest.approx(expected_mb, rel=0.02)


def test_the_planned_bytes_are_those_on_the_disk(spec: CacheSpec, planted: Planted, sealed: Path) -> None:
    found = plan(spec, planted)
    tokens = [path for kind in ("local", "global") for path in (sealed / kind).rglob("c.*")]
    on_disk = sum(path.stat().st_size for path in tokens)
    assert found.image_bytes * 48 <= on_disk
    assert found.disk_bytes == pytest.approx(on_disk, rel=0.01)
    assert (found.n_images, found.n_layers, found.n_shards, found.device) == (48, 3, 3, "cpu")
    assert found.seconds == pytest.approx(48 / found.images_per_s)
    assert found.images_per_s > 0
    assert not found.advice


def test_the_plan_is_told_in_words(spec: CacheSpec, planted: Planted) -> None:
    lines = plan(spec, planted).lines()
    assert [line.split()[0] for line in lines] == ["images", "image", "disk", "memory", "device", "time", "it"]
    assert "GB free" in lines[2]


def test_a_disk_too_small_gets_settings_that_fit(spec: CacheSpec) -> None:
    (words,) = advice(spec, VIT_B, free_disk=8 * 10**9, free_ram=10**12)
    assert "precision: int8 (5.9 GB)" in words
    assert "bitround" not in words
    assert "grid: [4, 4]" in words
    assert "every second layer" in words


def test_a_disk_far_too_small_is_said(spec: CacheSpec) -> None:
    assert advice(spec, VIT_B, free_disk=10**6, free_ram=10**12) == [
        "disk: no single setting suffices; use a larger disk"
    ]


def test_too_little_memory_gets_a_smaller_shard(spec: CacheSpec) -> None:
    whole = shard_bytes_in_memory(VIT_B)
    (words,) = advice(spec.model_copy(update={"chunk_images": 16}), VIT_B, free_disk=None, free_ram=whole // 2)
    assert words == "memory: shard_images: 128"
    assert advice(spec, VIT_B, free_disk=None, free_ram=whole) == []


def test_an_extraction_that_the_disk_cannot_hold_is_refused_at_the_start(
    spec: CacheSpec, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(10**9, 10**9, 1000))
    with pytest.raises(StoreError, match=r"new\.zarr: expected .* GB of free space .*'bddn plan'"):
        extract(spec, planted, tmp_path / "new.zarr")
    assert not list((tmp_path / "new.zarr").rglob("c.?.0.0.0"))
