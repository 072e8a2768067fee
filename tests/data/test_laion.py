"""LAION-fMRI as it lies on disk: trial → image → response, and each trap on the way."""

import json
import re
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial import ConvexHull
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from bddn.cli import app
from bddn.cortex.fsaverage import fsaverage5, sphere
from bddn.data.laion.laion import Laion
from bddn.data.unpacked import Unpacked
from bddn.errors import DataError, OutputError
from bddn.testing import DatasetContract
from data import laion_tree as tree

SUB, SHAPE = "sub-03", (22, 12, 11)
HERE = (1, 2, 4)
N_TRIALS = 16
CENTRES = {"lh": np.array([-8.0, -1, 3]), "rh": np.array([8.0, -1, 3])}
RADIUS = 5.0
"""Each hemisphere is a ball, whose surface is the middle of the cortex."""
NAMES = (
    "shared_12rep_LAION_cluster_1003_i0.jpg",
    "shared_12rep_THINGS_dog.jpg",
    "shared_4rep_OOD_shape_7.png",
    "shared_4rep_OOD_gabor_1.png",
    *(f"unique_LAION_cluster_{k}_i1_p04.jpg" for k in range(20)),
)


def millimetres() -> np.ndarray:
    """The centres of all voxels (X, Y, Z, 3)."""
    ijk = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    return np.asarray(ijk @ tree.AFFINE[:3, :3].T + tree.AFFINE[:3, 3])


def depth(hemi: str) -> np.ndarray:
    """Distance of every voxel from the middle of the cortex of a hemisphere."""
    return np.asarray(np.abs(np.linalg.norm(millimetres() - CENTRES[hemi], axis=-1) - RADIUS))


def cap(hemi: str, direction: tuple[float, float, float], points: np.ndarray) -> np.ndarray:
    """Whether points (…, 3) are on one side of a hemisphere."""
    away = points - CENTRES[hemi]
    return np.asarray(away @ direction / np.maximum(np.linalg.norm(away, axis=-1), 1e-9) > 0.75)


CORTEX = (depth("lh") < 1) | (depth("rh") < 1)
AREAS = {"V1v": (0.0, -1.0, 0.0), "V2v": (0.0, 0.0, -1.0), "FFA1": (0.0, 1.0, 0.0)}


def area(name: str, hemi: str) -> np.ndarray:
    return np.asarray(CORTEX & (depth(hemi) < 1) & cap(hemi, AREAS[name], millimetres()))


def labels(session: int) -> list[str]:
    """The image of each volume: the first one twice, and the last of all only in session 4."""
    found = [NAMES[k] for k in np.random.default_rng(session).integers(0, len(NAMES) - 1, N_TRIALS)]
    return [*found[:-2], NAMES[-1] if session == 4 else found[-2], found[0]]


def beta(name: str, session: int) -> np.ndarray:
    """The volume that stands for an image and a session, unlike any other."""
    place = np.arange(np.prod(SHAPE)).reshape(SHAPE) / 1000
    return np.asarray(NAMES.index(name) + 1 + 100 * session + place)


def betas(session: int) -> np.ndarray:
    return np.stack([beta(name, session) for name in labels(session)], -1).astype(np.float32)


def picture(name: str) -> bytes:
    """The file of an image; one PNG has transparent parts."""
    buffer, rng = BytesIO(), np.random.default_rng(NAMES.index(name))
    pixels = rng.integers(0, 256, (6, 6, 4), np.uint8)
    if name.endswith(".jpg"):
        Image.fromarray(pixels[..., :3]).save(buffer, "JPEG")
    else:
        pixels[..., 3] = 255
        pixels[0, 0, 3] = 0
        Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


CEILING = {"12": 60.0, "4": 30.0}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Subject 03 with sessions 1, 2 and 4 of 12 trials; read only."""
    root = tmp_path_factory.mktemp("laion")
    for session in HERE:
        tree.write_volume(tree.betas_path(root, SUB, session), betas(session))
        tree.write_trials(tree.trials_path(root, SUB, session), session, labels(session))
    general = CORTEX.astype(np.uint8)
    tree.write_volume(tree.roi_path(root, SUB, "selectivity", "laiongeneral"), general)
    ventral = CORTEX & (millimetres()[..., 2] < 2)
    tree.write_volume(tree.roi_path(root, SUB, "selectivity", "laionventral"), ventral.astype(np.uint8))
    for name in AREAS:
        group = "retinotopy" if name[0] == "V" else "face"
        both = area(name, "lh") | area(name, "rh")
        tree.write_volume(tree.roi_path(root, SUB, group, name), both.astype(np.uint8))
    early = [area(name, hemi) for name in ("V1v", "V2v") for hemi in CENTRES]
    tree.write_volume(tree.roi_path(root, SUB, "retinotopy", "EVC"), np.logical_or.reduce(early).astype(np.uint8))
    for repeats, percent in CEILING.items():
        values = np.where(CORTEX, percent, 0).astype(np.float32)
        tree.write_volume(tree.map_path(root, SUB, f"desc-Noiseceiling{repeats}rep_statmap"), values)
    tree.write_volume(tree.map_path(root, SUB, "stat-rsquare_desc-R2mean_statmap"), np.where(CORTEX, 20, 3.0))
    tree.write_images(root, {name: picture(name) for name in NAMES})
    tree.write_split(root / "splits" / SUB / "tau.json", NAMES[5:], NAMES[:2] + NAMES[4:5])
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """The same, to be changed: all files are links, which writers replace."""
    for path in whole.rglob("*"):
        if path.is_file():
            link = tmp_path / path.relative_to(whole)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    return tmp_path


def replace_volume(path: Path, values: np.ndarray, **options: Any) -> None:
    path.unlink(missing_ok=True)
    tree.write_volume(path, values, **options)


class TestMeans(DatasetContract):
    @pytest.fixture
    def dataset(self, whole: Path) -> Laion:
        return Laion(whole, subject="03")


class TestTrials(DatasetContract):
    @pytest.fixture
    def dataset(self, whole: Path) -> Laion:
        return Laion(whole, subject="3", trials="single")


def expected_mean(name: str) -> np.ndarray:
    sessions = [session for session in HERE for one in labels(session) if one == name]
    return np.asarray(np.mean([beta(name, session)[CORTEX] for session in sessions], 0))


def test_the_responses_of_an_image_are_those_of_its_volumes(whole: Path) -> None:
    """Rows of trials.tsv that are not sorted, a repeated image, a missing session or an index off by one give other
    numbers, because each beta is unlike any other."""
    data = Laion(whole, subject="sub-03", zscore="no")
    assert data.stimuli.ids == tuple(sorted({name for session in HERE for name in labels(session)}))
    expected = np.array([expected_mean(name) for name in data.stimuli.ids])
    np.testing.assert_allclose(data.responses(), expected, rtol=1e-6)
    voxels = data.voxels()
    mm = millimetres()[CORTEX]
    np.testing.assert_allclose(voxels[["x_mm", "y_mm", "z_mm"]], mm, atol=1e-4)
    assert voxels["voxel"].tolist() == ["-".join(map(str, one)) for one in np.argwhere(CORTEX).tolist()]
    assert data.frame is not None
    np.testing.assert_array_equal(data.frame.indices(mm), np.argwhere(CORTEX))


def test_each_trial_has_the_response_and_the_id_of_its_image(whole: Path) -> None:
    data = Laion(whole, subject="03", trials="single", zscore="no")
    assert data.response_ids == tuple(name for session in HERE for name in labels(session))
    expected = np.array([beta(name, session)[CORTEX] for session in HERE for name in labels(session)])
    np.testing.assert_allclose(data.responses(), expected, rtol=1e-6)
    scored = Laion(whole, subject="03", trials="single").responses()
    for k in range(len(HERE)):
        rows = slice(k * N_TRIALS, (k + 1) * N_TRIALS)
        np.testing.assert_allclose(scored[rows], StandardScaler().fit_transform(expected[rows]), atol=2e-3)


def test_images_are_those_of_the_id_and_transparent_parts_are_grey(whole: Path) -> None:
    stimuli = Laion(whole, subject="03").stimuli
    assert any(name.endswith(".png") for name in stimuli.ids)
    for i, name in enumerate(stimuli.ids):
        seen, file = np.asarray(stimuli.image(i)), Image.open(BytesIO(picture(name)))
        expected = np.asarray(file.convert("RGB")).copy()
        if name.endswith(".png"):
            expected[0, 0] = 128
        np.testing.assert_array_equal(seen, expected)


def test_rois_are_those_of_the_place_and_the_smallest_wins(whole: Path) -> None:
    voxels = Laion(whole, subject="03").voxels()
    inside = {name: (area(name, "lh") | area(name, "rh"))[CORTEX] for name in AREAS}
    assert inside["V1v"].any()
    assert set(voxels["retinotopy"]) == {"", "V1v", "V2v"}  # not EVC, which contains both
    assert (voxels.loc[inside["V1v"] & ~inside["V2v"], "roi"] == "V1v").all()
    assert (voxels.loc[inside["FFA1"], "face"] == "FFA-1").all()
    assert set(voxels["selectivity"]) == {"laion-general", "laion-ventral"}
    assert set(voxels["roi"]) == {"", "V1v", "V2v", "FFA-1"}
    assert (voxels["hemi"] == "").all()
    some = Laion(whole, subject="03", voxels="ffa-1")
    assert len(some.voxels()) == inside["FFA1"].sum()
    assert len(Laion(whole, subject="03", voxels="r2").voxels()) == CORTEX.sum()


def test_ceilings_follow_from_the_map_for_twelve_trials(root: Path) -> None:
    squared = 0.6 / 12 / 0.4  # ncsnr²
    data = Laion(root, subject="03")
    expected = squared / (squared + np.mean(1 / data.n_trials))
    np.testing.assert_allclose(data.voxels()["ceiling"], expected)
    single = Laion(root, subject="03", trials="single")
    np.testing.assert_allclose(single.voxels()["ceiling"], squared / (squared + 1))
    tested = [data.n_trials[data.stimuli.ids.index(name)] for name in data.named_tests()["ood"]]
    some = Laion(root, subject="03", ceiling="ood").voxels()["ceiling"]
    np.testing.assert_allclose(some, squared / (squared + np.mean(1 / np.array(tested))))
    tree.map_path(root, SUB, "desc-Noiseceiling12rep_statmap").unlink()
    squared = 0.3 / 4 / 0.7
    np.testing.assert_allclose(
        Laion(root, subject="03").voxels()["ceiling"], squared / (squared + np.mean(1 / data.n_trials))
    )
    tree.map_path(root, SUB, "desc-Noiseceiling4rep_statmap").unlink()
    assert Laion(root, subject="03").voxels()["ceiling"].isna().all()
    assert "noise ceilings are unknown without sub-03_task-images_space-T1w" in " ".join(
        Laion(root, subject="03").remarks()
    )


def test_test_sets_are_those_of_the_package_and_of_the_names(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Laion(root, subject="03")
    ids, sets = set(data.stimuli.ids), data.named_tests()
    assert set(sets["ood"]) == ids & set(NAMES[2:4])
    assert set(sets["shared"]) == ids & set(NAMES[:4])
    assert set(sets["tau"]) == ids & {*NAMES[:2], NAMES[4]}
    hidden = root / "splits" / SUB / "._tau.json"
    hidden.write_bytes(b"?")
    assert Laion(root, subject="03").named_tests() == sets
    hidden.unlink()
    (root / "splits" / SUB / "tau.json").unlink()
    (root / "splits" / SUB).rmdir()
    assert "copy its folder laion_fmri/splits/data/sub-03" in " ".join(Laion(root, subject="03").remarks())
    site = tmp_path_factory.mktemp("site")
    (site / "laion_fmri").mkdir()
    (site / "laion_fmri/__init__.py").write_text("raise RuntimeError('it is not to be imported')")
    path = site / "laion_fmri/splits/data" / SUB / "random_0.json"
    tree.write_split(path, NAMES[4:], NAMES[:4])
    monkeypatch.syspath_prepend(site)
    assert set(Laion(root, subject="03").named_tests()["random_0"]) == ids & set(NAMES[:4])
    tree.write_split(path, NAMES[3:], NAMES[:4])
    with pytest.raises(DataError, match=r"random_0\.json.*either for training or for testing.*1 in both"):
        Laion(root, subject="03")


def test_integers_are_scaled_by_the_header(root: Path) -> None:
    floats = Laion(root, subject="03", zscore="no", sessions="2").responses()
    stored = np.rint(betas(2) / 0.01).astype(np.int16)
    replace_volume(tree.betas_path(root, SUB, 2), stored, slope=0.01)
    np.testing.assert_allclose(Laion(root, subject="03", zscore="no", sessions="2").responses(), floats, atol=0.006)


def test_volumes_of_another_order_grid_or_length_are_refused(root: Path) -> None:
    path = tree.betas_path(root, SUB, 2)
    whole = betas(2)
    changes = {
        r"\(22, 12, 11, 16\).*float32 of shape \(16, 11, 12, 22\), with axes in another order": whole.T,
        r"float32 of shape \(12, 22, 11, 16\), with axes in another order": whole.swapaxes(0, 1),
        r"float32 of shape \(22, 12, 11, 15\)\.": whole[..., :-1],
    }
    for match, values in changes.items():
        replace_volume(path, values)
        with pytest.raises(DataError, match=match):
            Laion(root, subject="03").responses()
    turned = tree.AFFINE.copy()
    turned[0] *= -1
    replace_volume(path, whole, affine=turned)
    with pytest.raises(DataError, match="another affine"):
        Laion(root, subject="03").responses()
    path.unlink()
    good = tree.betas_path(root, SUB, 1).read_bytes()
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(DataError, match="a damaged file"):
        Laion(root, subject="03").responses()


def test_voxels_without_data_are_left_out_and_counted_and_never_zeros(root: Path) -> None:
    at = np.argwhere(CORTEX)
    first, second = betas(1), betas(4)
    first[tuple(at[3])] = second[tuple(at[3])] = np.nan
    second[tuple(at[5])] = 0
    replace_volume(tree.betas_path(root, SUB, 1), first)
    replace_volume(tree.betas_path(root, SUB, 4), second)
    data = Laion(root, subject="03", zscore="no")
    kept = np.delete(np.arange(len(at)), [3, 5])
    expected = np.array([expected_mean(name) for name in data.stimuli.ids])[:, kept]
    np.testing.assert_allclose(data.responses(), expected, rtol=1e-6)
    said = " ".join(data.remarks())
    assert (
        f"of the {len(at)} voxels of laion-general: 0 without data in any session, and 2 without data in some" in said
    )
    second[(*at[9], 7)] = np.nan
    replace_volume(tree.betas_path(root, SUB, 4), second)
    with pytest.raises(DataError, match=rf"ses-04.*trial 8, voxel {'-'.join(map(str, at[9]))}.*session 4 out"):
        Laion(root, subject="03").responses()


def test_a_missing_session_shifts_no_other_and_is_told(root: Path) -> None:
    data = Laion(root, subject="03", zscore="no")
    said = " ".join(data.remarks())
    assert "sessions 1-2, 4: 48 trials" in said
    assert "sessions 3, 5-30 are not on this machine, 3 between others that are." in said
    assert "aws s3 cp --no-sign-request s3://laion-fmri/derivatives/glmsingle-tedana/sub-03/ses-03/func/" in said
    assert "sessions 1-2, 4: 48 trials" in data.about.responses
    with pytest.raises(DataError, match=r"no sub-03_ses-03_task-images_space-T1w.*aws s3 cp"):
        Laion(root, subject="03", sessions="1-4")
    tree.trials_path(root, SUB, 2).unlink()
    with pytest.raises(DataError, match=r"no sub-03_ses-02_task-images_desc-SingletrialBetas_trials\.tsv"):
        Laion(root, subject="03")


def test_covariates_say_what_was_shown_before_as_far_as_it_is_known(whole: Path) -> None:
    data = Laion(whole, subject="03", trials="single")
    found = data.covariates()
    assert found is not None
    assert data.response_ids is not None
    every = list(data.response_ids)
    old = [1.0 if name in every[:k] else (0.0 if k < 2 * N_TRIALS else np.nan) for k, name in enumerate(every)]
    np.testing.assert_array_equal(found["old"], old)  # session 3 may have shown what is new in session 4
    assert np.isnan(found["old"]).any()
    assert found["time"].tolist() == [*np.linspace(-1, 1, N_TRIALS)] * 3


@pytest.mark.parametrize(
    ("first", "session", "match"),
    [
        (1, 2, r"beta_index with each number from 0 to 15 once.*from 1 to 16, as if counted from 1"),
        (0, 3, r"trials of session 2.*session 3"),
    ],
)
def test_trials_that_count_from_one_or_are_of_another_session_are_refused(
    root: Path, first: int, session: int, match: str
) -> None:
    path = tree.trials_path(root, SUB, 2)
    path.unlink()
    tree.write_trials(path, session, labels(2), first)
    with pytest.raises(DataError, match=match):
        Laion(root, subject="03")


def test_what_is_missing_or_of_another_kind_is_told_with_the_next_step(root: Path) -> None:
    def refused(match: str, **options: str) -> None:
        with pytest.raises(DataError, match=match):
            Laion(root, **{"subject": "03", **options}).voxels()

    refused("one of 01, 03, 05, 06, 07", subject="02")
    refused("sub-05.*aws s3 sync --no-sign-request s3://laion-fmri/derivatives/glmsingle-tedana/sub-05", subject="05")
    refused("'all', or some of sessions 1 to 34", sessions="0-3")
    refused("masks of the ROI 'EBA'.*the ROIs EVC, FFA-1, V1v, V2v, laion-general, laion-ventral", voxels="EBA")
    refused("one of all, ood, shared, tau", ceiling="random_0")
    refused("the FreeSurfer folder of the subject.*no lh.white.*aws s3 sync", place="fsaverage")
    ceiling = tree.map_path(root, SUB, "desc-Noiseceiling12rep_statmap")
    replace_volume(ceiling, np.full(SHAPE, 112.0))
    refused("noise ceilings from 0 to below 100 %")
    replace_volume(ceiling, np.full(SHAPE, 0.6))
    refused("noise ceilings in per cent, some of them above 1; got numbers up to 0.6")
    replace_volume(ceiling, np.ones((3, 3, 3)))
    refused(r"the grid of the selected voxels.*shape \(3, 3, 3\)")
    table = root / "stimuli/task-images_metadata.csv"
    rows = table.read_text()
    table.unlink()
    table.write_text(rows.replace(NAMES[0], "another.jpg"))
    with pytest.raises(DataError, match=f"no {NAMES[0]}.*laion-fmri download-stimuli"):
        _ = Laion(root, subject="03").stimuli
    table.write_text(rows + rows.splitlines()[-1].replace("unique", "more") + "\n")
    with pytest.raises(DataError, match=r"shape \(25,\), but 26 rows in task-images_metadata\.csv"):
        Laion(root, subject="03").stimuli.image(0)
    table.unlink()
    stimuli = Laion(root, subject="03").stimuli
    assert stimuli.ids
    with pytest.raises(DataError, match=r"which says which image is which.*laion-fmri\.hebartlab\.com/request"):
        stimuli.image(0)


def test_a_full_disk_of_temporary_files_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(OutputError, match=r"expected room for 1 MiB of unpacked.*No space left.*Set TMPDIR"):
        Unpacked().read(Path(__file__), np.arange(2**18), 1, lambda: [], np.arange(1))


def test_betas_that_stay_unpacked_are_read_by_later_commands(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kept = tmp_path_factory.mktemp("kept") / "betas"
    options = {"subject": "03", "unpacked": str(kept), "zscore": "no"}
    first = Laion(root, **options).responses()
    files = sorted(kept.iterdir())
    assert [path.name[:13] for path in files] == [f"sub-03_ses-{session:02d}" for session in HERE]
    stamps = [path.stat().st_mtime_ns for path in files]
    np.testing.assert_array_equal(Laion(root, **options).responses(), first)
    assert [path.stat().st_mtime_ns for path in sorted(kept.iterdir())] == stamps
    files[0].write_bytes(files[0].read_bytes()[:-4])  # cut off
    replace_volume(tree.betas_path(root, SUB, 2), betas(2) + 1)
    changed = Laion(root, **options).responses()
    assert len([*kept.iterdir()]) == 4
    assert changed.mean() > first.mean() + 0.1
    np.testing.assert_array_equal(changed, Laion(root, subject="03", zscore="no").responses())


def write_cortex(root: Path, shift: float = 0, exchanged: bool = False, n: int | None = None) -> None:
    """Write the surfaces of the subject, whose registered sphere is turned by a known angle; n vertices, if few."""
    points, faces = fsaverage5("sphere", "lh")
    if n is not None:
        points, faces = points[:n], ConvexHull(points[:n]).simplices.astype(np.int32)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    centres = [*CENTRES.values()][:: -1 if exchanged else 1]
    middle = {hemi: centre + RADIUS * unit + shift for hemi, centre in zip(CENTRES, centres, strict=True)}
    tree.write_surfaces(root, SUB, middle, dict.fromkeys(CENTRES, 100 * unit @ TURN), faces)
    for name, direction in AREAS.items():
        group = "retinotopy" if name[0] == "V" else "face"
        for side in "LR":
            inside = cap("lh", direction, CENTRES["lh"] + RADIUS * unit)
            tree.write_surface_roi(tree.surface_roi_path(root, SUB, group, name, side), inside)


@pytest.fixture
def surfaces(root: Path) -> Path:
    """With the FreeSurfer folder, and ROIs on its surfaces."""
    write_cortex(root)
    return root


ANGLE = 0.3
TURN = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]])


class TestOnFsaverage(DatasetContract):
    @pytest.fixture
    def dataset(self, surfaces: Path) -> Laion:
        return Laion(surfaces, subject="03", place="fsaverage")

    def test_each_voxel_lies_where_its_direction_points(self, dataset: Laion, whole: Path) -> None:
        voxels, points = dataset.voxels(), Laion(whole, subject="03").voxels()
        assert voxels["voxel"].tolist() == points["voxel"].tolist()
        left = (points["x_mm"] < 0).to_numpy()
        assert (voxels["hemi"] == np.where(left, "lh", "rh")).all()
        centre = np.where(left[:, None], CENTRES["lh"], CENTRES["rh"])
        away = points[["x_mm", "y_mm", "z_mm"]].to_numpy(float) - centre
        expected = 100 * away / np.linalg.norm(away, axis=1, keepdims=True) @ TURN
        at = voxels[["x_mm", "y_mm", "z_mm"]].to_numpy()
        assert np.linalg.norm(at - expected, axis=1).max() < 3
        assert np.linalg.norm(sphere()[0][voxels["vertex"]] - at, axis=1).max() < 1
        assert voxels[["roi", "retinotopy", "ceiling"]].equals(points[["roi", "retinotopy", "ceiling"]])
        np.testing.assert_array_equal(dataset.responses(), Laion(whole, subject="03").responses())
        assert re.search(
            "(9[5-9]|100) % of the voxels of ROIs are at vertices of the same", " ".join(dataset.remarks())
        )


def test_voxels_at_one_vertex_have_places_between_its_neighbours(root: Path) -> None:
    write_cortex(root, n=42)
    data = Laion(root, subject="03", place="fsaverage")
    voxels, at = data.voxels(), data.coords_mm()
    assert len(np.unique(at, axis=0)) == len(at)
    assert len(voxels) > 2 * 2 * 42
    mm = millimetres()[CORTEX] - np.where(millimetres()[CORTEX][:, :1] < 0, CENTRES["lh"], CENTRES["rh"])
    expected = 100 * mm / np.linalg.norm(mm, axis=1, keepdims=True) @ TURN
    away = np.linalg.norm(voxels[["x_mm", "y_mm", "z_mm"]].to_numpy() - expected, axis=1)
    assert away.mean() < 12  # neighbouring vertices are 60 mm apart


def test_voxels_far_from_the_cortex_have_no_place(surfaces: Path) -> None:
    every = np.ones(SHAPE, np.uint8)
    replace_volume(tree.roi_path(surfaces, SUB, "selectivity", "laiongeneral"), every)
    data = Laion(surfaces, subject="03", place="fsaverage", zscore="no")
    near = np.minimum(depth("lh"), depth("rh")) <= 3
    assert abs(len(data.voxels()) - near.sum()) <= 5  # the mesh is a little inside the ball
    column = data.voxels()["voxel"].tolist().index("-".join(map(str, np.argwhere(near)[100])))
    expected = [
        np.mean([beta(n, s)[tuple(np.argwhere(near)[100])] for s in HERE for m in labels(s) if m == n])
        for n in data.stimuli.ids
    ]
    np.testing.assert_allclose(data.responses()[:, column], expected, rtol=1e-6)


def test_places_that_the_rois_do_not_confirm_are_refused(surfaces: Path) -> None:
    def refused(match: str) -> None:
        with pytest.raises(DataError, match=match):
            Laion(surfaces, subject="03", place="fsaverage").voxels()

    write_cortex(surfaces, exchanged=True)
    refused("lh surfaces to the left of rh surfaces.*left and right are exchanged")
    write_cortex(surfaces, shift=4)
    refused("at least 50 % of the voxels of ROIs at vertices of the same ROIs")
    for path in (surfaces / "derivatives/rois").rglob("*.gii"):
        path.unlink()
    refused("no ROI that is given in both, so that nothing shows it")


def test_masks_of_hemispheres_tell_left_from_right(root: Path) -> None:
    for name, (hemi, side) in {"OFA": ("lh", "L"), "OPA": ("rh", "R")}.items():
        tree.write_volume(tree.roi_path(root, SUB, "more", name, side), (depth(hemi) < 1).astype(np.uint8))
    voxels = Laion(root, subject="03").voxels()
    assert (voxels["hemi"] == np.where(voxels["x_mm"] < 0, "lh", "rh")).all()
    for name, (hemi, side) in {"OFA": ("rh", "L"), "OPA": ("lh", "R")}.items():
        replace_volume(tree.roi_path(root, SUB, "more", name, side), (depth(hemi) < 1).astype(np.uint8))
    with pytest.raises(DataError, match="left and right are exchanged"):
        Laion(root, subject="03").voxels()


def test_the_commands_read_it_by_name(whole: Path, tmp_path: Path) -> None:
    def said(*words: object) -> str:
        result = CliRunner().invoke(app, [*map(str, words)])
        assert result.exit_code == 0, result.output
        return " ".join(result.output.split())

    name, out = f"laion:{whole},subject=03", tmp_path / "ood.json"
    checked = said("data", "check", name)
    data = Laion(whole, subject="03")
    assert f"hemisphere not known {CORTEX.sum()}" in checked
    assert re.search(r"test sets ood 2, shared \d, tau \d", checked)
    assert "public domain (CC0)" in checked
    assert checked.endswith("good: all images and responses can be read")
    assert "2 test (ood)" in said("data", "split", name, "ood", "--out", out)
    parts = json.loads(out.read_text())
    assert sorted(chain.from_iterable(parts.values())) == sorted(data.stimuli.ids)
    assert set(parts["test"]) == set(data.named_tests()["ood"])
