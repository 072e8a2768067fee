"""A fit on a sample of voxels: spread evenly, the same selectors for all voxels, channel weights for all."""

import re

import numpy as np
import pytest
import torch

from bddn.encoder.factor_topy import new_encoder
from bddn.encoder.fit import Fitted, fit
from bddn.encoder.health import convergence
from bddn.encoder.learning import Learning
from bddn.encoder.parts import Parts
from bddn.encoder.sample import evenly_spread
from bddn.encoder.schedule import batch_size, n_epochs, softness
from bddn.encoder.selectors import Selectors, merged
from bddn.errors import SpecError
from bddn.spec import FitSpec
from bddn.stream.features import Features
from bddn.stream.loader import Resident
from bddn.stream.order import n_batches

WIDTHS, GRID = {"early": 6, "late": 5}, (4, 4)
SPEC = FitSpec.parse(
    FitSpec.recipe("fast").to_dict() | {"channels": 8, "selector_width": 16, "epochs": 6, "batch_size": 4}, "test"
)


def test_a_sample_is_spread_as_the_voxels_are() -> None:
    coords = torch.cat([torch.rand(900, 3), 5 + torch.rand(100, 3)]) * 20  # two regions, one of few voxels
    found = evenly_spread(coords, 100)
    assert len(found.unique()) == 100
    assert (found.diff() > 0).all()
    assert (found >= 900).sum().item() == pytest.approx(10, abs=2)
    distance = torch.cdist(coords, coords[found]).min(1).values
    at_random = torch.cdist(coords, coords[torch.randperm(1000)[:100]]).min(1).values
    assert distance.mean() < at_random.mean()
    assert torch.equal(evenly_spread(coords, 100), found)
    for n in (None, 1000, 5000):
        assert torch.equal(evenly_spread(coords, n), torch.arange(1000))


def _fit(spec: FitSpec, n_voxels: int = 200, other_global: bool = False) -> Fitted:
    g = torch.Generator().manual_seed(1)
    coords = torch.rand(n_voxels, 3, generator=g) * 100
    features = Features(
        [torch.randn(200, 16, channels, generator=g) for channels in WIDTHS.values()],
        [torch.randn(200, channels, generator=g) for channels in WIDTHS.values()],
    )
    # smooth over cortex: channel 0 on the left, channel 1 on the right
    mix = torch.sigmoid((coords[:, 0] - 50) / 10)
    signal = features.global_[0][:, :1] * mix + features.global_[0][:, 1:2] * (1 - mix)
    responses = signal + 0.3 * torch.randn(200, n_voxels, generator=g)
    parts = Parts(np.arange(140), np.arange(140, 170), np.arange(170, 200))
    if other_global:
        features = Features(features.local, [torch.randn(one.shape, generator=g) for one in features.global_])
    return fit(new_encoder(coords, WIDTHS, GRID, spec), Resident.of(features), responses.__getitem__, parts, spec)


def test_voxels_outside_the_sample_are_predicted_as_well_as_those_in_it() -> None:
    fitted = _fit(SPEC.model_copy(update={"sample": 50}))
    inside = np.zeros(200, bool)
    inside[evenly_spread(fitted.model.coords_mm, 50).numpy()] = True
    assert fitted.r2_test[inside].mean() > 0.5
    assert fitted.r2_test[~inside].mean() == pytest.approx(fitted.r2_test[inside].mean(), abs=0.05)
    assert len(fitted.model.bias) == len(fitted.selection.scale) == 200


def test_a_sample_of_all_voxels_is_no_sample() -> None:
    a, b = _fit(SPEC.model_copy(update={"sample": 200})), _fit(SPEC.model_copy(update={"sample": None}))
    assert torch.equal(a.model.channels, b.model.channels)


def test_near_voxels_select_the_same() -> None:
    fitted = _fit(SPEC.model_copy(update={"resolution": 30.0}))
    selectors = fitted.model.selectors
    assert isinstance(selectors, Selectors)
    cube = merged(fitted.model.coords_mm, 30 * selectors.position.step_mm, "centre")
    _, which = cube.unique(dim=0, return_inverse=True)
    assert 20 < len(which.unique()) < 100
    for k in which.unique():
        place = fitted.selection.place[which == k]
        assert (place == place[0]).all()
    assert len(fitted.selection.place.unique(dim=0)) == len(which.unique())


def test_merged_voxels_are_at_the_mean_of_their_positions() -> None:
    coords = torch.tensor([[0.1, 0.0, 0.0], [7.2, 3.0, 1.0], [0.3, 0.4, -0.2], [-0.1, -0.4, 0.2], [7.6, 3.0, 1.0]])
    found = merged(coords, torch.tensor(1.0), "mean")
    assert torch.equal(found[1], coords[1])  # alone
    assert torch.equal(found[4], coords[4])
    assert found[0].tolist() == found[2].tolist() == found[3].tolist()
    assert found[0].tolist() == pytest.approx([0.1, 0.0, 0.0], abs=1e-7)
    assert merged(coords, torch.tensor(1.0), "centre")[1].tolist() == [7, 3, 1]
    nowhere_merged = merged(coords, torch.tensor(0.01), "mean")
    assert torch.equal(nowhere_merged, coords)


def test_where_voxels_are_merged_needs_a_spacing() -> None:
    with pytest.raises(SpecError, match="with resolution, or without merged_at"):
        FitSpec.parse({"merged_at": "mean"}, "test")


def test_epochs_end_at_the_largest_number_of_steps() -> None:
    spec = FitSpec(epochs=8, max_steps=2000)
    assert [n_epochs(n, spec) for n in (40, 160, 984, 5000)] == [8, 8, 2, 1]
    assert n_epochs(984, FitSpec()) == 20


def test_steps_have_fewer_images_where_few_images_give_few_steps() -> None:
    spec = FitSpec(epochs=5, min_steps=400)
    assert [batch_size(n, spec) for n in (7000, 640, 639, 400, 100, 30)] == [8, 8, 7, 5, 2, 2]
    assert batch_size(30, FitSpec()) == 8
    assert batch_size(400, FitSpec(epochs=5, min_steps=400, max_steps=250)) == 8, "no more steps than these"
    assert batch_size(30, FitSpec(batch_size=1, min_steps=400)) == 1
    for n in (640, 639, 400, 160):
        assert n_batches(n, batch_size(n, spec)) * spec.epochs >= 400


def test_regularizer_ends_early_in_a_short_one_cycle() -> None:
    spec = FitSpec(schedule="one_cycle", regularizer=0.1, regularizer_steps=300)
    assert softness(0, 100, spec) == softness(0, 5000, spec) == 0.1
    assert softness(20, 100, spec) == pytest.approx(0.05)
    assert softness(40, 100, spec) == 0
    assert softness(150, 5000, spec) == pytest.approx(0.05)


def test_regularizer_falls_exponentially_to_one_percent_and_ends() -> None:
    spec = FitSpec(schedule="one_cycle", regularizer=0.1, regularizer_steps=300, regularizer_fall="exponential")
    assert softness(0, 100, spec) == softness(0, 5000, spec) == 0.1
    assert softness(20, 100, spec) == pytest.approx(0.01)
    assert softness(150, 5000, spec) == pytest.approx(0.01)
    assert softness(299, 5000, spec) == pytest.approx(0.001, rel=0.02)
    assert softness(40, 100, spec) == softness(300, 5000, spec) == 0
    constant = spec.model_copy(update={"schedule": "constant"})
    assert softness(150, 100, constant) == pytest.approx(0.01)  # nothing ends it early


def test_selectors_that_still_move_have_not_converged() -> None:
    step = np.arange(0, 101, 5, dtype=np.int32)
    n = len(step)
    still = Learning(
        step=step,
        voxel=np.arange(4, dtype=np.int32),
        layer=np.zeros((n, 4), np.uint8),
        confidence=np.full((n, 4), 200, np.uint8),
        place=np.full((n, 4, 2), 100, np.uint8),
        scale=np.full((n, 4), 30, np.uint8),
        loss=np.zeros(n, np.float32),
    )
    found = convergence(still, regularized=False)
    assert found is not None
    assert found["converged"] is True
    left = convergence(still, regularized=True)
    assert left is not None
    assert left["converged"] is False
    for name, column in (("layer", "layer_changed"), ("place", "place_moved"), ("scale", "scale_moved")):
        values = getattr(still, name).copy()
        values[-1] += 50
        moving = convergence(Learning(**{**vars(still), name: values}), regularized=False)
        assert moving is not None
        assert moving["converged"] is False, name
        assert moving[column] > 0.05


def test_a_short_fit_says_that_it_has_not_converged(capsys: pytest.CaptureFixture[str]) -> None:
    g = torch.Generator().manual_seed(1)
    coords = torch.rand(20, 3, generator=g)
    features = Features(
        [torch.randn(40, 16, c, generator=g) for c in WIDTHS.values()],
        [torch.randn(40, c, generator=g) for c in WIDTHS.values()],
    )
    spec = FitSpec(channels=8, selector_width=16, epochs=2)
    parts = Parts(np.arange(20), np.arange(20, 30), np.arange(30, 40))
    responses = torch.randn(40, 20, generator=g)
    model = new_encoder(coords, WIDTHS, GRID, spec)
    fitted = fit(model, Resident.of(features), responses.__getitem__, parts, spec, shown=np.arange(5))
    assert fitted.convergence is not None
    assert fitted.convergence["converged"] is False
    said = capsys.readouterr().err
    assert re.search(r"had not converged: .*, \d+% of the voxels .* moved by 0\.\d\d, 0\.\d\d and 0\.\d\d", said)


@pytest.mark.parametrize("fixed", ["layer", "place", "scale"])
def test_a_fixed_part_of_the_selection_stays_as_it_is_at_the_start(fixed: str) -> None:
    start = {"layer": 0.5, "place": 0.0, "scale": 0.5}
    found = _fit(SPEC.model_copy(update={"sample": 50, "fixed": fixed, "epochs": 3})).selection
    moved = {name: (getattr(found, name) - value).abs().max().item() for name, value in start.items()}
    assert moved.pop(fixed) == 0
    assert min(moved.values()) > 0.1


def test_where_only_local_tokens_are_read_global_ones_change_nothing() -> None:
    spec = SPEC.model_copy(update={"fixed": "local", "epochs": 6})
    fitted, other = _fit(spec), _fit(spec, other_global=True)
    assert (fitted.selection.scale == 0).all()
    assert "scale" not in fitted.saturated
    assert torch.equal(fitted.selection.layer, other.selection.layer)
    assert torch.equal(fitted.model.channels, other.model.channels)
    assert (fitted.selection.layer - 0.5).abs().max() > 0.1


def test_only_functions_of_position_can_be_fixed() -> None:
    with pytest.raises(SpecError, match="with selection: topological, or without fixed"):
        FitSpec.parse({"selection": "free", "fixed": "place"}, "test")
    assert FitSpec().to_dict().keys() & {"fixed"} == set()
