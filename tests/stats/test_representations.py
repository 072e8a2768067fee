"""Similarity of two networks: equal tokens, rotations, other widths, unrelated tokens, and chance."""

import math

import numpy as np
import pytest

from bddn.stats.audit import linear_cka
from bddn.stats.representations import chance_overlap, cka_between, neighbour_overlap

RNG = np.random.default_rng(0)
TOKENS = RNG.normal(size=(150, 3, 20)).astype(np.float32)


def test_equal_tokens_are_exactly_alike() -> None:
    assert cka_between(TOKENS, TOKENS.copy()) == 1
    assert neighbour_overlap(TOKENS[:, 0], TOKENS[:, 0].copy()) == 1


def test_rotation_scale_and_a_constant_change_nothing() -> None:
    turn = np.linalg.qr(RNG.normal(size=(20, 20)))[0]
    turned = (3 * TOKENS @ turn + RNG.normal(size=20)).astype(np.float32)
    assert cka_between(TOKENS, turned) == pytest.approx(1, abs=1e-5)
    assert neighbour_overlap(TOKENS[:, 0], turned[:, 0]) > 0.99


def test_unrelated_tokens_of_another_width_are_at_chance() -> None:
    other = RNG.normal(size=(150, 3, 300)).astype(np.float32)
    assert abs(cka_between(TOKENS, other)) < 0.05
    overlaps = [neighbour_overlap(TOKENS[:, 0], RNG.normal(size=(150, 40))) for _ in range(20)]
    assert np.mean(overlaps) == pytest.approx(chance_overlap(150), abs=0.01)


def test_half_of_the_signal_is_between_both() -> None:
    half = np.sqrt(0.5) * TOKENS + np.sqrt(0.5) * RNG.normal(size=TOKENS.shape)
    assert 0.3 < cka_between(TOKENS, half) < 0.7  # the square of a correlation of √0.5
    assert chance_overlap(150) < neighbour_overlap(TOKENS[:, 0], half[:, 0]) < 1


def test_the_form_for_two_networks_is_that_of_the_audit_of_layers() -> None:
    other = TOKENS[:, :, ::2] ** 2
    assert cka_between(TOKENS, other) == pytest.approx(linear_cka([TOKENS, other])[0, 1])


def test_neighbours_are_those_of_a_plain_loop() -> None:
    first, second, k = RNG.normal(size=(40, 6)), RNG.normal(size=(40, 9)), 3
    near = []
    for tokens in (first, second):
        unit = tokens - tokens.mean(0)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        order = np.argsort(-(unit @ unit.T), axis=1)
        near.append([[j for j in row if j != i][:k] for i, row in enumerate(order.tolist())])
    common = [len(set(a) & set(b)) for a, b in zip(*near, strict=True)]
    assert neighbour_overlap(first, second, k) == pytest.approx(sum(common) / (40 * k))


def test_constant_tokens_and_few_images_have_no_similarity() -> None:
    constant = np.ones((150, 3, 5), np.float32)
    assert math.isnan(cka_between(TOKENS, constant))
    assert math.isnan(neighbour_overlap(TOKENS[:, 0], constant[:, 0]))
    assert math.isnan(cka_between(TOKENS[:5], TOKENS[:5]))
    assert math.isnan(neighbour_overlap(TOKENS[:10, 0], TOKENS[:10, 0]))
    assert math.isnan(chance_overlap(10))
