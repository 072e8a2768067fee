"""Mistakes in a notebook: each is one message before any work, where it would change numbers without a word."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import bddn
from bddn.data import Stimuli
from bddn.data.dataset_check import RESULTS
from bddn.errors import BddnError, DataError, MismatchError, SpecError
from bddn.planted.subject import Planted
from bddn.run import Run
from bddn.run.folder import WEIGHT
from bddn.spec import CacheSpec

QUICK: dict[str, Any] = {"channels": 8, "code_frequencies": 4, "selector_width": 8, "epochs": 1}
Change = Callable[[Any], Any]


class Own:
    """A dataset of a user's own class, in which one of the methods returns something else."""

    def __init__(self, base: Planted, what: str = "", change: Change = lambda given: given) -> None:
        self.name, self.stimuli = "own:brain", base.stimuli
        self._base, self._what, self._change = base, what, change

    def _given(self, what: str, found: Any) -> Any:
        return self._change(found) if what == self._what else found

    def voxels(self) -> Any:
        return self._given("voxels", self._base.voxels())

    def coords_mm(self) -> Any:
        return self._given("coords_mm", self._base.coords_mm())

    def responses(self, rows: Any = None) -> Any:
        every = self._given("every", self._base.responses())
        rows = self._given("rows", rows) if rows is not None else None
        return self._given("responses", every if rows is None else every[rows])

    def truth(self) -> None:
        return None


def with_one(value: float, row: int) -> Change:
    """Put a number into one response."""

    def change(every: np.ndarray) -> np.ndarray:
        every = every.copy()
        every[row, 0] = value
        return every

    return change


WRONG: dict[str, tuple[str, Change, str]] = {
    "other type": ("responses", lambda y: y.astype(np.float64), "an array of float32"),
    "a table": ("responses", pd.DataFrame, "got a DataFrame"),
    "masked": ("responses", lambda y: np.ma.masked_greater(y, 1), "got a MaskedArray"),
    "one voxel less": ("responses", lambda y: y[:, 1:], "a column for each of 124 voxels; got 123"),
    "one image less": ("every", lambda y: y[:-1], "a row for each of 48 responses"),
    "one image more": ("every", lambda y: np.vstack([y, y[:1]]), r"\(48, n_voxels\); got float32, shape \(49, 124\)"),
    "sorted rows": ("rows", np.sort, "the rows that are asked for, in their order"),
    "scaled by what is read": ("responses", lambda y: y - y.mean(0), "the rows that are asked for, in their order"),
    **{f"NaN in row {row}": ("every", with_one(np.nan, row), "finite numbers; got nan in row") for row in range(5, 9)},
    "infinity": ("every", with_one(-np.inf, 5), "got -inf in row 5, voxel 0"),
    "positions in another order": ("coords_mm", lambda at: at[::-1].copy(), "got other numbers"),
    "positions of other type": ("coords_mm", lambda at: at.astype(np.float64), "got float64"),
    "no positions": ("coords_mm", lambda at: None, "got a NoneType"),
    "an index with gaps": ("voxels", lambda v: v.set_index(v.index * 2), r"reset_index\(drop=True\)"),
    "an index in another order": ("voxels", lambda v: v.set_index(v.index[::-1]), r"reset_index\(drop=True\)"),
    "no table": ("voxels", lambda v: v.to_dict("list"), "a DataFrame .*got a dict"),
    "no ceiling": ("voxels", lambda v: v.drop(columns="ceiling"), "none with the name 'ceiling'"),
    "percentages": ("voxels", lambda v: v.assign(ceiling=50.0), "Divide percentages by 100"),
    "labels that are missing": ("voxels", lambda v: v.assign(roi=np.nan), "column roi: expected labels as texts"),
    "a column twice": ("voxels", lambda v: pd.concat([v, v[["roi"]]], axis=1), "'roi' twice"),
    "the name of a result": (
        "voxels",
        lambda v: v.assign(depth="V1"),
        "other names of columns than those of a fit's results",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_dataset_that_gives_something_else_is_refused_before_the_fit(
    case: str, sealed: Path, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bddn.run.fitting.fit", None)
    what, change, words = WRONG[case]
    with pytest.raises(DataError, match=words):
        bddn.fit(sealed, Own(planted, what, change), tmp_path / "run", **QUICK)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("order", ["C", "F", "strided", "read-only"])
def test_responses_in_any_order_of_memory_give_the_same_run(
    order: str, sealed: Path, planted: Planted, tmp_path: Path
) -> None:
    changes: dict[str, Change] = {
        "C": lambda y: y,
        "F": np.asfortranarray,
        "strided": lambda y: np.repeat(y, 2, 1)[:, ::2],
        "read-only": lambda y: np.broadcast_to(y, y.shape),
    }
    run = bddn.fit(sealed, Own(planted, "responses", changes[order]), tmp_path / "run", **QUICK)
    expected = bddn.fit(sealed, Own(planted), tmp_path / "plain", **QUICK)
    pd.testing.assert_frame_equal(run.voxels, expected.voxels, check_exact=True)


def test_names_of_results_are_those_of_a_run(quick_run: Run, planted: Planted) -> None:
    own = [name for name in map(str, quick_run.voxels) if name not in planted.voxels() and not name.startswith(WEIGHT)]
    assert {*own} | {"size"} == {*RESULTS}


def test_images_of_a_dataset_are_told_apart(sealed: Path, spec: CacheSpec, planted: Planted, tmp_path: Path) -> None:
    ids, paths = planted.stimuli.ids, planted.stimuli.paths
    for wrong, words in (
        ((ids[:-1], paths), "47 ids, 48 paths"),
        ((ids, tuple(map(str, paths))), "a str"),
        ((tuple(range(48)), paths), "0, a int"),
    ):
        with pytest.raises(DataError, match=words):
            Stimuli(*wrong)
    own = Own(planted)
    own.stimuli = Stimuli((ids[1], *ids[1:]), paths)
    for work in (
        lambda: bddn.extract(spec, own, tmp_path / "a.zarr"),
        lambda: bddn.fit(sealed, own, tmp_path / "run"),
    ):
        with pytest.raises(DataError, match=f"another id for every image; got '{ids[1]}' twice"):
            work()
    assert not any(tmp_path.iterdir())


def test_what_is_no_dataset_is_refused(sealed: Path, spec: CacheSpec, planted: Planted, tmp_path: Path) -> None:
    for wrong, words in ((Own, "the class Own itself"), (tmp_path, "without 'stimuli'"), (None, "without 'name'")):
        with pytest.raises(DataError, match=words):
            bddn.fit(sealed, wrong, tmp_path / "run")  # type: ignore[arg-type]
        with pytest.raises(DataError, match=words):
            bddn.extract(spec, wrong, tmp_path / "a.zarr")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="an empty sequence"):
        bddn.extract(spec, [], tmp_path / "a.zarr")
    for memory in (-1, float("nan"), "2"):
        with pytest.raises(SpecError, match="memory_gib: expected a number of GiB"):
            bddn.fit(sealed, planted, tmp_path / "run", memory_gib=memory)  # type: ignore[arg-type]


def test_matrices_for_himalaya_are_those_of_the_rows_and_layers_that_are_named(sealed: Path, planted: Planted) -> None:
    ids, (first, *_) = planted.stimuli.ids, bddn.open_cache(sealed).layers
    with pytest.raises(DataError, match="in their order"):
        bddn.to_himalaya(sealed, Own(planted, "rows", np.sort), ids=[ids[3], ids[1]])
    with pytest.raises(DataError, match="at least one stimulus"):
        bddn.to_himalaya(sealed, planted, ids=[])
    for layers in ([], [first.name, first.name]):
        with pytest.raises(MismatchError, match="at least one layer, and each once"):
            bddn.to_himalaya(sealed, planted, layers=layers)


@pytest.mark.parametrize(
    "wanted", [("local", "x", 0, 1), ("register", "", 0, 1), ("local", "", -1, 2), ("local", "", 40, 60)]
)
def test_tokens_that_are_not_there_are_refused(sealed: Path, wanted: tuple[str, str, int, int]) -> None:
    cache = bddn.open_cache(sealed)
    kind, layer, start, stop = wanted
    with pytest.raises(MismatchError, match="rows from 0 to 48; got"):
        cache.read(kind, layer or cache.layers[0].name, start, stop)


def test_predictions_have_a_row_for_each_file_that_is_given(
    quick_run: Run, spec: CacheSpec, planted: Planted, tmp_path: Path
) -> None:
    encoder = bddn.load_encoder(quick_run.folder, spec=spec, device="cpu")
    a, b = planted.stimuli.paths[:2]
    expected = encoder.predict([a, b])
    assert np.array_equal(encoder.predict([a, b, a, str(b)]), expected[[0, 1, 0, 1]])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(a).save(tmp_path / "turned.jpg", exif=exif)
    with pytest.warns(UserWarning, match="EXIF rotation is not applied"):
        encoder.predict(tmp_path / "turned.jpg")
    image = Image.open(a)
    for wrong in (image, [image], np.asarray(image), None, b"", [a, None]):
        with pytest.raises(DataError, match="paths of image files or folders"):
            encoder.predict(wrong)  # type: ignore[arg-type]


def test_an_image_of_nilearn_has_the_numbers_of_its_voxels(quick_run: Run) -> None:
    depth = quick_run.voxels["depth"]
    for wrong in (np.ma.masked_greater(depth, 0.5), depth[::-1], [[1], [1, 2]]):
        with pytest.raises(DataError, match=r"in the order of run\.voxels"):
            quick_run.to_nilearn(wrong)
    with pytest.raises(BddnError, match="fsaverage5, fsaverage6, fsaverage7; got 'fsaverage4'"):
        quick_run.to_nilearn("depth", "fsaverage4")  # type: ignore[arg-type]
