"""The training step against the textbook form's, in one run. Small here; `--true-size` measures and keeps figures."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.report import keep


def _measure(side: str, n_steps: int, *sizes: str) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__).parent / "step.py"), side, *sizes, "--steps", str(n_steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
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
