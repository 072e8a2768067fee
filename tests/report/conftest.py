"""Runs to make pages of, and a browser to look at them."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from bddn.evaluation.held_out import predict_held_out
from bddn.planted.subject import Planted
from bddn.report import write_report
from bddn.run import fit_run, read_run
from bddn.spec import FitSpec
from bddn.store.reader import Cache
from report.folders import prove
from report.opened import Opened

RECIPE = {**FitSpec.recipe("fast").to_dict(), "channels": 8, "selector_width": 16, "epochs": 2, "batch_size": 4}


@pytest.fixture(scope="session")
def runs(sealed: Path, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two runs on the same voxels, `one` with three layers and `two` with two of them; read only.
    All voxels have evidence."""
    out = tmp_path_factory.mktemp("runs")
    fit_run(sealed, Planted(brain), out / "one", FitSpec.parse(RECIPE, "test"))
    fit_run(sealed, Planted(brain), out / "two", FitSpec.parse({**RECIPE, "layers": ["block_0", "block_2"]}, "test"))
    for run in out.iterdir():
        prove(run)
    return out


@pytest.fixture(scope="session")
def scored(runs: Path, sealed: Path, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the run `one` that was scored; read only."""
    folder = Path(shutil.copytree(runs / "one", tmp_path_factory.mktemp("scored") / "one"))
    predict_held_out(read_run(folder), [Cache(str(sealed))], [Planted(brain)])
    return folder


@pytest.fixture
def run_copy(runs: Path, tmp_path: Path) -> Path:
    """A copy of the run `one`, to change."""
    return Path(shutil.copytree(runs / "one", tmp_path / "run"))


@pytest.fixture(scope="session")
def open_page(browser: Browser) -> Iterator[Callable[[Path], Opened]]:
    """Opens a page from its file, in a window of 1400 px whose reader wants no motion."""
    context = browser.new_context(
        viewport={"width": 1400, "height": 900}, reduced_motion="reduce", offline=True, accept_downloads=False
    )
    yield lambda file: Opened(context.new_page(), file)
    context.close()


@pytest.fixture(scope="session")
def single(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the run `one`."""
    return write_report([runs / "one"], tmp_path_factory.mktemp("page") / "one.html").path


@pytest.fixture(scope="session")
def comparison(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of both runs."""
    return write_report([runs / "one", runs / "two"], tmp_path_factory.mktemp("page") / "both.html").path
