"""Voxels that are no vertices of fsaverage: points and native surfaces, from the fit to the maps."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import nibabel
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bddn.cli import app
from bddn.cortex.frames import NativeMesh, Volume
from bddn.cortex.fsaverage import positions_mm, sphere
from bddn.cortex.meshes import MESHES
from bddn.cortex.places import (
    COORDINATES,
    check_places,
    coordinates,
    keys_of,
    native_voxels,
    on_mesh,
    on_spheres,
    positions,
    sides,
    space_of,
)
from bddn.data.dataset import About
from bddn.errors import DataError
from bddn.evaluation.calibration.brains_like import BrainsLike
from bddn.evaluation.calibration.calibration import line_of
from bddn.evaluation.slopes import hierarchy_of
from bddn.figures.points import PointViews
from bddn.film.film import Frames
from bddn.planted.subject import Planted
from bddn.run import Run, read_learning, read_run
from bddn.run.fitting import fit_run
from bddn.spec import FitSpec
from bddn.stats.average import average
from bddn.stats.evidence import untested
from bddn.testing import DatasetContract

SPEC = FitSpec(epochs=2, channels=8, selector_width=16, batch_size=16)
GRID_MM = 2.0


class Points(Planted):
    """The planted brain, whose voxels are points at their places on the spheres."""

    about: ClassVar[About] = Planted.about
    hemi = True

    def voxels(self) -> pd.DataFrame:
        table = super().voxels()
        at = positions_mm(table["hemi"].to_numpy(), table["vertex"].to_numpy())
        names = [f"voxel {k}" for k in range(len(table))]
        placed = table.assign(vertex=-1, voxel=names, **dict(zip(COORDINATES, at.T, strict=True)))
        return placed if self.hemi else placed.assign(hemi="")

    def coords_mm(self) -> np.ndarray:
        return positions(self.voxels())

    def truth(self) -> pd.DataFrame | None:
        found = Planted(Path(self.name.removeprefix("planted:"))).truth()
        return None if found is None else found.assign(hemi=self.voxels()["hemi"])


class Scattered(Points):
    """Points of a volume, without hemispheres."""

    hemi = False
    frame = Volume.of(np.diag([GRID_MM, GRID_MM, GRID_MM, 1]) + 0.0, (200, 60, 60))

    def voxels(self) -> pd.DataFrame:
        table = super().voxels()
        ijk = np.stack(np.unravel_index(np.arange(len(table)) * 37 % 8000, (40, 20, 10)), axis=1)
        return table.assign(**dict(zip(COORDINATES, self.frame.mm(ijk).T, strict=True)))


class Native(Planted):
    """The planted brain on a surface of its own: every voxel is a vertex near its place on the sphere."""

    about: ClassVar[About] = Planted.about
    frame = NativeMesh({"lh": 3000, "rh": 3000})

    def voxels(self) -> pd.DataFrame:
        table, places, chosen = super().voxels(), {}, {}
        for k, hemi in enumerate(("lh", "rh")):
            rng = np.random.default_rng(k)
            at = sphere()[0][table.loc[table["hemi"] == hemi, "vertex"]]
            chosen[hemi] = rng.permutation(3000)[: len(at)]
            every = rng.normal(size=(3000, 3))
            every[chosen[hemi]] = (at + rng.normal(0, 0.3, at.shape)) * 1.7
            places[hemi] = 100 * every / np.linalg.norm(every, axis=1, keepdims=True)
        return pd.concat([native_voxels(places, chosen), table.drop(columns=["hemi", "vertex"])], axis=1)

    def coords_mm(self) -> np.ndarray:
        return positions(self.voxels())

    def truth(self) -> pd.DataFrame | None:
        return Planted(Path(self.name.removeprefix("planted:"))).truth()


KINDS = {"fsaverage": Planted, "points": Points, "scattered": Scattered, "native": Native}


@pytest.fixture(scope="module")
def runs(brain: Path, sealed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """One fit of each kind of place."""
    folder = tmp_path_factory.mktemp("places")
    return {name: fit_run(sealed, kind(brain), folder / name, SPEC)[0] for name, kind in KINDS.items()}


def command(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


@pytest.mark.parametrize("kind", ["points", "scattered", "native"])
class TestContract(DatasetContract):
    @pytest.fixture
    def dataset(self, brain: Path, kind: str) -> Planted:
        return KINDS[kind](brain)


def test_points_at_the_places_of_vertices_give_the_same_fit(runs: dict[str, Run]) -> None:
    plain, points = runs["fsaverage"].voxels, runs["points"].voxels
    assert space_of(points) == "points"
    same = [name for name in plain if name != "vertex"]
    pd.testing.assert_frame_equal(plain[same], points[same])
    for name in ("truth", "layers"):
        assert getattr(runs["fsaverage"], name) == getattr(runs["points"], name)
    assert runs["fsaverage"].metrics["hierarchy"] == runs["points"].metrics["hierarchy"]


def test_points_without_a_hemisphere_have_a_hierarchy_and_brains_like_theirs(runs: dict[str, Run]) -> None:
    run = replace(runs["scattered"], voxels=untested(runs["scattered"].voxels))
    ideal = {"V3d": 0.0, "EBA": 1.0}
    found = hierarchy_of([run], ideal)
    assert {one["roi"]: one["n_voxels"] for one in found.rois} == {"V3d": 3, "EBA": 73}
    assert found.tests["maps"].low < found.tests["maps"].high
    like = BrainsLike(run, line_of(run, ideal), ideal, on_spheres(run.voxels), (4, 3))
    brains = [like.brain(number, 1.0) for number in range(5)]
    assert all(np.isfinite(brain.maps.to_numpy()).all() for brain in brains)
    assert np.std([brain.slope for brain in brains]) > 0.1


def test_maps_of_points_have_their_numbers_and_no_surface(runs: dict[str, Run]) -> None:
    run = runs["scattered"]
    said = command("maps", run.folder, "--dpi", "40")
    maps = run.folder / "maps"
    assert not [*maps.glob("*.gii")]
    table = pd.read_csv(maps / "scale_map.csv")
    np.testing.assert_allclose(table["scale"], run.voxels["scale"], rtol=1e-5)
    np.testing.assert_array_equal(table[[*COORDINATES]], coordinates(run.voxels))
    image: Any = nibabel.load(maps / "scale_map.nii.gz")
    assert np.isfinite(image.get_fdata()[..., 0]).sum() == len(table)
    i, j, k = Scattered.frame.indices(coordinates(run.voxels))[5]
    assert image.get_fdata()[i, j, k, 0] == pytest.approx(run.voxels["scale"][5])
    np.testing.assert_array_equal(image.affine, np.diag([GRID_MM, GRID_MM, GRID_MM, 1]))
    words = (maps / "layer_map.txt").read_text()
    assert "at their coordinates" in words
    assert "layer_map.nii.gz" in words
    assert "fsaverage" not in words + (maps / "methods.md").read_text()
    assert "truth, all:" in said


def test_page_and_film_of_points_say_which_command_draws_them(runs: dict[str, Run]) -> None:
    for name in ("report", "film"):
        said = command(name, runs["points"].folder, code=2)
        assert "124 points that are known by their coordinates" in said
        assert "'bddn maps RUN'" in said


@pytest.mark.parametrize("kind", ["points", "scattered", "native"])
def test_numbers_of_a_run_need_no_fsaverage(
    runs: dict[str, Run], brain: Path, sealed: Path, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = runs[kind].folder
    monkeypatch.setattr("bddn.data.open_dataset", lambda name: KINDS[kind](brain))
    data = ("--cache", sealed, "--data", f"planted:{brain}")
    command("score", run, *data)
    scores = pd.read_parquet(run / "score" / "voxels.parquet")
    pd.testing.assert_frame_equal(scores[[*COORDINATES]], read_run(run).voxels[[*COORDINATES]])
    command("compare", run, run, "--out", tmp_path / "compared", code=2)  # the same run twice
    CliRunner().invoke(app, ["check", str(run), *map(str, data), "--voxels", "100"])
    found = json.loads(next((run / "check").glob("*.json")).read_text())
    assert {one["hemi"] for one in found["comparisons"]} == ({"all"} if kind == "scattered" else {"lh", "rh"})


def test_a_native_surface_is_fitted_at_its_own_vertices(runs: dict[str, Run]) -> None:
    run = runs["native"]
    assert space_of(run.voxels) == "native surface"
    command("maps", run.folder, "--dpi", "40", "--columns", "scale,layer_argmax", "--views", "flat")
    command("report", run.folder)
    frames = Frames(read_learning(run), run.voxels, run.layers, "film", 30, "hue")
    assert np.ptp(frames[0].astype(float) - frames[-1]) > 0
    image: Any = nibabel.load(run.folder / "maps" / "scale.lh.func.gii")
    left = run.voxels[run.voxels["hemi"] == "lh"]
    assert image.darrays[0].data.shape == (3000,)
    assert "3,000 vertices" in image.meta["Space"]
    np.testing.assert_allclose(image.darrays[0].data[left["voxel"]], left["scale"])
    assert "at most 3 mm away" in (run.folder / "maps" / "layer_argmax.txt").read_text()


def test_a_drawn_vertex_shows_the_nearest_native_voxel_or_none(runs: dict[str, Run]) -> None:
    native, plain = runs["native"].voxels, runs["fsaverage"].voxels
    drawn = on_mesh(native, "fsaverage5")
    assert set(drawn["vertex"]) >= set(plain["vertex"])
    own = drawn.reset_index().merge(plain.reset_index(), on=["hemi", "vertex"], suffixes=("_native", "_plain"))
    assert (own["index_native"] == own["index_plain"]).all()
    far = native.assign(**{COORDINATES[0]: 100.0, COORDINATES[1]: 0.0, COORDINATES[2]: 0.0})
    assert len(on_mesh(far, "fsaverage5")) < 10
    assert drawn["vertex"].max() < MESHES["fsaverage5"]


def test_averages_match_voxels_and_refuse_points_of_other_places(runs: dict[str, Run]) -> None:
    layers = runs["points"].layers
    for kind in ("points", "native"):
        table = runs[kind].voxels
        mean = average([table, table], layers)
        assert set(map(tuple, mean[keys_of(table)].to_numpy())) == set(map(tuple, table[keys_of(table)].to_numpy()))
        assert space_of(mean) == space_of(table)
    other = runs["native"].voxels.assign(z_mm=lambda t: np.float32(0.999) * t["z_mm"])
    both = average([runs["native"].voxels, other], layers)
    assert space_of(both) == "fsaverage"
    assert both["n_runs"].max() == 2
    with pytest.raises(DataError, match="points at other coordinates"):
        average([runs["points"].voxels, runs["points"].voxels.assign(x_mm=0.0)], layers)
    with pytest.raises(DataError, match="a place in common"):
        average([runs["points"].voxels, runs["native"].voxels], layers)


def test_voxels_of_a_volume_are_not_drawn_smaller_than_they_lie_apart() -> None:
    ijk = np.stack(np.unravel_index(np.arange(20**3), (20, 20, 20)), axis=1)
    table = pd.DataFrame({"hemi": "", "vertex": -1, "voxel": np.arange(len(ijk))})
    solid = table.assign(**dict(zip(COORDINATES, (4.0 * ijk).T.astype(np.float32), strict=True)))
    twice = PointViews.of([solid, solid])
    assert twice.apart_mm == pytest.approx(4)
    pane, width_in = 0, 3.0
    left, right, *_ = twice.boxes[pane]
    pitch = 4 * 72 * width_in / (right - left)
    assert 0.7 * pitch < twice.diameter(pane, len(ijk), width_in) < pitch
    sheet = solid[solid["z_mm"] == 0]  # one layer looks the same
    assert PointViews.of([sheet]).diameter(pane, len(sheet), width_in) == pytest.approx(
        twice.diameter(pane, len(ijk), width_in), rel=0.1
    )


def test_points_of_any_size_are_compared_on_one_scale() -> None:
    rng = np.random.default_rng(0)
    at = rng.normal(size=(40, 3)) * [1, 2, 1]
    right = np.where(at[:, :1] > 0, 1, 0)
    table = pd.DataFrame({"hemi": np.where(right[:, 0] > 0, "rh", "lh"), "vertex": -1, "voxel": range(40)})
    small = table.assign(**dict(zip(COORDINATES, (0.01 * at).T, strict=True)))
    large = table.assign(**dict(zip(COORDINATES, (100 * at + [500, 0, 0]).T, strict=True)))
    np.testing.assert_allclose(on_spheres(small), on_spheres(large), atol=1e-3)
    assert set(sides(small)) == {"lh", "rh"}
    assert set(sides(small.assign(hemi=""))) == {"all"}
    half = small.assign(hemi=[""] * 20 + ["lh"] * 20)
    assert {name: int(mask.sum()) for name, mask in sides(half).items()} == {"lh": 20, "other": 20}


GOOD = pd.DataFrame({"hemi": ["lh", ""], "vertex": -1, "voxel": ["a", "b"], "x_mm": [0.0, 1], "y_mm": 0.0, "z_mm": 0.0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_mm": [0.0, np.nan]}, "finite coordinates"),
        ({"hemi": "left"}, r"'lh', 'rh' or '' \(not known\)"),
        ({"voxel": "a", "hemi": "lh"}, "'a' twice"),
        ({"vertex": [-1, 5], "hemi": "lh"}, "-1 for all voxels"),
        ({"vertex": 5, "hemi": "lh"}, r"sphere\.reg"),
    ],
)
def test_a_table_of_no_kind_is_refused(change: dict[str, Any], message: str) -> None:
    check_places("table", GOOD)
    with pytest.raises(DataError, match=message):
        check_places("table", GOOD.assign(**change))
    with pytest.raises(DataError, match="only voxel"):
        check_places("table", GOOD.drop(columns=["z_mm", "y_mm", "x_mm"]))


def test_a_volume_finds_its_voxels_and_refuses_other_points() -> None:
    affine = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
    volume, ijk = Volume.of(affine, (91, 109, 91)), np.array([[0, 0, 0], [90, 108, 90], [3, 50, 7]])
    np.testing.assert_array_equal(volume.indices(volume.mm(ijk)), ijk)
    for wrong in (volume.mm(ijk) + 0.7, volume.mm(ijk + np.array([0, 0, 5])), volume.mm(np.zeros((2, 3), int))):
        with pytest.raises(DataError, match="centres of different voxels"):
            volume.indices(wrong)


def test_what_is_no_registered_sphere_is_refused() -> None:
    at = sphere()[0][:500]
    with pytest.raises(DataError, match=r"sphere\.reg"):
        native_voxels({"lh": at * [1, 1.5, 1]}, {"lh": np.arange(5)})
    with pytest.raises(DataError, match="500 vertices"):
        native_voxels({"lh": at}, {"lh": np.array([500])})
    with pytest.raises(DataError, match="each hemisphere"):
        native_voxels({"lh": at}, {"rh": np.arange(5)})
