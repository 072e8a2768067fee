"""From a recovered number to the true one: linear calibration with planted truths.

Brains with known numbers x were fitted, and y = a + b·x + error was recovered. A new y tells x: its posterior under a
flat prior over the values that are possible, with the t distribution of the error (Hunter & Lamboy, Technometrics 1981;
where the line is steep, it is the inverse regression of Eisenhart 1939). It stays finite where the line is flat: then
all that is possible remains.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEVELS = (0.90, 0.95)
N_STEPS = 4001
LEAST_BRAINS = 4


@dataclass(frozen=True)
class CalibrationLine:
    """A line through planted and recovered numbers of n brains.

    Attributes
    ----------
    planted, recovered : array of float64, (n,)
    gain, offset : float
        recovered = gain · planted + offset.
    scatter : float
        Standard deviation of the errors, with n - 2 degrees of freedom.
    """

    planted: Floats
    recovered: Floats
    gain: float
    offset: float
    scatter: float

    @classmethod
    def of(cls, planted: Sequence[float] | Floats, recovered: Sequence[float] | Floats) -> "CalibrationLine":
        """Fit the line; at least 4 brains are needed."""
        x, y = np.asarray(planted, np.float64), np.asarray(recovered, np.float64)
        assert len(x) >= LEAST_BRAINS
        gain, offset = np.polyfit(x, y, 1)
        errors = y - gain * x - offset
        return cls(x, y, float(gain), float(offset), float(np.sqrt(errors @ errors / (len(x) - 2))))

    def error(self, x: Floats) -> Floats:
        """Return the standard error of what is recovered of one more brain with the number x, (k,)."""
        away = np.square(x - self.planted.mean()) / np.square(self.planted - self.planted.mean()).sum()
        return np.asarray(self.scatter * np.sqrt(1 + 1 / len(self.planted) + away))

    def corrected(self, recovered: float, bounds: tuple[float, float], own_error: float = 0.0) -> "Corrected":
        """Return the true number for a recovered one.

        Parameters
        ----------
        recovered : float
        bounds : (float, float)
            The smallest and the largest number that is possible.
        own_error : float
            A standard error of the recovered number that the planted brains do not have.
        """
        from scipy.stats import t

        x = np.linspace(*bounds, N_STEPS)
        error = np.sqrt(np.square(self.error(x)) + own_error**2)
        log = t.logpdf((recovered - self.gain * x - self.offset) / error, len(self.planted) - 2) - np.log(error)
        share = np.cumsum(np.exp(log - log.max()))
        share /= share[-1]

        def at(quantile: float) -> float:
            return float(x[np.searchsorted(share, quantile)])

        return Corrected(at(0.5), {level: (at((1 - level) / 2), at((1 + level) / 2)) for level in LEVELS})


@dataclass(frozen=True)
class Corrected:
    """A corrected number: the median of its posterior, and intervals by their level."""

    value: float
    intervals: dict[float, tuple[float, float]]
