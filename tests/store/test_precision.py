"""Every precision keeps a number to within its stated error, and refuses one that it cannot keep."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from bddn.errors import BackboneError
from bddn.store.precision import Precision, precision
from store.stores import PRECISIONS

Bound = dict[str, tuple[float, float]]

RELATIVE: Bound = {  # half a unit in the last place, and half of the smallest number
    "float16": (2**-11, 2**-25),
    "bfloat16": (2**-8, 2**-134),
    "float32": (0, 0),
    "bitround:6": (2**-7 + 2**-11, 2**-21 + 2**-25),
}
TYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32, "int8": torch.float32}


def there_and_back(kept: Precision, values: np.ndarray) -> torch.Tensor:
    ids = [str(i) for i in range(len(values))]
    return kept.decode(*kept.finish(kept.fill(values, "local/early", ids)))


def bound(name: str, values: np.ndarray) -> np.ndarray:
    exact = np.abs(values.astype(np.float64))
    if name == "int8":
        largest = exact.reshape(-1, values.shape[-1]).max(axis=0)
        return np.broadcast_to(largest / 254 * (1 + 2**-20) + 1.5e-36, values.shape)
    relative, absolute = RELATIVE[name]
    return exact * relative + absolute


SHAPES = array_shapes(min_dims=2, max_dims=4, max_side=5)
NUMBERS = st.floats(-65_000, 65_000, width=32)


@pytest.mark.parametrize("name", PRECISIONS)
@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(values=arrays(np.float32, SHAPES, elements=NUMBERS))
def test_every_number_comes_back_within_the_stated_error(name: str, values: np.ndarray) -> None:
    found = there_and_back(precision(name), values)
    assert found.dtype == TYPES.get(name, torch.float16)
    assert found.shape == values.shape
    assert (np.abs(found.double().numpy() - values.astype(np.float64)) <= bound(name, values)).all()


@pytest.mark.parametrize("name", ["bfloat16", "float32", "int8"])
@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(values=arrays(np.float32, SHAPES, elements=st.floats(-(2.0**127), 2.0**127, width=32)))
def test_what_has_the_range_of_float32_keeps_all_of_it(name: str, values: np.ndarray) -> None:
    found = there_and_back(precision(name), values).double().numpy()
    assert (np.abs(found - values.astype(np.float64)) <= bound(name, values)).all()


def test_numbers_are_rounded_to_the_nearest_half() -> None:
    values = np.array([[1.0, 1 + 2**-11 + 2**-14, -65_519.0, 1e-9]], np.float32)
    stored = precision("float16").fill(values, "local/early", ["nsd-1"])
    assert stored.dtype == np.float16
    assert stored.tolist() == [[1.0, 1 + 2**-10, -65_504.0, 0.0]]


def test_float32_and_bfloat16_keep_what_float16_cannot() -> None:
    values = np.array([[1e5, 1e-9]], np.float32)
    assert np.array_equal(there_and_back(precision("float32"), values), values)
    assert torch.equal(there_and_back(precision("bfloat16"), values), torch.from_numpy(values).bfloat16())


@pytest.mark.parametrize("bits", range(1, 10))
def test_bitround_clears_the_bits_that_it_does_not_keep(bits: int) -> None:
    values = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    stored = precision(f"bitround:{bits}").fill(values, "local/early", [str(i) for i in range(50)])
    assert not (stored.view(np.uint16) & ((1 << 10 - bits) - 1)).any()


def test_int8_has_a_scale_for_every_channel() -> None:
    values = np.array([[[127, 0.001]], [[-63.5, 0]]], np.float32)
    stored, scale = precision("int8").finish(values)
    assert scale is not None
    assert stored.tolist() == [[[127, 127]], [[-64, 0]]]
    assert scale.tolist() == pytest.approx([1, 0.001 / 127])


@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-38, float(np.finfo(np.float32).max)])
def test_int8_keeps_dead_and_huge_channels_finite(value: float) -> None:
    values = np.array([[value, 1], [-value, 2]], np.float32)
    found = there_and_back(precision("int8"), values)
    assert found.isfinite().all()
    assert (np.abs(found.double().numpy() - values) <= bound("int8", values)).all()


def test_int8_decodes_no_rows_as_no_rows() -> None:
    nothing = precision("int8").decode(np.empty((0, 2, 3, 5), np.int8), np.empty((0, 5), np.float32))
    assert nothing.shape == (0, 2, 3, 5)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("float16", 1e5, r"1e\+05"),
        ("float16", -70_000, r"7e\+04"),
        ("bitround:6", 65_504, r"6.55e\+04"),
        ("bitround:6", 1e5, r"1e\+05"),
        ("bfloat16", 3.4e38, r"3.4e\+38"),
        *((name, np.inf, "inf") for name in PRECISIONS),
        *((name, -np.inf, "inf") for name in PRECISIONS),
        *((name, np.nan, "nan") for name in PRECISIONS),
    ],
)
def test_a_number_that_does_not_fit_is_refused_by_layer_image_size_and_ways_out(
    name: str, value: float, shown: str
) -> None:
    values = np.zeros((3, 2, 2), np.float32)
    values[1, 0, 1] = value
    with pytest.raises(BackboneError, match=f"local/early.*{name}.*1 of 3 images.*'b'.*{shown}") as caught:
        precision(name).fill(values, "local/early", ["a", "b", "c"])
    assert "bfloat16 or float32" in caught.value.fix


@pytest.mark.parametrize("pattern", [0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0xFFC00000])
@pytest.mark.parametrize("name", [*PRECISIONS, "bitround:1", "bitround:9"])
def test_a_nan_of_any_bits_is_refused(name: str, pattern: int) -> None:
    """A GPU's own NaN has all bits set, which rounding of the mantissa turns into zero."""
    values = np.array([[pattern]], np.uint32).view(np.float32)
    with pytest.raises(BackboneError, match="nan"):
        precision(name).fill(values, "local/early", ["a"])


def test_float16_is_rounded_as_numpy_rounds_it() -> None:
    """Every float16, what lies half-way between two, and what lies next to that."""
    numbers = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (numbers[1:] + numbers[:-1]) / 2
    middles = np.concatenate([middles, np.nextafter(middles, np.float32(0)), np.nextafter(middles, np.float32(np.inf))])
    values = np.concatenate([numbers, middles])
    values = np.concatenate([values, -values])[None]
    found = precision("float16").fill(values, "local/early", ["0"])
    assert found.tobytes() == values.astype(np.float16).tobytes()


@pytest.mark.parametrize("name", PRECISIONS)
def test_rows_that_do_not_lie_in_order_are_rounded_alike(name: str) -> None:
    values = np.random.default_rng(0).normal(size=(3, 4, 2, 5)).astype(np.float32)
    turned = np.ascontiguousarray(values.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    ids = ["a", "b", "c"]
    found = precision(name).fill(turned, "local/early", ids)
    assert found.flags.c_contiguous or name in {"float32", "int8"}
    assert np.array_equal(found, precision(name).fill(values, "local/early", ids))


@pytest.mark.parametrize("name", PRECISIONS)
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_one_number_that_is_none_names_its_image(name: str, bad: float) -> None:
    values = np.ones((3, 2, 2, 5), np.float32)
    values[1, 1, 0, 4] = bad
    with pytest.raises(BackboneError, match=r"other numbers in 1 of 3 images; the first is 'b'"):
        precision(name).fill(values, "local/early", ["a", "b", "c"])
