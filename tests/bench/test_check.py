"""`bddn check` at true size: seconds, CPU seconds and peak memory. Small here; `--true-size` keeps figures."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from bddn.data import open_dataset
from bddn.data.splits import split_by_id
from bddn.run.folder import WEIGHT
from bddn.run.inputs import Subject, fit_identity
from bddn.spec import FitSpec
from bddn.store.reader import Cache
from bench.command import measured
from bench.report import keep
from bench.subjects import write_sized
from bench.test_fit_size import SMALL, TRUE

MAX_SECONDS, MAX_GIB = 120, 2.0


def _write_run(folder: Path, data: str) -> Path:
    """Write a run of random maps, with all that `bddn check` reads."""
    dataset, cache, spec, out = open_dataset(data), Cache(folder / "cache.zarr"), FitSpec(), folder / "run"
    split = split_by_id(dataset.stimuli.ids, spec.split, spec.seed)
    identity = fit_identity(cache, cache.layers, Subject.read(dataset).identity(cache), spec, split, "cpu")
    rng, table = np.random.default_rng(0), dataset.voxels()
    columns = [*("depth", "x", "y", "scale", "r2_test"), *(WEIGHT + layer.name for layer in cache.layers)]
    table[columns] = rng.uniform(0, 1, (len(table), len(columns))).astype(np.float32)
    out.mkdir()
    table.to_parquet(out / "voxels.parquet")
    for name, content in (("run", dict(identity.parts)), ("metrics", {"title": "sized"}), ("split", split.to_dict())):
        (out / f"{name}.json").write_text(json.dumps(content))
    return out


def test_true_size(true_size: bool, tmp_path: Path) -> None:
    """The cache is streamed once and never kept."""
    sizes = TRUE if true_size else SMALL
    data = write_sized(tmp_path, **sizes)
    run = _write_run(tmp_path, data)
    found = measured("check", run, "--cache", tmp_path / "cache.zarr", "--data", data, accept=(0, 1))
    table = pd.read_parquet(run / "check" / "check.parquet")
    assert len(table) == min(2000, sizes["n_voxels"])
    if true_size:
        keep("check_cpu", {"what": "2,000 voxels, all images, streamed from disk", **sizes, **found})
        assert found["seconds"] <= MAX_SECONDS
        assert found["peak_gib"] <= MAX_GIB
