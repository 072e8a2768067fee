"""Errors that a user can act on: each says where, what was expected, what was found, and what to do next."""

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
        return _again, (type(self), self.place, self.expected, self.got, self.fix)  # as workers send it


def _again(kind: type[BddnError], place: str, expected: str, got: str, fix: str) -> BddnError:
    return kind(place, expected=expected, got=got, fix=fix)


class SpecError(BddnError):
    """A spec file or a field of it is wrong."""


class DataError(BddnError):
    """A dataset folder, image or response file is missing, damaged or inconsistent."""


class BackboneError(BddnError):
    """A backbone cannot be loaded, or gave features that cannot be stored."""


class StoreError(BddnError):
    """A feature cache cannot be created, opened or written."""


class IncompleteStoreError(StoreError):
    """A feature cache is not sealed: its extraction has not finished."""


class CorruptStoreError(StoreError):
    """A feature cache holds other bytes than those that were written and recorded."""


class MismatchError(BddnError):
    """Two things that must belong together do not: cache and dataset, cache and spec, run and cache."""


class FitError(BddnError):
    """A fit cannot go on, for instance because its loss is no longer finite."""


class RunError(BddnError):
    """A run folder is missing, incomplete or would be overwritten."""


class ClusterError(BddnError):
    """A dask cluster cannot be reached, lacks the devices asked for, or its workers die."""
