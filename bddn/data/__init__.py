"""Datasets: stimuli, responses, ROIs and splits. Only this package knows the file layouts of datasets."""

from bddn.data.dataset import About, Dataset, DatasetKind, Stimuli
from bddn.data.plugins import open_dataset

__all__ = ["About", "Dataset", "DatasetKind", "Stimuli", "open_dataset"]
