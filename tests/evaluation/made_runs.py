"""Run folders with made-up test responses and predictions, as `bddn fit` and `bddn score` leave them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bddn.cortex.surfaces import surface
from bddn.evaluation.kept_responses import HeldOut
from bddn.files.checksum import file_sha256
from bddn.stats.hierarchy import confidence, depth
from bddn.stats.scores import R2

CENTRE = {"lh": 5271, "rh": 5560}  # posterior vertices
LABELS = ("V1v", "V2v", "V3d", "OPA", "EBA", "FFA-1", "PPA")


def write_run(
    folder: Path,
    held: HeldOut,
    network: str = "clip",
    subject: str = "subj01",
    seed: int = 0,
    n_layers: int = 3,
    mean_depth: float = 0.5,
) -> Path:
    """Write a run whose voxels lie in two patches of cortex, ROI by ROI; all have evidence."""
    layers = [f"block_{k}" for k in range(n_layers)]
    rng = np.random.default_rng([seed, len(network)])
    n = held.measured.shape[1]
    weights = np.exp(-np.square(np.linspace(0, 1, n_layers) - mean_depth - rng.normal(0, 0.1, (n, 1))) / 0.1)
    weights /= weights.sum(axis=1, keepdims=True)
    r2 = R2()
    r2.add(held.measured, held.predicted)
    table = voxels(n).assign(
        r2_val=0.1,
        r2_test=r2.score(),
        p_test=0.001,
        q_test=0.001,
        layer_argmax=[layers[k] for k in weights.argmax(axis=1)],
        depth=depth(weights),
        confidence=confidence(weights),
        x=0.0,
        y=0.0,
        scale=0.5,
        **{f"weight_{name}": weights[:, k] for k, name in enumerate(layers)},
    )
    data = {f"{name}_sha256": f"{name} of {subject}" for name in ("voxels", "stimuli", "responses", "images")}
    about: dict[str, Any] = {
        "format": 1,
        "layers": layers,
        "fit": {"seed": seed, "split_seed": 0, "bootstrap": None},
        "cache": {"digest": f"{network} {subject}", "backbone": network},
        "data": data,
    }
    folder.mkdir(parents=True)
    table.to_parquet(folder / "voxels.parquet")
    split = {"train": ["a"], "val": ["b"], "test": list(held.ids)}
    metrics = {"title": f"planted:{subject} through {network}"}
    for name, content in (("run", about), ("split", split), ("metrics", metrics)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "encoder.safetensors").write_text(f"{network} {subject} {seed}")
    (folder / "score").mkdir()
    np.save(folder / "score" / "responses.npy", np.stack([held.measured, held.predicted]))
    kept = {"encoder_sha256": file_sha256(folder / "encoder.safetensors")}
    (folder / "score" / "responses.json").write_text(json.dumps(kept))
    return folder


def voxels(n: int) -> pd.DataFrame:
    """A table of n voxels: half of them in each hemisphere, with the labels of ROIs in stripes."""
    parts = []
    for hemi, n_own in (("lh", n // 2), ("rh", n - n // 2)):
        points = surface(hemi).inflated
        near = np.argsort(np.linalg.norm(points - points[CENTRE[hemi]], axis=1))[:n_own]
        stripe = np.arange(n_own) * len(LABELS) // n_own
        parts.append(pd.DataFrame({"hemi": hemi, "vertex": np.sort(near), "roi": np.array(LABELS)[stripe]}))
    return pd.concat(parts, ignore_index=True)
