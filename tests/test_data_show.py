"""`bddn data show`: the images to which ROIs respond most and least, and what it refuses."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from bddn.cli import app
from bddn.errors import DataError
from bddn.figures.data_sheet import PER_ROW, SIDE, data_sheet, montage
from bddn.figures.grid import CortexPanel
from bddn.planted.subject import Planted
from bddn.stats.preferred_images import Preferred, groups_of, preferred_images
from bddn.stats.scores import in_roi, labels_of
from trial_data import TrialsOf


@pytest.fixture(scope="module")
def found(brain: Path) -> Preferred:
    data = Planted(brain)
    return preferred_images(data, groups_of(data.voxels(), ["EBA", "FFA"]), 3)


def z_scored(values: np.ndarray) -> np.ndarray:
    return np.asarray((values - values.mean(0)) / values.std(0))


def test_images_are_ordered_by_the_mean_response_of_an_roi(found: Preferred, brain: Path) -> None:
    data = Planted(brain)
    z, voxels = z_scored(data.responses().astype(float)), data.voxels()
    for roi in ("EBA", "FFA"):
        mean = z[:, in_roi(voxels, roi)].mean(1)
        np.testing.assert_allclose(found.table[roi], mean, atol=1e-4)
        assert found.strongest[roi] == np.argsort(-mean)[:3].tolist()
        assert found.weakest[roi] == np.argsort(mean)[:3].tolist()
        expected = z[found.strongest[roi]].mean(0) - z[found.weakest[roi]].mean(0)
        np.testing.assert_allclose(found.contrasts[roi], expected, atol=1e-4)
    np.testing.assert_allclose(found.deviation, data.responses().std(0), rtol=1e-4)
    assert found.table["image"].tolist() == list(data.stimuli.ids)


def test_trials_of_an_image_count_as_one_image(found: Preferred, brain: Path) -> None:
    data = TrialsOf(Planted(brain), np.full(48, 3))
    trials = preferred_images(data, groups_of(data.voxels(), ["EBA", "FFA"]), 3)
    np.testing.assert_allclose(trials.table[["EBA", "FFA"]], found.table[["EBA", "FFA"]], atol=1e-4)
    assert trials.strongest == found.strongest


def test_voxels_stand_for_rois_where_there_are_none(brain: Path) -> None:
    voxels = Planted(brain).voxels()
    none = voxels.assign(**{str(column): "" for column in labels_of(voxels)})
    groups = groups_of(none)
    assert [mask.sum() for mask in groups.values()] == [1] * 4
    assert none.loc[groups[next(iter(groups))], "ceiling"].item() == none["ceiling"].max()
    assert len(groups_of(none.assign(ceiling=np.nan))) == 4
    assert [*groups_of(voxels)] == ["EBA", "FFA"]
    with pytest.raises(DataError, match=r"'nowhere': expected ROIs of the data: .*EBA"):
        groups_of(voxels, ["EBA", "nowhere"])
    with pytest.raises(DataError, match=r"it has none; .* Leave out --rois"):
        groups_of(none, ["EBA"])


def test_a_sheet_has_maps_and_images(found: Preferred, brain: Path) -> None:
    data = Planted(brain)
    sheet = data_sheet(data, found)
    titles = [[panel.title for panel in row] for row in sheet.rows]
    assert titles[0] == ["ROIs", "standard deviation of responses", "noise ceiling"]
    assert [row[0].partition(",")[0] for row in titles[1:]] == ["EBA responds most", "FFA responds most"]
    middle = sheet.rows[1][1]
    assert isinstance(middle, CortexPanel)
    np.testing.assert_array_equal(middle.kind.values[:, 0], found.contrasts["EBA"])
    page = montage(data.stimuli, found.strongest["EBA"])
    small = np.asarray(data.stimuli.image(found.strongest["EBA"][0]).resize((SIDE, SIDE)))
    np.testing.assert_array_equal(page[:SIDE, :SIDE], small)
    assert page.shape[1] > PER_ROW * SIDE


def test_the_command_draws_it(brain: Path, tmp_path: Path) -> None:
    def run(*words: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["data", "show", *map(str, words)])
        return done.exit_code, " ".join(done.output.split())

    code, said = run(f"algonauts:{brain / 'subj01'}", "--out", tmp_path / "new" / "a.png", "--rois", "EBA", "--dpi", 30)
    assert code == 0, said
    assert "note: the figure contains images of the dataset. Data terms" in said
    with Image.open(tmp_path / "new/a.png") as image:
        assert image.width == 300
    assert pd.read_csv(tmp_path / "new/a.csv").shape == (48, 2)
    assert "EBA responds most" in (tmp_path / "new/a.txt").read_text()
    for words, expected in (
        ((f"planted:{brain}", "--out", tmp_path / "a.gif"), "expected a file .png, .svg, .pdf; got a.gif"),
        ((f"planted:{brain}", "--out", tmp_path / "a.png", "--rois", "FFA,"), "--rois: ''"),
        (("planted:none", "--out", tmp_path / "a.png"), "no such folder"),
    ):
        code, said = run(*words)
        assert code == 2
        assert expected in said
