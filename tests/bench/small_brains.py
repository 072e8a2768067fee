"""Small planted brains of many kinds, in memory, for figures that need hundreds of fits.

A brain has about 120 voxels that see 450 images through a network of 4 layers. Everything that a planted brain can
differ in is drawn at random: images, network, laws, field sizes, noise and ceilings. Eight brains see the same images
through the same network, and are fitted as one subject whose cortex consists of the eight, far apart: they share the
alignment of channels, as the voxels of a subject do, and a fit of eight costs little more than a fit of one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F

from bddn.backbones.preprocess import squash
from bddn.cortex.fsaverage import positions_mm
from bddn.encoder.factor_topy import new_encoder
from bddn.encoder.fit import Fitted, fit
from bddn.encoder.parts import Parts
from bddn.planted.brain import true_maps, true_responses
from bddn.planted.scenes import draw_gratings, draw_leaves, draw_scene
from bddn.spec import FitSpec, PlantSpec
from bddn.stream.features import Features
from bddn.stream.loader import Resident
from bench.networks import Mixer

N_TRAIN, N_VAL, N_TEST = 270, 30, 150
SIDE = 112  # in pixels
GRID = 6  # rows and columns of tokens, which are averages: neighbours are alike, as those of trained networks
BRAINS = 8  # of a subject
APART_MM = 60.0
RECIPE: dict[str, Any] = FitSpec.recipe("fast").to_dict() | {
    "channels": 16,
    "selector_width": 64,
    "code_frequencies": 16,
    "code_steps": 200.0,  # as long in mm as those of one brain
    "blurs": [0.0, 1.0],
    "batch_size": 16,
    "epochs": 16,
}
"""The recipe `fast` in the size of these subjects."""
DRAW = {"shapes": draw_scene, "leaves": draw_leaves, "gratings": draw_gratings}


@dataclass(frozen=True)
class SmallBrains:
    """Some brains with one network: their truth, in which the column `brain` numbers them, and the data of a fit."""

    truth: pd.DataFrame
    source: Resident
    widths: dict[str, int]
    grid: tuple[int, int]
    coords_mm: npt.NDArray[np.float32]
    responses: npt.NDArray[np.float32]

    @property
    def parts(self) -> Parts:
        """The split, the same for all fits."""
        ends = np.cumsum([N_TRAIN, N_VAL])
        return Parts(*np.split(np.arange(N_TRAIN + N_VAL + N_TEST), ends))

    def fit(self, spec: FitSpec) -> Fitted:
        """Fit an encoder on them."""
        model = new_encoder(torch.from_numpy(self.coords_mm), self.widths, self.grid, spec)
        responses = torch.from_numpy(self.responses)
        return fit(model, self.source, responses.__getitem__, self.parts, spec)


def small_brains(seed: int) -> SmallBrains:
    """Make the brains of a seed."""
    tokens = _tokens(seed)
    h = w = round(tokens.local[0].shape[1] ** 0.5)
    local = [layer.unflatten(1, (h, w)).numpy() for layer in tokens.local]
    global_ = [layer.numpy() for layer in tokens.global_]
    truths, responses, coords = [], [], []
    for k in range(BRAINS):
        spec = _kind(seed * BRAINS + k)
        truth = true_maps(spec, len(local)).assign(brain=seed * BRAINS + k)
        at = positions_mm(truth["hemi"].to_numpy(), truth["vertex"].to_numpy())
        at[:, 2] += np.float32(APART_MM * k)
        truths.append(truth)
        coords.append(at)
        responses.append(true_responses(local, global_, truth, spec))
    widths = {f"layer_{k}": layer.shape[-1] for k, layer in enumerate(tokens.local)}
    together = pd.concat(truths, ignore_index=True), Resident.of(tokens), widths, (h, w)
    return SmallBrains(*together, np.concatenate(coords), np.concatenate(responses, axis=1))


def _kind(seed: int) -> PlantSpec:
    """Draw what a brain is like."""
    rng = np.random.default_rng([seed, 7])
    smallest = rng.uniform(0.2, 0.35)
    return PlantSpec(
        seed=seed,
        radius_rad=0.15,
        depth_law=_one_of(rng, "linear", "quadratic", "sigmoid", "peaked", "borders", "mixture"),
        layer_spread=rng.uniform(0.4, 0.9),
        place_law=_one_of(rng, "contralateral", "whole"),
        field_size=(smallest, smallest + rng.uniform(0, 0.2)),
        elongation=_one_of(rng, 1.0, 1.0, 2.0),
        scale_law=_one_of(rng, "depth", "anywhere"),
        mean_ceiling=rng.uniform(0.1, 0.65),
        noise=_one_of(rng, "gaussian", "heavy", "correlated"),
    )


def _one_of(rng: np.random.Generator, *choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


@torch.no_grad()
def _tokens(seed: int) -> Features:
    """Draw images, and return the tokens of all layers of a network."""
    rng, side = np.random.default_rng([seed, 8]), (SIDE, SIDE)
    change, growth = rng.uniform(0.35, 0.6), _one_of(rng, 1.0, 10.0, 0.1)
    network = Mixer(seed, 4, 16, change, growth)
    draw = DRAW[_one_of(rng, *DRAW)]
    images = range(N_TRAIN + N_VAL + N_TEST)
    pixels = torch.stack([squash(draw(np.random.default_rng([seed, 1, i]), SIDE), side) for i in images])
    found: list[torch.Tensor] = []
    for tap in network.taps:
        tap.register_forward_hook(lambda module, given, out: found.append(out))
    network(pixels)
    pooled = [F.adaptive_avg_pool2d(layer, GRID) for layer in found]
    pooled = [F.avg_pool2d(layer, 3, stride=1, padding=1, count_include_pad=False) for layer in pooled]
    local = [layer.flatten(2).transpose(1, 2).contiguous() for layer in pooled]
    return Features(local, [layer.square().mean(1).sqrt() for layer in local])
