"""An ensemble costs less than as many single fits: tokens are read once. Small here; `--true-size` keeps figures."""

import json
from pathlib import Path

from bddn.spec import FitSpec
from bench.command import measured
from bench.report import keep
from bench.subjects import fit, write_sized
from bench.test_fit_size import MEMORY_GIB, SMALL, TRUE


def test_an_ensemble_beside_a_single_fit(true_size: bool, tmp_path: Path) -> None:
    """Seconds of the command `bddn fit`, and of one `bddn ensemble` of 20 fits, after each other."""
    n_fits, sizes, memory = (20, TRUE, MEMORY_GIB) if true_size else (2, SMALL, 0.5)
    data = write_sized(tmp_path, **sizes)
    spec = FitSpec.recipe("fast").to_dict() | ({} if true_size else {"epochs": 1, "sample": 100})
    single = fit(tmp_path, data, tmp_path / "run", spec, "--memory", str(memory))
    (tmp_path / "spec.yaml").write_text(json.dumps(spec))
    options = ["--data", data, "--out", tmp_path / "out", "--spec", tmp_path / "spec.yaml"]
    options += ["--fits", str(n_fits), "--memory", str(memory)]
    found = measured("ensemble", tmp_path / "cache.zarr", *options)
    assert len(list((tmp_path / "out").glob("*/*/*/run.json"))) == n_fits
    if true_size:
        one = {f"single_{name}": single[name] for name in ("seconds", "cpu_seconds", "peak_gib")}
        ratio = found["seconds"] / (n_fits * single["seconds"])
        figures = {"n_fits": n_fits, "ratio": ratio, **one, **found}
        keep("ensemble_cost_cpu", {"what": "`bddn ensemble`, recipe fast, beside one `bddn fit`", **sizes, **figures})
        assert ratio <= 1
