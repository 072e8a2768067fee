"""Tiny networks and an image set of three colours, which a linear head can tell apart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bddn.backbones.family_kind import FAMILIES
from bddn.backbones.weights.pretrained import untrained
from bddn.data.image_sets.kinds import open_images
from bddn.data.image_sets.labelled import LabelledImages
from bddn.spec import CacheSpec, FinetuneSpec

SIDE = 32
COLORS = {"blue": (60, 90, 180), "green": (70, 160, 80), "red": (170, 80, 70)}
N_IMAGES = 9  # of each class
COMMON = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 8}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "clip": COMMON | {"intermediate_size": 64},
    "vit": COMMON | {"intermediate_size": 64},
    "dinov2": COMMON | {"mlp_ratio": 2},
    "dinov2_registers": COMMON | {"mlp_ratio": 2, "num_register_tokens": 2},
    "sam": {**COMMON, "mlp_dim": 64, "output_channels": 8, "window_size": 2, "global_attn_indexes": [1]},
}
SETTINGS = FinetuneSpec(per_class=4, steps=6, batch_size=4, learning_rate=1e-3, evaluate_every=4, checkpoint_every=3)


def write_images(folder: Path, n: int = N_IMAGES) -> Path:
    """Write a folder of images per class: noise around a colour."""
    rng = np.random.default_rng(0)
    for name, color in COLORS.items():
        (folder / name).mkdir(parents=True)
        for i in range(n):
            pixels = np.clip(rng.normal(color, 50, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{name}_{i}.png")
    return folder


def family_spec(family: str, weights: Path) -> CacheSpec:
    """Write a tiny network of a family, and return its spec."""
    model = untrained(FAMILIES[family], {**ARCHITECTURES[family], "initializer_range": 0.1})
    model.save_pretrained(weights)
    token = "mean" if family == "sam" else "cls"
    about = {"title": f"tiny {family}", "backbone": {"family": family}, "weights": {"folder": str(weights)}}
    return CacheSpec.parse({**about, "image_size": SIDE, "grid": [2, 2], "global_token": token}, "test")


@pytest.fixture(scope="session")
def colors(tmp_path_factory: pytest.TempPathFactory) -> LabelledImages:
    """27 images of three classes."""
    return open_images(f"folder:{write_images(tmp_path_factory.mktemp('colors') / 'set')}")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> CacheSpec:
    """A tiny CLIP."""
    return family_spec("clip", tmp_path_factory.mktemp("clip"))
