"""Which rows in which order, decided by numbers alone."""

import numpy as np
import numpy.typing as npt


def epoch_batches(seed: int, epoch: int, n_rows: int, batch_size: int) -> list[npt.NDArray[np.intp]]:
    """Batches of one epoch: every row once, in an order that depends on the arguments only.

    The last batch may be smaller; with one row fewer than two batches a batch of one can result.
    """
    order = np.random.default_rng([seed, 1, epoch]).permutation(n_rows)
    return [order[i : i + batch_size] for i in range(0, n_rows, batch_size)]
