"""Outputs of submodules, taken by hooks as they are made, and reduced to tokens at once."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from bddn.tokens import LayerTokens


class Taps:
    """Takes the tokens of some submodules during a forward pass, which may end with the last of them.

    Hooks see what blocks give whatever a library calls it, and what they keep is already resized to the grid, so that
    no stack of full feature maps is held.

    Parameters
    ----------
    modules : mapping of str to Module
        By the name of the layer.
    take : function of a layer's name and its module's output
        Makes its tokens.
    """

    def __init__(self, modules: Mapping[str, nn.Module], take: Callable[[str, Any], LayerTokens]) -> None:
        self._take = take
        self._running = threading.local()  # one network may run in several threads
        for name, module in modules.items():
            module.register_forward_hook(partial(self._hook, name))

    def run(self, forward: Callable[[], object], names: Sequence[str], *, stop: bool = True) -> dict[str, LayerTokens]:
        """Call `forward` until all of `names` are seen, or to its end (`stop=False`); their tokens, in this order."""
        found: dict[str, LayerTokens] = {}
        left = set(names)
        self._running.found, self._running.left, self._running.stop = found, left, stop
        try:
            forward()
        except _AllSeenError:
            pass
        finally:
            del self._running.found, self._running.left, self._running.stop
        assert not left, f"{', '.join(sorted(left))} did not run"
        return {name: found[name] for name in names}

    def _hook(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        left: set[str] = getattr(self._running, "left", set())
        if name in left:
            self._running.found[name] = self._take(name, output)
            left.remove(name)
            if not left and self._running.stop:
                raise _AllSeenError


class _AllSeenError(BaseException):
    """Ends a forward; not an Exception, which networks may catch."""


@contextmanager
def frozen(device: str, autocast: str | None) -> Iterator[None]:
    """No gradients, and lower precision where that is asked for ('float16' or 'bfloat16')."""
    dtype = getattr(torch, autocast) if autocast else None
    with torch.inference_mode(), torch.autocast(device, dtype=dtype, enabled=autocast is not None):
        yield


def compile_blocks(modules: Mapping[str, nn.Module]) -> None:
    """Compile each module's own forward, so that hooks stay outside of what is compiled."""
    from torch._dynamo import config

    # Modules of one class share the code of their forward, of which only so many variants are compiled.
    config.recompile_limit = max(config.recompile_limit, 2 * len(modules))
    for module in modules.values():
        module.forward = torch.compile(module.forward)
