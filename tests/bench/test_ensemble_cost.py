"""An ensemble costs less than as many single fits: tokens are read once. Small here; `--true-size` keeps figures."""

import json
from pathlib import Path

from bddn.spec import FitSpec
from bench.command import measured
from bench.report import keep
from bench.subjects import fit, write_sized

TRUE = {"n_images": 600, "n_voxels": 2000, "n_layers": 6, "width": 128, "chunk": 16, "shard": 256}
SMALL = {"n_images": 40, "n_voxels": 200, "n_layers": 2, "width": 16, "chunk": 4, "shard": 16}


def test_an_ensemble_beside_single_fits(true_size: bool, tmp_path: Path) -> None:
    """CPU seconds of single commands `bddn fit`, and of one `bddn ensemble` of several fits."""
    n_fits, n_single, sizes = (6, 2, TRUE) if true_size else (2, 1, SMALL)
    data = write_sized(tmp_path, **sizes)
    spec = FitSpec.recipe("fast").to_dict() | ({"epochs": 1} if true_size else {"epochs": 1, "sample": 100})
    single = [fit(tmp_path, data, tmp_path / f"run{k}", spec | {"seed": k, "bootstrap": k}) for k in range(n_single)]
    (tmp_path / "spec.yaml").write_text(json.dumps(spec))
    options = ["--data", data, "--out", tmp_path / "out", "--spec", tmp_path / "spec.yaml", "--fits", str(n_fits)]
    found = measured("ensemble", tmp_path / "cache.zarr", *options)
    assert len(list((tmp_path / "out").glob("*/*/*/run.json"))) == n_fits
    if true_size:
        one = sum(each["cpu_seconds"] for each in single) / n_single
        ratio = found["cpu_seconds"] / (n_fits * one)
        figures = {"n_fits": n_fits, "single_cpu_s": one, "single_peak_gib": single[0]["peak_gib"], "ratio": ratio}
        keep("ensemble_cost_cpu", {"what": "bddn ensemble beside single bddn fit", **sizes, **figures, **found})
        assert ratio <= 1
