"""Shuffled images: only the pairing is lost, and only within each part."""

import numpy as np

from bddn.data.shuffled import Shuffled
from bddn.data.splits import split_by_id
from bddn.planted.subject import Planted


def test_only_the_pairing_within_each_part_is_lost(planted: Planted) -> None:
    ids = planted.stimuli.ids
    split = split_by_id(ids, (2, 1, 1), 0)
    found, own = Shuffled(planted, split, 0), planted.responses()
    assert found.stimuli is planted.stimuli
    assert found.about is planted.about
    assert found.truth() is None
    shuffled = found.responses()
    for members in split.to_dict().values():
        rows = [ids.index(stimulus) for stimulus in members]
        np.testing.assert_array_equal(np.sort(shuffled[rows], 0), np.sort(own[rows], 0))
        assert (shuffled[rows] == own[rows]).all(1).mean() < 0.5
    some = np.array([5, 3, 40])
    np.testing.assert_array_equal(found.responses(some), shuffled[some])
    np.testing.assert_array_equal(Shuffled(planted, split, 0).responses(), shuffled)
    assert not np.array_equal(Shuffled(planted, split, 1).responses(), shuffled)
