"""Own data of each kind: the numbers, places, labels and ceilings are those that the lab wrote."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
import yaml
import zarr

from bddn.cortex.frames import NativeMesh, Volume
from bddn.data.ceiling import ceiling_of_trials
from bddn.data.dataset_check import inspect_dataset
from bddn.data.own.own_data import OwnData
from bddn.errors import DataError
from bddn.testing import DatasetContract
from data.own_trees import (
    AFFINE,
    AREAS,
    MAKERS,
    N_MESH,
    STRUCTURES,
    Lab,
    make,
    on_mesh,
    small_lab,
    virtual_betas,
    write_gifti,
)

LAB = "lab"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return small_lab(tmp_path_factory.mktemp(LAB) / "pictures")


@pytest.fixture(scope="module", params=MAKERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def path(kind: str, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp(LAB) / kind, kind, lab)


class TestOwnData(DatasetContract):
    @pytest.fixture
    def dataset(self, path: Path) -> OwnData:
        return OwnData(path)


def test_what_the_lab_wrote_is_read(kind: str, path: Path, lab: Lab) -> None:
    data = OwnData(path)
    voxels = data.voxels()
    assert data.stimuli.ids == tuple(lab.pictures)
    np.testing.assert_allclose(data.responses(), lab.responses, rtol=1e-6)
    if kind != "hdf5":
        assert voxels["roi"].tolist() == lab.areas
    if kind in ("npy", "electrodes"):
        np.testing.assert_array_equal(voxels["ceiling"], lab.ceilings)
    if kind in ("npy", "hdf5", "gifti"):
        assert voxels["vertex"].tolist() == lab.vertex.tolist()
        assert "x_mm" not in voxels
    if kind in ("cifti", "native"):
        assert voxels["voxel"].tolist() == lab.vertex.tolist()
        assert data.frame == NativeMesh({"lh": N_MESH, "rh": N_MESH})
        assert voxels["vertex"].between(0, 163_841).all()
    if kind != "nifti":
        assert voxels["hemi"].tolist() == ["lh"] * 5 + ["rh"] * 3


def test_repeats_are_averaged_and_give_the_ceilings(lab: Lab, tmp_path: Path) -> None:
    data = OwnData(make(tmp_path / "hdf5", "hdf5", lab))
    assert data.about.trials == "averaged"
    assert data.remarks() == ["12 responses to 6 images are averaged over repeats"]
    noise = 0.4 * np.sign(np.sin(np.arange(lab.responses.size) + 1)).reshape(lab.responses.shape)
    trials = np.concatenate([lab.responses + noise, lab.responses - noise]).astype(np.float32)
    expected = ceiling_of_trials(trials, np.tile(np.arange(6), 2), 2)
    np.testing.assert_allclose(data.voxels()["ceiling"], expected, rtol=1e-5)


def test_a_mask_gives_positions_and_a_volume(lab: Lab, tmp_path: Path) -> None:
    data = OwnData(make(tmp_path / "nifti", "nifti", lab))
    assert isinstance(data.frame, Volume)
    place = np.array([[int(one) for one in name.split("-")] for name in data.voxels()["voxel"]])
    expected = place @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    np.testing.assert_array_equal(data.coords_mm(), expected.astype(np.float32))
    np.testing.assert_array_equal(data.voxels()["hemi"], np.where(expected[:, 0] < 0, "lh", "rh"))


def edited(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize("order", ["numpy", "matlab"])
def test_columns_of_a_mask_are_in_the_order_that_is_said(order: str, lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "nifti", "nifti", lab)
    whole = OwnData(path)
    columns = np.arange(8)
    if order == "matlab":
        place = np.array([[int(one) for one in name.split("-")] for name in whole.voxels()["voxel"]])
        columns = np.lexsort((place[:, 0], place[:, 1], place[:, 2]))
        assert columns.tolist() != list(range(8))
    np.save(path.parent / "betas.npy", lab.responses[:, columns])
    edited(path, "[betas_ses-1.nii.gz, betas_ses-2.nii.gz]", "betas.npy\n  images: rows")
    edited(path, "space: MNI", f"space: MNI\n  order: {order}")
    listed = OwnData(path)
    by_name = [dict(zip(data.voxels()["voxel"], data.responses()[3], strict=True)) for data in (whole, listed)]
    assert by_name[0] == by_name[1]
    areas = [dict(zip(data.voxels()["voxel"], data.voxels()["roi"], strict=True)) for data in (whole, listed)]
    assert areas[0] == areas[1]


@pytest.mark.parametrize("order", ["numpy", "matlab"])
def test_arrays_of_a_mask_that_is_a_whole_box_are_in_the_order_that_is_said(
    order: str, lab: Lab, tmp_path: Path
) -> None:
    path = make(tmp_path / "nifti", "nifti", lab)
    box = np.arange(8).reshape(2, 2, 2)
    listed = box.ravel(order="F" if order == "matlab" else "C")
    nibabel.save(nibabel.Nifti1Image(np.ones(box.shape, np.uint8), AFFINE), path.parent / "mask.nii.gz")
    np.save(path.parent / "betas.npy", lab.responses[:, listed])
    np.save(path.parent / "numbers.npy", listed + 1)
    edited(path, "[betas_ses-1.nii.gz, betas_ses-2.nii.gz]", "betas.npy\n  images: rows")
    edited(path, "visual_areas.nii.gz, labels: {1: V1, 2: V2, 3: hV4}", "numbers.npy, labels: {2: V1}")
    data = OwnData(edited(path, "space: MNI", f"space: MNI\n  order: {order}"))
    place = [tuple(map(int, name.split("-"))) for name in data.voxels()["voxel"]]
    np.testing.assert_array_equal(data.responses(), lab.responses[:, [box[one] for one in place]])
    assert data.voxels()["roi"].tolist() == ["V1" if box[one] == 1 else "" for one in place]


def test_places_and_voxels_are_understood_in_files_of_both_forms(lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "npy", "npy", lab)
    for side, part in lab.sides.items():
        whole: Any = np.full((len(lab.responses), N_MESH), 7.0)
        whole[:, lab.vertex[part]] = lab.responses[:, part]
        zarr.save_array(path.parent / f"{side}_whole.zarr", whole)
        edited(path, f"{side}_responses.npy", f"{side}_whole.zarr")
    np.testing.assert_array_equal(OwnData(path).responses(), lab.responses)


def voxels_that_are_left_out(path: Path, lab: Lab, leave_out: str) -> OwnData:
    left, right = lab.responses[:, :5].copy(), lab.responses[:, 5:].copy()
    left[2, 1], left[:, 3], right[:, 0] = np.nan, np.nan, 4
    np.save(path.parent / "lh_responses.npy", left)
    np.save(path.parent / "rh_responses.npy", right)
    return OwnData(edited(path, "fsaverage: fsaverage5", f"fsaverage: fsaverage5\n  leave_out: {leave_out}"))


@pytest.mark.parametrize(("leave_out", "kept"), [("[nan]", [0, 2, 4, 5, 6, 7]), ("[nan, constant]", [0, 2, 4, 6, 7])])
def test_voxels_are_left_out_and_counted(leave_out: str, kept: list[int], lab: Lab, tmp_path: Path) -> None:
    data = voxels_that_are_left_out(make(tmp_path / "npy", "npy", lab), lab, leave_out)
    voxels = data.voxels()
    assert voxels["vertex"].tolist() == lab.vertex[kept].tolist()
    assert voxels["roi"].tolist() == [lab.areas[i] for i in kept]
    np.testing.assert_array_equal(voxels["ceiling"], lab.ceilings[kept])
    assert data.responses().shape == (6, len(kept))
    assert f"{8 - len(kept)} voxels left out ({leave_out[1:-1]})" in data.remarks()


@pytest.mark.parametrize(
    ("unit", "stored"),
    [
        ("r", np.sqrt),
        ("percent", lambda c: 100 * c),
        ("ncsnr\n  n_trials: 3", lambda c: np.sqrt(c / (1 - c) / 3)),
    ],
)
def test_ceilings_in_other_units(
    unit: str, stored: Callable[[np.ndarray], np.ndarray], lab: Lab, tmp_path: Path
) -> None:
    path = make(tmp_path / "npy", "npy", lab)
    for side, part in lab.sides.items():
        np.save(path.parent / f"{side}_nc.npy", stored(lab.ceilings[part]))
    new = f"ceiling:\n  lh: lh_nc.npy\n  rh: rh_nc.npy\n  unit: {unit}"
    data = OwnData(edited(path, "ceiling: {table: voxels.csv, column: noise_ceiling}", new))
    np.testing.assert_allclose(data.voxels()["ceiling"], lab.ceilings, rtol=1e-6)


def test_what_the_owner_does_not_state_is_said(lab: Lab, tmp_path: Path) -> None:
    stated = OwnData(make(tmp_path / "npy", "npy", lab)).about
    assert stated.terms == "Data terms: CC BY 4.0."
    assert stated.references == ("Author A (2025). Title. Journal.",)
    silent = OwnData(make(tmp_path / "gifti", "gifti", lab)).about
    assert silent.terms == "Data terms: not stated."
    assert "citation of the data is not stated" in silent.responses
    assert not silent.shows_images


def test_tables_of_spreadsheets_are_read(lab: Lab, tmp_path: Path) -> None:
    """A byte order mark, semicolons, spaces around cells, and Parquet with numbers as ids."""
    path = make(tmp_path / "npy", "npy", lab)
    before = OwnData(path).stimuli
    table = pd.read_csv(path.parent / "stimuli.csv")
    text = "".join(f" {one} ; {file} \r\n" for one, file in [("id", "file"), *table.itertuples(index=False)])
    (path.parent / "stimuli.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert OwnData(path).stimuli == before
    table.assign(id=range(6)).to_parquet(path.parent / "stimuli.parquet")
    edited(path, "stimuli.csv", "stimuli.parquet")
    assert OwnData(path).stimuli.ids == tuple("012345")


def test_tables_of_pandas_and_r_are_read(lab: Lab, tmp_path: Path) -> None:
    """Row numbers without a name, and their words for what is not known."""
    path = make(tmp_path / "npy", "npy", lab)
    before = OwnData(path)
    pd.read_csv(path.parent / "stimuli.csv").to_csv(path.parent / "stimuli.csv")
    table = pd.read_csv(path.parent / "voxels.csv")
    table.loc[0, "noise_ceiling"] = np.nan
    table.to_csv(path.parent / "voxels.csv", na_rep="NA")
    data = OwnData(path)
    assert data.stimuli == before.stimuli
    assert data.voxels()["roi"].tolist() == lab.areas
    np.testing.assert_array_equal(data.voxels()["ceiling"], [np.nan, *lab.ceilings[1:]])


@pytest.mark.parametrize("texts", [np.array, lambda areas: np.array(areas, "S"), lambda areas: np.array(areas, object)])
def test_labels_in_hdf5_are_texts(texts: Callable[[list[str]], Any], lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "npy", "npy", lab)
    stored = texts(lab.areas)
    if stored.dtype.kind == "U":
        np.save(path.parent / "areas.npy", stored)
    else:
        with h5py.File(path.parent / "areas.npy", "w") as file:
            file["areas"] = stored
    edited(path, "table: voxels.csv, column: area", f"file: areas.npy{', key: areas' * (stored.dtype.kind != 'U')}")
    assert OwnData(path).voxels()["roi"].tolist() == lab.areas


def test_a_place_without_a_number_has_no_label(lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "nifti", "nifti", lab)
    image: Any = nibabel.load(path.parent / "visual_areas.nii.gz")
    numbers = np.asarray(image.dataobj, np.float32)
    numbers[numbers == 1] = np.nan
    nibabel.save(nibabel.Nifti1Image(numbers, AFFINE), path.parent / "visual_areas.nii.gz")
    data = OwnData(edited(path, "{1: V1, 2: V2, 3: hV4}", "{0: V3, 2: V2, 3: hV4}"))
    assert data.voxels()["roi"].tolist() == [("V3", "", "V2", "hV4")[i % 4] for i in range(8)]


def test_masks_and_labels_of_scaled_integers_are_whole(lab: Lab, tmp_path: Path) -> None:
    """nibabel scales floats that are saved as integers, so that 2 is read as 2.00000003."""
    path = make(tmp_path / "nifti", "nifti", lab)
    before = OwnData(path)
    for name in ("mask.nii.gz", "visual_areas.nii.gz"):
        image: Any = nibabel.load(path.parent / name)
        scaled = nibabel.Nifti1Image(np.asarray(image.dataobj, np.float64), AFFINE)
        scaled.set_data_dtype(np.int16)
        nibabel.save(scaled, path.parent / name)
        read = np.asarray(nibabel.load(path.parent / name).dataobj)  # type: ignore[attr-defined]
        assert not np.array_equal(read, np.rint(read))
    pd.testing.assert_frame_equal(OwnData(path).voxels(), before.voxels())


def test_grayordinates_are_found_by_their_vertices(lab: Lab, tmp_path: Path) -> None:
    """An atlas of all vertices, the right hemisphere first, beside responses without the medial wall."""
    path = make(tmp_path / "cifti", "cifti", lab)
    axes: Any = nibabel.cifti2
    whole = [axes.BrainModelAxis.from_mask(np.ones(N_MESH, bool), name=name) for name in STRUCTURES[::-1]]
    numbers = [on_mesh(lab.numbers[lab.sides[side]], lab.vertex[lab.sides[side]], N_MESH) for side in ("rh", "lh")]
    names = axes.LabelAxis(["visual"], [dict(enumerate([("???", (0, 0, 0, 0)), *((a, (1, 0, 0, 1)) for a in AREAS)]))])
    image = axes.Cifti2Image(np.concatenate(numbers)[None].astype(np.float32), (names, whole[0] + whole[1]))
    nibabel.save(image, path.parent / "visual.dlabel.nii")
    assert OwnData(path).voxels()["roi"].tolist() == lab.areas
    nibabel.save(
        axes.Cifti2Image(np.ones((1, N_MESH), np.float32), (names, whole[0])), path.parent / "visual.dlabel.nii"
    )
    with pytest.raises(DataError, match=r"expected brain models with the 8 voxels.*no number for 5 of them"):
        OwnData(path).voxels()


def test_numbers_may_be_names_of_areas(lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "npy", "npy", lab)
    pd.DataFrame({"area": [17, 18] * 4, "noise_ceiling": 0.5}).to_csv(path.parent / "voxels.csv", index=False)
    assert OwnData(path).voxels()["roi"].tolist() == ["17", "18"] * 4


def test_an_atlas_may_have_labels_in_one_hemisphere_or_none(lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "gifti", "gifti", lab)
    for side in "LR":
        file = path.parent / f"sub-01_hemi-{side}_space-fsaverage5_visual.label.gii"
        write_gifti(file, [np.zeros(N_MESH, np.int32)], {"L": "lh", "R": "rh"}[side], AREAS)
        data = OwnData(path)
        assert data.voxels()["roi"].tolist() == [""] * 5 + (lab.areas[5:] if side == "L" else [""] * 3)
    assert data.remarks() == ["no voxel has a label of the atlas 'visual'"]


def test_a_file_that_was_replaced_is_read_anew(lab: Lab, tmp_path: Path) -> None:
    """As in a notebook, where an archive that gives all files one time is unpacked over that of another subject."""
    path = make(tmp_path / "npy", "npy", lab)
    file = path.parent / "lh_responses.npy"
    os.utime(file, (0, 0))
    before = OwnData(path).responses()
    np.save(tmp_path / "other.npy", np.load(file) + 1)
    os.utime(tmp_path / "other.npy", (0, 0))
    (tmp_path / "other.npy").replace(file)
    n = np.load(file).shape[1]
    np.testing.assert_array_equal(OwnData(path).responses()[:, :n], before[:, :n] + 1)


def test_a_virtual_array_is_read_where_its_files_are(lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "hdf5", "hdf5", lab)
    before = OwnData(path).responses()
    virtual_betas(path.parent)
    np.testing.assert_array_equal(OwnData(path).responses(), before)
    (path.parent / "betas_2.h5").unlink()
    with h5py.File(path.parent / "betas_2.h5", "w") as file:
        file.create_dataset("inner/betas", (8, 6), np.float32)
    assert OwnData(path).remarks()[0].startswith(f"1 chunk of {path.parent / 'betas.hdf5'} never written, or lost")


@pytest.mark.parametrize("layout", ["colour", "grey", "turned by its owner, as in NSD"])
def test_images_that_matlab_saved_are_upright(layout: str, lab: Lab, tmp_path: Path) -> None:
    """MATLAB's (height, width, 3, images) is (images, 3, width, height) in HDF5."""
    path = make(tmp_path / "hdf5", "hdf5", lab)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 9, 3), np.uint8)
    if layout == "grey":
        pixels[:] = pixels[..., :1]
    stored = {"colour": pixels.transpose(0, 3, 2, 1), "grey": pixels[..., 0].transpose(0, 2, 1)}.get(layout, pixels)
    with h5py.File(path.parent / "stimuli.hdf5", "w") as file:
        file["imgBrick"] = stored
        file["imgBrick"].attrs["MATLAB_class"] = np.bytes_("uint8")
    data = OwnData(path)
    for i in range(6):
        np.testing.assert_array_equal(np.asarray(data.stimuli.image(i)), pixels[i])
    assert any("as MATLAB has them" in words for words in data.remarks()) == (layout in ("colour", "grey"))


def test_gaps_and_equal_images_are_told(lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "npy", "npy", lab)
    zarr.create_array(path.parent / "lh.zarr", data=lab.responses[:, :5], chunks=(2, 5))
    (path.parent / "lh.zarr/c/1/0").unlink()
    shutil.copy(path.parent / "images/square0.png", path.parent / "images/square2.png")
    data = OwnData(edited(path, "lh_responses.npy", "lh.zarr"))
    assert data.remarks()[0].startswith(f"1 chunk of {path.parent / 'lh.zarr'} never written, or lost")
    assert inspect_dataset(data).notes[0].startswith("1 image with the same file as another one, first 'nsd-00020'")
    path = make(tmp_path / "hdf5", "hdf5", lab)
    with h5py.File(path.parent / "betas.hdf5", "w") as file:
        file.create_dataset("betas", (8, 12), np.float32, chunks=(3, 6))[:5] = 1
    assert OwnData(path).remarks()[0].startswith(f"2 chunks of {path.parent / 'betas.hdf5'} never written, or lost")
    zarr.create_array(path.parent / "images.zarr", data=np.ones((6, 8, 8, 3), np.uint8), chunks=(1, 8, 8, 3))
    (path.parent / "images.zarr/c/2/0/0/0").unlink()
    edited(path, "array: stimuli.hdf5\n  key: imgBrick", "array: images.zarr")
    assert OwnData(path).remarks()[0].startswith(f"1 chunk of {path.parent / 'images.zarr'} never written, or lost")


def test_images_without_a_row_and_numbers_without_a_name_are_remarks(lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "nifti", "nifti", lab)
    (path.parent / "images" / "spare.PNG").write_bytes(b"")
    edited(path, "{1: V1, 2: V2, 3: hV4}", "{1: V1}")
    said = OwnData(path).remarks()
    assert said[0].startswith("1 image without a row in")
    assert said[0].endswith("spare.PNG")
    assert said[1] == "numbers of the atlas 'visual' that have no name are in no ROI: 2, 3"


def test_images_are_counted_from_0_where_a_row_has_the_image_0(lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "hdf5", "hdf5", lab)
    table = pd.read_csv(path.parent / "trials.csv")
    table.assign(image=table["image"] - 1).to_csv(path.parent / "trials.csv", index=False)
    assert OwnData(edited(path, "  count_from: 1\n", "")).stimuli.rows == tuple(range(6))


def test_an_array_without_a_table_is_in_the_order_of_the_responses(lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "hdf5", "hdf5", lab)
    text = path.read_text()
    start, end = text.index("  table: trials.csv"), text.index("responses:")
    path.write_text(text[:start] + "  array: stimuli.hdf5\n  key: imgBrick\n" + text[end:])
    np.save(path.parent / "means.npy", lab.responses)
    edited(path, "  file: betas.hdf5\n  key: betas\n  images: columns", "  file: means.npy\n  images: rows")
    data = OwnData(path)
    assert data.stimuli.ids[:2] == ("image-0", "image-1")
    assert data.about.trials == "single"
    np.testing.assert_array_equal(data.responses(), lab.responses)


class TestSingleTrials(DatasetContract):
    @pytest.fixture
    def dataset(self, lab: Lab, tmp_path: Path) -> OwnData:
        path = make(tmp_path / "hdf5", "hdf5", lab)
        edited(path, "voxels:", "repeats: single\nvoxels:")
        return OwnData(edited(path, "  count_from: 1", "  count_from: 1\n  covariates: [session]"))

    def test_trials_keep_their_rows_and_covariates(self, dataset: OwnData, lab: Lab) -> None:
        ids = tuple(lab.pictures)
        assert dataset.response_ids == ids + ids[::-1]
        assert dataset.about.trials == "single"
        trials, covariates = dataset.responses(), dataset.covariates()
        np.testing.assert_allclose((trials[:6] + trials[:5:-1]) / 2, lab.responses, rtol=1e-5)
        assert covariates is not None
        assert covariates["session"].tolist() == [1] * 6 + [2] * 6
        expected = ceiling_of_trials(trials, np.concatenate([np.arange(6), np.arange(6)[::-1]]), 1)
        np.testing.assert_allclose(dataset.voxels()["ceiling"], expected, rtol=1e-5)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_each_image_may_have_a_volume_of_its_own(suffix: str, lab: Lab, tmp_path: Path) -> None:
    """As SPM writes them."""
    path = make(tmp_path / "nifti", "nifti", lab)
    expected, names = OwnData(path).responses(), list[str]()
    for session in ("betas_ses-1.nii.gz", "betas_ses-2.nii.gz"):
        for volume in np.moveaxis(np.asarray(nibabel.load(path.parent / session).dataobj), -1, 0):  # type: ignore[attr-defined]
            names.append(f"beta_{len(names) + 1:04d}{suffix}")
            nibabel.save(nibabel.Nifti1Image(volume, AFFINE), path.parent / names[-1])
    edited(path, "[betas_ses-1.nii.gz, betas_ses-2.nii.gz]", f"[{', '.join(names)}]")
    np.testing.assert_array_equal(OwnData(path).responses(), expected)
    np.testing.assert_array_equal(OwnData(path).responses(np.array([4, 1])), expected[[4, 1]])


def test_vertices_are_counted_from_where_they_are_said_to(lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "npy", "npy", lab)
    expected = OwnData(path).voxels()["vertex"].tolist()
    for side in ("lh", "rh"):
        file = path.parent / f"{side}_vertices.npy"
        np.save(file, np.load(file) + 1)
    assert OwnData(edited(path, "count_from: 0", "count_from: 1")).voxels()["vertex"].tolist() == expected
    np.save(path.parent / "lh_vertices.npy", [0, *range(7, 11)])
    assert OwnData(edited(path, "  count_from: 1 ", "  # ")).voxels()["vertex"].tolist()[:2] == [0, 7]


def test_cifti_tells_its_hemispheres_itself(lab: Lab, tmp_path: Path) -> None:
    """Whatever its name, as of a task with the right hand: the vertices are in the file."""
    path = make(tmp_path / "cifti", "cifti", lab)
    expected = OwnData(path).responses()[:, : lab.n_left]
    (path.parent / "betas.dscalar.nii").rename(path.parent / "task-right_betas.dscalar.nii")
    text = path.read_text().replace("betas.dscalar.nii", "task-right_betas.dscalar.nii")
    path.write_text("".join(line for line in text.splitlines(True) if "rh: fsLR_to" not in line))
    np.testing.assert_array_equal(OwnData(path).responses(), expected)


def test_one_hemisphere_of_fsaverage_in_cifti(lab: Lab, tmp_path: Path) -> None:
    path, axes = make(tmp_path / "cifti", "cifti", lab), cast(Any, nibabel.cifti2)
    vertices = np.arange(lab.n_left) * 7
    models = axes.BrainModelAxis.from_surface(vertices, 10242, name="CORTEX_LEFT")
    rows, names = lab.responses[:, : lab.n_left].astype(np.float32), axes.ScalarAxis(list(lab.pictures))
    nibabel.save(axes.Cifti2Image(rows, (names, models)), path.parent / "left.dscalar.nii")
    spec = yaml.safe_load(path.read_text())
    spec["responses"]["file"], spec["rois"] = "left.dscalar.nii", []
    spec["voxels"] = {"cifti": "left.dscalar.nii", "fsaverage": "fsaverage5", "hemispheres": ["lh"]}
    path.write_text(yaml.safe_dump(spec))
    data = OwnData(path)
    assert data.voxels()["vertex"].tolist() == vertices.tolist()
    assert set(data.voxels()["hemi"]) == {"lh"}
    np.testing.assert_array_equal(data.responses(), rows)


def test_a_change_of_the_working_directory_reads_no_other_data(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each subject has a folder with files of the same names."""
    for subject in ("one", "two"):
        path = make(tmp_path / subject, "npy", lab)
        np.save(path.parent / "lh_responses.npy", lab.responses[:, : lab.n_left] * (1 if subject == "one" else -1))
    monkeypatch.chdir(tmp_path / "one")
    data = OwnData(Path("data.yaml"))
    monkeypatch.chdir(tmp_path / "two")
    np.testing.assert_allclose(data.responses()[:, : lab.n_left], lab.responses[:, : lab.n_left], rtol=1e-6)
    assert data.name == "table:data.yaml"
