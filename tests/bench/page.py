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

RESULTS = Path(__file__).parent / "results"
ARITHMETIC = ("float32", "tf32", "bfloat16")
MEASURES = (
    ("R² / ceiling", "r2_over_ceiling"),
    ("depth r", "depth_r"),
    ("depth slope", "depth_slope"),
    ("depth RMSE", "depth_rmse"),
    ("place RMSE", "place_rmse"),
    ("scale RMSE", "scale_rmse"),
)


def main() -> None:
    """Write the page; what has not been measured is left out."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "bddn"})
    sections: list[tuple[tuple[str, ...], Callable[..., str]]] = [
        (("family_cpu", "family_cuda"), family),
        (("fields_cpu",), fields),
        (("step_cpu",), step),
        (("step_sizes_cpu",), step_sizes),
        (("fit_true_size_cpu", "growth_voxels_cpu", "growth_images_cpu"), growth),
        (("fit_whole_cortex_cpu",), whole_cortex),
        (("ensemble_cost_cpu",), ensemble),
        (
            (
                *(f"step_gpu_{arithmetic}" for arithmetic in ARITHMETIC),
                *("fit_true_size_gpu", "fit_command_gpu", "extract_rate_cuda"),
            ),
            gpu,
        ),
        (("check_cpu",), check),
        (("score_coverage",), score_coverage),
        (("compare_levels",), compare_levels),
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


def family(*found: dict[str, Any]) -> str:
    """Both recipes on brains that differ in kind; the worst first."""
    rows = [row for one in found for row in one["rows"]]
    saturated = sum(bool(row["saturated"]) for row in rows if row["recipe"] == "fast")
    return (
        "## Recipes on brains that differ in kind\n\n`paper` → `fast`, means over seeds (their numbers stand in the "
        "table); r, slope and RMSE of the worse hemisphere, place of the worse axis. `fast` was chosen on the brains "
        "that are not held back; its limit of shared signals was weakened after two of the others had lost by it, "
        "its regularizer was changed, by constants chosen on the same brains as before, after layers of another had "
        "died, and blurs were scaled to one variance after wide fields of another had seemed narrow. Only `fast` has a "
        f"size of fields; in some brains its range is small. Fits of `fast` with a saturated selector: {saturated}. "
        "`python tests/bench/family.py FOLDER` measures this."
        f"\n\n{' '.join(f'{_about(one)}.' for one in found)}\n\n{_of_family(rows)}"
    )


def _of_family(rows: list[dict[str, Any]]) -> str:
    names = sorted({row["brain"] for row in rows})

    def of(brain: str, recipe: str) -> list[dict[str, Any]]:
        return [row for row in rows if (row["brain"], row["recipe"]) == (brain, recipe)]

    both = [name for name in names if of(name, "paper") and of(name, "fast")]
    both.sort(key=lambda name: _mean(of(name, "fast"), "r2_over_ceiling") - _mean(of(name, "paper"), "r2_over_ceiling"))
    heads = ["brain", "held back", "seeds", *(words for words, _ in MEASURES), "size r", "ceiling", "images"]
    lines = []
    for name in both:
        paper, fast = of(name, "paper"), of(name, "fast")
        cells = [f"{_mean(paper, key):.3f} → {_mean(fast, key):.3f}" for _, key in MEASURES]
        images = _mean(fast, "images") / _mean(paper, "images")
        held = "yes" if fast[0]["held_back"] else "no"
        cells += [f"{_mean(fast, 'size_r'):.3f}", f"{_mean(fast, 'mean_ceiling'):.2f}", f"{100 * images:.0f} %"]
        lines.append([name, held, f"{len(paper)}, {len(fast)}", *cells])
    return _table(heads, lines)


def fields(found: dict[str, Any]) -> str:
    """Fits in which voxels choose a size, beside fits in which all have the same one."""
    rows, one_size = found["rows"], ("always sharp", "blur 1", "blur 2")
    of = {(row["brain"], row["recipe"]): row for row in rows}
    lines = []
    for brain in dict.fromkeys(row["brain"] for row in rows):
        fast, *others = (of[brain, recipe] for recipe in ("fast", *one_size))
        scores = [f"{row['r2_over_ceiling']:.3f}" for row in (fast, *others)]
        sizes = [f"{fast[key]:.3f}" for key in ("size_r", "size_r_where_clear")]
        lines.append([brain, "yes" if fast["held_back"] else "no", f"{fast['mean_ceiling']:.2f}", *scores, *sizes])
    heads = ["brain", "held back", "ceiling", "fast", *one_size, "size r", "size r, ceilings ≥ 0.3"]
    return (
        "## Sizes of fields\n\nThe same brains with fields from 0.3 to 2 tokens: R² / ceiling of `fast`, and of `fast` "
        "with one blur for all voxels, none or of 1 or 2 tokens; and the correlation of found and planted sizes in the "
        "worse hemisphere. `python tests/bench/family.py --help` has the command.\n\n"
        f"{_about(found)}.\n\n{_table(heads, lines)}"
    )


def _mean(rows: list[dict[str, Any]], key: str) -> float:
    keys = ("x_" + key[6:], "y_" + key[6:]) if key.startswith("place_") else (key,)
    return float(np.mean([max(row[k] for k in keys) for row in rows]))


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


def growth(subject: dict[str, Any], by_voxels: dict[str, Any], by_images: dict[str, Any]) -> str:
    """Whole fits, and how they grow."""
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
    peaks = [f"{row['peak_gib']:.2f}" for row in by_images["rows"]]
    return (
        f"## Whole fits\n\n{_fit_in_words(subject)}\n\n"
        "![Seconds of an epoch](growth.png)\n\nLines: proportional. Recipe `paper`, streamed, 12 layers × 768; by "
        "voxels with 320 images, by images with 9,496 voxels. Peak memory by images: "
        f"{', '.join(peaks)} GiB.\n"
    )


def whole_cortex(found: dict[str, Any]) -> str:
    """A whole fit over both hemispheres."""
    return f"## Whole cortex\n\n{_fit_in_words(found)}\n"


def ensemble(found: dict[str, Any]) -> str:
    """An ensemble beside a single fit."""
    return (
        f"## An ensemble\n\n{_about(found)}, both streamed from disk: {found['n_images']:,} images, "
        f"{found['n_voxels']:,} voxels, {found['n_layers']} layers × {found['width']}. {found['n_fits']} fits took "
        f"{found['seconds'] / 60:.0f} minutes ({found['cpu_seconds'] / 60:.0f} of a core) in {found['peak_gib']:.2f} "
        f"GiB; one fit {found['single_seconds'] / 60:.1f} minutes ({found['single_cpu_seconds'] / 60:.1f} of a core) "
        f"in {found['single_peak_gib']:.2f} GiB. That is {found['ratio']:.2f} of {found['n_fits']} times one fit.\n"
    )


def _fit_in_words(found: dict[str, Any]) -> str:
    epochs = ", ".join(f"{s:.0f}" for s in found["epoch_seconds"])
    score = f" The mean test R² is {found['r2_test']:.3f}." if "r2_test" in found else ""
    return (
        f"{_about(found)}: {found['n_images']:,} images, {found['n_voxels']:,} voxels, {found['bytes'] / 1e9:.1f} GB "
        f"of tokens on disk, in {found['peak_gib']:.2f} GiB of memory. {found['seconds'] / 60:.1f} minutes in all; "
        f"epochs took {epochs} s; tokens were waited for {found['waited_for_tokens_s']:.0f} s in all.{score}"
    )


def gpu(*found: dict[str, Any]) -> str:
    """Step, fits and extraction on a GPU."""
    *steps, fits, command, rate = found
    again = command["fits"][-1]
    rows = []
    for name, one in zip(ARITHMETIC, steps, strict=True):
        times = [f"{1000 * one[side]['median_s']:.1f}" for side in ("textbook", "product")]
        shares = [f"{one['ratio_of_medians']:.0f}", f"{one['product']['peak_gib']:.2f}"]
        rows.append([name, *times, *shares, f"{one['times_the_floor']:.1f}"])
    heads = ["products in", "textbook ms", "bddn ms", "ratio", "peak GiB", "times the least time"]
    speeds = rate["median_images_per_s"]
    return (
        f"## On a GPU\n\n{_about(steps[0]).removesuffix(', float32')}. The least time is that of the products and the "
        "memory traffic alone.\n\n"
        f"{_table(heads, rows)}\n"
        f"{_about(fits)}: {fits['n_images']:,} images, {fits['n_voxels']:,} voxels, {fits['n_layers']} layers × "
        f"{fits['width']}. {fits['first_s']:.0f} s for the first fit, {fits['median_of_the_others_s']:.0f} s for each "
        "of the others.\n\n"
        f"{_about(command)}: {again['seconds']:.0f} s in a second process, of which steps "
        f"{again['epoch_seconds'][0]:.0f} s, in {again['peak_gib']:.1f} GiB of the host's memory.\n\n"
        f"{_about(rate)}: {speeds['extract']:.0f} images per second, {speeds['textbook forward']:.0f} by the forward "
        "pass alone. Tokens of 450 MB per second were written to the disk of that machine.\n"
    )


def check(found: dict[str, Any]) -> str:
    """A second opinion."""
    return (
        f"## A second opinion\n\n{_about(found)}: `bddn check` of {found['n_images']:,} images, "
        f"{found['n_layers']} layers × {found['width']}, 2,000 of {found['n_voxels']:,} voxels: "
        f"{found['seconds']:.0f} s, {found['cpu_seconds']:.0f} s of a core, in {found['peak_gib']:.2f} GiB.\n"
    )


def score_coverage(found: dict[str, Any]) -> str:
    """Intervals of scores."""
    shares = ("mean_90", "mean_95", "roi_90", "roi_95", "voxel_95", "percentile_90")
    heads = ["brains", "test images", "mean, 90 %", "mean, 95 %", "ROI, 90 %", "ROI, 95 %", "voxels, 95 %"]
    heads += ["percentile bootstrap, 90 %", "error of the mean R²", "of the expected R²"]
    rows = [
        [
            row["brains"],
            f"{row['n_images']:,}",
            *(f"{100 * row[name]:.0f} %" for name in shares),
            *(f"{row[name]:+.4f}" for name in ("bias", "expected_bias")),
        ]
        for row in found["rows"]
    ]
    command = "python -m pytest tests/bench/test_score_coverage.py --true-size -s"
    return (
        f"## Intervals of scores\n\n{_about(found)}: how often intervals contain R² on very many images, which is "
        "known exactly: of the mean over all voxels, over an ROI of 10 voxels, and of single voxels. The percentile "
        "bootstrap is the textbook form, which bddn does not use. Errors are means over brains. "
        f"`{command}` measures this.\n\n{_table(heads, rows)}"
    )


def compare_levels(found: dict[str, Any]) -> str:
    """Comparisons of models."""
    null = ("voxels_at_5", "rois_at_5", "sets_with_any_after_fdr", "voxels_after_fdr", "voxels_covered")
    planted = ("planted_difference", "power", "false_discoveries", "roi_power", "roi_covered")

    def percent(row: dict[str, float], names: tuple[str, ...]) -> list[str]:
        return [f"{row[name]:+.2f}" if "difference" in name else f"{100 * row[name]:.1f} %" for name in names]

    kinds = found["kinds"].items()
    heads = ["p ≤ 0.05: voxels", "ROIs", "q ≤ 0.05 anywhere", "voxels with q ≤ 0.05", "intervals of voxels"]
    equal = _table(["data", *heads], [[name, *percent(row["null"], null)] for name, row in kinds])
    heads = ["ΔR²", "found", "false discoveries", "all voxels together, found", "interval of their mean"]
    lacking = _table(["data", *heads], [[name, *percent(row["planted"], planted)] for name, row in kinds])
    rows = [[name, *(f"{row[key]:.3f}" for key in row)] for name, row in found["max"].items()]
    heads = ['"max"', "true", "on other images", "root mean square", "true", "corrected", "in its interval"]
    best = _table(["data", *heads, "of a best model", "corrected"], rows)
    return (
        f"## Comparisons of models\n\n{_about(found)}, two for each of {found['sets']} sets of data, equally good: how "
        f"often a difference is found, and how often 95 % intervals contain the truth.\n\n{equal}\n"
        f"The second model lacks a part of the signal in a third of the voxels ({found['planted_sets']} sets):\n\n"
        f'{lacking}\nThe "max" of 8 models, of which 4 lack a part, and differences to it:\n\n{best}\n'
        "`python -m pytest tests/bench/test_compare_levels.py --true-size -s` measures this.\n"
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


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _save(figure: Any, name: str) -> None:
    figure.savefig(RESULTS / f"{name}.png", dpi=150, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
