"""A planted brain of single trials: images that were shown one to three times, and an effect of 'old' on responses."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.data.dataset import Dataset
from bddn.data.wrapped import Wrapped

Floats = npt.NDArray[np.float64]


class TrialsOf(Wrapped):
    """Trials of a dataset, in a random order: its responses, with noise and an effect of each trial.

    Parameters
    ----------
    dataset : Dataset
    n_trials : array of int, (n_images,)
        Number of rows of each image.
    noise : float
        Standard deviation of the noise of each trial, in standard deviations of a voxel's responses.
    effect : array, (N,), optional
        What `old` adds to the responses of every voxel; `old` is 0 in the first trial of an image, and 1 in later ones.
    """

    def __init__(
        self, dataset: Dataset, n_trials: npt.NDArray[np.intp], noise: float = 0.0, effect: Floats | None = None
    ) -> None:
        rng = np.random.default_rng(5)
        super().__init__(dataset)
        self.about = replace(self.about, trials="single")
        image = rng.permutation(np.repeat(np.arange(len(n_trials)), n_trials))
        seen = pd.Series(image).groupby(image).cumcount().to_numpy()
        own = dataset.responses()
        drawn = rng.normal(size=(len(image), own.shape[1])) * noise * own.std(0)
        self.table = pd.DataFrame(
            {"old": (seen > 0).astype(np.int64), "time": np.arange(len(image)) / 10.0, "one": 1.0, "odd": np.nan}
        ).assign(new=lambda table: 1 - table["old"], session=lambda table: table["time"] > 2)
        added = 0 if effect is None else np.outer(self.table["old"], effect)
        self.rows = (own[image] + drawn + added).astype(np.float32)
        self.image, self.response_ids = image, tuple(dataset.stimuli.ids[i] for i in image)

    def responses(self, rows: npt.NDArray[np.intp] | None = None) -> npt.NDArray[np.float32]:
        return np.array(self.rows if rows is None else self.rows[rows])

    def covariates(self) -> pd.DataFrame | None:
        return self.table

    def truth(self) -> pd.DataFrame | None:
        return None
