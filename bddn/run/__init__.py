"""Runs: fit one encoder on one cache and one dataset, and keep it in a folder.

Reading a run folder must not load torch, so `fit_run` and `Subject` are imported on first use.
"""

from typing import TYPE_CHECKING, Any

from bddn.run.folder import Run, check_out, labels, read_channels, read_learning, read_run, read_split

if TYPE_CHECKING:
    from bddn.run.fitting import fit_run
    from bddn.run.inputs import Subject

__all__ = [
    "Run",
    "Subject",
    "check_out",
    "fit_run",
    "labels",
    "read_channels",
    "read_learning",
    "read_run",
    "read_split",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    module = {"fit_run": "bddn.run.fitting", "Subject": "bddn.run.inputs"}.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)
