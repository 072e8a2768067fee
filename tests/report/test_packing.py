"""Arrays come back as they went, and data cannot end the element that they stand in."""

import json

import numpy as np
import pytest

from bddn.report.packing import KINDS, packed, script_json, unpacked


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_arrays_come_back(kind: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 120, (5, 3)).astype(f"<{kind}")
    found = unpacked(json.loads(script_json(packed(values, kind))))
    assert found.dtype == values.dtype
    assert np.array_equal(found, values)


def test_single_precision_is_kept_to_the_bit() -> None:
    values = np.array([0.1, -0.0, np.nan, np.inf, 1e-30, 3.14159274], dtype=np.float32)
    assert unpacked(packed(values, "f4")).tobytes() == values.tobytes()


def test_a_slice_is_packed_as_it_reads() -> None:
    values = np.arange(12).reshape(3, 4)[:, ::2]
    assert np.array_equal(unpacked(packed(values, "u1")), values)


def test_json_holds_no_markup_and_means_the_same() -> None:
    value = {"title": "</script><!--<img src=x>&\u2028", "n": 1.5}
    text = script_json(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value


def test_numbers_that_json_has_not_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        script_json({"loss": float("nan")})
