"""The position code."""

import pytest
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sides", [(150.0, 100.0, 80.0), (150.0, 100.0, 0.0), (0.0, 0.0, 0.0)])
@pytest.mark.parametrize("n_voxels", [1, 20, 3000])
def test_compact_codes_say_the_same_in_fewer_numbers(
    n_voxels: int, sides: tuple[float, float, float], dtype: torch.dtype
) -> None:
    coords = torch.rand(n_voxels, 3, dtype=dtype, generator=torch.Generator().manual_seed(0)) * torch.tensor(sides)
    position = PositionCode(coords, 32, 1000.0, 100.0)
    codes, basis = position.compact(coords)
    assert basis.shape[0] == position.width
    assert codes.shape == (n_voxels, basis.shape[1])
    assert basis.shape[1] <= min(3 * n_voxels, 96 if dtype == torch.float32 else 120)
    tolerance = 64 * torch.finfo(dtype).eps  # as many numbers are summed
    assert (codes @ basis.T - position(coords)).abs().max() < tolerance
    assert (basis.T @ basis - torch.eye(basis.shape[1])).abs().max() < tolerance


def test_compact_codes_do_not_depend_on_the_number_of_threads() -> None:
    coords = torch.rand(5000, 3, generator=torch.Generator().manual_seed(0))
    position, before, found = PositionCode(coords, 32, 1000.0, 100.0), torch.get_num_threads(), []
    try:
        for n in (1, 2, 4):
            torch.set_num_threads(n)
            found.append(position.compact(coords))
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(before)
    for codes, basis in found:
        assert torch.equal(codes, found[0][0])
        assert torch.equal(basis, found[0][1])
