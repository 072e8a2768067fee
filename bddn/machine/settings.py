"""Fix the global settings of torch and numpy, so that results do not depend on what a calling script has set.

The caller's settings and the state of torch's global random generator are restored afterwards.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
import torch

from bddn.machine.parallel import restored_threads
from bddn.machine.shared_setting import SharedSetting


@contextmanager
def own_settings() -> Iterator[None]:
    """Use fixed settings inside the context. It also works as a decorator.

    New tensors are float32 on the CPU, gradients are enabled and products have full precision, even if the caller has
    set a default dtype or device, inference mode, autocast or lower-precision arithmetic. Convolutions on a GPU are the
    same in every run; torch alone would compute them with TF32, whose numbers have 10 bits. Several threads may be
    inside at the same time.
    """
    with ExitStack() as stack:
        stack.enter_context(restored_threads())  # our threads set it for all later threads
        stack.enter_context(_of_process())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":  # checked first, since it slows down each call of torch
            stack.enter_context(torch.device("cpu"))
        if _flushes_denormals():
            stack.callback(torch.set_flush_denormal, True)
            torch.set_flush_denormal(False)
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        yield


@SharedSetting
@contextmanager
def _of_process() -> Iterator[None]:
    """Change what torch keeps for all threads; `own_settings` changes the rest, which is of one thread."""
    with ExitStack() as stack:
        restore = stack.callback
        restore(torch.random.set_rng_state, torch.random.get_rng_state())
        restore(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        _full_precision(restore)
        if torch.are_deterministic_algorithms_enabled():  # checked first, since setting it loads torch's compiler
            warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
            restore(torch.use_deterministic_algorithms, True, warn_only=warn_only)
            torch.use_deterministic_algorithms(False)
        yield


_random_state = threading.RLock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch draw random numbers on the CPU from a seed inside the context, and restore its state afterwards.

    Other threads wait here, because torch has one random state for all of them.
    """
    generator = torch.default_generator
    with _random_state:
        before = generator.get_state()
        generator.manual_seed(seed)
        try:
            yield
        finally:
            generator.set_state(before)


def _full_precision(restore: Callable[..., object]) -> None:
    """Let products be those of float32, and let cuDNN choose its kernels by the sizes alone.

    torch has two sets of names for the precision. It refuses to tell the older one to who has used the newer one; what
    is restored last, the newer one, then holds.
    """
    backends: Any = torch.backends
    cudnn, mkldnn = backends.cudnn, backends.mkldnn
    kinds = (backends.cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn)
    for kind in kinds:
        restore(setattr, kind, "fp32_precision", kind.fp32_precision)
    with suppress(RuntimeError):
        restore(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
    for name, value in (("allow_tf32", False), ("benchmark", False), ("deterministic", True)):
        with suppress(RuntimeError):
            restore(setattr, cudnn, name, getattr(cudnn, name))
        setattr(cudnn, name, value)
    torch.set_float32_matmul_precision("highest")
    for kind in kinds:
        kind.fp32_precision = "ieee"


def _flushes_denormals() -> bool:
    """Return whether this thread flushes denormal numbers to zero; torch has a setter for this but no getter."""
    return float(torch.tensor(1e-40, dtype=torch.float32, device="cpu") * 0.5) == 0.0
