"""The readout's kernels against the CPU's form: with `-m gpu` on a GPU, else in Triton's interpreter."""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bddn.encoder import readout
from bddn.encoder.factor_topy import new_encoder
from bddn.encoder.selection import Selection
from bddn.encoder.token_grid import TokenGrid
from bddn.spec import FitSpec
from bddn.stream.features import Features

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = [pytest.mark.gpu] if DEVICE == "cuda" else []
BETA, DIVISOR = 0.1, 3.0
# of the largest number. Factors of products are cut off, each by 2⁻¹⁰ at most in tf32 (which the interpreter does not
# imitate) and 2⁻⁷ in bfloat16 (rounded on a device, so by 2⁻⁸ there); seen in the interpreter: 7e-7, and 7e-3. The
# reference reads tokens and channels as the kernels round them first: with 150 channels, rounding them to bfloat16
# alone changes the gradient of the channels by 2.3e-2
TOLERANCE = {"float32": 1e-5, "tf32": 4e-3, "bfloat16": 2e-2}


@pytest.fixture(scope="module")
def kernels() -> Iterator[ModuleType]:
    """The module, made for the interpreter if there is no device."""
    with pytest.MonkeyPatch.context() as patch:
        if DEVICE == "cpu":
            patch.setenv("TRITON_INTERPRET", "1")
        triton = pytest.importorskip("triton")
        if DEVICE == "cpu" and isinstance(triton.language.sum, triton.JITFunction):  # another test has imported Triton
            patch.setattr(triton.language, "sum", triton.jit(triton.language.sum.fn))
        yield importlib.import_module("bddn.encoder.readout_triton")


@dataclass(frozen=True)
class Batch:
    """What the readout is given."""

    grid: TokenGrid
    tokens: Tensor
    cells: Tensor
    weights: Tensor
    channels: Tensor
    bias: Tensor
    target: Tensor

    def on_device(self) -> "Batch":
        """On the device of the tests."""
        return Batch(self.grid, *(v.to(DEVICE) for v in vars(self).values() if isinstance(v, Tensor)))

    def double(self) -> "Batch":
        """In double precision."""
        tensors = [v for v in vars(self).values() if isinstance(v, Tensor)]
        return Batch(self.grid, *(v.double() if v.is_floating_point() else v for v in tensors))

    def rounded(self, arithmetic: str) -> "Batch":
        """As the kernels read it: tokens and channels are rounded in bfloat16."""
        if arithmetic != "bfloat16":
            return self
        return replace(self, tokens=self.tokens.bfloat16().float(), channels=self.channels.bfloat16().float())


def _batch(
    n_voxels: int,
    n_images: int,
    n_channels: int,
    spread: float = 1.5,
    n_layers: int = 2,
    grid: tuple[int, int] = (2, 3),
) -> Batch:
    """Voxels look at many places, up to outside the outermost token centres; all at the centre with no `spread`."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    token_grid = TokenGrid(n_layers, grid)
    log_layer = normal(n_voxels, n_layers).log_softmax(1)
    place = torch.tanh(normal(n_voxels, 2) * spread)
    selection = Selection(place, log_layer.exp(), log_layer, torch.sigmoid(normal(n_voxels)))
    tokens = torch.zeros(token_grid.n_tokens, n_images, n_channels)
    for part in (token_grid.local(tokens), token_grid.global_(tokens)):
        part.copy_(normal(*part.shape))
    channels, bias, target = normal(n_voxels, n_channels), normal(n_voxels) * 0.1, normal(n_images, n_voxels) * 0.3
    cells = token_grid.cells(place)
    return Batch(token_grid, tokens, cells, token_grid.weights(selection, cells), channels, bias, target)


def _predict(kernels: ModuleType, b: Batch, arithmetic: str) -> Tensor:
    found: Tensor = kernels.predict(
        b.tokens, kernels.Reading(b.cells, b.weights.flatten(1)), b.channels, b.bias, DIVISOR, b.grid, arithmetic
    )
    return found


def _smooth_l1(kernels: ModuleType, b: Batch, arithmetic: str) -> list[Tensor]:
    found, of_weights = kernels.smooth_l1(
        b.tokens,
        kernels.Reading(b.cells, b.weights.flatten(1)),
        b.channels,
        b.bias,
        DIVISOR,
        b.target,
        BETA,
        b.grid,
        arithmetic,
    )
    return [*astuple(found), of_weights]


def _all(kernels: ModuleType, b: Batch, arithmetic: str) -> list[Tensor]:
    return [_predict(kernels, b, arithmetic), *_smooth_l1(kernels, b, arithmetic)]


def _compare(kernels: ModuleType, batch: Batch, arithmetic: str) -> None:
    """Prediction, loss and gradients, against those of the CPU in double precision."""
    b = batch.rounded(arithmetic).double()
    weights, of_weights = b.weights.flatten(1), torch.empty_like(b.weights).flatten(1)

    def weigh(voxels: Tensor) -> readout.VoxelWeights:
        return readout.VoxelWeights(weights[voxels], lambda gradient: [gradient])

    def take(voxels: Tensor, gradients: Sequence[Tensor]) -> None:
        of_weights[voxels] = gradients[0]

    parts = readout.group(b.cells, b.grid.read_at, len(b.target))
    expected = readout.smooth_l1(b.tokens, parts, weigh, take, b.channels, b.bias, DIVISOR, b.target, BETA)
    features = torch.einsum("nk,nkbd->bnd", weights, b.tokens[b.grid.read_at(b.cells).flatten(1)])
    predicted = (features * b.channels).sum(2) / DIVISOR + b.bias
    values = [predicted, *astuple(expected), of_weights]
    names = ["prediction", *vars(expected), "weights"]
    for name, value, found in zip(names, values, _all(kernels, batch.on_device(), arithmetic), strict=True):
        assert found.shape == value.shape, name
        assert found.dtype == torch.float32, name
        assert (found.cpu() - value).abs().max() <= TOLERANCE[arithmetic] * value.abs().max(), name


@pytest.mark.parametrize(
    ("n_layers", "grid", "n_voxels", "n_images", "n_channels"),
    [(2, (2, 3), 150, 4, 32), (4, (3, 2), 70, 20, 7), (3, (1, 1), 40, 1, 128), (2, (3, 5), 1, 4, 7)],
)
def test_kernels_agree_with_the_cpu(
    kernels: ModuleType, n_layers: int, grid: tuple[int, int], n_voxels: int, n_images: int, n_channels: int
) -> None:
    _compare(kernels, _batch(n_voxels, n_images, n_channels, n_layers=n_layers, grid=grid), "float32")


@pytest.mark.parametrize("blurs", [(0.0,), (0.0, 1.0, 2.0)])
@pytest.mark.parametrize("selection", ["topological", "free"])
def test_a_step_with_the_kernels_has_the_gradients_of_the_cpu(
    kernels: ModuleType, selection: str, blurs: tuple[float, ...]
) -> None:
    widths = {"a": 6, "b": 4}
    spec = FitSpec.parse({"channels": 7, "selector_width": 16, "selection": selection, "blurs": blurs}, "test")
    g = torch.Generator().manual_seed(0)
    model = new_encoder(torch.rand(70, 3, generator=g) * 100, widths, (3, 2), spec)
    for parameter in model.selectors.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=g)
    features = Features(
        [torch.randn(4, 6, channels, generator=g) for channels in widths.values()],
        [torch.randn(4, channels, generator=g) for channels in widths.values()],
    )
    target = torch.randn(4, 70, generator=g)
    loss = model.backward(features, target, BETA, 0.05)
    # a copy, because moving the model moves its gradients too
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.to(DEVICE).zero_grad()
    found = model._backward_on_device(features.to(torch.device(DEVICE)), target.to(DEVICE), BETA, 0.05)
    got = {f"selectors.{name}": p.grad for name, p in model.selectors.named_parameters()}
    got |= {"channels": found.channels, "bias": found.bias}
    assert float(found.loss) == pytest.approx(float(loss))
    for name, value in got.items():
        assert value is not None
        assert (value.cpu() - expected[name]).abs().max() <= TOLERANCE["float32"] * expected[name].abs().max(), name


@pytest.mark.parametrize("arithmetic", ["tf32", "bfloat16"])
def test_kernels_agree_within_what_their_arithmetic_rounds(kernels: ModuleType, arithmetic: str) -> None:
    _compare(kernels, _batch(30, 4, 32), arithmetic)


@pytest.mark.parametrize(("n_images", "n_channels"), [(40, 7), (4, 40)])
def test_images_and_channels_in_blocks_agree(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, n_images: int, n_channels: int
) -> None:
    monkeypatch.setattr(kernels, "BLOCK_IMAGES", 16)
    monkeypatch.setattr(kernels, "BLOCK_CHANNELS", 16)
    _compare(kernels, _batch(12, n_images, n_channels), "float32")


@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_cells_of_many_tiles_and_segments_agree(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, spread: float
) -> None:
    """With no spread all voxels are in one cell, and their count is a multiple of a tile's."""
    monkeypatch.setattr(kernels, "TILE", 16)
    monkeypatch.setattr(kernels, "CHUNK", 16)
    monkeypatch.setattr(kernels, "SEGMENT", 32)
    _compare(kernels, _batch(160, 4, 7, spread), "float32")


def test_results_repeat_to_the_last_bit(kernels: ModuleType) -> None:
    batch = _batch(20, 4, 7, spread=0.3).on_device()
    for first, second in zip(_all(kernels, batch, "tf32"), _all(kernels, batch, "tf32"), strict=True):
        assert torch.equal(first, second)


class Operations(TorchDispatchMode):
    """Notes what PyTorch is asked to do."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[tuple[str, list[torch.Size]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        results = out if isinstance(out, tuple | list) else [out]
        self.seen.append((func.overloadpacket.__name__, [r.shape for r in results if isinstance(r, Tensor)]))
        return out


def test_what_is_done_follows_from_sizes_alone(kernels: ModuleType) -> None:
    """And none of it waits for the device, or adds in an order of its own."""
    done = []
    _smooth_l1(kernels, _batch(1, 4, 7).on_device(), "float32")  # small tables are put on the device
    for spread in (0.0, 1.5):
        batch = _batch(5, 4, 7, spread).on_device()
        with Operations() as operations:
            _smooth_l1(kernels, batch, "float32")
        done.append(operations.seen)
    assert done[0] == done[1]
    waits = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_consecutive", "bincount"}
    shuffles = {"index_add", "index_add_", "scatter_add", "scatter_add_", "index_put", "index_put_", "_index_put_impl_"}
    assert not {name for name, _ in done[0]} & (waits | shuffles)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_the_host_never_waits(kernels: ModuleType) -> None:
    batch = _batch(300, 4, 32).on_device()
    _all(kernels, batch, "tf32")  # compiles
    try:
        torch.cuda.set_sync_debug_mode("error")
        _all(kernels, batch, "tf32")
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_a_step_can_be_captured(kernels: ModuleType) -> None:
    first, second = (_batch(300, 4, 32, spread).on_device() for spread in (1.5, 0.1))
    expected = _smooth_l1(kernels, second, "tf32")
    _smooth_l1(kernels, first, "tf32")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = _smooth_l1(kernels, first, "tf32")
    for name, value in vars(second).items():
        if isinstance(value, Tensor):
            getattr(first, name).copy_(value)
    graph.replay()
    for value, other in zip(expected, found, strict=True):
        assert torch.equal(value, other)


@pytest.mark.gpu
@pytest.mark.parametrize("arithmetic", list(TOLERANCE))
def test_large_batches_agree(kernels: ModuleType, arithmetic: str) -> None:
    _compare(kernels, _batch(3000, 70, 150), arithmetic)
