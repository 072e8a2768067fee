"""Make a planted brain: images, a small network, and responses of a subject that are computed from the network."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bddn.backbones.preprocess import squash
from bddn.backbones.vit import VisionTransformer
from bddn.errors import MismatchError
from bddn.files import atomic
from bddn.files.output import check_folder, is_vacant, new_folder
from bddn.machine.parallel import single_threaded_kernels
from bddn.machine.settings import own_settings
from bddn.planted.brain import image_path, true_maps, true_responses, write_subject
from bddn.planted.scenes import draw_scene
from bddn.planted.subject import BACKBONE, SUBJECT, TRUTH
from bddn.planted.tower import write_small_clip
from bddn.progress import progress
from bddn.spec import CacheSpec, FamilySpec, PlantSpec, WeightsSpec

ABOUT = "planted.json"
N_SAMPLE = 128  # images that are used to scale the network's weights
BATCH = 64


@own_settings()
def plant(spec: PlantSpec, out: Path) -> dict[str, Any]:
    """Write a planted brain into the folder `out`. If the same one exists there already, change nothing.

    Returns
    -------
    dict
        The content of `planted.json`: spec, number of voxels, mean noise ceiling, and correlations between layers.

    Raises
    ------
    MismatchError
        If `out` holds other files, or a brain planted with another spec.
    """
    if (about := _existing(spec, out)) is not None:
        return about
    check_folder(out, "OUT")
    try:
        with new_folder(out, ABOUT) as aside, single_threaded_kernels():  # the number of threads could change last bits
            return _make(spec, aside)
    except FileExistsError:
        if (about := _existing(spec, out)) is None:  # otherwise another process has planted the same brain meanwhile
            raise
        return about


def _make(spec: PlantSpec, folder: Path) -> dict[str, Any]:
    subject = folder / SUBJECT
    pixels = _draw(spec, subject)
    write_small_clip(folder / BACKBONE, pixels[:N_SAMPLE], spec.seed, spec.n_layers, spec.width, spec.patch)
    local, global_ = _tokens(spec, folder / BACKBONE, pixels)
    truth = true_maps(spec)
    write_subject(subject, true_responses(local, global_, truth, spec), truth)
    (folder / TRUTH).parent.mkdir()
    atomic.write_table(folder / TRUTH, truth.drop(columns="upward"))
    about = {
        "spec": spec.to_dict(),
        "n_voxels": len(truth),
        "mean_ceiling": float(truth["ceiling"].mean()),
        "layer_correlation": {"local": layer_correlation(local), "global": layer_correlation(global_)},
    }
    atomic.write_json(folder / ABOUT, about)
    return about


def layer_correlation(tokens: "np.ndarray") -> dict[str, float]:
    """Correlate the tokens (L, n_images, ..., C) of pairs of layers over images, positions and channels.

    Return the mean over `neighbours`, and the value of `first_last`, the first layer with the last.
    """
    centred = [(t - t.mean(0)).reshape(-1) for t in tokens]

    def r(a: "np.ndarray", b: "np.ndarray") -> float:
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    neighbours = [r(a, b) for a, b in pairwise(centred)]
    return {"neighbours": float(np.mean(neighbours)), "first_last": r(centred[0], centred[-1])}


def _existing(spec: PlantSpec, out: Path) -> dict[str, Any] | None:
    if is_vacant(out, ABOUT, "OUT"):
        return None
    try:
        about = json.loads((out / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        about = None
    found = about.get("spec") if isinstance(about, dict) else None
    if not isinstance(about, dict) or found != spec.to_dict():
        raise MismatchError(
            out,
            expected="an empty folder, or the same planted brain",
            got="a planted brain made with other options" if isinstance(found, dict) else "other files",
            fix="Give another folder, or delete this one.",
        )
    return about


def _draw(spec: PlantSpec, subject: Path) -> Tensor:
    """Draw and save all images, and return them preprocessed for the network, (n_images, 3, S, S) float32."""
    pixels = torch.empty(spec.n_images, 3, spec.image_size, spec.image_size)
    with progress("draw", spec.n_images, "images") as advance:
        for i in range(spec.n_images):
            path = image_path(subject, i)
            path.parent.mkdir(parents=True, exist_ok=True)
            scene = draw_scene(np.random.default_rng([spec.seed, 1, i]))
            scene.save(path, compress_level=1)
            pixels[i] = squash(scene, (spec.image_size, spec.image_size))
            advance()
    return pixels


def _tokens(spec: PlantSpec, backbone: Path, pixels: Tensor) -> tuple["np.ndarray", "np.ndarray"]:
    """Return the network's tokens of all images: local (L, n, H, W, C) and global (L, n, C), float32."""
    network = VisionTransformer(
        CacheSpec(
            title="planted",
            backbone=FamilySpec(family="clip"),
            weights=WeightsSpec(folder=str(backbone)),
            image_size=spec.image_size,
            grid=(spec.image_size // spec.patch, spec.image_size // spec.patch),
        )
    )
    local, global_ = [], []
    for tokens in _batches(network, pixels):
        local.append(torch.stack([t.local_.permute(0, 2, 3, 1) for t in tokens.values()]))
        global_.append(torch.stack([t.global_ for t in tokens.values() if t.global_ is not None]))
    return torch.cat(local, 1).numpy(), torch.cat(global_, 1).numpy()


def _batches(network: VisionTransformer, pixels: Tensor) -> Iterator[Any]:
    with progress("tokens", len(pixels), "images") as advance:
        for part in pixels.split(BATCH):
            yield network(part)
            advance(len(part))
