"""What several tests of datasets share."""

import pytest

from data.own_trees import Lab, small_lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Pictures and responses of own data; read only."""
    return small_lab(tmp_path_factory.mktemp("lab") / "pictures")
