"""Layers that carry the same information are told before a fit, and fits of them do not agree."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bddn.cli import app
from bddn.extraction import extract
from bddn.figures.paper import layer_maps
from bddn.maps.map import Map
from bddn.planted.subject import Planted
from bddn.run import read_run
from bddn.spec import CacheSpec, ModuleSpec

LAYERS = [f"blocks.{k}" for k in range(8)]
TOLD = f"warning: layers {', '.join(LAYERS)} carry the same information (linear CKA ≥ 0.999)"


@pytest.fixture(scope="module")
def eight(brain: Path, spec: CacheSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of eight identical layers."""
    network = {"backbone": ModuleSpec(module="slow_nets:alike", layers=("blocks.*",)), "weights": None}
    out = tmp_path_factory.mktemp("alike") / "eight.zarr"
    extract(spec.model_copy(update={**network, "image_size": 56, "global_token": "mean"}), Planted(brain), out)
    return out


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_cache_says_so(eight: Path, sealed: Path) -> None:
    code, said, _ = run("cache", "info", eight)
    assert code == 0
    assert TOLD in said
    assert "carry the same" not in run("cache", "info", sealed)[1]


def test_fits_say_so_and_their_agreement_stands_beside_the_confidence(eight: Path, brain: Path, tmp_path: Path) -> None:
    (tmp_path / "fit.yaml").write_text("channels: 8\nselector_width: 16\nepochs: 4\nlearning_rate: 0.01\n")
    options = ["--data", f"planted:{brain}", "--spec", tmp_path / "fit.yaml", "--seeds", "0-3"]
    code, said, errors = run("fit-many", eight, *options, "--out", tmp_path / "many")
    assert code == 0, errors
    assert errors.count(TOLD) == 4
    heads, values = said.splitlines()[:2]
    assert heads.index("agreement") < heads.index("confidence")
    table = pd.read_parquet(tmp_path / "many/results.parquet")
    assert table["agreement"].mean() < 0.5
    assert f"{table['agreement'].mean():.2f}" in values
    assert f"{table['confidence'].mean():.2f}" in values
    runs = [read_run(folder) for folder in sorted((tmp_path / "many/eight/brain").iterdir())]
    assert json.loads((runs[0].folder / "metrics.json").read_text())["layer_audit"]["alike"] == [LAYERS]
    panel = layer_maps(runs, "hue").rows[0][1]
    kind = getattr(panel, "kind", None)
    assert isinstance(kind, Map)
    np.testing.assert_allclose(kind.values.mean(), table["agreement"].mean())
