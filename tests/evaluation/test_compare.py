"""`bddn compare`: planted differences are found, models and subjects are sorted, and what does not fit is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t
from typer.testing import CliRunner

from bddn.cli import app
from bddn.evaluation.contrast.contrast import contrast
from bddn.evaluation.contrast.output import sentences, write_comparison
from bddn.evaluation.contrast.published import PUBLISHED, markdown, missing, table_1, table_2, wide
from bddn.evaluation.contrast.rivals import sort_runs
from bddn.evaluation.contrast.tables import HONEST, MAX, compare_models, groups_of
from bddn.evaluation.kept_responses import HeldOut, read_held_out
from bddn.evaluation.scoring import score_run
from bddn.figures.contrasted import contrasted
from bddn.figures.grid import CortexPanel
from bddn.run import read_run
from bddn.stats.hierarchy import hierarchy_slope
from bddn.stats.scores import ALL
from bench.rivals import Kind, Simulated, simulate
from evaluation.made_runs import write_run
from report.folders import change_json

KIND = Kind(n_images=150, n_voxels=140, ceiling=0.6, lost=0.5)


@pytest.fixture(scope="module")
def data() -> Simulated:
    return simulate(KIND, 2, 0, lacking=(1,))


@pytest.fixture(scope="module")
def folders(data: Simulated, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two networks, of which the second lacks a part of the signal in a third of the voxels."""
    root = tmp_path_factory.mktemp("runs")
    clip, dino = (held[0] for held in data.models.values())
    return [
        write_run(root / "clip", clip, "clip", mean_depth=0.3),
        write_run(root / "dino", dino, "dino", n_layers=12, mean_depth=0.6),
    ]


@pytest.fixture(scope="module")
def out(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared") / "out"
    done = CliRunner().invoke(app, ["compare", *map(str, folders), "--out", str(folder)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "dino predicts" in done.output
    return folder


def test_the_planted_voxels_are_found_and_few_others(out: Path, data: Simulated) -> None:
    found = pd.read_parquet(out / "compare.parquet")
    worse = ((found["q"] <= 0.05) & (found["r2_difference"] < 0)).to_numpy()
    assert worse[data.lacking].mean() > 0.7
    assert (found["q"] <= 0.05)[~data.lacking].mean() < 0.05
    covered = (found["r2_low"] <= data.r2[1] - data.r2[0]) & (data.r2[1] - data.r2[0] <= found["r2_high"])
    assert covered.mean() > 0.85


def test_scores_and_differences_are_those_of_the_runs(out: Path, folders: list[Path]) -> None:
    found, runs = pd.read_parquet(out / "compare.parquet"), [read_run(folder) for folder in folders]
    first, second = (run.voxels for run in runs)
    np.testing.assert_allclose(found["r2_first"], first["r2_test"], atol=1e-12)
    np.testing.assert_allclose(found["r2_difference"], second["r2_test"] - first["r2_test"], atol=1e-12)
    np.testing.assert_allclose(found["depth_difference"], second["depth"] - first["depth"])
    assert found["depth_low"].isna().all()
    rois = _by("roi", pd.read_csv(out / "rois.csv"))
    for roi, mask in groups_of(first).items():
        mean = (second["r2_test"] - first["r2_test"])[mask].mean()
        assert rois[roi]["r2_difference"] == pytest.approx(mean, rel=1e-5)
        assert rois[roi]["n_voxels"] == mask.sum()
    assert rois["V2V3"]["n_voxels"] == rois["V2"]["n_voxels"] + rois["V3"]["n_voxels"]


def test_table_1_and_table_2_are_those_of_the_formulas(out: Path, folders: list[Path]) -> None:
    runs = [read_run(folder) for folder in folders]
    scores = np.stack([run.voxels["r2_test"].to_numpy() for run in runs])
    table, groups = pd.read_csv(out / "table_1.csv"), groups_of(runs[0].voxels)
    for roi, mask in groups.items():
        own = _by("model", table[table["roi"] == roi])
        below = scores.max(axis=0)[mask] - scores[1, mask]
        assert own[MAX]["r2"] == pytest.approx(scores.max(axis=0)[mask].mean(), rel=1e-5)
        assert own["dino"]["root_sum_squared"] == pytest.approx(np.sqrt((below**2).sum()), rel=1e-5)
        assert own["dino"]["root_mean_square"] == pytest.approx(np.sqrt((below**2).mean()), rel=1e-5)
        assert own["dino"]["root_mean_square_low"] <= own["dino"]["root_mean_square_corrected"]
        assert own["dino"]["root_mean_square_corrected"] <= own["dino"]["root_mean_square"]
        assert own[HONEST]["r2"] <= own[MAX]["r2"]
    second = _by("model", pd.read_csv(out / "table_2.csv"))
    for name, run in zip(("clip", "dino"), runs, strict=True):
        slope = hierarchy_slope(run.voxels)
        assert slope is not None
        for column in ("slope", "b0", "b1"):
            assert second[name][column] == pytest.approx(slope[column], rel=1e-5)
        assert second[name]["r2"] == pytest.approx(run.voxels["r2_test"].mean(), rel=1e-5)
        scored = score_run(run, read_held_out(run)).summary.iloc[0]
        for end in ("low", "high"):
            assert second[name][f"r2_{end}"] == pytest.approx(scored[f"r2_{end}_95"], rel=1e-5)


def _by(column: str, table: pd.DataFrame) -> dict[str, dict[Any, Any]]:
    """The rows of a table by the text in one of its columns."""
    return {str(row[column]): row for row in table.to_dict("records")}


def test_what_is_written_can_be_traced_and_is_the_same_again(out: Path, folders: list[Path], tmp_path: Path) -> None:
    about = json.loads((out / "compare.json").read_text())
    assert about["subjects"]["subj01"]["models"]["clip"][0]["cache_digest"] == "clip subj01"
    assert about["settings"]["false_discovery_rate"] == 0.05
    assert any("choosing among noisy scores" in sentence for sentence in about["sentences"])
    assert (out / "differences.png").is_file()
    rivals = sort_runs([read_run(folder) for folder in folders])
    write_comparison(compare_models(rivals), rivals, tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (out / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run: run["data"].update(responses_sha256="other"), "other responses than"),
        (lambda run: run["data"].update(voxels_sha256="other"), "other voxels than"),
        (lambda run: run["data"].update(response_ids_sha256="other"), "other images of the responses than"),
    ],
)
def test_other_data_are_refused(folders: list[Path], tmp_path: Path, change: object, words: str) -> None:
    other = tmp_path / "dino"
    shutil.copytree(folders[1], other)
    change_json(other / "run.json", change)  # type: ignore[arg-type]
    _refused([folders[0], other], words)


def test_other_test_images_one_model_and_runs_without_scores_are_refused(folders: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "dino"
    shutil.copytree(folders[1], other)
    change_json(other / "split.json", lambda split: split.update(test=split["test"][1:]))
    _refused([folders[0], other], "149 of 150 are the same", "split_seed")
    shutil.rmtree(other / "score")
    shutil.copy(folders[1] / "split.json", other)
    _refused([folders[0], other], "not scored", "bddn score")
    _refused(folders[:1], "two runs or more")
    _refused([folders[0], folders[0]], "this one twice")


def _refused(runs: list[Path], *words: str) -> None:
    done = CliRunner().invoke(app, ["compare", *map(str, runs), "--out", str(runs[0].parent / "refused")])
    assert done.exit_code == 2, done.output
    assert all(word in " ".join(done.output.split()) for word in words), done.output
    assert not (runs[0].parent / "refused").exists()


def test_fits_of_one_model_are_averaged_and_subjects_too(tmp_path: Path) -> None:
    """Two subjects, of whom the second lacks a voxel; two fits of each network."""
    kind = replace(KIND, n_voxels=90, fits=2)
    runs = []
    for subject, n in (("subj01", 90), ("subj02", 84)):
        models = simulate(kind, 2, len(subject) + n, lacking=(1,)).models
        for network, fits in zip(("clip", "dino"), models.values(), strict=True):
            for seed, held in enumerate(fits):
                cut = HeldOut(held.ids, held.measured[:, :n], held.predicted[:, :n])
                runs.append(write_run(tmp_path / network / subject / f"seed{seed}", cut, network, subject, seed))
    rivals = sort_runs([read_run(run) for run in runs])
    assert [one.subject for one in rivals] == ["subj01", "subj02"]
    assert [list(one.models) for one in rivals] == [["clip", "dino"]] * 2
    assert {len(fits) for one in rivals for fits in one.models.values()} == {2}
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["compare", *map(str, runs), "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "include the spread over fits" in done.output
    found, average = pd.read_parquet(out / "compare.parquet"), pd.read_parquet(out / "average.parquet")
    own = found[found["subject"] == "subj01"]
    one, other = (read_run(run).voxels for run in runs[:2])
    np.testing.assert_allclose(own["r2_first"], (one["r2_test"] + other["r2_test"]) / 2)
    np.testing.assert_allclose(own["depth_first"], (one["depth"] + other["depth"]) / 2)
    assert (own["depth_low"] < own["depth_difference"]).all()
    both = found.groupby(["hemi", "vertex"])["r2_difference"].mean()
    np.testing.assert_allclose(average.set_index(["hemi", "vertex"])["r2_difference"], both)
    assert average["n_runs"].value_counts().to_dict() == {2: 84, 1: 6}
    assert set(average["roi"]) == set(own["roi"])
    rois = pd.read_csv(out / "rois.csv")
    of_all = _by("subject", rois[rois["roi"] == ALL])
    each = [of_all[subject]["r2_difference"] for subject in ("subj01", "subj02")]
    assert of_all["mean of 2 subjects"]["r2_difference"] == pytest.approx(np.mean(each), rel=1e-5)
    assert of_all["mean of 2 subjects"]["r2_difference_sd"] == pytest.approx(np.std(each, ddof=1), rel=1e-4)
    assert (out / "differences.png").is_file()


def test_means_over_subjects_are_over_those_that_have_the_number(tmp_path: Path) -> None:
    """Three subjects, of whom the last has no evidence in OPA, so no slope."""
    runs = []
    for k in range(3):
        for network, fits in zip(("clip", "dino"), simulate(KIND, 2, k, lacking=(1,)).models.values(), strict=True):
            runs.append(write_run(tmp_path / network / f"subj0{k}", fits[0], network, f"subj0{k}", seed=k))
            if k == 2:
                table = read_run(runs[-1]).voxels
                table.assign(q_test=table["q_test"].mask(table["roi"] == "OPA", 1.0)).to_parquet(
                    runs[-1] / "voxels.parquet"
                )
    rivals = sort_runs([read_run(run) for run in runs])
    found = compare_models(rivals)
    for table, name, ends in ((found.table_2, "slope", "slope"), (found.rois, "r2_difference", "r2")):
        own = table[(table["model"] == "dino") if "model" in table else table["roi"] == ALL]
        values, mean = own[name].iloc[:3].dropna(), own.iloc[3]
        assert len(values) == (2 if name == "slope" else 3)
        assert mean[name] == pytest.approx(values.mean())
        low, high = t.interval(0.95, len(values) - 1, values.mean(), values.sem())
        assert (mean[f"{ends}_low"], mean[f"{ends}_high"]) == pytest.approx((low, high))
        assert mean["n_subjects"] == 3
    assert "The mean slope of dino is over 2 of 3 subjects, as the others have none." in sentences(found, rivals)


@pytest.mark.parametrize("case", ["one layer", "fixed", "saturated"])
def test_a_layer_that_was_not_found_is_told_and_a_setting_has_no_depth(
    case: str, folders: list[Path], tmp_path: Path
) -> None:
    held, other = read_held_out(read_run(folders[1])), tmp_path / "other"
    write_run(other, held, "other", n_layers=1 if case == "one layer" else 3)
    if case == "fixed":
        change_json(other / "run.json", lambda run: run["fit"].update(fixed="layer"))
    if case == "saturated":
        change_json(other / "metrics.json", lambda metrics: metrics.update(saturated_selectors=["layer"]))
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["compare", str(folders[0]), str(other), "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "other says nothing about depth. The " in done.output
    found, table = pd.read_parquet(out / "compare.parquet"), pd.read_csv(out / "table_2.csv")
    assert found[["depth_first", "r2_difference"]].notna().all(axis=None)
    meaningless = case == "saturated"  # which the tables keep, as those of other commands do
    assert found[["depth_second", "depth_difference", "depth_spread_second"]].notna().all(axis=None) == meaningless
    assert table[["slope", "b0", "b1", "depth_spread"]].notna().all(axis=1).tolist() == [True, meaningless]
    assert pd.read_csv(out / "rois.csv")["depth_difference"].notna().all() == meaningless


def test_few_images_give_no_interval_of_a_mean(tmp_path: Path) -> None:
    """Of two images, the mean of the pseudo-values has no spread."""
    for n, known in ((2, False), (9, False), (10, True)):
        models = simulate(replace(KIND, n_images=n), 2, 0).models.values()
        runs = [write_run(tmp_path / f"{n}-{k}", fits[0], f"net{k}") for k, fits in enumerate(models)]
        rivals = sort_runs([read_run(run) for run in runs])
        found = compare_models(rivals)
        assert found.rois[["r2_low", "r2_high"]].notna().all(axis=None) == known
        assert any("have no interval" in words and "10 test" in words for words in sentences(found, rivals)) != known


def test_seeds_of_one_model_are_compared_with_each_other(data: Simulated, tmp_path: Path) -> None:
    held = next(iter(data.models.values()))[0]
    runs = [read_run(write_run(tmp_path / f"seed{seed}", held, seed=seed)) for seed in range(2)]
    rivals = sort_runs(runs)
    assert list(rivals[0].models) == ["seed0", "seed1"]
    found = compare_models(rivals)
    assert found.voxels["p"].eq(1).all()
    assert found.rois["r2_difference"].eq(0).all()


def test_intervals_of_depth_of_ensembles_are_combined(folders: list[Path], tmp_path: Path) -> None:
    runs = []
    for folder, reach in zip(folders, (0.03, 0.04), strict=True):
        runs.append(tmp_path / folder.name)
        shutil.copytree(folder, runs[-1])
        table = read_run(folder).voxels
        ends = {"depth_low": table["depth"] - reach, "depth_high": table["depth"] + reach}
        table.assign(**ends).to_parquet(runs[-1] / "voxels.parquet")
    rivals = sort_runs([read_run(run) for run in runs])
    found = compare_models(rivals)
    np.testing.assert_allclose(found.voxels["depth_high"] - found.voxels["depth_difference"], 0.05)
    shown = contrasted(found.voxels, "subj01").rows[0][1]
    assert isinstance(shown, CortexPanel)
    differs = found.voxels["depth_difference"].abs() > 0.05
    np.testing.assert_array_equal(shown.kind.evident, differs)
    assert not any("no interval" in sentence for sentence in sentences(found, rivals))


def test_images_in_another_order_and_constant_voxels_do_not_matter(data: Simulated) -> None:
    order = np.random.default_rng(0).permutation(KIND.n_images)
    first, second = (held[0] for held in data.models.values())
    measured = first.measured.copy()
    measured[:, 3] = 0.1
    one, other = replace(first, measured=measured), replace(second, measured=measured)
    ids = tuple(other.ids[i] for i in order)
    shuffled = HeldOut(ids, measured[order], other.predicted[order])
    groups = {"all": np.ones(KIND.n_voxels, np.bool_)}
    found = [contrast({"a": [one], "b": [each]}, groups) for each in (other, shuffled)]
    for pair in (done.differences[0] for done in found):
        assert np.isnan(pair.r2[3])
        assert pair.p[3] == 1
        assert np.isfinite(np.delete(pair.r2, 3)).all()
    np.testing.assert_array_equal(found[0].differences[0].p, found[1].differences[0].p)
    np.testing.assert_array_equal(found[0].values, found[1].values)


def test_the_interval_of_a_mean_score_is_that_of_a_bootstrap_over_images(data: Simulated) -> None:
    held = next(iter(data.models.values()))[0]
    values = contrast(data.models, {"all": np.ones(KIND.n_voxels, np.bool_)}).values[0, :, 0]
    rng, means = np.random.default_rng(0), []
    for _ in range(600):
        y, p = (values[rows] for rows in [rng.integers(0, 150, 150)] for values in (held.measured, held.predicted))
        means.append((1 - np.square(y - p).sum(0) / np.square(y - y.mean(0)).sum(0)).mean())
    assert values.std(ddof=1) / np.sqrt(150) == pytest.approx(np.std(means), rel=0.12)


def test_published_tables_stand_beside_ours(out: Path) -> None:
    specs = {"clip": "clip_vit_l14", "dino": "own network"}
    first, second = pd.read_csv(out / "table_1.csv"), pd.read_csv(out / "table_2.csv")
    beside = table_1(first, specs)
    clip = _by("spec", beside[beside["column"] == "V1"])["clip_vit_l14"]
    assert clip["published"] == 0.032
    assert clip["value"] == _by("model", first[first["roi"] == "V1"])["clip"]["root_mean_square"]
    shown = _by("spec", wide(beside))
    assert set(shown) == {*PUBLISHED[1].index, "own network"}
    assert shown["sam_b"]["EBA"] == "- (0.065)"
    assert shown["own network"]["V1"].endswith("(-)")
    assert "sam_b" in missing(1, specs)
    assert "clip_vit_l14" not in missing(1, specs)
    text = markdown(wide(table_2(second, specs)))
    assert text.splitlines()[0] == "| spec | model | R² | slope | b0 | b1 |"
    assert "(0.132)" in next(line for line in text.splitlines() if "clip_vit_l14" in line)
