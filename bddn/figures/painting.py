"""A map on the cortex: its numbers on the vertices of a mesh, and its colours in the pixels of a picture."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import HEMISPHERES, Floats
from bddn.cortex.meshes import Mesh
from bddn.cortex.surfaces import surface, to_mesh
from bddn.figures.panels import paint
from bddn.figures.raster import Raster
from bddn.maps import colors
from bddn.maps.kinds import Map

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class OnCortex:
    """A map on both hemispheres.

    Attributes
    ----------
    kind : Map
    values : dict of str to array of float64, (V, k)
        By hemisphere; NaN where no voxel is or where it lacks a number.
    mesh : str
        The mesh, of V vertices.
    """

    kind: Map
    values: dict[str, npt.NDArray[np.float64]]
    mesh: Mesh

    @classmethod
    def of(cls, kind: Map, table: "pd.DataFrame", mesh: Mesh = "fsaverage5") -> "OnCortex":
        """Put a map on the vertices of its voxels, with columns hemi and vertex, in the same order of rows."""
        missing = np.asarray(np.isnan(kind.values).any(axis=1))
        whole = np.where(missing[:, None], np.nan, kind.values)
        values = {hemi: to_mesh(*of_hemisphere(table, hemi, whole), mesh) for hemi in HEMISPHERES}
        return cls(kind, values, mesh)

    def drawn(self, hemi: str) -> npt.NDArray[np.bool_]:
        """The vertices (V,) that have a voxel to draw."""
        return np.asarray(np.isfinite(self.values[hemi][:, 0]))

    def vertex_rgb(self, hemi: str) -> npt.NDArray[np.float64]:
        """Colours (V, 3) of the vertices, NaN where cortex is bare."""
        return self.kind.rgb(self.values[hemi])

    def picture(self, hemi: str, raster: Raster) -> npt.NDArray[np.float32]:
        """The picture (rows, columns, 4) of a view of a hemisphere, for `panels.show_picture`."""
        values, classes = self.values[hemi], self.kind.classes

        def rgb(part: Raster) -> npt.NDArray[np.float64]:
            numbers = [part.values(values[:, k]) for k in range(1 if classes else 0, values.shape[1])]
            if classes:
                code = part.categories(np.where(np.isnan(values[:, 0]), -1, values[:, 0]).astype(np.int64), classes)
                numbers.insert(0, np.where(code < 0, np.nan, code))
            return self.kind.rgb(np.column_stack(numbers))

        return paint(raster, colors.cortex_grey(surface(hemi, self.mesh).sulc), self.drawn(hemi), rgb)


def of_hemisphere(table: "pd.DataFrame", hemi: str, values: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """The vertices and values of one hemisphere's voxels."""
    here = (table["hemi"] == hemi).to_numpy()
    return table["vertex"].to_numpy(dtype=np.int64)[here], values[here]
