"""The Methods text says what was done, not what was asked for."""

from dataclasses import replace
from pathlib import Path

from bddn.figures.methods import methods
from bddn.planted.subject import Planted
from bddn.run import Run, fit_run
from bddn.spec import FitSpec

SMALL = {"channels": 8, "selector_width": 16, "batch_size": 8}


def test_epochs_and_sample_are_those_of_the_fit(sealed: Path, planted: Planted, tmp_path: Path) -> None:
    fast = FitSpec.recipe("fast").to_dict() | SMALL | {"epochs": 9, "max_steps": 10, "sample": 60}
    limited, _ = fit_run(sealed, planted, tmp_path / "limited", FitSpec.parse(fast, "test"))
    text = methods(limited, "fsaverage5", False).paragraph
    assert (
        "blurs of the local tokens by 0, 1, 2 tokens, which were scaled to one variance in training, by weights" in text
    )
    assert "stayed rewarded by 0.0002; its term for the scale was the square of the scale's logit" in text
    assert "batches of 8, 2 epochs, seed 0) on 60 voxels spread evenly over cortex, with a smooth-L1 loss" in text
    assert "The selectors of the last epoch were kept" in text
    chosen = replace(limited, metrics=limited.metrics | {"trained_voxels": {"n": 50, "chosen": "responsive"}})
    assert " on 50 voxels, four of five of which were chosen because" in methods(chosen, "fsaverage5", False).paragraph
    assert "fell exponentially to 1 % and then to zero over 640 steps, at most 40 % of all, while the entropy" in text
    assert "a spacing of 0.006 of the longest extent of all positions made the same selection, that of the mean" in text
    whole, _ = fit_run(sealed, planted, tmp_path / "whole", FitSpec.parse(SMALL | {"epochs": 2}, "test"))
    text = methods(whole, "fsaverage5", False).paragraph
    best = whole.metrics["best_epoch"] + 1
    assert "batches of 8, 2 epochs, seed 0) on a smooth-L1 loss" in text
    assert "a selector regularizer of 0.1 that faded over 2,000 steps." in text
    assert "cubic grid" not in text
    assert "logit" not in text
    assert f"The epoch with the best validation score ({best} of 2) was kept" in text
    few, _ = fit_run(sealed, planted, tmp_path / "few", FitSpec.parse(SMALL | {"epochs": 2, "min_steps": 20}, "test"))
    assert few.metrics["batch_size"] == 3
    assert "batches of 3, 2 epochs" in methods(few, "fsaverage5", False).paragraph


def test_one_layer_is_named_once(quick_run: Run) -> None:
    assert "Local tokens of 3 layers (block_0 to block_2) were" in methods(quick_run, "fsaverage5", False).paragraph
    alone = replace(quick_run, layers=quick_run.layers[:1])
    assert "Local tokens of 1 layer (block_0) were" in methods(alone, "fsaverage5", False).paragraph
