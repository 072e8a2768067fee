"""Where stimuli, responses, ROIs and splits come from; the only room that knows dataset layouts."""

from bddn.data.dataset import About, Dataset, DatasetKind, Stimuli
from bddn.data.plugins import open_dataset

__all__ = ["About", "Dataset", "DatasetKind", "Stimuli", "open_dataset"]
