"""Benchmarks run small with the other tests; `--true-size` measures."""

import os

import pytest

from bddn.cli.process import SETTINGS
from bench import command


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--true-size", action="store_true", help="run benchmarks at true size and keep their figures")


def pytest_configure(config: pytest.Config) -> None:
    """Measure with the settings that the commands have; torch reads them at its first tensor."""
    if config.getoption("--true-size", default=False):
        os.environ.update(SETTINGS)


@pytest.fixture
def true_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    wanted = bool(request.config.getoption("--true-size", default=False))
    monkeypatch.setattr(command, "FRESH", wanted)
    return wanted
