"""The audit of layers: which carry the same information, and which differ in size."""

import numpy as np
import pytest

from bddn.stats.audit import Audit, audit, linear_cka

N, P, C = 64, 4, 24


def tokens(seed: int, n: int = N, channels: int = C) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, P, channels)), rng.normal(size=(n, channels))


def audited(*layers: tuple[np.ndarray, np.ndarray]) -> Audit:
    local, global_ = zip(*layers, strict=True)
    return audit([f"layer_{k}" for k in range(len(layers))], local, global_)


def test_cka_is_that_of_the_formula_with_gram_matrices() -> None:
    """Song et al. 2012, equation 5, written out."""
    (a, _), (b, _) = tokens(0), tokens(1, channels=30)
    b[..., :C] += 2 * a

    def hsic(x: np.ndarray, y: np.ndarray) -> float:
        k, el = x @ x.T, y @ y.T
        np.fill_diagonal(k, 0)
        np.fill_diagonal(el, 0)
        one = np.ones(N)
        cross = (
            np.trace(k @ el) + one @ k @ one * (one @ el @ one) / (N - 1) / (N - 2) - 2 / (N - 2) * one @ k @ el @ one
        )
        return float(cross / (N * (N - 3)))

    sums = [sum(hsic(x[:, p], y[:, p]) for p in range(P)) for x, y in ((a, b), (a, a), (b, b))]
    assert linear_cka([a, b])[0, 1] == pytest.approx(sums[0] / np.sqrt(sums[1] * sums[2]))


def test_copies_are_named_even_if_rotated_scaled_or_shifted() -> None:
    rng = np.random.default_rng(0)
    (a, g), other, third = tokens(0), tokens(1), tokens(2)
    turn = np.linalg.qr(rng.normal(size=(C, C)))[0]
    found = audited((a, g), other, (3 * a @ turn + 1, -2 * g @ turn), third, (a.astype(np.float32), g))
    assert found.alike() == [("layer_0", "layer_2", "layer_4")]
    (words,) = found.warnings()
    assert words.startswith("layers layer_0, layer_2, layer_4 carry the same information (linear CKA ≥ 0.999).")


def test_layers_that_share_only_their_local_tokens_are_not_alike() -> None:
    (a, g), (_, h) = tokens(0), tokens(1)
    assert audited((a, g), (a, h)).alike() == []
    constant = np.ones((N, C))
    assert audited((a, constant), (a, constant)).alike() == [("layer_0", "layer_1")]


def test_unrelated_layers_have_no_similarity_with_more_channels_than_images() -> None:
    found = audited(tokens(0, 40, 400), tokens(1, 40, 400))
    assert abs(found.similarity[0, 1]) < 0.1  # 0.9 with the biased estimator


def test_layers_that_differ_ten_fold_are_told_unless_the_fit_scales_them() -> None:
    a, (b, h), c = tokens(0), tokens(1), tokens(2)
    found = audited(a, (37 * b + 5, 37 * h), c)
    assert len(found.warnings()) == 1
    times = found.norm.max() / found.norm.min()
    assert times == pytest.approx(37, rel=0.1)
    assert f"the tokens of layer_1 are {times:.0f} times as large as those of layer_" in found.warnings()[0]
    assert found.warnings(scaled=True) == []
    assert audited(a, (9 * b, 9 * h)).warnings() == []


def test_a_constant_layer_is_told_and_has_no_similarity() -> None:
    found = audited(tokens(0), (np.full((N, P, C), 0.1, np.float16), np.ones((N, C))), tokens(2))
    assert found.warnings() == ["the tokens of layer_1 are the same for all images, so they predict nothing."]
    assert found.to_dict()["similarity"]["layer_1"] is None
    assert found.to_text()[1]["with the one before"] == "-"


def test_few_images_have_no_similarity() -> None:
    a = tokens(0, n=5)
    assert audited(a, a).alike() == []
