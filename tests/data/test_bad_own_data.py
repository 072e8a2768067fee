"""Own data that cannot be used: each is one message that names the place and the cause."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from yaml import safe_dump

from bddn.data.own.own_data import OwnData
from bddn.errors import BddnError
from data.own_trees import AFFINE, FREESURFER, N_MESH, Lab, make, virtual_betas, write_gifti, write_sphere

Break = Callable[[Path, Lab], None]
"""Spoil a folder of own data; `data.yaml` is in it."""


def yaml(old: str, new: str) -> Break:
    def edit(folder: Path, lab: Lab) -> None:
        path = folder / "data.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return edit


def left(change: Callable[[np.ndarray], np.ndarray]) -> Break:
    """Save other responses of the left hemisphere."""
    return lambda folder, lab: np.save(folder / "lh_responses.npy", change(lab.responses[:, :5]), allow_pickle=True)


def spoiled(column: int, value: float, dtype: str = "float64") -> Callable[[np.ndarray], np.ndarray]:
    def change(responses: np.ndarray) -> np.ndarray:
        out = responses.astype(dtype)
        out[2, column] = value
        return out

    return change


def saved(name: str, array: object) -> Break:
    return lambda folder, lab: np.save(folder / name, np.asarray(array))


def csv(old: str, new: str, name: str = "stimuli.csv") -> Break:
    def edit(folder: Path, lab: Lab) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return edit


def write(name: str, data: bytes) -> Break:
    def edit(folder: Path, lab: Lab) -> None:
        (folder / name).write_bytes(data)

    return edit


def removed(name: str) -> Break:
    return lambda folder, lab: (folder / name).unlink()


def pipe(name: str) -> Break:
    """A named pipe, in which a reader would wait for ever."""

    def edit(folder: Path, lab: Lab) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return edit


def nifti(name: str, data: np.ndarray, affine: np.ndarray | None = AFFINE, unit: str = "mm") -> Break:
    def edit(folder: Path, lab: Lab) -> None:
        image = nibabel.Nifti1Image(data, affine)
        image.header.set_xyzt_units(unit)
        if affine is None:
            image.header.set_sform(None, 0)
            image.header.set_qform(None, 0)
        nibabel.save(image, folder / name)

    return edit


def gifti(name: str, side: str, shape: tuple[int, ...]) -> Break:
    return lambda folder, lab: write_gifti(folder / name, np.zeros(shape, np.float32), side)


def exchanged(one: str, other: str) -> Break:
    def edit(folder: Path, lab: Lab) -> None:
        (folder / one).rename(folder / "aside")
        (folder / other).rename(folder / one)
        (folder / "aside").rename(folder / other)

    return edit


def other_sphere(folder: Path, lab: Lab) -> None:
    vertices, faces = FREESURFER.read_geometry(folder / "lh.sphere.reg")
    FREESURFER.write_geometry(folder / "lh.sphere.reg", vertices * [1, 1, 0.5], faces)


def unregistered(folder: Path, lab: Lab) -> None:
    write_sphere(folder / "lh.sphere", "lh")
    yaml("lh: lh.sphere.reg", "lh: lh.sphere")(folder, lab)


def sphere_called(name: str) -> Break:
    def edit(folder: Path, lab: Lab) -> None:
        write_sphere(folder / name, "lh")
        yaml("lh: lh.sphere.reg", f"lh: {name}")(folder, lab)

    return edit


def only_right(old: str, new: str) -> Break:
    """Only the right hemisphere, whose responses and atlas are in one file each."""

    def edit(folder: Path, lab: Lab) -> None:
        spec = {
            "title": "one hemisphere",
            "stimuli": {"table": "stimuli.csv", "images": "images"},
            "responses": {"file": "rh.betas.mgh"},
            "voxels": {"sphere": {"rh": "rh.sphere.reg"}},
            "rois": [{"name": "areas", "file": "rh.areas.annot"}],
        }
        (folder / "data.yaml").write_text(safe_dump(spec))
        OwnData(folder / "data.yaml").voxels()
        yaml(old, new)(folder, lab)

    return edit


def left_only(folder: Path, lab: Lab) -> None:
    """Keep the grayordinates of the left cortex."""
    image: Any = nibabel.load(folder / "betas.dscalar.nii")
    names, models = (image.header.get_axis(i) for i in range(2))
    rows = np.asarray(image.dataobj)[:, : lab.n_left]
    nibabel.save(nibabel.Cifti2Image(rows, (names, models[: lab.n_left])), folder / "betas.dscalar.nii")


def curvature(name: str) -> Break:
    return lambda folder, lab: FREESURFER.write_morph_data(folder / name, np.ones(N_MESH, np.float32))


def float_images(folder: Path, lab: Lab) -> None:
    with h5py.File(folder / "stimuli.hdf5", "w") as file:
        file["imgBrick"] = np.zeros((6, 8, 8, 3))


def both(*breaks: Break) -> Break:
    def edit(folder: Path, lab: Lab) -> None:
        for one in breaks:
            one(folder, lab)

    return edit


def changed(name: str, change: Callable[[bytes], bytes]) -> Break:
    def edit(folder: Path, lab: Lab) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return edit


def damaged_chunk(folder: Path, lab: Lab) -> None:
    with h5py.File(folder / "betas.hdf5", "r+") as file:
        betas = file["betas"][:]
        del file["betas"]
        stored = file.create_dataset("betas", data=betas, chunks=betas.shape, fletcher32=True)
        place = stored.id.get_chunk_info(0).byte_offset
    with (folder / "betas.hdf5").open("r+b") as file:
        file.seek(place)
        file.write(b"damage")


def unlike_its_name(folder: Path, lab: Lab) -> None:
    """As macOS writes a name, and as the table of another system does."""
    (folder / "images/square3.png").rename(folder / "images/e\u0301.png")
    csv("square3.png", "\u00e9.png")(folder, lab)


def pandas_index(folder: Path, lab: Lab) -> None:
    table = pd.read_parquet(folder / "responses.parquet")
    table.set_index(pd.Index(list(lab.pictures), name="id")).to_parquet(folder / "responses.parquet")


def columns_turned(folder: Path, lab: Lab) -> None:
    table = pd.read_parquet(folder / "responses.parquet")
    table[table.columns[::-1]].to_parquet(folder / "responses.parquet")


def columns_of_images(folder: Path, lab: Lab) -> None:
    names = list(lab.pictures)[::-1]
    pd.DataFrame(lab.responses.T, columns=names).to_parquet(folder / "responses.parquet")
    yaml("images: rows", "images: columns")(folder, lab)


def maps_turned(folder: Path, lab: Lab) -> None:
    path = folder / "betas.dscalar.nii"
    image: Any = nibabel.load(path)
    axes: Any = nibabel.cifti2
    names = axes.ScalarAxis(list(lab.pictures)[::-1])
    nibabel.save(axes.Cifti2Image(image.get_fdata(), (names, image.header.get_axis(1))), path)


def arrays_turned(folder: Path, lab: Lab) -> None:
    path = folder / "sub-01_hemi-L_space-fsaverage5_betas.func.gii"
    image: Any = nibabel.load(path)
    for array, name in zip(image.darrays, list(lab.pictures)[::-1], strict=True):
        array.meta["Name"] = name
    nibabel.save(image, path)


def a_virtual_file_is_gone(folder: Path, lab: Lab) -> None:
    virtual_betas(folder)
    (folder / "betas_2.h5").unlink()


def a_virtual_array_is_gone(folder: Path, lab: Lab) -> None:
    virtual_betas(folder)
    with h5py.File(folder / "betas_2.h5", "w") as file:
        file["other"] = np.ones(3)


def one_name_for_all(folder: Path, lab: Lab) -> None:
    pq.write_table(pa.table([list(lab.pictures)] * 2, names=["id", "id"]), folder / "stimuli.parquet")
    yaml("stimuli.csv", "stimuli.parquet")(folder, lab)


def surface_label(folder: Path, lab: Lab) -> None:
    (folder / "V1.label").write_text("#!ascii label\n1\n0 0 0 0 0\n")
    yaml("file: visual_areas.nii.gz, labels: {1: V1, 2: V2, 3: hV4}", "file: V1.label")(folder, lab)


def spreadsheet(folder: Path, lab: Lab) -> None:
    (folder / "stimuli.xlsx").write_bytes(b"PK\x03\x04")
    yaml("stimuli.csv", "stimuli.xlsx")(folder, lab)


def text_responses(folder: Path, lab: Lab) -> None:
    pd.DataFrame({"e0": ["1.5"] * 6}).to_parquet(folder / "responses.parquet")


BOX = np.zeros((12, 6, 1), np.uint8)
BAD: dict[str, tuple[str, Break, str]] = {
    # the YAML file
    "no field of this name": ("npy", yaml("images: rows", "image: rows"), "unknown key 'responses.image' in line 8"),
    "no field of this name in a list": ("npy", yaml("column: area", "colum: area"), "Did you mean 'column'"),
    "a question is open": ("nifti", yaml("space: MNI", 'space: "?"'), r"an answer .*'voxels.space' in line 9"),
    "no kind of voxels": ("electrodes", yaml("table: electrodes.csv", "leave_out: [nan]"), "exactly one of fsaverage"),
    "two kinds of voxels": (
        "npy",
        yaml("fsaverage: fsaverage5", "fsaverage: fsaverage5\n  mask: m.nii"),
        "exactly one",
    ),
    "an unknown mesh": ("npy", yaml("fsaverage5", "fsaverage"), "'fsaverage5', 'fsaverage6' or 'fsaverage7'"),
    "no space of a mask": ("nifti", yaml("  space: MNI", "  #"), r"with 'space' \(MNI, T1w or other\)"),
    "a mask, an array and no order": (
        "nifti",
        both(
            lambda folder, lab: np.save(folder / "betas.npy", lab.responses),
            yaml("[betas_ses-1.nii.gz, betas_ses-2.nii.gz]", "betas.npy\n  images: rows"),
        ),
        "'order: numpy' or 'order: matlab'",
    ),
    "no word of rows or columns": ("npy", yaml("  images: rows", "  #"), "'images: rows' or 'images: columns'"),
    "a word where the format knows": ("gifti", yaml("responses:", "responses:\n  images: rows"), "no 'images' under"),
    "an atlas named as a column": ("npy", yaml("name: visual", "name: hemi"), "not 'hemi'"),
    "covariates of means": ("npy", yaml("  images: images", "  covariates: [age]"), "with 'repeats: single'"),
    "an atlas in an array, a mask and no order": (
        "nifti",
        both(lambda folder, lab: np.save(folder / "areas.npy", lab.numbers), yaml("visual_areas.nii.gz", "areas.npy")),
        r"areas\.npy: expected 'order: numpy' or 'order: matlab'",
    ),
    "an atlas in a table, a mask and no order": (
        "nifti",
        both(
            write("areas.csv", b"area\n" + b"V1\n" * 8),
            yaml("file: visual_areas.nii.gz, labels: {1: V1, 2: V2, 3: hV4}", "table: areas.csv, column: area"),
        ),
        r"areas\.csv: expected 'order: numpy' or 'order: matlab'",
    ),
    "an atlas of all places in an array": (
        "nifti",
        both(
            saved("areas.npy", np.ones(72)),
            yaml("visual_areas.nii.gz", "areas.npy"),
            yaml("space: MNI", "space: MNI\n  order: matlab"),
        ),
        "numbers of 8 voxels, those of the mask; got 72",
    ),
    # stimuli
    "an unknown column of ids": ("npy", csv("id,file", "stimulus,file"), "a column 'id' .*the columns stimulus, file"),
    "a column in another case": ("npy", csv("id,file", "ID,file"), "Write 'id: ID'"),
    "an id without a file": ("npy", csv("square3.png", ""), "a file name in every row.*none in row 4"),
    "a file that is not known": ("npy", csv("square3.png", "n/a"), "a file name in every row.*none in row 4"),
    "coordinates that are not known": (
        "electrodes",
        lambda folder, lab: (
            pd.read_csv(folder / "electrodes.csv")
            .assign(x_mm=lambda one: one["x_mm"].where(one.index != 1))
            .to_csv(folder / "electrodes.csv", index=False, na_rep="n/a")
        ),
        "none in row 2. Leave these rows out, and their columns of the responses",
    ),
    "ceilings as FreeSurfer writes curvature": (
        "native",
        both(
            *(curvature(f"{hemi}.ceiling") for hemi in ("lh", "rh")),
            yaml("rois:", "ceiling: {lh: lh.ceiling, rh: rh.ceiling}\nrois:"),
        ),
        "lh.ceiling: .*got a FreeSurfer file of one number per vertex.*read_morph_data",
    ),
    "a file without an id": ("npy", csv("nsd-00030,", ","), "an id that can be printed.*row 4"),
    "a file that is not there": ("npy", removed("images/square3.png"), "1 of 6 that are not, square3.png"),
    "a file in another case": ("npy", csv("square3.png", "Square3.PNG"), "square3.png, which differs by case"),
    "paths of Windows": ("npy", csv("square3.png", "images\\square3.png"), "as on Windows"),
    "one id with two images": ("npy", csv("nsd-00030", "nsd-00020"), "'nsd-00020' with square2.png and, in row 4"),
    "one repeat twice": ("hdf5", csv("nsd-00050,6,2,2", "nsd-00050,6,1,1", "trials.csv"), "'nsd-00050' with repeat 1"),
    "an image that counts from 1": ("hdf5", yaml("count_from: 1", "count_from: 0"), "Write 'count_from: 1'"),
    "images of which it is not known where they count from": (
        "hdf5",
        both(
            yaml("  count_from: 1\n", ""),
            csv("nsd-00050,6", "nsd-00050,5", "trials.csv"),
            csv("nsd-00050,6", "nsd-00050,5", "trials.csv"),
        ),
        "'count_from: 0' or 'count_from: 1' .*no row has the image 0; got numbers from 1 to 5 .* 6 images",
    ),
    "an image beyond the array": (
        "hdf5",
        csv("nsd-00050,6", "nsd-00050,9", "trials.csv"),
        "from 1 to 6 .*'9' in row 6",
    ),
    "a wrong key of images": ("hdf5", yaml("key: imgBrick", "key: images"), r"'images'.*imgBrick \(6, 8, 8, 3\) uint8"),
    "images from 0 to 1": ("hdf5", float_images, "images of uint8.*got float64"),
    "a number with an underscore": ("hdf5", csv("00050,6", "00050,0_6", "trials.csv"), "'0_6' in row 6"),
    "a path instead of a name": ("npy", csv("square3.png", f"{'a' * 300}/b.png"), "a folder of images; got File name"),
    "two columns of one name": ("npy", one_name_for_all, "different names.*got 2 columns, 6 rows"),
    "a short row": ("npy", csv("square3.png", "square3.png,x"), "3 columns in row 4 below a header of 2"),
    "a table in UTF-16": ("npy", write("stimuli.csv", "id,file\na,b\n".encode("utf-16")), "a CSV file in UTF-8"),
    "a table in Latin-1": ("npy", write("stimuli.csv", "id,größe\n1,2\n".encode("latin-1")), "Save it in UTF-8"),
    "a name whose accent is written otherwise": ("npy", unlike_its_name, "by how accents are written"),
    "a spreadsheet": ("npy", spreadsheet, "Export it as CSV"),
    "a pipe in place of the YAML file": ("npy", pipe("data.yaml"), "data.yaml.*not a regular file"),
    "a pipe in place of a table": ("npy", pipe("stimuli.csv"), "stimuli.csv.*not a regular file"),
    "a pipe in place of Parquet": ("electrodes", pipe("responses.parquet"), "responses.parquet.*not a regular file"),
    "a pipe in place of an array": ("npy", pipe("lh_responses.npy"), "lh_responses.npy.*not a regular file"),
    "a pipe in place of HDF5": ("hdf5", pipe("betas.hdf5"), "betas.hdf5.*not a regular file"),
    "a pipe in place of a volume": ("nifti", pipe("betas_ses-1.nii.gz"), "betas_ses-1.*not a regular file"),
    "a pipe in place of MGH": ("native", pipe("lh.betas.mgh"), "lh.betas.mgh.*not a regular file"),
    "a pipe in place of a sphere": ("native", pipe("lh.sphere.reg"), "lh.sphere.reg.*not a regular file"),
    "no table": ("npy", removed("stimuli.csv"), "no such file"),
    # responses
    "transposed": ("npy", left(np.transpose), "Write 'images: columns'"),
    "one row too few": ("npy", left(lambda r: r[:-1]), "responses to the 6 rows .*responses to 5 images"),
    "one voxel too few": ("npy", left(lambda r: r[:, 1:]), "responses of 5 voxels, or of 10,242 places; got 4 voxels"),
    "NaN": ("npy", left(spoiled(1, np.nan)), r"1 NaN or infinite .*row 3 for voxel 2.*leave_out: \[nan\]"),
    "too large for float32": ("npy", left(spoiled(0, 1e39)), "finite responses that float32 can hold"),
    "complex numbers": ("npy", left(lambda r: r.astype(complex)), "real numbers.*complex128.*absolute value"),
    "objects": ("npy", left(lambda r: r.astype(object)), "Python objects"),
    "texts": ("npy", left(lambda r: r.astype(str)), "Convert the texts"),
    "texts in Parquet": ("electrodes", text_responses, r"e0 \(.*string\)"),
    "responses in CSV": (
        "npy",
        yaml("lh_responses.npy", "lh_responses.csv"),
        r"got a file \.csv\. Save the responses in",
    ),
    "an index of pandas": ("electrodes", pandas_index, "an index of pandas beside them, id.*index=False"),
    "columns in another order than the voxels": (
        "electrodes",
        columns_turned,
        "the order of the voxels.*'e007' as column 1, which is 'e000' there",
    ),
    "columns in another order than the images": (
        "electrodes",
        columns_of_images,
        "the order of the stimuli.*'nsd-00050' as row 1, which is 'nsd-00000' there",
    ),
    "maps of CIFTI in another order than the images": ("cifti", maps_turned, "the order of the stimuli.*'nsd-00050'"),
    "arrays of GIFTI in another order than the images": ("gifti", arrays_turned, "the order of the stimuli"),
    "a virtual array without one of its files": (
        "hdf5",
        a_virtual_file_is_gone,
        r"betas\.hdf5: .*got a virtual array of numbers in betas_2\.h5, which is not there",
    ),
    "a virtual array without one of its arrays": ("hdf5", a_virtual_array_is_gone, r"'inner/betas' in it; got other"),
    "damage inside HDF5": ("hdf5", damaged_chunk, r"betas\.hdf5: expected complete responses; got a damaged file"),
    "volumes in .npy": ("npy", left(lambda r: r[:, None]), r"shape \(6, 1, 5\)"),
    "a wrong key of responses": ("hdf5", yaml("key: betas", "key: data"), r"'data'.*betas \(8, 12\)"),
    "no file": ("npy", removed("lh_responses.npy"), "no such file"),
    "a cut file": ("npy", write("lh_responses.npy", b"\x93NUMPY\x01"), "a damaged file"),
    "a Git LFS pointer": (
        "npy",
        write("lh_responses.npy", b"version https://git-lfs.github.com/spec/v1"),
        "git lfs pull",
    ),
    "a cut volume": ("nifti", write("betas_ses-1.nii.gz", b"\x1f\x8b\x08\x00"), "damaged or incomplete gzip"),
    "a volume with a wrong checksum": (
        "nifti",
        changed("betas_ses-1.nii.gz", lambda data: data[:-8] + bytes(8)),
        "complete responses; got a damaged or incomplete gzip",
    ),
    "grayordinates that end early": (
        "cifti",
        changed("betas.dscalar.nii", lambda data: data[:-60]),
        "complete responses; got a damaged file",
    ),
    "volumes of a mirrored grid": (
        "nifti",
        nifti("betas_ses-1.nii.gz", np.zeros((12, 6, 1, 3), np.float32), AFFINE @ np.diag([-1, 1, 1, 1])),
        "as the mask; got volumes of shape .* with another affine",
    ),
    "volumes of another shape": (
        "nifti",
        nifti("betas_ses-1.nii.gz", np.zeros((6, 12, 1, 3), np.float32)),
        r"volumes of shape \(12, 6, 1\), as the mask; got volumes of shape \(6, 12, 1\)",
    ),
    "sessions in another order": (
        "hdf5",
        both(
            saved("s1.npy", np.zeros((8, 5))),
            saved("s2.npy", np.zeros((8, 7))),
            yaml("  file: betas.hdf5\n  key: betas", "  file: [s1.npy, s2.npy]"),
        ),
        r"files of 6 \+ 6 rows, as the sessions of the stimuli; got 5 \+ 7",
    ),
    "one hemisphere is missing": ("npy", yaml("  rh: rh_responses.npy\n", ""), "lh and rh; got lh"),
    "hemispheres of points": ("electrodes", yaml("file: responses.parquet", "lh: responses.parquet"), "one 'file' for"),
    "exchanged hemispheres by name": ("npy", yaml("lh: lh_responses", "lh: rh_responses"), "a name of the other one"),
    "exchanged hemispheres by a name in capitals": (
        "npy",
        yaml("lh: lh_responses", "lh: RH_responses"),
        "a name of the other one",
    ),
    "exchanged hemispheres by a name of the HCP": (
        "cifti",
        yaml("lh: fsLR_to_fsaverage.L.sphere", "lh: fsLR_to_fsaverage.R.sphere"),
        "a name of the other one",
    ),
    "exchanged hemispheres in GIFTI": (
        "gifti",
        exchanged(*(f"sub-01_hemi-{side}_space-fsaverage5_betas.func.gii" for side in "LR")),
        "exchange 'lh' and 'rh'",
    ),
    "responses of the other hemisphere, where there is one": (
        "native",
        only_right("file: rh.betas.mgh", "file: lh.betas.mgh"),
        "lh.betas.mgh: expected a file of the hemisphere rh; got a name of the other one.*or rename it",
    ),
    "an atlas of the other hemisphere, where there is one": (
        "native",
        only_right("file: rh.areas.annot", "file: lh.areas.annot"),
        "lh.areas.annot: expected a file of the hemisphere rh",
    ),
    "hemispheres that files tell": (
        "npy",
        yaml("  vertices:", "  hemispheres: [lh]\n  vertices:"),
        "'hemispheres' only where it is 'fsaverage' without 'vertices'",
    ),
    "one hemisphere in CIFTI": (
        "cifti",
        left_only,
        "hemisphere rh, as the surface has; got none. If the data do not have it, leave it out",
    ),
    "GIFTI of another mesh": (
        "gifti",
        gifti("sub-01_hemi-L_space-fsaverage5_betas.func.gii", "lh", (6, 642)),
        "responses of 5 voxels, or of 10,242 places; got 642 voxels",
    ),
    # voxels
    "a mask of another mesh": (
        "hdf5",
        saved("lh_mask.npy", np.ones(40_962, np.uint8)),
        "mask of 40,962 vertices, those of fsaverage6",
    ),
    "a mask of -1, 0 and 1": ("hdf5", saved("lh_mask.npy", np.arange(N_MESH) % 3 - 1), "numbers from -1 to 1"),
    "vertices from 1": ("npy", saved("lh_vertices.npy", [1, 2, 3, 4, N_MESH]), "as if counted from 1"),
    "vertices of which it is not known where they count from": (
        "npy",
        yaml("  count_from: 0 ", "  # "),
        "'count_from: 0' or 'count_from: 1' under voxels, because no index of a vertex is 0; got indices from ",
    ),
    "vertices below the first": (
        "npy",
        both(yaml("count_from: 0", "count_from: 1"), saved("lh_vertices.npy", [0, 2, 3, 4, 5])),
        "different indices from 1 to 10,242; got numbers from 0 to 5",
    ),
    "vertices beyond all": ("npy", saved("lh_vertices.npy", [1, 2, 3, 4, 2**40]), "different indices from 0 to 10,241"),
    "one vertex twice": ("npy", saved("lh_vertices.npy", [1, 2, 3, 4, 4]), "1 repeated indices"),
    "all vertices in another order": (
        "npy",
        saved("lh_vertices.npy", np.arange(N_MESH)[::-1]),
        "all vertices, not in ascending order. Sort them",
    ),
    "vertices that are no numbers": ("npy", saved("lh_vertices.npy", list("abcde")), "a mask of 0 and 1"),
    "a decimal comma": ("electrodes", csv(",lh,", ',lh,"1,5",', "electrodes.csv"), "8 columns in row 1|decimal"),
    "decimal commas": (
        "electrodes",
        write("electrodes.csv", b"x_mm;y_mm;z_mm\n" + b"1,5;2,5;3\n" * 8),
        "'1,5' in row 1.*Write decimal points",
    ),
    "no coordinate": (
        "electrodes",
        csv("x_mm", "x", "electrodes.csv"),
        "a column 'x_mm' with coordinates.*rename the column",
    ),
    "an empty coordinate": ("electrodes", write("electrodes.csv", b"x_mm,y_mm,z_mm\n1,2,\n" * 1), "none in row 1"),
    "another word for left": ("electrodes", csv(",lh,", ",left,", "electrodes.csv"), "hemi lh, rh or empty.*left"),
    "a mask without an affine": (
        "nifti",
        nifti("mask.nii.gz", BOX, None),
        r"an affine .*sform_code and qform_code are 0",
    ),
    "a mask in metres": ("nifti", nifti("mask.nii.gz", BOX, unit="meter"), "an affine in mm; got the unit metres"),
    "a mask in microns": ("nifti", nifti("mask.nii.gz", BOX, unit="micron"), "an affine in mm; got the unit microns"),
    "responses without an affine": (
        "nifti",
        nifti("betas_ses-2.nii.gz", np.zeros((*BOX.shape, 3)), None),
        r"betas_ses-2.*an affine .*its voxels are those of the mask.*sform_code and qform_code are 0",
    ),
    "a mask in one plane": (
        "nifti",
        nifti("mask.nii.gz", BOX + 1, AFFINE[:, [0, 0, 2, 3]]),
        "gives each voxel a position of its own",
    ),
    "a mask with NaN around it": (
        "nifti",
        nifti("mask.nii.gz", np.where(np.eye(12, 6)[..., None], 1, np.nan)),
        "also NaN",
    ),
    "no hemisphere": (
        "npy",
        yaml("vertices: {lh: lh_vertices.npy, rh: rh_vertices.npy}", "hemispheres: []"),
        "hemispheres",
    ),
    "nothing is kept": (
        "npy",
        both(
            left(lambda r: r * np.nan),
            saved("rh_responses.npy", np.ones((6, 3))),
            yaml("voxels:", "voxels:\n  leave_out: [nan, constant]"),
        ),
        "keeps; got none of 8 voxels",
    ),
    "an empty mask": ("nifti", nifti("mask.nii.gz", BOX), "at least one 1; got numbers from 0 to 0"),
    "a mask of numbers": ("nifti", nifti("mask.nii.gz", BOX - 1), "a mask of 0 and 1"),
    "an inflated surface": ("native", other_sphere, "sphere around the origin"),
    "a sphere before registration": ("native", unregistered, "the one before the registration"),
    "a sphere of fMRIPrep before registration": (
        "native",
        sphere_called("sub-01_hemi-L_sphere.surf.gii"),
        "the one before the registration. Give lh.sphere.reg",
    ),
    "a sphere of fMRIPrep on fsLR": (
        "native",
        sphere_called("sub-01_hemi-L_space-fsLR_desc-reg_sphere.surf.gii"),
        "a name with 'space-fsLR', of one that is registered to another sphere",
    ),
    "a sphere of the HCP before registration": (
        "native",
        sphere_called("100307.L.sphere.native.surf.gii"),
        "the one before the registration",
    ),
    "a sphere of the HCP on fsLR": (
        "native",
        sphere_called("100307.L.sphere.MSMAll.native.surf.gii"),
        "a name with 'MSM', of one that is registered to another sphere",
    ),
    "the sphere of fsLR": (
        "native",
        sphere_called("S1200.L.sphere.32k_fs_LR.surf.gii"),
        "a name with 'fs_LR', of one that is registered to another sphere",
    ),
    "CIFTI with another sphere": (
        "cifti",
        lambda folder, lab: write_gifti(
            folder / "fsLR_to_fsaverage.L.sphere.surf.gii", [np.zeros(9, np.float32)], "lh"
        ),
        "a FreeSurfer or GIFTI surface",
    ),
    "a NIfTI volume in place of CIFTI": ("cifti", nifti("betas.dscalar.nii", BOX), "a CIFTI-2 file with brain models"),
    # labels and ceilings
    "labels without names": ("nifti", yaml(", labels: {1: V1, 2: V2, 3: hV4}", ""), "the names of its numbers"),
    "a label of a surface for a volume": ("nifti", surface_label, "under 'lh' or 'rh'"),
    "numbers in a column without names": (
        "npy",
        write("voxels.csv", b"area,noise_ceiling\n" + b"0,0.1\n2,0.1\n1,0.1\n,0.1\n" * 2),
        "because 0 mostly means no ROI; got the numbers 0, 1, 2",
    ),
    "labels that do not occur": (
        "nifti",
        yaml("{1: V1, 2: V2, 3: hV4}", "{7: V1}"),
        r"labels 7 \(V1\).*numbers 0, 1, 2, 3",
    ),
    "labels on another grid": (
        "nifti",
        nifti("visual_areas.nii.gz", BOX, AFFINE + np.eye(4, k=3)),
        "with the same affine; got another affine",
    ),
    "interpolated labels": ("nifti", nifti("visual_areas.nii.gz", np.full((12, 6, 1), 0.5)), "nearest neighbour"),
    "an annotation of another surface": (
        "native",
        lambda folder, lab: FREESURFER.write_annot(
            folder / "lh.areas.annot", np.zeros(642, int), np.zeros((1, 5), int), ["a"], fill_ctab=True
        ),
        "numbers of 5 voxels, or of 10,242 places; got 642",
    ),
    "a table with another number of voxels": (
        "npy",
        csv("V1,0.2\n", "", "voxels.csv"),
        "one row for each of the 8 voxels",
    ),
    "ceilings in percent": ("npy", csv("0.8", "80", "voxels.csv"), "Write 'unit: percent'"),
    "ceilings that are texts": ("npy", csv("0.8", "high", "voxels.csv"), "'high' in row 8"),
}


def read(path: Path) -> None:
    data = OwnData(path)
    data.voxels()
    data.responses()


@pytest.mark.parametrize("name", BAD)
def test_bad_own_data_are_one_clear_message(name: str, lab: Lab, tmp_path: Path) -> None:
    kind, spoil, words = BAD[name]
    path = make(tmp_path / kind, kind, lab)
    spoil(tmp_path / kind, lab)
    with pytest.raises(BddnError, match=words) as raised:
        read(path)
    message = str(raised.value)
    assert str(tmp_path / kind) in message
    assert "expected" in message
    assert "got" in message
    assert "Error:" not in message


def test_there_are_at_least_forty() -> None:
    assert len(BAD) >= 40


@pytest.mark.parametrize(("path", "words"), [("data", "a folder"), ("none.yaml", "no such file"), ("a.yaml", "title")])
def test_a_file_that_is_not_the_yaml_file_is_told(path: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "a.yaml").write_text(json.dumps({"stimuli": {"table": "a.csv"}}))
    with pytest.raises(BddnError, match=words):
        OwnData(tmp_path / path)
