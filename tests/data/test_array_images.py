"""Images in one array: the pixels that were stored are those that are seen, and other arrays are refused."""

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from bddn.data import Stimuli
from bddn.data.array_images import ArrayImages
from bddn.errors import DataError

N = 6
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 9, 7, 3), dtype=np.uint8)


def hdf5(path: Path, array: Any, key: str = "imgBrick") -> tuple[Path, str]:
    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        file.create_dataset(key, data=array, chunks=(1, *array.shape[1:]), compression="gzip")
    return path.with_suffix(".hdf5"), key


def matlab(path: Path, array: Any) -> tuple[Path, str]:
    with h5py.File(path.with_suffix(".mat"), "w", userblock_size=512) as file:
        file["day1/images"] = array
    with path.with_suffix(".mat").open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    return path.with_suffix(".mat"), "day1/images"


def julia(path: Path, array: Any) -> tuple[Path, str]:
    """HDF5 after a block of any content."""
    with h5py.File(path.with_suffix(".jld"), "w", userblock_size=512) as file:
        file["images"] = array
    with path.with_suffix(".jld").open("r+b") as raw:
        raw.write(b"Julia data file (HDF5), version 0.1.2")
    return path.with_suffix(".jld"), "images"


def zarr_array(path: Path, array: Any) -> tuple[Path, str]:
    zarr.save_array(path.with_suffix(".zarr"), array)
    return path.with_suffix(".zarr"), ""


def zarr_group(path: Path, array: Any) -> tuple[Path, str]:
    zarr.open_group(path, mode="w").create_array("a/images", data=array)
    return path, "a/images"


def npy(path: Path, array: Any) -> tuple[Path, str]:
    np.save(path.with_suffix(".npy"), array)
    return path.with_suffix(".npy"), ""


Write = Callable[[Path, Any], tuple[Path, str]]
WRITERS = [hdf5, matlab, julia, zarr_array, zarr_group, npy]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("layout", ["last", "first", "grey", "one channel"])
def test_pixels_are_those_that_were_stored(write: Write, layout: str, tmp_path: Path) -> None:
    stored, seen = {
        "last": (PIXELS, PIXELS),
        "first": (np.moveaxis(PIXELS, -1, 1), PIXELS),
        "grey": (PIXELS[..., 0], PIXELS[..., :1].repeat(3, -1)),
        "one channel": (PIXELS[..., :1], PIXELS[..., :1].repeat(3, -1)),
    }[layout]
    path, key = write(tmp_path / "images", stored)
    images = pickle.loads(pickle.dumps(ArrayImages(key)))  # noqa: S301 - as workers of a cluster get it
    assert images.count(path) == N
    rows = (4, 0, 4, 5)
    stimuli = Stimuli(tuple("abcd"), (path,) * 4, rows, images)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda i: np.asarray(stimuli.image(i)), range(4)))
    np.testing.assert_array_equal(np.array(found), seen[list(rows)])
    assert stimuli.sha256(0) == stimuli.sha256(2) != stimuli.sha256(1)


def test_a_file_that_is_replaced_is_read_anew(tmp_path: Path) -> None:
    for value in (1, 2):
        path, key = npy(tmp_path / "images", np.full((2, 8, 8 + value, 3), value, np.uint8))
        assert np.asarray(Stimuli(("a",), (path,), (0,), ArrayImages(key)).image(0)).max() == value


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (PIXELS / np.float32(255), r"images of uint8, .*; got float32 of shape \(6, 9, 7, 3\)"),
        (PIXELS.T, r"reverse the axes, to \(6, 9, 7, 3\)"),
        (PIXELS[0], r"got uint8 of shape \(9, 7, 3\)"),
        (np.zeros((N, 9, 7, 4), np.uint8), r"got uint8 of shape \(6, 9, 7, 4\)"),
        (PIXELS.reshape(N, -1), r"got uint8 of shape \(6, 189\)"),
    ],
)
def test_other_arrays_are_refused(stored: Any, words: str, tmp_path: Path) -> None:
    path, key = hdf5(tmp_path / "images", stored)
    with pytest.raises(DataError, match=words):
        ArrayImages(key).count(path)


@pytest.mark.parametrize("write", [hdf5, zarr_group])
@pytest.mark.parametrize("key", ["", "imgbrick", "a"])
def test_a_wrong_key_is_answered_by_the_right_ones(write: Write, key: str, tmp_path: Path) -> None:
    path, right = write(tmp_path / "images", PIXELS)
    with pytest.raises(DataError, match=rf"key.*; got {right} \(6, 9, 7, 3\) uint8|array '{key}'.*{right} \(6"):
        ArrayImages(key).count(path)


def test_a_key_of_a_single_array_is_refused(tmp_path: Path) -> None:
    for write in (npy, zarr_array):
        path, _ = write(tmp_path / "images", PIXELS)
        with pytest.raises(DataError, match="Remove the key 'imgBrick'"):
            ArrayImages("imgBrick").count(path)


def test_what_is_no_array_is_told(tmp_path: Path) -> None:
    (tmp_path / "page.h5").write_text("<!DOCTYPE html><html>")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.h5").write_bytes(hdf5(tmp_path / "whole", PIXELS)[0].read_bytes()[:100])
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.savez(tmp_path / "many.npz", PIXELS)
    for name, words in {
        "page.h5": "an HTML page",
        "empty": "a zarr store; got ",
        "cut.h5": "truncated file",
        "none.npy": "no such file",
        "objects.npy": "Python objects",
        "many.npz": "a NumPy .npz archive",
    }.items():
        with pytest.raises(DataError, match=words):
            ArrayImages().count(tmp_path / name)
    stimuli = Stimuli(("a",), (tmp_path / "whole.hdf5",), (N,), ArrayImages("imgBrick"))
    with pytest.raises(DataError, match=r"whole\.hdf5, row 6: expected a readable image for stimulus 'a'"):
        stimuli.image(0)
