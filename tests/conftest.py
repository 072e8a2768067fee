"""What many tests share: one tiny planted brain, its network and its sealed cache, each made once per run."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from bddn.extraction import extract
from bddn.planted.plant import plant
from bddn.planted.subject import Planted
from bddn.run import Run, fit_run
from bddn.spec import CacheSpec, FamilySpec, PlantSpec, WeightsSpec
from quick_fit import QUICK

if TYPE_CHECKING:
    from playwright.sync_api import Browser

GRAPHICS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
PLANTED = PlantSpec(seed=0, n_images=48, radius_rad=0.15, n_layers=3, width=24)


FIRST = [
    "slurm",
    "surroundings",
    "page",
    "faults",
    "many",
    "pipelines",
    "finetuning",
    "figure6",
    "evidence",
    "plug_ins",
    "tutorial",
]

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Hide all GPUs, so that tests are the same on every machine, also from processes that tests start. Tests of a GPU
    (`-m gpu`) and benchmarks (`--true-size`) see them."""
    if config.getoption("markexpr") != "gpu" and not config.getoption("--true-size", default=False):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process is left alone with one of them at the end."""
    names = [f"test_{name}.py" for name in FIRST]
    items.sort(key=lambda item: names.index(item.path.name) if item.path.name in names else len(names))
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU: on a machine with one, run pytest -m gpu"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="try many more cases where tests try some")


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether many more cases are to be tried."""
    return bool(request.config.getoption("--long", default=False))


@pytest.fixture(scope="session")
def planted_spec() -> PlantSpec:
    """How `brain` was planted."""
    return PLANTED


@pytest.fixture(scope="session")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planted brain of 48 images, 124 voxels and 3 blocks of 24 channels; read only."""
    folder = tmp_path_factory.mktemp("planted") / "brain"
    plant(PLANTED, folder)
    return folder


@pytest.fixture
def planted(brain: Path) -> Planted:
    """The planted brain as a dataset."""
    return Planted(brain)


@pytest.fixture(scope="session")
def spec(brain: Path) -> CacheSpec:
    """How `sealed` was extracted: 3 shards of 4 chunks, the last batch of each shard not full."""
    return CacheSpec(
        title="the planted network",
        backbone=FamilySpec(family="clip"),
        weights=WeightsSpec(folder=str(brain / "backbone")),
        image_size=PLANTED.image_size,
        grid=(4, 3),
        batch_size=6,
        chunk_images=4,
        shard_images=16,
    )


@pytest.fixture(scope="session")
def sealed(brain: Path, spec: CacheSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sealed cache of the planted brain; read only."""
    out = tmp_path_factory.mktemp("caches") / "sealed.zarr"
    extract(spec, Planted(brain), out, device="cpu")
    return out


@pytest.fixture(scope="session")
def quick_run(sealed: Path, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run of a short fit to the planted brain, for tests that need any run; read only."""
    return fit_run(sealed, Planted(brain), tmp_path_factory.mktemp("runs") / "run", QUICK, device="cpu")[0]


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Headless Chromium; without one tests are skipped, in CI they fail."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        message = "no Chromium: the page is not tested in a browser; 'apt-get install chromium' brings one"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    arguments = [*GRAPHICS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=arguments)
        yield started
        started.close()
