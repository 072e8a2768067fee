"""Forward hooks that read the outputs of submodules during the forward pass, and reduce them at once."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from bddn.errors import BackboneError
from bddn.spec import CacheSpec
from bddn.tokens import LayerTokens

Reduce = Callable[[LayerTokens], Any]


class LayerHooks:
    """Reads the tokens of some submodules during a forward pass, which can stop after the last of them.

    Hooks work for every library. Only the result of `reduce(tokens)` stays in memory, not the full feature maps of all
    layers. It is computed before the forward pass continues, which may change a submodule's output in place.

    Parameters
    ----------
    modules : mapping of str to Module
        Submodules by the name of the layer.
    read : function of a layer's name and its module's output
        Returns the tokens in the output, maybe as a view.
    """

    def __init__(self, modules: Mapping[str, nn.Module], read: Callable[[str, Any], LayerTokens]) -> None:
        self._read = read
        self._running = threading.local()  # several threads may run one network
        for name, module in modules.items():
            module.register_forward_hook(partial(self._hook, name))

    def run(
        self, forward: Callable[[], object], names: Sequence[str], reduce: Reduce, *, stop: bool = True
    ) -> dict[str, Any]:
        """Call `forward` until all of `names` have run, or to its end (`stop=False`).

        Return `reduce(tokens)` of each layer, in the order of `names`.
        """
        found: dict[str, Any] = {}
        left = set(names)
        running = self._running
        running.found, running.left, running.reduce, running.stop = found, left, reduce, stop
        try:
            forward()
        except _AllSeenError:
            pass
        finally:
            del running.found, running.left, running.reduce, running.stop
        if left:
            raise _not_once(sorted(left), "did not run in the thread of the pass")
        return {name: found[name] for name in names}

    def _hook(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        running = self._running
        left: set[str] = getattr(running, "left", set())
        if left and name in running.found:
            raise _not_once([name], "ran again")
        if name in left:
            running.found[name] = running.reduce(self._read(name, output))
            left.remove(name)
            if not left and running.stop:
                raise _AllSeenError


class _AllSeenError(BaseException):
    """Ends a forward pass. It is not an Exception, because networks may catch those."""


def _not_once(layers: Sequence[str], got: str) -> BackboneError:
    return BackboneError(
        f"layer {', '.join(map(repr, layers))}",
        expected="submodules that run once for every batch, as they did for noise",
        got=f"one that {got}",
        fix="Choose layers whose running does not depend on the images, and run them in one thread.",
    )


def pooling(spec: CacheSpec) -> Reduce:
    """Return a function that reduces a layer's tokens to those that a spec stores; see `LayerTokens.pooled`."""
    return lambda tokens: tokens.pooled(spec.grid, spec.global_token, spec.registers)


@contextmanager
def frozen(device: str, autocast: str | None) -> Iterator[None]:
    """Disable gradients, and use autocast in 'float16' or 'bfloat16' if given, within the `with` block."""
    dtype = getattr(torch, autocast) if autocast else None
    with torch.inference_mode(), torch.autocast(device, dtype=dtype, enabled=autocast is not None):
        yield


def compile_blocks(modules: Mapping[str, nn.Module]) -> None:
    """Compile the forward of each module, so that hooks stay outside the compiled code."""
    from torch._dynamo import config

    # Modules of one class share the code of their forward, and torch limits the number of variants of one code.
    config.recompile_limit = max(config.recompile_limit, 2 * len(modules))
    for module in modules.values():
        module.forward = torch.compile(module.forward)
