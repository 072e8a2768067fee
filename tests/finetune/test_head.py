"""The linear head: linear in tokens as they are, steady for tokens that hardly differ, and a logistic regression."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from bddn.finetune.accuracy import accuracy_of, sample
from bddn.finetune.head import Head


def _tokens(spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    centres = torch.randn(3, 8, generator=generator)
    return 5 + spread * (centres[labels] + torch.randn(60, 8, generator=generator)), labels


def test_the_folded_head_gives_the_same_logits() -> None:
    tokens, _ = _tokens()
    head, plain = Head(tokens, 3, seed=1), Head(tokens, 3, seed=1).folded()
    torch.testing.assert_close(tokens @ plain["weight"].T + plain["bias"], head(tokens), rtol=1e-4, atol=1e-4)
    assert not torch.equal(Head(tokens, 3, seed=2).weight, head.weight)


def test_the_solution_is_that_of_scikit_learn() -> None:
    tokens, labels = _tokens(spread=1e-2)
    head = Head(tokens, 3, seed=0)
    head.solve(tokens, labels)
    x = ((tokens - tokens.mean(0)) / tokens.std(0, correction=0)).double().numpy()
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(x, labels.numpy()).decision_function(x)
    ours = head(tokens).detach().double()
    np.testing.assert_allclose(ours - ours.mean(1, keepdim=True), theirs - theirs.mean(1, keepdims=True), atol=2e-3)


def test_a_common_shift_of_tokens_that_hardly_differ_does_not_explode() -> None:
    tokens, _ = _tokens(spread=1e-6)
    logits = Head(tokens, 3, seed=0)(tokens * 1.01)
    assert logits.abs().max() < 1
    constant = Head(torch.zeros(4, 8), 2, seed=0)
    assert torch.isfinite(constant(torch.zeros(4, 8))).all()


def test_accuracies_and_samples_by_class() -> None:
    labels, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])
    found = accuracy_of(predicted, labels)
    assert (found["accuracy"], found["balanced_accuracy"], found["n_images"]) == (0.75, 0.5, 4)
    assert found["accuracy_low"] < 0.75 < found["accuracy_high"]
    rows = np.arange(100, dtype=np.intp)
    classes = (rows % 10 == 0).astype(np.int64)
    drawn = sample(rows, classes, 12, seed=0)
    assert np.bincount(classes[drawn]).tolist() == [12, 10]
    assert (np.diff(drawn) > 0).all()
    assert not np.array_equal(drawn, sample(rows, classes, 12, seed=1))
