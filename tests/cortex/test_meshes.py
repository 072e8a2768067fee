"""Finer meshes: found in the layouts of nilearn and FreeSurfer, drawn at the right places, refused when damaged."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bddn.cortex.fsaverage import HEMISPHERES
from bddn.cortex.meshes import MESHES, Mesh, fetch_mesh, read_mesh
from bddn.cortex.surfaces import surface
from bddn.errors import DataError
from bddn.figures.painting import SurfaceMap
from bddn.figures.placement import flat_crop
from bddn.figures.pycortex import to_pycortex
from bddn.figures.raster import flat_raster, inflated_raster
from bddn.figures.single import draw
from bddn.maps.kinds import column_map
from cortex.finer import split, write_freesurfer, write_nilearn

MARKED = {"lh": 21_344, "rh": 30_002}  # beyond fsaverage5
ANGLE = 2.1
TURNS = {
    "turned": np.array([[np.cos(ANGLE), np.sin(ANGLE)], [-np.sin(ANGLE), np.cos(ANGLE)]]),
    "mirrored": np.array([[0.0, 1.0], [1.0, 0.0]]),
}


@pytest.fixture(autouse=True)
def nothing_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No mesh of this machine is found, and none is remembered."""
    for name in ("SUBJECTS_DIR", "FREESURFER_HOME", "NILEARN_SHARED_DATA", "NILEARN_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    surface.cache_clear()
    yield
    surface.cache_clear()


@pytest.fixture(params=["nilearn", *TURNS])
def found(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """fsaverage6 in one of the layouts."""
    if request.param == "nilearn":
        monkeypatch.setenv("NILEARN_DATA", str(write_nilearn(tmp_path / "nilearn", "fsaverage6")))
    else:
        subjects = write_freesurfer(tmp_path / "subjects", "fsaverage6", TURNS[request.param])
        monkeypatch.setenv("SUBJECTS_DIR", str(subjects))
    return str(request.param)


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame({"hemi": list(MARKED), "vertex": list(MARKED.values()), "roi": ["", ""], "mark": [1.0, 2.0]})


def test_a_mark_is_at_its_place(found: str, table: pd.DataFrame) -> None:
    cortex = SurfaceMap.of(column_map(table, "mark"), table, "fsaverage6")
    crop = flat_crop({hemi: np.ones(MESHES["fsaverage6"], bool) for hemi in HEMISPHERES}, "fsaverage6")
    for hemi, vertex in MARKED.items():
        expected = split("fsaverage6", hemi)
        assert vertex in expected.flat_faces
        raster = flat_raster(surface(hemi, "fsaverage6"), crop.boxes[hemi], 700)
        assert _middle(cortex.image(hemi, raster), raster.box) == pytest.approx(expected.flat[vertex], abs=1.5)
        for view, sign in (("left", -1), ("right", 1)):
            raster = inflated_raster(surface(hemi, "fsaverage6"), view, 0.5)
            if (raster.corners == vertex).any():
                _, y, z = expected.inflated[vertex]
                at = _middle(cortex.image(hemi, raster), raster.box)
                assert at == pytest.approx((sign * y, z), abs=1.5)


def _middle(image: np.ndarray, box: tuple[float, float, float, float]) -> tuple[float, float]:
    """Where a picture has a colour, in mm."""
    rows, columns = np.nonzero(np.ptp(image[..., :3], axis=-1) * (image[..., 3] > 0.9) > 0.05)
    left, right, bottom, top = box
    x = left + (columns.mean() + 0.5) / image.shape[1] * (right - left)
    return float(x), float(top - (rows.mean() + 0.5) / image.shape[0] * (top - bottom))


def test_a_figure_says_on_which_mesh_it_is(found: str, table: pd.DataFrame, tmp_path: Path) -> None:
    draw(table, [column_map(table, "mark")], tmp_path / "out", "Trial", dpi=40, mesh="fsaverage6")
    caption = (tmp_path / "out/mark.txt").read_text()
    assert "drawn at fsaverage6's 40,962" in caption
    assert "2 of 2 voxels" in caption


def test_fsaverage7_shows_every_voxel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREESURFER_HOME", str(tmp_path))
    write_freesurfer(tmp_path / "subjects", "fsaverage7", TURNS["turned"])
    vertex = np.arange(0, MESHES["fsaverage7"], 97)
    table = pd.DataFrame({"hemi": "lh", "vertex": vertex, "roi": "", "mark": 1.0})
    draw(table, [column_map(table, "mark")], tmp_path / "out", "Trial", dpi=40, mesh="fsaverage7")
    caption = (tmp_path / "out/mark.txt").read_text()
    assert f"Drawn at fsaverage7's 163,842 vertices per hemisphere: {len(vertex):,} of {len(vertex):,}" in caption


def test_without_a_patch_only_inflated_brains_are_drawn(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBJECTS_DIR", str(write_freesurfer(tmp_path / "subjects", "fsaverage6", None)))
    kinds, out = [column_map(table, "mark")], tmp_path / "out"
    with pytest.raises(DataError, match="--views inflated"):
        draw(table, kinds, out, "Trial", dpi=40, mesh="fsaverage6")
    draw(table, kinds, out, "Trial", dpi=40, mesh="fsaverage6", views=["inflated"])
    assert (out / "mark.png").exists()


def test_a_mesh_that_is_nowhere_is_an_error_that_says_where_it_was_sought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBJECTS_DIR", str(tmp_path / "subjects"))
    with pytest.raises(DataError) as caught:
        read_mesh("lh", "fsaverage7")
    assert str(tmp_path / "subjects/fsaverage/surf") in str(caught.value)
    assert "nilearn_data/fsaverage" in str(caught.value)
    assert "--fetch" in str(caught.value)


def test_exchanged_hemispheres_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_nilearn(tmp_path / "nilearn", "fsaverage6")
    for part in ("infl", "flat", "sulc"):
        left, right = (folder / f"fsaverage6/{part}_{side}.gii.gz" for side in ("left", "right"))
        left.rename(tmp_path / "aside")
        right.rename(left)
        (tmp_path / "aside").rename(right)
    monkeypatch.setenv("NILEARN_DATA", str(folder))
    with pytest.raises(DataError, match="not exchanged"):
        read_mesh("lh", "fsaverage6")


def test_another_mesh_in_its_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_nilearn(tmp_path / "nilearn", "fsaverage6")
    shutil.move(folder / "fsaverage6", folder / "fsaverage")
    monkeypatch.setenv("NILEARN_DATA", str(folder))
    with pytest.raises(DataError, match="163,842 vertices"):
        read_mesh("lh", "fsaverage7")


@pytest.mark.parametrize("file", ["lh.inflated", "lh.sulc", "lh.cortex.patch.flat"])
def test_a_damaged_file_is_named(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subjects = write_freesurfer(tmp_path / "subjects", "fsaverage6", TURNS["turned"])
    path = subjects / "fsaverage6/surf" / file
    path.write_bytes(path.read_bytes()[:1000])
    monkeypatch.setenv("SUBJECTS_DIR", str(subjects))
    with pytest.raises(DataError) as caught:
        read_mesh("lh", "fsaverage6")
    assert ("sulc 246" if file == "lh.sulc" else file) in str(caught.value)


def test_a_download_that_fails_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    from nilearn import datasets

    asked = []

    def refused(mesh: str) -> None:
        asked.append(mesh)
        raise OSError("no network")

    monkeypatch.setattr(datasets, "fetch_surf_fsaverage", refused)
    with pytest.raises(DataError, match="no network"):
        fetch_mesh("fsaverage6")
    assert asked == ["fsaverage6"]
    fetch_mesh("fsaverage5")


@pytest.mark.parametrize("mesh", list(MESHES))
def test_nilearn_has_a_mesh_of_this_name(mesh: Mesh) -> None:
    from nilearn.datasets import struct

    assert mesh in struct.AVAILABLE_MESHES


def test_to_pycortex_gives_colours_of_all_vertices(table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    class VertexRGB:
        """With the signature that pycortex documents."""

        def __init__(self, red, green, blue, subject=None, alpha=None, description="", state=None, **kwargs) -> None:  # type: ignore[no-untyped-def]
            self.rgb, self.subject, self.alpha = np.stack([red, green, blue], 1), subject, alpha

    monkeypatch.setitem(sys.modules, "cortex", SimpleNamespace(VertexRGB=VertexRGB))
    kind = column_map(table, "mark")
    made: Any = to_pycortex(kind, table)
    at = [MARKED["lh"], MESHES["fsaverage7"] + MARKED["rh"]]
    assert made.subject == "fsaverage"
    assert made.rgb.shape == (2 * MESHES["fsaverage7"], 3)
    assert np.flatnonzero(made.alpha).tolist() == at
    assert made.rgb.dtype == made.alpha.dtype == np.uint8
    np.testing.assert_array_equal(made.rgb[at], np.rint(255 * kind.rgb(kind.values)))


def test_to_pycortex_says_that_it_is_not_installed(table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cortex", None)
    with pytest.raises(DataError, match="pycortex"):
        to_pycortex(column_map(table, "mark"), table)
