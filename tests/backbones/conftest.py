"""What tests of backbones share."""

from collections.abc import Iterator

import pytest

from bddn.machine.parallel import single_threaded_kernels


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As in an extraction: small kernels are slower on several threads, by far where others use the cores too."""
    with single_threaded_kernels():
        yield
