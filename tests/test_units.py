"""The unit of responses, and single voxels that hardly vary, decide nothing."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bddn.planted.subject import Planted
from bddn.run import Run, fit_run
from bddn.spec import FitSpec

COLUMNS = ("depth", "confidence", "x", "y", "scale", "r2_val", "r2_test")


class Changed(Planted):
    """The planted subject with other responses."""

    factor, offset, near_constant = 1.0, 0.0, -1

    def responses(self, rows: npt.NDArray[np.intp] | None = None) -> npt.NDArray[np.float32]:
        found = super().responses(rows) * np.float32(self.factor) + np.float32(self.offset)
        if self.near_constant >= 0:
            ids = np.arange(len(self.stimuli)) if rows is None else rows
            found[:, self.near_constant] = np.where(ids == 0, 1e4, 1e-6 * ids)
        return np.ascontiguousarray(found)


@pytest.mark.parametrize("recipe", ["paper", "fast"])
@pytest.mark.parametrize(("factor", "offset"), [(0.01, 0.0), (100.0, 0.0), (1.0, 50.0)])
def test_data_in_another_unit_give_the_same_map(
    sealed: Path, brain: Path, tmp_path: Path, recipe: str, factor: float, offset: float
) -> None:
    other = Changed(brain)
    other.factor, other.offset = factor, offset
    a, b = (_fit(sealed, data, tmp_path / name, recipe) for name, data in (("a", Planted(brain)), ("b", other)))
    for column in COLUMNS:
        np.testing.assert_allclose(a.voxels[column], b.voxels[column], atol=2e-3, err_msg=column)
    np.testing.assert_allclose(
        b.voxels["response_mean"], a.voxels["response_mean"] * factor + offset, rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(b.voxels["response_sd"], a.voxels["response_sd"] * factor, rtol=1e-4)


def test_one_voxel_that_hardly_varies_changes_neither_the_mean_nor_the_epoch(
    sealed: Path, brain: Path, tmp_path: Path
) -> None:
    other = Changed(brain)
    other.near_constant = 5
    a, b = (_fit(sealed, data, tmp_path / name, "paper") for name, data in (("a", Planted(brain)), ("b", other)))
    assert b.metrics["r2_test"] == pytest.approx(a.metrics["r2_test"], abs=2 / len(a.voxels))
    assert b.metrics["best_epoch"] == a.metrics["best_epoch"]
    assert b.metrics["n_voxels_below"] == (b.voxels["r2_test"] < -1).sum()
    np.testing.assert_allclose(a.voxels["depth"].drop(5), b.voxels["depth"].drop(5), atol=0.05)


def _fit(sealed: Path, data: Planted, out: Path, recipe: str) -> Run:
    small = {"channels": 16, "selector_width": 16, "epochs": 4, "batch_size": 8}
    return fit_run(sealed, data, out, FitSpec.parse({**FitSpec.recipe(recipe).to_dict(), **small}, "test"))[0]
