"""The experiment over networks: networks are the units, and the answer says how many it rests on."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bddn.errors import DataError
from bddn.evaluation.contrast.published import PUBLISHED
from bddn.evaluation.forgetting.association_words import in_words, sentences
from bddn.evaluation.forgetting.experiment import (
    CLAIM,
    PREDICTORS,
    Experiment,
    experiment,
    networks_of,
    read_experiment,
)
from bddn.figures.association_chart import draw_experiment
from bddn.stats.association import associate

TASKS = ("digits", "textures")


def made(n: int, seed: int = 0, n_seeds: int = 3, effect: float = -0.1, spread: float = 0.0) -> pd.DataFrame:
    """An experiment whose loss of brain score is `effect` times the slope, plus a part of each network, and noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(n):
        slope, own, weights = rng.uniform(0, 0.8), spread * rng.normal(), int(10 ** rng.uniform(4, 7))
        for task in TASKS:
            for number in range(n_seeds):
                lost = 0.2 + effect * slope + own + 0.003 * rng.normal() + (0.05 if task == "digits" else 0)
                rows.append(
                    {
                        "network": f"net_{k}", "task": task, "seed": number, "slope_before": slope, "r2_before": 0.3,
                        "r2_after": 0.3 - lost, "old_accuracy_before": 0.9, "old_accuracy_after": rng.uniform(0.5, 0.9),
                        "accuracy": rng.uniform(0.9, 1), "rewiring": rng.uniform(0.1, 0.3), "rewiring_noise": 0.1,
                        "cka": rng.uniform(), "neighbours": rng.uniform(), "n_parameters": weights,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def row_of(found: Experiment, outcome: str = "brain_loss", predictor: str = CLAIM) -> dict[str, float]:
    rows = found.associations.to_dict("records")
    [row] = [one for one in rows if (one["outcome"], one["predictor"]) == (outcome, predictor)]
    return {str(name): value for name, value in row.items()}


def test_a_true_association_is_found_with_its_size_and_its_rivals_are_behind() -> None:
    table = made(7)
    found = experiment(table)
    row = row_of(found)
    assert row["n"] == 7
    assert row["r"] < -0.95
    assert row["p"] <= 0.01
    assert row["change_low"] <= -0.1 <= row["change_high"] < 0
    assert row["without_high"] < -0.9
    assert row_of(found, predictor="log10_parameters")["ahead_low"] > 0
    assert {*found.associations["predictor"]} == {*PREDICTORS}
    said = sentences(found, table)
    assert said[0].startswith("This rests on 7 networks. Their 42 fine-tunings (2 image sets, 3 seeds)")
    assert any("a larger hierarchy slope before goes with a smaller loss of brain score" in one for one in said)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["n_networks"] == 7


def test_more_seeds_are_not_more_evidence() -> None:
    few, many = experiment(made(5, n_seeds=1, effect=0.0, spread=0.05)), made(5, n_seeds=1, effect=0.0, spread=0.05)
    again = pd.concat([many.assign(seed=k) for k in range(20)])
    pd.testing.assert_frame_equal(experiment(again).associations, few.associations)


def test_under_independence_networks_with_many_seeds_give_five_percent_false_alarms() -> None:
    n_cases = 250
    networks, _ = networks_of(made(6 * n_cases, n_seeds=4, effect=0.0, spread=0.03))
    cases = (networks.iloc[6 * k : 6 * k + 6] for k in range(n_cases))
    alarms = sum(
        associate(case[CLAIM].to_numpy(), case["brain_loss"].to_numpy(), case["network"].tolist()).is_significant
        for case in cases
    )
    assert alarms <= 0.07 * n_cases + 2  # the 48 rows of a case, taken as independent, give more than 50 %


def test_image_sets_weigh_the_same_and_incomplete_networks_are_left_out() -> None:
    table = made(6)
    table = table[~((table["network"] == "net_1") & (table["task"] == "textures"))]
    table = table[~((table["network"] == "net_2") & (table["task"] == "digits") & (table["seed"] > 0))]
    table.loc[table["network"] == "net_3", "slope_before"] = np.nan
    networks, notes = networks_of(table)
    assert networks["network"].tolist() == ["net_0", "net_2", "net_4", "net_5"]
    assert [note.split()[0] for note in notes] == ["net_1", "net_3"]
    own = table[table["network"] == "net_2"].assign(loss=lambda rows: rows["r2_before"] - rows["r2_after"])
    by_task = own.groupby("task")["loss"].mean()
    assert networks.set_index("network").loc["net_2", "brain_loss"] == pytest.approx(by_task.mean())


def test_the_four_published_networks_decide_nothing() -> None:
    slopes = PUBLISHED[2].loc[["clip_vit_b16", "mae_b", "sam_l", "dinov2_b"], "slope"]
    loss = [0.0175, 0.013, 0.0245, 0.0445]  # means of Table 3
    found = associate(slopes.to_numpy(), loss, slopes.index.tolist())
    assert not found.is_significant
    said, then = in_words(found, "loss of brain score")
    assert "4 networks: r = " in said
    assert then.startswith("4 networks cannot decide: so few can only show correlations beyond ±0.95")


def test_an_outlying_network_is_named_and_does_not_make_an_association() -> None:
    table = made(6, effect=0.0)
    table.loc[table["network"] == "net_0", ["slope_before", "r2_after"]] = 9.0, -2.0
    one = experiment(table).claims["brain_loss"]
    assert one.pearson.r > 0.95
    assert one.matters_most == "net_0"
    assert not one.is_significant  # it is the same in one of six orders
    assert in_words(one, "loss")[1].startswith("No association is shown, and none is excluded")


def test_a_file_is_read_back_and_bad_ones_are_refused(tmp_path: Path) -> None:
    table, path = made(4), tmp_path / "experiment.csv"
    table.to_csv(path, index=False)
    pd.testing.assert_frame_equal(read_experiment(path)[list(table)], table)
    bad = {
        "no columns r2_after": table.drop(columns="r2_after"),
        "twice: net_0, digits, 0": pd.concat([table, table.head(1)]),
        "no network or task in row 3": table.assign(network=table["network"].where(table.index != 2)),
        "ValueError": table.assign(r2_before="much"),
    }
    for words, one in bad.items():
        one.to_csv(path, index=False)
        with pytest.raises(DataError, match=words):
            read_experiment(path)
    table.replace({"network": {"net_0": "NA"}}).to_csv(path, index=False)  # a name, not a missing one
    assert experiment(read_experiment(path)).networks["network"].tolist() == ["NA", "net_1", "net_2", "net_3"]
    table.drop(columns=["cka", "rewiring_noise"]).to_csv(path, index=False)
    found = experiment(read_experiment(path))
    assert np.isnan(row_of(found, predictor="cka")["r"])
    assert row_of(found, "rewired")["n"] == 4


def test_the_figure_is_drawn_of_whole_and_of_poor_experiments(tmp_path: Path) -> None:
    for name, table in {"whole": made(6), "poor": made(3, n_seeds=1).assign(old_accuracy_after=np.nan)}.items():
        paths = draw_experiment(experiment(table), table, tmp_path / name, "Forgetting")
        assert [path.suffix for path in paths] == [".png", ".txt"]
        assert all(path.stat().st_size for path in paths)
        assert f"{table['network'].nunique()} networks" in paths[1].read_text()
