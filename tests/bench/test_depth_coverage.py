"""Coverage of the intervals of ensembles. Eight brains here; `--true-size` fits all in `build/` and keeps figures."""

from pathlib import Path

import pytest

from bench.depth_coverage import PARTS, rates, report, run


def test_brains_are_fitted_once_and_judged_by_part_and_ceiling(tmp_path: Path) -> None:
    found = run(tmp_path, [0], n_fits=2, epochs=1)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert run(tmp_path, [0], n_fits=2, epochs=1).equals(found)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == made
    table = rates(found)
    assert {row["part"] for row in table} == set(PARTS)
    for row in table:
        assert 0 <= row["percentiles"] <= row["deviation"] <= row["inside"] <= 1


def test_true_size(true_size: bool) -> None:
    if not true_size:
        pytest.skip("reported with --true-size")
    report(Path("build/depth_coverage"))
