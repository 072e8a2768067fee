"""The film of a page: the frames of the voxels that are drawn, in the room that there is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bddn.encoder.learning import Learning
from bddn.report.learning_film import film
from bddn.report.packing import unpacked
from bddn.run import read_learning, read_run


@pytest.fixture
def learning() -> Learning:
    rng = np.random.default_rng(0)
    frames, voxels = 40, 6
    return Learning(
        step=np.arange(frames, dtype=np.int32) * 5,
        voxel=np.array([9, 2, 5, 7, 1, 3], dtype=np.int32),
        layer=rng.integers(0, 4, (frames, voxels)).astype(np.uint8),
        confidence=rng.integers(0, 256, (frames, voxels)).astype(np.uint8),
        place=rng.integers(0, 256, (frames, voxels, 2)).astype(np.uint8),
        scale=rng.integers(0, 256, (frames, voxels)).astype(np.uint8),
        loss=np.r_[np.nan, np.linspace(1, 0.5, frames - 1)].astype(np.float32),
    )


def test_frames_follow_the_rows_of_the_page(learning: Learning) -> None:
    found = film(learning, np.array([1, 4, 9]), 10**6)
    assert found is not None
    assert unpacked(found["drawn"]).tolist() == [0, 2]  # row 4 was not looked at
    assert found["step"] == learning.step.tolist()
    assert found["loss"][0] is None
    assert np.array_equal(unpacked(found["layer"]), learning.layer[:, [4, 0]])
    assert np.array_equal(unpacked(found["place"]), learning.place[:, [4, 0]])


def test_frames_are_left_out_evenly_where_room_is_short(learning: Learning) -> None:
    found = film(learning, learning.voxel, 10 * 5 * 6)
    assert found is not None
    assert len(found["step"]) == 10
    assert found["step"][0] == 0
    assert found["step"][-1] == learning.step[-1]
    assert found["frames"] == 40
    assert set(np.diff(found["step"])) <= {20, 25}


def test_no_film_without_room_or_voxels(learning: Learning) -> None:
    assert film(learning, learning.voxel, 100) is None
    assert film(learning, np.array([77]), 10**6) is None


def test_more_than_256_layers_take_two_bytes(learning: Learning) -> None:
    many = replace(learning, layer=learning.layer.astype(np.uint16) + 300)
    found = film(many, learning.voxel, 10**6)
    assert found is not None
    assert unpacked(found["layer"]).max() == 303


def test_the_film_of_a_run_ends_where_its_training_ended(runs: Path) -> None:
    run = read_run(runs / "one")
    found = film(read_learning(run), np.arange(len(run.voxels)), 10**6)
    assert found is not None
    assert found["step"][0] == 0
    assert found["step"][-1] == run.metrics["epochs"][-1]["step"]
