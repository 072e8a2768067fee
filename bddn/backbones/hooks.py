"""Forward hooks that take the outputs of submodules as they are made, and keep what is needed of them at once."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from bddn.tokens import LayerTokens

Keep = Callable[[LayerTokens], Any]


class LayerHooks:
    """Reads the tokens of some submodules during a forward pass, which may end with the last of them.

    Hooks see what blocks return whatever a library calls it. Only what `keep` makes of the tokens is held, so that no
    stack of full feature maps is in memory, and it is made before the forward pass goes on, which may change a
    submodule's output in place.

    Parameters
    ----------
    modules : mapping of str to Module
        By the name of the layer.
    read : function of a layer's name and its module's output
        Gives the tokens in the output, which may be a view of it.
    """

    def __init__(self, modules: Mapping[str, nn.Module], read: Callable[[str, Any], LayerTokens]) -> None:
        self._read = read
        self._running = threading.local()  # one network may run in several threads
        for name, module in modules.items():
            module.register_forward_hook(partial(self._hook, name))

    def run(
        self, forward: Callable[[], object], names: Sequence[str], keep: Keep, *, stop: bool = True
    ) -> dict[str, Any]:
        """Call `forward` until all of `names` have run, or to its end (`stop=False`).

        Returns what `keep` made of the tokens of each layer, in the order of `names`.
        """
        found: dict[str, Any] = {}
        left = set(names)
        running = self._running
        running.found, running.left, running.keep, running.stop = found, left, keep, stop
        try:
            forward()
        except _AllSeenError:
            pass
        finally:
            del running.found, running.left, running.keep, running.stop
        assert not left, f"{', '.join(sorted(left))} did not run"
        return {name: found[name] for name in names}

    def _hook(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        running = self._running
        left: set[str] = getattr(running, "left", set())
        if name in left:
            running.found[name] = running.keep(self._read(name, output))
            left.remove(name)
            if not left and running.stop:
                raise _AllSeenError


class _AllSeenError(BaseException):
    """Ends a forward pass; not an Exception, which networks may catch."""


def pooling(grid: tuple[int, int], global_token: str) -> Keep:
    """Keeps of a layer's tokens what is stored of them; see `LayerTokens.pooled`."""
    return lambda tokens: tokens.pooled(grid, global_token)


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
