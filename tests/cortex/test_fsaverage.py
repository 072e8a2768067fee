"""The spheres made offline are FreeSurfer's: same vertices in the same order, same faces, hemispheres side by side."""

from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
from nilearn.datasets import fetch_surf_fsaverage

from bddn.cortex.fsaverage import HEMISPHERES, N_VERTICES, _subdivide, fsaverage5, positions_mm, sphere

N_FACES_4, N_VERTICES_4 = 5_120, 2_562


def nilearns(part: str = "sphere_left") -> tuple[npt.NDArray[np.floating], npt.NDArray[np.integer]]:
    mesh: Any = nibabel.load(fetch_surf_fsaverage("fsaverage5")[part])
    vertices, faces = mesh.agg_data()
    return vertices, faces


def coarser(faces: npt.NDArray[np.integer], n: int) -> npt.NDArray[np.integer]:
    """The `n` faces that were split into these: FreeSurfer lists (a, ab, ca) of all first, then the other three."""
    first, rest = faces[:n], faces[n:].reshape(n, 3, 3)
    return np.stack([first[:, 0], rest[:, 2, 1], rest[:, 0, 2]], axis=1)


def test_it_has_the_vertices_and_faces_of_fsaverage7() -> None:
    vertices, faces = sphere()
    assert vertices.shape == (163_842, 3)
    assert faces.shape == (327_680, 3)
    assert np.array_equal(np.unique(faces), np.arange(163_842))


def test_every_vertex_lies_100_mm_from_the_centre() -> None:
    np.testing.assert_allclose(np.linalg.norm(sphere()[0], axis=1), 100, atol=1e-4)


def test_every_edge_has_two_faces_that_run_along_it_in_opposite_directions() -> None:
    faces = sphere()[1]
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    key, reverse = edges @ [N_VERTICES, 1], edges @ [1, N_VERTICES]
    assert len(np.unique(key)) == len(key)
    assert np.array_equal(np.sort(key), np.sort(reverse))


def test_the_vertices_of_fsaverage5_come_first() -> None:
    np.testing.assert_allclose(sphere()[0][:10_242], nilearns()[0], atol=0.01)


def test_splitting_fsaverage4_gives_the_fsaverage5_that_freesurfer_numbered() -> None:
    vertices, faces = nilearns()
    unit = vertices / np.linalg.norm(vertices, axis=1, keepdims=True)
    made, made_faces = _subdivide(unit[:N_VERTICES_4], coarser(faces, N_FACES_4))
    np.testing.assert_allclose(100 * made, vertices, atol=0.01)
    assert np.array_equal(made_faces, faces)


def test_both_hemispheres_have_the_same_sphere() -> None:
    assert np.array_equal(nilearns("sphere_left")[0], nilearns("sphere_right")[0])


def test_rows_follow_the_vertices_asked_for() -> None:
    vertex = np.array([163_841, 0, 7, 10_242])
    found = positions_mm(np.full(4, "lh"), vertex)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, sphere()[0][vertex], rtol=1e-6)


def test_the_right_sphere_lies_300_mm_to_the_right_of_the_left_one() -> None:
    vertex = np.array([5, 5, 99, 99])
    found = positions_mm(np.array(["rh", "lh", "lh", "rh"]), vertex)
    shift = found - sphere()[0][vertex].astype(np.float32)
    np.testing.assert_allclose(shift, [[300, 0, 0], [0, 0, 0], [0, 0, 0], [300, 0, 0]], atol=1e-4)


def test_asking_for_positions_does_not_move_the_sphere() -> None:
    before = sphere()[0].copy()
    positions_mm(np.full(N_VERTICES, "rh"), np.arange(N_VERTICES))
    assert np.array_equal(sphere()[0], before)


@pytest.mark.parametrize("hemi", HEMISPHERES)
@pytest.mark.parametrize("kind", ["sphere", "pial", "infl", "flat"])
def test_surfaces_are_those_that_nilearn_hands_out(kind: str, hemi: str) -> None:
    part = f"{kind}_{'left' if hemi == 'lh' else 'right'}"
    for mine, theirs in zip(fsaverage5(kind, hemi), nilearns(part), strict=True):
        np.testing.assert_array_equal(mine, theirs)
