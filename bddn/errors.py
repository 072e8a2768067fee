"""Errors that a user can act on: each says where, what was expected, what was found, and what to do next.

Each is also the builtin exception that fits, so that a script's `except ValueError` or `except OSError` catches it.
Within bddn, a block that catches such a builtin must let a `BddnError` pass: its message is the better one.
"""

from typing import Any


class BddnError(Exception):
    """A problem with the user's input or files. The command line prints it and exits with code 2.

    Parameters
    ----------
    place : str
        The file, folder, field or option concerned.
    expected, got : str
        What should have been there, and what was.
    fix : str
        The next step, as a sentence.
    """

    def __init__(self, place: object, *, expected: str, got: str, fix: str) -> None:
        self.place, self.expected, self.got, self.fix = str(place), expected, got, fix
        super().__init__(f"{place}: expected {expected}; got {got}. {fix}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.place, self.expected, self.got, self.fix)  # workers send it pickled


def _rebuild(kind: type[BddnError], place: str, expected: str, got: str, fix: str) -> BddnError:
    return kind(place, expected=expected, got=got, fix=fix)


class SpecError(BddnError, ValueError):
    """A spec file, a field of it or an option is wrong."""


class DataError(BddnError, ValueError):
    """A dataset folder, image or response file is missing, damaged or inconsistent."""


class BackboneError(BddnError, RuntimeError):
    """A backbone cannot be loaded, or gave features that cannot be stored."""


class StoreError(BddnError, OSError):
    """A feature cache cannot be created, opened or written."""


class IncompleteStoreError(StoreError):
    """A feature cache is not sealed: its extraction has not finished."""


class CorruptStoreError(StoreError, ValueError):
    """A feature cache holds other bytes than those that were written and recorded."""


class MismatchError(BddnError, ValueError):
    """Two things that must belong together do not: cache and dataset, cache and spec, run and cache."""


class FitError(BddnError, ArithmeticError):
    """A fit cannot go on, because its loss is no longer finite."""


class LowMemoryError(BddnError, MemoryError):
    """There is not enough memory, of this machine or of its GPU, for the work at hand."""


class OutputError(BddnError, OSError):
    """A folder or file cannot be written where the user wants it."""


class RunError(BddnError, OSError):
    """A run folder is missing, incomplete or would be overwritten."""


class ClusterError(BddnError, RuntimeError):
    """A dask cluster cannot be reached, lacks the devices asked for, or its workers die."""
