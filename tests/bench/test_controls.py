"""The controls of a fit on a planted brain: small here; `--true-size` measures, and says that each falls where it must.

The planted brain reads the planted network. Its truth has a place, a layer, a scale and a size for every voxel, all
smooth over cortex, so what lacks one of them must predict less, and what never saw the network less still.
"""

import json
from pathlib import Path

import pandas as pd

from bddn.backbones.registry import load_spec
from bddn.evaluation.controls.controls import ABOUT, run_controls
from bddn.evaluation.controls.table import FIT
from bddn.extraction import extract
from bddn.planted.plant import plant
from bddn.planted.subject import BACKBONE, Planted
from bddn.spec import FitSpec, PlantSpec, WeightsSpec
from bddn.stats.scores import ALL
from bddn.store.reader import Cache
from bench.report import RESULTS, keep

BRAIN = PlantSpec(n_images=560, radius_rad=0.42, n_layers=5, width=48)
SMALL = PlantSpec(n_images=48, radius_rad=0.12, n_layers=3, width=24)
SHORT = {"channels": 8, "selector_width": 16, "max_steps": 10}
NAME = "controls_cpu"


def test_controls(true_size: bool, tmp_path: Path) -> None:
    plant(BRAIN if true_size else SMALL, tmp_path / "brain")
    tower = {"weights": WeightsSpec(folder=str(tmp_path / "brain" / BACKBONE))}
    data, cache, spec = Planted(tmp_path / "brain"), tmp_path / "cache.zarr", FitSpec.recipe("fast")
    extract(load_spec("demo").model_copy(update=tower), data, cache)
    if not true_size:
        found = run_controls(Cache(cache), data, tmp_path / "out", spec.model_copy(update=SHORT), ["pixels"])
        assert found.table["control"].unique().tolist() == [FIT, "pixels"]
        return
    found = run_controls(Cache(cache), data, tmp_path / "out", spec)
    rows = found.table.astype(object).where(found.table.notna(), None).to_dict("records")
    keep(NAME, {"what": "controls on a planted brain", "brain": BRAIN.to_dict(), "rows": rows})
    check(found.table)


def test_the_kept_figures_are_as_they_must() -> None:
    check(pd.DataFrame(json.loads((RESULTS / f"{NAME}.json").read_text())["rows"]))


def check(table: pd.DataFrame) -> None:
    """Each control falls where it must on the planted brain."""

    def of(region: str, name: str) -> dict[str, float]:
        rows = table[table["region"] == region]
        return dict(zip(rows["control"], rows[name].astype(float), strict=True))

    r2, lead = of(ALL, "r2_expected"), of(ALL, "difference_low")
    assert list(r2) == list(ABOUT)
    assert of(ALL, "r2_low")["shuffled"] < 0 < of(ALL, "r2_high")["shuffled"] < 0.02
    assert of(ALL, "n_evident")["shuffled"] == 0
    assert min(lead[name] for name in ABOUT if name != FIT) > 0  # the fit predicts more than each of them
    assert r2["banded"] > r2["ridge_layer"] - 0.02
    for name in ("ridge_layer", "banded", *(name for name in ABOUT if name.startswith("no_"))):
        assert r2[name] > r2["untrained"] > r2["shuffled"], name
    assert r2["untrained"] > r2["pixels"]
    assert of("V1", "r2_expected")["pixels"] > r2["pixels"]  # early layers are nearly linear in pixels
    assert of("V1", "difference")["no_place"] > of(ALL, "difference")["no_place"]  # late layers are read globally
    assert of(ALL, "slope")[FIT] > of(ALL, "slope")["untrained"]
