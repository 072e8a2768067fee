"""Mean scores of regions and their intervals: exact, paired between models, and right on simulated models."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score

from bddn.stats import blocks
from bddn.stats.region_scores import interval, region_scores
from bddn.stats.scores import R2, robust_mean, roi_masks, roi_scores

M, N = 40, 30


@pytest.fixture
def responses() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    measured = rng.normal(5, 1, (M, N)).astype(np.float32)
    predicted = (0.6 * measured + 2 + rng.normal(0, 0.5, (M, N))).astype(np.float32)
    predicted[:, 3] = 400  # a score far below -1
    measured[:, 7] = 2.5  # no score
    return measured, predicted


def test_it_is_the_plain_loop(responses: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_VOXELS", 7)
    measured, predicted = responses
    regions = [np.ones(N, bool), np.arange(N) < 5, np.arange(N) == 7]
    found = region_scores(measured, predicted, regions)
    assert found.shape == (3, 1 + M)
    whole = R2()
    whole.add(measured, predicted)
    for k in range(2):
        assert found[k, 0] == pytest.approx(robust_mean(whole.score()[regions[k]]), abs=1e-12)
    assert np.isnan(found[2]).all()
    for image in (0, 17, M - 1):
        rows = np.delete(np.arange(M), image)
        kept = [v for v in range(N) if v != 7]
        r2 = [r2_score(measured[rows, v].astype(float), predicted[rows, v].astype(float)) for v in kept]
        expected = M * found[0, 0] - (M - 1) * np.maximum(r2, -1).mean()
        assert found[0, 1 + image] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("truth", [0.0, 0.2])
def test_the_interval_of_a_difference_covers_it(truth: float) -> None:
    """Two models of 20 voxels that share noise, on 150 test images: 100 simulations."""
    rng, n, hits = np.random.default_rng(2), 150, 0
    for _ in range(100):
        signal = rng.normal(size=(n, 20))
        y = (signal + rng.normal(size=(n, 20)) + 0.7 * rng.normal(size=(n, 1))).astype(np.float32)
        a = (signal + 0.3 * rng.normal(size=(n, 20))).astype(np.float32)
        b = (signal + np.sqrt(0.09 + truth) * rng.normal(size=(n, 20))).astype(np.float32)
        (low,), (high,) = interval(np.subtract(*(region_scores(y, one, [np.ones(20, bool)]) for one in (a, b))))
        hits += low <= truth / (1 + 1 + 0.49) <= high
    assert 0.88 <= hits / 100 <= 0.99


def test_few_images_have_no_interval(responses: tuple[np.ndarray, np.ndarray]) -> None:
    measured, predicted = responses
    low, high = interval(region_scores(measured[:9], predicted[:9], [np.ones(N, bool)]))
    assert np.isnan([low, high]).all()


def test_data_with_names_of_their_own_have_a_row_for_each_label() -> None:
    voxels = pd.DataFrame({"hemi": "lh", "roi": ["LIP", 'TE, "<b>"', "", "LIP"], "r2_test": [0.1, 0.2, 0.3, 0.5]})
    assert {roi: of["mean"] for roi, of in roi_scores(voxels, "r2_test").items()} == {"LIP": 0.3, 'TE, "<b>"': 0.2}
    assert [*roi_masks(voxels)] == ["all", "LIP", 'TE, "<b>"']
    assert [*roi_masks(voxels.assign(roi=["V1v", "TE", "", "LIP"]))] == ["all", "V1", "LIP", "TE"]
    nsd = voxels.assign(roi=["V1v", "mTL-words", "", "V1d"], streams=["early", "ventral", "lateral", "early"])
    assert [*roi_masks(nsd)] == ["all", "V1"]  # as in the tables of the paper
