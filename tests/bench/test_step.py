"""The training step against the textbook form's, in one run. Small here; `--true-size` measures and keeps figures."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bddn.encoder.device_step import repeatable
from bench.command import in_a_process
from bench.report import keep


def _measure(side: str, n_steps: int, *sizes: str) -> dict[str, float]:
    done = in_a_process(Path(__file__).parent / "step.py", side, *sizes, "--steps", n_steps)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_step_against_the_textbook_step(true_size: bool) -> None:
    """Seconds and peak memory; at true size also with 64 images, where the selectors cost less for each."""
    sizes = ("--voxels", "37984", "--layers", "12", "--width", "768") if true_size else ()
    product = _measure("product", 20 if true_size else 3, *sizes)
    textbook = _measure("textbook", 3, *sizes)
    assert product["norm_after_one_step"] == pytest.approx(textbook["norm_after_one_step"], rel=1e-7)
    large = _measure("product", 8 if true_size else 2, *sizes, "--images", "64")
    if true_size:
        what = "training step, 37984 voxels, 12 layers x 768 channels, 8x8+1 tokens, D = 128, 8 images, float32"
        figures: dict[str, Any] = {
            "what": what,
            "product": product,
            "product_64_images": large,
            "textbook": textbook,
            "ratio_of_medians": textbook["median_s"] / product["median_s"],
            "ratio_of_peaks": textbook["peak_gib"] / product["peak_gib"],
            "ratio_of_images_per_s_at_64": 8 * textbook["median_s"] / large["median_s"],
        }
        keep("step_cpu", figures)
        assert figures["ratio_of_medians"] >= 25
        assert figures["ratio_of_peaks"] >= 8
        assert figures["ratio_of_images_per_s_at_64"] >= 60


def test_step_over_sizes(true_size: bool) -> None:
    """How the step grows with voxels, layers, channels and images; and a whole cortex."""
    base = {"voxels": 9496, "layers": 12, "width": 768, "images": 8}
    tried = {
        "voxels": [9496, 37_984, 327_684],
        "layers": [6, 12, 24],
        "width": [384, 768, 1536],
        "images": [8, 16, 32, 64],
    }
    if not true_size:
        base, tried = {"voxels": 300, "layers": 2, "width": 16, "images": 4}, {"voxels": [300, 600], "layers": [2, 3]}
    rows: list[dict[str, Any]] = []
    for name, values in tried.items():
        for value in values:
            sizes = {**base, name: value}
            arguments = [text for key, number in sizes.items() for text in (f"--{key}", str(number))]
            rows.append(sizes | _measure("product", 3, *arguments))
    if true_size:
        keep("step_sizes_cpu", {"what": "training step, one size varied at a time", "rows": rows})
        whole = next(row for row in rows if row["voxels"] == 327_684)
        assert whole["peak_gib"] <= 2.0


@pytest.mark.gpu
@pytest.mark.parametrize("arithmetic", ["float32", "tf32", "bfloat16"])
def test_step_on_a_device(true_size: bool, arithmetic: str) -> None:
    """Against the textbook step there, and against the time that its products and its memory traffic take at least."""
    n_voxels, n_layers, width, n_images, d = (37_984, 12, 768, 32, 128) if true_size else (2000, 4, 96, 16, 128)
    code = 84  # independent numbers of a position code
    sizes = ("--voxels", str(n_voxels), "--layers", str(n_layers), "--width", str(width), "--device", "cuda")
    product = _measure("product", 50, *sizes, "--images", str(n_images), "--arithmetic", arithmetic)
    textbook = _measure("textbook", 10, *sizes, "--images", str(n_images))
    flop = 3 * 2 * 5 * n_layers * d * n_voxels * n_images  # the readout's three products
    flop += 2 * 2 * 65 * n_layers * width * d * n_images  # the align, there and back
    flop += 4 * 2 * n_voxels * (3 * (code * 128 + 128 * 128) + 128 * (3 + n_layers))  # the selectors, twice there
    parameters = n_voxels * (d + 1) + 2 * n_layers * width * d
    n_bytes = 4 * (7 * parameters + 4 * n_voxels * (code + 5 * n_layers + n_images) + 65 * n_layers * width * n_images)
    floor = flop / _product_rate(arithmetic) + n_bytes / _copy_rate()
    if true_size:
        figures = {
            "what": f"training step, {n_voxels} voxels, {n_layers} layers x {width}, {n_images} images, {arithmetic}",
            "product": product,
            "textbook": textbook,
            "ratio_of_medians": textbook["median_s"] / product["median_s"],
            "floor_s": floor,
            "times_the_floor": product["median_s"] / floor,
        }
        keep(f"step_gpu_{arithmetic}", figures)


def _timed(work: Callable[[], object], n: int = 20) -> float:
    work()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(n):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / n


def _product_rate(arithmetic: str) -> float:
    """Floating point operations per second of a large matrix product."""
    n, kind = 8192, torch.bfloat16 if arithmetic == "bfloat16" else torch.float32
    a, b = (torch.randn(n, n, device="cuda", dtype=kind) for _ in range(2))
    with repeatable(a.device, arithmetic):
        return 2 * n**3 / _timed(lambda: a @ b)


def _copy_rate() -> float:
    """Bytes per second that are read and written."""
    a = torch.empty(1 << 28, device="cuda")
    b = torch.empty_like(a)
    return 2 * a.nbytes / _timed(lambda: b.copy_(a))
