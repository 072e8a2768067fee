"""GIFTI files: numbers and labels are at their vertices, and only what the format allows is in the file."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from bddn.cortex.fsaverage import N_VERTICES
from bddn.cortex.gifti import read_gifti, write_gifti, write_labels
from bddn.errors import DataError

VERTEX = np.array([5, 163_841])


def test_gifti_round_trip_keeps_values_and_hemisphere(tmp_path: Path) -> None:
    for hemi in ("lh", "rh"):
        write_gifti(tmp_path / f"a.{hemi}.func.gii", hemi, VERTEX, {"a": [0.25, -1], "b": [np.nan, 2]})
        back, arrays = read_gifti(tmp_path / f"a.{hemi}.func.gii")
        assert back == hemi
        assert list(arrays) == ["a", "b"]
        assert arrays["a"].shape == (N_VERTICES,)
        assert arrays["a"].dtype == np.float32
        assert arrays["a"][VERTEX].tolist() == [0.25, -1]
        assert np.isfinite(arrays["a"]).sum() == 2
        assert np.isfinite(arrays["b"]).sum() == 1


def test_labels_round_trip_with_names_and_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.rh.label.gii"
    write_labels(
        path, "rh", np.array([0, *VERTEX]), "a", np.array([-1, 1, 0]), [("V1", [1, 0, 0]), ("é & <b>", [0, 0.5, 1])]
    )
    hemi, arrays = read_gifti(path)
    assert hemi == "rh"
    assert arrays["a"][[0, *VERTEX]].tolist() == [0, 2, 1]
    assert np.count_nonzero(arrays["a"]) == 2
    image: Any = nibabel.load(path)
    assert image.darrays[0].data.dtype == np.int32
    assert [(each.key, each.label, each.rgba) for each in image.labeltable.labels] == [
        (0, "no data", (0, 0, 0, 0)),
        (1, "V1", (1, 0, 0, 1)),
        (2, "é & <b>", (0, 0.5, 1, 1)),
    ]


def test_only_points_have_a_coordinate_system(tmp_path: Path) -> None:
    write_gifti(tmp_path / "a.func.gii", "lh", VERTEX, {"a": [0, 1]})
    write_labels(tmp_path / "a.label.gii", "lh", VERTEX, "a", np.array([0, 0]), [("V1", [1, 0, 0])])
    for path in tmp_path.iterdir():
        assert b"<DataArray" in path.read_bytes()
        assert b"CoordinateSystem" not in path.read_bytes()


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gii"
    with pytest.raises(DataError, match="'lh' or 'rh'"):
        write_labels(path, "left", VERTEX, "a", np.array([0, 0]), [])
    with pytest.raises(DataError, match=r"expected 2 values in array 'a'; got shape \(1,\)"):
        write_labels(path, "lh", VERTEX, "a", np.array([0]), [])
    with pytest.raises(DataError, match=r"expected 2 values in array 'a'; got shape \(1,\)"):
        write_gifti(path, "lh", VERTEX, {"a": [0.0]})
    assert not path.exists()


def test_damaged_gifti_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.func.gii").write_text("no")
    with pytest.raises(DataError, match=r"a\.func\.gii"):
        read_gifti(tmp_path / "a.func.gii")
