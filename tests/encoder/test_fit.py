"""Training: repeatable, stopped by what is not finite, best epoch kept."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from bddn import parallel
from bddn.encoder import checkpoint
from bddn.encoder.factor_topy import FactorTopy
from bddn.encoder.fit import Fitted, Rows, fit, new_encoder, score
from bddn.errors import FitError, RunError
from bddn.spec import FitSpec
from bddn.stats.scores import r2_score
from bddn.stream.loader import Features

WIDTHS = {"early": 6, "late": 5}
GRID = (4, 4)
SPEC = FitSpec(channels=8, selector_width=16, epochs=3, batch_size=4, learning_rate=3e-3)


def _data(n: int = 60, n_voxels: int = 30) -> tuple[torch.Tensor, Features, torch.Tensor, Rows]:
    g = torch.Generator().manual_seed(1)
    coords = torch.rand(n_voxels, 3, generator=g) * 100
    features = Features(
        [torch.randn(n, 16, c, generator=g).half() for c in WIDTHS.values()],
        [torch.randn(n, c, generator=g).half() for c in WIDTHS.values()],
    )
    responses = features.global_[0].float() @ torch.randn(6, n_voxels, generator=g) * 0.3
    return coords, features, responses, Rows(torch.arange(40), torch.arange(40, 50), torch.arange(50, 60))


def _fit(spec: FitSpec = SPEC) -> Fitted:
    coords, features, responses, rows = _data()
    return fit(new_encoder(coords, WIDTHS, GRID, spec), features, responses, rows, spec)


def _bytes(fitted: Fitted, folder: Path) -> bytes:
    path = folder / "encoder.safetensors"
    checkpoint.save(fitted.model, WIDTHS, SPEC, path)
    return path.read_bytes()


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first = _bytes(_fit(), tmp_path)
    torch.manual_seed(99)  # the global random state takes no part
    assert _bytes(_fit(), tmp_path) == first
    assert _bytes(_fit(SPEC.model_copy(update={"seed": 1})), tmp_path) != first


def test_number_of_threads_does_not_change_a_bit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = _bytes(_fit(), tmp_path)
    for n in (1, 3):
        with ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            monkeypatch.setattr(parallel, "_pool", lambda pool=pool: pool)
            assert _bytes(_fit(), tmp_path) == first


def test_fit_learns_and_keeps_the_best_epoch() -> None:
    spec = SPEC.model_copy(update={"epochs": 40, "learning_rate": 1e-2, "regularizer_steps": 100})
    fitted = _fit(spec)
    history = [epoch["r2_val"] for epoch in fitted.history]
    assert max(history) > 0.5 > history[0]
    assert fitted.best_epoch == int(np.argmax(history))
    assert fitted.r2_val.mean() == pytest.approx(max(history))
    _, features, responses, rows = _data()
    np.testing.assert_array_equal(score(fitted.model, features, responses, rows.test), fitted.r2_test)


def test_score_is_the_brain_score_of_the_predictions() -> None:
    coords, features, responses, rows = _data()
    model = new_encoder(coords, WIDTHS, GRID, SPEC)
    predicted = model.predict(features.rows(rows.test)).numpy()
    np.testing.assert_allclose(
        score(model, features, responses, rows.test), r2_score(responses[rows.test].numpy(), predicted), rtol=1e-6
    )


def test_a_loss_that_is_not_finite_stops_before_the_step() -> None:
    coords, features, responses, rows = _data()
    responses[rows.train[7], 3] = float("nan")
    model = new_encoder(coords, WIDTHS, GRID, SPEC)
    seen: list[dict[str, torch.Tensor]] = []
    original = FactorTopy.backward

    def remember(self: FactorTopy, *args: object) -> torch.Tensor:
        seen.append({name: value.clone() for name, value in self.state_dict().items()})
        return original(self, *args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FactorTopy, "backward", remember)
        with pytest.raises(FitError, match="finite"):
            fit(model, features, responses, rows, SPEC)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, seen[-1][name], rtol=0, atol=0)


def test_an_encoder_survives_saving(tmp_path: Path) -> None:
    fitted = _fit()
    checkpoint.save(fitted.model, WIDTHS, SPEC, tmp_path / "e.safetensors")
    loaded = checkpoint.load(tmp_path / "e.safetensors")
    _, features, _, rows = _data()
    batch = features.rows(rows.test)
    torch.testing.assert_close(loaded.predict(batch), fitted.model.predict(batch), rtol=0, atol=0)


def test_a_file_that_is_no_encoder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    path.write_bytes(b"not safetensors")
    with pytest.raises(RunError, match=r"e\.safetensors"):
        checkpoint.load(path)


def test_every_setting_of_the_recipe_changes_the_result(tmp_path: Path) -> None:
    """Each number of FitSpec that training uses; the split and the layers are chosen before it."""
    changed = {
        "seed": 5,
        "channels": 9,
        "code_frequencies": 8,
        "code_period": 500.0,
        "code_steps": 50.0,
        "selector_width": 17,
        "epochs": 1,
        "batch_size": 5,
        "learning_rate": 1e-3,
        "weight_decay": 0.5,
        "gradient_clip": 0.01,
        "loss_beta": 0.5,
        "regularizer": 5.0,
        "regularizer_steps": 5,
    }
    assert changed.keys() | {"split", "layers"} == FitSpec.model_fields.keys()
    base = _fit().selection.layer
    for name, value in changed.items():
        other = _fit(SPEC.model_copy(update={name: value}))
        assert not torch.equal(other.selection.layer, base), name
