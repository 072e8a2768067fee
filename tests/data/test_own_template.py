"""`bddn data init`: what is in a folder is found, guessed with a question, and never overwritten."""

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bddn.cli import app
from bddn.data.own_data import OwnData
from bddn.errors import BddnError
from data.own_trees import MAKERS, Lab, make

ANSWERS = {  # what no program can know, in the order of the questions
    "npy": {'fsaverage: "?"': "fsaverage: fsaverage5"},
    "hdf5": {'row: "?"': "row: image", "count_from: 0": "count_from: 1", 'fsaverage: "?"': "fsaverage: fsaverage5"},
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
    text = (path.parent / "new.yaml").read_text().replace('"?"', "fsaverage5")
    (path.parent / "new.yaml").write_text(text)
    assert OwnData(path.parent / "new.yaml").stimuli.ids == tuple(lab.pictures)


def test_an_existing_file_is_never_overwritten(lab: Lab, tmp_path: Path) -> None:
    path = make(tmp_path / "npy", "npy", lab)
    before = path.read_bytes()
    for out, words in ((path, "an existing file"), (tmp_path / "a.yaml", "Write --out"), (path.parent / "b", None)):
        done = CliRunner().invoke(app, ["data", "init", str(path.parent), "--out", str(out)])
        assert done.exit_code == (0 if words is None else 2)
        assert words is None or words in re.sub(r"\s+", " ", done.output)
    assert path.read_bytes() == before
    assert not (tmp_path / "a.yaml").exists()


def test_an_empty_folder_gives_questions(tmp_path: Path) -> None:
    init(tmp_path, tmp_path / "data.yaml")
    with pytest.raises(BddnError, match=r"'stimuli.table' in line .*'stimuli.images'.*'responses.file'"):
        OwnData(tmp_path / "data.yaml")
    done = CliRunner().invoke(app, ["data", "init", str(tmp_path / "none"), "--out", str(tmp_path / "b.yaml")])
    assert done.exit_code == 2
    assert "no such folder" in done.output
