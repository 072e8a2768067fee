"""A receipt tells what a precision costs, by fits that differ in nothing else."""

from pathlib import Path

import pytest

from bddn.errors import SpecError
from bddn.planted.subject import Planted
from bddn.run.receipt import Receipt, receipt
from bddn.spec import FitSpec
from bddn.store.reader import Cache

SPEC = FitSpec(epochs=2, channels=8)


@pytest.fixture(scope="module")
def made(sealed: Path, brain: Path) -> dict[str, Receipt]:
    choices = ["float32", "bfloat16", "bitround:2", "int8"]
    found = receipt(Cache(sealed), Planted(brain), choices, SPEC, n_images=48, n_voxels=60)
    return {one.precision: one for one in found}


def test_the_stored_numbers_come_first_and_cost_nothing(made: dict[str, Receipt]) -> None:
    first = next(iter(made.values()))
    assert first.precision == "float16"
    assert (first.r2_change, first.depth_change, first.layer_changed, first.place_change) == (0, 0, 0, 0)


def test_a_precision_that_loses_nothing_changes_nothing(made: dict[str, Receipt]) -> None:
    assert made["float32"].r2 == made["float16"].r2
    assert made["float32"].depth_change == 0


def test_fewer_bits_change_more(made: dict[str, Receipt]) -> None:
    assert 0 < made["bfloat16"].depth_change < made["bitround:2"].depth_change
    assert made["bfloat16"].place_change < made["bitround:2"].place_change


def test_another_seed_shows_how_large_a_change_is_anyway(made: dict[str, Receipt]) -> None:
    assert made["float16, another seed"].depth_change > made["bfloat16"].depth_change


def test_bytes_are_those_of_an_image(made: dict[str, Receipt]) -> None:
    half = 3 * 13 * 24 * 2
    assert made["float16"].image_bytes == half
    assert made["float32"].image_bytes == 2 * half
    assert made["int8"].image_bytes == half / 2
    assert made["bitround:2"].image_bytes < half


@pytest.mark.parametrize("name", ["int4", "bitround:0", "bitround:12", "bitround:x", ""])
def test_an_unknown_precision_is_refused_before_any_work(sealed: Path, planted: Planted, name: str) -> None:
    with pytest.raises(SpecError, match=rf"--precision: expected float16, bfloat16.*'{name}'"):
        receipt(Cache(sealed), planted, ["int8", name], SPEC, 48, 60)
