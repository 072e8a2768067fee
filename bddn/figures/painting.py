"""Put a map on a mesh: its numbers on the vertices, and its colours in the pixels of an image."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import HEMISPHERES, Floats
from bddn.cortex.meshes import Mesh
from bddn.cortex.places import on_mesh, place_columns
from bddn.cortex.surfaces import surface, to_mesh
from bddn.figures.panels import paint
from bddn.figures.raster import Raster
from bddn.maps import colors
from bddn.maps.map import Map

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class SurfaceMap:
    """A map on the vertices of both hemispheres.

    Attributes
    ----------
    kind : Map
    values : dict of str to array of float64, (V, k)
        Values by hemisphere; NaN if a vertex has no voxel, or its voxel has no evidence or lacks a number.
    hatched : dict of str to array of bool, (V,)
        Masks by hemisphere of the vertices whose voxel has no evidence.
    mesh : str
        The mesh, with V vertices.
    """

    kind: Map
    values: dict[str, npt.NDArray[np.float64]]
    hatched: dict[str, npt.NDArray[np.bool_]]
    mesh: Mesh

    @classmethod
    def of(cls, kind: Map, table: "pd.DataFrame", mesh: Mesh = "fsaverage5") -> "SurfaceMap":
        """Put a map on the vertices of its voxels. `table` says where they lie, in the row order of the map.

        Raises
        ------
        DataError
            If the voxels are points.
        """
        without = np.zeros(len(table)) if kind.evident is None else 1.0 - kind.evident
        drawn = on_mesh(table[place_columns(table)], mesh)
        columns = np.column_stack([kind.shown, without])[drawn.index]
        both = {hemi: to_mesh(*of_hemisphere(drawn, hemi, columns), mesh) for hemi in HEMISPHERES}
        values = {hemi: columns[:, :-1] for hemi, columns in both.items()}
        return cls(kind, values, {hemi: columns[:, -1] == 1 for hemi, columns in both.items()}, mesh)

    def drawn(self, hemi: str) -> npt.NDArray[np.bool_]:
        """Return a mask (V,) of the vertices that have a voxel with values, or a hatched one."""
        return np.asarray(np.isfinite(self.values[hemi][:, 0]) | self.hatched[hemi])

    def vertex_rgb(self, hemi: str) -> npt.NDArray[np.float64]:
        """Return colours (V, 3) of the vertices, sRGB 0 to 1: one grey without evidence, NaN without a voxel."""
        out = self.kind.rgb(self.values[hemi])
        out[self.hatched[hemi]] = colors.NO_EVIDENCE
        return out

    def image(self, hemi: str, raster: Raster) -> npt.NDArray[np.float32]:
        """Return an image (rows, columns, 4) of a view of a hemisphere, for `panels.show_image`."""
        values, classes = self.values[hemi], self.kind.classes

        def rgb(part: Raster) -> npt.NDArray[np.float64]:
            numbers = [part.values(values[:, k]) for k in range(1 if classes else 0, values.shape[1])]
            if classes:
                code = part.categories(np.where(np.isnan(values[:, 0]), -1, values[:, 0]).astype(np.int64), classes)
                numbers.insert(0, np.where(code < 0, np.nan, code))
            return self.kind.rgb(np.column_stack(numbers))

        return paint(
            raster, colors.cortex_grey(surface(hemi, self.mesh).sulc), self.drawn(hemi), rgb, self.hatched[hemi]
        )


def of_hemisphere(table: "pd.DataFrame", hemi: str, values: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the vertices and the values of the voxels of one hemisphere."""
    rows = (table["hemi"] == hemi).to_numpy()
    return table["vertex"].to_numpy(dtype=np.int64)[rows], values[rows]
