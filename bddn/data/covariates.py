"""Covariates of single responses, such as old or new, a button or the time in a session, and their linear part.

A dataset may have `covariates()`: a table with one row per response row and numeric columns, NaN where a value is
unknown. A fit estimates their linear part on its training rows, and takes it out of all responses before it learns, so
that its maps are those of the images alone (Frisch & Waugh, Econometrica 1933; Lovell, JASA 1963).

If covariates vary between responses to the same image, only such responses are compared, as in a regression with a
column for each image: nothing that an image evokes can be taken out. Otherwise responses to different images are
compared, and what covariates share with the images is taken out too.

Shape letters: n response rows, B rows of a batch, K covariates, N voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.data.dataset import Dataset
from bddn.data.trials import response_ids
from bddn.data.wrapped import Wrapped
from bddn.errors import DataError, MismatchError

LEAST_WITHIN = 0.1
"""Share of the variance of covariates, and of any combination of them, that must lie within images if only responses to
the same image are to be compared."""
LEAST_OWN = 1e-6  # share of the variance of a covariate that others do not explain; below it they are collinear
BLOCK_ROWS = 256

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Effects:
    """The linear part of some covariates.

    Attributes
    ----------
    names : tuple of str, (K,)
    mean : array of float64, (K,)
        Of the training rows. There the part is 0, so responses without their covariates' part keep their mean.
    weights : array of float32, (K, N)
        What one unit of a covariate adds to the responses, in their unit.
    share_within : float
        Smallest share of the variance of a combination of the covariates that lies within images.
    """

    names: tuple[str, ...]
    mean: Floats
    weights: npt.NDArray[np.float32]
    share_within: float

    @property
    def compared(self) -> str:
        """Which responses were compared."""
        within = self.share_within >= LEAST_WITHIN
        return "responses to the same image" if within else "responses to all images"

    def of_voxels(self, columns: "slice | Rows") -> "Effects":
        """Return the part of some voxels."""
        return replace(self, weights=self.weights[:, columns])

    def part(self, values: Floats) -> npt.NDArray[np.float32]:
        """Return what covariates (B, K) add to the responses, (B, N). A row does not depend on the others."""
        found = np.zeros((len(values), self.weights.shape[1]), np.float32)
        for value, weight in zip((values - self.mean).T.astype(np.float32), self.weights, strict=True):
            found += value[:, None] * weight
        return found


class WithoutCovariates(Wrapped):
    """A dataset whose responses are without the part of some covariates.

    Parameters
    ----------
    dataset : Dataset
    effects : Effects
    """

    def __init__(self, dataset: Dataset, effects: Effects) -> None:
        super().__init__(dataset)
        self.effects = effects
        self.values = covariate_values(dataset, effects.names)
        """Their values, (n, K) float64."""

    def responses(self, rows: Rows | None = None) -> npt.NDArray[np.float32]:
        """See `Dataset.responses`; read in blocks, so that memory holds the result and one block."""
        rows = np.arange(len(self.values)) if rows is None else rows
        found = np.empty((len(rows), self.effects.weights.shape[1]), np.float32)
        for start in range(0, len(rows), BLOCK_ROWS):
            some = rows[start : start + BLOCK_ROWS]
            own = self._dataset.responses(some)
            np.subtract(own, self.effects.part(self.values[some]), out=found[start : start + BLOCK_ROWS])
        return found


def covariate_table(dataset: Dataset) -> pd.DataFrame | None:
    """Return the covariates of a dataset, or None if it has none.

    Raises
    ------
    DataError
        If there is not one row per response, or a column is not of numbers.
    """
    given = getattr(dataset, "covariates", None)
    table: pd.DataFrame | None = None if given is None else given()
    if table is None:
        return None
    n = len(response_ids(dataset))
    texts = [str(name) for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    if len(table) != n or texts:
        raise DataError(
            f"covariates of {dataset.name}",
            expected=f"{n} rows, one for each response, and columns of numbers",
            got=f"{len(table)} rows" if len(table) != n else f"column '{texts[0]}' of {table[texts[0]].dtype}",
            fix="Correct the covariates; give categories as columns of 0 and 1.",
        )
    return table


def covariate_values(dataset: Dataset, names: Sequence[str]) -> Floats:
    """Return the values of some covariates, (n, K).

    Raises
    ------
    MismatchError
        If the dataset lacks one of them.
    DataError
        If a value is not finite.
    """
    if not names:
        return np.empty((len(response_ids(dataset)), 0))
    table = covariate_table(dataset)
    known = [] if table is None else [str(name) for name in table]
    missing = [name for name in names if name not in known]
    if table is None or missing:
        raise MismatchError(
            f"covariates: '{missing[0]}'",
            expected=f"covariates of {dataset.name}: {', '.join(known) or 'it has none'}",
            got=", ".join(missing),
            fix="Correct 'covariates' in the settings of the fit." if known else "Leave out 'covariates'.",
        )
    values = table[list(names)].to_numpy(np.float64)
    unknown = (~np.isfinite(values)).sum(0)
    if unknown.any():
        first = int(np.flatnonzero(unknown)[0])
        raise DataError(
            f"covariates: '{names[first]}'",
            expected=f"a finite number for each of the {len(values)} responses of {dataset.name}",
            got=f"{unknown[first]} that are NaN or infinite",
            fix="Leave it out, or fill its unknown values in the dataset.",
        )
    return values


def estimate(dataset: Dataset, names: Sequence[str], train: Rows, image_of: Rows | None) -> Effects:
    """Estimate the linear part of covariates by least squares; training responses are read once.

    Parameters
    ----------
    dataset : Dataset
    names : sequence of str, (K,)
    train : array of int
        Training rows.
    image_of : array of int, (n,), optional
        The image of every row, if images have several rows.

    Raises
    ------
    DataError
        If a covariate is constant over the training rows, or a combination of others.
    MismatchError
        If the dataset lacks one of them.
    """
    from scipy.linalg import eigh

    train = np.sort(train)
    values = covariate_values(dataset, names)[train]
    mean, deviation = values.mean(0), values.std(0)
    z = (values - mean) / np.where(np.ptp(values, axis=0) > 0, deviation, 1)
    _refuse_dependent(names, z)
    image = np.arange(len(train)) if image_of is None else np.unique(image_of[train], return_inverse=True)[1]
    n = np.bincount(image)
    within = z - np.stack([(np.bincount(image, column) / n)[image] for column in z.T], axis=1)
    share = max(0.0, float(eigh(_products(within), _products(z), eigvals_only=True)[0]))
    design = within if share >= LEAST_WITHIN else z
    estimator = np.linalg.solve(_products(design), design.T)
    first = dataset.responses(train[:1])[0].astype(np.float64)  # subtracted, so that sums lose no digits
    weights = np.zeros((len(names), len(first)))
    for start in range(0, len(train), BLOCK_ROWS):
        some = slice(start, start + BLOCK_ROWS)
        y = dataset.responses(train[some]) - first
        weights += np.einsum("kb,bn->kn", estimator[:, some], y)  # whose bits depend on no number of threads
    return Effects(tuple(names), mean, (weights / deviation[:, None]).astype(np.float32), share)


def _products(z: Floats) -> Floats:
    return np.asarray(np.einsum("nk,nl->kl", z, z))


def _refuse_dependent(names: Sequence[str], z: Floats) -> None:
    """Refuse standardized covariates (n, K) of which one is constant, or a combination of those before it."""
    for k, name in enumerate(names):
        constant = not z[:, k].any()
        fitted = z[:, :k] @ np.linalg.lstsq(z[:, :k], z[:, k], rcond=None)[0] if k else np.zeros(len(z))
        if constant or np.square(z[:, k] - fitted).mean() < LEAST_OWN:
            raise DataError(
                f"covariates: '{name}'",
                expected="a covariate that varies over the training rows, and not only with the covariates before it",
                got="the same value in all training rows" if constant else f"a combination of {', '.join(names[:k])}",
                fix=f"Leave out '{name}'.",
            )
