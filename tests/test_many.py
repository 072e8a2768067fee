"""Many fits: what single fits would give, tokens read once, one table; and whoever dies or fails, the rest is done."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from distributed import LocalCluster
from typer.testing import CliRunner

import quick_commands
from bddn.cli import app
from bddn.errors import ClusterError, MismatchError, RunError, SpecError
from bddn.extraction import extract
from bddn.machine.parallel import n_threads
from bddn.many import Many, fit_many, numbers, summary
from bddn.many.campaign import Outcome, Work, one_by_one
from bddn.many.plan import Group, Task, make_plan
from bddn.many.run_table import table_of, to_text
from bddn.many.runner import Runner
from bddn.many.workers import Workers, joined_workers, local_workers, next_group
from bddn.planted.subject import Planted
from bddn.run import fit_run
from bddn.spec import CacheSpec, FitSpec
from bddn.stats.truth import worse_hemisphere
from bddn.store.reader import Cache

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of dask's processes

SPEC = FitSpec(channels=8, selector_width=16, epochs=1)
FOLDERS = [f"sealed/brain/seed{seed}-boot{bootstrap}" for seed in (0, 1) for bootstrap in (0, 2)]
READS = 2 * 3 * 3  # of `sealed`: local and global, three layers, every run of four chunks of them once
OF_THE_HOUR = {
    "title",
    "seconds",
    "epoch_seconds",
    "seconds_waited_for_tokens",
    "threads",
}  # in metrics.json, what differs between two runs of the same fit


def four(sealed: Path, data: str, out: Path, work: Work | None = None) -> Many:
    """The runs of FOLDERS."""
    return fit_many([sealed], [data], out, SPEC, seeds=(0, 1), bootstraps=(0, 2), work=work)


@pytest.fixture(scope="module")
def data(brain: Path) -> str:
    return f"planted:{brain}"


@pytest.fixture(scope="module")
def done(sealed: Path, data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs, one after the other; read only."""
    out = tmp_path_factory.mktemp("done") / "many"
    many = four(sealed, data, out)
    assert (many.n_runs, many.n_kept, many.failed, many.left_out) == (4, 0, {}, ())
    return out


@pytest.fixture
def copied(done: Path, tmp_path: Path) -> Path:
    """A copy of them to go on with."""
    return Path(shutil.copytree(done, tmp_path / "many"))


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with local_workers(2, "cpu") as opened:
        yield opened


@pytest.fixture(scope="module")
def other(brain: Path, spec: CacheSpec, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Another subject, with images of other names, and its cache."""
    root = tmp_path_factory.mktemp("other")
    shutil.copytree(brain, root / "twin")
    for path in (root / "twin/subj01/training_split/training_images").iterdir():
        path.rename(path.with_name(path.name.replace("_nsd-", "_nsd-9")))
    extract(spec, Planted(root / "twin"), root / "sealed.zarr")
    return root / "sealed.zarr", f"planted:{root / 'twin'}"


def files(run: Path) -> dict[str, object]:
    """What a run folder holds, without what differs from one time to the next."""
    found: dict[str, object] = {path.name: path.read_bytes() for path in run.iterdir()}
    metrics = json.loads((run / "metrics.json").read_text())
    return {**found, "metrics.json": {name: metrics[name] for name in metrics.keys() - OF_THE_HOUR}}


def stamps(out: Path) -> dict[str, int]:
    return {f"{run}/{path.name}": path.stat().st_mtime_ns for run in FOLDERS for path in (out / run).glob("*")}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every read of tokens from a cache, from now on."""
    calls: list[str] = []
    read = Cache.read_chunks

    def counted(self: Cache, kind: str, layer: str, *rest: Any) -> None:
        calls.append(f"{kind}/{layer}")
        read(self, kind, layer, *rest)

    monkeypatch.setattr(Cache, "read_chunks", counted)
    return calls


def plan_of(sealed: Path, data: str, out: Path, memory_gib: float | None = None) -> tuple[Task, ...]:
    fits = [(0, 0), (0, 2), (1, 0), (1, 2)]
    return make_plan([sealed], [data], out, SPEC, fits, device="cpu", memory_gib=memory_gib).tasks


def cli(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["fit-many", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, " ".join(result.stderr.split())


def test_every_run_is_that_of_a_single_fit(done: Path, sealed: Path, planted: Planted, tmp_path: Path) -> None:
    for folder, (seed, bootstrap) in zip(FOLDERS, [(0, 0), (0, 2), (1, 0), (1, 2)], strict=True):
        spec = SPEC.model_copy(update={"seed": seed, "bootstrap": bootstrap})
        run, _ = fit_run(sealed, planted, tmp_path / folder, spec)
        assert files(run.folder) == files(done / folder)


def test_the_table_says_what_the_runs_say(done: Path, data: str) -> None:
    table = pd.read_parquet(done / "results.parquet")
    as_text = pd.read_csv(done / "results.csv").fillna({"saturated": ""})
    pd.testing.assert_frame_equal(as_text, table, check_dtype=False)
    assert table["folder"].tolist() == FOLDERS
    assert table[["cache", "subject"]].drop_duplicates().to_numpy().tolist() == [["sealed", "brain"]]
    for row in table.to_dict("records"):
        metrics = json.loads((done / row["folder"] / "metrics.json").read_text())
        truth = worse_hemisphere(json.loads((done / row["folder"] / "truth.json").read_text()))
        for name in ("seed", "bootstrap", "r2_test", "r2_val", "n_voxels", "best_epoch", "cache_digest", "seconds"):
            assert row[name] == metrics[name], name
        rois = {name.removeprefix("r2_test_"): row[name] for name in map(str, row) if name.startswith("r2_test_")}
        assert rois == {roi: of["mean"] for roi, of in metrics["roi_r2_test"].items()}
        known = {name: value for name, value in truth.items() if value is not None}
        assert truth.keys() - known.keys() == {"planted_slope"}  # not all ROIs have a voxel here: an empty column
        assert {name: row.get(f"truth_{name}") for name in truth} == known | {"planted_slope": None}
    assert str(done.parent) not in (done / "results.csv").read_text()
    assert str(Path(data.partition(":")[2]).parent) not in (done / "results.csv").read_text()


def test_only_what_is_missing_is_fitted_again(copied: Path, done: Path, sealed: Path, data: str) -> None:
    shutil.rmtree(copied / FOLDERS[2])
    before = stamps(copied)
    many = four(sealed, data, copied)
    assert (many.n_runs, many.n_kept) == (4, 3)
    after = stamps(copied)
    assert {path: after[path] for path in before} == before
    assert files(copied / FOLDERS[2]) == files(done / FOLDERS[2])
    whole = pd.read_parquet(done / "results.parquet")
    pd.testing.assert_frame_equal(many.table.drop(columns="seconds"), whole.drop(columns="seconds"))


def test_other_seeds_add_to_the_same_table(copied: Path, sealed: Path, data: str) -> None:
    many = fit_many([sealed], [data], copied, SPEC, seeds=(5,))
    assert (many.n_runs, many.n_kept) == (1, 0)
    assert many.table["folder"].tolist() == [*FOLDERS, "sealed/brain/seed5"]
    assert many.table["bootstrap"].isna().tolist() == [False] * 4 + [True]
    pd.testing.assert_frame_equal(pd.read_parquet(copied / "results.parquet"), many.table)


def test_an_interrupted_campaign_has_a_table(copied: Path, sealed: Path, data: str) -> None:
    for folder in FOLDERS[1:]:
        shutil.rmtree(copied / folder)

    def interrupted(tasks: Sequence[Task]) -> Iterator[Outcome]:
        yield from one_by_one(tasks[:2])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        four(sealed, data, copied, interrupted)
    assert pd.read_parquet(copied / "results.parquet")["folder"].tolist() == FOLDERS[:2]


def test_tokens_are_read_once_by_all_runs_of_a_worker(
    sealed: Path, data: str, tmp_path: Path, reads: list[str]
) -> None:
    first, *others = plan_of(sealed, data, tmp_path)
    runner = Runner()
    runner.run(first)
    once = len(reads)
    assert once == READS
    for task in others:
        assert isinstance(runner.run(task), dict)
    assert len(reads) == once


def test_tokens_without_room_are_streamed_and_give_the_same(
    done: Path, sealed: Path, data: str, tmp_path: Path, reads: list[str]
) -> None:
    runner = Runner()
    n_reads = []
    for task in plan_of(sealed, data, tmp_path, memory_gib=1e-6)[:2]:
        assert isinstance(runner.run(task), dict)
        n_reads.append(len(reads))
        assert files(tmp_path / task.folder) == files(done / task.folder)
    assert n_reads[1] > n_reads[0]


def test_what_is_there_needs_no_tokens(copied: Path, sealed: Path, data: str, reads: list[str]) -> None:
    assert four(sealed, data, copied).n_kept == 4
    assert not reads


def test_a_cluster_that_runs_is_joined_and_reads_once(
    done: Path, sealed: Path, data: str, tmp_path: Path, reads: list[str]
) -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as running,
        joined_workers(running.scheduler_address, "auto") as work,
    ):
        many = four(sealed, data, tmp_path, work)
        assert not [name for name in running.workers[0].plugins if name.startswith("bddn-many")], "nothing is held"
    assert len(reads) == READS
    assert not many.failed
    for folder in FOLDERS:
        assert files(tmp_path / folder) == files(done / folder)


def test_workers_share_out_the_caches_and_read_each_once(
    sealed: Path, data: str, other: tuple[Path, str], tmp_path: Path, reads: list[str]
) -> None:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as running,
        joined_workers(running.scheduler_address, "cpu") as work,
    ):
        many = fit_many([sealed, other[0]], [data, other[1]], tmp_path, SPEC, seeds=(0, 1, 2), work=work)
    assert (len(many.table), many.failed) == (6, {})
    # should one worker be done with its three before the other has begun its last, it helps, and reads too
    assert len(reads) in {2 * READS, 3 * READS}


def test_two_workers_give_the_bytes_of_one_process(
    workers: Workers, done: Path, sealed: Path, data: str, tmp_path: Path
) -> None:
    many = four(sealed, data, tmp_path, workers)
    assert not many.failed
    for folder in FOLDERS:
        assert files(tmp_path / folder) == files(done / folder)
        threads = json.loads((tmp_path / folder / "metrics.json").read_text())["threads"]
        assert threads == max(1, n_threads() // 2), "workers share the cores"
    whole = pd.read_parquet(done / "results.parquet")
    pd.testing.assert_frame_equal(many.table.drop(columns="seconds"), whole.drop(columns="seconds"))


def test_a_worker_that_is_killed_costs_time_only(workers: Workers, sealed: Path, data: str, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"epochs": 10})
    killed: list[int] = []

    def kill() -> None:
        while not list(tmp_path.glob("many/sealed/brain/.*.fit")):
            time.sleep(0.01)
        at_work = next(address for address, tasks in workers.client.processing().items() if tasks)
        killed.append(workers.client.run(os.getpid)[at_work])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    many = fit_many([sealed], [data], tmp_path / "many", spec, seeds=(0, 1), work=workers)
    killer.join()
    assert killed
    assert (len(many.table), many.failed) == (2, {})
    fit_many([sealed], [data], tmp_path / "one", spec, seeds=(0, 1))
    for folder in many.table["folder"]:
        assert files(tmp_path / "many" / folder) == files(tmp_path / "one" / folder)
    assert not list(tmp_path.glob("many/sealed/brain/.*")), "nothing half-made is left"


def test_a_run_that_fails_stops_no_other(
    workers: Workers, copied: Path, done: Path, sealed: Path, data: str, tmp_path: Path
) -> None:
    (tmp_path / "fit.yaml").write_text("channels: 8\nselector_width: 16\nepochs: 1\n")
    for folder in FOLDERS[:2]:
        shutil.rmtree(copied / folder)
    (copied / FOLDERS[0]).mkdir()
    (copied / FOLDERS[0] / "mine.txt").write_text("mine")
    grid = ["--seeds", "0-1", "--bootstraps", "0,2", "--spec", tmp_path / "fit.yaml"]
    code, said, errors = cli(sealed, "--data", data, "--out", copied, *grid)
    assert code == 2
    assert "3 of 4 done, 2 of them before" in said
    assert errors.count("error: ") == 1
    assert f"error: {copied / FOLDERS[0]}: expected" in errors
    assert pd.read_parquet(copied / "results.parquet")["folder"].tolist() == FOLDERS[1:]
    assert files(copied / FOLDERS[1]) == files(done / FOLDERS[1])
    many = four(sealed, data, copied, workers)
    assert [(folder, type(error)) for folder, error in many.failed.items()] == [(FOLDERS[0], RunError)]
    assert str(many.failed[FOLDERS[0]].__traceback__) == "None", "no frames, which hold tokens and model"


def test_a_full_disk_is_the_error_of_its_run(
    sealed: Path, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bddn.many.runner.fit_run", full)
    found = Runner().run(plan_of(sealed, data, tmp_path)[0])
    assert isinstance(found, RunError)
    assert "No space left" in str(found)


def test_a_cache_that_was_made_anew_meanwhile_is_refused(
    done: Path, sealed: Path, other: tuple[Path, str], data: str, tmp_path: Path
) -> None:
    (task, *_) = plan_of(sealed, data, tmp_path)
    moved = Task(**{**task.__dict__, "group": Group(**{**task.group.__dict__, "cache": str(other[0])})})
    found = Runner().run(moved)
    assert isinstance(found, MismatchError)
    assert "as when the runs were planned" in str(found)


def test_subjects_are_fitted_on_the_caches_that_have_their_images(
    sealed: Path, data: str, other: tuple[Path, str], tmp_path: Path
) -> None:
    """Of the same name, for two caches of one network: the folder of the subject tells them apart."""
    many = fit_many([sealed, other[0]], [data, other[1]], tmp_path, SPEC)
    assert many.table["folder"].tolist() == ["sealed/brain/seed0", "sealed/twin/seed0"]
    assert many.table["cache_digest"].tolist() == [Cache(sealed).digest, Cache(other[0]).digest]
    assert many.left_out == (f"{sealed} × {other[1]}", f"{other[0]} × {data}")


def test_told_to_stop_it_says_how_to_go_on(sealed: Path, data: str, tmp_path: Path) -> None:
    (tmp_path / "fit.yaml").write_text("channels: 8\nselector_width: 16\nepochs: 100000\n")
    arguments = [sealed, "--data", data, "--out", tmp_path / "many", "--spec", tmp_path / "fit.yaml", "--seeds", "0-3"]
    process = quick_commands.QuickCommand(["bddn", "fit-many", *arguments])
    while process.poll() is None and not list(tmp_path.glob("many/sealed/brain/.seed0*")):
        time.sleep(0.05)
    process.terminate()
    ended = process.ended()
    assert ended.returncode == 128 + signal.SIGTERM, ended.stderr
    assert f"Resume with: bddn fit-many {sealed}" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "many/results.csv").is_file()


def test_the_recipe_fits_all_caches_of_a_folder(sealed: Path, data: str, tmp_path: Path) -> None:
    (tmp_path / "caches").mkdir()
    (tmp_path / "caches" / sealed.name).symlink_to(sealed)
    (tmp_path / "fit.yaml").write_text("channels: 8\nselector_width: 16\nepochs: 1\n")
    recipe = Path(__file__).parent.parent / "pipelines/refit_many.py"
    arguments = [tmp_path / "caches", tmp_path / "out", data, "--seeds", "0-1", "--fit", tmp_path / "fit.yaml"]
    found = quick_commands.run(recipe, *arguments)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split("\n")[1].split()[:4] == ["sealed", "brain", "averaged", "all"]
    assert len(pd.read_parquet(tmp_path / "out/results.parquet")) == 2


def test_the_command_prints_mean_and_spread(copied: Path, sealed: Path, data: str, tmp_path: Path) -> None:
    (tmp_path / "fit.yaml").write_text("channels: 8\nselector_width: 16\nepochs: 1\n")
    options = ["--seeds", "0-1", "--bootstraps", "0,2", "--spec", tmp_path / "fit.yaml"]
    code, said, _ = cli(sealed, "--data", data, "--out", copied, *options)
    scores = pd.read_csv(copied / "results.csv").pivot_table("r2_test", "seed", "bootstrap")
    seeds, bootstraps = scores.mean(axis="columns").std(), scores.var(axis="columns").mean() ** 0.5
    assert code == 0
    assert f"{scores.to_numpy().mean():.3f} ± {seeds:.3f} (seeds) ± {bootstraps:.3f} (bootstraps)" in said
    assert f"runs: 4 of 4 done, 4 of them before; table: {copied / 'results.parquet'}" in said


def test_a_summary_tells_seeds_from_bootstraps() -> None:
    columns = ["cache", "subject", "seed", "bootstrap", "r2_test", "slope"]
    all_ = [("a", "s1", seed, None, r2, slope) for seed, r2, slope in ((0, 0.1, 0.5), (1, 0.2, 0.7), (2, 0.3, None))]
    drawn = [("a", "s1", seed, k, 0.1 + 0.2 * seed + 0.01 * k, 0.5) for seed in (0, 1) for k in (0, 1)]
    alone = [("b", "s1", 0, None, 0.4, None)]
    rows = pd.DataFrame([*all_, *drawn, *alone], columns=columns).astype({"slope": float, "bootstrap": "Int64"})
    found = summary(rows.assign(agreement=0.25, trials="averaged"))
    assert found["n"].tolist() == [3, 4, 1]
    expected = [[0.2, 0.1, np.nan], [0.205, 0.2 / 2**0.5, 0.01 / 2**0.5], [0.4, np.nan, np.nan]]
    np.testing.assert_allclose(found[["r2_test", "r2_test_sd_seeds", "r2_test_sd_bootstraps"]], expected)
    assert [(row["images"], row["R²"], row["slope"], row["agreement"]) for row in to_text(found)] == [
        ("all", "0.200 ± 0.100 (seeds)", "0.60 ± 0.14 (seeds)", "0.25"),
        ("bootstrap", "0.205 ± 0.141 (seeds) ± 0.007 (bootstraps)", "0.50 ± 0.00 (seeds) ± 0.00 (bootstraps)", "0.25"),
        ("all", "0.400", "-", "0.25"),
    ]


def test_scores_of_single_trials_and_of_averages_have_columns_of_their_own() -> None:
    columns = ["cache", "subject", "trials", "seed", "bootstrap", "r2_test", "slope"]
    rows = [("a", "s1", "averaged", 0, None, 0.3, 0.5), ("a", "s2", "single", 0, None, 0.1, 0.5)]
    found = to_text(summary(pd.DataFrame(rows, columns=columns).astype({"bootstrap": "Int64"})))
    kinds = "R² (averaged)", "R² (single)"
    assert [tuple(row[kind] for kind in kinds) for row in found] == [("0.300", ""), ("", "0.100")]
    assert all("R²" not in row for row in found)


def test_a_table_without_runs_has_its_columns() -> None:
    assert {"cache", "r2_test", "folder"} < set(table_of([]).columns)


@pytest.mark.parametrize(
    ("text", "expected"), [("0-4", (0, 1, 2, 3, 4)), ("0,2,7", (0, 2, 7)), ("3", (3,)), ("7-8, 0-1", (7, 8, 0, 1))]
)
def test_ranges(text: str, expected: tuple[int, ...]) -> None:
    assert numbers(text, "--seeds") == expected


@pytest.mark.parametrize("text", ["5-2", "", "0,", "0,0", "0-3,2", "a", "-1", "1-", "0-9999999999999", "1.5", "²"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"--seeds: expected numbers, or ranges from low to high.*Correct the option"):
        numbers(text, "--seeds")


def test_a_worker_keeps_to_the_tokens_it_holds() -> None:
    a, b, c = (Group(name, "d", "", "", ()) for name in "abc")
    waiting = {a: range(2), b: range(5), c: range(3)}
    assert next_group(b, waiting, [a]) == b
    assert next_group(None, waiting, [a]) == b, "the first that no one holds"
    assert next_group(None, waiting, [a, b, c]) == b, "where most wait"
    assert next_group(a, {a: [], c: range(1)}, [c]) == c
    assert next_group(a, {a: []}, []) is None


def test_threads_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BDDN_THREADS", "3")
    assert n_threads() == 3
    monkeypatch.setenv("BDDN_THREADS", "none")
    with pytest.raises(SpecError, match="BDDN_THREADS: expected a number of threads, at least 1; got 'none'"):
        n_threads()


def _stranger(root: Path) -> str:
    """A subject whose images are in no cache."""
    for path in (root / "stranger/subj01/training_split/training_images").iterdir():
        path.rename(path.with_name(path.name.replace("_nsd-", "_nsd-8")))
    return "planted:stranger"


BAD: dict[str, tuple[Callable[[list[str]], list[str]], list[str]]] = {
    # name: (how the command is spoilt, words of the message)
    "a range that goes down": (lambda c: [*c, "--seeds", "5-2"], ["--seeds", "'5-2'"]),
    "a bootstrap twice": (lambda c: [*c, "--bootstraps", "1,1"], ["--bootstraps", "'1,1'"]),
    "no such cache": (lambda c: ["none.zarr", *c], ["none.zarr", "no such folder"]),
    "no such subject": (lambda c: [*c, "--data", "planted:none"], ["none", "no such folder"]),
    "no such recipe": (lambda c: [*c, "--spec", "slow"], ["fit spec 'slow'"]),
    "a cache twice": (lambda c: ["a/sealed.zarr", *c], ["different names", "'a/sealed.zarr'", "sealed/brain/"]),
    "two caches of one name": (lambda c: ["b/sealed.zarr", *c], ["'a/sealed.zarr'", "'b/sealed.zarr'", "rename one"]),
    "a subject twice": (lambda c: [*c, "--data", "planted:./brain"], ["'planted:./brain'", "each given once"]),
    "a subject of no cache": (lambda c: [*c, "--data", "planted:stranger"], ["a/sealed.zarr", "lacks 48", "'nsd-8"]),
    "too few images": (lambda c: [*c, "--spec", "split.yaml"], ["split", "at least two images"]),
    "a layer that is not stored": (lambda c: [*c, "--spec", "layers.yaml"], ["'block_12'", "a/sealed.zarr"]),
    "a bootstrap in the settings": (lambda c: [*c, "--spec", "boot.yaml"], ["no 'bootstrap'", "--bootstraps of"]),
    "half of the images in the settings": (lambda c: [*c, "--spec", "half.yaml"], ["half: 0", "--halves of"]),
    "runs of other settings": (
        lambda c: [*c[:-1], "kept", "--spec", "fit.yaml", "--epochs", "2"],
        ["kept/sealed/brain/seed0-boot0", "fit.epochs 1 → 2", "another --out"],
    ),
    "runs of another cache": (
        lambda _: ["other.zarr", "--data", "planted:twin", "--out", "twins", "--spec", "fit.yaml"],
        ["twins/other/twin/seed0", "cache.digest"],
    ),
    "a damaged run": (
        lambda c: [*c[:-1], "damaged", "--spec", "fit.yaml"],
        ["damaged/sealed/brain/seed0-boot0", "a complete run", "Delete this folder"],
    ),
}


@pytest.fixture(scope="module")
def spoilt(
    done: Path, brain: Path, sealed: Path, other: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with much that does not belong together."""
    root = tmp_path_factory.mktemp("spoilt")
    for name in ("a", "b"):
        (root / name).mkdir()
        (root / name / "sealed.zarr").symlink_to(sealed)
    (root / "brain").symlink_to(brain)
    (root / "other.zarr").symlink_to(other[0])
    (root / "twin").symlink_to(other[1].partition(":")[2])
    shutil.copytree(brain, root / "stranger")
    _stranger(root)
    (root / "fit.yaml").write_text("channels: 8\nselector_width: 16\nepochs: 1\n")
    (root / "split.yaml").write_text("split: [90, 1, 1]\n")
    (root / "boot.yaml").write_text("bootstrap: 3\n")
    (root / "half.yaml").write_text("half: 0\n")
    (root / "layers.yaml").write_text("layers: [block_0, block_12]\n")
    shutil.copytree(done, root / "kept")
    shutil.copytree(done / FOLDERS[0], root / "twins/other/twin/seed0")
    shutil.copytree(done, root / "damaged")
    (root / "damaged" / FOLDERS[0] / "metrics.json").write_text("{")
    return root


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gives_one_message_before_any_fit(spoilt: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(spoilt)
    monkeypatch.setattr("bddn.many.runner.fit_run", lambda *_, **__: pytest.fail("a fit began"))
    before = {path: path.stat().st_mtime_ns for path in spoilt.rglob("*")}
    change, words = BAD[case]
    code, _, errors = cli(*change(["a/sealed.zarr", "--data", "planted:brain", "--out", "new"]))
    assert code == 2, errors
    assert errors.count("error: ") == 1
    for word in ["expected", "got", *words]:
        assert word in errors, errors
    assert {path: path.stat().st_mtime_ns for path in spoilt.rglob("*")} == before


def test_nothing_to_fit_is_refused(sealed: Path, data: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="at least one cache, dataset, seed and bootstrap"):
        fit_many([sealed], [data], tmp_path, SPEC, seeds=())


def test_waiting_ends_where_all_workers_are_gone_for_good(
    sealed: Path, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bddn.extraction.cluster.START_S", 1.0)
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as running,
        joined_workers(running.scheduler_address, "cpu") as work,
    ):
        running.scale(0)
        with pytest.raises(ClusterError, match="got none for"):
            four(sealed, data, tmp_path, work)
