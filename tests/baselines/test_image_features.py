"""Pixels and Gabor energy say what is in an image, and where."""

import numpy as np
import pytest
import torch
from PIL import Image

from bddn.baselines.image_features import (
    N_CELLS,
    N_COLOUR,
    N_LEVELS,
    N_LUMINANCE,
    N_ORIENTATIONS,
    gabor_energy,
    gabor_filters,
    image_features,
    pixels,
)
from bddn.planted.subject import Planted

SIDE = 128


def _gray(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.repeat((255 * values).round().astype(np.uint8)[:, :, None], 3, axis=2))


def _grating(cycles: float, angle: float, phase: float = 0.0) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    return np.asarray(0.5 + 0.4 * np.cos(2 * np.pi * cycles * (x * np.cos(angle) + y * np.sin(angle)) + phase))


def test_pixels_are_means_of_cells_in_luminance_and_colour() -> None:
    red = np.zeros((96, 144, 3), np.uint8)
    red[:48, :, 0] = 255  # the upper half
    found = pixels(Image.fromarray(red))
    luminance, blue, red_ = found.split([N_LUMINANCE**2, N_COLOUR**2, N_COLOUR**2])
    rows = luminance.view(N_LUMINANCE, N_LUMINANCE)
    assert rows[:12].unique().tolist() == pytest.approx([0.299], abs=0.003)  # ITU-R BT.601
    assert rows[12:].unique().tolist() == [0.0]
    assert red_.view(N_COLOUR, N_COLOUR)[:6].min() > 0.9
    assert (blue.view(N_COLOUR, N_COLOUR)[:6] < 0.5).all()


def test_filters_have_no_mean_and_norm_1() -> None:
    filters = gabor_filters().flatten(1)
    torch.testing.assert_close(filters.norm(dim=1), torch.ones(2 * N_ORIENTATIONS))
    assert filters.sum(1).abs().max() < 1e-5


@pytest.mark.parametrize("level", range(N_LEVELS))
@pytest.mark.parametrize("orientation", [0, 3, 4])
def test_a_grating_has_its_energy_at_its_scale_and_orientation(level: int, orientation: int) -> None:
    angle, cycles = np.pi * orientation / N_ORIENTATIONS, 32 / 2**level
    found = gabor_energy(_gray(_grating(cycles, angle))).view(N_LEVELS, N_ORIENTATIONS, N_CELLS, N_CELLS)
    inner = found[:, :, 2:-2, 2:-2].mean((2, 3))
    assert divmod(int(inner.argmax()), N_ORIENTATIONS) == (level, orientation)


def test_energy_does_not_depend_on_the_phase_and_is_where_the_contrast_is() -> None:
    whole = [gabor_energy(_gray(_grating(16, 0.0, phase))).view(N_LEVELS, -1) for phase in (0.0, 1.0)]
    torch.testing.assert_close(whole[0][1], whole[1][1], atol=0.05 * float(whole[0][1].max()), rtol=0)
    left = _grating(16, 0.0)
    left[:, SIDE // 2 :] = 0.5
    found = gabor_energy(_gray(left)).view(N_LEVELS, N_ORIENTATIONS, N_CELLS, N_CELLS)[1, 0]
    assert found[:, :3].min() > 20 * found[:, 5:].max()
    assert gabor_energy(_gray(np.full((SIDE, SIDE), 0.3))).max() < 1e-5


def test_features_are_in_the_order_of_the_rows(planted: Planted) -> None:
    rows = np.array([7, 2, 40])
    found = image_features(planted.stimuli, rows, pixels)
    for one, row in zip(found, rows, strict=True):
        assert torch.equal(one, pixels(planted.stimuli.image(int(row))))
