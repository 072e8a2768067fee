"""The position code."""

import torch

from bddn.encoder.position import PositionCode


def _coords() -> torch.Tensor:
    return torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([400.0, 100.0, 100.0])


def test_code_has_a_sine_and_a_cosine_per_axis_and_frequency() -> None:
    code = PositionCode(_coords(), 32, 1000.0, 100.0)
    assert code(_coords()).shape == (20, 192)
    assert code.width == 192


def test_longest_side_is_scaled_to_the_steps() -> None:
    coords = _coords()
    code = PositionCode(coords, 4, 1000.0, 100.0)
    side = (coords.max(0).values - coords.min(0).values).max()
    torch.testing.assert_close(side / code.step_mm, torch.tensor(100.0))


def test_a_voxel_has_the_same_code_alone_as_among_others() -> None:
    coords = _coords()
    code = PositionCode(coords, 8, 1000.0, 100.0)
    torch.testing.assert_close(code(coords[3:5]), code(coords)[3:5])


def test_bounds_are_saved_with_the_model() -> None:
    coords = _coords()
    code = PositionCode(coords, 8, 1000.0, 100.0)
    other = PositionCode(coords * 2 + 5, 8, 1000.0, 100.0)
    assert not torch.allclose(other(coords), code(coords))
    other.load_state_dict(code.state_dict())
    torch.testing.assert_close(other(coords), code(coords))
