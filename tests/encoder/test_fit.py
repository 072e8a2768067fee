"""Training: repeatable, resumed anywhere, stopped by what is not finite, best epoch kept."""

import gc
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import oracle
from bddn.encoder import checkpoint, learning
from bddn.encoder import fit as fitting
from bddn.encoder.ablations import FreeSelectors
from bddn.encoder.brain_score import score
from bddn.encoder.factor_topy import FactorTopy, new_encoder
from bddn.encoder.fit import Fitted, fit
from bddn.encoder.health import saturated, unread
from bddn.encoder.parts import Parts
from bddn.encoder.polish import polish
from bddn.encoder.regularizer import Regularizer
from bddn.encoder.selection import Selection
from bddn.encoder.shared_components import LimitedComponents
from bddn.encoder.targets import OfVoxels
from bddn.encoder.token_grid import TokenGrid
from bddn.errors import FitError, RunError
from bddn.machine import parallel
from bddn.spec import RECIPES, FitSpec
from bddn.stats.scores import R2
from bddn.stream.features import Features
from bddn.stream.loader import Resident

SHOWN = np.array([3, 4, 9, 20, 29])
WIDTHS, GRID = {"early": 6, "late": 5}, (4, 4)
SPEC = FitSpec(channels=8, selector_width=16, epochs=3, batch_size=4, learning_rate=3e-3)
FAST = FitSpec.parse(
    SPEC.to_dict() | {"features": "whitened", "readout": "root", "schedule": "one_cycle", "polish": True}, "test"
)
SAMPLED = FitSpec.parse(
    FAST.to_dict()
    | {"sample": 20, "blurs": [0.0, 1.0], "resolution": 20.0, "merged_at": "mean"}
    | {"initial_align": "responses", "channels": 4, "regularizer_fall": "exponential", "layer_regularizer": 1e-3}
    | {"shared_noise": "limited", "shared_signal": "late"}
    | {"blurred_tokens": "scaled", "scale_regularizer": "logit"},
    "test",
)
SPECS = pytest.mark.parametrize("spec", [SPEC, SAMPLED], ids=["paper", "sampled"])


def _data(n: int = 60, n_voxels: int = 30) -> tuple[torch.Tensor, Features, torch.Tensor, Parts]:
    g = torch.Generator().manual_seed(1)
    coords = torch.rand(n_voxels, 3, generator=g) * 100
    features = Features(
        [torch.randn(n, 16, channels, generator=g).half() for channels in WIDTHS.values()],
        [torch.randn(n, channels, generator=g).half() for channels in WIDTHS.values()],
    )
    responses = features.global_[0].float() @ torch.randn(6, n_voxels, generator=g) * 0.3
    return coords, features, responses, Parts(np.arange(40), np.arange(40, 50), np.arange(50, 60))


def _fit(spec: FitSpec = SPEC, shown: np.ndarray | None = SHOWN, **options: Any) -> Fitted:
    coords, features, responses, parts = _data()
    model = new_encoder(coords, WIDTHS, GRID, spec)
    return fit(model, Resident.of(features), responses.__getitem__, parts, spec, shown=shown, **options)


def _bytes(fitted: Fitted, folder: Path) -> bytes:
    path = folder / "encoder.safetensors"
    checkpoint.save(fitted.model, SPEC, path)
    learning.save(fitted.learning, fitted.model.layers, folder / "learning.safetensors")
    seen = (folder / "learning.safetensors").read_bytes()
    scores = fitted.r2_test.tobytes() + fitted.p_test.tobytes()
    return path.read_bytes() + scores + json.dumps(fitted.history).encode() + seen


@SPECS
def test_same_seed_gives_the_same_bytes(spec: FitSpec, tmp_path: Path) -> None:
    first = _bytes(_fit(spec), tmp_path)
    torch.manual_seed(99)  # the global random state takes no part
    assert _bytes(_fit(spec), tmp_path) == first
    assert _bytes(_fit(spec.model_copy(update={"seed": 1})), tmp_path) != first


@SPECS
def test_number_of_threads_does_not_change_a_bit(
    spec: FitSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("bddn.encoder.readout.SPLIT_VOXELS", 5)
    monkeypatch.setattr("bddn.encoder.selectors.PART_VOXELS", 7)
    monkeypatch.setattr("bddn.encoder.learning_log.PART_VOXELS", 2)
    first = _bytes(_fit(spec), tmp_path)
    for n in (1, 3):
        with ThreadPoolExecutor(n, initializer=parallel.use_one_thread) as pool:
            monkeypatch.setattr(parallel, "_pool", lambda pool=pool: pool)
            assert _bytes(_fit(spec), tmp_path) == first


def test_a_training_is_freed_with_the_fit() -> None:
    """At once, as many fits of one process need: on a GPU it holds a graph and its memory."""
    gc.collect()
    gc.disable()
    try:
        _fit(SPEC.model_copy(update={"epochs": 1}))
        assert not [one for one in gc.get_objects() if type(one) is fitting._Training]
    finally:
        gc.enable()


def test_the_memory_of_a_training_is_free_for_the_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    there = list[object]()

    def polished(*given: Any) -> Any:
        there.extend(one for one in gc.get_objects() if type(one) in (fitting._Training, OfVoxels, LimitedComponents))
        return polish(*given)

    monkeypatch.setattr(fitting, "polish", polished)
    gc.collect()
    assert _fit(SAMPLED).polished is not None
    assert not there


class Killed(BaseException):
    """The process is killed at this moment."""


@SPECS
def test_a_fit_that_was_killed_at_any_step_goes_on_to_the_same_bytes(
    spec: FitSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = spec.model_copy(update={"batch_size": 8})  # 5 steps in each of 3 epochs
    whole = _bytes(_fit(spec), tmp_path)
    taken, saved, n_steps = fitting._Training._step, tmp_path / "saved.safetensors", 0

    def step(self: Any, *args: Any) -> None:
        """Keep what a process leaves that is killed at this moment."""
        nonlocal n_steps
        if saved.exists():
            shutil.copy(saved, tmp_path / f"{n_steps}.safetensors")
        n_steps += 1
        taken(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(fitting._Training, "_step", step)
        _fit(spec, checkpoint_file=saved, checkpoint_every_s=0)
    assert n_steps == 15
    for kill_at in range(15):
        kept = tmp_path / f"{kill_at}.safetensors"
        assert kept.exists() == (kill_at > 0)
        remaining: list[int] = []

        def count(self: Any, *args: Any, remaining: list[int] = remaining) -> None:
            remaining.append(1)
            taken(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(fitting._Training, "_step", count)
            assert _bytes(_fit(spec, checkpoint_file=kept, checkpoint_every_s=1e9), tmp_path) == whole
        assert len(remaining) == 15 - kill_at


def test_a_fit_that_was_killed_while_polishing_trains_no_step_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def die(*_: object) -> None:
        raise Killed

    whole, kept = _bytes(_fit(FAST), tmp_path), tmp_path / "state.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "polish", die)
        with pytest.raises(Killed):
            _fit(FAST, checkpoint_file=kept)
    monkeypatch.setattr(fitting._Training, "_step", die)
    assert _bytes(_fit(FAST, checkpoint_file=kept), tmp_path) == whole


@pytest.mark.parametrize("selection", ["topological", "free", "unfactorized"])
def test_to_look_at_voxels_changes_nothing(selection: str, tmp_path: Path) -> None:
    spec = FAST.model_copy(update={"selection": selection})
    found = []
    for shown in (None, SHOWN):
        fitted = _fit(spec, shown)
        checkpoint.save(fitted.model, spec, tmp_path / "encoder.safetensors")
        found.append((tmp_path / "encoder.safetensors").read_bytes() + fitted.r2_test.tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("shown", [None, SHOWN[:-1]])
def test_a_state_with_other_voxels_to_look_at_is_not_taken_up(shown: np.ndarray | None, tmp_path: Path) -> None:
    kept = tmp_path / "state.safetensors"
    _fit(checkpoint_file=kept, checkpoint_every_s=0)
    with pytest.raises(RunError, match="other voxels"):
        _fit(shown=shown, checkpoint_file=kept)


def test_a_damaged_state_is_an_error_and_not_a_start(tmp_path: Path) -> None:
    kept = tmp_path / "state.safetensors"
    _fit(checkpoint_file=kept, checkpoint_every_s=0)
    good = kept.read_bytes()
    for damaged in (good[: len(good) // 2], good[:-100] + bytes([good[-100] ^ 1]) + good[-99:], b""):
        kept.write_bytes(damaged)
        with pytest.raises(RunError, match="checkpoint of a fit"):
            _fit(checkpoint_file=kept)


def test_fit_learns_and_keeps_the_best_epoch() -> None:
    spec = SPEC.model_copy(update={"epochs": 40, "learning_rate": 1e-2, "regularizer_steps": 100})
    fitted = _fit(spec)
    history = [epoch["r2_val"] for epoch in fitted.history]
    assert max(history) > 0.5 > history[0]
    assert fitted.best_epoch == int(np.argmax(history))
    assert fitted.r2_val.mean() == pytest.approx(max(history))
    _, features, responses, parts = _data()
    again = score(fitted.model, Resident.of(features), responses.__getitem__, parts.test)
    np.testing.assert_array_equal(again, fitted.r2_test)


def test_score_is_the_brain_score_of_the_predictions() -> None:
    coords, features, responses, parts = _data()
    model = new_encoder(coords, WIDTHS, GRID, SPEC)
    predicted = oracle.predict(model, features.at(torch.from_numpy(parts.test)).float()).detach().numpy()
    expected = R2()
    expected.add(responses[parts.test].numpy(), predicted)
    found = score(model, Resident.of(features), responses.__getitem__, parts.test)
    np.testing.assert_allclose(found, expected.score(), atol=1e-7)


def test_a_loss_that_is_not_finite_stops_before_the_step() -> None:
    coords, features, responses, parts = _data()
    model = new_encoder(coords, WIDTHS, GRID, SPEC)
    read = 0

    def spoilt(rows: torch.Tensor) -> torch.Tensor:
        """All images once, which is where mean and deviation come from; later reads of one image are not finite."""
        nonlocal read
        read += len(rows)
        found = responses[rows].clone()
        if read > len(parts.train) + 1:
            found[rows == parts.train[7], 3] = float("nan")
        return found

    seen: list[dict[str, torch.Tensor]] = []
    original = FactorTopy.backward

    def remember(self: FactorTopy, *args: object) -> torch.Tensor:
        seen.append({name: value.clone() for name, value in self.state_dict().items()})
        return original(self, *args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FactorTopy, "backward", remember)
        with pytest.raises(FitError, match="loss"):
            fit(model, Resident.of(features), spoilt, parts, SPEC)
    assert seen
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, seen[-1][name], rtol=0, atol=0)


@SPECS
def test_an_encoder_survives_saving(spec: FitSpec, tmp_path: Path) -> None:
    fitted = _fit(spec)
    checkpoint.save(fitted.model, spec, tmp_path / "e.safetensors")
    loaded = checkpoint.load(tmp_path / "e.safetensors")
    _, features, _, parts = _data()
    batch = features.at(torch.from_numpy(parts.test)).float()
    torch.testing.assert_close(loaded.predict(batch), fitted.model.predict(batch), rtol=0, atol=0)
    assert (loaded.widths, loaded.grid.grid) == (WIDTHS, GRID)


def test_a_file_that_is_no_encoder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    path.write_bytes(b"not safetensors")
    with pytest.raises(RunError, match=r"e\.safetensors"):
        checkpoint.load(path)


def test_a_bootstrap_draws_training_images_with_replacement_and_nothing_else() -> None:
    parts = Parts(np.arange(0, 400, 2), np.arange(1, 100, 2), np.arange(101, 200, 2))
    first, second = (parts.resampled(0, k) for k in (0, 1))
    assert parts.resampled(0, None) is parts
    assert len(first.train) == 200
    assert set(first.train) <= set(parts.train)
    assert 0.55 < len(set(first.train)) / 200 < 0.72  # 1 - 1/e
    assert first.train.tolist() != second.train.tolist()
    assert first.val is parts.val
    assert first.test is parts.test


def _selection(place: float, scale: float, layer: list[float], size: list[float] | None = None) -> Selection:
    weights = torch.tensor(layer).expand(50, -1)
    sizes = None if size is None else torch.tensor(size).expand(50, -1)
    return Selection(torch.full((50, 2), place), weights, weights.log(), torch.full((50,), scale), sizes)


@pytest.mark.parametrize(
    ("selection", "dead"),
    [
        (_selection(0.5, 0.5, [0.5, 0.5]), []),
        (_selection(-0.99, 0.5, [0.5, 0.5]), ["place x", "place y"]),
        (_selection(0.5, 0.995, [0.5, 0.5]), ["scale"]),
        (_selection(0.5, 0.001, [0.5, 0.5]), ["scale"]),
        (_selection(0.5, 0.5, [1 - 1e-6, 1e-6]), ["layer"]),
        (_selection(0.5, 0.5, [1.0]), []),
        (_selection(0.5, 0.5, [0.5, 0.5], [0.1, 0.9, 0.0]), []),
        (_selection(0.5, 0.5, [0.5, 0.5], [0.0, 1.0, 0.0]), []),
    ],
)
def test_saturated_selectors_are_named(selection: Selection, dead: list[str]) -> None:
    assert saturated(selection) == dead


def test_layers_that_no_voxel_reads_are_named() -> None:
    def of(layer: torch.Tensor) -> Selection:
        return Selection(torch.zeros(2, 2), layer, layer.log(), torch.zeros(2))

    some = torch.tensor([[0.6, 0.39, 0.01], [0.2, 0.78, 0.02]])
    assert unread(of(some), ["early", "middle", "late"]) == ["late"]
    assert unread(of(torch.full((2, 30), 1 / 30)), [str(k) for k in range(30)]) == []


def test_sizes_that_ran_into_one_blur_return_where_the_data_say_nothing() -> None:
    """Layers and scales do not: their regularizer has faded."""
    selectors = FreeSelectors(3, TokenGrid(2, GRID, (0.0, 1.0, 2.0)), Regularizer())
    for parameter in selectors.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    assert selectors.size is not None
    selectors.size.data[:] = torch.tensor([0.0, 6.0, 0.0])
    weighed = selectors.weigh(slice(None), selectors.cells(), 0.0)
    _, layer, scale, size = weighed.backward(torch.zeros_like(weighed.weights))
    assert not layer.any()
    assert not scale.any()
    assert (size[:, 1] > 0).all()  # a step lowers what is largest
    assert (size[:, [0, 2]] < 0).all()


def test_layers_return_to_even_weights_where_the_data_say_nothing_if_asked() -> None:
    selectors = FreeSelectors(3, TokenGrid(2, GRID, (0.0,)), Regularizer(layers=0.1))
    selectors.layer.data[:] = torch.tensor([0.0, 3.0])
    weighed = selectors.weigh(slice(None), selectors.cells(), 0.0)
    _, layer, scale = weighed.backward(torch.zeros_like(weighed.weights))
    assert (layer[:, 1] > 0).all()  # a step lowers what is largest
    assert not scale.any()


def test_a_dead_selector_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    spec = SPEC.model_copy(update={"learning_rate": 0.3, "regularizer": 0.0, "gradient_clip": 1e9, "epochs": 10})
    fitted = _fit(spec)
    assert fitted.saturated
    assert f"saturated selector: {', '.join(fitted.saturated)}" in capsys.readouterr().err


def test_unread_layers_are_not_told_where_no_voxel_has_evidence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bddn.encoder.fit.unread", lambda *_: ["early"])
    assert (_fit(FAST).p_test < 0.001).any()
    assert "no voxel reads early" in capsys.readouterr().err
    monkeypatch.setattr("bddn.encoder.fit.unread", lambda *_: [f"block_{i}" for i in range(60)])
    _fit(FAST)
    assert "no voxel reads block_0, block_1, block_2, block_3, block_4 and 55 more. An" in capsys.readouterr().err
    monkeypatch.setattr("bddn.encoder.fit.unread", lambda *_: ["early"])
    coords, features, responses, parts = _data()
    noise = torch.randn(responses.shape, generator=torch.Generator().manual_seed(2))
    fit(new_encoder(coords, WIDTHS, GRID, FAST), Resident.of(features), noise.__getitem__, parts, FAST)
    assert "no voxel reads" not in capsys.readouterr().err


def test_recipes_are_valid_and_paper_is_the_default() -> None:
    assert FitSpec.recipe("paper") == FitSpec()
    for name in RECIPES:
        assert FitSpec.recipe(name).epochs > 0


def test_every_setting_of_the_recipe_changes_the_result(tmp_path: Path) -> None:
    """Each number of FitSpec that training uses; the split and the layers are chosen before it."""
    changed = {
        "seed": 5,
        "channels": 9,
        "code_frequencies": 8,
        "code_period": 500.0,
        "code_steps": 50.0,
        "selection": "free",
        "selector_width": 17,
        "readout": "root",
        "features": "whitened",
        "bootstrap": 0,
        "half": 0,
        "epochs": 1,
        "batch_size": 5,
        "learning_rate": 1e-3,
        "schedule": "one_cycle",
        "weight_decay": 0.5,
        "gradient_clip": 0.01,
        "loss_beta": 0.5,
        "regularizer": 5.0,
        "regularizer_steps": 5,
        "regularizer_fall": "exponential",
        "layer_regularizer": 0.5,
        "scale_regularizer": "logit",
        "blurs": (0.0, 1.0),
        "max_steps": 7,
        "min_steps": 20,
        "resolution": 20.0,
        "fixed": "scale",
    }
    on_a_gpu = {"arithmetic"}
    assert (
        changed.keys()
        | {"split", "split_seed", "split_by", "covariates", "layers", "polish", "sample"}
        | {"initial_align"}
        | {"merged_at"}
        | {"blurred_tokens"}
        | {"sampled"}  # where most voxels are silent: see test_responsive
        | {"shared_noise", "shared_signal"}  # of which these responses have none: see test_shared_components
        | on_a_gpu
        == FitSpec.model_fields.keys()
    )
    spec = SPEC.model_copy(update={"batch_size": 8, "epochs": 2})  # 10 steps
    base = _fit(spec)
    for name, value in changed.items():
        other = _fit(spec.model_copy(update={name: value}))
        assert not torch.equal(other.selection.layer, base.selection.layer), name
    polished = _fit(spec.model_copy(update={"polish": True}))
    assert torch.equal(polished.selection.layer, base.selection.layer)
    assert not torch.equal(polished.model.channels, base.model.channels)
    whitened = spec.model_copy(update={"features": "whitened", "channels": 4})  # fewer than a layer has
    turned = _fit(whitened.model_copy(update={"initial_align": "responses"}))
    assert not torch.equal(turned.selection.layer, _fit(whitened).selection.layer)
    merged = spec.model_copy(update={"resolution": 20.0, "merged_at": "mean"})
    assert not torch.equal(
        _fit(merged).selection.layer, _fit(spec.model_copy(update={"resolution": 20.0})).selection.layer
    )
    sized = whitened.model_copy(update={"blurs": (0.0, 1.0)})
    scaled = _fit(sized.model_copy(update={"blurred_tokens": "scaled"}))
    assert not torch.equal(scaled.selection.layer, _fit(sized).selection.layer)
    sampled = _fit(spec.model_copy(update={"polish": True, "sample": 20}))
    assert not torch.equal(sampled.selection.layer, base.selection.layer)
