"""The statistics of a store are those that numpy finds in what is read back."""

from pathlib import Path

import numpy as np
import pytest

from bddn.store.contents import contents, merged
from bddn.store.reader import Cache
from store.stores import PRECISIONS, SHARDS, filled_with, layout_of, read_all, rows, tokens, write, writer


@pytest.mark.parametrize("name", PRECISIONS)
def test_contents_are_what_numpy_finds_in_the_numbers_that_are_read(name: str, tmp_path: Path) -> None:
    layout, root = layout_of(name), tmp_path / "store.zarr"
    made = writer(root, layout)
    made.prepare()
    write(made, filled_with(tokens(layout), layout), SHARDS)
    made.seal()
    cache = Cache(root)
    rounding = 1 / 250 if name == "int8" else 1e-6
    for path, tensor in read_all(cache).items():
        held, values = cache.contents[path], tensor.double().numpy()
        size = np.abs(values).max()
        assert held.n == values.size
        assert held.non_finite == 0
        assert held.mean == pytest.approx(values.mean(), abs=rounding * size)
        assert held.rms == pytest.approx(np.sqrt(np.square(values).mean()), rel=2 * rounding, abs=rounding * size)
        assert (held.min, held.max) == pytest.approx((values.min(), values.max()), abs=rounding * size)
        if name != "int8":
            assert (held.min, held.max) == (values.min(), values.max())


def test_sums_do_not_depend_on_the_order_of_the_shards() -> None:
    layout, filled = layout_of(), filled_with(tokens())
    parts = [contents(layout, rows(filled, shard)["local/early"]) for shard in SHARDS]
    assert merged(parts) == merged(parts[::-1])


def test_many_blocks_are_summed_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    layout, filled = layout_of("float32"), filled_with(tokens(), layout_of("float32"))["local/early"]
    whole = contents(layout, filled)
    monkeypatch.setattr("bddn.store.contents.BLOCK", 7)
    parts = contents(layout, filled)
    assert (parts.n, parts.min, parts.max) == (whole.n, whole.min, whole.max)
    assert (parts.sum, parts.sum_squares) == pytest.approx((whole.sum, whole.sum_squares), rel=1e-5)


def test_a_constant_array_is_told_from_a_live_one() -> None:
    layout = layout_of()
    assert contents(layout, np.full((4, 3), 2, np.float16)).is_constant
    assert not contents(layout, filled_with(tokens())["global/early"]).is_constant


def test_squares_of_large_numbers_do_not_overflow() -> None:
    held = contents(layout_of("float32"), np.full((4, 3), 3e38, np.float32))
    assert held.rms == pytest.approx(3e38)
    assert held.mean == pytest.approx(3e38)


def test_numbers_that_are_none_are_counted() -> None:
    held = contents(layout_of("float32"), np.array([1, np.nan, np.inf], np.float32))
    assert held.non_finite == 2
