"""The average of runs, and their agreement."""

import numpy as np
import pandas as pd
import pytest

from bddn.errors import DataError
from bddn.stats.average import average, layer_agreement
from bddn.stats.hierarchy import hierarchy_slope


def subject(vertices: list[int], first: float, roi: str = "V1v") -> pd.DataFrame:
    n = len(vertices)
    return pd.DataFrame(
        {
            "hemi": ["lh"] * n,
            "vertex": vertices,
            "roi": [roi] * n,
            "r2_val": 0.1,
            "r2_test": first,
            "x": first,
            "y": 0.0,
            "scale": 0.5,
            "layer_argmax": "a" if first > 0.5 else "b",
            "weight_a": first,
            "weight_b": 1 - first,
        }
    )


def test_weights_are_averaged_before_a_layer_is_chosen() -> None:
    found = average([subject([1, 2], 0.9), subject([2, 3], 0.3)], ["a", "b"])
    assert found["vertex"].tolist() == [1, 2, 3]
    assert found["n_runs"].tolist() == [1, 2, 1]
    assert found["weight_a"].tolist() == pytest.approx([0.9, 0.6, 0.3])
    assert found["layer_argmax"].tolist() == ["a", "a", "b"]
    assert found["depth"].tolist() == pytest.approx([0.1, 0.4, 0.7])
    assert found["r2_test"].tolist() == pytest.approx([0.9, 0.6, 0.3])
    assert np.isfinite(found["confidence"]).all()


def test_the_most_frequent_name_of_an_roi_is_kept() -> None:
    tables = [subject([5], 0.5, roi) for roi in ("V2v", "V1v", "V2v")]
    assert average(tables, ["a", "b"])["roi"].tolist() == ["V2v"]


def test_other_layers_are_refused() -> None:
    with pytest.raises(DataError, match=r"run 2 of 2.*without c"):
        average([subject([1], 0.5).assign(weight_c=0.0), subject([1], 0.5)], ["a", "b", "c"])


def test_the_average_keeps_its_atlases_so_that_it_has_a_slope() -> None:
    rois = ["V1v", "V2v", "OPA", "EBA"]
    tables = [
        subject([1, 2, 3, 4], 0.5).assign(
            roi="", atlas=rois, weight_a=[1, 0.67, 0.34, 0], weight_b=[0, 0.33, 0.66, 1], depth=[0, 0.33, 0.66, 1]
        )
        for _ in range(2)
    ]
    tables[1].loc[0, "atlas"] = None  # a subject without a label here
    found = average(tables, ["a", "b"])
    assert found["atlas"].tolist() == ["", *rois[1:]]  # as frequent as V1v, and before it in the alphabet
    three = average([*tables, tables[0]], ["a", "b"]).assign(more=["", "V3d", "", ""])
    slope = hierarchy_slope(three)
    assert slope is not None
    assert slope["slope"] == pytest.approx(1)


def test_places_on_both_sides_do_not_average_to_the_centre() -> None:
    found = average([subject([1, 2], 1.0), subject([1, 2], 1.0).assign(x=[-1.0, 0.8])], ["a", "b"])
    assert found["x_sd"].tolist() == pytest.approx([2**0.5, 0.2 / 2**0.5])
    assert np.isnan(found.loc[0, ["x", "y"]].to_numpy(dtype=float)).all()
    assert found.loc[1, "x"] == pytest.approx(0.9)


def test_agreement_is_the_share_of_pairs_that_select_the_same_layer() -> None:
    chosen = np.array([[0, 0, 0, -1], [0, 1, 0, -1], [0, 2, 1, 2]])
    np.testing.assert_allclose(layer_agreement(chosen), [1, 0, 1 / 3, np.nan])
    found = average([subject([1, 2], 0.9), subject([2, 3], 0.8), subject([2], 0.1)], ["a", "b"])
    np.testing.assert_allclose(found["agreement"], [np.nan, 1 / 3, np.nan])


def test_evidence_of_the_average_is_that_of_a_typical_run() -> None:
    weak, none = (
        subject([1, 2], 0.9).assign(p_test=0.02, q_test=0.2),
        subject([2, 3], 0.3).assign(p_test=1.0, q_test=1.0),
    )
    found = average([weak, weak, none], ["a", "b"])
    assert found["p_test"].tolist() == pytest.approx([0.04, 0.6933, 1.0], abs=1e-4)
    assert found["q_test"].tolist() == pytest.approx([0.12, 1.0, 1.0])
    assert "q_test" not in average([weak, subject([1], 0.5)], ["a", "b"])
