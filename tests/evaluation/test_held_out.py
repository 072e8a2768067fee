"""`bddn score`: the responses to the test images that it keeps are those that the run was scored on."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bddn.cli import app
from bddn.errors import RunError
from bddn.evaluation.kept_responses import read_held_out
from bddn.planted.subject import Planted
from bddn.run import fit_run, read_run
from bddn.spec import FitSpec
from bddn.stats.scores import R2

SMALL = {"channels": 8, "selector_width": 16, "epochs": 1, "batch_size": 4}
FITS = [FitSpec(**SMALL, seed=seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def folders(sealed: Path, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs, scored by one command that was also given a cache and a subject of none of them."""
    out = tmp_path_factory.mktemp("runs")
    runs = [fit_run(sealed, Planted(brain), out / str(fit.seed), fit)[0].folder for fit in FITS]
    options = ["--cache", str(sealed), "--data", f"planted:{brain}"]
    done = CliRunner().invoke(app, ["score", *map(str, runs), *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return runs


def test_the_scores_of_the_kept_responses_are_those_of_the_fit(folders: list[Path], brain: Path) -> None:
    dataset = Planted(brain)
    for folder in folders:
        run, found = read_run(folder), read_held_out(read_run(folder))
        r2 = R2()
        r2.add(found.measured, found.predicted)
        np.testing.assert_allclose(r2.score(), run.voxels["r2_test"], atol=1e-12)
        rows = [dataset.stimuli.ids.index(stimulus) for stimulus in found.ids]
        np.testing.assert_array_equal(found.measured, dataset.responses(np.array(rows)))


def test_responses_of_another_run_and_missing_ones_are_refused(folders: list[Path], tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(folders[0], mixed)
    shutil.copytree(folders[1] / "score", mixed / "score", dirs_exist_ok=True)
    with pytest.raises(RunError, match=r"another run.*bddn score"):
        read_held_out(read_run(mixed))
    (mixed / "score" / "responses.npy").write_bytes(b"")
    with pytest.raises(RunError, match=r"float32.*bddn score"):
        read_held_out(read_run(mixed))
    shutil.rmtree(mixed / "score")
    with pytest.raises(RunError, match=r"not scored.*bddn score"):
        read_held_out(read_run(mixed))
