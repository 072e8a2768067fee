"""Subjects of any size in the Algonauts layout, whose voxels respond to the tokens of their cache: for benchmarks."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.fsaverage import HEMISPHERES, sphere
from bddn.data.algonauts import RESPONSES, Algonauts
from bddn.planted import laws
from bddn.planted.brain import image_path, receptive_fields, write_subject
from bddn.store.layout import KINDS
from bddn.store.precision import TokenRows
from bench.caches import layout, write
from bench.command import measured

N_FEATURES = 4  # of a layer, that voxels respond to
LAYER_SPREAD = 0.6  # of a voxel's layers, standard deviation
SMOOTH = 1.2  # tokens: neighbouring tokens are alike, as in networks


def write_sized(folder: Path, n_images: int, n_voxels: int, n_layers: int, width: int, chunk: int, shard: int) -> str:
    """A subject and its cache `cache.zarr`, both under `folder`; returns the subject's name for --data.

    Tokens are normal numbers, smooth over places, with a deviation of its own for each channel. Layer, place and scale
    of the voxels run smoothly over cortex. The image files hold their numbers: a fit only compares their hashes with
    those in the cache.
    """
    subject = folder / "subj01"
    image_path(subject, 0).parent.mkdir(parents=True)
    for i in range(n_images):
        image_path(subject, i).write_text(str(i))
    table = _true_maps(n_voxels)
    write_subject(subject, np.zeros((2, n_voxels), np.float32), table)
    made = layout(n_images, n_layers, width, chunk, shard)
    voxels = _Voxels(table, n_layers, made.grid)
    layers = [layer.name for layer in made.layers]
    files, columns = {}, {}
    for hemi in HEMISPHERES:  # may be larger than the memory
        columns[hemi] = np.flatnonzero(table["hemi"] == hemi)
        name, shape = subject / RESPONSES / f"{hemi}_training_fmri.npy", (n_images, len(columns[hemi]))
        files[hemi] = np.lib.format.open_memmap(name, mode="w+", dtype=np.float32, shape=shape)
    rng, smoothing = np.random.default_rng(0), _smoothing(made.grid)
    deviation = {path: np.exp(rng.normal(size=shape[-1])).astype(np.float32) for path, shape in made.arrays().items()}
    mixing = [np.linalg.qr(rng.normal(size=(width, N_FEATURES)))[0].astype(np.float32) for _ in range(n_layers)]

    def rows(shard: int) -> dict[str, TokenRows]:
        start, stop = made.shards[shard]
        out, read = dict[str, TokenRows](), dict[str, npt.NDArray[np.float32]]()
        for path, shape in made.arrays().items():
            values = rng.standard_normal((stop - start, *shape), dtype=np.float32)
            if len(shape) > 1:
                values = (smoothing @ values.reshape(stop - start, -1, width)).reshape(values.shape)
            read[path] = values @ mixing[layers.index(path.split("/")[1])]
            out[path] = made.precision.fill(values * deviation[path], path, [""] * (stop - start))
        responses = voxels.respond(read, layers, rng)
        for hemi in HEMISPHERES:
            files[hemi][start:stop] = responses[:, columns[hemi]]
        return out

    write(folder / "cache.zarr", made, rows, Algonauts(subject).stimuli)
    for file in files.values():
        file.flush()
    return f"algonauts:{subject}"


def _true_maps(n_voxels: int) -> pd.DataFrame:
    """The maps of a patch around each occipital pole, as a visual cortex, or of all cortex."""
    rng = np.random.default_rng(0)
    at = sphere()[0] / np.linalg.norm(sphere()[0][0])
    back_first = np.argsort(at[:, 1], kind="stable")
    tables = []
    for hemi, n in (("lh", n_voxels // 2), ("rh", n_voxels - n_voxels // 2)):
        vertex = np.sort(back_first[:n])
        across, forward, up = at[vertex].T
        reach = np.argsort(np.argsort(forward)) / (n - 1)
        x, y = laws.places("contralateral", hemi, across, up)
        table = {
            "hemi": hemi,
            "vertex": vertex,
            "reach": reach,
            "upward": up,
            "x": x,
            "y": y,
            "sigma": 0.3 + 0.12 * reach,
            "angle": 0.0,
            "scale": laws.scales("depth", reach, across, up),
            "ceiling": rng.uniform(0.1, 0.7, n),
        }
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def _smoothing(grid: tuple[int, int]) -> npt.NDArray[np.float32]:
    """A matrix over places that makes independent numbers smooth, and keeps their variance."""
    rows, columns = (np.arange(n) for n in grid)
    at = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    weights = np.exp(-np.square(at[:, None] - at).sum(-1) / (2 * SMOOTH**2))
    return np.asarray(weights / np.linalg.norm(weights, axis=1, keepdims=True), dtype=np.float32)


class _Voxels:
    """Responses to standard normal tokens, with variance 1 and noise by the ceiling."""

    def __init__(self, table: pd.DataFrame, n_layers: int, grid: tuple[int, int]) -> None:
        rng = np.random.default_rng(1)
        mixture = rng.normal(size=(len(table), N_FEATURES))
        mixture /= np.linalg.norm(mixture, axis=1, keepdims=True)
        fields = receptive_fields(table, *grid, 1.0)
        fields /= np.linalg.norm(fields @ _smoothing(grid), axis=1, keepdims=True)  # what is read has variance 1
        scale = table["scale"].to_numpy()[:, None]
        tuning = laws.tuning(table["reach"].to_numpy(), "linear", n_layers, LAYER_SPREAD, table["upward"].to_numpy())
        variance = np.square(tuning).sum(1, keepdims=True)
        variance *= np.square(1 - scale) + np.square(scale)
        ceiling = table["ceiling"].to_numpy()[:, None]
        self._tuning = (tuning * np.sqrt(ceiling / variance)).astype(np.float32)
        near = (1 - scale)[:, :, None] * fields[:, :, None] * mixture[:, None]
        self._weights = np.concatenate([near.reshape(len(table), -1), scale * mixture], axis=1).astype(np.float32)
        self._noise = np.sqrt(1 - ceiling[:, 0]).astype(np.float32)

    def respond(
        self, read: dict[str, npt.NDArray[np.float32]], layers: Sequence[str], rng: np.random.Generator
    ) -> npt.NDArray[np.float32]:
        """Responses (images, voxels) to the features of each array of tokens, (images, ..., N_FEATURES)."""
        n = len(next(iter(read.values())))
        out = rng.standard_normal((n, len(self._noise)), dtype=np.float32) * self._noise
        for tuning, layer in zip(self._tuning.T, layers, strict=True):
            seen = np.concatenate([read[f"{kind}/{layer}"].reshape(n, -1) for kind in KINDS], axis=1)
            out += (seen @ self._weights.T) * tuning
        return np.asarray(out)


def fit(folder: Path, data: str, out: Path, spec: dict[str, Any], *options: str) -> dict[str, Any]:
    """Run `bddn fit` in a process of its own: its seconds, peak memory, and some of `metrics.json`."""
    (folder / "fit.yaml").write_text(json.dumps(spec))
    arguments = ["fit", folder / "cache.zarr", "--data", data, "--spec", folder / "fit.yaml", "--out", out]
    found = measured(*arguments, *options)
    metrics = json.loads((out / "metrics.json").read_text())
    return {
        **found,
        "epoch_seconds": metrics["epoch_seconds"],
        "waited_for_tokens_s": metrics["seconds_waited_for_tokens"],
        "steps": metrics["epochs"][-1]["step"],
        "r2_test": metrics["r2_test"],
        "saturated": metrics["saturated_selectors"],
    }
