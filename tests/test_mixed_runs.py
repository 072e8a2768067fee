"""A run folder that was copied over another one, in part, is not taken for a run."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner, Result

from bddn.cli import app
from bddn.data import open_dataset
from bddn.errors import RunError
from bddn.run import Run, fit_run, read_run
from bddn.spec import CacheSpec
from quick_fit import QUICK

MIXED = "Copy the whole run folder again"


@pytest.fixture(scope="module")
def other(quick_run: Run, sealed: Path, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same fit with another seed."""
    out = tmp_path_factory.mktemp("other") / "run"
    return fit_run(sealed, open_dataset(f"planted:{brain}"), out, QUICK.model_copy(update={"seed": 1}), device="cpu")[0]


@pytest.fixture
def mixed(quick_run: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(quick_run.folder, tmp_path / "mixed"))


def _command(run: Path, *words: object) -> Result:
    return CliRunner().invoke(app, [str(words[0]), str(run), *map(str, words[1:])])


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "voxels.parquet", "split.json", "encoder.safetensors"])
def test_a_folder_with_a_file_of_another_fit_is_not_scored(
    mixed: Path, other: Run, sealed: Path, brain: Path, name: str
) -> None:
    shutil.copy(other.folder / name, mixed)
    done = _command(mixed, "score", "--cache", sealed, "--data", f"planted:{brain}")
    assert (done.exit_code, MIXED in done.output) == (2, True), done.output
    assert not (mixed / "score").exists()


@pytest.mark.parametrize("name", ["voxels.parquet", "metrics.json"])
def test_nor_drawn_nor_kept_as_the_fit(mixed: Path, other: Run, sealed: Path, brain: Path, name: str) -> None:
    shutil.copy(other.folder / name, mixed)
    assert MIXED in _command(mixed, "maps").output
    with pytest.raises(RunError, match=MIXED):
        fit_run(sealed, open_dataset(f"planted:{brain}"), mixed, QUICK)


@pytest.mark.parametrize("name", ["split.json", "encoder.safetensors"])
def test_nor_exported(mixed: Path, other: Run, spec: CacheSpec, tmp_path: Path, name: str) -> None:
    shutil.copy(other.folder / name, mixed)
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec.to_dict()))
    done = _command(mixed, "export", "--spec", tmp_path / "spec.yaml", "--no-weights", "--out", tmp_path / "out")
    assert (done.exit_code, MIXED in done.output) == (2, True), done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", ["fit", "cache", "data"])
def test_a_part_that_is_missing_is_named(mixed: Path, part: str) -> None:
    about = json.loads((mixed / "run.json").read_text())
    del about[part]
    (mixed / "run.json").write_text(json.dumps(about))
    done = _command(mixed, "score")
    assert (done.exit_code, f"run.json without '{part}'" in " ".join(done.output.split())) == (2, True), done.output


def test_columns_may_be_added_to_the_table(mixed: Path) -> None:
    pd.read_parquet(mixed / "voxels.parquet").assign(own=1.0).to_parquet(mixed / "voxels.parquet")
    assert "own" in read_run(mixed).voxels
