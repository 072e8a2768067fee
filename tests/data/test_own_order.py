"""Numbers of own data whose names tell another order, or that they are not the numbers themselves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
import zarr

from bddn.data.own.own_data import OwnData
from bddn.errors import BddnError
from data.own_trees import N_MESH, STRUCTURES, Lab, make, small_lab
from data.test_bad_own_data import Break, both, read, yaml

IN_FILES = "  lh: lh_responses.npy\n  rh: rh_responses.npy"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Twelve images, so that texts and numbers have different orders."""
    return small_lab(tmp_path_factory.mktemp("lab") / "pictures", n=12)


def files(names: Callable[[Lab], list[str]], listed: Callable[[list[str]], list[str]]) -> Break:
    """Save the responses to each image in its own file, and list the files."""

    def spoil(folder: Path, lab: Lab) -> None:
        found = names(lab)
        for side, part in lab.sides.items():
            for k, name in enumerate(found):
                np.save(folder / f"{side}_{name}.npy", lab.responses[k : k + 1, part])
        lists = [f"  {side}: [{', '.join(f'{side}_{one}.npy' for one in listed(found))}]" for side in lab.sides]
        yaml(IN_FILES, "\n".join(lists))(folder, lab)

    return spoil


def numbered(lab: Lab) -> list[str]:
    return [f"ses-{k + 1}" for k in range(len(lab.pictures))]


def with_sessions(folder: Path, lab: Lab) -> None:
    table = pd.read_csv(folder / "stimuli.csv")
    table.assign(session=range(1, len(table) + 1)).to_csv(folder / "stimuli.csv", index=False)


def parts(folder: Path, lab: Lab) -> None:
    """A Parquet table as dask writes it."""
    (folder / "lh.parquet").mkdir()
    table = pd.DataFrame(lab.responses[:, :5], columns=list("abcde"))
    for k in range(len(table)):
        table[k : k + 1].to_parquet(folder / "lh.parquet" / f"part.{k}.parquet", index=False)
    yaml("lh_responses.npy", "lh.parquet")(folder, lab)


def turned_parcels(path: Path, rows: np.ndarray, names: list[str]) -> None:
    axes: Any = nibabel.cifti2
    model = axes.BrainModelAxis.from_surface(np.arange(80), N_MESH, name=STRUCTURES[0])
    n = rows.shape[1]
    parcels = axes.ParcelsAxis.from_brain_models([(f"e{k:03d}", model[10 * k : 10 * k + 10]) for k in range(n)[::-1]])
    nibabel.save(axes.Cifti2Image(rows[:, ::-1], (axes.ScalarAxis(names), parcels)), path)


def responses_of_parcels(folder: Path, lab: Lab) -> None:
    turned_parcels(folder / "r.pscalar.nii", lab.responses, list(lab.pictures))
    yaml("responses.parquet\n  images: rows", "r.pscalar.nii")(folder, lab)


def ceilings_of_parcels(folder: Path, lab: Lab) -> None:
    turned_parcels(folder / "nc.pscalar.nii", lab.ceilings[None].astype(np.float32), ["nc"])
    yaml("ceiling: {column: noise_ceiling}", "ceiling: {file: nc.pscalar.nii}")(folder, lab)


def parcels_as_vertices(folder: Path, lab: Lab) -> None:
    turned_parcels(folder / "betas.dscalar.nii", lab.responses, list(lab.pictures))


def columns(names: Callable[[Lab], list[str]], turned: str) -> Break:
    """Save the responses with these names of columns, in another order."""

    def spoil(folder: Path, lab: Lab) -> None:
        rows = lab.responses if turned == "rows" else lab.responses.T
        pd.DataFrame(rows[:, ::-1], columns=names(lab)[::-1]).to_parquet(folder / "responses.parquet")
        yaml("images: rows", f"images: {turned}")(folder, lab)

    return spoil


def numbers_with_zeros(folder: Path, lab: Lab) -> None:
    table = pd.read_csv(folder / "electrodes.csv")
    table.assign(voxel=[f"{k:03d}" for k in range(len(table))]).to_csv(folder / "electrodes.csv", index=False)


def turned_table(folder: Path, lab: Lab) -> None:
    table = pd.read_csv(folder / "electrodes.csv")[["voxel", "area"]]
    table[::-1].to_csv(folder / "areas.csv", index=False)
    yaml("column: area", "table: areas.csv, column: area")(folder, lab)


def turned_vertices(folder: Path, lab: Lab) -> None:
    hemi = ["lh"] * lab.n_left + ["rh"] * (len(lab.vertex) - lab.n_left)
    table = pd.DataFrame({"hemi": hemi, "vertex": lab.vertex, "area": lab.areas, "noise_ceiling": lab.ceilings})
    table[::-1].to_csv(folder / "voxels.csv", index=False)


def renamed(folder: Path, lab: Lab) -> None:
    table = pd.read_csv(folder / "electrodes.csv").rename(columns={"hemi": "Hemi"})
    table.to_csv(folder / "electrodes.csv", index=False)


def sites(**changed: Any) -> Break:
    """A table of points that calls names and hemispheres otherwise; responses have the names, in another order."""

    def spoil(folder: Path, lab: Lab) -> None:
        table = pd.read_csv(folder / "electrodes.csv").rename(columns={"voxel": "site"})
        kept = table.drop(columns="hemi").assign(**changed)
        kept.to_csv(folder / "electrodes.csv", index=False)
        responses = pd.DataFrame(lab.responses, columns=table["site"])
        responses[responses.columns[::-1]].to_parquet(folder / "responses.parquet")

    return spoil


def blank_rows(leave_out: str) -> Break:
    """A repeat that was not made."""

    def spoil(folder: Path, lab: Lab) -> None:
        rows = lab.responses.copy()
        rows[4] = np.nan
        pd.DataFrame(rows).to_parquet(folder / "responses.parquet")
        yaml("table: electrodes.csv", f"table: electrodes.csv{leave_out}")(folder, lab)

    return spoil


def sides_in_words(folder: Path, lab: Lab) -> None:
    (folder / "lh_responses.npy").rename(folder / "betas_right.npy")
    yaml("lh_responses.npy", "betas_right.npy")(folder, lab)


def packed(attributes: dict[str, Any]) -> Break:
    def spoil(folder: Path, lab: Lab) -> None:
        with h5py.File(folder / "lh.h5", "w") as file:
            file["betas"] = np.rint(lab.responses[:, :5] * 100).astype(np.int16)
            file["betas"].attrs.update(attributes)
        yaml("lh_responses.npy", "lh.h5")(folder, lab)
        np.save(folder / "rh_responses.npy", lab.responses[:, 5:])
        with h5py.File(folder / "rh.h5", "w") as file:
            file["betas"] = lab.responses[:, 5:]
        yaml("rh_responses.npy", "rh.h5\n  key: betas")(folder, lab)

    return spoil


def packed_zarr(folder: Path, lab: Lab) -> None:
    array = zarr.open_group(folder / "lh.zarr", mode="w").create_array(
        "betas", data=np.rint(lab.responses[:, :5] * 100).astype(np.int16)
    )
    array.attrs["scale_factor"] = 0.01
    yaml("lh_responses.npy", "lh.zarr/betas")(folder, lab)


def logical(folder: Path, lab: Lab) -> None:
    inside = [one == "V1" for one in lab.areas]
    pd.DataFrame({"area": inside, "noise_ceiling": lab.ceilings}).to_csv(folder / "voxels.csv", index=False)


def infinite_ncsnr(folder: Path, lab: Lab) -> None:
    np.save(folder / "n.npy", [np.inf, *lab.ceilings[1:]])
    yaml("{table: voxels.csv, column: noise_ceiling}", "{file: n.npy, unit: ncsnr, n_trials: 3}")(folder, lab)


def an_archive(folder: Path, lab: Lab) -> None:
    (folder / "images.zip").write_bytes(b"PK\x03\x04" + bytes(40))
    yaml("images: images", "images: images.zip")(folder, lab)


def an_array_of_vertices(folder: Path, lab: Lab) -> None:
    with h5py.File(folder / "lh_vertices.h5", "w") as file:
        file["mask"] = lab.vertex[:5]
    yaml("lh_vertices.npy", "lh_vertices.h5")(folder, lab)


def no_id(folder: Path, lab: Lab) -> None:
    table = pd.read_csv(folder / "stimuli.csv")
    table.loc[3, "id"] = "n/a"
    table.to_csv(folder / "stimuli.csv", index=False)


BAD: dict[str, tuple[str, Break, str]] = {
    "files of sessions in the order of texts": (
        "npy",
        both(with_sessions, files(numbered, sorted)),
        "order of the sessions.*'10' as file 2, which is '2' there",
    ),
    "files of images in another order": (
        "npy",
        files(lambda lab: list(lab.pictures), lambda names: names[::-1]),
        "order of the stimuli.*'00110' as file 1",
    ),
    "parts of a table in the order of texts": ("npy", parts, "part.11.parquet and part.2.parquet"),
    "parcels in another order": ("electrodes", responses_of_parcels, "order of the voxels.*'e007' as column 1"),
    "ceilings of parcels in another order": ("electrodes", ceilings_of_parcels, "'e007' as column 1"),
    "parcels for vertices": ("cifti", parcels_as_vertices, "got parcels"),
    "columns with the names of the files": (
        "electrodes",
        columns(lambda lab: [path.name for path in lab.pictures.values()], "columns"),
        "'square11.png' as row 1, which is 'square0.png' there",
    ),
    "numbers with and without zeros": (
        "electrodes",
        both(numbers_with_zeros, columns(lambda lab: [str(k) for k in range(8)], "rows")),
        "'7' as column 1, which is '000' there",
    ),
    "areas of voxels in another order": ("electrodes", turned_table, "'e007' as row 1, which is 'e000' there"),
    "areas of vertices in another order": ("npy", turned_vertices, "'rh 1000' as row 1, which is 'lh 3' there"),
    "a hemisphere in a column of another case": ("electrodes", renamed, "Rename the column 'Hemi'"),
    "hemispheres in a column of another name": (
        "electrodes",
        sites(side=[*"LRLRLRL", "n/a"]),
        "a column 'hemi', as lh and rh; got the column 'side' with L, R, n/a",
    ),
    "sites of another order, by a column of another name": (
        "electrodes",
        sites(),
        "order of the voxels.*'e007' as column 1, which is 'e000' there",
    ),
    "a repeat that was not made": ("electrodes", blank_rows(""), "1 row without any number.*leave these rows out of"),
    "a repeat that was not made, and voxels left out": (
        "electrodes",
        blank_rows("\n  leave_out: [nan]"),
        "none of 8 voxels.*leave these rows out of",
    ),
    "the hemisphere in words": ("npy", sides_in_words, "a file of the hemisphere lh; got a name of the other one"),
    "packed numbers": ("npy", packed({"scale_factor": 0.01}), "scale_factor 0.01"),
    "numbers that mean a missing value": (
        "npy",
        packed({"_FillValue": np.array([-32768], np.int16)}),
        "_FillValue -32768",
    ),
    "packed numbers in zarr": ("npy", packed_zarr, "scale_factor 0.01"),
    "a mask without the name of its area": ("npy", logical, "False and True.*{1: V1}"),
    "an ncsnr without an end": ("npy", infinite_ncsnr, "to inf"),
    "shares as percent": (
        "npy",
        yaml("column: noise_ceiling}", "column: noise_ceiling, unit: percent}"),
        "Write 'unit: r2'",
    ),
    "images in an archive": ("npy", an_archive, "got a ZIP archive. Unpack it"),
    "vertices in HDF5": ("npy", an_array_of_vertices, "Save them with numpy.save"),
    "an id that is not known": ("npy", no_id, "an id .* in every row.*none in row 4"),
    "repeats on an axis of their own": (
        "npy",
        lambda folder, lab: np.save(folder / "lh_responses.npy", np.zeros((6, 2, 5))),
        r"order \(images, repeats, voxels\) by numpy.transpose, then .reshape\(-1, n_voxels\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_another_order_is_one_clear_message(name: str, lab: Lab, tmp_path: Path) -> None:
    kind, spoil, words = BAD[name]
    path = make(tmp_path / kind, kind, lab)
    spoil(tmp_path / kind, lab)
    with pytest.raises(BddnError, match=words) as raised:
        read(path)
    assert str(tmp_path / kind) in str(raised.value)


@pytest.mark.parametrize(
    "change",
    [
        both(with_sessions, files(numbered, list)),
        files(lambda lab: list(lab.pictures), list),
        files(lambda lab: [f"{k:02d}" for k in range(12)], list),  # numbers of trials, not of images
        packed({"scale_factor": 1.0, "add_offset": 0.0, "_FillValue": np.nan}),
    ],
)
def test_the_same_order_is_read(change: Break, lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "npy", "npy", lab)
    ids = [str(k) for k in (3, 1, 2, 0, *range(4, 12))]
    change(tmp_path / "npy", lab)
    table = pd.read_csv(tmp_path / "npy" / "stimuli.csv")
    if not (tmp_path / "npy" / "lh_nsd-00000.npy").exists():
        table.assign(id=ids).to_csv(tmp_path / "npy" / "stimuli.csv", index=False)
    found = OwnData(path).responses()
    scale = 100 if (tmp_path / "npy" / "lh.h5").exists() else 1
    np.testing.assert_allclose(found[:, :5] / scale, lab.responses[:, :5], atol=0.01)
    np.testing.assert_allclose(found[:, 5:], lab.responses[:, 5:], rtol=1e-6)


def test_counted_columns_are_no_names_of_points(lab: Lab, tmp_path: Path) -> None:
    """A table with a column of ranks, and responses whose columns pandas counted."""
    path = make(tmp_path / "electrodes", "electrodes", lab)
    table = pd.read_csv(tmp_path / "electrodes" / "electrodes.csv")
    table.assign(rank=range(7, -1, -1)).to_csv(tmp_path / "electrodes" / "electrodes.csv", index=False)
    pd.DataFrame(lab.responses).to_parquet(tmp_path / "electrodes" / "responses.parquet")
    np.testing.assert_allclose(OwnData(path).responses(), lab.responses, rtol=1e-6)


def test_files_in_the_order_of_texts_are_a_remark(lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "npy", "npy", lab)
    files(numbered, sorted)(tmp_path / "npy", lab)
    assert any("lh_ses-2.npy follows lh_ses-12.npy" in words for words in OwnData(path).remarks())


def test_a_mask_of_an_area_and_names_of_none_are_understood(lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "npy", "npy", lab)
    logical(tmp_path / "npy", lab)
    yaml("column: area}", "column: area, labels: {0: Unknown, 1: V1}}")(tmp_path / "npy", lab)
    assert OwnData(path).voxels()["roi"].tolist() == [one if one == "V1" else "" for one in lab.areas]


def test_a_label_without_vertices_is_an_area_of_none(lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "native", "native", lab)
    (tmp_path / "native" / "lh.empty.label").write_text("#!ascii label, from subject\n0\n")
    yaml(
        "{name: areas, lh: lh.areas.annot, rh: rh.areas.annot}", "{name: V1, lh: lh.empty.label, rh: rh.visual.label}"
    )(tmp_path / "native", lab)
    assert OwnData(path).voxels()["roi"].tolist() == [""] * 5 + ["V1"] * 3


def test_the_line_in_which_a_spreadsheet_names_its_separator_is_read(lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "npy", "npy", lab)
    table = (tmp_path / "npy" / "stimuli.csv").read_text()
    (tmp_path / "npy" / "stimuli.csv").write_text(f"sep=;\n{table.replace(',', ';')}")
    assert OwnData(path).stimuli.ids == tuple(lab.pictures)


@pytest.mark.parametrize("n", [4, 6])
def test_an_array_with_as_many_responses_as_voxels_is_a_remark(n: int, tmp_path: Path) -> None:
    """8 voxels, and two responses to each image."""
    path = make(tmp_path / "hdf5", "hdf5", small_lab(tmp_path / "pictures", n=n))
    words = f"{path.parent / 'betas.hdf5'} has as many rows as columns, so nothing shows which of them are the images"
    told = [one for one in OwnData(path).remarks() if one.startswith(words)]
    assert [one.endswith("'images: columns' is right") for one in told] == [True] * (n == 4)
