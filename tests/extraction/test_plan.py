"""What an extraction will need is told before, and is what it then takes."""

import json
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bddn.cli import app
from bddn.errors import StoreError
from bddn.extraction import extract
from bddn.extraction.estimate import advice, plan, shard_bytes_in_memory, summarise
from bddn.planted.subject import Planted
from bddn.spec import CacheSpec
from bddn.store.layout import Layer, Layout
from bddn.store.precision import precision

VIT_B = Layout(9841, tuple(Layer(f"block_{i}", 768) for i in range(12)), (8, 8), precision("float16"), 16, 256)
Usage = namedtuple("Usage", "total used free")


def test_one_subject_through_vit_b_takes_what_arithmetic_says() -> None:
    assert VIT_B.image_bytes() == 12 * 65 * 768 * 2
    assert VIT_B.disk_bytes() == pytest.approx(11.8e9, rel=0.003)


@pytest.mark.parametrize(("layers", "channels", "expected_mb"), [(24, 1024, 3.2), (32, 1280, 5.3), (40, 1536, 8.0)])
def test_larger_networks_take_more(layers: int, channels: int, expected_mb: float) -> None:
    made = Layout(100, tuple(Layer(f"b{i}", channels) for i in range(layers)), (8, 8), precision("float16"), 16, 256)
    assert made.image_bytes() / 1e6 == pytest.approx(expected_mb, rel=0.02)


def test_the_planned_bytes_are_those_on_the_disk(spec: CacheSpec, planted: Planted, sealed: Path) -> None:
    found = plan(spec, planted)
    on_disk = sum(path.stat().st_size for path in sealed.rglob("*") if path.is_file())
    assert found.image_bytes * 48 <= on_disk
    assert found.disk_bytes == pytest.approx(on_disk, rel=0.1)
    assert found.requests is None
    assert (found.n_images, found.n_layers, found.n_shards, found.device) == (48, 3, 3, "cpu")
    assert found.seconds == pytest.approx(48 / found.images_per_s)
    assert found.images_per_s > 0
    assert not found.advice


def test_the_plan_is_told_in_words(spec: CacheSpec, planted: Planted) -> None:
    lines = plan(spec, planted).lines()
    assert [line.split()[0] for line in lines] == ["images", "image", "disk", "memory", "device", "time", "it"]
    assert "GB free" in lines[2]


def test_a_plan_for_more_images_than_there_are_counts_them(spec: CacheSpec, planted: Planted) -> None:
    few = plan(spec, planted, n_images=10_000)
    many = plan(spec, planted, "s3://bddn/new.zarr", n_images=1_000_000)
    assert (many.n_images, many.n_shards) == (1_000_000, 62_500)
    assert many.disk_bytes / few.disk_bytes == pytest.approx(100, rel=0.02)
    assert many.requests is not None
    assert many.requests.writes >= 62_500 * 7
    assert "requests" in "\n".join(many.lines())


def test_a_campaign_is_told_by_network_and_in_all(spec: CacheSpec, brain: Path, tmp_path: Path) -> None:
    names = []
    for name, grid in (("small", (2, 2)), ("large", (4, 4))):
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps({**spec.to_dict(), "title": name, "grid": grid}))  # JSON is YAML
        names.append(str(path))
    words = ["plan", *names, "--data", f"planted:{brain}", "--images", "1000000", "--out", "memory://bddn"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    heads, *rows, last = done.stdout.splitlines()
    assert heads.split() == ["spec", "images", "layers", "tasks", "GB", "requests", "cpu", "hours"]
    assert [row.split()[0] for row in rows] == [*names, "all"]
    found = [[float(cell.replace(",", "")) for cell in row.split()[1:]] for row in rows]
    assert found[2] == pytest.approx([a + b for a, b in zip(*found[:2], strict=True)], abs=0.011)
    assert found[2][2] == 125_000
    assert last == "it fits"


def test_a_campaign_that_does_not_fit_together_is_said_though_each_cache_would_fit(
    spec: CacheSpec, planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = plan(spec, planted)
    free = replace(one, free_disk_bytes=int(1.5 * one.disk_bytes))
    assert summarise({"a": free})[1] == []
    (words,) = summarise({"a": free, "b": free})[1]
    assert words.startswith("all: disk: ")


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
