"""Time to quality: how far the recipes `paper` and `fast` get with how many images, on planted brains.

Small here; `--true-size` fits five brains at three ceilings with both, and keeps the curves.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bddn.machine.parallel import THREADS, n_threads
from bddn.spec import FitSpec
from bench.quality import CEILINGS, Brain, compare, follow
from bench.report import keep

SMALL: dict[str, Any] = {"n_images": 60, "radius_rad": 0.15, "n_layers": 3, "width": 24}


def _brains(folder: Path) -> Iterator[Any]:
    """Five brains, each in a process of one thread."""

    def run(seed: int) -> list[Any]:
        command = [sys.executable, str(Path(__file__).parent / "quality.py"), str(seed), str(folder / str(seed))]
        environment = os.environ | {THREADS: "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
        return [json.loads(line) for line in done.stdout.splitlines()]

    with ThreadPoolExecutor(n_threads()) as pool:
        for curves in pool.map(run, range(5)):
            yield from curves


def test_recipes(true_size: bool, tmp_path: Path) -> None:
    """At true size: `fast` is past the end of `paper` with a quarter of its images, in score and in map."""
    if not true_size:
        (found,) = compare(0, tmp_path / "brain", ceilings=CEILINGS[1:2], epochs=2, **SMALL)
        assert [len(found[name]) for name in ("paper", "fast")] == [3, 3]
        return
    curves = list(_brains(tmp_path))
    keep("quality_cpu", {"what": "planted brains of 1,600 images and about 1,560 voxels", "curves": curves})
    assert len(curves) == 15
    for found in curves:
        paper, fast = found["paper"][-1], found["fast"][-1]
        assert not found["fast_saturated"]
        assert fast["images"] * 4 <= paper["images"]
        assert fast["r2_over_ceiling"] > paper["r2_over_ceiling"]
        assert fast["depth_r"] > paper["depth_r"]
        assert fast["r2_over_ceiling"] >= found["fast"][-2]["r2_over_ceiling"]  # before it was polished
    errors = {name: np.mean([found[name][-1]["depth_error"] for found in curves]) for name in ("paper", "fast")}
    assert errors["fast"] < errors["paper"]  # on the mean; at high ceilings `paper` is as near


def test_polish_is_no_worse_than_gradient_descent(true_size: bool, tmp_path: Path) -> None:
    """With either recipe, on the test images, which neither has seen."""
    brain = Brain(7, tmp_path / "brain", **({} if true_size else {"n_images": 200, "radius_rad": 0.2, "n_layers": 3}))
    for ceiling in CEILINGS if true_size else CEILINGS[1:2]:
        for name in ("paper", "fast"):
            changed = {"epochs": 5 if true_size else 3}
            scores = {}
            for polish in (False, True):
                spec = FitSpec.recipe(name).model_copy(update={"polish": polish, **changed})
                scores[polish] = float(np.nanmean(follow(brain, ceiling, spec)[0].r2_test))
            print(name, ceiling, scores)
            assert scores[True] >= scores[False]


def test_a_selector_that_died_is_found(tmp_path: Path) -> None:
    """Without regularizer, at a rate that is too large."""
    brain = Brain(0, tmp_path / "brain", n_images=200, radius_rad=0.2, n_layers=3)
    spec = FitSpec.recipe("fast").model_copy(update={"regularizer": 0.0, "learning_rate": 0.03, "polish": False})
    fitted, points = follow(brain, 0.42, spec)
    assert fitted.saturated, points[-1]
