"""Convert triangles to pixels: find the triangle that each pixel shows, and its barycentric weights.

Drawing pixels instead of patches avoids seams between triangles, and keeps categories pure: a pixel gets the category
with the largest weight, so that no mixed colour appears between two layers.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import Floats, Ints
from bddn.cortex.meshes import Surface

Box = tuple[float, float, float, float]
"""left, right, bottom, top of an image, in mm."""

TOWARD_AND_UP: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "left": ((-1, 0, 0), (0, 0, 1)),
    "right": ((1, 0, 0), (0, 0, 1)),
    "posterior": ((0, -1, 0), (0, 0, 1)),
    "ventral": ((0, 0, -1), (0, -1, 0)),  # posterior is up, so that left stays left as in the posterior view
}
"""For each view, the direction to the viewer and the upward direction of the image."""

_SUPERSAMPLE = 2
_CHUNK = 1 << 16
_ROWS = 64  # that are averaged at once: small arrays stay in the processor's cache
_TOLERANCE = 1e-9  # so that a pixel centre on the edge of two triangles belongs to one of them
_HALF = 0.5
_AMBIENT = 0.62
_LIGHT = np.array([-0.25, 0.35, 0.90])  # direction in image axes: right, up, toward the viewer


@dataclass(frozen=True, eq=False)
class Raster:
    """The pixels of an image that show a surface.

    Attributes
    ----------
    shape : tuple of int
        Rows (from the top) and columns, twice the size of the result of `image`.
    pixel : array of int64, (P,)
        Flat indices of the pixels that show the surface, increasing.
    corners : array of int32, (P, 3)
        The vertices of the visible triangle.
    weight : array of float32, (P, 3)
        Barycentric weight of each corner; they sum to 1.
    shade : array of float32, (P,)
        Brightness by the light; 1 on a flat map.
    box : tuple of float
        left, right, bottom, top, in mm.
    """

    shape: tuple[int, int]
    pixel: npt.NDArray[np.int64]
    corners: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float32]
    shade: npt.NDArray[np.float32]
    box: Box

    def part(self, keep: Ints | slice) -> "Raster":
        """Return the same raster with a part of its pixels.

        Parameters
        ----------
        keep : array of int, (Q,), or slice
            Indices of the pixels to keep; a slice copies nothing.

        Returns
        -------
        Raster
        """
        return replace(
            self, pixel=self.pixel[keep], corners=self.corners[keep], weight=self.weight[keep], shade=self.shade[keep]
        )

    def categories(self, code: Ints, n: int) -> npt.NDArray[np.int64]:
        """Return the category of each pixel.

        Parameters
        ----------
        code : array of int, (V,)
            Category of each vertex, 0 to n - 1, or -1 for none.
        n : int
            Number of categories.

        Returns
        -------
        array of int64, (P,)
            The category with the largest weight, or -1 if vertices without a category have more than half the weight.
        """
        seen = np.asarray(code)[self.corners]
        votes = np.column_stack([_dot(seen == seen[:, [k]], self.weight) for k in range(3)])
        votes[seen < 0] = -1.0
        best = np.take_along_axis(seen, votes.argmax(1)[:, None], axis=1)[:, 0]
        none = _dot(self.weight, seen < 0) > _HALF
        return np.where(none | (best >= n), -1, best).astype(np.int64)

    def values(self, value: Floats) -> npt.NDArray[np.float64]:
        """Return the value of each pixel, interpolated between the corners that have a value.

        Parameters
        ----------
        value : array of float, (V,)
            One number per vertex; NaN if missing.

        Returns
        -------
        array of float64, (P,)
            NaN if vertices without a value have more than half of the weight.
        """
        seen = np.asarray(value, dtype=np.float64)[self.corners]
        finite = np.isfinite(seen)
        total = _dot(self.weight, finite)
        known = total >= _HALF
        mixed = _dot(self.weight, np.where(finite, seen, 0.0))
        return np.where(known, mixed / np.where(known, total, 1.0), np.nan)

    def image(self, rgb: Floats) -> npt.NDArray[np.float32]:
        """Return an image of the pixel colours, with a transparent background and smooth edges.

        Parameters
        ----------
        rgb : array of float, (P, 3)
            Colours of the pixels, 0 to 1, before shading.

        Returns
        -------
        array of float32, (rows, columns, 4)
            Red, green, blue and opacity, 0 to 1, at half the resolution of the raster.
        """
        rows, columns = self.shape
        out = np.empty((rows // _SUPERSAMPLE, columns // _SUPERSAMPLE, 4), dtype=np.float32)
        tops = range(0, rows, _ROWS)
        ends = np.searchsorted(self.pixel, [top * columns for top in (*tops, rows)])
        for top, first, last in zip(tops, ends, ends[1:], strict=False):
            height = min(_ROWS, rows - top)
            opaque = np.empty((last - first, 4), dtype=np.float32)
            opaque[:, 3] = 1.0
            np.multiply(rgb[first:last], self.shade[first:last, None], out=opaque[:, :3], casting="unsafe")
            fine = np.zeros((height * columns, 4), dtype=np.float32)
            fine[self.pixel[first:last] - top * columns] = np.minimum(opaque, 1.0, out=opaque)
            grid = fine.reshape(height, columns, 4)
            steps = range(_SUPERSAMPLE)
            mean = sum((grid[i::_SUPERSAMPLE, j::_SUPERSAMPLE] for i in steps for j in steps), start=np.float32(0.0))
            mean = np.asarray(mean / _SUPERSAMPLE**2, dtype=np.float32)
            opacity = mean[..., 3:]
            mean[..., :3] /= np.where(opacity > 0, opacity, 1.0)
            np.clip(mean, 0.0, 1.0, out=out[top // _SUPERSAMPLE : (top + height) // _SUPERSAMPLE])
        return out


def flat_raster(surface: Surface, box: Box, columns: int) -> Raster:
    """Rasterise a flat map.

    Parameters
    ----------
    surface : Surface
        The hemisphere; only the triangles of the flat sheet are drawn.
    box : tuple of float
        left, right, bottom, top of the part to draw, in mm.
    columns : int
        Width of the image in pixels; the box determines its height.

    Returns
    -------
    Raster
    """
    points = np.column_stack([surface.flat, np.zeros(len(surface.flat))])
    return _rasterise(points, surface.flat_faces, np.ones(len(points)), box, columns)


def inflated_raster(surface: Surface, view: str, mm_per_pixel: float) -> Raster:
    """Rasterise an inflated hemisphere in orthographic projection.

    Parameters
    ----------
    surface : Surface
        The hemisphere.
    view : str
        A key of `TOWARD_AND_UP`: 'left', 'right', 'posterior' or 'ventral'.
    mm_per_pixel : float
        Size of a pixel of the image in mm.

    Returns
    -------
    Raster
        Its box contains the hemisphere and a margin of 2 mm.
    """
    toward, up = (np.array(v, dtype=np.float64) for v in TOWARD_AND_UP[view])
    axes = np.stack([np.cross(up, toward), up, toward])
    points = surface.inflated @ axes.T
    a, b, c = (points[surface.faces[:, k]] for k in range(3))
    across = np.cross(b - a, c - a)
    normal = np.zeros_like(points)
    for k in range(3):
        np.add.at(normal, surface.faces[:, k], across)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    lit = np.clip(normal @ (_LIGHT / np.linalg.norm(_LIGHT)), 0.0, 1.0)
    low, high = points.min(0) - 2.0, points.max(0) + 2.0
    columns = round((high[0] - low[0]) / mm_per_pixel)
    box = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    return _rasterise(points, surface.faces, _AMBIENT + (1.06 - _AMBIENT) * lit, box, columns)


def _rasterise(points: Floats, faces: Ints, light: Floats, box: Box, columns: int) -> Raster:
    """Find the nearest front face of each pixel. `points` (V, 3) are right, up and toward the viewer."""
    left, right, bottom, top = box
    width = max(columns, 1) * _SUPERSAMPLE
    height = max(round((top - bottom) / (right - left) * max(columns, 1)), 1) * _SUPERSAMPLE
    x, y = (points[:, 0] - left) / (right - left), (top - points[:, 1]) / (top - bottom)
    p = np.column_stack([x * width, y * height])[faces]
    area = _cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    first = np.clip(np.ceil(p.min(1) - 0.5).astype(np.int64), 0, None)  # pixel centres lie at i + 0.5
    last = np.minimum(np.floor(p.max(1) - 0.5).astype(np.int64), [width - 1, height - 1])
    size = last - first + 1
    keep = np.flatnonzero((area < 0) & (size > 0).all(1))  # front faces are clockwise here, because rows run down
    depth = np.full(width * height, -np.inf)
    seen = np.full(width * height, -1, dtype=np.int64)
    near = np.zeros((width * height, 3), dtype=np.float32)
    count = size[keep].prod(1)
    height_of = points[faces, 2]
    cuts = np.flatnonzero(np.diff(np.cumsum(count) // _CHUNK)) + 1
    for part in np.split(keep, cuts):
        n = size[part].prod(1)
        face = np.repeat(part, n)
        step = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
        column = first[face, 0] + step % size[face, 0]
        row = first[face, 1] + step // size[face, 0]
        weight = _barycentric(p, area, face, column, row)
        z = _dot(weight, height_of[face])
        pixel = row * width + column
        hit = np.flatnonzero(
            (np.minimum(np.minimum(weight[:, 0], weight[:, 1]), weight[:, 2]) >= -_TOLERANCE) & (z > depth[pixel])
        )
        hit = hit[np.argsort(z[hit], kind="stable")]  # the last write to a pixel wins, so the nearest face is last
        at = pixel[hit]
        seen[at], depth[at], near[at] = face[hit], z[hit], weight[hit]
    pixels = np.flatnonzero(seen >= 0)
    corners = faces.astype(np.int32)[seen[pixels]]
    inside = np.clip(near[pixels], 0.0, None)
    shade = _dot(inside, light.astype(np.float32)[corners]).astype(np.float32)
    return Raster((height, width), pixels, corners, inside, shade, box)


def _barycentric(p: Floats, area: Floats, face: Ints, column: Ints, row: Ints) -> npt.NDArray[np.float64]:
    """Return the barycentric weights (n, 3) of the corners of `face` at the centres of pixels."""
    a, b, c = p[face, 0], p[face, 1], p[face, 2]
    at = np.column_stack([column + 0.5, row + 0.5])
    u = _cross(b - at, c - at) / area[face]
    v = _cross(c - at, a - at) / area[face]
    return np.column_stack([u, v, 1.0 - u - v])


def _dot(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the dot product of each row of two arrays (n, 3)."""
    return np.asarray(a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2])


def _cross(a: Floats, b: Floats) -> npt.NDArray[np.float64]:
    return np.asarray(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], dtype=np.float64)
