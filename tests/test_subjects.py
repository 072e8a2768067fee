"""Several subjects: one extraction serves all, each finds its images by id or pixels, and their maps are compared."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bddn.cli import app
from bddn.data import open_dataset
from bddn.data.united import Subjects
from bddn.errors import DataError, MismatchError
from bddn.evaluation.leaks.auditing import audit_run
from bddn.extraction import extract
from bddn.figures.grid import CortexPanel
from bddn.figures.paper import layer_maps, short_labels
from bddn.many import fit_many, summary
from bddn.many.run_table import to_text
from bddn.planted.subject import Planted
from bddn.run import Run, Subject, fit_run, read_run
from bddn.spec import CacheSpec, FitSpec
from bddn.stats.evidence import untested
from bddn.store.reader import Cache
from bddn.stream.loader import Streamed
from data.own_trees import make
from data.planted_layouts import LAYOUTS, lab_of
from quick_fit import QUICK


def as_points(voxels: pd.DataFrame, subject: int) -> pd.DataFrame:
    """Return the voxels as points that no two subjects have in common."""
    return voxels.assign(
        vertex=-1, voxel=range(len(voxels)), x_mm=float(subject), y_mm=np.arange(len(voxels)), z_mm=0.0
    )


def said(*words: object, code: int = 0) -> str:
    """What a command prints, in one line."""
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def names(brain: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The planted brain in each layout."""
    root = tmp_path_factory.mktemp("layouts")
    return {layout: write(Planted(brain), root / layout) for layout, write in LAYOUTS.items()}


@pytest.fixture(scope="module")
def other(brain: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Another subject: the last 30 images under ids of its own, and other responses."""
    lab, n = lab_of(Planted(brain)), 30
    pictures = {f"picture {k:03d}": path for k, path in enumerate([*lab.pictures.values()][-n:])}
    noise = np.random.default_rng(3).normal(0, 0.2, (n, lab.responses.shape[1])).astype(np.float32)
    folder = tmp_path_factory.mktemp("other") / "second"
    changed = type(lab)(pictures, lab.responses[-n:] + noise, lab.n_left, lab.vertex)
    path = make(folder, "npy", changed)
    return f"table:{path.rename(path.with_name('second.yaml'))}"


@pytest.fixture(scope="module")
def united(
    names: dict[str, str], other: str, spec: CacheSpec, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """One cache of all of them, and what was printed."""
    root = tmp_path_factory.mktemp("united")
    (root / "spec.yaml").write_text(spec.model_dump_json())
    data = [word for name in (*names.values(), other) for word in ("--data", name)]
    return root / "all.zarr", said("extract", root / "spec.yaml", *data, "--out", root / "all.zarr")


def test_one_extraction_serves_all_subjects(united: tuple[Path, str], sealed: Path, other: str) -> None:
    place, printed = united
    n = len(LAYOUTS)
    assert f"images: 48 different images, of {48 * n + 30} in {n + 1} datasets; 30 of them under another id" in printed
    both, alone = Cache(place), Cache(sealed)
    assert both.ids == alone.ids
    assert list(both.images) != list(alone.images)  # of pixels, and of PNG files
    for layer in both.layers:
        np.testing.assert_array_equal(both.read("local", layer.name, 0, 48), alone.read("local", layer.name, 0, 48))
    ids = open_dataset(other).stimuli.ids
    found = Streamed(both, both.layers, ids)
    assert [both.row_of[stimulus] for stimulus in ids] == list(range(18, 48))
    assert found.n_bytes == Streamed(alone, alone.layers, alone.ids[18:]).n_bytes
    assert "aliases" not in alone.header


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_map_of_the_planted_brain_from_that_cache(
    layout: str, names: dict[str, str], united: tuple[Path, str], planted: Planted, quick_run: Run, tmp_path: Path
) -> None:
    data, keys = open_dataset(names[layout]), ["hemi", "vertex"]
    rows = [planted.stimuli.ids.index(stimulus) for stimulus in data.stimuli.ids]
    order = pd.MultiIndex.from_frame(planted.voxels()[keys]).get_indexer(pd.MultiIndex.from_frame(data.voxels()[keys]))
    assert sorted(rows) == list(range(48))
    assert sorted(order) == list(range(len(planted.voxels())))
    for ours, theirs in zip(data.responses().T, planted.responses()[np.ix_(np.array(rows), order)].T, strict=True):
        assert np.corrcoef(ours, theirs)[0, 1] > 0.9999
    maps, expected = fit_run(united[0], data, tmp_path / "run", QUICK)[0].voxels, quick_run.voxels.iloc[order]
    for column in ("depth", "x", "y", "scale"):
        np.testing.assert_allclose(maps[column], expected[column], atol=0.01, err_msg=column)
    assert (maps["layer_argmax"].to_numpy() == expected["layer_argmax"].to_numpy()).mean() > 0.95


def test_images_are_compared_by_pixels_where_files_differ(
    names: dict[str, str], united: tuple[Path, str], sealed: Path, tmp_path: Path
) -> None:
    both = Cache(united[0])
    parts = [Subject.read(open_dataset(name)).identity(both).parts for name in names.values()]
    assert len({one["images_sha256"] for one in parts}) == 1
    with pytest.raises(MismatchError, match=r"48 of 48 images differ.*--data A --data B"):
        Subject.read(open_dataset(names["nsd"])).identity(Cache(sealed))  # which has hashes of PNG files
    copy = shutil.copytree(Path(names["table-npy"].removeprefix("table:")).parent, tmp_path / "copy")
    first, second = sorted((copy / "images").iterdir())[:2]
    shutil.copy(first, second)
    with pytest.raises(MismatchError, match=r"1 of 48 images differ"):
        Subject.read(open_dataset(f"table:{copy / 'data.yaml'}")).identity(both)


def test_a_run_on_that_cache_is_audited_with_pixels(
    names: dict[str, str], united: tuple[Path, str], tmp_path: Path
) -> None:
    data = open_dataset(names["algonauts"])
    run = fit_run(united[0], data, tmp_path / "run", QUICK)[0]
    found = audit_run(run, Cache(united[0]), data)
    assert "pixels" in found.numbers["compared"]
    shutil.copytree(names["algonauts"].removeprefix("algonauts:"), tmp_path / "subj01")
    images = sorted((tmp_path / "subj01/training_split/training_images").iterdir())
    shutil.copy(images[0], images[1])
    with pytest.raises(MismatchError):
        audit_run(run, Cache(united[0]), open_dataset(f"algonauts:{tmp_path / 'subj01'}"))


def test_two_ids_of_one_image_stay_in_one_part(
    brain: Path, other: str, united: tuple[Path, str], tmp_path: Path
) -> None:
    """Ids of the other subject are ids of the cache too, so that leakage between parts is seen."""
    folder = shutil.copytree(Path(other.removeprefix("table:")).parent, tmp_path / "twice")
    table = pd.read_csv(folder / "stimuli.csv")
    table.loc[0, ["id", "file"]] = [Planted(brain).stimuli.ids[-1], table["file"].iloc[-1]]
    table.to_csv(folder / "stimuli.csv", index=False)
    data = open_dataset(f"table:{folder / 'second.yaml'}")
    ids = sorted(data.stimuli.ids)
    parts = {"train": ids[:20], "val": ids[20:25], "test": ids[25:]}
    assert {*data.stimuli.ids} >= {"picture 029", "nsd-00342"}
    assert ("nsd-00342" in parts["train"], "picture 029" in parts["test"]) == (True, True)
    (tmp_path / "split.json").write_text(json.dumps(parts))
    spec = FitSpec.parse({**QUICK.to_dict(), "split_by": {"file": str(tmp_path / "split.json")}}, "test")
    with pytest.raises(DataError, match="the same image as 'nsd-00342' in train and as 'picture 029' in test"):
        fit_run(united[0], data, tmp_path / "run", spec)


def test_a_cache_of_other_subjects_is_not_overwritten(
    names: dict[str, str], other: str, united: tuple[Path, str], spec: CacheSpec
) -> None:
    some = Subjects([open_dataset(name) for name in (names["nsd"], other)])
    again = Subjects([open_dataset(name) for name in (*names.values(), other)])
    assert extract(spec, again, united[0]).reused
    assert extract(spec, some, united[0]).reused  # the same images and ids
    with pytest.raises(MismatchError, match=r"differs in: aliases [0-9a-f]{16} → [0-9a-f]{16}"):
        extract(spec, open_dataset(names["nsd"]), united[0])


def test_subjects_of_one_cache_are_fitted_and_compared(
    names: dict[str, str], other: str, united: tuple[Path, str], tmp_path: Path
) -> None:
    data = [names["table-npy"], other]
    done = fit_many([united[0]], data, tmp_path / "many", QUICK, seeds=(0, 1))
    assert done.left_out == ()
    table = pd.read_csv(tmp_path / "many/results.csv")
    columns = ["agreement", "agreement_subjects", "overlap", "overlap_subjects"]
    assert table[columns].notna().all(axis=None)
    chosen = {}
    for row in table.to_dict("records"):
        voxels = pd.read_parquet(tmp_path / "many" / row["folder"] / "voxels.parquet")
        chosen[row["subject"], row["seed"]] = voxels.set_index(["hemi", "vertex"])["layer_argmax"]
    for row in table.to_dict("records"):
        own = chosen[row["subject"], row["seed"]]
        others = [one for (subject, _), one in chosen.items() if subject != row["subject"]]
        expected = np.mean([(own == one.reindex(own.index)).mean() for one in others])
        assert row["agreement_subjects"] == pytest.approx(expected, abs=1e-6)
    shown = to_text(summary(done.table))
    assert [{*row} >= {"agreement", "between subjects", "overlap between subjects"} for row in shown] == [True, True]
    assert {row["subject"] for row in shown} == {"table-npy-data", "second-second"}
    runs = [read_run(folder) for folder in sorted((tmp_path / "many").glob("*/*/seed*"))]
    sheet = layer_maps([replace(run, voxels=untested(run.voxels)) for run in runs], "hue")
    average, agreement = (panel for panel in sheet.rows[0][:2] if isinstance(panel, CortexPanel))
    assert average.title == "average of 2"  # subjects, of two runs each
    assert average.table["n_runs"].unique().tolist() == [2]
    means = [np.mean([run.voxels["weight_block_0"] for run in own], axis=0) for own in (runs[:2], runs[2:])]
    np.testing.assert_allclose(np.sort(average.table["weight_block_0"]), np.sort(np.mean(means, axis=0)), atol=1e-6)
    assert f"Mean agreement of 2 layer maps: {agreement.table['agreement'].mean():.2f}" in sheet.heading
    points = [replace(run, voxels=as_points(run.voxels, k // 2)) for k, run in enumerate(runs)]
    assert [panel.title for panel in layer_maps(points, "hue").rows[0]] == short_labels(runs)[:2]
    alone = fit_many([united[0]], data[:1], tmp_path / "alone", QUICK)
    assert not {*columns[1:]} & {*alone.table}
    assert "between subjects" not in to_text(summary(alone.table))[0]


def test_a_plan_counts_the_ids_of_all_subjects(names: dict[str, str], other: str, united: tuple[Path, str]) -> None:
    spec: Any = united[0].parent / "spec.yaml"
    printed = said("plan", spec, "--data", names["algonauts"], "--data", names["nsd"], "--data", other)
    assert "images 78," in printed
