"""The surfaces of a page: fsaverage5, inflated and flat, shared by all maps and runs."""

from typing import Any

import numpy as np

from bddn.cortex.fsaverage import HEMISPHERES
from bddn.cortex.surfaces import surface
from bddn.maps import colors
from bddn.report.packing import packed


def cortex() -> dict[str, Any]:
    """Return vertices and triangles of both hemispheres for the page's script.

    Returns
    -------
    dict
        `faces` (20480, 3), the triangles, which are equal in both hemispheres. `sides`, left then right, each with
        `hemi`; `inflated` (10242, 3) and `flat` (10242, 2) in mm, as in `cortex.surfaces`; `sheet`, one bit per
        triangle, set if the flat sheet contains it; and `grey` (10242,), the grey of cortex without data, 0 to 255.
    """
    faces = surface("lh").faces
    assert all(np.array_equal(faces, surface(hemi).faces) for hemi in HEMISPHERES)
    return {
        "faces": packed(faces, "u2"),
        "sides": [
            {
                "hemi": hemi,
                "inflated": packed(surface(hemi).inflated, "f4"),
                "flat": packed(surface(hemi).flat, "f4"),
                "sheet": packed(np.packbits(_on_sheet(hemi), bitorder="little"), "u1"),
                "grey": packed(np.rint(255 * colors.cortex_grey(surface(hemi).sulc)), "u1"),
            }
            for hemi in HEMISPHERES
        ],
    }


def _on_sheet(hemi: str) -> np.ndarray:
    """Return which triangles (20480,) the flat sheet contains, with the same corners and orientation."""
    here = surface(hemi)
    flat = {tuple(face) for face in _from_least(here.flat_faces).tolist()}
    return np.array([tuple(face) in flat for face in _from_least(here.faces).tolist()])


def _from_least(faces: np.ndarray) -> np.ndarray:
    """Return triangles that start with their smallest corner, in the same orientation."""
    turn = (faces.argmin(axis=1)[:, None] + np.arange(3)) % 3
    return np.take_along_axis(faces, turn, axis=1)
