"""The code of a user's own network as part of its identity: its source, and numbers that it computes.

Weights and structure do not change if someone edits `forward`. The source of the module's classes reveals most edits.
The tokens of fixed noise reveal the others: a function in another file, a constant, a patched method.
"""

import hashlib
import inspect
import io
import math
import textwrap
import tokenize
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bddn.errors import BackboneError
from bddn.tokens import LayerTokens

NOT_AVAILABLE = "source not available"
NUMBERS = 4  # numbers per layer and image
DIGITS = 3
CHANCE = 1e-2  # a difference of numbers of order 1 that is larger than rounding errors
SAME = 1e-3  # the same between passes of one batch, which round alike
PASSES = 32  # of a network that draws random numbers: a block that is left out once in 20 times shows in 997 of 1,000
NOTHING = 1e-30  # least root mean square
LOG_OF_ZERO = -24 * math.log(2)  # of a root mean square: smaller numbers are zero in float16
DROPPED = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING}
STRUCTURE = {tokenize.INDENT: "{", tokenize.DEDENT: "}", tokenize.NEWLINE: ";"}


def sources(module: nn.Module, library: str = "torch") -> dict[str, str]:
    """Return the hash of the source of every class's methods in a network, by class name, without torch's own classes
    and those of a library whose version tells its code.

    The current source of a patched method counts; a `forward` that was patched on an instance has its own entry. If
    there is no source, as for classes made by a program, the value is `NOT_AVAILABLE`.
    """
    found: dict[str, str] = {}
    for one in module.modules():
        for kind in type(one).__mro__:
            if _is_own(kind, library) and _name(kind) not in found:
                found[_name(kind)] = _hashed(_methods(kind))
        patch = vars(one).get("forward")
        if patch is not None and _is_own(patch, library):
            found[f"{_name(type(one))}.forward of an instance"] = source_of_function(patch)
    return dict(sorted(found.items()))


def source_of_function(function: Callable[..., Any]) -> str:
    """Return the hash of the source of a function or callable object, or `NOT_AVAILABLE`."""
    while isinstance(function, partial):
        function = function.func
    is_function = inspect.isfunction(function) or inspect.ismethod(function)
    return _hashed([function] if is_function else _methods(type(function)))


def fingerprint(tokens: LayerTokens) -> list[list[float]]:
    """Return a few numbers of order 1 for the tokens of each image of a layer: a list (B, 4).

    The first is the logarithm of the layer's root mean square; the others are sums of all tokens with fixed random
    weights, divided by the root mean square.
    """
    parts = [tokens.local_.flatten(1), *(t.flatten(1) for t in (tokens.global_, tokens.register) if t is not None)]
    values = torch.cat([part.float() for part in parts], 1)
    rms = values.square().mean(1).sqrt().clamp_min(NOTHING)
    found = [rms.log()]
    for weights in _weights(values.shape[1]):  # a matrix product would be in the lower precision of autocast
        found.append((values * weights.to(values.device)).sum(1) / (rms * values.shape[1] ** 0.5))
    return torch.stack(found, 1).double().tolist()


def measure(run: Callable[[Tensor], Mapping[str, list[list[float]]]], pixels: Tensor) -> dict[str, list[float]]:
    """Return the rounded `fingerprint` of every layer for the second of two images.

    Parameters
    ----------
    run : function of pixels (B, 3, H, W)
        Returns the `fingerprint` of each layer.
    pixels : Tensor, (2, 3, H, W)

    Raises
    ------
    BackboneError
        If tokens are not finite or almost zero, or differ between runs or batches.
    """
    before = _random_states()
    both, alone = run(pixels), run(pixels[1:])
    for layer, of_images in both.items():
        if not all(abs(x) < float("inf") for x in of_images[1]):
            raise BackboneError(
                f"layer '{layer}'",
                expected="finite tokens",
                got="NaN or infinite tokens for an image of normal noise",
                fix="Correct the module or its weights, or choose other layers.",
            )
        if math.log(NOTHING) + 1 < of_images[1][0] < LOG_OF_ZERO:  # zeros themselves may become more for other images
            raise BackboneError(
                f"layer '{layer}'",
                expected="tokens that float16 can store",
                got="tokens that are almost zero for an image of normal noise, as in deep networks of random weights",
                fix="Give trained weights, or choose earlier layers.",
            )
    differ = [layer for layer in both if far(both[layer][1], alone[layer][0])]
    if differ:
        twice = run(pixels)
        by_chance = any(far(both[layer][1], twice[layer][1]) for layer in both)
        raise BackboneError(
            f"layer '{differ[0]}'",
            expected="the same tokens for the same image in every run",
            got="other tokens in a second run: the network draws random numbers"
            if by_chance
            else "other tokens in another batch: the network mixes the images of a batch",
            fix="Turn off random masking, dropout or sampling in its forward."
            if by_chance
            else "Use statistics that were fixed in training, like BatchNorm in eval mode.",
        )
    run(2 * pixels + 1)  # other images, of which the network may keep something
    draws = _random_states() != before  # what it draws may change its tokens, maybe seldom
    for again in (run(pixels) for _ in range(PASSES if draws else 1)):
        later = [layer for layer in both if any(map(partial(far, limit=SAME), both[layer], again[layer]))]
        if later:
            raise BackboneError(
                f"layer '{later[0]}'",
                expected="the same tokens for the same image in every run",
                got="other tokens in a later run: the network draws random numbers"
                if draws
                else "other tokens after other images: the network keeps something of the images before",
                fix="Turn off random masking, dropout or sampling in its forward."
                if draws
                else "Let its forward begin anew with every batch.",
            )
    return {layer: [round(x, DIGITS) for x in of_images[1]] for layer, of_images in both.items()}


@lru_cache(maxsize=1)  # most layers of a network have the same size
def _weights(n: int) -> Tensor:
    return torch.randn(NUMBERS - 1, n, generator=torch.Generator().manual_seed(0))


def _random_states() -> tuple[Any, ...]:
    """Return the states of the generators that a forward usually draws from; not that of the module random, from which
    the threads of dask draw all the time."""
    torchs = [torch.random.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else ())]
    numpys: Any = np.random.get_state()  # noqa: NPY002 - what a user's code draws from
    return numpys[1].tobytes(), numpys[2:], *(one.numpy().tobytes() for one in torchs)


def far(a: list[float], b: list[float], limit: float = CHANCE) -> bool:
    """Return whether two fingerprints of an image differ by more than rounding errors."""
    return any(abs(x - y) > limit for x, y in zip(a, b, strict=True))


def _methods(kind: type) -> list[Any]:
    """Return the functions that a class defines itself."""
    values = [value for _, value in sorted(vars(kind).items())]
    unwrapped = (getattr(value, "__func__", getattr(value, "fget", value)) for value in values)  # methods, properties
    return [function for function in unwrapped if inspect.isfunction(function)]


def _is_own(what: Any, library: str) -> bool:
    package = str(getattr(what, "__module__", "") or "").partition(".")[0]
    return package not in ("torch", library, "builtins", "typing", "abc")


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _source(function: Any) -> str:
    """Return the source of a function without comments and layout, or ''."""
    try:
        text = textwrap.dedent(inspect.getsource(function))
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        return ""
    return "".join(STRUCTURE.get(token.type, token.string) for token in tokens if token.type not in DROPPED)


def _hashed(functions: list[Any]) -> str:
    texts = [text for function in functions if (text := _source(function))]  # those of a dataclass have none
    if functions and not texts:
        return NOT_AVAILABLE
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
