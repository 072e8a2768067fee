"""Whole fits from disk: at true size, and how time and memory grow. Small here; `--true-size` keeps figures."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bddn.spec import FitSpec
from bench import command
from bench.report import keep
from bench.subjects import fit, write_sized

TRUE = {"n_images": 9841, "n_voxels": 37_984, "n_layers": 12, "width": 768, "chunk": 16, "shard": 256}
SMALL = {"n_images": 60, "n_voxels": 500, "n_layers": 2, "width": 16, "chunk": 4, "shard": 16}
MEMORY_GIB = 4.0


@pytest.mark.parametrize("whole_cortex", [False, True])
def test_true_size(true_size: bool, tmp_path: Path, whole_cortex: bool) -> None:
    """The recipe `fast` over the subject of the published code, and over both hemispheres, streaming, in 4 GiB."""
    sizes = (TRUE if true_size else SMALL) | ({"n_voxels": 327_684 if true_size else 900} if whole_cortex else {})
    data = write_sized(tmp_path, **sizes)
    size = sum(path.stat().st_size for path in (tmp_path / "cache.zarr").rglob("*") if path.is_file())
    spec = FitSpec.recipe("fast").to_dict() | ({} if true_size else {"epochs": 2, "sample": 100})
    memory = MEMORY_GIB if true_size else 0.5
    found = fit(tmp_path, data, tmp_path / "run", spec, "--memory", str(memory))
    if true_size:
        name = "fit_whole_cortex_cpu" if whole_cortex else "fit_true_size_cpu"
        keep(name, {"what": "recipe fast, streamed from disk", **sizes, "bytes": size} | found)
        assert found["peak_gib"] <= MEMORY_GIB


def test_voxels_take_no_more_memory_than_the_fit_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the difference of two fits, because the constant part has room."""
    monkeypatch.setattr(command, "FRESH", True)
    told, taken = list[float](), list[float]()
    for n_voxels in (20_000, 80_000):
        folder = tmp_path / str(n_voxels)
        folder.mkdir()
        data = write_sized(folder, **SMALL | {"n_voxels": n_voxels})
        spec = FitSpec.recipe("fast").to_dict() | {"epochs": 1, "sample": 100}
        taken.append(fit(folder, data, folder / "run", spec, "--memory", "8")["peak_gib"])
        said = capfd.readouterr().err
        kept = re.findall(r"([\d.]+) GiB kept in memory|the fit itself takes ([\d.]+) GiB", said)
        told.append(sum(float(one or other) for one, other in kept))
    rounding = 0.01  # of three numbers
    assert taken[1] - taken[0] <= told[1] - told[0] + 3 * rounding
    assert taken[1] <= told[1]


def _exponent(x: list[int], y: list[float]) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


@pytest.mark.parametrize("name", ["n_voxels", "n_images"])
def test_growth(true_size: bool, tmp_path: Path, name: str) -> None:
    """Seconds of an epoch and peak memory, by voxels and by images, streaming with the recipe `paper`."""
    base = {**TRUE, "n_images": 320, "n_voxels": 9496} if true_size else SMALL
    tried: dict[str, list[int]] = {
        # from a subject to both hemispheres of fsaverage7; with fewer, what is done for every image weighs more
        "n_voxels": [37_984, 75_968, 151_936, 327_684] if true_size else [300, 600],
        # from where an epoch fills both buffers of the stream
        "n_images": [640, 1280, 2560, 5120] if true_size else [60, 120],
    }
    rows: list[dict[str, Any]] = []
    for value in tried[name]:
        folder = tmp_path / f"{name}{value}"
        folder.mkdir()
        data = write_sized(folder, **{**base, name: value})
        fitted = fit(folder, data, folder / "run", {"epochs": 2}, "--memory", "0.5")
        rows.append({name: value, "epoch_s": min(fitted["epoch_seconds"]), "peak_gib": fitted["peak_gib"]})
    if true_size:
        exponent = _exponent(tried[name], [row["epoch_s"] for row in rows])
        what = f"recipe paper, {base} but for what is varied"
        keep(f"growth_{name.removeprefix('n_')}_cpu", {"what": what, "rows": rows, "exponent": exponent})
        assert 0.9 <= exponent <= 1.1
        if name == "n_images":
            assert max(row["peak_gib"] for row in rows) <= 1.05 * rows[0]["peak_gib"]
