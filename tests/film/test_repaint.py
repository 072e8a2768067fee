"""Maps that are painted quickly are those that are painted slowly."""

import numpy as np
import pandas as pd
import pytest

from bddn.cortex.fsaverage import N_VERTICES_FSAVERAGE5
from bddn.cortex.surfaces import surface, to_mesh
from bddn.figures.panels import paint
from bddn.figures.raster import Raster, flat_raster
from bddn.film.moving import Picture
from bddn.film.repaint import LayerColours, Sheet, draw_over
from bddn.maps import colors

N_LAYERS, TOP = 5, 0.7
ROW, COLUMN = 3, 7  # of the map in the picture


def _patch(hemi: str) -> np.ndarray:
    """Vertices near the edge of the flat sheet, with holes."""
    points = surface(hemi).inflated
    near = np.flatnonzero(np.linalg.norm(points - points[5271], axis=1) < 45)
    return near[np.arange(len(near)) % 11 > 0]


def _slowly(raster: Raster, hemi: str, vertex: np.ndarray, layer: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """By `panels.paint`, on white."""
    code = np.full(N_VERTICES_FSAVERAGE5, -1)
    code[vertex] = layer
    value = to_mesh(vertex, sure)

    def rgb(part: Raster) -> np.ndarray:
        return colors.layer_rgb(part.categories(code, N_LAYERS), part.values(value), N_LAYERS, TOP)

    image = paint(raster, colors.cortex_grey(surface(hemi).sulc), code >= 0, rgb)
    return np.asarray(255 * (image[..., :3] * image[..., 3:] + 1 - image[..., 3:]))


def _sheet(hemi: str, vertex: np.ndarray, ink: Picture) -> tuple[Raster, Sheet]:
    points = surface(hemi).flat[vertex[np.isin(vertex, surface(hemi).flat_faces)]]
    (left, bottom), (right, top) = points.min(0) - 10, points.max(0) + 10
    raster = flat_raster(surface(hemi), (left, right, bottom, top), 150)
    shown = pd.DataFrame({"hemi": hemi, "vertex": vertex})
    return raster, Sheet.of(hemi, raster, shown, ink, (ROW, COLUMN))


@pytest.mark.parametrize("hemi", ["lh", "rh"])
def test_pictures_are_those_of_paint(hemi: str) -> None:
    vertex, rng = _patch(hemi), np.random.default_rng(0)
    ink = np.zeros((400, 300, 4), np.uint8)
    raster, sheet = _sheet(hemi, vertex, ink)
    rows, columns = raster.shape[0] // 2, raster.shape[1] // 2
    bare = _slowly(raster, hemi, vertex[:0], np.array([], int), np.array([]))
    table = LayerColours.of(N_LAYERS, TOP, "hue")
    picture = np.full((400, 300, 3), 255, np.uint8)
    picture[ROW : ROW + rows, COLUMN : COLUMN + columns] = np.rint(bare)
    for n_kinds in (1, 2, N_LAYERS):  # painted over each other, as in a film
        layer, sure = rng.integers(0, n_kinds, len(vertex)), rng.uniform(0, 1, len(vertex))
        sheet.paint_on(picture, layer, sure, table)
        expected = _slowly(raster, hemi, vertex, layer, sure)
        found = picture[ROW : ROW + rows, COLUMN : COLUMN + columns]
        assert np.abs(expected - bare).max() > 100
        assert np.abs(found - expected).max() <= 1.5
    assert (picture[:ROW] == 255).all()
    assert (picture[:, :COLUMN] == 255).all()


def test_ink_stays_on_top() -> None:
    vertex = _patch("lh")
    ink = np.zeros((400, 300, 4), np.uint8)
    ink[100:120, :, :] = (10, 20, 30, 255)
    ink[120:140, :, 3] = 128  # half black
    _, sheet = _sheet("lh", vertex, ink)
    picture, plain = np.full((400, 300, 3), 255, np.uint8), np.full((400, 300, 3), 255, np.uint8)
    table = LayerColours.of(N_LAYERS, TOP, "hue")
    layer, sure = np.full(len(vertex), 4), np.full(len(vertex), 0.7)
    sheet.paint_on(picture, layer, sure, table)
    _sheet("lh", vertex, np.zeros_like(ink))[1].paint_on(plain, layer, sure, table)
    painted = (plain != 255).any(axis=2)
    assert painted[100:140].any()
    assert (picture[100:120][painted[100:120]] == (10, 20, 30)).all()
    half = painted[120:140]
    np.testing.assert_allclose(picture[120:140][half], plain[120:140][half] * (127 / 255), atol=1)
    np.testing.assert_array_equal(picture[150:], plain[150:])


@pytest.mark.parametrize(("n_layers", "n_hues"), [(1, 1), (2, 2), (12, 12), (27, 27), (200, 27)])
def test_fewer_colours_are_of_all_layers_while_there_is_room(n_layers: int, n_hues: int) -> None:
    table = LayerColours.of(n_layers, 1.0, "hue")
    few = table.fewer(220)
    assert 8 * n_hues <= len(few) <= 220
    ends = colors.layer_rgb(np.array([0, n_layers - 1]), [1.0, 1.0], n_layers, 1.0) * 255
    for end in ends:
        assert np.abs(few - end).max(axis=1).min() <= 1
    assert len(np.unique(few, axis=0)) > 0.85 * len(few)


def test_draw_over_mixes_by_opacity() -> None:
    paper = np.full((1, 3, 3), 200, np.float32)
    ink = np.array([[[0, 100, 255, 0], [0, 100, 255, 255], [0, 100, 255, 51]]], np.uint8)
    assert draw_over(paper, ink).tolist() == [[[200, 200, 200], [0, 100, 255], [160, 180, 211]]]
