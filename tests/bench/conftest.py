"""Benchmarks run small with the other tests; `--true-size` measures."""

import pytest

from bench import command


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--true-size", action="store_true", help="run benchmarks at true size and keep their figures")


@pytest.fixture
def true_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    wanted = bool(request.config.getoption("--true-size", default=False))
    monkeypatch.setattr(command, "FRESH", wanted)
    return wanted
