"""One marked vertex in each hemisphere: it must be on that side and at that place, by nilearn's own coordinates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from nilearn import datasets, surface

from bddn.cortex.surfaces import surface as our_surface
from bddn.figures.painting import SurfaceMap
from bddn.figures.raster import flat_raster, inflated_raster
from bddn.figures.single import draw
from bddn.maps.kinds import column_map

SIDES = {"lh": "left", "rh": "right"}
MARKED = {"lh": 5271, "rh": 9001}  # not mirror images of each other
ACROSS_AND_UP: dict[str, Callable[[float, float, float], tuple[float, float]]] = {
    "left": lambda _, y, z: (-y, z),
    "right": lambda _, y, z: (y, z),
    "posterior": lambda x, _, z: (x, z),
    "ventral": lambda x, y, _: (x, -y),
}
"""By view, where a point (to the right, to the front, up) is in the picture: to the right, and up."""


def nilearn_points(kind: str, hemi: str) -> np.ndarray:
    """Vertices as nilearn has them, in mm."""
    path = datasets.fetch_surf_fsaverage("fsaverage5")[f"{kind}_{SIDES[hemi]}"]
    return np.asarray(surface.load_surf_mesh(path).coordinates)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.DataFrame({"hemi": list(MARKED), "vertex": list(MARKED.values()), "roi": ["", ""], "mark": [1.0, 2.0]})


@pytest.mark.parametrize("hemi", ["lh", "rh"])
@pytest.mark.parametrize("view", ["left", "right", "posterior", "ventral"])
def test_a_mark_is_where_nilearn_has_it_on_the_inflated_brain(table: pd.DataFrame, hemi: str, view: str) -> None:
    at = nilearn_points("infl", hemi)[MARKED[hemi]]
    raster = inflated_raster(our_surface(hemi), view, 1.0)
    seen = np.flatnonzero((raster.corners == MARKED[hemi]).any(axis=1))
    image = SurfaceMap.of(column_map(table, "mark"), table).image(hemi, raster)
    coloured = np.ptp(image[..., :3], axis=-1) * (image[..., 3] > 0.9) > 0.05
    if not len(seen):  # on the other side of the brain
        assert not coloured.any()
        return
    left, right, bottom, top = raster.box
    rows, columns = np.nonzero(coloured)
    across = left + (columns.mean() + 0.5) / image.shape[1] * (right - left)
    up = top - (rows.mean() + 0.5) / image.shape[0] * (top - bottom)
    assert (across, up) == pytest.approx(ACROSS_AND_UP[view](*at), abs=2.5)


@pytest.mark.parametrize("hemi", ["lh", "rh"])
def test_a_mark_is_where_nilearn_has_it_on_the_flat_map(table: pd.DataFrame, hemi: str) -> None:
    points = nilearn_points("flat", hemi)
    mesh = our_surface(hemi)
    box = (
        float(mesh.flat[:, 0].min()),
        float(mesh.flat[:, 0].max()),
        float(mesh.flat[:, 1].min()),
        float(mesh.flat[:, 1].max()),
    )
    raster = flat_raster(mesh, box, 400)
    image = SurfaceMap.of(column_map(table, "mark"), table).image(hemi, raster)
    rows, columns = np.nonzero(np.ptp(image[..., :3], axis=-1) > 0.05)
    across = box[0] + (columns.mean() + 0.5) / image.shape[1] * (box[1] - box[0])
    up = box[3] - (rows.mean() + 0.5) / image.shape[0] * (box[3] - box[2])
    assert (across, up) == pytest.approx(tuple(points[MARKED[hemi], :2]), abs=2.5)


def test_a_mark_is_at_its_vertex_in_files_that_others_open(table: pd.DataFrame, tmp_path: Path) -> None:
    draw(table, [column_map(table, "mark")], tmp_path, "Trial", dpi=30)
    for value, (hemi, vertex) in enumerate(MARKED.items(), 1):
        path = tmp_path / f"mark.{hemi}.func.gii"
        values = surface.load_surf_data(path)
        assert np.flatnonzero(np.isfinite(values)).tolist() == [vertex]
        assert values[vertex] == value
        image: Any = nibabel.load(path)
        assert image.meta["AnatomicalStructurePrimary"] == {"lh": "CortexLeft", "rh": "CortexRight"}[hemi]
