"""A file of MOSAIC: trial → image → response on the cortex of fsLR, and each trap on the way."""

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
from data.own_trees import N_MESH, STRUCTURES, write_sphere

AXES: Any = nibabel.cifti2
VERTEX = {"lh": np.array([3, 40, 500]), "rh": np.array([7, 9_000])}
BELOW = 2  # grayordinates below the cortex, here between both hemispheres
NAMES = ("nsd-00013.png", "nsd-00720.png", "grating.png")
TRIALS = ((0, "train", 0), (0, "train", 1), (1, "train", 0), (2, "test", 0), (2, "test", 1), (2, "test", 2))
FILLED = 1  # a grayordinate without data in one trial
CEILING = np.array([10.0, 20, 30, 40, 50, 60, 70])


def beta(image: int, rep: int) -> np.ndarray:
    return np.arange(5 + BELOW) + 10.0 * image + 100 * rep


def models() -> Any:
    parts = [
        AXES.BrainModelAxis.from_surface(vertex, N_MESH, name=structure)
        for structure, vertex in zip(STRUCTURES, VERTEX.values(), strict=True)
    ]
    voxel = np.array([[1, 1, 1], [1, 1, 2]])
    below = AXES.BrainModelAxis("CIFTI_STRUCTURE_THALAMUS_LEFT", voxel=voxel, affine=np.eye(4), volume_shape=(4, 4, 4))
    return parts[0] + below + parts[1]


def write(path: Path, ceiling: np.ndarray = CEILING, without: str = "") -> None:
    """Write the file; one trial may lack the name of its image."""
    path.unlink(missing_ok=True)  # it may be open
    with h5py.File(path, "w") as file:
        file.attrs["dataset_name"], file.attrs["subjectID"] = "NaturalScenesDataset", "sub-01"
        for image, phase, rep in TRIALS:
            stem = Path(NAMES[image]).stem
            name = f"betas/sub-01_NSD_stimulus-{stem}_phase-{phase}_rep-{rep}"
            found = file.create_dataset(name, data=beta(image, rep), track_order=True)
            lost = [FILLED] if (image, rep) == (1, 0) else []
            about = {"phase": phase, "repetition": rep, "nan_indices": np.array(lost, int)}
            shown = {} if without and without in name else {"presented_stimulus_filename": NAMES[image]}
            found.attrs.update({**about, **shown})
        for n, values in (("avg", np.full(len(ceiling), 90.0)), ("1", ceiling)):
            for phase in ("train", "test"):
                factor = 1 if phase == "test" else 0.5
                file[f"noiseceilings/sub-01_NSD_phase-{phase}_n-{n}_noiseceiling"] = factor * values


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "sub-01_NSD_crc32-0.hdf5")
    (tmp_path / "spheres").mkdir()
    for hemi, side in (("lh", "L"), ("rh", "R")):
        write_sphere(tmp_path / f"spheres/fs_LR-deformed_to-fsaverage.{side}.sphere.32k_fs_LR.surf.gii", hemi)
    axis = AXES.ScalarAxis(["any"])
    nibabel.save(AXES.Cifti2Image(np.zeros((1, 7), np.float32), (axis, models())), tmp_path / "any.dscalar.nii")
    labels = np.array([[1, 2, 0, 2, 2, 1, 0]], np.float32)
    key = {0: ("???", (0, 0, 0, 0)), 1: ("L_V1_ROI", (1, 0, 0, 1)), 2: ("L_V2_ROI", (1, 0, 0, 1))}
    image = AXES.Cifti2Image(labels, (AXES.LabelAxis(["glasser"], [key]), models()))
    nibabel.save(image, tmp_path / "glasser.dlabel.nii")
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
    cortex = [0, 2, 5, 6]  # not the one that was filled, nor those below
    assert data.stimuli.ids == tuple(sorted(NAMES))
    expected = []
    for name in data.stimuli.ids:
        k = NAMES.index(name)
        expected.append(np.mean([beta(image, rep)[cortex] for image, _, rep in TRIALS if image == k], 0))
    np.testing.assert_allclose(data.responses(), expected)
    voxels = data.voxels()
    assert list(zip(voxels["hemi"], voxels["voxel"], strict=True)) == [("lh", 3), ("lh", 500), ("rh", 7), ("rh", 9_000)]
    for i, name in enumerate(data.stimuli.ids):
        assert data.stimuli.image(i).getpixel((0, 0)) == (50 * NAMES.index(name), 0, 0)
    single = opened(root, trials="single")
    assert single.response_ids is not None
    order = [(NAMES.index(name), name) for name in single.response_ids]
    assert [k for k, _ in order] == [2, 2, 2, 0, 0, 1]
    np.testing.assert_allclose(single.responses(np.array([4])), [beta(0, 1)[cortex]])
    said = " ".join(data.remarks())
    assert "1 of 5 vertices of the cortex are left out: they lack data in some trials" in said
    assert "sub-01 of NaturalScenesDataset" in data.about.responses


def test_ceilings_and_rois_are_those_of_the_grayordinate(root: Path) -> None:
    data = opened(root, ceiling="test", rois=f"{root / 'glasser.dlabel.nii'}")
    share = CEILING[[0, 2, 5, 6]] / 100
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
    small = AXES.BrainModelAxis.from_surface(VERTEX["lh"], N_MESH, name=STRUCTURES[0])
    small = small + AXES.BrainModelAxis.from_surface(VERTEX["rh"], N_MESH, name=STRUCTURES[1])
    image = AXES.Cifti2Image(np.zeros((1, 5), np.float32), (AXES.ScalarAxis(["any"]), small))
    nibabel.save(image, root / "cortex.dscalar.nii")
    refused("the 7 grayordinates of sub-01_NSD_crc32-0.hdf5.*5", cifti=f"{root / 'cortex.dscalar.nii'}")
    file = root / "sub-01_NSD_crc32-0.hdf5"
    write(file, without="grating_phase-test_rep-1")
    refused("with the attribute presented_stimulus_filename.*stimulus-grating_phase-test_rep-1")
    file.unlink()
    with h5py.File(file, "w") as stored:
        stored["responses"] = np.zeros(3)
    refused("a group 'betas'.*responses")
