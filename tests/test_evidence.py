"""Noise in part of the cortex has no evidence: in the table, the slope and the maps, which say so."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from bddn.cli import app
from bddn.cortex.surfaces import surface
from bddn.extraction import extract
from bddn.figures.painting import SurfaceMap
from bddn.figures.placement import flat_crop
from bddn.figures.raster import flat_raster
from bddn.figures.single import shown_vertices
from bddn.maps import colors
from bddn.maps.kinds import run_maps
from bddn.planted.plant import plant
from bddn.planted.subject import Planted
from bddn.run import read_run
from bddn.run.fitting import fit_run
from bddn.spec import CacheSpec, FamilySpec, FitSpec, PlantSpec, WeightsSpec
from bddn.stats.evidence import evident, untested

BRAIN = PlantSpec(seed=3, n_images=300, radius_rad=0.24, n_layers=3, width=24, mean_ceiling=0.65, silent=0.4)
FIT = FitSpec.parse(
    {"epochs": 6, "split": [5, 1, 4], "features": "whitened", "readout": "root", "polish": True, "channels": 16},
    "test",
)

FLAT = ("--dpi", 40, "--views", "flat")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a planted brain with silent cortex, its cache and its run."""
    root = tmp_path_factory.mktemp("silent")
    plant(BRAIN, root / "brain")
    network = FamilySpec(family="clip")
    weights = WeightsSpec(folder=str(root / "brain/backbone"))
    spec = CacheSpec(title="", backbone=network, weights=weights, image_size=BRAIN.image_size, grid=(6, 6))
    extract(spec, Planted(root / "brain"), root / "cache.zarr")
    fit_run(root / "cache.zarr", Planted(root / "brain"), root / "run", FIT)
    return root


@pytest.fixture
def run(fitted: Path, tmp_path: Path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(fitted / "run", tmp_path / "run"))


def command(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_noise_is_hardly_ever_evident_and_signal_mostly_is(fitted: Path) -> None:
    run, truth = read_run(fitted / "run"), Planted(fitted / "brain").truth()
    assert truth is not None
    is_silent = (truth["ceiling"] < 0.01).to_numpy()
    has_evidence = evident(run.voxels)
    assert is_silent.sum() > 50
    assert has_evidence[is_silent].mean() <= 0.05
    assert has_evidence[~is_silent].mean() > 0.9
    assert run.metrics["n_without_evidence"] == (~has_evidence).sum()
    assert run.voxels["p_test"].between(0, 1, inclusive="right").all()


def test_the_maps_hatch_what_has_no_evidence_and_count_it(run: Path) -> None:
    said = command("maps", run, "--dpi", 40)
    voxels = read_run(run).voxels
    lacks = ~evident(voxels)
    words = f"{lacks.sum():,} of {len(voxels):,} voxels have no evidence of a score above chance"
    assert words in said
    caption = (run / "maps/layer_map.txt").read_text()
    assert words in caption
    assert f"{(voxels['ceiling'] < 0.01)[lacks].sum():,} of these cannot be known" in caption
    assert words in (run / "maps/methods.md").read_text()
    for name, is_masked in (("layer_map", True), ("scale_map", True), ("place_map", True), ("score_map", False)):
        table = pd.read_csv(run / f"maps/{name}.csv")
        assert ("evident" in table) == is_masked
        if is_masked:
            assert table["evident"].tolist() == (~lacks).astype(int).tolist()


@pytest.mark.parametrize("hemi", ["lh", "rh"])
def test_pixels_without_evidence_are_hatched_and_others_have_their_colours(fitted: Path, hemi: str) -> None:
    found = read_run(fitted / "run")
    voxels = found.voxels
    vertex = voxels["vertex"].to_numpy()
    on_side = (voxels["hemi"] == hemi).to_numpy()
    sheet = surface(hemi)
    boxes = flat_crop(shown_vertices(voxels, "fsaverage5")).boxes
    raster = flat_raster(sheet, boxes[hemi], 400)
    left, right, bottom, top = raster.box
    masked, everything = (
        SurfaceMap.of(run_maps(table, found.layers)[0], voxels).image(hemi, raster)
        for table in (voxels, untested(voxels))
    )

    def near(rows: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Colours (n, 3) of the pixels of some vertices, all of whose neighbours are among them."""
        inside = np.isin(np.arange(len(sheet.flat)), vertex[rows])
        border = sheet.faces[~inside[sheet.faces].all(axis=1)]
        at = sheet.flat[np.setdiff1d(np.flatnonzero(inside), border)]
        assert len(at) > 5
        x = ((at[:, 0] - left) / (right - left) * image.shape[1]).astype(int)
        y = ((top - at[:, 1]) / (top - bottom) * image.shape[0]).astype(int)
        opaque = image[y, x, 3] == 1  # not on the border of the sheet
        return np.asarray(image[y, x, :3][opaque])

    without, with_ = on_side & ~evident(voxels), on_side & evident(voxels)
    grey = near(without, masked)
    assert np.ptp(grey, axis=1).max() < 0.01
    assert grey.min() >= colors.HATCHING[0] - 0.01
    assert grey.max() <= colors.HATCHING[1] + 0.01
    assert np.ptp(grey[:, 0]) > 0.1  # stripes
    assert np.ptp(near(without, everything), axis=1).min() > 0.05  # coloured
    assert np.ptp(near(with_, masked), axis=1).min() > 0.05


def test_all_shows_what_a_run_without_a_test_shows(run: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(run, tmp_path / "old"))
    untested(pd.read_parquet(old / "voxels.parquet")).to_parquet(old / "voxels.parquet")
    command("maps", run, "--all", *FLAT)
    assert "evidence: No test of evidence: every voxel is shown." in command("maps", old, *FLAT)
    assert "Voxels were not tested for evidence" in (old / "maps/methods.md").read_text()
    names = sorted(path.name for path in (old / "maps").iterdir() if path.suffix in {".png", ".csv", ".gii", ".txt"})
    assert len(names) > 10
    for name in names:
        assert (run / "maps" / name).read_bytes() == (old / "maps" / name).read_bytes(), name
    command("maps", run, *FLAT)
    assert (run / "maps/layer_map.png").read_bytes() != (old / "maps/layer_map.png").read_bytes()
    assert (run / "maps/score_map.csv").read_bytes() == (old / "maps/score_map.csv").read_bytes()


@pytest.mark.parametrize("name", ["layers", "selection", "clusters"])
def test_figures_leave_voxels_without_evidence_out_and_all_shows_them(run: Path, tmp_path: Path, name: str) -> None:
    lacks = ~evident(read_run(run).voxels)
    command("figure", name, run, "--dpi", 40, "--out", tmp_path / "masked")
    command("figure", name, run, "--dpi", 40, "--out", tmp_path / "all", "--all")
    masked, everything = ((tmp_path / folder / f"{name}.txt").read_text() for folder in ("masked", "all"))
    assert f"{lacks.sum():,} voxels are hatched" in masked
    assert "hatched" not in everything
    assert (tmp_path / "masked" / f"{name}.png").read_bytes() != (tmp_path / "all" / f"{name}.png").read_bytes()
    table = pd.read_csv(tmp_path / f"masked/{name}.1.csv")
    assert table["evident"].tolist() == (~lacks).astype(int).tolist()
    if name == "clusters":
        assert (table["cluster"] == 0).tolist() == lacks.tolist()


def test_a_map_without_any_evidence_says_so(run: Path) -> None:
    pd.read_parquet(run / "voxels.parquet").assign(p_test=0.5, q_test=1.0).to_parquet(run / "voxels.parquet")
    assert "No voxel has evidence" in command("maps", run, "--dpi", 40)
    assert "No voxel has evidence" in (run / "maps/place_map.txt").read_text()
    with Image.open(run / "maps/layer_map.png") as picture:
        colour = np.asarray(picture.convert("RGB")).astype(int)
    assert np.ptp(colour, axis=2)[: int(0.6 * len(colour))].max() < 30  # no hue above the legend
    command("figure", "clusters", run, "--dpi", 40, "--out", run / "figures")
    assert "No voxel has evidence" in (run / "figures/clusters.txt").read_text()
