"""Few images: smaller batches give the selectors enough steps to find places and layers."""

import numpy as np
import pytest
import torch

from bddn.encoder.factor_topy import new_encoder
from bddn.encoder.fit import Fitted, fit
from bddn.encoder.parts import Parts
from bddn.spec import FitSpec
from bddn.stats.scores import robust_mean
from bddn.stream.features import Features
from bddn.stream.loader import Resident

N_TRAIN, N, VOXELS, WIDTHS, SIDE = 160, 400, 300, {"early": 6, "late": 6}, 6


@pytest.fixture(scope="module")
def brain() -> tuple[torch.Tensor, Resident, torch.Tensor]:
    """Coordinates, tokens and responses: x and y of the place run along two axes of cortex, depth along the third."""
    g = torch.Generator().manual_seed(5)
    coords = torch.rand(VOXELS, 3, generator=g) * 100
    at = torch.cartesian_prod(*[torch.linspace(-1, 1, SIDE)] * 2).flip(1)  # (x, y)
    near = torch.softmax(-4 * torch.cdist(at, at).square(), 1)
    place = torch.softmax(-8 * torch.cdist(coords[:, :2] / 50 - 1, at).square(), 1)
    depth = coords[:, 2] / 100
    channels = torch.randn(VOXELS, 6, generator=g)
    local = [near @ torch.randn(N, SIDE**2, 6, generator=g) for _ in WIDTHS]
    read = [torch.einsum("npc,vp,vc->nv", tokens, place, channels) for tokens in local]
    signal = (1 - depth) * read[0] + depth * read[1]
    responses = signal / signal.std(0) + torch.randn(N, VOXELS, generator=g)
    return coords, Resident.of(Features(local, [torch.randn(N, 6, generator=g) for _ in WIDTHS])), responses


def _fit(brain: tuple[torch.Tensor, Resident, torch.Tensor], **changed: int | None) -> Fitted:
    coords, source, responses = brain
    spec = FitSpec.parse(FitSpec.recipe("fast").to_dict() | {"channels": 8, "selector_width": 32} | changed, "test")
    parts = Parts(np.arange(N_TRAIN), np.arange(N_TRAIN, 200), np.arange(200, N))
    return fit(new_encoder(coords, WIDTHS, (SIDE, SIDE), spec), source, responses.__getitem__, parts, spec)


def test_few_images_are_learned_in_smaller_batches(brain: tuple[torch.Tensor, Resident, torch.Tensor]) -> None:
    small, large = _fit(brain), _fit(brain, min_steps=None)
    assert (small.batch_size, large.batch_size) == (2, 8)
    assert (small.history[-1]["step"], large.history[-1]["step"]) == (400, 100)
    coords = brain[0].numpy()

    def found(fitted: Fitted) -> list[float]:
        place, depth = fitted.selection.place.numpy(), fitted.selection.layer.numpy()[:, 1]
        return [np.corrcoef(a, b)[0, 1] for a, b in zip((*place.T, depth), coords.T, strict=True)]

    assert min(found(small)) > 0.85
    assert robust_mean(small.r2_test) > 1.2 * robust_mean(large.r2_test)
