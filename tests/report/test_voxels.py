"""The voxels of a page: which ones, with which numbers and names, and who reads alike."""

import numpy as np
import pandas as pd

from bddn.report.packing import unpacked
from bddn.report.voxels import drawn_rows, number_columns, similar_voxels, voxel_arrays, word_columns


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "hemi": ["rh", "lh", "lh"],
            "vertex": [10_241, 10_242, 3],
            "roi": ["V1v", "", "V1v"],
            "r2_test": [0.1, 0.2, np.nan],
            "x": np.array([0.5, 0.25, 1 / 3], dtype=np.float32),
            "n": [1, 2, 3],
            "layer_argmax": ["b", "a", None],
        }
    )


def test_those_at_the_vertices_of_fsaverage5_are_drawn() -> None:
    assert drawn_rows(table()).tolist() == [0, 2]


def test_numbers_and_words_are_told_apart() -> None:
    assert number_columns(table()) == ["r2_test", "x", "n"]
    assert word_columns(table()) == ["roi"]


def test_arrays_hold_every_number_in_single_precision() -> None:
    voxels = table().iloc[[0, 2]]
    found = voxel_arrays(voxels, ["a", "b"])
    assert unpacked(found["side"]).tolist() == [1, 0]
    assert unpacked(found["vertex"]).tolist() == [10_241, 3]
    assert unpacked(found["layer"]).tolist() == [1, 2]
    for name in ("r2_test", "x", "n"):
        assert unpacked(found["numbers"][name]).tobytes() == voxels[name].to_numpy(dtype=np.float32).tobytes()
    words = found["words"]["roi"]
    assert [words["names"][code] for code in unpacked(words["code"])] == ["V1v", "V1v"]


def test_similar_voxels_are_those_of_all_pairs() -> None:
    channels = np.random.default_rng(0).normal(size=(1500, 6)).astype(np.float32)
    channels[7] = 0.0
    row, cosine = similar_voxels(channels, 4)
    length = np.linalg.norm(channels, axis=1)
    for i in (0, 7, 1023, 1024, 1499):
        other = np.array([j for j in range(1500) if j != i])
        alike = channels[other] @ channels[i] / np.maximum(length[other] * length[i], 1e-20)
        assert np.allclose(np.sort(alike)[::-1][:4], cosine[i], atol=1e-6)
        assert i not in row[i]
    assert np.allclose(cosine[7], 0.0)


def test_few_voxels_have_few_that_are_similar() -> None:
    row, cosine = similar_voxels(np.eye(3, dtype=np.float32)[:2])
    assert row.tolist() == [[1], [0]]
    assert cosine.shape == (2, 1)
    assert similar_voxels(np.ones((1, 3), dtype=np.float32))[0].shape == (1, 0)
