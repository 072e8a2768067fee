"""A file of MOSAIC: trial → image → response on the cortex of fsLR, and each trap on the way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
from PIL import Image

from bddn.data.mosaic import Mosaic
from bddn.errors import DataError
from bddn.testing import DatasetContract
from data import mosaic_tree as tree
from data.own_trees import N_MESH, write_sphere

VERTEX = {"lh": np.array([3, 40, 500]), "rh": np.array([7, 9_000])}
NAMES = ("nsd-00013.png", "nsd-00720.png", "grating.png")
TRIALS = ((0, "train", 0), (0, "train", 1), (1, "train", 0), (2, "test", 0), (2, "test", 1), (2, "test", 2))
FILLED = {2: [1]}  # in the third trial, a grayordinate without data
CORTEX = [0, 2, 5, 6]
"""Grayordinates of the cortex, without the one that was filled."""
CEILING = np.array([10.0, 20, 30, 40, 50, 60, 70])


def beta(image: int, rep: int) -> np.ndarray:
    return np.arange(7) + 10.0 * image + 100 * rep


def write(path: Path, ceiling: np.ndarray = CEILING, without: str = "") -> None:
    trials = [(NAMES[image], phase, rep, beta(image, rep)) for image, phase, rep in TRIALS]
    tree.write_trials(path, "NaturalScenesDataset", trials, FILLED, without)
    tree.write_ceilings(path, ceiling)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "sub-01_NSD_crc32-0.hdf5")
    (tmp_path / "spheres").mkdir()
    for hemi in VERTEX:
        write_sphere(tree.sphere_path(tmp_path / "spheres", hemi), hemi)
    models = tree.models(VERTEX, N_MESH)
    tree.write_cifti(tmp_path / "any.dscalar.nii", models)
    labels = np.array([[1, 2, 0, 2, 2, 1, 0]], np.float32)
    key = {0: ("???", (0, 0, 0, 0)), 1: ("L_V1_ROI", (1, 0, 0, 1)), 2: ("L_V2_ROI", (1, 0, 0, 1))}
    axes: Any = nibabel.cifti2
    nibabel.save(
        axes.Cifti2Image(labels, (axes.LabelAxis(["glasser"], [key]), models)), tmp_path / "glasser.dlabel.nii"
    )
    (tmp_path / "stimuli").mkdir()
    for k, name in enumerate(NAMES):
        Image.new("RGB", (5, 5), (50 * k, 0, 0)).save(tmp_path / "stimuli" / name)
    return tmp_path


def opened(root: Path, **options: str) -> Mosaic:
    files = {"cifti": f"{root / 'any.dscalar.nii'}", "spheres": f"{root / 'spheres'}"}
    return Mosaic(root / "sub-01_NSD_crc32-0.hdf5", **{**files, **options})


class TestMeans(DatasetContract):
    @pytest.fixture
    def dataset(self, root: Path) -> Mosaic:
        return opened(root)


class TestTrials(DatasetContract):
    @pytest.fixture
    def dataset(self, root: Path) -> Mosaic:
        return opened(root, trials="single", rois=f"{root / 'glasser.dlabel.nii'}")


def test_responses_are_those_of_the_cortex_in_the_trials_of_an_image(root: Path) -> None:
    data = opened(root)
    assert data.stimuli.ids == tuple(sorted(NAMES))
    expected = []
    for name in data.stimuli.ids:
        k = NAMES.index(name)
        expected.append(np.mean([beta(image, rep)[CORTEX] for image, _, rep in TRIALS if image == k], 0))
    np.testing.assert_allclose(data.responses(), expected)
    voxels = data.voxels()
    assert list(zip(voxels["hemi"], voxels["voxel"], strict=True)) == [("lh", 3), ("lh", 500), ("rh", 7), ("rh", 9_000)]
    for i, name in enumerate(data.stimuli.ids):
        assert data.stimuli.image(i).getpixel((0, 0)) == (50 * NAMES.index(name), 0, 0)
    single = opened(root, trials="single")
    assert single.response_ids is not None
    order = [(NAMES.index(name), name) for name in single.response_ids]
    assert [k for k, _ in order] == [2, 2, 2, 0, 0, 1]
    np.testing.assert_allclose(single.responses(np.array([4])), [beta(0, 1)[CORTEX]])
    said = " ".join(data.remarks())
    assert "1 of 5 vertices of the cortex are left out: they lack data in some trials" in said
    assert "sub-01 of NaturalScenesDataset" in data.about.responses


def test_ceilings_and_rois_are_those_of_the_grayordinate(root: Path) -> None:
    data = opened(root, ceiling="test", rois=f"{root / 'glasser.dlabel.nii'}")
    share = CEILING[CORTEX] / 100
    squared = share / (1 - share)
    np.testing.assert_allclose(data.voxels()["ceiling"], squared / (squared + 1 / 3))
    assert data.voxels()["roi"].tolist() == ["L_V1_ROI", "", "L_V1_ROI", ""]
    assert data.named_tests() == {"test": ("grating.png",)}
    write(root / "sub-01_NSD_crc32-0.hdf5", CEILING / 100)  # the same as a share
    np.testing.assert_allclose(opened(root, trials="single").voxels()["ceiling"], share)


def test_what_does_not_fit_is_refused_with_the_next_step(root: Path) -> None:
    def refused(match: str, **options: str) -> None:
        with pytest.raises(DataError, match=match):
            opened(root, **options).voxels()

    refused(r"option 'cifti'.*does not say which vertex a grayordinate is.*docs/mosaic\.md", cifti="")
    refused("one sphere of fsLR deformed to fsaverage for each hemisphere.*no folder", spheres=f"{root / 'none'}")
    (root / "spheres/tpl-fsLR_space-fsaverage_hemi-L_den-32k_sphere.surf.gii").touch()
    refused("one sphere of fsLR")
    (root / "spheres/tpl-fsLR_space-fsaverage_hemi-L_den-32k_sphere.surf.gii").unlink()
    tree.write_cifti(root / "cortex.dscalar.nii", tree.models(VERTEX, N_MESH, below=False))
    refused("the 7 grayordinates of sub-01_NSD_crc32-0.hdf5.*5", cifti=f"{root / 'cortex.dscalar.nii'}")
    file = root / "sub-01_NSD_crc32-0.hdf5"
    write(file, without="grating_phase-test_rep-1")
    refused("with the attribute presented_stimulus_filename.*stimulus-grating_phase-test_rep-1")
    file.unlink()
    with h5py.File(file, "w") as stored:
        stored["responses"] = np.zeros(3)
    refused("a group 'betas'.*responses")


def read_all(data: Mosaic) -> None:
    data.named_tests()
    data.voxels()
    data.responses()


def first(file: h5py.File, words: str) -> h5py.Dataset:
    return file["betas"][next(name for name in sorted(file["betas"]) if words in name)]


def another_subject(file: h5py.File) -> None:
    one = first(file, "grating")
    file.copy(one, file["betas"], one.name.replace("/betas/sub-01", "sub-02"))


def longer(file: h5py.File) -> None:
    one = first(file, "nsd-00720")
    name, about = one.name, dict(one.attrs)
    del file[name]
    file[name] = np.arange(9.0)
    file[name].attrs.update(about)


def shorter_ceilings(file: h5py.File) -> None:
    name = "noiseceilings/sub-01_NSD_phase-test_n-1_noiseceiling"
    del file[name]
    file[name] = CEILING[:4]


def nan_indices(values: list[int] | list[bool]) -> Callable[[h5py.File], None]:
    return lambda file: first(file, "nsd-00720").attrs.create("nan_indices", np.array(values))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (another_subject, "trials of one subject and dataset; got sub-01_NSD, sub-02_NSD"),
        (lambda file: first(file, "grating").attrs.modify("phase", "train"), "1 in both, the first 'grating.png'"),
        (longer, "numbers of all 7 grayordinates; got 9"),
        (shorter_ceilings, "noiseceiling: expected numbers of all 7 grayordinates; got 4"),
        (nan_indices([7]), "nan_indices from 0 to 6, .*int64 from 7 to 7"),
        (nan_indices([-1, 2]), "nan_indices from 0 to 6, .*int64 from -1 to 2"),
        (nan_indices([False, True, False, False, False, False, False]), "nan_indices from 0 to 6, .*bool"),
    ],
)
def test_numbers_that_would_be_those_of_other_places_are_refused(
    change: Callable[[h5py.File], None], match: str, root: Path
) -> None:
    with h5py.File(root / "sub-01_NSD_crc32-0.hdf5", "r+") as file:
        change(file)
    with pytest.raises(DataError, match=match):
        read_all(opened(root))


def test_hidden_files_are_no_spheres(root: Path) -> None:
    for path in list((root / "spheres").iterdir()):
        path.with_name(f"._{path.name}").write_bytes(b"?")
    assert len(opened(root).voxels()) == 4


def test_a_folder_in_place_of_the_file_is_told(root: Path) -> None:
    with pytest.raises(DataError, match="expected an HDF5 file; got a folder"):
        Mosaic(root, cifti=f"{root / 'any.dscalar.nii'}", spheres=f"{root / 'spheres'}")
