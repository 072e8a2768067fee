"""Flat maps of layers that are painted again and again, as in a film: the same pictures as of `panels.paint`, quickly.

Which triangle a pixel shows, how near it is to its corners, and which corners have a voxel stay the same. So what
follows from that is found once, by the rules of `raster`; a picture then takes a few look-ups for each pixel near a
voxel.

Shape letters: V voxels shown, L layers, Q pixels of the picture near voxels, each of four finer ones, T triangles.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import N_VERTICES_FSAVERAGE5, Floats
from bddn.cortex.surfaces import surface
from bddn.figures.raster import Raster
from bddn.film.moving import Picture
from bddn.maps.colors import Palette, cortex_grey, layer_rgb

if TYPE_CHECKING:
    import pandas as pd

Colours = npt.NDArray[np.float32]
"""(..., 3), red, green and blue, 0 to 255."""

_LEVELS = 256
_FEWEST_LEVELS = 8
_ALIKE = ((0, 0, 0), (0, 1, 1), (0, 1, 0), (0, 0, 2), (0, 1, 2))
"""Which corners of a triangle have the same layer: they have the same number, that of one of them."""


@dataclass(frozen=True, eq=False)
class LayerColours:
    """All colours of a layer map.

    Attributes
    ----------
    rgb : array of float32, (L * 256, 3)
        By layer, and by confidence up to `top`; 0 to 255.
    n_layers : int
    top : float
        Confidence of full brightness.
    """

    rgb: Colours
    n_layers: int
    top: float

    @classmethod
    def of(cls, n_layers: int, top: float, palette: Palette) -> "LayerColours":
        """As of `colors.layer_rgb`."""
        layer, sure = np.meshgrid(np.arange(n_layers), np.linspace(0.0, top, _LEVELS), indexing="ij")
        rgb = 255 * layer_rgb(layer.ravel(), sure.ravel(), n_layers, top, palette)
        return cls(rgb.astype(np.float32), n_layers, top)

    def look_up(self, layer: npt.NDArray[np.int64], sure: npt.NDArray[np.float32]) -> Colours:
        """Colours (n, 3) of layers and confidences (n,)."""
        level = np.clip(sure * np.float32((_LEVELS - 1) / self.top), 0, _LEVELS - 1) + np.float32(0.5)
        return np.asarray(self.rgb.take(layer * _LEVELS + level.astype(np.int64), axis=0))

    def fewer(self, n: int) -> Picture:
        """At most `n` of the colours (n, 3), evenly chosen: of all layers as long as each can have some levels."""
        layers = np.unique(np.linspace(0, self.n_layers - 1, n // _FEWEST_LEVELS).round().astype(int))
        levels = np.linspace(0, _LEVELS - 1, n // len(layers)).round().astype(int)
        return as_bytes(self.rgb[(layers[:, None] * _LEVELS + levels).ravel()])


@dataclass(frozen=True, eq=False)
class Sheet:
    """What changes on the flat map of a hemisphere that lies somewhere in a picture.

    mine : (n,) which of the V voxels are on it; vertex : (n,) where; corners : (4 Q, 3) of the finer pixels' triangles,
    four pixels after four; weight : (4 Q, 3) nearness to those that have a voxel, sums to 1; triangles : (T, 3) corners
    of all triangles; triangle : (4 Q,) which of them; winner : (5 · 4 Q,) the corner that a pixel takes its layer from,
    for each case of `_ALIKE`; bare, grey : which of the 4 Q show no voxel, and their colours; at : (Q,) where in the
    picture; ink : (Q, 4) what is drawn over it.
    """

    mine: npt.NDArray[np.int64]
    vertex: npt.NDArray[np.int64]
    corners: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float32]
    triangles: npt.NDArray[np.int32]
    triangle: npt.NDArray[np.int64]
    winner: npt.NDArray[np.int64]
    bare: npt.NDArray[np.int64]
    grey: Colours
    at: npt.NDArray[np.int64]
    ink: Picture

    @classmethod
    def of(cls, hemi: str, raster: Raster, shown: "pd.DataFrame", ink: Picture, corner: tuple[int, int]) -> "Sheet":
        """Find the pixels near voxels.

        Parameters
        ----------
        hemi : str
        raster : Raster
            Of the flat map.
        shown : DataFrame, V rows
            With columns hemi and vertex.
        ink : array of uint8, (rows, columns, 4)
            Of the whole picture, to be drawn over the map.
        corner : tuple of int
            Row and column of the picture at which the map begins.
        """
        mine = np.flatnonzero(shown["hemi"] == hemi)
        vertex = shown["vertex"].to_numpy(dtype=np.int64)[mine]
        held = np.isin(np.arange(N_VERTICES_FSAVERAGE5), vertex)
        rows, columns = raster.shape
        is_near = (raster.categories(np.where(held, 0, -1), 1) == 0) & np.isfinite(
            raster.values(np.where(held, 0.0, np.nan))
        )
        near = raster.pixel[is_near]
        row, column = np.divmod(np.unique(near // columns // 2 * (columns // 2) + near % columns // 2), columns // 2)
        fine = np.column_stack([(2 * row + i) * columns + 2 * column + j for i in (0, 1) for j in (0, 1)]).ravel()
        place = np.full(rows * columns, -1)
        place[raster.pixel] = np.arange(len(raster.pixel))
        bare = np.flatnonzero(~np.isin(fine, near))
        part = raster.part(np.maximum(place[fine], 0))  # anything where the picture is white
        deep = 255 * cortex_grey(surface(hemi).sulc).astype(np.float32)
        grey = np.where(place[fine[bare]] < 0, 255, _between(deep, part.corners[bare], part.weight[bare]))
        weight = part.weight * held[part.corners]
        name = part.corners.astype(np.int64) @ [N_VERTICES_FSAVERAGE5**2, N_VERTICES_FSAVERAGE5, 1]
        _, first, triangle = np.unique(name, return_index=True, return_inverse=True)
        at = (row + corner[0]) * ink.shape[1] + column + corner[1]
        return cls(
            mine=mine,
            vertex=vertex,
            corners=part.corners,
            weight=weight / np.maximum(weight.sum(axis=1, keepdims=True), np.float32(1e-6)),
            triangles=part.corners[first],
            triangle=triangle,
            winner=_winners(part, held),
            bare=bare,
            grey=np.repeat(grey.astype(np.float32)[:, None], 3, axis=1),
            at=at,
            ink=ink.reshape(-1, 4)[at],
        )

    def paint_on(
        self,
        picture: Picture,
        layer: npt.NDArray[np.integer],
        sure: npt.NDArray[np.floating],
        colours: LayerColours,
    ) -> None:
        """Give its pixels of a picture (rows, columns, 3) the colours of the layers and confidences (V,)."""
        which, known = np.zeros(N_VERTICES_FSAVERAGE5, np.int64), np.zeros(N_VERTICES_FSAVERAGE5, np.float32)
        which[self.vertex], known[self.vertex] = layer[self.mine], sure[self.mine]
        seen = which[self.triangles]
        a, b, c = seen.T
        alike = np.select([(a == b) & (b == c), b == c, a == c, a == b], [0, 1, 2, 3], 4)
        pixels = np.arange(len(self.triangle))
        corner = self.winner.take(alike.take(self.triangle) * len(pixels) + pixels)
        chosen = seen.ravel().take(3 * self.triangle + corner)
        fine = colours.look_up(chosen, _between(known, self.corners, self.weight))
        fine[self.bare] = self.grey
        four = fine.reshape(-1, 4, 3)
        mean = (four[:, 0] + four[:, 1] + four[:, 2] + four[:, 3]) * np.float32(0.25)
        picture.reshape(-1, 3)[self.at] = draw_over(mean, self.ink)


def draw_over(paper: Colours, ink: Picture) -> Picture:
    """Paper (..., 3) with ink (..., 4) on it."""
    return as_bytes(paper + (ink[..., :3] - paper) * (ink[..., 3:] / np.float32(255)))


def as_bytes(colours: Floats) -> Picture:
    """Whole numbers, 0 to 255."""
    return np.asarray(np.rint(colours), np.uint8)


def _between(value: npt.NDArray[np.float32], corners: npt.NDArray[np.int32], weight: Colours) -> Colours:
    """The value at pixels (P,), from those of their triangles' corners."""
    return np.asarray(np.einsum("pk,pk->p", value.take(corners), weight))


def _winners(part: Raster, held: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The corner, 0 to 2, that `Raster.categories` takes, in each case of `_ALIKE`, one case after the other.

    It is asked with a surface of three vertices that have voxels, and a fourth one that has none.
    """
    corners = np.where(held[part.corners], np.arange(3), 3).astype(np.int32)
    own = replace(part, corners=corners)
    found = [np.maximum(own.categories(np.array([*code, -1]), 3), 0) for code in _ALIKE]
    return np.concatenate(found)
