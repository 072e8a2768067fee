"""NSD as it lies on disk: trial → image → response, and each trap on the way."""

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from bddn.cli import app
from bddn.cortex.fsaverage import HEMISPHERES, N_VERTICES, sphere
from bddn.data.nsd.files import N_SESSIONS
from bddn.data.nsd.nsd import Nsd
from bddn.data.plugins import open_dataset
from bddn.errors import DataError
from bddn.testing import DatasetContract
from data import nsd_tree as tree

VERTICES = {"lh": np.array([3, 40, 500, 9_000, 120_000]), "rh": np.array([7, 40, 163_841])}
HERE = (1, 2, 4)
N_TRIALS = 12
POOL = np.concatenate([np.arange(80), np.arange(1000, 1080)])
"""80 shared images and 80 of the subject's own, as rows of the design, of which each comes three times."""
KASTNER = {"lh": {3: 1, 40: 2, 500: 25}, "rh": {7: 7}}
SIDE = 5
HEAVY = {"lh": np.array([0.2, 0.5, 1.0, 0.0, np.nan]), "rh": np.array([2.0, 0.7, 0.3])}  # ncsnr


def order() -> np.ndarray:
    """Which of the subject's images came in each trial, counted from 1."""
    slots = np.random.default_rng(1).permutation(np.repeat(POOL, 3))
    slots[:2] = slots[2]  # an image twice more, in the same session
    return slots[: 40 * N_TRIALS] + 1


def beta(image: int, hemi: str, vertex: int, session: int) -> float:
    """The beta that stands for an image (from 0), hemisphere, vertex and session, unlike any other; in per cent."""
    place = 0.01 * VERTICES[hemi].tolist().index(vertex) + (0.5 if hemi == "rh" else 0)
    return float(image % 997 + place + 1000 * session)


def shown(session: int, subject: int = 1) -> list[int]:
    """The images (from 0) of the trials of a session."""
    images = tree.subject_images()[subject - 1]
    return [int(images[slot - 1]) - 1 for slot in order()[(session - 1) * N_TRIALS : session * N_TRIALS]]


def values(session: int) -> dict[str, np.ndarray]:
    return {
        hemi: np.array([[beta(image, hemi, v, session) for v in VERTICES[hemi]] for image in shown(session)])
        for hemi in HEMISPHERES
    }


def picture(image: int) -> np.ndarray:
    """The pixels of an image (from 0), unlike any other."""
    return np.random.default_rng(image).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Subject 1 with sessions 1, 2 and 4 of 12 trials, 5 left and 3 right vertices."""
    tree.write_design(tmp_path, order(), tree.subject_images())
    for session in HERE:
        tree.write_session(tmp_path, session, VERTICES, values(session))
    tree.write_mask(tmp_path, VERTICES)
    for hemi in HEMISPHERES:
        tree.write_labels(tree.label_path(tmp_path, hemi, "Kastner2015"), KASTNER[hemi])
    ncsnr = []
    for hemi in HEMISPHERES:
        whole = np.zeros(N_VERTICES)
        whole[VERTICES[hemi]] = HEAVY[hemi]
        ncsnr.append(whole)
    tree.write_ncsnr(tmp_path, 1, ncsnr)
    tree.write_images(tree.stimuli_path(tmp_path), 73_000, {k: picture(k) for s in HERE for k in shown(s)})
    return tmp_path


class TestNsd(DatasetContract):
    @pytest.fixture
    def dataset(self, root: Path) -> Nsd:
        return Nsd(root, subject="1")


def columns() -> list[tuple[str, int]]:
    return [(hemi, int(vertex)) for hemi in HEMISPHERES for vertex in VERTICES[hemi]]


def expected_mean(image: int) -> list[float]:
    """The mean beta over the trials of an image at every vertex."""
    sessions = [session for session in HERE for one in shown(session) if one == image]
    return [float(np.mean([beta(image, hemi, v, session) for session in sessions])) for hemi, v in columns()]


def test_the_responses_of_an_image_are_those_of_its_trials_at_its_vertices(root: Path) -> None:
    """Off by one in any index, swapped hemispheres or a shifted session give other numbers, because each beta is
    unlike any other."""
    data = Nsd(root, subject="1", zscore="no")
    ids = data.stimuli.ids
    assert ids == tuple(f"nsd-{k:05d}" for k in sorted({image for session in HERE for image in shown(session)}))
    expected = np.array([expected_mean(int(name.removeprefix("nsd-"))) for name in ids])
    np.testing.assert_allclose(data.responses(), expected, rtol=1e-6)
    voxels = data.voxels()
    assert list(zip(voxels["hemi"], voxels["vertex"], strict=True)) == columns()
    shift = np.where(voxels["hemi"] == "rh", 300, 0)[:, None] * [1, 0, 0]
    np.testing.assert_allclose(data.coords_mm(), sphere()[0][voxels["vertex"]] + shift, atol=1e-4)


def test_an_image_that_came_several_times_in_a_session_counts_each_time(root: Path) -> None:
    first = shown(1)
    image = first[0]
    assert first.count(image) >= 3
    n = sum(shown(session).count(image) for session in HERE)
    data = Nsd(root, subject="1")
    assert data.n_trials[data.stimuli.ids.index(f"nsd-{image:05d}")] == n


def test_pixels_are_those_of_the_image_of_the_id(root: Path) -> None:
    stimuli = Nsd(root, subject="1").stimuli
    for i, name in enumerate(stimuli.ids):
        np.testing.assert_array_equal(np.asarray(stimuli.image(i)), picture(int(name.removeprefix("nsd-"))))
    assert len({stimuli.sha256(i) for i in range(len(stimuli))}) == len(stimuli)
    assert stimuli.place(0) == f"{tree.stimuli_path(root)}, row {int(stimuli.ids[0].removeprefix('nsd-'))}"


def test_z_scores_are_within_each_session_as_in_the_algonauts_data(root: Path) -> None:
    data = Nsd(root, subject="1")
    sums, n = {name: np.zeros(8) for name in data.stimuli.ids}, dict.fromkeys(data.stimuli.ids, 0)
    for session in HERE:
        both = values(session)
        scaled = StandardScaler().fit_transform(np.concatenate([both[hemi] for hemi in HEMISPHERES], axis=1))
        for image, row in zip(shown(session), scaled, strict=True):
            sums[f"nsd-{image:05d}"] += row
            n[f"nsd-{image:05d}"] += 1
    expected = np.array([sums[name] / n[name] for name in data.stimuli.ids])
    np.testing.assert_allclose(data.responses(), expected, atol=2e-4)
    assert np.abs(data.responses()).max() < 5


def test_integers_are_divided_by_300_and_floats_are_not(root: Path) -> None:
    as_floats = Nsd(root, subject="1", zscore="no", sessions="2").responses()
    whole = {hemi: np.round(300 * found) for hemi, found in values(2).items()}
    tree.write_session(root, 2, VERTICES, whole, dtype=">i4")
    data = Nsd(root, subject="1", zscore="no", sessions="2")
    np.testing.assert_allclose(data.responses(), as_floats, atol=1 / 300)
    small = {hemi: np.round(found - 2000) for hemi, found in values(2).items()}
    tree.write_session(root, 2, VERTICES, small, dtype=">i2")
    short = Nsd(root, subject="1", zscore="no", sessions="2")
    row = short.stimuli.ids.index(f"nsd-{shown(2)[0]:05d}")
    assert short.responses()[row, 0] == pytest.approx(small["lh"][0, 0] / 300, rel=1e-5)


def test_rows_that_are_read_alone_are_those_of_the_whole(root: Path) -> None:
    whole = Nsd(root, subject="1").responses()
    data = Nsd(root, subject="1")
    for rows in (np.array([5]), np.array([7, 2, 7]), np.arange(len(whole))[::-1], np.zeros(0, np.intp)):
        np.testing.assert_array_equal(data.responses(rows), whole[rows])


class TestSingleTrials(DatasetContract):
    @pytest.fixture
    def dataset(self, root: Path) -> Nsd:
        return Nsd(root, subject="1", trials="single")

    def test_each_trial_has_the_response_and_the_id_of_its_image(self, root: Path) -> None:
        data = Nsd(root, subject="1", trials="single", zscore="no")
        images = [(image, session) for session in HERE for image in shown(session)]
        assert data.response_ids == tuple(f"nsd-{image:05d}" for image, _ in images)
        expected = [[beta(image, hemi, v, session) for hemi, v in columns()] for image, session in images]
        np.testing.assert_allclose(data.responses(), expected, rtol=1e-6)
        assert data.stimuli == Nsd(root, subject="1").stimuli

    def test_means_over_trials_are_the_responses_to_images(self, root: Path) -> None:
        trials, means = Nsd(root, subject="1", trials="single"), Nsd(root, subject="1")
        assert means.response_ids is None
        assert trials.response_ids is not None
        of_image = pd.DataFrame(trials.responses()).groupby(np.array(trials.response_ids)).mean()
        np.testing.assert_allclose(of_image.loc[list(means.stimuli.ids)], means.responses(), atol=1e-5)

    def test_ceilings_are_those_of_one_trial(self, dataset: Nsd) -> None:
        snr = np.concatenate([HEAVY[hemi] for hemi in HEMISPHERES]).astype(np.float32).astype(float)
        np.testing.assert_allclose(dataset.voxels()["ceiling"], snr**2 / (snr**2 + 1))

    def test_covariates_say_which_image_was_shown_before_and_when(self, dataset: Nsd) -> None:
        found = dataset.covariates()
        assert found is not None
        every = (order() - 1).tolist()
        rows = [(session - 1) * N_TRIALS + k for session in HERE for k in range(N_TRIALS)]
        assert found["old"].tolist() == [float(every[row] in every[:row]) for row in rows]
        assert 0 < found["old"].mean() < 1
        assert found["time"].tolist() == [*np.linspace(-1, 1, N_TRIALS)] * 3


def test_a_missing_session_shifts_no_other_and_is_told(root: Path) -> None:
    data = Nsd(root, subject="1", zscore="no")
    assert data.experiment.used == HERE
    said = " ".join(data.remarks())
    assert "sessions 1-2, 4: 36 trials" in said
    assert "sessions 3, 5-40 are not on this machine, 3 between others that are." in said
    assert "s3://natural-scenes-dataset/nsddata_betas/ppdata/subj01/fsaverage/betas_fithrf_GLMdenoise_RR/" in said
    assert "sessions 1-2, 4: 36 trials" in data.about.responses
    only = Nsd(root, subject="1", zscore="no", sessions="1+4")
    assert {*only.stimuli.ids} == {f"nsd-{image:05d}" for session in (1, 4) for image in shown(session)}
    with pytest.raises(DataError, match=r"lh\.betas_session03\.mgh, rh\.betas_session03\.mgh.*aws s3 cp"):
        Nsd(root, subject="1", sessions="1-4")


def test_a_session_with_one_hemisphere_is_refused(root: Path) -> None:
    tree.betas_path(root, "rh", 2).unlink()
    with pytest.raises(DataError, match=r"no rh\.betas_session02\.mgh"):
        Nsd(root, subject="1")


def test_vertices_without_data_are_left_out_and_counted_and_never_zeros(root: Path) -> None:
    both = {session: values(session) for session in HERE}
    for session in HERE:
        both[session]["lh"][:, 1] = np.nan
    both[4]["rh"][:, 0] = np.nan
    both[4]["rh"][:, 2] = 0
    for session in HERE:
        tree.write_session(root, session, VERTICES, both[session])
    data = Nsd(root, subject="1", zscore="no")
    kept = [0, 2, 3, 4, 6]
    voxels = data.voxels()
    assert list(zip(voxels["hemi"], voxels["vertex"], strict=True)) == [columns()[k] for k in kept]
    expected = [expected_mean(int(name.removeprefix("nsd-"))) for name in data.stimuli.ids]
    np.testing.assert_allclose(data.responses(), np.array(expected)[:, kept], rtol=1e-6)
    said = " ".join(data.remarks())
    assert "8 voxels of nsdgeneral: 1 without data in any session, and 2 without data in some" in said
    assert "most of them in session 4" in said
    assert Nsd(root, subject="1", sessions="1-2").responses().shape[1] == 7


def test_a_single_beta_that_is_no_number_is_refused_with_its_place(root: Path) -> None:
    wrong = values(2)
    wrong["rh"][1, 1] = np.nan
    tree.write_session(root, 2, VERTICES, wrong)
    with pytest.raises(DataError, match=r"rh\.betas_session02\.mgh.*trial 2, vertex 40.*session 2"):
        Nsd(root, subject="1").responses()


def test_a_vertex_that_does_not_vary_in_a_session_has_no_z_score(root: Path) -> None:
    wrong = values(2)
    wrong["rh"][:, 1] = 3.5
    tree.write_session(root, 2, VERTICES, wrong)
    with pytest.raises(DataError, match="constant betas in session 2 at 1 voxels, the first vertex 40"):
        Nsd(root, subject="1").responses()


def test_ceilings_are_those_of_the_trials_that_the_images_have(root: Path) -> None:
    data = Nsd(root, subject="1")
    snr = np.concatenate([HEAVY[hemi] for hemi in HEMISPHERES]).astype(np.float32).astype(float)
    trials = data.n_trials
    assert len(set(trials.tolist())) > 1
    np.testing.assert_allclose(data.voxels()["ceiling"], snr**2 / (snr**2 + np.mean(1 / trials)))
    chosen = {*data.named_tests()["shared1000"]}
    some = trials[[name in chosen for name in data.stimuli.ids]]
    of_shared = Nsd(root, subject="1", ceiling="shared1000").voxels()["ceiling"]
    np.testing.assert_allclose(of_shared, snr**2 / (snr**2 + np.mean(1 / some)))
    for hemi in HEMISPHERES:
        tree.betas_path(root, hemi, 1).with_name(f"{hemi}.ncsnr.mgh").unlink()
    without = Nsd(root, subject="1")
    assert without.voxels()["ceiling"].isna().all()
    assert any("noise ceilings are unknown without" in words for words in without.remarks())


def test_labels_have_their_names_and_other_definitions_another_one(root: Path) -> None:
    kastner = ["V1v", "V1d", "FEF", "", "", "hV4", "", ""]
    voxels = Nsd(root, subject="1").voxels()
    assert voxels["Kastner2015"].tolist() == voxels["roi"].tolist() == kastner
    for hemi, labels in {"lh": {40: 1, 9_000: 2}, "rh": {7: 3}}.items():
        tree.write_labels(tree.label_path(root, hemi, "HCP_MMP1"), labels)
        own = tree.label_path(root, hemi, "prf-visualrois")
        tree.write_labels(own.parent / "subj01" / own.name, labels)
    tree.label_path(root, "lh", "HCP_MMP1").with_name("HCP_MMP1.mgz.ctab").write_text("0 Unknown\n1 V1\n2 MST\n3 V6\n")
    voxels = Nsd(root, subject="1").voxels()
    assert voxels["HCP_MMP1"].tolist() == ["", "HCP-V1", "", "HCP-MST", "", "HCP-V6", "", ""]
    assert voxels["prf-visualrois"].tolist() == voxels["roi"].tolist() == ["", "V1v", "", "V1d", "", "V2v", "", ""]
    assert voxels["Kastner2015"].tolist() == [f"Kastner-{name}" if name else "" for name in kastner]


def test_labels_of_the_native_surface_are_told_with_the_official_tool(root: Path) -> None:
    said = " ".join(Nsd(root, subject="1").remarks())
    assert "nsdcode" in said
    assert "nsddata/freesurfer/fsaverage/label/subj01/lh.prf-visualrois.mgz" in said
    tree.write_labels(tree.label_path(root, "lh", "floc-faces"), {3: 1})
    with pytest.raises(DataError, match=r"differs between subjects.*label/subj01"):
        Nsd(root, subject="1").voxels()


def test_other_vertices_can_be_chosen(root: Path) -> None:
    assert Nsd(root, subject="1", voxels="Kastner2015").voxels()["vertex"].tolist() == [3, 40, 500, 7]
    every = Nsd(root, subject="1", voxels="all")  # those of nsdgeneral are the only ones with data in this tree
    assert every.voxels()["vertex"].tolist() == [vertex for _, vertex in columns()]
    with pytest.raises(DataError, match=r"lh\.streams\.mgz.*labels are here: Kastner2015, nsdgeneral.*For other .*aws"):
        Nsd(root, subject="1", voxels="streams")


TRIALS = (30_000, 30_000, 24_000, 22_500, 30_000, 24_000, 30_000, 22_500)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All sessions of all subjects, with 750 trials, but empty files; also files beyond the last session."""
    root = tmp_path_factory.mktemp("nsd")
    slots = np.random.default_rng(0).permutation(np.repeat(np.arange(10_000), 3)) + 1
    tree.write_design(root, slots, tree.subject_images())
    tree.write_mask(root, VERTICES)
    for subject in range(1, 9):
        tree.betas_path(root, "lh", 1, subject).parent.mkdir(parents=True)
        for session in range(1, 41):
            for hemi in HEMISPHERES:
                tree.betas_path(root, hemi, session, subject).touch()
    return root


@pytest.mark.parametrize("subject", range(1, 9))
def test_every_subject_has_the_trials_of_its_sessions(full: Path, subject: int) -> None:
    n, last = TRIALS[subject - 1], N_SESSIONS[subject - 1]
    data = Nsd(full, subject=f"{subject}")
    assert data.n_trials.sum() == n
    assert f"sessions 1-{last}: {n} trials of {len(data.stimuli)} images" in data.about.responses
    before = Nsd(full, subject=f"{subject}", sessions=f"1-{last - 3}")  # as in the Algonauts data
    assert before.n_trials.sum() == n - 3 * 750


def test_named_tests_are_the_same_images_for_all_subjects(full: Path) -> None:
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(10_000), 3))
    times = np.bincount(order[: 30 * 750], minlength=10_000)[:1000]
    numbers = np.sort(tree.subject_images()[0][:1000][times == 3]) - 1
    expected = tuple(f"nsd-{number:05d}" for number in numbers)
    for subject in ("1", "4"):
        data = Nsd(full, subject=subject)
        tests = data.named_tests()
        assert tests["shared515"] == expected
        assert tests["shared284"] == expected[:284]
        assert {*expected} < {*tests["shared1000"]}
        counted = dict(zip(data.stimuli.ids, data.n_trials, strict=True))
        assert {counted[name] for name in expected} == {3}
        last = N_SESSIONS[int(subject) - 1]
        earlier = Nsd(full, subject=subject, sessions=f"1-{last - 5}").stimuli.ids
        assert {*tests["last5"]} == {*data.stimuli.ids} - {*earlier}


def refused(root: Path, match: str, **options: str) -> None:
    with pytest.raises(DataError, match=match):
        Nsd(root, **{"subject": "1", **options}).responses()


def damaged(root: Path, change: Any) -> None:
    images = tree.subject_images()
    tree.write_design(root, *change(order(), images))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda o, i: (o - 1, i), r"masterordering of whole numbers from 1 to 10000.*from 0"),
        (lambda o, i: (o, i - 1), r"subjectim of whole numbers from 1 to 73000.*from 0"),
        (lambda o, i: (o[:-1], i), "40 sessions of equal length"),
        (lambda o, i: (o, i[:7]), "8 rows"),
        (lambda o, i: (o, np.where(i == i[0, 2000], i[0, 2001], i)), "each image once"),
    ],
    ids=["ordering from 0", "images from 0", "a trial short", "a subject short", "an image twice"],
)
def test_designs_that_do_not_count_from_one_or_do_not_fit_are_refused(root: Path, change: Any, match: str) -> None:
    damaged(root, change)
    refused(root, match)


def test_files_of_another_kind_are_refused_with_the_official_place(root: Path, tmp_path: Path) -> None:
    refused(root / "nowhere", "no such folder")
    refused(root, "a number from 1 to 8", subject="9")
    refused(root, "one of b2, b3", betas="b4")
    refused(root, "some of sessions 1 to 40", sessions="0-3")
    refused(root, "some of sessions 1 to 40", sessions="3-1")
    refused(root, "one of all, shared", ceiling="shared5")
    refused(root, r"betas_fithrf/.*lh\.betas_session01\.mgh", betas="b2")
    mgh = tree.betas_path(root, "lh", 4)
    whole = mgh.read_bytes()
    mgh.write_bytes(whole[:-1000])
    refused(root, "an incomplete copy")
    mgh.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    refused(root, "Git LFS pointer")
    tree.write_mgh(mgh, np.arange(5), np.ones((N_TRIALS, 5)), n=1000)
    refused(root, "163842 vertices of fsaverage in 12 trials.*1000 vertices, 12 trials")
    tree.write_mgh(mgh, VERTICES["lh"], values(4)["lh"][:-1])
    refused(root, "163842 vertices, 11 trials")
    mgh.write_bytes(whole)
    design = root / "nsddata/experiments/nsd/nsd_expdesign.mat"
    design.write_bytes(design.read_bytes()[:300])
    refused(root, "a MATLAB file with masterordering")
    design.unlink()
    tree.label_path(root, "lh", "nsdgeneral").unlink()
    refused(root, r"no nsddata/experiments/nsd/nsd_expdesign\.mat, nsddata/freesurfer.*lh\.nsdgeneral\.mgz.*aws s3 cp")


def test_without_the_file_of_images_ids_alone_are_known(root: Path) -> None:
    tree.stimuli_path(root).unlink()
    stimuli = Nsd(root, subject="1").stimuli
    assert not stimuli.paths[0].exists()
    with pytest.raises(
        DataError, match=r"no such file.*s3://natural-scenes-dataset/nsddata_stimuli/stimuli/nsd/nsd_st"
    ):
        stimuli.image(0)


def test_it_is_opened_by_name(root: Path) -> None:
    data = open_dataset(f"nsd:{root},subject=1,sessions=1-2,zscore=no")
    assert data.name == f"nsd:{root},subject=1,sessions=1-2,zscore=no"
    assert len(data.voxels()) == 8


def test_options_are_read_or_refused_by_what_is_wrong_with_them(root: Path) -> None:
    assert open_dataset(f"nsd:{root}, subject=1, zscore=no").name == f"nsd:{root},subject=1,zscore=no"
    for wrong in (",subject=1,", ",SUBJECT=1", ",subject=1,zscore=no;betas=b3,"):
        with pytest.raises(DataError, match=f"options at its end, .* got '{wrong}'"):
            open_dataset(f"nsd:{root}{wrong}")


def test_images_that_are_no_bytes_are_refused(root: Path) -> None:
    tree.stimuli_path(root).unlink()
    with h5py.File(tree.stimuli_path(root), "w") as file:
        file.create_dataset("imgBrick", (73_000, 3, 3, 3), np.float32, chunks=(1, 3, 3, 3))
    with pytest.raises(DataError, match="no images of uint8, but an array of float32"):
        Nsd(root, subject="1").stimuli.image(0)


def test_a_file_of_images_that_cannot_be_read_is_told_once(root: Path) -> None:
    tree.stimuli_path(root).write_bytes(b"<!DOCTYPE html><html></html>")
    result = CliRunner().invoke(app, ["data", "check", f"nsd:{root},subject=1"])
    text = " ".join(result.output.split())
    assert result.exit_code == 2
    assert re.search(r"got \S+nsd_stimuli\.hdf5, row \d+ and 30 more \(an HTML page[^)]*\)\. Download the file", text)
    assert text.count("HTML") == 1
