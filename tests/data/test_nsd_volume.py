"""NSD in the subject's own volume: int16 times 300, axes in reverse, and a mask of -1, 0 and 1."""

from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest

from bddn.data.nsd.nsd import Nsd
from bddn.errors import DataError
from bddn.testing import DatasetContract
from data import nsd_tree as tree

SHAPE, N_TRIALS = (6, 5, 4), 8
AFFINE = np.array([[1.8, 0, 0, -40], [0, 1.8, 0, -60], [0, 0, 1.8, -20], [0, 0, 0, 1]])
INSIDE = ((1, 2, 3), (1, 3, 0), (4, 0, 2), (5, 4, 1))
ORDER = np.random.default_rng(3).permutation(np.repeat(np.arange(0, 1200, 10), 3))[: 40 * N_TRIALS]
OPTIONS = {"subject": "1", "space": "func1pt8mm"}


def beta(image: int, i: int, j: int, k: int, session: int) -> float:
    """Percent signal change that stands for an image, a voxel and a session, a multiple of 1 / 300."""
    return (image % 97 + 100 * session + 1000 * i + 300 * j + 30 * k) / 300


def shown(session: int) -> list[int]:
    images = tree.subject_images()[0]
    return [int(images[slot]) - 1 for slot in ORDER[(session - 1) * N_TRIALS : session * N_TRIALS]]


def nifti(root: Path, name: str, values: np.ndarray) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), AFFINE), path)


def betas_path(root: Path, session: int) -> Path:
    folder = root / f"nsddata_betas/ppdata/subj01/func1pt8mm/{tree.B3}"
    return folder / f"betas_session{session:02d}.hdf5"


def write_betas(root: Path, session: int, values: np.ndarray) -> None:
    betas_path(root, session).parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(betas_path(root, session), "w") as file:
        file["betas"] = values


def volume(session: int) -> np.ndarray:
    """int16 (T, Z, Y, X)."""
    x, y, z = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    found = [np.round(300 * beta(0, x, y, z, session)).T + image % 97 for image in shown(session)]  # type: ignore[arg-type]
    return np.array(found).astype(np.int16)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Subject 1 with sessions 1 and 3 in a volume of 6 × 5 × 4, of which four voxels are nsdgeneral."""
    tree.write_design(tmp_path, ORDER + 1, tree.subject_images())
    rois = "nsddata/ppdata/subj01/func1pt8mm/roi"
    mask = np.full(SHAPE, -1.0)
    mask[:, :, 0] = 0
    mask[tuple(np.array(INSIDE).T)] = 1
    nifti(tmp_path, f"{rois}/nsdgeneral.nii.gz", mask)
    left = np.where(np.arange(SHAPE[0])[:, None, None] < 3, mask, -1)
    nifti(tmp_path, f"{rois}/lh.nsdgeneral.nii.gz", left)
    bodies = np.full(SHAPE, -1.0)
    bodies[4, 0, 2] = 1
    nifti(tmp_path, f"{rois}/floc-bodies.nii.gz", bodies)
    ncsnr = np.full(SHAPE, np.nan)
    ncsnr[1, 2, 3] = 0.5
    nifti(tmp_path, f"nsddata_betas/ppdata/subj01/func1pt8mm/{tree.B3}/ncsnr.nii.gz", ncsnr)
    for session in (1, 3):
        write_betas(tmp_path, session, volume(session))
    images = {k: np.full((3, 3, 3), k % 256, np.uint8) for session in (1, 3) for k in shown(session)}
    tree.write_images(tree.stimuli_path(tmp_path), 73_000, images)
    return tmp_path


class TestVolume(DatasetContract):
    @pytest.fixture
    def dataset(self, root: Path) -> Nsd:
        return Nsd(root, **OPTIONS)


def test_betas_are_those_of_the_voxel_in_percent(root: Path) -> None:
    data = Nsd(root, **OPTIONS, zscore="no")
    expected = []
    for name in data.stimuli.ids:
        image = int(name.removeprefix("nsd-"))
        sessions = [session for session in (1, 3) for one in shown(session) if one == image]
        expected.append([np.mean([beta(image, *ijk, s) for s in sessions]) for ijk in INSIDE])
    np.testing.assert_allclose(data.responses(), expected, rtol=1e-5)


def test_voxels_are_points_with_the_labels_of_their_place(root: Path) -> None:
    data = Nsd(root, **OPTIONS)
    voxels = data.voxels()
    assert voxels["voxel"].tolist() == ["1-2-3", "1-3-0", "4-0-2", "5-4-1"]
    assert voxels["hemi"].tolist() == ["lh", "lh", "", ""]
    assert (voxels["vertex"] == -1).all()
    mm = np.array(INSIDE) * 1.8 + AFFINE[:3, 3]
    np.testing.assert_allclose(voxels[["x_mm", "y_mm", "z_mm"]], mm, rtol=1e-6)
    np.testing.assert_allclose(data.coords_mm(), mm, rtol=1e-6)
    assert voxels["roi"].tolist() == voxels["floc-bodies"].tolist() == ["", "", "EBA", ""]
    n = data.n_trials
    np.testing.assert_allclose(voxels["ceiling"], np.append(0.25 / (0.25 + np.mean(1 / n)), [np.nan] * 3))
    assert data.frame is not None
    assert data.frame.shape == SHAPE
    np.testing.assert_array_equal(data.frame.indices(mm), INSIDE)


def test_axes_the_other_way_round_are_refused(root: Path) -> None:
    write_betas(root, 3, volume(3).T)
    with pytest.raises(DataError, match=r"\(8, 4, 5, 6\).*\(6, 5, 4, 8\), the other way round"):
        Nsd(root, **OPTIONS).responses()


def test_voxels_without_data_in_a_session_are_left_out(root: Path) -> None:
    values = volume(3)
    values[:, 2, 0, 4] = 0
    write_betas(root, 3, values)
    data = Nsd(root, **OPTIONS)
    assert data.voxels()["voxel"].tolist() == ["1-2-3", "1-3-0", "5-4-1"]
    assert any("4 voxels of nsdgeneral: 0 without data in any session, and 1 without" in one for one in data.remarks())
    assert any("prf-visualrois.nii.gz" in one for one in data.remarks())


def test_nsd_synthetic_and_unknown_labels_are_refused(root: Path) -> None:
    with pytest.raises(DataError, match="space=fsaverage, on which NSD-synthetic is read"):
        Nsd(root, **OPTIONS, synthetic="yes")
    with pytest.raises(DataError, match=r"roi/streams\.nii\.gz.*labels are here: floc-bodies, nsdgeneral"):
        Nsd(root, **OPTIONS, voxels="streams")


def test_grids_of_which_left_and_right_are_not_known_are_refused(root: Path) -> None:
    rois = root / "nsddata/ppdata/subj01/func1pt8mm/roi"
    mask = np.asarray(nibabel.load(rois / "nsdgeneral.nii.gz").dataobj)  # type: ignore[attr-defined]
    right = np.where(np.arange(SHAPE[0])[:, None, None] < 3, -1, mask)
    nifti(rois, "rh.nsdgeneral.nii.gz", right)
    assert Nsd(root, **OPTIONS).voxels()["hemi"].tolist() == ["lh", "lh", "rh", "rh"]
    (rois / "lh.nsdgeneral.nii.gz").rename(rois / "rh.nsdgeneral.nii.gz")
    nifti(rois, "lh.nsdgeneral.nii.gz", right)
    with pytest.raises(DataError, match=r"lh.* to the left of rh.*centres at x = .*exchanged"):
        Nsd(root, **OPTIONS).voxels()
    bare = nibabel.Nifti1Image(mask, None)
    nibabel.save(bare, rois / "nsdgeneral.nii.gz")
    with pytest.raises(DataError, match=r"an affine in its header"):
        Nsd(root, **OPTIONS).voxels()


def test_volumes_that_were_turned_are_refused(root: Path) -> None:
    rois, betas = root / "nsddata/ppdata/subj01/func1pt8mm/roi", betas_path(root, 1).parent
    for path in (rois / "floc-bodies.nii.gz", rois / "nsdgeneral.nii.gz", betas / "ncsnr.nii.gz"):
        whole = path.read_bytes()
        image: Any = nibabel.load(path)
        turned = image.as_reoriented([[0, -1], [1, 1], [2, 1]])  # the same places, from right to left
        path.unlink()
        nibabel.save(turned, path)
        with pytest.raises(DataError, match=rf"{path.name}: expected axes .*RAS.*got LAS.*aws s3 cp"):
            Nsd(root, **OPTIONS).voxels()
        path.write_bytes(whole)
    assert Nsd(root, **OPTIONS).voxels()["roi"].tolist() == ["", "", "EBA", ""]
