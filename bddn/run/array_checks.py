"""Arrays that a user hands over: all that is wrong with them is told in one message, before any work.

Where something is wrong, the functions note it and return empty arrays; `Wrong.refuse` raises the message.

Shape letters: n images, N voxels, H rows, W columns, C channels of a layer.
"""

import warnings
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bddn.errors import DataError
from bddn.stream.features import Features
from bddn.stream.order import Rows

Array = npt.NDArray[Any] | Tensor
Layer = tuple[Array, Array]
"""Local tokens (n, H, W, C) and global tokens (n, C), of any float type."""

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
BLOCK = 256  # images whose numbers are checked in one go
LARGEST = 1e18  # of a token; squares of larger ones, and sums of them, are infinite in float32


class Wrong:
    """What is wrong with some arguments; `place` names them in the message."""

    def __init__(self, place: str) -> None:
        self._place, self._found = place, list[tuple[str, str]]()

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, expected: str, got: str) -> None:
        self._found.append((expected, got))

    def refuse(self) -> None:
        """Raise DataError if anything was added."""
        if self._found:
            expected, got = ("; ".join(words) for words in zip(*self._found, strict=True))
            raise DataError(self._place, expected=expected, got=got, fix="Correct these arguments.")


def layers_of(
    features: Mapping[str, Layer],
    names: Sequence[str] | None,
    wrong: Wrong,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Features:
    """Return the tokens of some layers, by default all, in memory shared with the arrays.

    Parameters
    ----------
    features : mapping of str to (local, global)
    names : sequence of str, optional
        Early to late.
    wrong : Wrong
    shapes : mapping of str to (H, W, C), optional
        What they must be.
    """
    if not isinstance(features, Mapping) or not features:
        wrong.add("features: a mapping of layer names to pairs (local, global)", f"{type(features).__name__}")
        return Features([], [])
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for name in names or features:
        layer = _layer(name, features, wrong)
        if layer is None:
            continue
        images_places, shape = tuple(layer[0].shape[:3]), tuple(layer[0].shape[1:])
        if found and images_places != (first := tuple(next(iter(found.values()))[0].shape[:3])):
            wrong.add(f"layer '{name}': n, H and W of the first layer, {first}", f"{images_places}")
        if shapes and shape != shapes[name]:
            wrong.add(f"layer '{name}': H, W and C of the fit, {shapes[name]}", f"{shape}")
        found[name] = layer
    if not wrong:
        for name, layer in found.items():
            found_at = [part.abs().amax() for tokens in layer for part in tokens.split(BLOCK)]
            if not all(one < LARGEST for one in found_at):  # not with NaN
                wrong.add(f"layer '{name}': finite numbers below {LARGEST:g}", "NaN, infinity or larger ones")
    return Features([local.flatten(1, 2) for local, _ in found.values()], [global_ for _, global_ in found.values()])


def matrix_of(
    values: npt.ArrayLike, name: str, axes: tuple[str, str], shape: tuple[int | None, int | None], wrong: Wrong
) -> npt.NDArray[np.float32]:
    """Return a matrix as finite float32. The known sides of `shape` must agree."""
    try:
        with np.errstate(over="ignore"):
            found = _real(values).astype(np.float32, copy=False)
    except (TypeError, ValueError, NotImplementedError) as error:
        wrong.add(f"{name}: numbers ({', '.join(axes)})", f"{error}")
        return np.empty((0, 0), np.float32)
    if found.ndim != 2 or 0 in found.shape or any(a not in (None, b) for a, b in zip(shape, found.shape, strict=True)):
        known = ", ".join(axis if side is None else str(side) for axis, side in zip(axes, shape, strict=True))
        wrong.add(f"{name}: a matrix ({known})", f"{found.shape}")
        return np.empty((0, 0), np.float32)
    if not np.isfinite(found).all():
        wrong.add(f"{name}: finite numbers", "NaN or infinity")
    return found


def check_order(voxels: Any, of: Any, what: tuple[str, str], wrong: Wrong) -> None:
    """Note labels, such as names of voxels, that are those of another table in another order: arrays are matched by
    position. `None` stands for a table without labels."""
    if voxels is None or of is None or len(voxels) != len(of) or list(voxels) == list(of):
        return
    if set(voxels) == set(of):
        wrong.add(f"{what[0]} in the order of {what[1]}", "the same names in another order")


def labels_of(values: Any, axis: int) -> Any:
    """Return the labels of an axis of a pandas table; None for other arrays."""
    return values.axes[axis] if hasattr(values, "axes") and hasattr(values, "iloc") and values.ndim == 2 else None


def rows_that_train(
    responses: npt.NDArray[np.float32],
    validation: float | npt.ArrayLike,
    train: npt.ArrayLike | None,
    seed: int,
    wrong: Wrong,
) -> tuple[Rows, Rows]:
    """Return the rows for training and for validation, of `responses` (n, N); see `FactorTopy.fit`."""
    n = len(responses)
    rows = np.arange(n) if train is None else _rows("train", train, n, wrong)
    if isinstance(validation, float | np.floating):
        if not 0 < validation < 1:
            wrong.add("validation: a share between 0 and 1, or row numbers", f"{validation}")
        n_val = round(len(rows) * float(validation)) if 0 < validation < 1 else 0
        val = np.sort(np.random.default_rng([seed, 0]).permutation(rows)[:n_val])
    else:
        val = _rows("validation", validation, n, wrong)
    rows = rows[~np.isin(rows, val)]
    if not wrong:
        if min(len(rows), len(val)) < 2:
            wrong.add("at least two rows that train and two that validate", f"{len(rows)} and {len(val)}")
        elif not all((responses[part] != responses[part[0]]).any() for part in (rows, val)):
            wrong.add(
                "a voxel whose responses differ between the rows that train, and between those that validate", "none"
            )
    return rows, val


def _layer(name: str, features: Mapping[str, Layer], wrong: Wrong) -> tuple[Tensor, Tensor] | None:
    expected = f"layer '{name}': a pair of float arrays, local (n, H, W, C) and global (n, C)"
    if name not in features:
        wrong.add(f"layer '{name}' among the features", f"only {', '.join(map(str, features))}")
        return None
    pair = features[name]
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        wrong.add(expected, _words(pair))
        return None
    local, global_ = (_tensor(values) for values in pair)
    if (
        local is None
        or global_ is None
        or local.ndim != 4
        or 0 in local.shape
        or tuple(global_.shape) != (local.shape[0], local.shape[3])
    ):
        wrong.add(expected, " and ".join(_words(values) for values in pair))
        return None
    return local, global_


def _tensor(values: Array) -> Tensor | None:
    """Return the same memory as a tensor; None if it is not an array of floats that torch supports."""
    if isinstance(values, Tensor):
        supported = values.dtype in FLOATS and values.layout == torch.strided and not values.is_meta
        return values.detach() if supported else None
    if not isinstance(values, np.ndarray) or values.dtype not in (np.float16, np.float32, np.float64):
        return None
    if np.ma.is_masked(values):
        return None
    if any(stride < 0 or stride % values.itemsize for stride in values.strides):  # of a view that torch has not
        values = values.copy()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nothing is written
        return torch.from_numpy(values)


def _rows(name: str, values: npt.ArrayLike, n: int, wrong: Wrong) -> Rows:
    try:
        found = np.asarray(values)
    except ValueError:  # lists of unlike length
        found = np.array(None)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        wrong.add(f"{name}: row numbers, whole numbers in one dimension", _words(found))
    elif len(np.unique(found)) < len(found) or (n and len(found) and not 0 <= found.min() <= found.max() < n):
        wrong.add(f"{name}: row numbers from 0 to {n - 1}, each once", f"{len(found)} numbers, others among them")
    else:
        return found.astype(np.intp)
    return np.array([], np.intp)


def _real(values: npt.ArrayLike | Tensor) -> npt.NDArray[Any]:
    """Return an array of real numbers; raise an error for other values, which numpy would convert, or drop in part."""
    if isinstance(values, Tensor):
        if values.is_meta or values.is_complex():
            raise TypeError(f"a tensor of {_words(values)}" + (" without values" if values.is_meta else ""))
        values = values.detach().float().cpu().numpy()
    if np.ma.is_masked(values):
        raise TypeError("masked numbers")
    found = np.asarray(values)
    if found.dtype.kind == "O" and not all(isinstance(one, Real | np.bool_) for one in found.flat):
        raise TypeError("objects that are no numbers")
    if found.dtype.kind not in "biufO":
        raise TypeError(f"{found.dtype}")
    return found


def _words(values: object) -> str:
    if np.ma.is_masked(values):
        return "masked numbers"
    if isinstance(values, Tensor) and (values.is_meta or values.layout != torch.strided):
        return f"a tensor of {values.layout}" if not values.is_meta else "a tensor on the device meta"
    if isinstance(values, np.ndarray | Tensor):
        return f"{tuple(values.shape)} {str(values.dtype).removeprefix('torch.')}"
    return type(values).__name__
