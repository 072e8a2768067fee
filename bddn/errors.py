"""Errors that the user can correct: each gives the place, what was expected, what was found, and the next step.

Each class also inherits from the matching builtin exception, so `except ValueError` or `except OSError` catches it.
Code in bddn that catches such a builtin must re-raise a `BddnError`, whose message is more precise.
"""

from typing import Any


class BddnError(Exception):
    """A problem with the user's input or files. The command line prints it and exits with code 2.

    Parameters
    ----------
    place : str
        The file, folder, field or option concerned.
    expected, got : str
        What should have been there, and what was there.
    fix : str
        The next step, as a sentence.
    """

    def __init__(self, place: object, *, expected: str, got: str, fix: str) -> None:
        self.place, self.expected, self.got, self.fix = str(place), expected, got, fix
        super().__init__(f"{place}: expected {expected}; got {got}. {fix}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.place, self.expected, self.got, self.fix)  # workers send errors pickled


def _rebuild(kind: type[BddnError], place: str, expected: str, got: str, fix: str) -> BddnError:
    return kind(place, expected=expected, got=got, fix=fix)


class SpecError(BddnError, ValueError):
    """A spec file, one of its fields, or a command-line option is wrong."""


class DataError(BddnError, ValueError):
    """A dataset folder, image or response file is missing, damaged or inconsistent."""


class BackboneError(BddnError, RuntimeError):
    """A backbone cannot be loaded, or its features cannot be stored."""


class StoreError(BddnError, OSError):
    """A feature cache cannot be created, opened or written."""


class IncompleteStoreError(StoreError):
    """A feature cache is not sealed, because its extraction has not finished."""


class CorruptStoreError(StoreError, ValueError):
    """The bytes of a feature cache differ from those that were recorded when it was written."""


class MismatchError(BddnError, ValueError):
    """Two inputs do not belong together: cache and dataset, cache and spec, or run and cache."""


class FitError(BddnError, ArithmeticError):
    """A fit cannot continue, because its loss is not finite."""


class LowMemoryError(BddnError, MemoryError):
    """This machine or its GPU does not have enough memory for the work."""


class OutputError(BddnError, OSError):
    """A folder or file cannot be written at the given path."""


class RunError(BddnError, OSError):
    """A run folder is missing, incomplete or would be overwritten."""


class ClusterError(BddnError, RuntimeError):
    """A dask cluster cannot be reached, lacks the requested devices, or loses its workers."""
