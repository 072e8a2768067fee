"""The user's surroundings do not steer what needs none of them: same bytes and exit code, or a refusal in words.

Each test runs the command line as a process of its own, and puts several surroundings into one run where they do not
hide each other: a run costs seconds.
"""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
import typer
import yaml

import quick_commands
from bddn.cli.shared import STOPPING, stops_cleanly
from bddn.encoder import checkpoint
from bddn.errors import BddnError
from bddn.extraction import extract
from bddn.planted.subject import Planted
from bddn.run import fit_run, read_run
from bddn.spec import CacheSpec, FitSpec, ModuleSpec

ROOT = Path(__file__).parent.parent
BDDN = [sys.executable, "-m", "bddn"]
ODD = os.fsdecode(b"caf\xe9 $5$ \xe6\x97\xa5")  # Latin-1, mathematics to matplotlib, and Japanese in UTF-8
DRAWN = (("--dpi", "40"), ("--dpi", "40", "--columns", "layer_argmax", "--format", "svg,pdf"))
"""Options of `bddn maps`: all usual maps, and one in the other formats, which take most of the time."""
PLOTS = "font.size: 20\nimage.lut: 16\nsavefig.bbox: tight\nsavefig.dpi: 33\naxes.facecolor: black\ntext.usetex: True\n"
"""What a user may have set for plots of their own."""


def environment(**changes: str | None) -> dict[str, str]:
    """The environment of the tests, with some variables changed or left out."""
    whole = {**os.environ, "PYTHONPATH": str(ROOT), **changes}
    return {name: value for name, value in whole.items() if value is not None}


def bddn(
    *arguments: object,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: int | IO[Any] = subprocess.PIPE,
    umask: int = -1,
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [*BDDN, *(os.fsencode(str(each)) for each in arguments)],
        check=False,
        env=env or environment(),
        cwd=cwd,
        stdout=stdout,
        stderr=subprocess.PIPE,
        umask=umask,
        timeout=300,
    )


def contents(folder: Path, but: tuple[str, ...] = ("metrics.json",)) -> dict[str, bytes]:
    """The files of a folder. A run's metrics.json tells how long it took, and is left out."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in but
    }


@pytest.fixture(scope="module")
def fitted(sealed: Path, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with maps and predictions, made by the command line in plain surroundings."""
    out = tmp_path_factory.mktemp("plain") / "run"
    fit = ("fit", sealed, "--data", f"planted:{brain}", "--out", out, "--spec", "fast", "--epochs", "1", "--device")
    for arguments in ((*fit, "cpu"), ("maps", out, *DRAWN[0]), ("maps", out, *DRAWN[1])):
        done = quick_commands.run("bddn", *arguments)
        assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def run(fitted: Path, tmp_path: Path) -> Path:
    """A copy of the run without its maps."""
    return Path(shutil.copytree(fitted, tmp_path / "run", ignore=shutil.ignore_patterns("maps")))


@pytest.fixture
def planted_yaml(spec: CacheSpec, tmp_path: Path) -> Path:
    path = tmp_path / "planted.yaml"
    path.write_text(yaml.safe_dump(spec.to_dict()))
    return path


@pytest.mark.parametrize(
    ("drawn", "changes"),
    [
        (
            DRAWN[0],
            {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "HOME": None, "PYTHONIOENCODING": "gbk"},
        ),
        (DRAWN[1], {"MPLBACKEND": "none of these", "HOME": "/proc/none", "PYTHONIOENCODING": "latin-1"}),
    ],
    ids=["usual maps", "other formats"],
)
def test_pictures_are_the_same_in_any_style(
    run: Path, fitted: Path, tmp_path: Path, drawn: tuple[str, ...], changes: dict[str, str | None]
) -> None:
    """A notebook's backend, a style in the working folder and in MATPLOTLIBRC, no home, a pipe without a reader."""
    (tmp_path / "matplotlibrc").write_text(PLOTS)
    env = environment(
        MATPLOTLIBRC=str(tmp_path),
        MPLCONFIGDIR="/proc/none",
        TMPDIR="/proc/none",
        LANG="de_DE",
        TZ="Asia/Tokyo",
        **changes,
    )
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = bddn("maps", run, *drawn, env=env, cwd=tmp_path, stdout=writing)
    finally:
        os.close(writing)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"Broken pipe" not in done.stderr
    is_usual = drawn == DRAWN[0]
    expected = {
        name: data for name, data in contents(fitted / "maps").items() if name.startswith("layer_argmax") != is_usual
    }
    assert contents(run / "maps") == expected | {"methods.md": (fitted / "maps/methods.md").read_bytes()}


def test_pictures_are_the_same_whatever_the_calling_script_has_set(run: Path, fitted: Path) -> None:
    import matplotlib as mpl

    from bddn.figures.single import draw
    from bddn.maps.kinds import run_maps

    found = read_run(run)
    wanted: dict[Any, Any] = {
        "font.size": 20.0,
        "text.usetex": True,
        "savefig.bbox": "tight",
        "axes.facecolor": "black",
    }
    with mpl.rc_context(wanted):
        kinds = run_maps(found.voxels, found.layers, "hue")
        draw(found.voxels, kinds, run / "maps", found.metrics["title"], dpi=40)
        assert {name: mpl.rcParams[name] for name in wanted} == wanted
    for path in (run / "maps").glob("*.png"):
        assert path.read_bytes() == (fitted / "maps" / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    "changes",
    [
        {
            "PYTHONIOENCODING": "euc-jp",
            "PYTHONOPTIMIZE": "1",
            "PYTHONWARNINGS": "error",
            "PYTHONHASHSEED": "1",
            "OMP_NUM_THREADS": "7",
            "MKL_NUM_THREADS": "3",
            "CUDA_VISIBLE_DEVICES": "",
            "TMPDIR": "/proc/none",
        },
        {
            "LC_ALL": "C",
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
            "HOME": None,
            "TERM": "dumb",
            "COLUMNS": "3",
            "ATEN_CPU_CAPABILITY": "default",
            "MKL_CBWR": "COMPATIBLE",
        },
    ],
    ids=["Python and threads", "locale and processor"],
)
def test_a_fit_is_the_same_in_any_environment(
    sealed: Path, brain: Path, fitted: Path, tmp_path: Path, changes: dict[str, str | None]
) -> None:
    out = tmp_path / "run"
    fit = ("fit", sealed, "--data", f"planted:{brain}", "--out", out, "--spec", "fast", "--epochs", "1", "--device")
    done = bddn(*fit, "cpu", env=environment(**changes), umask=0o077)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert f"run: {out}".encode() in done.stdout
    whole = {name: data for name, data in contents(fitted).items() if not name.startswith("maps/")}
    assert contents(out) == whole
    assert (out / "run.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing(run: Path, closed: str) -> None:
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *BDDN, "report", str(run), "--out", str(run / "page.html")]
    done = subprocess.run(command, check=False, env=environment(), capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (run / "page.html").read_text(encoding="utf-8").rstrip().endswith("</html>")


def test_a_full_disk_behind_standard_output_is_told_after_the_work(run: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = bddn("report", run, "--out", run / "page.html", stdout=full)
    assert done.returncode == 2
    assert b"standard output" in done.stderr
    assert b"No space left on device" in done.stderr
    assert (run / "page.html").stat().st_size > 0


def test_a_stream_that_does_not_block_is_waited_for(run: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with os.fdopen(reading, "rb") as pipe:
        process = subprocess.Popen([*BDDN, "figure", "--help"], env=environment(), stdout=writing)
        os.close(writing)
        said = pipe.read()
    assert process.wait(60) == 0
    assert b"figure" in said


def test_a_home_is_meant_by_a_tilde_and_any_name_will_do(
    brain: Path, fitted: Path, planted_yaml: Path, tmp_path: Path, spec: CacheSpec
) -> None:
    """Where no shell expands it: after a colon, an equals sign, in quotes, and in a YAML file."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    shutil.copytree(brain, home / ODD)
    (home / "spec.yaml").write_text(yaml.safe_dump(spec.to_dict() | {"weights": {"folder": "~/weights"}}))
    shutil.copytree(brain / "backbone", home / "weights")
    env, data = environment(HOME=str(home)), f"planted:~/{ODD}"
    picture = next((brain / "subj01/training_split/training_images").iterdir())
    shutil.copy(picture, home / "日 $1$ µ.png")
    for arguments in (
        ("extract", "~/spec.yaml", "--data", data, f"--out=~/{ODD}.zarr"),
        ("fit", f"~/{ODD}.zarr", "--data", data, f"--out=~/run {ODD}", "--spec", "fast", "--epochs", "1"),
        ("maps", f"~/run {ODD}", "--dpi", "40", "--columns", "r2_test"),
        ("report", f"~/run {ODD}"),
        ("predict", f"~/run {ODD}", "~/日 $1$ µ.png", "--spec", "~/spec.yaml", "--out=~/predicted"),
    ):
        done = quick_commands.run("bddn", *arguments, env=env, cwd=elsewhere)
        assert done.returncode == 0, done.stderr
    assert list(elsewhere.iterdir()) == []
    made = home / f"run {ODD}"
    assert (made / "voxels.parquet").read_bytes() == (fitted / "voxels.parquet").read_bytes()
    assert (made / "report.html").is_file()
    assert "caf\\xe9" in json.loads((made / "metrics.json").read_text(encoding="utf-8"))["title"]
    assert (home / "predicted/responses.npy").is_file()


def test_a_tilde_that_nobody_knows_is_refused(sealed: Path, brain: Path, tmp_path: Path) -> None:
    done = bddn("maps", "~no_such_user/run", cwd=tmp_path)
    assert done.returncode == 2
    assert b"'~no_such_user', which has no home folder on this machine" in done.stderr
    with pytest.raises(BddnError, match="starts with '~'"):
        fit_run(sealed, Planted(brain), Path("~/run"), FitSpec.recipe("fast"))


def test_a_name_that_begins_with_a_tilde_is_a_name_where_it_is_there(run: Path, tmp_path: Path) -> None:
    run.rename(tmp_path / "~$run")
    assert quick_commands.run("bddn", "report", "~$run", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("gone", [True, False])
def test_what_cannot_work_is_refused_at_once(tmp_path: Path, gone: bool) -> None:
    """A working directory that was deleted, and a Python without docstrings, which transformers reads."""
    folder = tmp_path / "gone"
    folder.mkdir()
    script = 'rmdir "$0"; exec "$@"' if gone else 'exec "$@"'
    env = environment() if gone else environment(PYTHONOPTIMIZE="2")
    command = ["sh", "-c", script, str(folder), *BDDN, "figure", "?"]
    done = subprocess.run(command, check=False, cwd=folder, env=env, capture_output=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert (b"working directory" if gone else b"docstrings") in done.stderr
    assert b"Traceback" not in done.stderr


def test_numbers_are_kept_where_nothing_can_be_drawn(
    run: Path, brain: Path, planted_yaml: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken/matplotlib").mkdir(parents=True)
    (tmp_path / "broken/matplotlib/__init__.py").write_text("raise ImportError('broken')\n")
    picture = next((brain / "subj01/training_split/training_images").iterdir())
    predict = ("predict", run, picture, "--spec", planted_yaml, "--device", "cpu")
    broken = environment(PYTHONPATH=f"{tmp_path / 'broken'}:{ROOT}")
    assert bddn(*predict, env=broken).returncode != 0
    responses = np.load(run / "predicted/responses.npy", allow_pickle=False)
    assert responses.shape == (1, len(read_run(run).voxels))
    before = {path: path.stat().st_mtime_ns for path in (run / "predicted/maps").iterdir()}
    again = quick_commands.run("bddn", *predict)
    assert again.returncode == 0, again.stderr
    assert "predicted before, kept" in again.stdout
    assert "figure: " in again.stdout
    assert (run / "predicted/responses.png").is_file()
    assert before == {path: path.stat().st_mtime_ns for path in (run / "predicted/maps").iterdir()}


def test_workers_need_nothing_of_the_working_folder_and_the_home(spec: CacheSpec, brain: Path, tmp_path: Path) -> None:
    """With a network that needs no import of transformers, which would cost each process seconds."""
    own = ModuleSpec(module="slow_nets:build", layers=("cut", "blocks.*"))
    spec = spec.model_copy(update={"backbone": own, "weights": None, "global_token": "mean"})
    (tmp_path / "own.yaml").write_text(spec.model_dump_json())
    nowhere = dict.fromkeys(("HOME", "TMPDIR", "DASK_TEMPORARY_DIRECTORY"), "/proc/none")
    env = environment(**nowhere, PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}")
    place = ("--data", f"planted:{brain}", "--out", tmp_path / "c.zarr")
    done = bddn("extract", tmp_path / "own.yaml", *place, "--workers", "2", env=env, cwd=Path("/proc"))
    assert done.returncode == 0, done.stderr.decode()
    extract(spec, Planted(brain), tmp_path / "here.zarr")
    assert contents(tmp_path / "c.zarr") == contents(tmp_path / "here.zarr")


def test_the_import_leaves_the_process_alone() -> None:
    code = """
import os, random, signal
import numpy as np, torch
def state():
    return (dict(os.environ), random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist(),
        torch.get_num_threads(), torch.get_default_dtype(), signal.getsignal(signal.SIGINT))
before = state()
import bddn, bddn.run, bddn.extraction, bddn.predict, bddn.many, bddn.encoder.checkpoint, bddn.cli, bddn.cli.process
after = state()
assert before == after, [(a, b) for a, b in zip(before, after) if a != b]
"""
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env=environment(THP_MEM_ALLOC_ENABLE=None, OMP_NUM_THREADS="3"),
        timeout=120,
    )


def threads_of_a_new_thread() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def test_what_the_caller_has_set_in_torch_changes_nothing(
    brain: Path, spec: CacheSpec, sealed: Path, fitted: Path, tmp_path: Path
) -> None:
    """Default type and device, inference mode, autocast, fast products, no small numbers, errors of numpy."""
    kept = torch.get_default_dtype(), torch.get_float32_matmul_precision(), torch.get_num_threads()
    random = torch.get_rng_state()
    try:
        torch.set_num_threads(3)
        torch.set_default_dtype(torch.float64)
        torch.set_float32_matmul_precision("medium")
        torch.set_flush_denormal(True)
        torch.use_deterministic_algorithms(True, warn_only=True)
        with (
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16),
            torch.device("meta"),
            np.errstate(all="raise"),
        ):
            extract(spec, Planted(brain), tmp_path / "c.zarr")
            recipe = FitSpec.recipe("fast").model_copy(update={"epochs": 1})
            found, _ = fit_run(tmp_path / "c.zarr", Planted(brain), tmp_path / "run", recipe, device="cpu")
            model = checkpoint.load(found.folder / "encoder.safetensors")
            assert torch.is_inference_mode_enabled()
        assert model.bias.dtype == torch.float32
        assert torch.get_default_dtype() == torch.float64
        assert torch.get_float32_matmul_precision() == "medium"
        assert float(torch.tensor(1e-40, dtype=torch.float32) * 0.5) == 0.0
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert threads_of_a_new_thread() == torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(kept[2])
        torch.set_default_dtype(kept[0])
        torch.set_float32_matmul_precision(kept[1])
        torch.set_flush_denormal(False)
        torch.use_deterministic_algorithms(False)
    assert torch.equal(torch.get_rng_state(), random)
    assert contents(tmp_path / "c.zarr") == contents(sealed)
    whole = {name: data for name, data in contents(fitted).items() if not name.startswith("maps/")}
    assert contents(tmp_path / "run") == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_garbage_is_collected_is_not_lost(number: signal.Signals) -> None:
    """Python drops the exception of its handler there, where dask's own callback makes it frequent."""

    def strike(phase: str, _: object) -> None:
        if phase == "stop":
            gc.callbacks.remove(strike)
            signal.raise_signal(number)

    def work() -> None:
        with stops_cleanly():
            gc.collect()
            time.sleep(10)

    gc.callbacks.append(strike)
    with pytest.raises(typer.Exit) as stopped:
        work()
    assert stopped.value.exit_code == 128 + number


def test_a_hang_up_while_garbage_is_collected_is_not_lost(tmp_path: Path) -> None:
    code = """
import gc, signal, sys, time
import bddn.cli
from bddn.cli.process import main
def strike(phase, about):
    gc.callbacks.remove(strike)
    signal.raise_signal(signal.SIGHUP)
def app(prog_name):
    gc.callbacks.append(strike)
    gc.collect()
    time.sleep(30)
bddn.cli.app = app
main()
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, env=environment(), capture_output=True, timeout=60)
    assert done.returncode == 128 + signal.SIGHUP, done.stderr
    assert done.stderr == b""


def test_signals_that_are_ignored_stay_so_and_threads_can_run_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {each: signal.getsignal(each) for each in STOPPING}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stops_cleanly():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != before[signal.SIGTERM]
    finally:
        signal.signal(signal.SIGINT, before[signal.SIGINT])
    failed: list[BaseException] = []

    def in_a_thread() -> None:
        try:
            with stops_cleanly():
                pass
        except ValueError as error:
            failed.append(error)

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert failed == []
    assert {each: signal.getsignal(each) for each in STOPPING} == before
