"""What a calling script has set in torch is set aside, and restored."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from threadpoolctl import threadpool_info

from bddn.machine.parallel import single_threaded_kernels
from bddn.machine.settings import own_settings, seeded
from bddn.machine.shared_setting import single_threaded_products

BACKENDS: Any = torch.backends
KINDS = {
    f"{where}.{what}": getattr(getattr(BACKENDS, where), what)
    for where, what in (
        ("cuda", "matmul"),
        ("cudnn", "conv"),
        ("cudnn", "rnn"),
        ("mkldnn", "matmul"),
        ("mkldnn", "conv"),
    )
}


def _state() -> dict[str, Any]:
    found = {name: kind.fp32_precision for name, kind in KINDS.items()}
    return found | {name: getattr(BACKENDS.cudnn, name) for name in ("benchmark", "deterministic")}


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (BACKENDS.cudnn, "benchmark", True),
        (BACKENDS.cudnn, "allow_tf32", False),
        (KINDS["cuda.matmul"], "allow_tf32", True),
        (KINDS["cuda.matmul"], "fp32_precision", "tf32"),  # torch then refuses to tell its older settings
        (KINDS["cudnn.conv"], "fp32_precision", "ieee"),
        (KINDS["mkldnn.conv"], "fp32_precision", "bf16"),
    ],
    ids=lambda one: one if isinstance(one, str) else None,
)
def test_arithmetic_is_float32_and_the_same_in_every_run(where: Any, name: str, value: object) -> None:
    kept = getattr(where, name)
    setattr(where, name, value)
    try:
        before = _state()
        with own_settings():
            assert _state() == dict.fromkeys(KINDS, "ieee") | {"benchmark": False, "deterministic": True}
            with own_settings():
                pass
            assert torch.get_float32_matmul_precision() == "highest"
        assert _state() == before
        assert getattr(where, name) == value
    finally:
        setattr(where, name, kept)
        torch.set_float32_matmul_precision("highest")


def test_threads_that_overlap_keep_the_settings_until_the_last_has_left() -> None:
    first_has_left, second_is_inside = threading.Event(), threading.Event()
    found: list[tuple[torch.dtype, int]] = []

    def second() -> None:
        with own_settings(), single_threaded_kernels():
            second_is_inside.set()
            assert first_has_left.wait(60)
            found.append((torch.get_default_dtype(), torch.get_num_threads()))

    n = torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(3)
    try:
        state = torch.random.get_rng_state()
        other = threading.Thread(target=second)
        with own_settings(), single_threaded_kernels():
            other.start()
            assert second_is_inside.wait(60)
        assert torch.get_num_threads() == 3, "the number of this thread does not wait for others"
        first_has_left.set()
        other.join()
        assert found == [(torch.float32, 1)]
        assert torch.get_default_dtype() == torch.float64
        assert torch.get_num_threads() == 3
        assert torch.equal(torch.random.get_rng_state(), state)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(n)


def test_one_seed_gives_the_same_numbers_in_threads_that_overlap() -> None:
    def drawn(seed: int) -> list[float]:
        with seeded(seed):
            return [float(torch.rand(())) for _ in range(200)]

    state, seeds = torch.random.get_rng_state(), list(range(4)) * 2
    alone = [drawn(seed) for seed in seeds]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(drawn, seeds)) == alone
    assert torch.equal(torch.random.get_rng_state(), state)


def test_numpy_keeps_one_thread_until_the_last_thread_has_left() -> None:
    def of_blas() -> set[int]:
        return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}

    before = of_blas()
    first, second = single_threaded_products(), single_threaded_products()
    first.__enter__()
    with second:
        first.__exit__(None, None, None)
        assert of_blas() == {1}
    assert of_blas() == before
