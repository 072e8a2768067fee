"""Pictures of docs/meaning.md, `python docs/making/misleading.py`: ways to be misled, on planted brains (a minute).

The first three are of one planted brain and its fits; the others are of simulated voxels, whose true R² is known.
"""

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.api import extract, fit
from bddn.cli import app
from bddn.planted.plant import plant
from bddn.planted.subject import Planted
from bddn.run import Run
from bddn.spec import PlantSpec
from bddn.stats.evidence import evident
from gallery import keep

Array = npt.NDArray[np.float64]
OUT = Path(__file__).resolve().parents[1] / "images"
BRAIN = PlantSpec(seed=3, n_images=320, radius_rad=0.35, n_layers=4, width=48, silent=0.4)
DARK, BLUE, RED, GREY = "#2a1f66", "#3b6fd0", "#d0533b", "#b9b6c8"
N_IMAGES, N_MODELS, N_VOXELS = 100, 12, 300


def main() -> None:
    """Draw all of them."""
    mpl.use("agg")
    mpl.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "savefig.dpi": 110})
    simulated()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        brain = Path("build/demo")
        plant(BRAIN, brain)
        cache, data = extract("demo", f"planted:{brain}", "demo.zarr"), Planted(brain)
        whole = fit(cache, data, "whole", "fast")
        depth = pd.read_parquet(brain / "truth/voxels.parquet")["depth"].to_numpy(np.float64)
        silent(whole)
        shrinkage(fit(cache, data, "short", "fast", epochs=1), whole, depth)
        confidence(fit(cache, data, "few", "fast", split=(1, 1, 8)), whole, depth)


def simulated() -> None:
    """Draw the pictures of simulated voxels."""
    ceilings()
    trials()
    best()


def silent(run: Run) -> None:
    """Layer maps of all voxels, and of those with evidence."""
    maps = []
    for options in (["--all"], []):
        app(["maps", str(run.folder), "--views", "flat", "--dpi", "110", *options], standalone_mode=False)
        picture = plt.imread(run.folder / "maps/layer_map.png")
        maps.append(picture[round(0.12 * len(picture)) : round(0.72 * len(picture))])  # without its title and legend
    figure, axes = plt.subplots(2, 1, figsize=(8, 2 * 8 * maps[0].shape[0] / maps[0].shape[1] + 0.8))
    for axis, picture, words in zip(axes, maps, ("all voxels", "voxels without evidence are hatched"), strict=True):
        axis.imshow(picture, interpolation="lanczos")
        axis.set_title(words, loc="left", fontsize=12)
        axis.axis("off")
    save(figure, "silent")


def shrinkage(short: Run, whole: Run, depth: Array) -> None:
    """Found against planted depth."""
    kept = evident(whole.voxels)
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.2), sharey=True)
    for axis, run, words in zip(axes, (short, whole), ("after one epoch", "after the whole fit"), strict=True):
        found = run.voxels["depth"].to_numpy()[kept]
        slope, offset = np.polyfit(depth[kept], found, 1)
        axis.plot([0, 1], [0, 1], color=GREY, zorder=0)
        axis.scatter(depth[kept], found, s=9, color=BLUE, alpha=0.6, linewidths=0)
        axis.plot([0, 1], [offset, offset + slope], color=RED)
        axis.set(title=f"{words}: slope {slope:.2f}", xlabel="planted depth", xlim=(0, 1), ylim=(0, 1))
    axes[0].set_ylabel("depth that the fit found")
    save(figure, "shrinkage")


def confidence(few: Run, whole: Run, depth: Array) -> None:
    """Error of depth against confidence."""
    kept = evident(whole.voxels)
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.2), sharey=True)
    n_few, n_whole = (round(BRAIN.n_images * share / 10) for share in (1, 8))
    for axis, run, words in zip(axes, (few, whole), (f"{n_few} training images", f"{n_whole} images"), strict=True):
        error = np.abs(run.voxels["depth"].to_numpy() - depth)[kept]
        axis.scatter(run.voxels["confidence"].to_numpy()[kept], error, s=9, color=BLUE, alpha=0.6, linewidths=0)
        axis.set(title=f"{words}: mean error {error.mean():.2f}", xlabel="confidence", xlim=(0, 1), ylim=(0, 0.8))
    axes[0].set_ylabel("error of depth (1: all layers)")
    save(figure, "confidence")


def ceilings() -> None:
    """Scores of regions that are predicted equally well, but measured with different noise."""
    draw = np.random.default_rng(0)
    rois = {"V1": 0.55, "V2": 0.45, "V4": 0.35, "FFA": 0.25, "OPA": 0.15}
    raw, ratio = [], []
    for ceiling in rois.values():
        signal, y = responses(draw, 1000, ceiling)
        raw.append(r2(y, 0.6 * signal).mean())  # the encoder predicts 60 % of the signal's size, in every region
        ratio.append(raw[-1] / ceiling)
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.4))
    for axis, values, words in zip(axes, (raw, ratio), ("R²", "mean R² / mean ceiling"), strict=True):
        axis.bar(list(rois), values, color=BLUE)
        axis.set_title(words)
    axes[0].plot(list(rois), list(rois.values()), "_", markersize=30, markeredgewidth=2, color=RED)
    axes[0].text(2.6, 0.42, "noise ceiling", color=RED)
    axes[1].set_ylim(0, 1)
    save(figure, "ceiling")


def trials() -> None:
    """One encoder, scored on single trials and on means of three."""
    draw = np.random.default_rng(1)
    signal, y = responses(draw, 3000, draw.uniform(0.1, 0.4, N_VOXELS))
    noise = np.std(y - signal, axis=0)
    means = signal + noise * np.mean(draw.normal(size=(3, *signal.shape)), axis=0)
    scores = [r2(given, 0.8 * signal) for given in (y, means)]
    figure, axis = plt.subplots(figsize=(6.4, 3.4))
    bins = np.linspace(0, 0.8, 41).tolist()
    for values, colour, words in zip(scores, (RED, BLUE), ("single trials", "means of three trials"), strict=True):
        axis.hist(values, bins, color=colour, alpha=0.8, label=f"{words}: mean R² {values.mean():.2f}")
    axis.set(xlabel="R² of a voxel, same encoder, same brain", ylabel="voxels", ylim=(0, 1.4 * axis.get_ylim()[1]))
    axis.legend(frameon=False)
    save(figure, "trials")


def best() -> None:
    """The best of equal networks, by the images that chose it and by others."""
    draw = np.random.default_rng(2)
    signal, y = responses(draw, 2 * N_IMAGES, 0.3)
    chosen, other = np.split(np.arange(2 * N_IMAGES), 2)
    scores = []
    for _ in range(N_MODELS):  # each predicts the signal with errors of its own
        predicted = 0.8 * signal + 0.25 * draw.normal(size=signal.shape)
        scores.append([r2(y[part], predicted[part]) for part in (chosen, other)])
    same, new = np.array(scores).swapaxes(0, 1)
    numbers = np.arange(1, N_MODELS + 1)
    winners = [same[:n].argmax(axis=0) for n in numbers]
    figure, axis = plt.subplots(figsize=(6.4, 3.6))
    for table, colour, words in ((same, RED, "by the images that chose it"), (new, BLUE, "by other images")):
        means = [np.take_along_axis(table, won[None], axis=0).mean() for won in winners]
        axis.plot(numbers, means, "o-", color=colour, label=words)
    axis.set(xlabel="networks, all equally good", ylabel="mean R² of each voxel's best", ylim=(0, 0.32))
    axis.legend(frameon=False)
    save(figure, "best")


def responses(draw: np.random.Generator, n: int, ceiling: float | Array) -> tuple[Array, Array]:
    """Signal and responses (n, N) of voxels with this ceiling; the signal has variance 1."""
    signal = draw.normal(size=(n, N_VOXELS))
    return signal, signal + np.sqrt(1 / ceiling - 1) * draw.normal(size=signal.shape)


def r2(y: Array, predicted: Array) -> Array:
    """R² of each voxel."""
    found: Array = 1 - ((y - predicted) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    return found


def save(figure: Any, name: str) -> None:
    """Write a picture, small."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"mislead_{name}.png"
        figure.savefig(path, bbox_inches="tight")
        keep(path, OUT / path.name, n_colours=64)
    plt.close(figure)


if __name__ == "__main__":
    main()
