"""Stores that many tests read, made once, and copies of them to be damaged."""

import shutil
from pathlib import Path

import pytest

from store.stores import SHARDS, Arrays, filled_with, tokens, write, writer


@pytest.fixture(scope="session")
def filled() -> Arrays:
    """The rows of `kept`, in float16."""
    return filled_with(tokens())


@pytest.fixture(scope="session")
def kept(filled: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed store; read only."""
    root = tmp_path_factory.mktemp("stores") / "kept.zarr"
    made = writer(root)
    made.prepare()
    write(made, filled, SHARDS)
    made.seal()
    return root


@pytest.fixture
def store(kept: Path, tmp_path: Path) -> Path:
    """A sealed store, to be damaged."""
    return Path(shutil.copytree(kept, tmp_path / "store.zarr"))


@pytest.fixture(scope="session")
def kept_unsealed(filled: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two of its three shards; read only."""
    root = tmp_path_factory.mktemp("stores") / "unsealed.zarr"
    made = writer(root)
    made.prepare()
    write(made, filled, (0, 1))
    return root


@pytest.fixture
def unsealed(kept_unsealed: Path, tmp_path: Path) -> Path:
    """A store with two of its three shards, to go on with."""
    return Path(shutil.copytree(kept_unsealed, tmp_path / "unsealed.zarr"))
