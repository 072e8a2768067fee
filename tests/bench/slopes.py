"""Small brains of different kinds with known hierarchy slopes, and maps that have nothing to do with ROIs.

    python tests/bench/slopes.py FOLDER --brains 60 --nulls 60

measures how often the intervals of the calibrated slope hold the truth, and how often tests err where there is nothing
to find, and keeps the figures in `results/slopes_cpu.json`. Each finished brain is a line of FOLDER/found.jsonl; the
same command goes on where it stopped.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bddn.cortex.fsaverage import positions_mm
from bddn.data.dataset import Stimuli
from bddn.data.splits import split_by_id
from bddn.encoder.factor_topy import new_encoder
from bddn.encoder.fit import fit
from bddn.encoder.parts import Parts
from bddn.encoder.sample import evenly_spread
from bddn.evaluation.calibration.brains_like import Brain, BrainsLike
from bddn.evaluation.calibration.calibration import Refit, calibrate
from bddn.machine import parallel
from bddn.planted import laws
from bddn.planted.brain import true_maps
from bddn.planted.plant import plant
from bddn.planted.scenes import draw_gratings, draw_leaves, draw_scene
from bddn.planted.simulated import Batch, Simulated, measured_noise, simulate
from bddn.planted.subject import Planted
from bddn.planted.tower import write_small_clip
from bddn.run import Run
from bddn.run.folder import voxel_table
from bddn.spec import FitSpec, PlantSpec
from bddn.stats.hierarchy import IDEAL_DEPTH, Line
from bddn.stats.scores import in_roi, robust_mean
from bddn.stats.slope_nulls import null_of_maps
from bddn.stats.smooth_maps import mirrored
from bddn.stream.features import Features
from bddn.stream.loader import Resident, batches
from bddn.stream.order import pools_in_order
from bench.report import keep

N_IMAGES, N_VOXELS = 300, 300
FIT = FitSpec.parse(
    {
        **FitSpec.recipe("fast").to_dict(),
        "blurs": [0.0],
        "blurred_tokens": "kept",
        "channels": 16,
        "selector_width": 24,
        "epochs": 20,
        "batch_size": 80,
        "learning_rate": 8e-3,
        "regularizer": 0.3,
        "regularizer_steps": 30,
    },
    "benchmark",
)
SCENES = (draw_scene, draw_leaves, draw_gratings)
N_NETWORKS = 6
SIDE, GRID, WIDTH = 56, (4, 4), 24
N_SAMPLE = 128


@dataclass(frozen=True)
class Patch:
    """Voxels of a planted brain, thinned out, and simulated stimuli; it has no responses of its own."""

    stimuli: Stimuli
    table: pd.DataFrame
    where: pd.DataFrame
    """Where on the patch they are: the maps of the planted brain."""
    name: str = "planted:patch"

    @classmethod
    def of(cls, folder: Path, n_images: int, n_voxels: int) -> "Patch":
        """Plant a brain for its voxels, or open it if it is there already."""
        spec = PlantSpec(n_images=20, n_layers=2, width=24, image_size=56)
        plant(spec, folder / "patch")
        data, keys = Planted(folder / "patch"), ["hemi", "vertex"]
        rows = evenly_spread(torch.from_numpy(data.coords_mm()), n_voxels).numpy()
        table = data.voxels()
        where = table[keys].merge(true_maps(spec, 2), on=keys)
        ids = tuple(f"image-{k:04d}" for k in range(n_images))
        stimuli = Stimuli(ids, (folder,) * n_images)
        table, where = (one.iloc[rows].reset_index(drop=True) for one in (table, where))
        return cls(stimuli, table, where)

    def voxels(self) -> pd.DataFrame:
        return self.table

    def coords_mm(self) -> np.ndarray:
        return positions_mm(self.table["hemi"].to_numpy(), self.table["vertex"].to_numpy())

    def responses(self, rows: np.ndarray | None = None) -> np.ndarray:
        raise NotImplementedError

    def truth(self) -> None:
        return None


@dataclass(frozen=True)
class Network:
    """A small random tower of 4 to 6 blocks of 24 channels, and its tokens of images of one kind, on 4 × 4."""

    source: Resident
    widths: dict[str, int]
    data: Patch

    @classmethod
    def of(cls, number: int, data: Patch, folder: Path) -> "Network":
        """Make it in a folder."""
        from transformers import CLIPVisionModel

        draw, rng = SCENES[number % len(SCENES)], np.random.default_rng([number, 50])
        images = np.stack([np.asarray(draw(rng, SIDE)) for _ in data.stimuli.ids]).astype(np.float32)
        pixels = torch.from_numpy((images - images.mean()) / images.std()).permute(0, 3, 1, 2).contiguous()
        n_layers = 4 + number % 3
        with torch.no_grad():
            write_small_clip(folder, pixels[:N_SAMPLE], 100 + number, n_layers, WIDTH, SIDE // GRID[0])
            seen = CLIPVisionModel.from_pretrained(folder)(pixels, output_hidden_states=True).hidden_states[1:]
        features = Features([one[:, 1:].contiguous() for one in seen], [one[:, 0].contiguous() for one in seen])
        return cls(Resident.of(features), {f"block{k}": WIDTH for k in range(n_layers)}, data)

    def tokens(self) -> Iterable[Batch]:
        """Tokens of all images."""
        rows = np.arange(len(self.data.stimuli))
        for some, features in batches(self.source, pools_in_order(rows, self.source.chunk_of), 64):
            yield some, features.local, features.global_

    def fit(self, data: Simulated) -> Run:
        """Fit it as `bddn fit` does, without a folder."""
        ids, responses = data.stimuli.ids, torch.from_numpy(data.responses())
        parts = Parts.of(split_by_id(ids, FIT.split, FIT.seed), ids)
        model = new_encoder(torch.from_numpy(data.coords_mm()), self.widths, GRID, FIT)
        found = fit(model, self.source, responses.__getitem__, parts, FIT, shown=np.arange(len(data.maps)))
        metrics = {
            "r2_test": robust_mean(found.r2_test),
            "convergence": found.convergence,
            "saturated_selectors": found.saturated,
        }
        layers = (*self.widths,)
        return Run(Path(), layers, voxel_table(data.voxels(), found, layers), metrics, None, {})

    def calibrate(self, run: Run, line: Line, data: Simulated, n_brains: int) -> dict[str, Any]:
        """Calibrate it as `bddn calibrate` does, without folders."""
        like = BrainsLike(run, line, IDEAL_DEPTH, data.coords_mm(), GRID)
        moments = data.responses().mean(0), data.responses().std(0)

        def refit(brain: Brain, signal: float) -> Refit:
            noise = measured_noise(data, brain.number, *moments)
            options = brain.maps, brain.layer_weights, brain.number, noise, brain.n_channels
            found = self.fit(simulate(self.data, self.tokens, GRID, *options))
            saturated = "layer" in found.metrics["saturated_selectors"]
            return Refit(found.voxels, found.metrics["convergence"]["converged"], saturated, "")

        return calibrate(like, refit, n_brains).to_dict()


def planted_depth(where: pd.DataFrame, voxels: pd.DataFrame, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Draw a map of depth: of the ROIs, a smooth gradient, or areas with borders, all with deviations."""
    slope = rng.uniform(-0.2, 1.1)
    law = str(rng.choice(["rois", "gradient", "areas"]))
    reach = where["reach"].to_numpy()
    if law == "rois":
        masks = np.stack([in_roi(voxels, roi) for roi in IDEAL_DEPTH])
        base = np.where(masks.any(0), np.array([*IDEAL_DEPTH.values()])[masks.argmax(0)], 0.5)
    else:
        base = reach if law == "gradient" else np.minimum(np.floor(4 * reach), 3) / 3
    at = positions_mm(voxels["hemi"].to_numpy(), voxels["vertex"].to_numpy())
    places = mirrored(at) if rng.uniform() < 0.5 else at.astype(np.float64)
    wave = rng.uniform(0.0, 0.2) * laws.smooth_wave(rng, places, rng.uniform(10, 50))
    return np.clip(rng.uniform(0.35, 0.65) + slope * (base - 0.45) + wave, 0.02, 0.98), law


def null_depth(voxels: pd.DataFrame, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
    """Draw a smooth map of depth that has nothing to do with ROIs: half of them the same in both hemispheres."""
    at = positions_mm(voxels["hemi"].to_numpy(), voxels["vertex"].to_numpy())
    symmetric, length = bool(rng.uniform() < 0.5), float(np.exp(rng.uniform(np.log(8), np.log(80))))
    places = mirrored(at) if symmetric else at.astype(np.float64)
    wave = laws.smooth_wave(rng, places, length)
    if rng.uniform() < 0.5:  # of two lengths
        wave = wave + rng.uniform(0, 1) * laws.smooth_wave(rng, places, length / 4)
    found = 1 / (1 + np.exp(-rng.uniform(0.5, 2) * wave - rng.normal(0, 0.5)))
    return np.asarray(found), {"symmetric": symmetric, "length_mm": length}


def planted(
    network: Network, number: int, depth: np.ndarray, rng: np.random.Generator
) -> tuple[Simulated, dict[str, Any]]:
    """Plant a map of depth, with all else at random."""
    where, n_layers = network.data.where, len(network.widths)
    p, q, hemi = (where[name].to_numpy() for name in ("forward", "upward", "hemi"))
    law = str(rng.choice(["contralateral", "whole"]))
    x, y = np.zeros(len(where)), np.zeros(len(where))
    for side in ("lh", "rh"):
        x[hemi == side], y[hemi == side] = laws.places(law, side, p[hemi == side], q[hemi == side])
    weights = laws.tuned_to(depth, n_layers, rng.uniform(0.3, 1.1))
    true = weights @ np.linspace(0, 1, n_layers)
    first, last = rng.uniform(0.15, 0.5, 2)
    ceiling = rng.uniform(0.1, 0.7)
    maps = pd.DataFrame(
        {
            "depth": np.clip(true, 0, 1),
            "x": x,
            "y": y,
            "scale": laws.scales(str(rng.choice(["depth", "anywhere"])), depth, p, q),
            "sigma": first + (last - first) * depth,
            "ceiling": np.clip(ceiling + 0.3 * ceiling * np.sin(5 * p) * np.cos(4 * q), 0.03, 0.9),
        }
    )
    kind = str(rng.choice(["gaussian", "heavy", "correlated"]))
    noise = laws.unit_noise(kind, rng, len(network.data.stimuli), len(where), p, q)
    options = maps, weights, number, noise.__getitem__, int(rng.choice([4, 6, 12]))
    data = simulate(network.data, network.tokens, GRID, *options)
    return data, {"ceiling": ceiling, "noise": kind}


def coverage_of(network: Network, number: int, n_brains: int) -> dict[str, Any]:
    """Plant, fit and calibrate one brain; return what was true, found and corrected."""
    rng, start = np.random.default_rng([number, 20]), time.perf_counter()
    depth, law = planted_depth(network.data.where, network.data.voxels(), rng)
    data, about = planted(network, number, depth, rng)
    run = network.fit(data)
    line = Line.of(run.voxels, IDEAL_DEPTH)
    row = {"kind": "planted", "brain": number, "law": law, **about, "r2": run.metrics["r2_test"]}
    row["saturated"] = "layer" in run.metrics["saturated_selectors"]
    if line is not None and not row["saturated"]:
        found = network.calibrate(run, line, data, n_brains)
        row |= {
            name: found[name]
            for name in ("slope", "corrected", "curve", "bounds", "n_not_converged", "n_left_out", "signal")
        }
        row |= {"truth": line.fit(data.maps["depth"].to_numpy()[line.row])[0], "n_voxels": len(line.row)}
        row |= {"p": null_of_maps(line, run.voxels).p, "depth_rmse": found["depth"]["rmse"]}
    return row | {"seconds": time.perf_counter() - start}


def null_of(network: Network, number: int) -> dict[str, Any]:
    """Plant a map that has nothing to do with ROIs, fit it, and test its slope."""
    rng = np.random.default_rng([number, 30])
    depth, about = null_depth(network.data.voxels(), rng)
    data, more = planted(network, number, depth, rng)
    run = network.fit(data)
    line = Line.of(run.voxels, IDEAL_DEPTH)
    p = None if line is None else null_of_maps(line, run.voxels).p
    return {"kind": "null", "brain": number, **about, **more, "p": p}


def null_map(patch: Patch, number: int, tests: dict[str, Callable[[Line, pd.DataFrame], float]]) -> dict[str, Any]:
    """Test the slope of a map that has nothing to do with ROIs, without a fit."""
    depth, about = null_depth(patch.voxels(), np.random.default_rng([number, 40]))
    table = patch.voxels().assign(depth=depth)
    line = Line.of(table, IDEAL_DEPTH)
    assert line is not None
    return {"kind": "map", "brain": number, **about, **{name: test(line, table) for name, test in tests.items()}}


def sloped_map(patch: Patch, number: int) -> dict[str, Any]:
    """Test the slope of a map that has one, without a fit."""
    depth, law = planted_depth(patch.where, patch.voxels(), np.random.default_rng([number, 77]))
    table = patch.voxels().assign(depth=depth)
    line = Line.of(table, IDEAL_DEPTH)
    assert line is not None
    p = null_of_maps(line, table).p
    return {"kind": "sloped map", "brain": number, "law": law, "truth": line.fit(depth[line.row])[0], "p": p}


def spin(line: Line, voxels: pd.DataFrame, n: int = 300) -> float:
    """The p-value of the slope among random rotations of the sphere (Alexander-Bloch et al., NeuroImage 2018): mirrored
    for the other hemisphere, and of a place that leaves the patch, the nearest voxel."""
    from scipy.spatial import KDTree
    from scipy.spatial.transform import Rotation

    at = positions_mm(voxels["hemi"].to_numpy(), voxels["vertex"].to_numpy())
    folded, right = mirrored(at), (voxels["hemi"] == "rh").to_numpy()
    depth = voxels["depth"].to_numpy(np.float64)
    found, slopes = line.fit(depth[line.row])[0], []
    rotations = Rotation.random(n, random_state=0)
    trees = {side: (KDTree(folded[right == side]), depth[right == side]) for side in (False, True)}
    for turn in rotations:
        turned = turn.apply(folded[line.row])
        drawn = np.empty(len(line.row))
        for side, (tree, values) in trees.items():
            here = line.right == side
            drawn[here] = values[tree.query(turned[here])[1]]
        slopes.append(line.fit(drawn)[0])
    return (1 + sum(slope >= found for slope in slopes)) / (1 + n)


def jackknifed(line: Line, voxels: pd.DataFrame) -> float:
    """The p-value of the slope by the jackknife over blocks of cortex: 0 or 1, whether its 90 % interval is above 0."""
    from scipy.stats import t

    interval = line.jackknife(voxels["depth"].to_numpy(np.float64)[line.row])
    assert interval is not None
    freedom = len(np.unique(line.part)) - 1
    middle, error = sum(interval) / 2, (interval[1] - interval[0]) / 2 / t.ppf(0.975, freedom)
    return float(t.sf(middle / error, freedom))


TESTS: dict[str, Callable[[Line, pd.DataFrame], float]] = {
    "smooth maps": lambda line, voxels: null_of_maps(line, voxels).p,
    "spin": spin,
    "jackknife": jackknifed,
}


def run(
    folder: Path,
    n_brains: int,
    n_nulls: int,
    n_maps: int,
    n_planted: int,
    n_images: int = N_IMAGES,
    n_voxels: int = N_VOXELS,
) -> list[dict[str, Any]]:
    """Make what is not yet in `folder`, and return all that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = folder / "found.jsonl"
    found = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    done = {(row["kind"], row["brain"]) for row in found}
    patch, networks = Patch.of(folder, n_images, n_voxels), dict[int, Network]()

    def network(number: int) -> Network:
        k = number % N_NETWORKS
        networks[k] = networks.get(k) or Network.of(k, patch, folder / f"network{k}")
        return networks[k]

    jobs: list[tuple[str, int, Callable[[int], dict[str, Any]]]] = [
        *(("map", k, lambda k: null_map(patch, k, TESTS)) for k in range(n_maps)),
        *(("sloped map", k, lambda k: sloped_map(patch, k)) for k in range(n_maps // 4)),
        *(("planted", k, lambda k: coverage_of(network(k), k, n_planted)) for k in range(n_brains)),
        *(("null", k, lambda k: null_of(network(k), k)) for k in range(n_nulls)),
    ]
    for kind, number, make in jobs:
        if (kind, number) not in done:
            found.append(make(number))
            with lines.open("a") as file:
                file.write(json.dumps(found[-1]) + "\n")
    return found


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Coverage of the corrected and of the uncorrected slope, and error rates of tests at 5 %."""
    planted = [row for row in rows if row["kind"] == "planted" and "truth" in row]
    inside, widths = {}, {}
    for level in ("90", "95"):
        ends = [(*row["corrected"]["intervals"][level], row["truth"]) for row in planted]
        inside[level] = float(np.mean([low <= truth <= high for low, high, truth in ends])) if ends else None
        widths[level] = float(np.median([high - low for low, high, _ in ends])) if ends else None
    truth = np.array([row["truth"] for row in planted])
    slopes = {
        "raw": np.array([row["slope"] for row in planted]),
        "corrected": np.array([row["corrected"]["slope"] for row in planted]),
    }
    errors = {
        name: float(np.sqrt(np.square(found - truth).mean())) if planted else None for name, found in slopes.items()
    }
    maps = [row for row in rows if row["kind"] == "map"]
    nulls = [row["p"] for row in rows if row["kind"] == "null" and row["p"] is not None]
    return {
        "n_brains": len(planted),
        "n_saturated": sum(row.get("saturated", False) for row in rows),
        "n_without_slope": sum(
            row["kind"] == "planted" and "truth" not in row and not row["saturated"] for row in rows
        ),
        "coverage": inside,
        "median_width": widths,
        "rmse": errors,
        "median_gain": float(np.median([row["curve"]["gain"] for row in planted])) if planted else None,
        "n_maps": len(maps),
        "errs_on_maps_alike": {
            name: float(np.mean([row[name] <= 0.05 for row in maps if row["symmetric"]])) if maps else None
            for name in TESTS
        },
        "errs_on_maps": {name: float(np.mean([row[name] <= 0.05 for row in maps])) if maps else None for name in TESTS},
        "finds": {
            f"{low} to {high}": float(np.mean([row["p"] <= 0.05 for row in here])) if here else None
            for low, high in ((0.1, 0.3), (0.3, 0.6), (0.6, 1.2))
            for here in [[r for r in rows if r["kind"] == "sloped map" and low <= r["truth"] < high]]
        },
        "n_nulls": len(nulls),
        "errs_on_fits": float(np.mean(np.array(nulls) <= 0.05)) if nulls else None,
    }


def alone() -> None:
    """Use no threads, which cost more than they save on fits this small."""
    parallel._this_thread.is_of_pool = True
    torch.set_num_threads(1)


def main() -> None:
    """Run and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--brains", type=int, default=60)
    parser.add_argument("--nulls", type=int, default=60)
    parser.add_argument("--maps", type=int, default=400)
    parser.add_argument("--planted", type=int, default=10)
    given = parser.parse_args()
    alone()
    rows = run(given.folder, given.brains, given.nulls, given.maps, given.planted)
    keep("slopes_cpu", {"what": "calibrated slopes, and tests of slopes", **summary(rows), "rows": rows})


if __name__ == "__main__":
    main()
