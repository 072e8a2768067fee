"""The length of a fit, and the values that change during it: the learning rate, the weight of the selectors'
regularizer, and the limit of signals that voxels share."""

import math

from bddn.spec import FitSpec

WARM_UP = 0.3  # share of the steps of a one-cycle schedule in which the rate rises
LEAST_BATCH = 2  # images: the noise of a single response can drive selectors into saturation
LEAST_RATE = 1e-3  # of the largest rate
SOFT = 0.4  # largest share of the steps of a one-cycle schedule in which λ falls
FALLEN = 0.01  # share of λ at the end of an exponential fall
HELD, RELEASED = 0.3, 0.6  # shares of the steps at which the limit of signals begins to fall, and has ended


def batch_size(n_images: int, spec: FitSpec) -> int:
    """Return the number of images in a step of a fit to `n_images`."""
    if spec.min_steps is None:
        return spec.batch_size
    wanted = min(spec.min_steps, spec.max_steps or spec.min_steps)
    return min(spec.batch_size, max(LEAST_BATCH, n_images * spec.epochs // wanted))


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
    last: float = spec.regularizer_steps
    if spec.schedule == "one_cycle":
        last = min(last, SOFT * n_steps)
    if spec.regularizer_fall == "exponential":
        return spec.regularizer * FALLEN ** (step / last) if step < last else 0.0
    return spec.regularizer * max(0.0, 1 - step / last)


def earliness(step: int, n_steps: int) -> float:
    """Return the share of the limit of signals that voxels share which holds at a step of `n_steps`: 1, until places
    are found, and then less, until it is 0."""
    return min(1.0, max(0.0, (RELEASED - step / n_steps) / (RELEASED - HELD)))
