"""`bddn data init`: what is in a folder is found, guessed with a question, and never overwritten."""

import os
import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bddn.cli import app
from bddn.cortex.mgh import read_mgh
from bddn.data.own.own_data import OwnData
from bddn.errors import BddnError
from data.own_trees import AFFINE, FREESURFER, MAKERS, Lab, make, small_lab, write_sphere

ANSWERS = {  # what no program can know, in the order of the questions
    "npy": {'fsaverage: "?"': "fsaverage: fsaverage5", 'count_from: "?"': "count_from: 0"},
    "hdf5": {'row: "?"': "row: image", 'count_from: "?"': "count_from: 1", 'fsaverage: "?"': "fsaverage: fsaverage5"},
    "gifti": {},
    "nifti": {'space: "?"': "space: MNI"},
    "cifti": {
        'fsaverage: "?"': "sphere: {lh: fsLR_to_fsaverage.L.sphere.surf.gii, rh: fsLR_to_fsaverage.R.sphere.surf.gii}"
    },
    "electrodes": {},
    "native": {},
}


def init(folder: Path, out: Path) -> str:
    done = CliRunner().invoke(app, ["data", "init", str(folder), "--out", str(out)])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("kind", MAKERS)
def test_a_template_needs_only_answers(kind: str, lab: Lab, tmp_path: Path) -> None:
    folder, out = tmp_path / kind, tmp_path / kind / "begun.yaml"
    expected = OwnData(make(folder, kind, lab))
    said = init(folder, out)
    text = out.read_text()
    assert f"{text.count('# ?')} guesses" in said
    if '"?"' in text.split("\n\n", 1)[1]:
        with pytest.raises(BddnError, match="an answer in place of every"):
            OwnData(out)
    for old, new in ANSWERS[kind].items():
        assert old in text, text
        text = text.replace(old, new)
    out.write_text(text)
    found = OwnData(out)
    assert found.stimuli == expected.stimuli
    rows = found.responses()
    if kind in ("gifti", "native"):  # a mask is one of several files, so the template takes all vertices
        rows = rows[:, rows.any(0)]
    np.testing.assert_allclose(np.sort(rows), np.sort(expected.responses()), rtol=1e-6)


def test_everything_found_is_listed(lab: Lab, tmp_path: Path) -> None:
    make(tmp_path / "npy", "npy", lab)
    (tmp_path / "npy" / "broken.npy").write_bytes(b"?")
    (tmp_path / "npy" / ".hidden.csv").write_text("a\n")
    said = init(tmp_path / "npy", tmp_path / "npy" / "new.yaml")
    text = (tmp_path / "npy" / "new.yaml").read_text()
    for words in (
        "#   images/: 6 images",
        "#   lh_responses.npy: array float32 6 × 5",
        "#   stimuli.csv: table 6 × 2: id, file",
        "#   not readable: broken.npy",
    ):
        assert words in text
    assert "hidden" not in text
    assert "note: not readable: broken.npy" in said


def test_odd_names_are_quoted(lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "my: data #1", "npy", lab)
    (path.parent / "stimuli.csv").rename(path.parent / "1: stimuli #.csv")
    init(path.parent, path.parent / "new.yaml")
    text = (path.parent / "new.yaml").read_text().replace('count_from: "?"', "count_from: 0")
    text = text.replace('"?"', "fsaverage5")
    (path.parent / "new.yaml").write_text(text)
    assert OwnData(path.parent / "new.yaml").stimuli.ids == tuple(lab.pictures)


def test_names_with_line_breaks_and_wide_tables_are_one_line_each(lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "my\ndata", "npy", lab)
    table = pd.read_csv(path.parent / "stimuli.csv").rename(columns={"id": "id\n(of NSD)"})
    wide = pd.DataFrame(0, table.index, [f"feature_{i}" for i in range(300)])
    pd.concat([table, wide], axis=1).to_csv(path.parent / "stimuli.csv")
    init(path.parent, path.parent / "new.yaml")
    text = (path.parent / "new.yaml").read_text()
    assert "#   stimuli.csv: table 6 × 302: id (of NSD), file, feature_0, " in text
    assert "and 282 more\n" in text
    assert "# Own data for bddn, begun from what is in my data/.\n" in text
    with pytest.raises(BddnError, match="an answer in place of every"):
        OwnData(path.parent / "new.yaml")


def test_an_existing_file_is_never_overwritten(lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "npy", "npy", lab)
    before = path.read_bytes()
    for out, words in ((path, "an existing file"), (tmp_path / "a.yaml", "Write --out"), (path.parent / "b", None)):
        done = CliRunner().invoke(app, ["data", "init", str(path.parent), "--out", str(out)])
        assert done.exit_code == (0 if words is None else 2)
        assert words is None or words in re.sub(r"\s+", " ", done.output)
    assert path.read_bytes() == before
    assert not (tmp_path / "a.yaml").exists()


def test_a_table_with_a_row_for_each_voxel_wins_over_a_volume_of_another_size(lab: Lab, tmp_path: Path) -> None:
    """Electrodes beside an anatomical volume and a mask of the whole brain."""
    folder = make(tmp_path / "electrodes", "electrodes", lab).parent
    for name, values in (
        ("T1w.nii.gz", np.arange(24).reshape(2, 3, 4) * 0.5),
        ("brain_mask.nii.gz", np.ones((2, 3, 4))),
    ):
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), AFFINE), folder / name)
    for name, rows in (("a_grid.csv", 3), ("b_stimulator.csv", 1)):
        text = "x_mm,y_mm,z_mm\n" + "1,2,3\n" * rows
        (folder / name).write_text(text)
    init(folder, folder / "placed.yaml")
    assert "\n  table: electrodes.csv  # ? 8 voxels\n" in (folder / "placed.yaml").read_text()
    for path in folder.glob("*.csv"):
        path.write_text(path.read_text().replace("x_mm", "x"))
    init(folder, folder / "unplaced.yaml")
    text = (folder / "unplaced.yaml").read_text()
    assert '\n  table: "?"  # ? electrodes.csv has a row for each voxel, but no columns x_mm, y_mm, z_mm\n' in text
    assert "mask:" not in text
    (folder / "electrodes.csv").unlink()
    init(folder, folder / "without.yaml")
    assert "no mask of 8 voxels is here" in (folder / "without.yaml").read_text()
    inside = np.zeros((2, 3, 4), np.uint8)
    inside.flat[:8] = 1
    nibabel.save(nibabel.Nifti1Image(inside, AFFINE), folder / "cortex.nii.gz")
    init(folder, folder / "masked.yaml")
    assert "\n  mask: cortex.nii.gz  # ? 2 × 3 × 4\n" in (folder / "masked.yaml").read_text()


def test_labels_of_an_unknown_hemisphere_are_asked_for(lab: Lab, tmp_path: Path) -> None:
    folder = make(tmp_path / "gifti", "gifti", lab).parent
    for side in "LR":
        path = folder / f"sub-01_hemi-{side}_space-fsaverage5_visual.label.gii"
        path.rename(folder / f"visual{side}.label.gii")  # whose metadata tell the hemisphere
    init(folder, folder / "known.yaml")
    text = (folder / "known.yaml").read_text()
    for words in ("lh: visualL.label.gii", "rh: visualR.label.gii"):
        assert f"    {words}\n" in text
    image: Any = nibabel.load(folder / "visualR.label.gii")
    image.meta.clear()
    nibabel.save(image, folder / "areas.label.gii")
    init(folder, folder / "asked.yaml")
    text = (folder / "asked.yaml").read_text()
    expected = '  - name: areas  # ?\n    lh: "?"  # ? areas.label.gii, under lh or rh: which is it of?\n'
    assert expected in text
    with pytest.raises(BddnError, match=r"'rois\.0\.lh' in line"):
        OwnData(folder / "asked.yaml")


def test_an_empty_folder_gives_questions(tmp_path: Path) -> None:
    init(tmp_path, tmp_path / "data.yaml")
    with pytest.raises(BddnError, match=r"'stimuli.table' in line .*'stimuli.images'.*'responses.file'"):
        OwnData(tmp_path / "data.yaml")
    done = CliRunner().invoke(app, ["data", "init", str(tmp_path / "none"), "--out", str(tmp_path / "b.yaml")])
    assert done.exit_code == 2
    assert "no such folder" in done.output


def test_pipes_are_told_and_not_waited_for(lab: Lab, tmp_path: Path) -> None:
    folder = make(tmp_path / "npy", "npy", lab).parent
    names = ("a.csv", "a.npy", "a.h5", "a.parquet", "a.nii", "a.nii.gz", "a.gii", "a.mgh", "lh.white")
    for name in names:
        os.mkfifo(folder / name)
    said = init(folder, folder / "new.yaml")
    for name in names:
        assert f"not readable: {name}: not a regular file" in said


def test_what_is_counted_from_0_is_not_asked(lab: Lab, tmp_path: Path) -> None:
    folder = make(tmp_path / "npy", "npy", lab).parent
    np.save(folder / "rh_vertices.npy", [0, 7, 40])
    init(folder, folder / "new.yaml")
    assert "  count_from: 0  # number of the first vertex" in (folder / "new.yaml").read_text()


@pytest.mark.parametrize("name", ["beta_{:04d}.nii", "beta_{}.nii"])
def test_a_volume_for_each_image_is_a_list_of_responses(name: str, tmp_path: Path) -> None:
    lab = small_lab(tmp_path / "pictures", n=12)
    folder = make(tmp_path / "nifti", "nifti", lab).parent
    shape = nibabel.load(folder / "mask.nii.gz").shape  # type: ignore[attr-defined]
    for path in folder.glob("betas_*"):
        path.unlink()
    for k in range(12):
        nibabel.save(nibabel.Nifti1Image(np.full(shape, k, np.float32), AFFINE), folder / name.format(k + 1))
    init(folder, folder / "new.yaml")
    text = (folder / "new.yaml").read_text().replace('space: "?"', "space: MNI")
    (folder / "new.yaml").write_text(text)
    np.testing.assert_array_equal(OwnData(folder / "new.yaml").responses()[:, 0], range(12))


def test_images_in_folders_of_the_stimuli_folder_are_found(lab: Lab, tmp_path: Path) -> None:
    """As in BIDS, where names start from `stimuli/`."""
    folder = make(tmp_path / "npy", "npy", lab).parent
    (folder / "stimuli").mkdir()
    (folder / "images").rename(folder / "stimuli/objects")
    table = pd.read_csv(folder / "stimuli.csv")
    table.assign(file="objects/" + table["file"]).to_csv(folder / "stimuli.csv", index=False)
    init(folder, folder / "begun.yaml")
    assert "  images: stimuli  # ?" in (folder / "begun.yaml").read_text()


def test_only_registered_spheres_are_proposed_one_of_each_hemisphere(lab: Lab, tmp_path: Path) -> None:
    folder = make(tmp_path / "native", "native", lab).parent
    vertices, faces = FREESURFER.read_geometry(folder / "rh.sphere.reg")
    FREESURFER.write_geometry(folder / "rh.sphere.reg", vertices[:-5], faces)  # other hemispheres have other numbers
    betas = read_mgh(folder / "rh.betas.mgh")[:-5, None, None]
    nibabel.save(nibabel.MGHImage(betas, np.eye(4)), folder / "rh.betas.mgh")
    for name in ("lh.sphere", "rh.sphere", "100307.L.sphere.MSMAll.native.surf.gii"):
        write_sphere(folder / name, "lh" if "L" in name else name[:2])
    init(folder, folder / "begun.yaml")
    assert "    lh: lh.sphere.reg\n    rh: rh.sphere.reg\n" in (folder / "begun.yaml").read_text()
