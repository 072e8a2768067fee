"""A dataset whose images are shuffled against the responses, as a control."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.data.covariates import covariate_table
from bddn.data.dataset import Dataset
from bddn.data.splits import Split
from bddn.data.trials import has_trials, response_ids
from bddn.data.wrapped import Wrapped

SEED = 7  # distinguishes this draw from others of the same seed


class Shuffled(Wrapped):
    """A dataset in which every image has the responses to another image of the same part of a split, all of them if it
    has several.

    Images, voxels, and means and variances of responses in each part are those of the dataset, but no image predicts
    its responses.

    Parameters
    ----------
    dataset : Dataset
    split : Split
        Of all its stimuli.
    seed : int
    """

    def __init__(self, dataset: Dataset, split: Split, seed: int) -> None:
        super().__init__(dataset)
        self.name = f"{dataset.name} with shuffled images"
        row_of = {stimulus: row for row, stimulus in enumerate(dataset.stimuli.ids)}
        rng = np.random.default_rng([seed, SEED])
        self._shown = np.arange(len(row_of))
        for members in split.to_dict().values():
            rows = np.array([row_of[stimulus] for stimulus in members], np.intp)
            self._shown[rows] = rng.permutation(rows)
        self.response_ids: tuple[str, ...] | None = None
        if has_trials(dataset):  # responses stay in their rows, which are now of other images
            ids = dataset.stimuli.ids
            self.response_ids = tuple(ids[self._shown[row_of[stimulus]]] for stimulus in response_ids(dataset))

    def responses(self, rows: npt.NDArray[np.intp] | None = None) -> npt.NDArray[np.float32]:
        """See `Dataset.responses`; these are the responses to other images."""
        if self.response_ids is not None:
            return self._dataset.responses(rows)
        return self._dataset.responses(self._shown if rows is None else self._shown[rows])

    def covariates(self) -> pd.DataFrame | None:
        """Return the covariates of the responses, which go with them."""
        table = covariate_table(self._dataset)
        return table if table is None or self.response_ids is not None else table.iloc[self._shown]

    def truth(self) -> pd.DataFrame | None:
        """Return None: shuffled responses have no true maps."""
        return None
