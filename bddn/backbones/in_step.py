"""Find out whether several threads may run one network at the same time.

A network may keep something of an image on itself, and read it later in its forward pass: `self.mask = …`. Two passes
at the same time would then mix their images. When they do is chance, so the passes here go in step: before each
submodule both wait until the other is there too.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook

from bddn.backbones.code import far

Run = Callable[[Tensor], Mapping[str, list[list[float]]]]


def may_run_at_once(run: Run, pixels: Tensor) -> bool:
    """Return whether two passes at the same time give the tokens that they give one after the other.

    Parameters
    ----------
    run : function of pixels (B, 3, H, W)
        Returns the `fingerprint` of each layer.
    pixels : Tensor, (2, 3, H, W)
        Noise. The second image is made brighter and of more contrast, so that hardly anything is equal in both.
    """
    pixels = torch.stack([pixels[0], 2 * pixels[1] + 1])
    expected = run(pixels)
    step, here = threading.Barrier(2), threading.local()

    def wait(_module: Any, _inputs: Any) -> None:
        if getattr(here, "in_step", False) and not torch.compiler.is_compiling():
            with suppress(threading.BrokenBarrierError):
                step.wait()

    def run_one(one: Tensor) -> Mapping[str, list[list[float]]]:
        here.in_step = True
        try:
            return run(one)
        finally:
            step.abort()  # the other pass may call more submodules, and must not wait for this one

    hook = register_module_forward_pre_hook(wait)
    try:
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(run_one, pixels.split(1)))
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return False  # what the other pass left there may have another shape
    finally:
        hook.remove()
    return not any(far(expected[layer][i], one[layer][0]) for i, one in enumerate(found) for layer in expected)
