"""The "max" model: the formulas of Table 1 on hand-made scores, and the best model on other images."""

import numpy as np
import pytest

from bddn.stats import best_model
from bddn.stats.scores import ROIS


def test_the_differences_of_table_1_are_those_of_a_hand_made_example() -> None:
    first, second = np.array([0.1, 0.5, 0.3, 0.2]), np.array([0.4, 0.1, 0.3, 0.2])
    best = np.maximum(first, second)  # 0.4 0.5 0.3 0.2
    assert best_model.root_sum_squared(best, first) == pytest.approx(0.3)  # √(0.3²)
    assert best_model.root_sum_squared(best, second) == pytest.approx(0.4)  # √(0.4²)
    assert best_model.root_mean_square(best, first) == pytest.approx(0.15)  # √(0.3² / 4)
    assert best_model.root_mean_square(best, second) == pytest.approx(0.2)
    assert best_model.root_mean_square(best, best) == 0


def test_the_columns_of_table_1_are_rois() -> None:
    assert list(best_model.TABLE_1) == ["V1", "V2V3", "OPA", "EBA", "FFA", "PPA"]
    assert {roi for rois in best_model.TABLE_1.values() for roi in rois} <= set(ROIS)


def test_each_fold_is_scored_with_the_model_that_is_best_on_the_others() -> None:
    sums = np.array([[[9.0, 1.0], [1.0, 9.0]], [[1.0, 1.0], [2.0, 2.0]]])  # fold, model, voxel
    assert best_model.best_elsewhere(sums).tolist() == [[0, 0], [1, 0]]
    same, other = best_model.best_of(sums, (0, 1))
    assert same.tolist() == [3, 2]  # voxel 0: model 1, 1 + 2; voxel 1: model 0, 1 + 1
    assert other.tolist() == [9 + 2, 1 + 1]
    assert [part.tolist() for part in best_model.best_of(sums, (0,))] == [[10, 2], [10, 2]]


def test_folds_are_even() -> None:
    assert np.bincount(best_model.folds(103, 0)).tolist() == [11, 11, 11, *[10] * 7]
    assert np.bincount(best_model.folds(5, 0)).tolist() == [3, 2]
    assert best_model.folds(103, 0).tolist() != best_model.folds(103, 1).tolist()


def test_all_sets_of_a_few_models_are_used_and_some_of_many() -> None:
    assert best_model.subsets(3) == [[(0,), (1,), (2,)], [(0, 1), (0, 2), (1, 2)], [(0, 1, 2)]]
    found = best_model.subsets(18)
    assert len(found[0]) == 18
    assert 10 < len(found[8]) <= best_model.N_SUBSETS
    assert found[-1] == [tuple(range(18))]
