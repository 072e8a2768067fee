"""What makes two pieces of work the same, and how a difference is told."""

from typing import Any

import pytest

from bddn.identity import Identity, digest, only_made_with

STORED: dict[str, Any] = {
    "spec": {"grid": [2, 3]},
    "made_with": {"torch": "2.9"},
    "probe": {"block_0": [0.5, -1.25], "block_1": [2.0]},
}


def test_differences_are_named_by_their_parts() -> None:
    wanted = Identity({**STORED, "spec": {"grid": [3, 2]}, "made_with": {"torch": "2.10"}})
    words = Identity(STORED).differences(wanted)
    assert words == ["made_with.torch 2.9 → 2.10", "spec.grid [2, 3] → [3, 2]"]
    assert only_made_with(words[:1])
    assert not only_made_with(words)
    assert Identity(STORED).differences(Identity(STORED)) == []


def test_a_part_that_was_not_written_down_is_no_agreement() -> None:
    words = Identity(STORED).differences(Identity({**STORED, "stimuli_sha256": None}))
    assert words == ["stimuli_sha256 is not recorded there: it was not given, or an earlier version of bddn wrote it"]
    assert Identity({**STORED, "stimuli_sha256": None}).differences(Identity(STORED)) != []


@pytest.mark.parametrize("other", [[0.5, -1.2500001], [0.509, -1.25]])
def test_measured_numbers_are_the_same_where_they_are_close(other: list[float]) -> None:
    assert Identity(STORED).differences(Identity({**STORED, "probe": {**STORED["probe"], "block_0": other}})) == []


@pytest.mark.parametrize("other", [[0.53, -1.25], [0.5], [0.5, -1.25, 0.0], None, [0.5, "x"]])
def test_measured_numbers_that_are_apart_are_told(other: object) -> None:
    (words,) = Identity(STORED).differences(Identity({**STORED, "probe": {**STORED["probe"], "block_0": other}}))
    assert words == "probe.block_0: other numbers for the same image"


def test_the_digest_is_that_of_the_parts_in_any_order() -> None:
    assert Identity({"a": 1, "b": {"c": 2, "d": 3}}).digest() == Identity({"b": {"d": 3, "c": 2}, "a": 1}).digest()
    assert Identity({"a": 1}).digest() == digest({"a": 1}) != Identity({"a": 2}).digest()
    assert Identity(STORED).only("spec", "absent").parts == {"spec": STORED["spec"]}
