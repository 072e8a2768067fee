"""Runs: one encoder fitted on one cache and one dataset, and the folder that it is kept in.

What reads a run folder loads no torch; `fit_run` and `Subject` are imported when they are first asked for.
"""

from typing import TYPE_CHECKING, Any

from bddn.run.folder import Run, check_out, labels, read_channels, read_learning, read_run

if TYPE_CHECKING:
    from bddn.run.fitting import fit_run
    from bddn.run.inputs import Subject

__all__ = ["Run", "Subject", "check_out", "fit_run", "labels", "read_channels", "read_learning", "read_run"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    home = {"fit_run": "bddn.run.fitting", "Subject": "bddn.run.inputs"}.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
