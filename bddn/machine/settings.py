"""Settings of torch and numpy that a calling script may have changed: our results do not depend on them.

What the caller has set is back afterwards, and so is the state of torch's global random numbers.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch


@contextmanager
def own_settings() -> Iterator[None]:
    """Compute as in a fresh process. It is a decorator, too.

    Tensors are float32 on the CPU unless said otherwise, gradients can be taken, and products have full precision, also
    where the caller has set a default type or device, inference mode, autocast or faster arithmetic.
    """
    with ExitStack() as stack:
        restore = stack.callback
        restore(torch.random.set_rng_state, torch.random.get_rng_state())
        restore(torch.set_num_threads, torch.get_num_threads())  # threads of ours set it for all that begin later
        restore(torch.set_default_dtype, torch.get_default_dtype())
        restore(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":  # asked for first, since it makes each call of torch slower
            stack.enter_context(torch.device("cpu"))
        if torch.are_deterministic_algorithms_enabled():  # asked for first, since setting it loads torch's compiler
            warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
            restore(torch.use_deterministic_algorithms, True, warn_only=warn_only)
            torch.use_deterministic_algorithms(False)
        if _flushes_denormals():
            restore(torch.set_flush_denormal, True)
            torch.set_flush_denormal(False)
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        yield


def _flushes_denormals() -> bool:
    """Whether this thread takes the smallest numbers for zero, which torch can be told and does not tell."""
    return float(torch.tensor(1e-40, dtype=torch.float32, device="cpu") * 0.5) == 0.0
