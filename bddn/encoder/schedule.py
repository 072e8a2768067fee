"""The length of a fit, and the values that change during it: the learning rate, the weight of the selectors'
regularizer, and the limit of signals that voxels share."""

import math

from bddn.spec import FitSpec

# of a one-cycle schedule: share of the steps in which the rate rises, and λ falls at the latest; share of the rate
WARM_UP, SOFT, LEAST_RATE = 0.3, 0.4, 1e-3
HELD, RELEASED = 0.3, 0.6  # shares of the steps at which the limit of signals begins to fall, and has ended


def n_epochs(n_batches: int, spec: FitSpec) -> int:
    """Return the number of epochs of `n_batches` steps."""
    return spec.epochs if spec.max_steps is None else max(1, min(spec.epochs, spec.max_steps // n_batches))


def learning_rate(step: int, n_steps: int, spec: FitSpec) -> float:
    """Return the learning rate of a step of `n_steps`."""
    if spec.schedule == "constant":
        return spec.learning_rate
    done = step / n_steps
    share = done / WARM_UP if done < WARM_UP else (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2
    return spec.learning_rate * max(share, LEAST_RATE)


def softness(step: int, n_steps: int, spec: FitSpec) -> float:
    """Return the weight of the selectors' regularizer at a step of `n_steps`."""
    last = spec.regularizer_steps if spec.schedule == "constant" else min(spec.regularizer_steps, SOFT * n_steps)
    return spec.regularizer * max(0.0, 1 - step / last)


def earliness(step: int, n_steps: int) -> float:
    """Return the share of the limit of signals that voxels share which holds at a step of `n_steps`: 1, until places
    are found, and then less, until it is 0."""
    return min(1.0, max(0.0, (RELEASED - step / n_steps) / (RELEASED - HELD)))
