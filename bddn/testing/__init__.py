"""Contract suites: what every backbone, dataset and store keeps, as classes of tests to inherit from.

A package that brings one of these gives a fixture, and pytest runs the suite:

    from bddn.testing import DatasetContract

    class TestMyLab(DatasetContract):
        @pytest.fixture
        def dataset(self):
            return MyLab(Path("data/subj01"))

A test that does not hold for a special case can be overridden. Only this room imports pytest.
"""

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.contract_of_{what}" for what in ("backbones", "datasets", "stores")))

from bddn.testing.contract_of_backbones import BackboneContract  # noqa: E402 - after what concerns them
from bddn.testing.contract_of_datasets import DatasetContract  # noqa: E402
from bddn.testing.contract_of_stores import StoreContract  # noqa: E402

__all__ = ["BackboneContract", "DatasetContract", "StoreContract"]
