"""Evidence: few false alarms in any noise, power for what is predicted, and nothing for what does not vary."""

import numpy as np
import pandas as pd
import pytest

from bddn.stats import evidence
from bddn.stats.evidence import FDR, Evidence, evident, q_values
from bddn.stats.hierarchy import hierarchy_slope
from bddn.stats.scores import roi_scores

N = 1000


def _p(responses: np.ndarray, predicted: np.ndarray, seed: int = 0, batch: int = 32) -> np.ndarray:
    sums = Evidence(len(responses), seed)
    for at in range(0, len(responses), batch):
        sums.add(responses[at : at + batch].astype(np.float32), predicted[at : at + batch].astype(np.float32))
    return sums.p_values()


def _noise(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    if kind == "heavy-tailed":
        return rng.standard_t(2, size=(n, N))
    if kind == "correlated":
        return rng.normal(size=(n, 40)) @ rng.normal(size=(40, N)) / 6 + rng.normal(size=(n, N))
    return rng.exponential(size=(n, N)) if kind == "skewed" else rng.normal(size=(n, N))


@pytest.mark.parametrize("n", [8, 20, 100])
@pytest.mark.parametrize("kind", ["normal", "heavy-tailed", "skewed", "correlated"])
def test_noise_has_p_values_as_often_as_they_say(kind: str, n: int) -> None:
    rng = np.random.default_rng([n, len(kind)])
    found = [_p(_noise(kind, n, rng), _noise(kind, n, rng) * 100 - 7, seed) for seed in range(4)]
    p = np.concatenate(found)
    spread = 4 if kind == "correlated" else 1  # there, voxels are not independent
    for level in (0.05, 0.01, 0.001):
        allowed = level + spread * 4 * np.sqrt(level / len(p))
        assert (p <= level).mean() <= allowed, level
    assert (p <= 0.05).mean() > 0.03 / spread
    assert np.mean([(q_values(one) <= FDR).mean() for one in found]) < 0.002


@pytest.mark.parametrize("kind", ["normal", "heavy-tailed"])
def test_what_is_predicted_is_found_and_the_rest_is_not(kind: str) -> None:
    rng = np.random.default_rng(0)
    responses, is_predicted = _noise(kind, 100, rng), np.arange(N) % 3 == 0
    other = _noise(kind, 100, rng)
    has_evidence = q_values(_p(responses, np.where(is_predicted, 0.6 * responses + other, other))) <= FDR
    assert has_evidence[is_predicted].mean() > 0.9
    assert has_evidence[~is_predicted].mean() < FDR


def test_a_negative_correlation_is_no_evidence() -> None:
    responses = np.random.default_rng(0).normal(size=(50, 20))
    assert _p(responses, -responses).min() > 0.99


def test_what_does_not_vary_has_no_evidence() -> None:
    rng = np.random.default_rng(0)
    responses = rng.normal(size=(50, 4)) * 0.1
    predicted = responses.copy()
    responses[:, 1], predicted[:, 2] = 0.1, -3.7
    predicted[:, 3] = 1000 + responses[:, 3] * 1e-3  # differs by the rounding of float32 only
    found = _p(responses, predicted)
    assert found[0] < 1e-10
    assert found[1:].tolist() == [1, 1, 1]
    assert _p(np.full((50, 3), 0.1), np.zeros((50, 3))).tolist() == [1, 1, 1]


@pytest.mark.parametrize(("n", "least"), [(1, 1), (2, 1), (3, 1 / 6), (5, 1 / 120)])
def test_a_few_images_give_no_small_p_value(n: int, least: float) -> None:
    responses = np.random.default_rng(0).normal(size=(n, 40))
    assert _p(responses, responses).min() >= least


def test_batches_scales_and_offsets_do_not_matter_and_seeds_repeat() -> None:
    rng = np.random.default_rng(0)
    responses = rng.normal(size=(60, 50))
    predicted = 0.3 * responses + rng.normal(size=(60, 50))
    expected = _p(responses, predicted)
    assert _p(responses, predicted).tobytes() == expected.tobytes()
    seen = expected > 0.001
    np.testing.assert_allclose(_p(responses, predicted, seed=1)[seen], expected[seen], rtol=0.3)
    for batch in (1, 7, 60):
        np.testing.assert_allclose(_p(responses, predicted, batch=batch), expected, rtol=1e-5)
    np.testing.assert_allclose(_p(responses * 100, predicted * 0.01), expected, rtol=1e-3)
    np.testing.assert_allclose(_p(responses + 30, predicted - 5), expected, rtol=1e-2)


def test_a_sample_of_the_voxels_gives_the_same_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    responses = _noise("heavy-tailed", 100, rng)
    predicted = 0.2 * responses + _noise("heavy-tailed", 100, rng)
    every = _p(responses, predicted)
    monkeypatch.setattr(evidence, "SAMPLED_VALUES", 100 * 150)
    np.testing.assert_allclose(_p(responses, predicted), every, rtol=0.5, atol=0.01)


def test_q_values_of_an_example() -> None:
    np.testing.assert_allclose(q_values(np.array([0.5, 0.01, 0.03, 0.02])), [0.5, 0.04, 0.04, 0.04])


def test_q_values_are_those_of_benjamini_and_hochberg() -> None:
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(0).random(200) ** 3
    p[:5] = p[5]
    np.testing.assert_allclose(q_values(p), false_discovery_control(p))
    assert not len(q_values(np.zeros(0)))


def _table() -> pd.DataFrame:
    rois = ["V1v", "V2v", "V3d", "OPA", "EBA", "V1v", "EBA"]
    return pd.DataFrame(
        {
            "hemi": "lh",
            "roi": rois,
            "depth": [0.0, 0.33, 0.33, 0.66, 1.0, 1.0, 0.0],
            "r2_test": [0.4, 0.4, 0.4, 0.4, 0.4, -0.1, np.nan],
            "q_test": [0.0, 0.0, 0.05, 0.01, 0.0, 0.9, 1.0],
        }
    )


def test_voxels_without_evidence_are_left_out_of_the_slope_and_counted() -> None:
    table = _table()
    assert evident(table).tolist() == [True] * 5 + [False] * 2
    found = hierarchy_slope(table)
    assert found is not None
    assert (found["slope"], found["n_voxels"], found["n_without_evidence"]) == pytest.approx((1, 5, 2))
    assert hierarchy_slope(table.assign(q_test=1.0)) is None
    old = hierarchy_slope(table.drop(columns="q_test"))
    assert old is not None
    assert old["slope"] < 0.5
    assert old["n_voxels"] == 7
    assert "n_without_evidence" not in old


def test_mean_scores_are_over_all_voxels() -> None:
    assert roi_scores(_table(), "r2_test")["V1"] == pytest.approx(
        {"mean": 0.15, "n_voxels": 2, "n_without_evidence": 1}
    )
    assert roi_scores(_table(), "r2_test")["EBA"] == {"mean": 0.4, "n_voxels": 1, "n_without_evidence": 0}
