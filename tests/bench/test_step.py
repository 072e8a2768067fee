"""The training step against the textbook form's, in one run. Small here; `--true-size` measures and keeps figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.report import keep


def _measure(side: str, n_steps: int, *sizes: str) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__).parent / "step.py"), side, *sizes, "--steps", str(n_steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_step_against_the_textbook_step(true_size: bool) -> None:
    sizes = ("--voxels", "37984", "--layers", "12", "--width", "768") if true_size else ()
    product = _measure("product", 20 if true_size else 3, *sizes)
    textbook = _measure("textbook", 3, *sizes)
    assert product["norm_after_one_step"] == pytest.approx(textbook["norm_after_one_step"], rel=1e-7)
    if true_size:
        what = "training step, 37984 voxels, 12 layers x 768 channels, 8x8+1 tokens, D = 128, 8 images, float32"
        figures = {
            "what": what,
            "product": product,
            "textbook": textbook,
            "ratio_of_medians": textbook["median_s"] / product["median_s"],
            "ratio_of_peaks": textbook["peak_gib"] / product["peak_gib"],
        }
        keep("step_cpu", figures)
