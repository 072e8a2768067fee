"""What a page has of the responses to test images: codes, scores, lists, thumbnails, and all of it within a limit."""

import base64
import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bddn.cli import app
from bddn.data.dataset import About, about
from bddn.errors import MismatchError
from bddn.evaluation.kept_responses import HeldOut, read_held_out
from bddn.planted.subject import PLANTED, Planted
from bddn.report import write_report
from bddn.report.answers import LISTED, answers, coded, evenly
from bddn.report.held_out_part import held_out_part
from bddn.report.packing import script_json, unpacked
from bddn.report.shown import Shown, read_shown
from bddn.report.thumbnails import SIDES, data_urls
from bddn.run import read_run
from bddn.stats.scores import R2
from report.test_report import outline


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    """200 images, 7 voxels: voxel 0 is not predicted at all, voxel 5 is constant, voxel 6 is not finite."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(200, 7))
    measured = signal + rng.normal(size=(200, 7))
    predicted = 0.7 * signal
    predicted[:, 0] = rng.normal(size=200)
    measured[:, 5], predicted[3, 6] = 2.0, np.nan
    ids = tuple(f"image-{i}" for i in range(200))
    return HeldOut(ids, measured.astype(np.float32), predicted.astype(np.float32))


def test_codes_are_at_most_half_a_step_off(held_out: HeldOut) -> None:
    values = held_out.measured * np.float32(1e3)
    found = coded(values)
    back = found.low + found.step * found.codes.T
    assert (np.abs(back - values) <= 0.501 * found.step + 1e-3).all()
    assert found.step[5] == 0
    assert np.isnan(coded(held_out.predicted).low).tolist() == [False] * 6 + [True]


def test_lists_scores_and_intervals_come_from_all_images(held_out: HeldOut) -> None:
    rows = np.array([6, 0, 3, 5])
    found = answers(held_out, rows)
    y, p = held_out.measured[:, rows], held_out.predicted[:, rows]
    for v in (1, 2):
        assert found.lists[v, 0].tolist() == np.argsort(-y[:, v])[:LISTED].tolist()
        assert found.lists[v, 1].tolist() == np.argsort(y[:, v])[:LISTED].tolist()
        assert found.lists[v, 2].tolist() == np.argsort(-p[:, v])[:LISTED].tolist()
        assert found.r[v] == pytest.approx(np.corrcoef(y[:, v], p[:, v])[0, 1], abs=1e-6)
        rng, again = np.random.default_rng(1), []
        for _ in range(1000):  # of a bootstrap over images
            drawn = rng.integers(0, 200, 200)
            r2 = R2()
            r2.add(y[drawn, v : v + 1], p[drawn, v : v + 1])
            again.append(r2.score()[0])
        low, high = np.percentile(again, [2.5, 97.5])
        assert [found.low[v], found.high[v]] == pytest.approx([low, high], abs=0.25 * (high - low))
    assert np.isnan([found.low[0], found.r[0], found.low[3], found.r[3]]).all()


def test_images_are_left_out_evenly() -> None:
    assert evenly(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert evenly(101, 5).tolist() == [0, 25, 50, 75, 100]
    assert evenly(4, 0).tolist() == [0]


def shown(run: Path, held_out: HeldOut) -> Shown:
    """The run `one`, whose voxels answered as the first of some others."""
    found = read_shown([run])[0]
    several = -(-len(found.run.voxels) // held_out.measured.shape[1])
    tiled = [np.tile(part, several)[:, : len(found.run.voxels)] for part in (held_out.measured, held_out.predicted)]
    return replace(found, held_out=HeldOut(held_out.ids, tiled[0], tiled[1]))


def test_the_part_fits_its_limit_and_has_equal_responses_once(runs: Path, held_out: HeldOut) -> None:
    one = shown(runs / "one", held_out)
    assert one.held_out is not None
    other = replace(one, held_out=replace(one.held_out, predicted=-one.held_out.predicted))
    third = replace(one, held_out=replace(one.held_out, measured=one.held_out.measured + 1))
    whole = held_out_part([one])
    assert unpacked(whole["answers"][0]["kept"]).tolist() == list(range(200))
    assert len(whole["measured"]) == 1
    for runs_, n_measured in (([one], 1), ([one, other], 1), ([one, third, replace(one, held_out=None)], 2)):
        limit = 25_000 * (len(runs_) + n_measured)
        part = held_out_part(runs_, limit)
        assert limit / 2 < len(script_json(part)) < limit + 2000 * len(runs_)  # names and braces
        assert len(part["measured"]) == n_measured
        kept = unpacked(part["answers"][0]["kept"])
        assert 20 < len(kept) < 200
        assert set(np.diff(kept)) <= {1, 2, 3, 4, 5}
        codes = unpacked(part["measured"][0]["codes"])
        assert codes.shape == (len(one.run.voxels), len(kept))
        assert np.array_equal(codes, unpacked(whole["measured"][0]["codes"])[:, kept])
        numbers = [answer["measured"] for answer in part["answers"] if answer]
        assert numbers == ([0, 1] if n_measured == 2 else [0] * len(runs_))
    assert part["answers"][2] is None


def test_pictures_are_made_smaller_until_they_fit() -> None:
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)) for _ in range(3)]
    large = data_urls(images, 10**6)
    opened = Image.open(BytesIO(base64.b64decode(large[0].partition(",")[2])))
    assert (opened.format, opened.size) == ("WEBP", (64, 48))
    smaller = data_urls(images, sum(map(len, large)) - 1)
    assert Image.open(BytesIO(base64.b64decode(smaller[0].partition(",")[2]))).size[0] in SIDES[1:]
    assert data_urls(images, 100) == []


def test_a_scored_run_gives_a_page_with_its_responses(scored: Path, brain: Path, tmp_path: Path) -> None:
    options = ["--data", f"planted:{brain}", "--out", str(tmp_path / "page.html")]
    done = CliRunner().invoke(app, ["report", str(scored), *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    page = outline(tmp_path / "page.html")
    data = json.loads(page.data)
    (found,), kept = data["answers"], read_held_out(read_run(scored))
    assert tuple(found["ids"]) == kept.ids
    assert found["why"] == ""
    picture = unpacked(found["picture"])
    for i, stimulus in enumerate(kept.ids):
        thumbnail = Image.open(BytesIO(base64.b64decode(data["thumbnails"][picture[i]].partition(",")[2])))
        dataset = Planted(brain)
        image = dataset.stimuli.image(dataset.stimuli.ids.index(stimulus)).resize(thumbnail.size)
        away = np.abs(np.asarray(image, dtype=float) - np.asarray(thumbnail.convert("RGB"), dtype=float)).mean()
        assert away < 12
    text = (tmp_path / "page.html").read_text()
    assert "contains measured responses" in text
    assert "Data terms: none" in text


def test_what_a_page_does_not_have_is_told(scored: Path, runs: Path, brain: Path, tmp_path: Path) -> None:
    without = write_report([scored], tmp_path / "a.html").path
    (found,) = json.loads(outline(without).data)["answers"]
    assert "--data DATA" in found["why"]
    left_out = write_report([scored], tmp_path / "b.html", responses=False).path
    unscored = write_report([runs / "one"], tmp_path / "c.html").path
    for page in (left_out, unscored):
        assert json.loads(outline(page).data)["answers"] == [None]
        assert "bddn score RUN --cache CACHE --data DATA" in page.read_text()
    other = Planted(brain)
    vars(other)["stimuli"] = replace(other.stimuli, ids=("x",), paths=other.stimuli.paths[:1])
    with pytest.raises(MismatchError, match="--data that the run was fitted to"):
        write_report([scored], tmp_path / "d.html", [other])


def test_pictures_need_the_terms_of_the_data(scored: Path, brain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not About("lab", "lab:PATH", "Responses.", (), "Terms.").shows_images
    monkeypatch.setattr(Planted, "about", replace(Planted.about, shows_images=False))
    part = held_out_part(read_shown([scored], [Planted(brain)]))
    assert part["thumbnails"] == []
    assert "terms of the data" in part["answers"][0]["why"]


def test_photographs_of_a_planted_brain_are_not_shown(brain: Path, tmp_path: Path) -> None:
    assert about(Planted(brain)).shows_images
    for name in ("subj01", "truth"):
        (tmp_path / name).symlink_to(brain / name)
    assert not about(Planted(tmp_path)).shows_images  # not known how its images were made
    told = json.loads((brain / PLANTED).read_text())
    told["spec"]["scenes"] = "photographs"
    (tmp_path / PLANTED).write_text(json.dumps(told))
    assert not about(Planted(tmp_path)).shows_images
