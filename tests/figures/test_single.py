"""The maps: voxels land on the right vertex, hemisphere and pixel, in the right colour, and their numbers are kept."""

import re
import subprocess
from pathlib import Path
from shutil import which
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from bddn.cortex.fsaverage import N_VERTICES_FSAVERAGE5
from bddn.cortex.gifti import read_gifti
from bddn.cortex.surfaces import surface, to_mesh
from bddn.errors import DataError
from bddn.figures import panels
from bddn.figures.placement import flat_crop
from bddn.figures.raster import Raster, flat_raster, inflated_raster
from bddn.figures.single import draw
from bddn.maps import colors, ramps
from bddn.maps.kinds import run_maps
from bddn.maps.legends import split_names

LAYERS = ["early", "middle", "late"]
DPI = 40
ENDS = (".lh.func.gii", ".rh.func.gii")
ENDS_OF_CLASSES = (".lh.func.gii", ".lh.label.gii", ".rh.func.gii", ".rh.label.gii")


def patch(hemi: str, centre: int, reach_mm: float = 45.0) -> np.ndarray:
    """Vertices of fsaverage5 around one of them."""
    points = surface(hemi).inflated
    return np.flatnonzero(np.linalg.norm(points - points[centre], axis=1) < reach_mm)


def table(hemispheres: tuple[str, ...] = ("lh", "rh")) -> pd.DataFrame:
    """A posterior patch: the left hemisphere chooses the early layer, the right one the late layer."""
    parts = []
    for hemi in hemispheres:
        vertex = patch(hemi, {"lh": 5271, "rh": 5560}[hemi])
        chosen = {"lh": 0, "rh": 2}[hemi]
        n = len(vertex)
        part = {
            "hemi": [hemi] * n,
            "vertex": vertex,
            "roi": ["V1v" if i % 2 else "" for i in range(n)],
            "r2_val": np.linspace(0, 0.2, n),
            "r2_test": np.linspace(-0.01, 0.3, n),
            "layer_argmax": [LAYERS[chosen]] * n,
            "depth": np.full(n, chosen / 2),
            "confidence": np.full(n, 0.8),
            "x": 0.0,
            "y": 0.0,
            "scale": np.linspace(0.2, 0.6, n),
        }
        parts.append(pd.DataFrame(part | {f"weight_{name}": float(i == chosen) for i, name in enumerate(LAYERS)}))
    return pd.concat(parts, ignore_index=True)


def draw_all(voxels: pd.DataFrame, out: Path) -> list[Path]:
    """The maps of a run."""
    return draw(voxels, run_maps(voxels, LAYERS), out, "Trial", dpi=DPI)


def pixel_of(raster: Raster, at: np.ndarray) -> tuple[int, int]:
    """Row and column of the picture (half as fine as the raster) where a place in mm lies."""
    left, right, bottom, top = raster.box
    rows, columns = raster.shape[0] // 2, raster.shape[1] // 2
    return int((top - at[1]) / (top - bottom) * rows), int((at[0] - left) / (right - left) * columns)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    out = tmp_path_factory.mktemp("maps")
    return out, draw_all(table(), out)


def test_to_mesh_keeps_the_first_vertices() -> None:
    out = to_mesh(np.array([7, 10_241, 10_242, 163_841]), np.array([[1.0, 2], [3, 4], [5, 6], [7, 8]]))
    assert out.shape == (N_VERTICES_FSAVERAGE5, 2)
    assert out[7].tolist() == [1, 2]
    assert out[10_241].tolist() == [3, 4]
    assert np.isfinite(out).sum() == 4


@pytest.mark.parametrize("vertex", [[-1], [163_842], [3, 3], [1.5]])
def test_to_mesh_refuses_impossible_vertices(vertex: list[int]) -> None:
    with pytest.raises(DataError, match="vertex"):
        to_mesh(np.array(vertex), np.zeros(len(vertex)))


def test_layer_names_are_cut_at_a_mark() -> None:
    assert split_names(["block.10", "block.11"]) == ("block.", ["10", "11"])
    assert split_names(["early", "easy"]) == ("", ["early", "easy"])
    assert split_names(["block.1"]) == ("", ["block.1"])
    assert split_names([f"up_2.resnet_0@t{k}" for k in (1, 10)]) == ("up_2.resnet_0@", ["t1", "t10"])
    one_step = [f"{side}_{i}.resnet_{i}@t25" for side, i in (("down", 0), ("up", 1))]
    assert split_names(one_step) == ("*.resnet_*@t25", ["down_0.0", "up_1.1"])
    grid = [f"{side}_0.resnet_0@t{k}" for k in (1, 20) for side in ("down", "up")]
    assert split_names(grid) == ("*.resnet_*", ["down_0.0@t1", "up_0.0@t1", "down_0.0@t20", "up_0.0@t20"])


@pytest.mark.parametrize("n", [1, 2, 12, 50])
def test_layer_colours_brighten_with_confidence(n: int) -> None:
    sure = np.linspace(0, 1, 11)
    for layer in range(n):
        light = colors.layer_rgb(np.full(11, layer), sure, n, 1.0).sum(1)
        assert (np.diff(light) > 0).all()
    assert np.isnan(colors.layer_rgb(np.array([0, -1]), np.array([np.nan, 0.5]), n, 1.0)).all()


def test_layer_ramp_goes_from_blue_to_red_at_even_lightness() -> None:
    ramp = colors.layer_ramp(24)
    assert ramp[0].argmax() == 2
    assert ramp[-1].argmax() == 0
    assert ((ramp >= 0) & (ramp <= 1)).all()
    assert len(np.unique(ramp.round(3), axis=0)) == 24


def test_ranges_follow_the_numbers_and_survive_their_absence() -> None:
    assert ramps.confidence_top(np.linspace(0, 0.1, 101)) == pytest.approx(0.095)
    assert ramps.confidence_top([np.nan, 0.0]) == 1.0
    assert ramps.sequential_ramp([np.nan]).high == 1.0
    assert ramps.sequential_ramp([-0.2, -0.1]).high == 1.0
    assert ramps.sequential_ramp([0.1], top=0.4).high == 0.4
    ramp = ramps.scale_ramp([0.42, 0.5])
    assert (ramp.low, ramp.high) == pytest.approx((0.4, 0.6))


def test_categories_are_never_mixed() -> None:
    weight = np.array([[0.4, 0.3, 0.3], [0.2, 0.2, 0.6], [0.3, 0.3, 0.4]], dtype=np.float32)
    raster = Raster(
        (2, 2), np.arange(3), np.array([[0, 1, 2]] * 3, dtype=np.int32), weight, np.ones(3, np.float32), (0, 1, 0, 1)
    )
    assert raster.categories(np.array([0, 2, 2]), 3).tolist() == [2, 2, 2]
    assert raster.categories(np.array([0, 2, -1]), 3).tolist() == [0, -1, 0]
    assert raster.values(np.array([1.0, 3.0, np.nan])).tolist()[1:] == [
        pytest.approx(np.nan, nan_ok=True),
        pytest.approx(2),
    ]


@pytest.mark.parametrize(("hemi", "vertex"), [("lh", 5271), ("rh", 5560)])
def test_a_patch_is_drawn_at_its_place_on_the_flat_map(hemi: str, vertex: int) -> None:
    mesh = surface(hemi)
    near = patch(hemi, vertex, 7.0)
    code = np.full(N_VERTICES_FSAVERAGE5, -1)
    code[near] = 0
    centre = near[np.isin(near, mesh.flat_faces)][0]
    box = flat_crop({"lh": np.ones(N_VERTICES_FSAVERAGE5, bool), "rh": np.ones(N_VERTICES_FSAVERAGE5, bool)}).boxes[
        hemi
    ]
    raster = flat_raster(mesh, box, 600)

    def rgb(part: Raster) -> np.ndarray:
        layer = part.categories(code, 1)
        return colors.layer_rgb(layer, np.ones(len(layer)), 3, 1.0)

    image = panels.paint(raster, colors.cortex_grey(mesh.sulc), code >= 0, rgb)
    row, column = pixel_of(raster, mesh.flat[centre])
    blue = np.abs(image[..., :3] - colors.layer_ramp(3)[0]).max(-1) < 0.02
    assert blue[row - 2 : row + 3, column - 2 : column + 3].any()
    assert (column > 300) == (hemi == "lh")  # posterior lies toward the middle of the figure
    rows, columns = np.nonzero(blue)
    places = mesh.flat[near[np.isin(near, mesh.flat_faces)]]
    for place, low, high in ((rows, *_rows(raster, places)), (columns, *_columns(raster, places))):
        assert low - 15 <= place.min()  # the cells reach halfway to the neighbours
        assert place.max() <= high + 15


def _rows(raster: Raster, places: np.ndarray) -> tuple[int, int]:
    rows = [pixel_of(raster, place)[0] for place in places]
    return min(rows) - 1, max(rows) + 1


def _columns(raster: Raster, places: np.ndarray) -> tuple[int, int]:
    columns = [pixel_of(raster, place)[1] for place in places]
    return min(columns) - 1, max(columns) + 1


@pytest.mark.parametrize(
    ("hemi", "view", "posterior"), [("lh", "left", "right"), ("lh", "right", "left"), ("rh", "right", "left")]
)
def test_inflated_views_face_the_right_way(hemi: str, view: str, posterior: str) -> None:
    raster = inflated_raster(surface(hemi), view, 2.0)
    column = raster.pixel % raster.shape[1]
    y, z = (surface(hemi).inflated[raster.corners[:, 0], k] for k in (1, 2))
    assert (np.corrcoef(column, y)[0, 1] < -0.9) == (posterior == "right")
    assert np.corrcoef(raster.pixel // raster.shape[1], z)[0, 1] < -0.9
    outward = surface(hemi).inflated[raster.corners[:, 0], 0].mean()
    assert (outward < 0) == (view == "left")


def test_all_files_are_written_and_the_numbers_kept(drawn: tuple[Path, list[Path]]) -> None:
    out, written = drawn
    names = [
        f"{name}_map{end}"
        for name in ("layer", "score", "scale", "place")
        for end in (".png", ".csv", *(ENDS_OF_CLASSES if name == "layer" else ENDS), ".txt")
    ]
    assert [path.name for path in written] == names
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    voxels = table()
    back = pd.read_csv(out / "score_map.csv", keep_default_na=False)
    assert back["vertex"].tolist() == voxels["vertex"].tolist()
    assert np.allclose(back["r2_test"], voxels["r2_test"], atol=1e-6)
    hemi, arrays = read_gifti(out / "layer_map.rh.func.gii")
    assert hemi == "rh"
    assert list(arrays) == ["layer_index", "confidence", "depth", *(f"weight_{name}" for name in LAYERS)]
    assert (
        np.flatnonzero(np.isfinite(arrays["depth"])).tolist() == voxels.loc[voxels["hemi"] == "rh", "vertex"].tolist()
    )
    assert np.unique(arrays["layer_index"][np.isfinite(arrays["layer_index"])]).tolist() == [2]


def test_the_layer_map_is_also_a_file_of_labels_in_the_colours_of_the_figure(drawn: tuple[Path, list[Path]]) -> None:
    voxels = table()
    for hemi, chosen in (("lh", 0), ("rh", 2)):
        image: Any = nibabel.load(drawn[0] / f"layer_map.{hemi}.label.gii")
        names = image.labeltable.get_labels_as_dict()
        assert names == {0: "no data", 1: "early", 2: "middle", 3: "late"}
        colours = np.array([label.rgba for label in image.labeltable.labels])
        assert colours[0].tolist() == [0, 0, 0, 0]
        assert np.allclose(colours[1:], np.column_stack([colors.layer_ramp(3), np.ones(3)]), atol=1e-6)
        (key,) = (array.data for array in image.darrays)
        vertex = voxels.loc[voxels["hemi"] == hemi, "vertex"]
        assert (key[vertex] == chosen + 1).all()
        assert np.count_nonzero(key) == len(vertex)


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, Path]:
    """A table in which every third voxel has no evidence, and its maps."""
    voxels = table().assign(q_test=lambda found: np.where(np.arange(len(found)) % 3, 0.01, 0.2))
    out = tmp_path_factory.mktemp("tested")
    draw_all(voxels, out)
    return voxels, out


@pytest.mark.parametrize("hemi", ["lh", "rh"])
def test_evidence_is_an_array_of_every_map_of_a_selection(tested: tuple[pd.DataFrame, Path], hemi: str) -> None:
    voxels, out = tested
    mine = voxels[voxels["hemi"] == hemi]
    for name in ("layer", "scale", "place"):
        path = out / f"{name}_map.{hemi}.func.gii"
        found = read_gifti(path)[1]["evident"]
        assert found[mine["vertex"]].tolist() == (mine["q_test"] <= 0.05).tolist()
        assert np.isfinite(found).sum() == len(mine)
        image: Any = nibabel.load(path)
        assert "voxels have no evidence of a score above chance" in image.meta["Description"]
        csv = pd.read_csv(out / f"{name}_map.csv")
        assert csv["evident"].tolist() == (voxels["q_test"] <= 0.05).tolist()
    assert "evident" not in read_gifti(out / f"score_map.{hemi}.func.gii")[1]


def test_layers_without_evidence_have_a_label_of_their_own(tested: tuple[pd.DataFrame, Path]) -> None:
    voxels, out = tested
    mine = voxels[voxels["hemi"] == "rh"]
    image: Any = nibabel.load(out / "layer_map.rh.label.gii")
    names = image.labeltable.get_labels_as_dict()
    assert names == {0: "no data", 1: "early", 2: "middle", 3: "late", 4: "no evidence"}
    assert image.labeltable.labels[-1].rgba == (*[colors.NO_EVIDENCE] * 3, 1)
    key = image.darrays[0].data[mine["vertex"]]
    assert key.tolist() == np.where(mine["q_test"] <= 0.05, 3, 4).tolist()


def test_files_of_a_run_without_a_test_of_evidence_say_so(drawn: tuple[Path, list[Path]]) -> None:
    for end in (".lh.func.gii", ".lh.label.gii"):
        image: Any = nibabel.load(drawn[0] / f"layer_map{end}")
        assert image.meta["Description"].startswith("No test of evidence")
        assert "evident" not in [array.metadata["Name"] for array in image.darrays]
    assert "evident" not in pd.read_csv(drawn[0] / "layer_map.csv")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(program, id=program[0], marks=pytest.mark.skipif(not which(program[0]), reason="not installed"))
        for program in (("wb_command", "-file-information"), ("gifti_tool", "-gifti_test", "-infile"))
    ],
)
def test_programs_that_read_gifti_read_all_maps_without_complaint(
    drawn: tuple[Path, list[Path]], tested: tuple[pd.DataFrame, Path], command: tuple[str, ...]
) -> None:
    files = [*drawn[0].glob("*.gii"), *tested[1].glob("*.gii")]
    assert len(files) == 20
    for path in files:
        done = subprocess.run([*command, path], capture_output=True, text=True, check=True)
        assert done.stderr == "", path.name
        if command[0] == "wb_command":
            side, kind = path.name.split(".")[1:3]
            assert re.search({"lh": r"Structure: +CortexLeft", "rh": r"Structure: +CortexRight"}[side], done.stdout)
            assert re.search({"func": r"Type: +Metric", "label": r"Type: +Label"}[kind], done.stdout)
        else:
            assert f"{path}' is VALID" in done.stdout


def test_the_figure_has_left_on_the_left(drawn: tuple[Path, list[Path]]) -> None:
    image = np.asarray(Image.open(drawn[0] / "layer_map.png").convert("RGB"), dtype=float) / 255
    upper = image[: image.shape[0] * 6 // 10]
    blue, red = (np.abs(upper - colors.layer_ramp(3)[k]).max(-1) < 0.03 for k in (0, 2))
    half = image.shape[1] // 2
    assert blue[:, :half].sum() > 200
    assert red[:, half:].sum() > 200
    assert not blue[:, half:].any()
    assert not red[:, :half].any()


def test_pictures_do_not_change_from_run_to_run(drawn: tuple[Path, list[Path]], tmp_path: Path) -> None:
    draw_all(table().sample(frac=1.0, random_state=1), tmp_path)
    assert (tmp_path / "layer_map.png").read_bytes() == (drawn[0] / "layer_map.png").read_bytes()
    assert (tmp_path / "scale_map.lh.func.gii").read_bytes() == (drawn[0] / "scale_map.lh.func.gii").read_bytes()


def test_one_hemisphere_and_nan_voxels_are_drawn_as_bare_cortex(tmp_path: Path) -> None:
    voxels = table(("lh",))
    voxels[["confidence", "r2_test", "scale"]] = np.nan
    draw_all(voxels, tmp_path)
    image = np.asarray(Image.open(tmp_path / "layer_map.png").convert("RGB"), dtype=float)
    upper = image[image.shape[0] // 10 : image.shape[0] * 6 // 10]
    assert (np.ptp(upper, axis=-1) <= 2).all()
    assert not np.isfinite(read_gifti(tmp_path / "score_map.rh.func.gii")[1]["r2_test"]).any()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.drop(columns="depth"), "depth"),
        (lambda t: t.iloc[:0], "at least one voxel"),
        (lambda t: t.assign(hemi="left"), "column hemi"),
        (lambda t: t.assign(layer_argmax="other"), "other"),
        (lambda t: pd.concat([t, t]), "at most once"),
    ],
)
def test_impossible_tables_are_refused(change: object, named: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=named):
        draw_all(change(table()), tmp_path)  # type: ignore[operator]
    assert not list(tmp_path.iterdir())


def test_the_name_of_a_region_that_ends_at_the_sheets_edge_is_in_its_middle() -> None:
    """Where the sheet was cut, a region has no neighbours; its name would lie on the cut."""
    at = np.arange(49).reshape(7, 7)
    corner, right, below, far = at[:-1, :-1].ravel(), at[:-1, 1:].ravel(), at[1:, :-1].ravel(), at[1:, 1:].ravel()
    faces = np.concatenate([np.stack([corner, right, below], 1), np.stack([right, far, below], 1)])
    edges = np.concatenate([faces[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    inside = np.arange(49) % 7 < 5  # all rows, the first five columns: three of its sides are the sheet's
    border = panels._border(edges, 49)
    assert border.sum() == 24
    assert panels._by_depth(inside, edges, border)[0] % 7 == 2
    assert 1 <= panels._by_depth(inside, edges, border)[0] // 7 <= 5


def test_long_names_of_rois_are_cut_in_pictures() -> None:
    """A label of an atlas may be a sentence, which would cross the other hemisphere."""
    ax = FigureCanvasAgg(Figure()).figure.add_subplot()
    panels.name_roi(ax, "visual areas " * 20, np.zeros((1, 2)), [], 6.5)
    (text,) = ax.texts
    assert text.get_text() == "visual areas visual are…"
