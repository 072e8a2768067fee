"""Calibrated slopes and their tests: small here; `--true-size` measures 60 brains (some 40 minutes), keeps figures."""

from pathlib import Path

import pytest

from bddn.spec import FitSpec
from bench import slopes
from bench.report import keep


def test_coverage(true_size: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if true_size:
        rows = slopes.run(tmp_path, n_brains=60, n_nulls=60, n_maps=400, n_planted=10)
        found = slopes.summary(rows)
        keep("slopes_cpu", {"what": "calibrated slopes, and tests of slopes", **found, "rows": rows})
        assert found["n_brains"] >= 60
        assert 0.80 <= found["coverage"]["90"] <= 0.97
        assert found["errs_on_maps"]["smooth maps"] <= 0.07
        assert found["errs_on_fits"] <= 0.07
        return
    small = FitSpec.parse({**slopes.FIT.to_dict(), "epochs": 3, "channels": 8, "selector_width": 16}, "test")
    monkeypatch.setattr(slopes, "FIT", small)
    sizes = {"n_images": 120, "n_voxels": 200}
    rows = slopes.run(tmp_path, n_brains=1, n_nulls=1, n_maps=4, n_planted=4, **sizes)
    assert [row["kind"] for row in rows] == ["map"] * 4 + ["sloped map", "planted", "null"]
    assert rows == slopes.run(tmp_path, n_brains=1, n_nulls=1, n_maps=4, n_planted=4, **sizes)  # nothing is made twice
    assert slopes.summary(rows)["n_maps"] == 4
