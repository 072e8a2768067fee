"""Benchmarks run small with the other tests; `--true-size` measures."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--true-size", action="store_true", help="run benchmarks at true size and keep their figures")


@pytest.fixture
def true_size(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--true-size", default=False))
