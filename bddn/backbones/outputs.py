"""Find the tensor of tokens in the output of a submodule. If several are possible, raise an error that lists them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor

from bddn.backbones.shapes import could_be_tokens
from bddn.errors import SpecError

ALONE = ""  # the path of an output that is a tensor itself
ROWS_SUM_TO_ONE = 2e-2  # tolerance for attention weights in half precision


@dataclass(frozen=True)
class TensorInfo:
    """What is remembered of a tensor: its shape and type, and whether it looks like attention weights."""

    shape: tuple[int, ...]
    dtype: str
    is_floating: bool
    is_attention: bool

    @classmethod
    def of(cls, tensor: Tensor) -> "TensorInfo":
        """Return the information about a tensor."""
        dtype = str(tensor.dtype).removeprefix("torch.")
        return cls(tuple(tensor.shape), dtype, tensor.is_floating_point(), _is_attention(tensor))


def tensors_in(output: Any) -> dict[str, Tensor]:
    """Return all tensors of an output by path, each once.

    A path consists of numbers in tuples and keys in dicts and dataclasses: `1`, `last_hidden_state`, `1/0`. The path of
    a single tensor is empty.
    """
    found: dict[str, Tensor] = {}
    for path, tensor in _walk(output, ()):
        if not any(tensor is other for other in found.values()):
            found["/".join(path)] = tensor
    return found


def tensor_at(output: Any, path: str) -> Tensor:
    """Return the tensor at a path; raise KeyError if there is none."""
    for there, tensor in _walk(output, ()):
        if "/".join(there) == path:
            return tensor
    raise KeyError(path)


def choose(
    name: str,
    seen: tuple[Mapping[str, TensorInfo], Mapping[str, TensorInfo]],
    batches: tuple[int, int],
    image_hw: tuple[int, int],
    answer: int | str | None,
) -> str:
    """Return the path of the tensor that contains a layer's tokens.

    A tensor is chosen automatically only if no other tensor of the output could contain tokens or a map. Integers,
    attention weights and tensors without spatial axes do not count.

    Parameters
    ----------
    name : str
        Name of the layer for error messages.
    seen : two mappings of str to TensorInfo
        Tensors of the output by path, for two passes.
    batches : (int, int)
        Numbers of images of the passes.
    image_hw : (int, int)
        Height and width of the images.
    answer : int or str, optional
        The user's choice, if the output has several tensors.

    Raises
    ------
    SpecError
        If there is no such tensor, or several are possible.
    """
    first, second = seen
    both = [path for path in first if path in second]
    listed = "; ".join(f"{path or 'the output'} of shape {first[path].shape} {first[path].dtype}" for path in both)
    if not both:
        raise _refused(name, "a tensor in the output of the submodule", "none", "Choose another layer.")
    if both == [ALONE]:
        return _floating(name, ALONE, first[ALONE])
    if answer is not None:
        if str(answer) not in both:
            raise _refused(
                name,
                f"the tensor '{answer}', as 'output' in the spec says",
                listed,
                f"Set output in the spec to one of: {', '.join(both)}.",
            )
        return _floating(name, str(answer), first[str(answer)])
    possible = [
        path
        for path in both
        if first[path].is_floating
        and not first[path].is_attention
        and could_be_tokens((first[path].shape, second[path].shape), batches, image_hw)
    ]
    if len(possible) == 1:
        return possible[0]
    if not possible:
        raise _refused(
            name, "a tensor with tokens or a map of the image in the output", listed, "Choose another layer."
        )
    raise _refused(
        name,
        "one tensor of tokens in the output",
        f"{len(both)} tensors: {listed}",
        f"Set output in the spec: {' or '.join(possible)}.",
    )


def _floating(name: str, path: str, seen: TensorInfo) -> str:
    if not seen.is_floating:
        raise _refused(name, "tokens of a floating-point type", seen.dtype, "Choose another layer.")
    if seen.is_attention:
        got = f"attention weights of shape {seen.shape}: the last axis sums to one"
        raise _refused(name, "tokens", got, "Choose another layer or output.")
    return path


def _walk(output: Any, path: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], Tensor]]:
    if isinstance(output, Tensor):
        yield path, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from _walk(value, (*path, str(key)))
    elif isinstance(output, tuple | list):
        for i, value in enumerate(output):
            yield from _walk(value, (*path, str(i)))
    elif is_dataclass(output):
        for field in fields(output):
            yield from _walk(getattr(output, field.name), (*path, field.name))


def _is_attention(tensor: Tensor) -> bool:
    """Return whether the last two axes look like attention weights: not negative, and each row sums to one."""
    if tensor.ndim < 3 or not tensor.is_floating_point() or tensor.shape[-1] != tensor.shape[-2]:
        return False
    far = (tensor.float().sum(-1) - 1).abs()
    return bool((tensor >= 0).all()) and bool((far < ROWS_SUM_TO_ONE).all())


def _refused(name: str, expected: str, got: str, fix: str) -> SpecError:
    return SpecError(f"layer '{name}'", expected=expected, got=got, fix=fix)
