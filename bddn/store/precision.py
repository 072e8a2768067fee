"""Numbers as they are stored."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bddn.errors import BackboneError


def to_stored(
    values: npt.NDArray[np.float32], precision: str, array: str, ids: Sequence[str]
) -> npt.NDArray[np.floating]:
    """Convert tokens to the store's precision; what does not fit is an error, never an infinity.

    Parameters
    ----------
    values : array of float32, (n, ...)
        Tokens of the images `ids`.
    precision : str
        'float16' or 'float32'.
    array : str
        Path of the array, for the error.

    Raises
    ------
    BackboneError
        Naming array, image and largest value where a stored number would not be finite.
    """
    with np.errstate(over="ignore"):
        stored = values.astype(precision)
    bad = ~np.isfinite(stored).reshape(len(stored), -1).all(axis=1)
    if bad.any():
        first = int(np.argmax(bad))
        raise BackboneError(
            f"features {array}",
            expected=f"finite numbers in {precision}",
            got=f"{int(bad.sum())} of {len(ids)} images that are not, the first '{ids[first]}' "
            f"with a largest magnitude of {np.abs(values[first]).max():.3g}",
            fix="Set precision: float32 in the spec; if that fails too, the weights are damaged.",
        )
    return stored
