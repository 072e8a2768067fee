"""Runs: one encoder fitted on one cache and one dataset, and the folder that it is kept in."""

from bddn.run.fitting import fit_run
from bddn.run.folder import Run, check_out, labels, read_learning, read_run
from bddn.run.inputs import Subject

__all__ = ["Run", "Subject", "check_out", "fit_run", "labels", "read_learning", "read_run"]
