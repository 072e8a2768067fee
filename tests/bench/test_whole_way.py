"""Both stages on a network of ViT-B/16's shape and a brain of NSD's size. Small here; `--true-size` keeps figures."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from bddn.cortex.fsaverage import N_VERTICES
from bddn.planted.brain import image_path, write_subject
from bddn.planted.scenes import draw_scene
from bench.command import measured
from bench.report import keep


def write_network(folder: Path, n_layers: int, width: int, size: int, patch: int, head_width: int = 32) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=n_layers,
        num_attention_heads=width // head_width,
        image_size=size,
        patch_size=patch,
        hidden_act="gelu",
    )
    CLIPVisionModel(config).save_pretrained(folder)


def write_brain(subject: Path, n_images: int, n_voxels: int) -> None:
    """Noise on vertices all over both hemispheres: here only sizes matter."""
    rng = np.random.default_rng(0)
    for i in range(n_images):
        image_path(subject, i).parent.mkdir(parents=True, exist_ok=True)
        draw_scene(rng).save(image_path(subject, i), compress_level=1)
    chosen = np.sort(rng.choice(2 * N_VERTICES, n_voxels, replace=False))
    table = pd.DataFrame({"hemi": np.where(chosen < N_VERTICES, "lh", "rh"), "vertex": chosen % N_VERTICES})
    table["reach"], table["upward"], table["ceiling"] = rng.uniform(0, 1, (3, n_voxels))
    write_subject(subject, rng.normal(size=(n_images, n_voxels)).astype(np.float32), table)


def test_both_stages(true_size: bool, tmp_path: Path) -> None:
    n_layers, width, size, patch = (12, 768, 224, 16) if true_size else (2, 64, 32, 8)
    n_images, n_voxels = (256, 37_984) if true_size else (30, 500)
    write_network(tmp_path / "network", n_layers, width, size, patch)
    write_brain(tmp_path / "subj01", n_images, n_voxels)
    (tmp_path / "spec.yaml").write_text(
        f"title: bench\nbackbone: {{family: clip}}\nweights: {{folder: {tmp_path / 'network'}}}\nimage_size: {size}\n"
    )
    (tmp_path / "fit.yaml").write_text("epochs: 1\n")
    data = f"algonauts:{tmp_path / 'subj01'}"
    cache, run = tmp_path / "cache.zarr", tmp_path / "run"
    extraction = measured("extract", tmp_path / "spec.yaml", "--data", data, "--out", cache)
    fit = measured("fit", cache, "--data", data, "--out", run, "--spec", tmp_path / "fit.yaml")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["n_voxels"] == n_voxels
    assert metrics["epochs"][-1]["step"] == -(-(n_images - 2 * round(n_images / 10)) // 8)
    if true_size:
        cache_bytes = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
        figures = {
            "what": f"{n_images} images of 224 px through 12 x 768 blocks; one epoch over {n_voxels} voxels, batch 8",
            "extract": extraction | {"cache_gib": cache_bytes / 2**30},
            "fit": fit | {"steps": metrics["epochs"][-1]["step"]},
        }
        keep("whole_way_cpu", figures)
