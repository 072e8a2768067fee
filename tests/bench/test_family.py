"""The family of planted brains: small here; `--true-size` fits all of them and keeps the figures (some 6 hours)."""

from pathlib import Path

import pytest

from bddn.spec import FitSpec
from bench import family
from bench.report import keep


def test_family(true_size: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if true_size:
        rows = family.run(tmp_path, list(family.BRAINS), ("paper", "fast"), (0, 1, 2))
        keep("family_cpu", {"what": "planted brains of different kinds", "rows": rows})
        return
    small = {"n_images": 60, "n_layers": 3, "width": 24, "radius_rad": 0.12}
    monkeypatch.setitem(family.BRAINS, "small", family.Kind(small))
    rows = family.run(tmp_path, ["small"], ("fast",), (0,))
    assert [row["brain"] for row in rows] == ["small"]
    assert rows[0]["images"] == 48 * FitSpec.recipe("fast").epochs
    assert rows[0]["depth_rmse"] > 0
    assert family.run(tmp_path, ["small"], ("fast",), (0,)) == rows  # nothing is fitted twice


def test_chosen_and_held_back_brains_differ() -> None:
    assert len(family.BRAINS) == len(family.CHOSEN_ON) + len(family.HELD_BACK) >= 14
