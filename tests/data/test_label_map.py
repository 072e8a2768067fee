"""Label maps are read as the challenge wrote them, and a hostile one can do nothing."""

import builtins
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bddn.data.label_map import MAX_BYTES, read_label_map
from bddn.errors import DataError

NAMES = {0: "Unknown", 1: "V1v", 2: "V1d", 7: "hV4"}


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.function, self.arguments


def npy(body: bytes, descr: str = "|O", shape: str = "()") -> bytes:
    """A numpy file of version 1.0 with this body."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def boxed(value: object) -> np.ndarray:
    return np.array(value, dtype=object)


def refused(path: Path, match: str | None = None) -> None:
    with pytest.raises(DataError, match=match) as caught:
        read_label_map(path)
    assert str(path) in str(caught.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mapping_prf-visualrois.npy"


def test_it_reads_what_numpy_saves(path: Path) -> None:
    np.save(path, boxed(NAMES))
    assert read_label_map(path) == NAMES


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_it_reads_every_pickle_protocol_that_stores_arrays(path: Path, protocol: int) -> None:
    path.write_bytes(npy(pickle.dumps(boxed(NAMES), protocol=protocol)))
    assert np.load(path, allow_pickle=True).item() == NAMES  # the file is what numpy itself understands
    assert read_label_map(path) == NAMES


def test_it_reads_what_older_numpy_called_numpy_core(path: Path) -> None:
    body = pickle.dumps(boxed(NAMES), protocol=3)
    assert b"numpy._core.multiarray" in body
    path.write_bytes(npy(body.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")))
    assert read_label_map(path) == NAMES


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", ["<i8", "<i4", "u1", "<u2"])
def test_labels_may_be_numpy_integers_of_any_kind(path: Path, kind: str, protocol: int) -> None:
    scalar = np.dtype(kind).type
    numbers = np.array([0, 1, 200 if scalar in (np.uint8, np.uint16) else 100], dtype=kind)
    body = pickle.dumps(boxed(dict(zip(numbers, "abc", strict=True))), protocol=protocol)
    path.write_bytes(npy(body))
    assert read_label_map(path) == {int(k): v for k, v in zip(numbers, "abc", strict=True)}


def test_the_key_0_keeps_its_name(path: Path) -> None:
    np.save(path, boxed({0: "Unknown"}))
    assert read_label_map(path) == {0: "Unknown"}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("wrapped", [True, False], ids=["inside the dict", "as the whole"])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, "system"), (builtins.eval, "eval"), (np.load, "load"), (builtins.getattr, "getattr")],
)
def test_a_pickle_that_calls_something_is_refused_and_nothing_is_called(
    path: Path, function: Any, name: str, wrapped: bool, protocol: int
) -> None:
    canary = path.parent / "canary"
    argument = {
        "system": f"touch {canary}",
        "eval": f"open({str(canary)!r}, 'w').close()",
    }.get(name, str(canary))
    call = Call(function, argument)
    path.write_bytes(npy(pickle.dumps(boxed({1: call}) if wrapped else call, protocol=protocol)))
    refused(path, name)
    assert not canary.exists()


def test_the_canary_of_these_tests_does_sing(path: Path) -> None:
    canary = path.parent / "canary"
    np.save(path, boxed({1: Call(builtins.eval, f"open({str(canary)!r}, 'w').close()")}))
    np.load(path, allow_pickle=True)
    assert canary.exists()


def test_a_file_cut_anywhere_is_refused(path: Path) -> None:
    np.save(path, boxed(NAMES))
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        refused(path)


def test_a_file_too_large_for_a_label_map_is_refused_by_its_size(path: Path) -> None:
    np.save(path, boxed({0: "x" * MAX_BYTES}))
    refused(path, "bytes")


def test_a_huge_file_is_refused_without_reading_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with path.open("wb") as file:
        file.write(b"some")
        file.truncate(1 << 40)  # a hole, which no memory could hold

    def read_bytes(_: Path) -> bytes:
        raise AssertionError("the whole file is read")

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    refused(path, "bytes")


@pytest.mark.parametrize(
    "value",
    [
        [(0, "Unknown")],
        {"0": "Unknown"},
        {0: 1},
        {0: b"Unknown"},
        {0.5: "Unknown"},
        {np.float64(1.0): "V1v"},
        {True: "V1v"},
        None,
    ],
    ids=repr,
)
def test_anything_but_whole_numbers_and_their_names_is_refused(path: Path, value: object) -> None:
    path.write_bytes(npy(pickle.dumps(boxed(value))))
    refused(path)


def test_an_array_of_numbers_is_refused(path: Path) -> None:
    np.save(path, np.arange(7))
    refused(path, "int64")


def test_an_array_of_several_dicts_is_refused(path: Path) -> None:
    np.save(path, np.array([NAMES, NAMES], dtype=object))
    refused(path, "shape")


def test_a_pickle_without_the_numpy_header_is_refused(path: Path) -> None:
    path.write_bytes(pickle.dumps(NAMES))
    refused(path)


def test_a_missing_file_is_called_missing(path: Path) -> None:
    refused(path, "no such file")
