"""What the log of learning costs a fit, in time and disk. Small here; `--true-size` measures and keeps figures."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bddn.cortex.fsaverage import N_VERTICES, N_VERTICES_FSAVERAGE5
from bddn.encoder import fit as fitting
from bddn.encoder import learning
from bddn.encoder.factor_topy import FactorTopy, new_encoder
from bddn.encoder.fit import fit
from bddn.encoder.learning import Learning
from bddn.encoder.learning_log import LearningLog, frame_steps
from bddn.encoder.parts import Parts
from bddn.spec import RECIPES, FitSpec
from bddn.stream.features import Features
from bddn.stream.loader import Resident
from bench.report import keep

GRID = (8, 8)
NSD = {"n_voxels": 37_984, "n_layers": 12, "width": 768}
DEMO = {"n_voxels": 1563, "n_layers": 8, "width": 96}
SMALL = {"n_voxels": 600, "n_layers": 3, "width": 24}
MOST = 0.02


class Clock:
    """Seconds of every frame, and of every step without its frame."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.frames: list[float] = []
        self.steps: list[float] = []
        look, step = LearningLog.record, fitting._Training._step

        def timed_look(log: LearningLog, model: FactorTopy, at: int) -> None:
            start = time.perf_counter()
            look(log, model, at)
            self.frames.append(time.perf_counter() - start)

        def timed_step(training: Any, features: Features, target: Tensor) -> None:
            start, before = time.perf_counter(), sum(self.frames)
            step(training, features, target)
            self.steps.append(time.perf_counter() - start - (sum(self.frames) - before))

        patch.setattr(LearningLog, "record", timed_look)
        patch.setattr(fitting._Training, "_step", timed_step)


def _fit(
    spec: FitSpec, n_train: int, n_shown: int, n_voxels: int, n_layers: int, width: int
) -> tuple[Learning, dict[str, int], float]:
    """A fit on noise, since only sizes matter: its log, its layers and its seconds."""
    g = torch.Generator().manual_seed(0)
    n_val = max(n_train // 8, 2)
    n = n_train + 2 * n_val
    widths = {f"block_{k}": width for k in range(n_layers)}
    features = Features(
        [torch.randn(n, GRID[0] * GRID[1], width, generator=g).half() for _ in widths],
        [torch.randn(n, width, generator=g).half() for _ in widths],
    )
    responses = torch.randn(n, n_voxels, generator=g)
    model = new_encoder(torch.rand(n_voxels, 3, generator=g) * 100, widths, GRID, spec)
    parts = Parts(np.arange(n_train), np.arange(n_train, n - n_val), np.arange(n - n_val, n))
    start = time.perf_counter()
    fitted = fit(model, Resident.of(features), responses.__getitem__, parts, spec, shown=np.arange(n_shown))
    return fitted.learning, widths, time.perf_counter() - start


def test_long_fits(true_size: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all of NSD's images and voxels, of which fsaverage5 has a sixteenth.

    Some frames and steps are timed, and from the numbers of both in the whole fit follows the share.
    """
    sizes, n_steps, n_images = (NSD, 24, 7872) if true_size else (SMALL, 6, 7872)
    n_shown = round(sizes["n_voxels"] * N_VERTICES_FSAVERAGE5 / N_VERTICES)
    clock = Clock(monkeypatch)
    shares: dict[str, dict[str, float]] = {}
    for name in RECIPES:
        recipe = FitSpec.recipe(name)
        spec = recipe.model_copy(update={"epochs": 1, "min_steps": None, "polish": False})
        clock.frames, clock.steps = [], []
        log, widths, _ = _fit(spec, n_steps * spec.batch_size, n_shown, **sizes)
        assert len(clock.frames) == len(log.step) == n_steps + 1
        steps = recipe.epochs * -(-n_images // recipe.batch_size)
        frame_s, step_s = float(np.median(clock.frames)), float(np.median(clock.steps))
        learning.save(log, tuple(widths), tmp_path / "learning.safetensors")
        shares[name] = {
            "frame_s": frame_s,
            "step_s": step_s,
            "steps": steps,
            "share": frame_s * len(frame_steps(steps)) / (steps * step_s),
            "bytes_of_a_frame": (tmp_path / "learning.safetensors").stat().st_size / len(log.step),
        }
    print(shares)
    assert all(found["share"] < MOST for found in shares.values())
    if true_size:
        keep("learning_cpu", {"what": f"{n_shown} voxels logged", **sizes, "images": n_images, "recipes": shares})
        assert all(found["bytes_of_a_frame"] < 20_000 for found in shares.values())


def test_a_short_fit(true_size: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's size with the recipe `fast`, where all voxels are logged: the most that it can cost."""
    sizes, n_train = (DEMO, 1280) if true_size else (SMALL, 64)
    clock = Clock(monkeypatch)
    log, _, seconds = _fit(FitSpec.recipe("fast"), n_train, sizes["n_voxels"], **sizes)
    assert len(clock.frames) == len(log.step)
    share = sum(clock.frames) / seconds
    print(f"{share:.2%} of {seconds:.1f} s")
    if true_size:
        keep("learning_short_cpu", {"what": "all voxels logged", **sizes, "seconds": seconds, "share": share})
        assert share < MOST
