"""One training step, by the product or by the textbook form: seconds and peak memory, as JSON on one line.

    python tests/bench/step.py product --voxels 37984 --layers 12 --width 768 --images 8 --steps 20

Each side runs in a process of its own, so that its peak memory is its own.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))
import oracle
from bddn.encoder.adamw import AdamW
from bddn.encoder.device_step import GraphedStep, Step, repeatable
from bddn.encoder.factor_topy import FactorTopy, new_encoder
from bddn.encoder.selectors import Selectors
from bddn.machine.parallel import single_threaded_kernels
from bddn.spec import FitSpec
from bddn.stream.features import Features

GRID = (8, 8)


def measure(
    side: str,
    n_voxels: int,
    n_layers: int,
    width: int,
    n_images: int,
    n_steps: int,
    device: str = "cpu",
    arithmetic: str = "float32",
) -> dict[str, float]:
    """Time `n_steps` optimizer steps after some to warm up, with voxels looking all over the image."""
    spec = FitSpec.parse({"arithmetic": arithmetic}, "benchmark")
    g = torch.Generator().manual_seed(0)
    layers = {f"block_{k}": width for k in range(n_layers)}
    model = new_encoder(torch.rand(n_voxels, 3, generator=g) * 100, layers, GRID, spec)
    assert isinstance(model.selectors, Selectors)
    for selector in (model.selectors.space, model.selectors.layer, model.selectors.scale):
        torch.nn.init.normal_(list(selector.parameters())[-1], std=0.5, generator=g)
    features = Features(
        [torch.randn(n_images, GRID[0] * GRID[1], width, generator=g) for _ in layers],
        [torch.randn(n_images, width, generator=g) for _ in layers],
    )
    target = torch.randn(n_images, n_voxels, generator=g)
    model, features, target = model.to(device), features.to(torch.device(device)), target.to(device)
    step = (_product if side == "product" else _textbook)(model, features, target, spec)

    def run() -> tuple[float, list[float]]:
        step()
        norm = sum(p.detach().double().square().sum().item() for p in model.parameters()) ** 0.5
        if device == "cuda":
            step()  # captures the graph
        seconds = []
        for _ in range(n_steps):
            start = time.perf_counter()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        return norm, seconds

    if side == "product":
        with single_threaded_kernels(), repeatable(torch.device(device), arithmetic):
            norm, seconds = run()
    else:
        norm, seconds = run()
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:  # not getrusage's, which has the parent's memory in it
        status = Path("/proc/self/status").read_text()
        (peak,) = (int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    return {
        "median_s": statistics.median(seconds),
        "min_s": min(seconds),
        "peak_gib": peak / 2**30,
        "norm_after_one_step": norm,
    }


def _product(model: FactorTopy, features: Features, target: Tensor, spec: FitSpec) -> Callable[[], object]:
    optimizer = AdamW(model, spec.weight_decay)

    def take(
        features: Features, target: Tensor, rate: float | Tensor, softness: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        loss = model.backward(features, target, spec.loss_beta, softness)
        return loss, optimizer.step(rate, spec.gradient_clip, loss)

    step: Step = partial(GraphedStep(target.device), take) if target.is_cuda else take
    return lambda: step(features, target, spec.learning_rate, spec.regularizer)


def _textbook(model: FactorTopy, features: Features, target: Tensor, spec: FitSpec) -> Callable[[], object]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay)
    code = oracle.codes(model)

    def step() -> None:
        optimizer.zero_grad()
        oracle.objective(model, features, target, spec.loss_beta, spec.regularizer, code).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), spec.gradient_clip)
        optimizer.step()

    return step


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=["product", "textbook"])
    for name, default in (("voxels", 2000), ("layers", 4), ("width", 96), ("images", 8), ("steps", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--arithmetic", default="float32")
    given = parser.parse_args()
    sizes = (given.voxels, given.layers, given.width, given.images, given.steps)
    print(json.dumps(measure(given.side, *sizes, given.device, given.arithmetic)))
