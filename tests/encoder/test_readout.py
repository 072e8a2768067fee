"""The readout against the textbook form: outputs and every gradient."""

from collections.abc import Mapping

import pytest
import torch

import oracle
from bddn.encoder import readout, selectors
from bddn.encoder.ablations import FreeSelectors
from bddn.encoder.factor_topy import FactorTopy
from bddn.encoder.selection import Selection
from bddn.encoder.selectors import Factorized, Selectors
from bddn.encoder.token_grid import TokenGrid
from bddn.spec import FitSpec
from bddn.stream.features import Features

N_IMAGES = 4
WIDTHS = {"a": 6, "b": 4, "c": 6}
GRIDS = [(3, 5), (5, 3), (1, 1)]
SCALED = {"features": "whitened", "blurred_tokens": "scaled", "scale_regularizer": "logit"}


def _model(
    grid: tuple[int, int],
    n_voxels: int,
    spread: float,
    selection: str = "topological",
    dtype: torch.dtype = torch.float64,
    blurs: tuple[float, ...] = (0.0,),
    fixed: str | None = None,
    more: Mapping[str, str] | None = None,
) -> tuple[FactorTopy, Features, torch.Tensor]:
    """A model whose voxels look at many places, up to far outside the outermost token centres."""
    torch.manual_seed(0)
    coords = torch.rand(n_voxels, 3, dtype=dtype) * 100
    given = {"channels": 7, "selector_width": 16, "selection": selection, "blurs": blurs, "fixed": fixed}
    spec = FitSpec.parse(given | dict(more or {}), "test")
    model = FactorTopy(coords, WIDTHS, grid, spec).to(dtype)
    model.blurs = TokenGrid(len(WIDTHS), grid, blurs).blur_matrices(dtype)
    if isinstance(model.selectors, Factorized) and model.selectors.gain is not None:
        model.selectors.gain.copy_(torch.arange(1.0, 1.0 + len(blurs)))
    last = {
        "topological": lambda s: [p for name, p in s.named_parameters() if name.endswith(".4.weight")],
        "free": lambda s: list(s.parameters()),
        "unfactorized": lambda s: [s.weights],
    }[selection](model.selectors)
    for parameter in (*last, model.bias):
        torch.nn.init.normal_(parameter, std=spread)
    features = Features(
        [torch.randn(N_IMAGES, grid[0] * grid[1], channels, dtype=dtype) for channels in WIDTHS.values()],
        [torch.randn(N_IMAGES, channels, dtype=dtype) for channels in WIDTHS.values()],
    )
    return model, features, torch.randn(N_IMAGES, n_voxels, dtype=dtype) * 0.3


def _compare(model: FactorTopy, features: Features, target: torch.Tensor, tolerance: float) -> None:
    """Predictions and all gradients, against the largest number of each."""
    expected = oracle.predict(model, features).detach()
    got = model.predict(features)
    assert (got - expected).abs().max() <= tolerance * expected.abs().max()
    oracle.objective(model, features, target, beta=0.1, softness=0.05).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.backward(features, target, beta=0.1, softness=0.05)
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients.keys() == found.keys()
    for name, value in gradients.items():
        assert (found[name] - value).abs().max() <= tolerance * value.abs().max(), name


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("selection", ["topological", "free", "unfactorized"])
@pytest.mark.parametrize("spread", [0.0, 1.0, 8.0])
def test_readout_agrees_with_the_textbook_form(grid: tuple[int, int], selection: str, spread: float) -> None:
    _compare(*_model(grid, 233, spread, selection), tolerance=1e-9)


@pytest.mark.parametrize("blurs", [(0.0, 1.0), (0.0, 0.8, 2.0), (0.7,)])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("selection", ["topological", "free"])
def test_a_selected_size_agrees_with_the_textbook_form(
    grid: tuple[int, int], selection: str, blurs: tuple[float, ...]
) -> None:
    _compare(*_model(grid, 233, 1.0, selection, blurs=blurs), tolerance=1e-9)


@pytest.mark.parametrize("fixed", [None, "local", "scale"])
@pytest.mark.parametrize("selection", ["topological", "free"])
def test_scaled_blurs_and_a_limited_logit_agree_with_the_textbook_form(selection: str, fixed: str | None) -> None:
    if fixed is not None and selection == "free":
        return
    _compare(*_model((5, 3), 233, 1.0, selection, blurs=(0.0, 1.0, 2.0), fixed=fixed, more=SCALED), tolerance=1e-9)


def test_a_selection_without_gains_reads_the_same_up_to_a_factor_of_each_voxel() -> None:
    """Channel weights are free, so a factor of what a voxel reads says nothing about it."""
    model, *_ = _model((5, 3), 233, 3.0, blurs=(0.0, 1.0, 2.0), more=SCALED)
    assert isinstance(model.selectors, Factorized)
    cells = model.selectors.cells()
    read, shown = model.selectors.cells_and_weights()[1], model.grid.weights(model.select(), cells).flatten(1).detach()
    torch.testing.assert_close(shown.sum(1), torch.ones_like(shown[:, 0]))
    torch.testing.assert_close(read, shown * read.sum(1, keepdim=True))
    assert (read.sum(1) > 1.1).any()


def test_a_fixed_scale_does_not_change_with_the_size() -> None:
    model, *_ = _model((5, 3), 233, 3.0, blurs=(0.0, 1.0, 2.0), fixed="scale", more=SCALED)
    assert isinstance(model.selectors, Selectors)
    torch.nn.init.zeros_([*model.selectors.scale.parameters()][-1])  # as it stays
    assert (model.select().scale == 0.5).all()


@pytest.mark.parametrize("blurs", [(0.0,), (0.0, 1.0)])
@pytest.mark.parametrize("fixed", ["layer", "local", "place", "scale"])
def test_a_fixed_part_agrees_with_the_textbook_form(fixed: str, blurs: tuple[float, ...]) -> None:
    model, features, target = _model((5, 3), 233, 1.0, blurs=blurs, fixed=fixed)
    _compare(model, features, target, tolerance=1e-9)
    still = {name.split(".")[1] for name, value in model.named_parameters() if value.grad is None}
    assert still == {{"place": "space", "local": "scale"}.get(fixed, fixed)}


@pytest.mark.parametrize("selection", ["topological", "free", "unfactorized"])
def test_readout_agrees_in_float32(selection: str) -> None:
    _compare(*_model((5, 3), 233, 1.0, selection, torch.float32), tolerance=1e-5)


def test_small_chunks_parts_and_cells_with_many_voxels_agree_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readout, "CHUNK_FLOATS", 1)
    monkeypatch.setattr(readout, "MIN_CHUNK", 5)
    monkeypatch.setattr(readout, "SPLIT_VOXELS", 20)
    monkeypatch.setattr(selectors, "PART_VOXELS", 30)
    for spread in (0.0, 1.0):
        _compare(*_model((5, 3), 233, spread), tolerance=1e-9)


def test_a_cell_with_most_voxels_is_shared_among_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readout, "SPLIT_VOXELS", 20)
    cells = torch.tensor([0] * 190 + [1] * 3 + [2] * 7)
    parts = readout.group(cells, lambda of: of[:, None].expand(-1, 4), n_images=2)
    sizes = [len(part.voxels) for part in parts]
    assert sizes == [sum(c.voxels.stop - c.voxels.start for sweep in part.sweeps for c in sweep) for part in parts]
    assert len(sizes) == 12
    assert set(sizes) == {16, 17}
    assert torch.cat([part.voxels for part in parts]).tolist() == list(range(200))
    firsts = [int(part.voxels[c.voxels.start]) for part in parts for sweep in part.sweeps for c in sweep]
    assert firsts[-2:] == [190, 193]
    read = [part.tokens[part.read[c.cell]].unique().tolist() for part in parts for c in part.sweeps[-1]]
    assert read[-3:] == [[0], [1], [2]]


def test_voxels_at_the_very_edge_are_inside_the_border() -> None:
    model, features, target = _model((5, 3), 9, 0.0, "free")
    assert isinstance(model.selectors, FreeSelectors)
    corners = [[x, y] for x in (-1.0, 0.0, 1.0) for y in (-1.0, 0.0, 1.0)]
    model.selectors.space.data.copy_(torch.tensor(corners) * 20)
    assert model.select().place.tolist() == corners
    _compare(model, features, target, tolerance=1e-9)


def test_a_place_on_the_edge_of_a_cell_reads_the_same_from_either_side() -> None:
    """Cells are found before a step's weights are, and the last bits of a place may differ between the two."""
    grid = TokenGrid(2, (4, 5))
    edge = torch.tensor([[(2 * 2 + 1) / 5 - 1, 0.1]], dtype=torch.float64)  # above a token's centre
    layer = torch.tensor([[0.3, 0.7]], dtype=torch.float64)
    tokens = torch.randn(grid.n_tokens, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = []
    for aside in (-1e-12, 1e-12):
        cells = grid.cells(edge + torch.tensor([aside, 0.0]))
        for place in (edge - 1e-9, edge, edge + 1e-9):
            selection = Selection(place, layer, layer.log(), torch.tensor([0.2], dtype=torch.float64))
            found.append(
                (cells.tolist(), grid.weights(selection, cells).flatten() @ tokens[grid.read_at(cells)[0].flatten()])
            )
    assert found[0][0] != found[3][0]
    for _, read in found:
        torch.testing.assert_close(read, found[0][1], rtol=0, atol=1e-7)


def test_loss_is_smooth_l1() -> None:
    model, features, target = _model((5, 3), 50, 1.0)
    loss = model.backward(features, target, beta=0.1, softness=0.3)
    expected = torch.nn.functional.smooth_l1_loss(oracle.predict(model, features), target, beta=0.1)
    torch.testing.assert_close(loss, expected.detach())
