"""The JSON of a manifest is that of the standard library, byte by byte, and no other is read."""

import json
from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bddn import identity
from bddn.store.canonical import decode_json, digest_of, digest_of_parts, digest_of_texts, encode_json
from bddn.store.hashes import Hashes

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30)
MAPPINGS = st.dictionaries(st.text(), VALUES)
RECORD: dict[str, Any] = {"bytes": 1, "sha256": "a", "chunks": [0, 7, 2**32 - 1]}


@settings(max_examples=40, deadline=None)
@given(MAPPINGS)
def test_it_is_what_the_standard_library_writes_and_reads(value: dict[str, Any]) -> None:
    assert encode_json(value) == (json.dumps(value, indent=1) + "\n").encode()
    assert decode_json(encode_json(value)) == value


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(), MAPPINGS))
def test_digests_made_in_parts_are_those_of_the_whole(parts: dict[str, dict[str, Any]]) -> None:
    assert digest_of_parts(parts) == digest_of(parts) == identity.digest(parts)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text()))
def test_a_digest_of_texts_is_that_of_their_list(texts: list[str]) -> None:
    assert digest_of_texts(texts) == digest_of_texts(iter(texts)) == identity.digest(texts)


def test_checksums_that_were_read_are_small_and_written_as_before() -> None:
    data = (json.dumps({"files": {"a": RECORD}}, indent=1) + "\n").encode()
    found = decode_json(data)
    assert found["files"]["a"]["chunks"] == array("I", RECORD["chunks"])
    assert encode_json(found) == data
    assert digest_of(found) == identity.digest({"files": {"a": RECORD}})


@pytest.mark.parametrize("chunks", [[True], [1.0], [-1], [2**32], ["1"], [None], [[1]], {}, 7])
def test_what_is_no_checksum_is_not_made_one(chunks: Any) -> None:
    data = (json.dumps({"files": {"a": {**RECORD, "chunks": chunks}}}, indent=1) + "\n").encode()
    try:
        found = decode_json(data)
    except ValueError:
        return
    assert found["files"]["a"]["chunks"] == chunks
    assert not isinstance(found["files"]["a"]["chunks"], array)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data + b" ",
        lambda data: data + b"\n",
        lambda data: data.replace(b": ", b":"),
        lambda data: data.replace(b'"a"', b'"\\u0061"'),
        lambda data: data.replace(b'"bytes": 1,', b'"bytes": 2,\n   "bytes": 1,'),
        lambda data: data[: len(data) // 2],
        lambda data: b"",
    ],
)
def test_another_spelling_is_refused(change: Any) -> None:
    data = encode_json({"files": {"a": RECORD}, "n": 7})
    assert change(data) != data
    with pytest.raises(ValueError, match=r"bddn did not write|Expecting|Unterminated|delimiter"):
        decode_json(change(data))


def test_hashes_are_a_sequence_of_texts() -> None:
    texts = [f"{i:064x}" for i in (1, 2**255, 7)]
    found = Hashes.of(texts)
    assert list(found) == texts
    assert found[1] == texts[1]
    assert found[-1] == texts[-1]
    assert list(found[1:]) == texts[1:]
    assert found == texts
    assert found == Hashes.of(texts)
    assert found != Hashes.of(texts[::-1])
    assert found != texts[:2]
    assert texts[2] in found
    assert found.rows.nbytes == 3 * 32
    with pytest.raises(ValueError, match=r"\(n, 32\)"):
        Hashes(found.rows[:, :31])
