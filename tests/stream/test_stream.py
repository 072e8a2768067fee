"""The order of images, and gathering their tokens."""

import numpy as np
import torch

from bddn.stream.loader import Features
from bddn.stream.plan import epoch_batches


def test_an_epoch_visits_every_row_once() -> None:
    batches = epoch_batches(0, 3, 50, 8)
    assert [len(b) for b in batches] == [8] * 6 + [2]
    assert sorted(np.concatenate(batches).tolist()) == list(range(50))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [int(row) for batch in epoch_batches(seed, epoch, 50, 8) for row in batch]

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_rows_are_gathered_as_float32_in_the_order_asked() -> None:
    features = Features([torch.arange(12).view(4, 3, 1).half()], [torch.arange(4).view(4, 1).half()])
    got = features.rows(torch.tensor([2, 0]))
    assert got.local[0].dtype == torch.float32
    assert got.local[0][:, 0, 0].tolist() == [6, 0]
    assert got.global_[0][:, 0].tolist() == [2, 0]
