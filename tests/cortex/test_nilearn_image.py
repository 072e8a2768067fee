"""Numbers of voxels as images of nilearn: each number at the vertex or voxel where it lies."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bddn.cortex.frames import Volume
from bddn.cortex.meshes import MESHES
from bddn.cortex.nilearn_image import nilearn_image
from bddn.errors import DataError

TABLE = pd.DataFrame({"hemi": ["rh", "lh", "lh", "rh"], "vertex": [7, 3, 10_242, 0]})
VALUES = np.array([1.0, 2.0, 3.0, np.nan])


def test_a_number_is_at_its_vertex() -> None:
    image: Any = nilearn_image(TABLE, VALUES)
    left, right = image.data.parts["left"], image.data.parts["right"]
    assert left.shape == right.shape == (MESHES["fsaverage5"],)
    assert {int(v): left[v] for v in np.flatnonzero(np.isfinite(left))} == {3: 2.0}  # 10,242 is on a finer mesh
    assert {int(v): right[v] for v in np.flatnonzero(np.isfinite(right))} == {7: 1.0}
    inflated = image.mesh.parts["left"].coordinates
    assert inflated[:, 0].mean() < image.mesh.parts["right"].coordinates[:, 0].mean() + 1
    assert image.mesh.parts["left"].faces.max() == MESHES["fsaverage5"] - 1


def test_nilearn_draws_it() -> None:
    from nilearn import plotting

    figure = plotting.plot_surf_stat_map(stat_map=nilearn_image(TABLE, VALUES), hemi="left")
    assert len(figure.axes) > 0


def test_voxels_of_a_volume_become_a_volume() -> None:
    volume = Volume.of(np.diag([2.0, 2.0, 2.0, 1.0]), (3, 4, 5))
    at = np.array([[0, 0, 0], [2, 3, 4]])
    table = pd.DataFrame({"hemi": "", "vertex": -1, "voxel": ["a", "b"]})
    table[["x_mm", "y_mm", "z_mm"]] = volume.mm(at)
    image = nilearn_image(table, np.array([5, 6]), frame=volume)
    data = np.asarray(image.dataobj)
    assert data.shape == (3, 4, 5)
    assert [data[tuple(one)] for one in at] == [5, 6]
    assert np.isfinite(data).sum() == 2
    with pytest.raises(DataError, match="on a cortical surface"):
        nilearn_image(table, np.array([5, 6]))


@pytest.mark.parametrize("values", [VALUES[:2], VALUES[:, None], np.array(list("abcd"))])
def test_other_than_one_number_per_voxel_is_refused(values: np.ndarray[Any, Any]) -> None:
    with pytest.raises(DataError, match="4 numbers, one for each voxel"):
        nilearn_image(TABLE, values)
