"""Fits on a GPU: repeatable, graphed or not, and close to those on a CPU."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import oracle
from bddn.encoder import checkpoint, learning
from bddn.encoder.device_step import GraphedStep, Step, repeatable
from bddn.encoder.factor_topy import new_encoder
from bddn.encoder.fit import Fitted, fit
from bddn.encoder.parts import Parts
from bddn.spec import FitSpec
from bddn.stream.features import Features
from bddn.stream.loader import Resident

pytestmark = pytest.mark.gpu

WIDTHS, GRID = {"early": 24, "late": 20}, (4, 4)
FAST = FitSpec.parse(
    {**FitSpec.recipe("fast").to_dict(), "channels": 32, "selector_width": 16, "epochs": 3, "batch_size": 6}, "test"
)


def _fit(spec: FitSpec, device: str, keep: Path | None = None) -> Fitted:
    g = torch.Generator().manual_seed(1)
    features = Features(
        [torch.randn(80, 16, channels, generator=g).half() for channels in WIDTHS.values()],
        [torch.randn(80, channels, generator=g).half() for channels in WIDTHS.values()],
    )
    responses = (features.global_[0].float() @ torch.randn(24, 300, generator=g) * 0.3).to(device)
    model = new_encoder(torch.rand(300, 3, generator=g) * 100, WIDTHS, GRID, spec).to(device)
    parts = Parts(np.arange(60), np.arange(60, 70), np.arange(70, 80))
    source = Resident.of(features.to(torch.device(device)))
    return fit(model, source, lambda rows: responses[rows.to(device)], parts, spec, keep, 0, np.arange(0, 300, 7))


def _bytes(fitted: Fitted, folder: Path) -> bytes:
    checkpoint.save(fitted.model.cpu(), FAST, folder / "encoder.safetensors")
    learning.save(fitted.learning, fitted.model.layers, folder / "learning.safetensors")
    files = [(folder / f"{name}.safetensors").read_bytes() for name in ("encoder", "learning")]
    return b"".join(files) + fitted.r2_test.tobytes()


@pytest.mark.parametrize("arithmetic", ["float32", "tf32", "bfloat16"])
def test_a_fit_repeats_to_the_last_bit(arithmetic: str, tmp_path: Path) -> None:
    spec = FAST.model_copy(update={"arithmetic": arithmetic})
    assert _bytes(_fit(spec, "cuda"), tmp_path) == _bytes(_fit(spec, "cuda"), tmp_path)


def test_a_graph_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    graphed = _bytes(_fit(FAST, "cuda"), tmp_path)

    def step_by_step(
        self: GraphedStep,
        step: Step,
        features: Features,
        target: Tensor,
        rate: float | Tensor,
        softness: float | Tensor,
    ) -> tuple[Tensor, Tensor]:
        self._rate.fill_(rate)  # as the graph reads them, in float32
        self._softness.fill_(softness)
        return step(features, target, self._rate, self._softness)

    monkeypatch.setattr(GraphedStep, "__call__", step_by_step)
    assert _bytes(_fit(FAST, "cuda"), tmp_path) == graphed


def test_a_state_that_was_kept_is_taken_up(tmp_path: Path) -> None:
    whole = _bytes(_fit(FAST, "cuda"), tmp_path)
    kept = tmp_path / "state.safetensors"
    assert _bytes(_fit(FAST, "cuda", kept), tmp_path) == whole
    assert _bytes(_fit(FAST, "cuda", kept), tmp_path) == whole


def test_device_and_processor_agree(tmp_path: Path) -> None:
    spec = FAST.model_copy(update={"epochs": 1})
    device, processor = _fit(spec, "cuda"), _fit(spec, "cpu")
    assert np.abs(device.r2_test - processor.r2_test).max() < 1e-3
    place = device.selection.place.cpu() - processor.selection.place
    assert place.abs().max() < 1e-3


def test_every_gradient_is_that_of_the_textbook_form() -> None:
    """The textbook form runs on the CPU: torch has no gradient of it on a GPU that is the same in every run."""
    torch.manual_seed(0)
    spec = FAST.model_copy(update={"resolution": None})  # the textbook form reads the code at each voxel's own place
    model = new_encoder(torch.rand(500, 3) * 100, WIDTHS, GRID, spec)
    for name, parameter in model.selectors.named_parameters():
        if name.endswith("4.weight"):
            torch.nn.init.normal_(parameter)
    features = Features(
        [torch.randn(6, 16, channels) for channels in WIDTHS.values()],
        [torch.randn(6, channels) for channels in WIDTHS.values()],
    )
    target, there = torch.randn(6, 500), copy.deepcopy(model).to("cuda")
    oracle.objective(model, features, target, beta=0.1, softness=0.05).backward()
    with repeatable(there.bias.device, "float32"):
        there.backward(features.to(there.bias.device), target.to("cuda"), beta=0.1, softness=0.05)
    for (name, expected), found in zip(model.named_parameters(), there.parameters(), strict=True):
        assert expected.grad is not None
        assert found.grad is not None
        assert (found.grad.cpu() - expected.grad).abs().max() <= 1e-5 * expected.grad.abs().max(), name
