"""The align before the first step: towards responses, and random where that is chance."""

import numpy as np
import pytest
import torch

from bddn.encoder.factor_topy import FactorTopy, new_encoder
from bddn.encoder.fit import fit
from bddn.encoder.initial_align import align_to_responses
from bddn.encoder.parts import Parts
from bddn.encoder.whitening import Whitening
from bddn.errors import SpecError
from bddn.spec import FitSpec
from bddn.stats.scores import robust_mean
from bddn.stream.features import Features
from bddn.stream.loader import Resident
from bddn.stream.order import pools_in_order

N, WIDTHS, GRID, PLACES = 300, {"early": 40, "late": 30}, (4, 4), 16
SPEC = FitSpec.parse(FitSpec.recipe("fast").to_dict() | {"channels": 8, "selector_width": 16}, "test")


def _tokens() -> Features:
    g = torch.Generator().manual_seed(1)
    local = [torch.randn(N, PLACES, width, generator=g) for width in WIDTHS.values()]
    return Features(local, [torch.randn(N, width, generator=g) for width in WIDTHS.values()])


def _turned(tokens: Features, responses: torch.Tensor, channels: int = SPEC.channels) -> tuple[FactorTopy, FactorTopy]:
    """An encoder before and after."""
    coords, rows, source = torch.rand(responses.shape[1], 3), np.arange(len(responses)), Resident.of(tokens)
    spec = SPEC.model_copy(update={"channels": channels})
    before, after = (new_encoder(coords, WIDTHS, GRID, spec) for _ in range(2))
    after.whitening = Whitening.of(source, pools_in_order(rows, source.chunk_of))
    responses = (responses - responses.mean(0)) / responses.std(0)
    align_to_responses(after, source, responses.__getitem__, rows, 0)
    return before, after


def test_columns_turn_towards_the_tokens_that_responses_depend_on() -> None:
    tokens = _tokens()
    direction = torch.randn(30, generator=torch.Generator().manual_seed(2))
    signal = tokens.global_[1] @ (direction / direction.norm())
    tokens.global_[1].mul_(100).add_(1e4)  # neither unit nor mean matters
    noise = torch.randn(N, 50, generator=torch.Generator().manual_seed(3))
    before, after = _turned(tokens, signal[:, None] + 0.5 * noise)
    found = torch.cosine_similarity(after.align_global[1], direction[:, None], dim=0).abs()
    assert found[0] > 0.9 > 3 * found[1:].mean()
    for old, new in zip(before.align_global, after.align_global, strict=True):
        assert new.norm().item() == pytest.approx(old.norm().item(), rel=0.2)
    assert torch.equal(after.channels, before.channels)


def test_what_is_chance_stays_random() -> None:
    found: dict[tuple[str, int], list[torch.Tensor]] = {}
    for seed in range(3, 8):
        noise = torch.randn(N, 50, generator=torch.Generator().manual_seed(seed))
        before, after = _turned(_tokens(), noise)
        for kind in ("align_local", "align_global"):
            for layer, (old, new) in enumerate(zip(getattr(before, kind), getattr(after, kind), strict=True)):
                found.setdefault((kind, layer), []).append(torch.cosine_similarity(old, new, dim=0))
    for which, columns in found.items():
        assert torch.cat(columns).median() > 0.9, which


def test_fewer_voxels_than_channels_and_constant_layers_are_no_trouble() -> None:
    tokens = _tokens()
    tokens.global_[0].fill_(3.0)
    before, after = _turned(tokens, tokens.global_[1][:, :2] + 0)
    assert all(one.isfinite().all() for one in after.parameters())
    assert torch.equal(after.align_global[1][:, 2:], before.align_global[1][:, 2:])
    assert not torch.equal(after.align_global[1][:, :2], before.align_global[1][:, :2])


@pytest.mark.parametrize("channels", [39, 40])
def test_layers_that_a_random_align_spans_stay_as_they_are(channels: int) -> None:
    tokens = _tokens()
    before, after = _turned(tokens, tokens.global_[1] + 0, channels)
    assert torch.equal(before.align_global[1], after.align_global[1]) == (channels >= max(WIDTHS.values()))


def test_raw_features_are_refused_in_words() -> None:
    with pytest.raises(SpecError, match="whitened"):
        FitSpec.parse({"initial_align": "responses"}, "test")


def test_one_pass_learns_more_of_wide_layers() -> None:
    """Voxels respond to 4 of 400 directions in each layer, at places that run smoothly over cortex."""
    g = torch.Generator().manual_seed(4)
    n, n_voxels, width, side, rank = 1500, 300, 400, 3, 4
    coords = torch.rand(n_voxels, 3, generator=g) * 100
    at = torch.cartesian_prod(torch.arange(side), torch.arange(side)).float()
    near = torch.softmax(-torch.cdist(at, at).square(), 1)
    place = torch.softmax(-2 * torch.cdist(coords[:, :2] / 100 * (side - 1), at).square(), 1)
    depth = coords[:, 2] / 100
    mixture = torch.randn(n_voxels, rank, generator=g)
    tokens, responses = Features([], []), 0.3 * torch.randn(n, n_voxels, generator=g)
    for weight in (1 - depth, depth):
        local = near @ torch.randn(n, side**2, width, generator=g)
        read = torch.linalg.qr(torch.randn(width, rank, generator=g))[0]
        responses += weight * torch.einsum("npk,vp,vk->nv", local @ read, place, mixture)
        local = local * torch.randn(width, generator=g).exp()
        tokens = Features([*tokens.local, local], [*tokens.global_, local.mean(1)])
    parts, source = Parts(np.arange(1000), np.arange(1000, 1200), np.arange(1200, n)), Resident.of(tokens)

    def score(initial_align: str) -> float:
        changed = {"epochs": 1, "min_steps": None, "channels": 16, "initial_align": initial_align}
        spec = SPEC.model_copy(update=changed)
        model = new_encoder(coords, {"early": width, "late": width}, (side, side), spec)
        return robust_mean(fit(model, source, responses.__getitem__, parts, spec).r2_test)

    assert score("responses") > 1.2 * score("random")
