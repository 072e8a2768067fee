"""`bddn film`: from a run folder to a film, or one clear message."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bddn.cli import app
from bddn.encoder import learning
from bddn.errors import RunError
from bddn.planted.subject import Planted
from bddn.run import fit_run, read_learning, read_run
from bddn.spec import FitSpec
from film.learned import read_gif

SPEC = FitSpec(channels=8, selector_width=16, epochs=1, batch_size=8)


@pytest.fixture
def run(sealed: Path, brain: Path, tmp_path: Path) -> Path:
    """A fitted run."""
    fit_run(sealed, Planted(brain), tmp_path / "run", SPEC)
    return tmp_path / "run"


def _film(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["film", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_a_run_becomes_a_film(run: Path) -> None:
    found = read_run(run)
    logged = read_learning(found)
    shown = np.flatnonzero(found.voxels["vertex"] < 10_242)
    assert len(shown) > 0
    assert logged.voxel.tolist() == shown.tolist()
    assert logged.step.tolist() == list(range(found.metrics["epochs"][-1]["step"] + 1))
    code, said = _film(run, "--fps", 20)
    assert code == 0
    assert said.startswith(f"film: {run}/maps/learning.gif, {len(logged.step)} frames")
    assert read_gif(run / "maps/learning.gif")[1] == [50] * (len(logged.step) - 1) + [2050]


def test_the_end_of_the_log_is_the_table_where_the_last_epoch_is_kept(run: Path) -> None:
    found = read_run(run)
    logged, table = read_learning(found), found.voxels
    names = np.array(found.layers)[logged.layer[-1]]
    assert names.tolist() == table["layer_argmax"].to_numpy()[logged.voxel].tolist()
    np.testing.assert_allclose(logged.scale[-1] / 255, table["scale"].to_numpy()[logged.voxel], atol=0.002)


def test_a_run_of_an_earlier_version_is_named(run: Path) -> None:
    (run / "learning.safetensors").unlink()
    code, said = _film(run)
    assert code == 2
    assert said.count("error:") == 1
    assert "a run of an earlier version, without this file. Fit again" in said
    assert not (run / "maps").exists()


def test_a_damaged_log_is_named(run: Path) -> None:
    path = run / "learning.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    code, said = _film(run)
    assert code == 2
    assert "learning.safetensors: expected a learning log of 'bddn fit', as it was saved; got other" in said


def test_the_log_of_another_run_is_refused(run: Path) -> None:
    found = read_run(run)
    learning.save(read_learning(found), ["a", "b"], run / "learning.safetensors")
    with pytest.raises(RunError, match="the file of another run, with layers a, b"):
        read_learning(found)


def test_an_impossible_file_is_refused_before_anything_is_drawn(run: Path, tmp_path: Path) -> None:
    code, said = _film(run, "--out", tmp_path / "film.avi")
    assert code == 2
    assert "expected a .gif or .mp4 file; got '.avi'" in said
