"""The average of subjects."""

import numpy as np
import pandas as pd
import pytest

from bddn.errors import DataError
from bddn.maps.average import average


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
            "weight_a": first,
            "weight_b": 1 - first,
        }
    )


def test_weights_are_averaged_before_a_layer_is_chosen() -> None:
    found = average([subject([1, 2], 0.9), subject([2, 3], 0.3)], ["a", "b"])
    assert found["vertex"].tolist() == [1, 2, 3]
    assert found["n_subjects"].tolist() == [1, 2, 1]
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
