"""Datasets that are made from another one."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.data.dataset import Dataset, Stimuli, about


class Wrapped:
    """The base of datasets that replace a part of another one, such as its responses.

    What they do not replace is that of the other, also what only some datasets have, such as `frame` or `response_ids`.

    Parameters
    ----------
    dataset : Dataset
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset, self.name, self.about = dataset, dataset.name, about(dataset)

    def __getattr__(self, name: str) -> object:
        """Return what only some datasets have."""
        if name.startswith("_"):  # such as what pickle asks for before there is a dataset
            raise AttributeError(name)
        return getattr(self._dataset, name)

    @property
    def stimuli(self) -> Stimuli:
        return self._dataset.stimuli

    def voxels(self) -> pd.DataFrame:
        return self._dataset.voxels()

    def coords_mm(self) -> npt.NDArray[np.float32]:
        return self._dataset.coords_mm()

    def truth(self) -> pd.DataFrame | None:
        return self._dataset.truth()
