"""Where most voxels are silent, selectors are trained on those that respond."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bddn.encoder import checkpoint, saved
from bddn.encoder import fit as fitting
from bddn.encoder.explained import Kernel
from bddn.encoder.factor_topy import FactorTopy, new_encoder
from bddn.encoder.fit import Fitted, fit
from bddn.encoder.parts import Parts
from bddn.encoder.responsive import OTHERS, responsive_sample
from bddn.encoder.targets import Standardized
from bddn.encoder.whitening import Whitening
from bddn.spec import FitSpec
from bddn.stream.features import Features
from bddn.stream.loader import Resident
from bddn.stream.order import pools_in_order

N, SIDE, WIDTH, N_RESPOND = 400, 4, 12, 150
GRID, WIDTHS = (SIDE, SIDE), {"early": WIDTH, "late": WIDTH}
PARTS = Parts(np.arange(280), np.arange(280, 340), np.arange(340, N))
SPEC = FitSpec.parse(FitSpec.recipe("fast").to_dict() | {"channels": 8, "selector_width": 32, "min_steps": 300}, "test")


def _brain(n_silent: int, noise: float = 1.0) -> tuple[torch.Tensor, Features, torch.Tensor]:
    """Positions, tokens and responses of voxels of which the first respond: along x from the early to the late layer,
    at places that run along y and z."""
    g = torch.Generator().manual_seed(3)
    at = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).float()
    near = torch.exp(-torch.cdist(at, at).square() / 2)
    local = [near @ torch.randn(N, SIDE**2, WIDTH, generator=g) for _ in WIDTHS]
    coords = torch.rand(N_RESPOND + n_silent, 3, generator=g) * 100
    coords[N_RESPOND:, 0] += 100
    own = coords[:N_RESPOND] / 100
    field = torch.softmax(-torch.cdist(own[:, 1:] * (SIDE - 1), at).square() * 2, 1)
    signal = torch.zeros(N, N_RESPOND)
    for weight, layer in zip((1 - own[:, 0], own[:, 0]), local, strict=True):
        channels = torch.randn(WIDTH, 3, generator=g)
        mixture = torch.randn(N_RESPOND, 3, generator=g)
        signal += weight * torch.einsum("npk,vp,vk->nv", layer @ channels, field, mixture)
    responses = torch.randn(N, len(coords), generator=g) * noise
    responses[:, :N_RESPOND] += signal / signal.std(0)
    return coords, Features(local, [layer.mean(1) for layer in local]), responses


def _chosen_of(coords: torch.Tensor, tokens: Features, responses: torch.Tensor, n: int) -> torch.Tensor | None:
    source = Resident.of(tokens)
    whitening = Whitening.of(source, pools_in_order(PARTS.train, source.chunk_of))
    kernel = Kernel.of(source, PARTS.train, whitening, GRID, seed=0)
    return responsive_sample(coords, n, Standardized.of(responses.__getitem__, PARTS.train), kernel)


def _chosen(n_silent: int, noise: float = 1.0, n: int = 1000) -> torch.Tensor | None:
    return _chosen_of(*_brain(n_silent, noise), n)


def _fit(spec: FitSpec, n_silent: int, checkpoint: Path | None = None) -> Fitted:
    coords, tokens, responses = _brain(n_silent)
    model: FactorTopy = new_encoder(coords, WIDTHS, GRID, spec)
    return fit(model, Resident.of(tokens), responses.__getitem__, PARTS, spec, checkpoint, checkpoint_every_s=0)


def test_voxels_that_respond_are_chosen_and_a_few_others() -> None:
    found = _chosen(1500)
    assert found is not None
    assert (found.diff() > 0).all()
    responding = (found < N_RESPOND).sum().item()
    assert responding > 0.95 * N_RESPOND
    assert len(found) - responding < N_RESPOND / OTHERS + 20


def test_of_many_voxels_that_respond_a_sample_is_chosen() -> None:
    found = _chosen(250, n=60)
    assert found is not None
    assert len(found) == 60
    assert (found < N_RESPOND).sum() > 60 - 1.5 * 60 / (OTHERS + 1)  # few that respond are not seen to


@pytest.mark.parametrize(("n_silent", "noise"), [(100, 1.0), (1500, 6.0)], ids=["few silent", "noise everywhere"])
def test_nothing_is_chosen_where_most_voxels_respond_or_none_is_seen_to(n_silent: int, noise: float) -> None:
    assert _chosen(n_silent, noise) is None


def test_weak_responses_are_not_taken_for_silence() -> None:
    """All voxels respond, some so strongly that it is seen of them alone."""
    coords, tokens, responses = _brain(0)
    weak = responses.repeat(1, 8)[:, N_RESPOND:]
    weak = weak + 2.5 * torch.randn(weak.shape, generator=torch.Generator().manual_seed(5))
    assert _chosen_of(coords.repeat(8, 1), tokens, torch.cat([responses, weak], 1), 2000) is None


def test_the_map_of_a_few_voxels_is_not_lost_among_silent_ones(capsys: pytest.CaptureFixture[str]) -> None:
    coords = _brain(3000)[0][:N_RESPOND] / 100

    def r_of_places(fitted: Fitted) -> list[float]:
        place = fitted.selection.place[:N_RESPOND]
        pairs = (place[:, 1], coords[:, 1]), (place[:, 0], coords[:, 2])
        return [torch.corrcoef(torch.stack(pair))[0, 1].item() for pair in pairs]

    evenly, chosen = (_fit(SPEC.model_copy(update={"sampled": how}), 3000) for how in ("evenly", "responsive"))
    assert min(r_of_places(chosen)) > 0.97
    assert np.mean(r_of_places(chosen)) > np.mean(r_of_places(evenly)) + 0.01
    assert chosen.r2_test[:N_RESPOND].mean() > evenly.r2_test[:N_RESPOND].mean() + 0.02
    assert len(chosen.selection.scale) == N_RESPOND + 3000
    assert chosen.trained_voxels["chosen"] == "responsive"
    assert int(chosen.trained_voxels["n"]) < 1.5 * N_RESPOND
    assert evenly.trained_voxels == {"n": 3000 + N_RESPOND, "chosen": "evenly"}
    assert "The selectors were trained on" in capsys.readouterr().err


def _stop_after(n_steps: int, spec: FitSpec, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the checkpoint of a fit that was interrupted."""
    step, taken = fitting._Training._step, list[int]()

    def stop(self: fitting._Training, *given: object) -> None:
        if len(taken) == n_steps:
            raise KeyboardInterrupt
        taken.append(1)
        step(self, *given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(fitting._Training, "_step", stop)
        with pytest.raises(KeyboardInterrupt):
            _fit(spec, 600, file)


def test_a_fit_that_resumes_trains_the_voxels_of_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, file = SPEC.model_copy(update={"min_steps": 40, "max_steps": 40}), tmp_path / "checkpoint.safetensors"
    whole = _fit(spec, 600)
    _stop_after(24, spec, file, monkeypatch)

    monkeypatch.setattr("bddn.encoder.responsive.responsive_sample", lambda *_: pytest.fail("chosen again"))
    resumed = _fit(spec, 600, file)
    assert torch.equal(resumed.model.channels, whole.model.channels)
    np.testing.assert_array_equal(resumed.r2_test, whole.r2_test)


def test_a_checkpoint_of_an_earlier_version_does_not_say_which_voxels_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, file = FitSpec(channels=8, selector_width=16, epochs=1), tmp_path / "checkpoint.safetensors"
    whole = _fit(spec, 600)
    _stop_after(20, spec, file, monkeypatch)
    tensors, about = saved.read(file, "a checkpoint", "")
    about.pop("sha256")
    saved.save_checked({name: value for name, value in tensors.items() if name != checkpoint.VOXELS}, about, file)
    np.testing.assert_array_equal(_fit(spec, 600, file).r2_test, whole.r2_test)
