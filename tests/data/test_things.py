"""THINGS-fMRI in table format: trial → image → response, and each trap on the way."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.preprocessing import StandardScaler

from bddn.data import things_voxels
from bddn.data.things import Things
from bddn.errors import DataError
from bddn.testing import DatasetContract
from data import things_tree as tree

NAMES = ("dog_12s.jpg", "candelabra_14s.jpg", "ice_cream_1b.jpg", "panda_2s.jpg", "zebra_9n.jpg")
TRIALS = [
    *(("train", 1, NAMES[0]), ("test", 1, NAMES[1]), ("train", 1, NAMES[2]), ("test", 1, NAMES[3])),
    *(("test", 2, NAMES[3]), ("train", 2, NAMES[4]), ("test", 2, NAMES[1]), ("test", 2, NAMES[3])),
]
IJK = np.array([[1, 4, 3], [1, 4, 4], [2, 4, 3], [5, 4, 3], [7, 1, 3], [8, 2, 2]])
COLUMNS = {
    "nc_singletrial": np.array([0.0, 10, 20, 30, 40, 50]),
    "nc_testset": np.array([0.0, 50, 60, 70, 80, 90]),
    "prf-size": np.array([0, 1, 0, 1, 0, 1]),  # zeros and ones, but no ROI
    "V1": np.array([0, 1, 1, 0, 0, 0]),
    "LO1 (prf)": np.array([0, 0, 0, 1, 0, 0]),
    "lFFA": np.array([0, 0, 0, 0, 0, 1]),
    "rFFA": np.array([0, 0, 1, 0, 0, 0]),
    "glasser-FFC": np.array([1, 0, 0, 0, 0, 1]),
}
IN_ROIS = [1, 2, 3, 5]


def beta(voxel: int, trial: int) -> float:
    return 10.0 * voxel + trial + 0.01 * voxel * trial**2


VALUES = np.array([[beta(v, t) for t in range(len(TRIALS))] for v in range(len(IJK))])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tree.write_responses(tree.path(tmp_path, "ResponseData.h5"), VALUES, np.arange(len(IJK)))
    tree.write_trials(tree.path(tmp_path, "StimulusMetadata.csv"), TRIALS)
    tree.write_voxels(tree.path(tmp_path, "VoxelMetadata.csv"), IJK, COLUMNS)
    for k, name in enumerate(NAMES):
        folder = tmp_path / "images" / name.rsplit("_", 1)[0]
        folder.mkdir(parents=True)
        Image.new("RGB", (6, 6), (40 * k, 9, 9)).save(folder / name)
    return tmp_path


class TestMeans(DatasetContract):
    @pytest.fixture
    def dataset(self, root: Path) -> Things:
        return Things(root, subject="01")


class TestTrials(DatasetContract):
    @pytest.fixture
    def dataset(self, root: Path) -> Things:
        return Things(root, subject="1", trials="single")


def test_responses_are_those_of_the_trials_of_an_image(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(things_voxels, "ROWS_AT_ONCE", 3)  # voxels 3 and 5 are in one block, without 4
    monkeypatch.setattr(things_voxels, "N_PROBES", 1)  # other trials are unpacked
    data = Things(root, subject="01", zscore="no")
    assert data.stimuli.ids == tuple(sorted(NAMES))
    expected = [VALUES[IN_ROIS][:, [t[2] == name for t in TRIALS]].mean(1) for name in data.stimuli.ids]
    np.testing.assert_allclose(data.responses(), expected, rtol=1e-6)
    single = Things(root, subject="01", trials="single")
    assert single.response_ids == tuple(name for _, _, name in TRIALS)
    for session in (slice(0, 4), slice(4, 8)):
        scaled = StandardScaler().fit_transform(VALUES[IN_ROIS].T[session])
        np.testing.assert_allclose(single.responses(np.arange(8)[session]), scaled, atol=1e-4)
    for i, name in enumerate(data.stimuli.ids):
        assert data.stimuli.image(i).getpixel((0, 0))[0] == pytest.approx(40 * NAMES.index(name), abs=3)  # type: ignore[index]


def test_voxels_have_their_places_rois_and_ceilings(root: Path) -> None:
    data = Things(root, subject="01", ceiling="test")
    voxels = data.voxels()
    assert voxels["voxel"].tolist() == ["1-4-4", "2-4-3", "5-4-3", "8-2-2"]
    np.testing.assert_array_equal(voxels[["x_mm", "y_mm", "z_mm"]], 2 * IJK[IN_ROIS])
    assert voxels["roi"].tolist() == ["V1", "V1", "LO1", "FFA"]
    assert voxels["localizer"].tolist() == ["", "FFA", "", "FFA"]
    assert voxels["glasser"].tolist() == ["", "", "", "HCP-FFC"]
    share = COLUMNS["nc_singletrial"][IN_ROIS] / 100
    squared = share / (1 - share)
    np.testing.assert_allclose(voxels["ceiling"], squared / (squared + np.mean([1 / 2, 1 / 3])))
    np.testing.assert_allclose(Things(root, subject="01", trials="single").voxels()["ceiling"], share)
    assert data.named_tests() == {"test": (NAMES[1], NAMES[3])}
    assert "indices of voxels times 2 mm" in " ".join(data.remarks())
    tree.write_mask(root, (10, 6, 6))
    masked = Things(root, subject="01")
    np.testing.assert_allclose(masked.voxels()[["x_mm", "y_mm", "z_mm"]], 2 * IJK[IN_ROIS] + tree.AFFINE[:3, 3])
    assert masked.frame is not None
    assert [len(Things(root, subject="01", voxels=one).voxels()) for one in ("all", "FFA", "lFFA", "HCP-FFC")] == [
        6,
        2,
        1,
        2,
    ]


def test_files_that_do_not_fit_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(things_voxels, "N_PROBES", 1)

    def used(**options: str) -> None:
        data = Things(root, **{"subject": "01", **options})
        data.named_tests()
        data.voxels()
        data.responses()

    def refused(match: str, **options: str) -> None:
        with pytest.raises(DataError, match=match):
            used(**options)

    refused("one of 01, 02, 03", subject="04")
    refused("sub-02.*no sub-02_StimulusMetadata.csv there or in betas_csv.*figshare", subject="02")
    refused("voxels in 'EBA'.*FFA, LO1, V1", voxels="EBA")
    file = tree.path(root, "ResponseData.h5")
    tree.write_responses(file, VALUES, np.array([0, 1, 3, 2, 4, 5]))
    refused(r"the voxels in the order of sub-01_VoxelMetadata\.csv.*another voxel in row 2")
    tree.write_responses(file, VALUES.T, np.arange(len(TRIALS)))
    refused(r"one array of floats of shape \(6, 8\).*block0_values \(8, 6\) float64")
    wrong = VALUES.copy()
    wrong[2, 6] = np.nan
    tree.write_responses(file, wrong, np.arange(len(IJK)))
    refused(r"ResponseData\.h5.*the first in trial 3, row 2\. Download it again")
    for what in ("VoxelMetadata.csv", "StimulusMetadata.csv"):  # all subjects have as many trials
        kept = tree.path(root, what).read_bytes()
        pd.read_csv(tree.path(root, what)).assign(subject_id=2).to_csv(tree.path(root, what), index=False)
        refused(f"{what}.*subject_id 1 in every row; got 2")
        tree.path(root, what).write_bytes(kept)
    tree.path(root, "VoxelMetadata.csv").write_text("/annex/objects/MD5E-s7--1.csv\n")
    refused("a CSV table of voxels; got a git-annex pointer")
    tree.write_voxels(tree.path(root, "VoxelMetadata.csv"), IJK[[0, 1, 1, 3, 4, 5]], COLUMNS)
    refused("different voxel_x, voxel_y, voxel_z in each row.*1 repeated")
    tree.path(root, "VoxelMetadata.csv").write_text("")
    refused("a CSV table of voxels")
    tree.write_voxels(tree.path(root, "VoxelMetadata.csv"), IJK, COLUMNS)
    tree.write_responses(file, VALUES, np.arange(len(IJK)))
    tree.write_trials(tree.path(root, "StimulusMetadata.csv"), [*TRIALS[:-1], ("train", 2, NAMES[3])])
    refused("either for training or for testing.*panda_2s")


def test_a_voxel_without_data_is_left_out_and_counted(root: Path) -> None:
    wrong = VALUES.copy()
    wrong[3] = np.nan
    wrong[2, 4:] = 0
    tree.write_responses(tree.path(root, "ResponseData.h5"), wrong, np.arange(len(IJK)))
    data = Things(root, subject="01")
    assert data.voxels()["voxel"].tolist() == ["1-4-4", "8-2-2"]
    assert "4 voxels of rois: 1 without data in any session, and 1 without data in some" in " ".join(data.remarks())


def test_a_table_of_trials_that_was_sorted_is_refused(root: Path) -> None:
    path = tree.path(root, "StimulusMetadata.csv")
    table = pd.read_csv(path)
    expected = Things(root, subject="01").responses()
    for columns in (["stimulus"], ["trial_type", "session", "trial_id"], ["concept", "session"]):
        table.sort_values(columns, kind="stable").to_csv(path, index=False)
        with pytest.raises(DataError, match=r"trials in their order.*another trial in row \d"):
            Things(root, subject="01")
    # numbers that begin anew in each run, and sessions in the order of texts, are those of a whole table
    table.assign(trial_id=table.groupby(["session", "run"]).cumcount()).to_csv(path, index=False)
    np.testing.assert_array_equal(Things(root, subject="01").responses(), expected)


def test_ceilings_that_are_shares_are_refused(root: Path) -> None:
    columns = {**COLUMNS, "nc_singletrial": COLUMNS["nc_singletrial"] / 100}
    tree.write_voxels(tree.path(root, "VoxelMetadata.csv"), IJK, columns)
    with pytest.raises(DataError, match=r"nc_singletrial: expected noise ceilings in per cent.*up to 0\.5"):
        Things(root, subject="01").voxels()
