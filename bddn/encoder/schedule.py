"""Values that change during a fit: the learning rate, and the weight of the selectors' regularizer."""

import math

from bddn.spec import FitSpec

WARM_UP, LEAST_RATE = 0.3, 1e-3  # of a one-cycle schedule: share of the steps, share of the largest rate


def learning_rate(step: int, n_steps: int, spec: FitSpec) -> float:
    """Return the learning rate of a step of `n_steps`."""
    if spec.schedule == "constant":
        return spec.learning_rate
    done = step / n_steps
    share = done / WARM_UP if done < WARM_UP else (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2
    return spec.learning_rate * max(share, LEAST_RATE)


def softness(step: int, spec: FitSpec) -> float:
    """Return the weight of the selectors' regularizer at a step."""
    return spec.regularizer * max(0.0, 1 - step / spec.regularizer_steps)
