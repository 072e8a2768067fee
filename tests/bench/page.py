"""Write `results/README.md` with its plots from the figures that are kept there.

python tests/bench/page.py
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

RESULTS = Path(__file__).parent / "results"
COLORS = {0.25: "#0072B2", 0.42: "#D55E00", 0.6: "#009E73"}  # Okabe and Ito, told apart by all
STYLES = {"paper": ":", "fast": "-"}


def main() -> None:
    """Write the page; what has not been measured is left out."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "bddn"})
    sections: list[tuple[tuple[str, ...], Callable[..., str]]] = [
        (("quality_cpu",), quality),
        (("step_cpu",), step),
        (("step_sizes_cpu",), step_sizes),
        (("fit_true_size_cpu", "growth_voxels_cpu", "growth_images_cpu"), growth),
        (("stream_cpu",), stream),
        (("scale_cpu", "scale_s3_cpu"), scale),
    ]
    parts = [write(*(found[name] for name in names)) for names, write in sections if set(names) <= found.keys()]
    intro = (
        "# What bddn's fits cost, and how far they get\n\n"
        "Written by `tests/bench/page.py` from the JSON files beside it; `make bench` measures them again. Ratios are "
        "of one run on one machine; absolute times are of that machine.\n"
    )
    (RESULTS / "README.md").write_text("\n".join([intro, *parts]))


def quality(found: dict[str, Any]) -> str:
    """Score and map by images seen, for both recipes."""
    curves = found["curves"]
    figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.4), layout="constrained")
    for ceiling, color in COLORS.items():
        mine = [curve for curve in curves if curve["ceiling"] == ceiling]
        for recipe, style in STYLES.items():
            for axis, name in zip(axes, ("r2_over_ceiling", "depth_error"), strict=True):
                images = [point["images"] for point in mine[0][recipe]]
                values = np.array([[point[name] for point in curve[recipe]] for curve in mine])
                n = len(images) - 1  # the last point is the finished fit, at the same number of images
                axis.plot(images[:n], values[:, :n].mean(0), style, color=color, lw=1.6)
                if n > 1:
                    low, high = values[:, :n].min(0), values[:, :n].max(0)
                    axis.fill_between(images[:n], low, high, color=color, alpha=0.12, lw=0)
                axis.plot(images[-1], values[:, -1].mean(), "o" if recipe == "fast" else "s", color=color, ms=5)
    axes[0].set(xlabel="images seen", ylabel="test R² / ceiling", ylim=(0, 1))
    axes[1].set(xlabel="images seen", ylabel="mean error of depth", yscale="log")
    lines = [Line2D([], [], color=color, label=f"ceiling {c}") for c, color in COLORS.items()]
    marks = {"paper": "s", "fast": "o"}
    lines += [Line2D([], [], color="0.3", ls=s, marker=marks[n], label=n) for n, s in STYLES.items()]
    axes[1].legend(handles=lines, frameon=False)
    _save(figure, "quality")
    rows = []
    for ceiling in COLORS:
        mine = [curve for curve in curves if curve["ceiling"] == ceiling]
        for recipe in STYLES:
            ends = [curve[recipe][-1] for curve in mine]
            cells = [f"{ceiling}", recipe, f"{ends[0]['images']:,}"]
            cells += [_spread([e[name] for e in ends]) for name in ("r2_over_ceiling", "depth_error", "depth_r")]
            worst = min(min(e["place_x_r"], e["place_y_r"]) for e in ends)
            rows.append([*cells, f"{worst:.3f}"])
    heads = ["mean ceiling", "recipe", "images seen", "test R² / ceiling", "depth error", "depth r", "worst place r"]
    return (
        f"## Time to quality\n\n{_about(found)}, five of them, each at three mean ceilings. Lines: mean and range over "
        "brains; marks: finished fits, `fast` after its closed form.\n\n"
        f"![Score and depth error by images seen](quality.png)\n\n{_table(heads, rows)}"
    )


def step(found: dict[str, Any]) -> str:
    """The training step against the textbook form."""
    product, textbook, large = found["product"], found["textbook"], found["product_64_images"]
    rows = [
        ["textbook, 8 images", f"{textbook['median_s']:.2f}", f"{8 / textbook['median_s']:.2f}"],
        ["bddn, 8 images", f"{product['median_s']:.2f}", f"{8 / product['median_s']:.1f}"],
        ["bddn, 64 images", f"{large['median_s']:.2f}", f"{64 / large['median_s']:.1f}"],
    ]
    peaks = [f"{side['peak_gib']:.2f}" for side in (textbook, product, large)]
    rows = [[*row, peak] for row, peak in zip(rows, peaks, strict=True)]
    return (
        f"## Training step\n\n{_about(found)}. {found['ratio_of_medians']:.0f} times the textbook step's speed, 1/"
        f"{found['ratio_of_peaks']:.1f} of its memory; {found['ratio_of_images_per_s_at_64']:.0f} times its images per "
        "second with 64 images.\n\n"
        f"{_table(['step', 'median s', 'images/s', 'peak GiB'], rows)}"
    )


def step_sizes(sizes: dict[str, Any]) -> str:
    """The training step over sizes."""
    varied = [[str(row[key]) for key in ("voxels", "layers", "width", "images")] for row in sizes["rows"]]
    varied = [
        [*cells, f"{row['median_s']:.2f}", f"{row['peak_gib']:.2f}"]
        for cells, row in zip(varied, sizes["rows"], strict=True)
    ]
    heads = ["voxels", "layers", "channels", "images", "median s", "peak GiB"]
    return f"## Step over sizes\n\n{_about(sizes)}.\n\n{_table(heads, varied)}"


def growth(found: dict[str, Any], by_voxels: dict[str, Any], by_images: dict[str, Any]) -> str:
    """The whole fit, and how it grows."""
    figure, axes = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
    for axis, name, grown in zip(axes, ("n_voxels", "n_images"), (by_voxels, by_images), strict=True):
        rows = grown["rows"]
        x, y = [row[name] for row in rows], [row["epoch_s"] for row in rows]
        axis.loglog(x, y, "o", color="#0072B2")
        axis.loglog(x, y[-1] * np.array(x) / x[-1], "-", color="0.6", lw=1, zorder=0)
        axis.set(xlabel=name.removeprefix("n_"), ylabel="seconds of an epoch")
        axis.minorticks_off()
        axis.set_xticks(x, [f"{value:,}" for value in x])
        axis.set_yticks(y, [f"{value:.0f}" for value in y])
        axis.set_title(f"exponent {grown['exponent']:.2f}", fontsize=9)
    _save(figure, "growth")
    epochs = ", ".join(f"{s:.0f}" for s in found["epoch_seconds"])
    peaks = [f"{row['peak_gib']:.2f}" for row in by_images["rows"]]
    return (
        f"## Whole fits\n\n{_about(found)}: {found['n_images']:,} images, {found['n_voxels']:,} voxels, "
        f"{found['bytes'] / 1e9:.1f} GB on disk, in {found['peak_gib']:.2f} GiB of memory. {found['seconds'] / 60:.0f} "
        f"minutes in all; epochs took {epochs} s, of which tokens were waited for "
        f"{found['waited_for_tokens_s']:.0f} s in all.\n\n"
        "![Seconds of an epoch](growth.png)\n\nLines: proportional. Recipe `paper`, streamed, 12 layers × 768; by "
        "voxels with 320 images, by images with 9,496 voxels. Peak memory by images: "
        f"{', '.join(peaks)} GiB.\n"
    )


def stream(found: dict[str, Any]) -> str:
    """Reading."""
    rows = [[name, f"{rate:.2f}"] for name, rate in found["median_gb_s"].items()]
    ratio = found["ratios"]["stream / numpy.fromfile"]
    return (
        f"## Reading\n\n{_about(found)}. Streaming, every chunk checked, goes at {ratio:.2f} of the rate of plain "
        f"reads.\n\n{_table(['', 'GB/s'], rows)}"
    )


def scale(disk: dict[str, Any], bucket: dict[str, Any]) -> str:
    """Very many images."""
    runs = [("disk", disk["few"]), ("disk", disk["many"]), ("bucket", bucket["many"])]

    def shard(part: dict[str, Any]) -> str:
        return f"{part['median_ms']:.0f} ({part['computing_ms']:.0f}); {sum(part['asked'].values()):.1f}"

    shards = [
        [place, f"{run['n_images']:,}", f"{run['n_shards']:,}", shard(run["first_shards"]), shard(run["last_shards"])]
        for place, run in runs
    ]
    steps = list(disk["many"]["seconds"])
    times = [[place, f"{run['n_images']:,}", *(f"{run['seconds'][step]:.1f}" for step in steps)] for place, run in runs]
    peaks = [max(run["peak_mib"].values()) for _, run in runs[:2]]
    ratios = [
        f"{name} {ratio:.2f}" for name, ratio in {**disk["planned / measured"], **bucket["planned / measured"]}.items()
    ]
    return (
        f"## Very many images\n\n{_about(disk)}; in a bucket {bucket['what']}. Images and network are simulated: "
        "this is the work of the store alone. Of a shard: median ms (of which this process computed), and calls to the "
        "file system or requests; of the first and of the last tenth of the shards.\n\n"
        f"{_table(['place', 'images', 'shards', 'first shards', 'last shards'], shards)}\n"
        "Seconds of a whole extraction; of starting it again when all shards are written, sealing, using the sealed "
        "cache again, opening it, and verifying it:\n\n"
        f"{_table(['place', 'images', *steps], times)}\n"
        f"Peak memory {peaks[0]:.0f} and {peaks[1]:.0f} MiB, of which ids and hashes of the images "
        f"{disk['many']['ids_and_hashes_mib']:.0f} MiB. `bddn plan` over measured: {', '.join(ratios)}.\n"
    )


def _about(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    what = found["what"][0].upper() + found["what"][1:]
    return f"({found['machine']}; {versions}; {found['date']}) {what}"


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _save(figure: Any, name: str) -> None:
    figure.savefig(RESULTS / f"{name}.png", dpi=150, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
