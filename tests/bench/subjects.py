"""Subjects of any size in the Algonauts layout, with noise for responses: for benchmarks, where only sizes matter."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bddn.cortex.fsaverage import HEMISPHERES, sphere
from bddn.data.algonauts import RESPONSES, Algonauts
from bddn.planted.brain import image_path, write_subject
from bench.caches import layout, tokens, write
from bench.command import measured

ROWS = 512


def write_sized(folder: Path, n_images: int, n_voxels: int, n_layers: int, width: int, chunk: int, shard: int) -> str:
    """A subject and its cache `cache.zarr`, both under `folder`; returns the subject's name for --data.

    The image files hold their numbers: a fit only compares their hashes with those in the cache.
    """
    subject = folder / "subj01"
    image_path(subject, 0).parent.mkdir(parents=True)
    for i in range(n_images):
        image_path(subject, i).write_text(str(i))
    rng = np.random.default_rng(0)
    back_first = np.argsort(sphere()[0][:, 1], kind="stable")  # a patch around each occipital pole, as a visual cortex
    of_hemi = {"lh": np.sort(back_first[: n_voxels // 2]), "rh": np.sort(back_first[: n_voxels - n_voxels // 2])}
    table = pd.concat([pd.DataFrame({"hemi": hemi, "vertex": at}) for hemi, at in of_hemi.items()], ignore_index=True)
    table["reach"], table["upward"], table["ceiling"] = rng.uniform(0, 1, (3, n_voxels))
    write_subject(subject, np.zeros((2, n_voxels), np.float32), table)
    for hemi in HEMISPHERES:  # may be larger than the memory
        shape = (n_images, int((table["hemi"] == hemi).sum()))
        file = subject / RESPONSES / f"{hemi}_training_fmri.npy"
        array = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
        for at in range(0, n_images, ROWS):
            array[at : at + ROWS] = rng.normal(size=array[at : at + ROWS].shape).astype(np.float32)
        array.flush()
    made = layout(n_images, n_layers, width, chunk, shard)
    write(folder / "cache.zarr", made, tokens(made), Algonauts(subject).stimuli)
    return f"algonauts:{subject}"


def fit(folder: Path, data: str, out: Path, spec: dict[str, Any], *options: str) -> dict[str, Any]:
    """Run `bddn fit` in a process of its own: its seconds, peak memory, and what it wrote into `metrics.json`."""
    (folder / "fit.yaml").write_text(json.dumps(spec))
    arguments = ["fit", folder / "cache.zarr", "--data", data, "--spec", folder / "fit.yaml", "--out", out]
    found = measured(*arguments, *options)
    metrics = json.loads((out / "metrics.json").read_text())
    return {
        **found,
        "epoch_seconds": metrics["epoch_seconds"],
        "waited_for_tokens_s": metrics["seconds_waited_for_tokens"],
        "steps": metrics["epochs"][-1]["step"],
    }
