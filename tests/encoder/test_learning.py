"""The log of learning: which steps it looks at, what it writes down of them, and how it survives a file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bddn.encoder import learning
from bddn.encoder.factor_topy import FactorTopy, new_encoder
from bddn.encoder.fit import Fitted, fit
from bddn.encoder.learning import Learning
from bddn.encoder.learning_log import LearningLog, frame_steps
from bddn.encoder.parts import Parts
from bddn.errors import RunError
from bddn.spec import FitSpec
from bddn.stats.hierarchy import confidence
from bddn.stream.features import Features
from bddn.stream.loader import Resident

WIDTHS, GRID = {f"block_{k}": 6 for k in range(4)}, (3, 3)
SPEC = FitSpec(channels=8, selector_width=16, epochs=4, batch_size=4, learning_rate=2e-2, regularizer=0.0)
SHOWN = np.array([1, 2, 5, 17, 18, 39])


def _fit(epochs: int = 4, n_train: int = 160) -> Fitted:
    spec = SPEC.model_copy(update={"epochs": epochs})
    g = torch.Generator().manual_seed(1)
    n = n_train + 20
    features = Features(
        [torch.randn(n, 9, 6, generator=g).half() for _ in WIDTHS],
        [torch.randn(n, 6, generator=g).half() for _ in WIDTHS],
    )
    model = new_encoder(torch.rand(40, 3, generator=g) * 100, WIDTHS, GRID, spec)
    responses = torch.randn(n, 40, generator=g)
    parts = Parts(np.arange(n_train), np.arange(n_train, n - 10), np.arange(n - 10, n))
    return fit(model, Resident.of(features), responses.__getitem__, parts, spec, shown=SHOWN)


COUNTS = {1: 2, 2: 3, 58: 59, 59: 60, 60: 60, 61: 60, 365: 60, 366: 61, 400: 66, 720: 120, 20_000: 120, 5_000_000: 120}


@pytest.mark.parametrize(("n", "n_frames"), COUNTS.items())
def test_frames_begin_before_the_first_step_and_end_after_the_last(n: int, n_frames: int) -> None:
    steps = frame_steps(n)
    assert len(steps) == n_frames
    assert (steps[0], steps[-1]) == (0, n)
    assert (np.diff(steps) > 0).all()


@pytest.mark.parametrize("n", [400, 20_000])
def test_early_steps_get_more_frames(n: int) -> None:
    gaps = np.diff(frame_steps(n))
    thirds = [part.mean() for part in np.array_split(gaps, 3)]
    assert thirds[0] < 0.7 * thirds[1] < 0.7 * thirds[2]


@pytest.mark.parametrize("selection", ["topological", "free", "unfactorized"])
def test_a_frame_is_what_the_voxels_select(selection: str) -> None:
    spec = FitSpec.parse(SPEC.to_dict() | {"selection": selection}, "test")
    torch.manual_seed(0)
    model = new_encoder(torch.rand(40, 3) * 100, WIDTHS, GRID, spec)
    for parameter in model.selectors.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    log = LearningLog(SHOWN, 10, len(WIDTHS), torch.device("cpu"))
    log.losses = [1.0, 2.0]
    log.record(model, 3)
    with torch.no_grad():
        expected = model.select()
    weights = expected.layer.numpy()[SHOWN]
    found = log.learning
    assert np.ptp(weights.argmax(1)) > 0
    np.testing.assert_array_equal(found.layer[3], weights.argmax(1))
    half = 0.5 / 255 + 1e-6
    np.testing.assert_allclose(found.confidence[3] / 255, confidence(weights), atol=half)
    np.testing.assert_allclose(found.place[3] / 127.5 - 1, expected.place.numpy()[SHOWN], atol=2 * half)
    np.testing.assert_allclose(found.scale[3] / 255, expected.scale.numpy()[SHOWN], atol=half)
    assert found.loss[3] == 1.5
    assert log.losses == []
    assert not found.layer[[2, 4]].any()


def test_only_the_shown_voxels_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    select = FactorTopy.select

    def watch(self: FactorTopy, voxels: torch.Tensor) -> object:
        asked.extend(voxels.tolist())
        return select(self, voxels)

    model = new_encoder(torch.rand(40, 3) * 100, WIDTHS, GRID, SPEC)
    log = LearningLog(SHOWN, 10, len(WIDTHS), torch.device("cpu"))
    monkeypatch.setattr(FactorTopy, "select", watch)
    log.record(model, 0)
    assert asked == SHOWN.tolist()


def test_a_fit_is_logged_from_before_its_first_step_to_its_last() -> None:
    fitted = _fit()
    found, n_steps = fitted.learning, fitted.history[-1]["step"]
    assert n_steps == 160
    assert len(found.step) == 60
    assert found.step.tolist() == frame_steps(160).tolist()
    assert found.voxel.tolist() == SHOWN.tolist()
    assert not found.confidence[0].any()  # all layers begin with equal weights
    assert set(found.place[0].ravel().tolist()) == {128}
    assert set(found.scale[0].tolist()) == {128}
    assert np.isnan(found.loss[0])
    assert np.isfinite(found.loss[1:]).all()
    means = [epoch["loss"] for epoch in fitted.history]
    gaps = np.diff(found.step)
    assert (found.loss[1:] * gaps).sum() / n_steps == pytest.approx(np.mean(means))


def test_the_last_frame_is_that_of_the_last_step() -> None:
    """A fit of one epoch keeps that one."""
    fitted = _fit(epochs=1)
    weights = fitted.selection.layer.numpy()[SHOWN]
    np.testing.assert_array_equal(fitted.learning.layer[-1], weights.argmax(1))
    np.testing.assert_allclose(fitted.learning.confidence[-1] / 255, confidence(weights), atol=0.5 / 255 + 1e-6)


def test_a_short_fit_is_logged_at_every_step() -> None:
    assert _fit(epochs=1, n_train=48).learning.step.tolist() == list(range(13))


def test_no_voxel_to_look_at_is_no_trouble() -> None:
    log = LearningLog(np.array([], np.intp), 10, 4, torch.device("cpu"))
    log.record(new_encoder(torch.rand(4, 3), WIDTHS, GRID, SPEC), 0)
    assert log.learning.place.shape == (11, 0, 2)


@pytest.mark.parametrize(("n_layers", "kind"), [(4, np.uint8), (256, np.uint8), (257, np.uint16)])
def test_a_file_gives_back_what_was_written(n_layers: int, kind: type, tmp_path: Path) -> None:
    made = _learning(n_layers)
    assert made.layer.dtype == kind
    layers = [f"block_{k}" for k in range(n_layers)]
    learning.save(made, layers, tmp_path / "a.safetensors")
    learning.save(made, layers, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    back, named = learning.load(tmp_path / "a.safetensors")
    assert named == tuple(layers)
    for name, value in vars(made).items():
        found = getattr(back, name)
        assert found.dtype == value.dtype
        np.testing.assert_array_equal(found, value)
    assert back.layer.max() == n_layers - 1


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "learning.safetensors"
    learning.save(_learning(4), list(WIDTHS), path)
    good = path.read_bytes()
    flipped = good[:-3] + bytes([good[-3] ^ 1]) + good[-2:]
    for bad in (good[:-20], flipped, b"", b"not safetensors"):
        path.write_bytes(bad)
        with pytest.raises(RunError, match=r"learning\.safetensors.*a learning log of"):
            learning.load(path)


def _learning(n_layers: int) -> Learning:
    made = LearningLog(SHOWN, 30, n_layers, torch.device("cpu")).learning
    rng = np.random.default_rng(0)
    layer = rng.integers(0, n_layers, made.layer.shape).astype(made.layer.dtype)
    layer[0, 0] = n_layers - 1
    return replace(made, layer=layer, place=rng.integers(0, 256, made.place.shape).astype(np.uint8))
