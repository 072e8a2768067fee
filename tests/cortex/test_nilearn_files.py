"""The files inside nilearn that are read by their paths: where this fails, a new release has moved one.

Then correct the path (`bddn/cortex/fsaverage.py`, `bddn/report/library.py`), or lower the bound in `pyproject.toml`.
"""

from pathlib import Path

import pytest

from bddn.cortex import fsaverage
from bddn.cortex.fsaverage import HEMISPHERES, fsaverage5, nilearn_folder
from bddn.errors import DataError

SHAPES = {"sphere": (10_242, 3), "pial": (10_242, 3), "infl": (10_242, 3), "flat": (10_242, 3), "sulc": (10_242,)}
SURFACES = [f"datasets/data/fsaverage5/{kind}_{side}.gii.gz" for kind in SHAPES for side in ("left", "right")]


@pytest.mark.parametrize("name", [*SURFACES, "_assets/js/niivue.umd.js"])
def test_the_file_is_where_it_is_read(name: str) -> None:
    assert (nilearn_folder() / name).is_file(), f"nilearn has moved {name}. {__doc__}"


@pytest.mark.parametrize("hemi", HEMISPHERES)
@pytest.mark.parametrize("kind", SHAPES)
def test_a_surface_has_the_vertices_of_fsaverage5(kind: str, hemi: str) -> None:
    found = fsaverage5(kind, hemi)
    vertices = found if kind == "sulc" else found[0]
    assert vertices.shape == SHAPES[kind], f"nilearn has another {kind} surface. {__doc__}"


def test_a_nilearn_without_a_surface_is_refused_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fsaverage, "nilearn_folder", lambda: tmp_path)
    with pytest.raises(DataError, match=r"flat_left.gii.gz.*pip install \"nilearn>=0.14,<0.15\""):
        fsaverage5("flat", "lh")
