"""Full disks, limits, signals and permissions: one message that names the place, and nothing is left behind."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import quick_commands
from bddn.cli import app
from bddn.files.filekind import UNREADABLE
from bddn.run import Run
from bddn.spec import CacheSpec

ROOT = Path(__file__).parent.parent
BDDN = [sys.executable, "-m", "bddn"]
FIT = ("--epochs", "1", "--device", "cpu")
LIMIT_KIB = 2  # of any file that a process writes


def _in_shell(script: str, *words: object, pass_fds: tuple[int, ...] = ()) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-c", f'{script} "$@"', "bash", *BDDN, *map(str, words)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        pass_fds=pass_fds,
        timeout=300,
    )


@pytest.fixture
def run(quick_run: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(quick_run.folder, tmp_path / "run"))


@pytest.mark.parametrize("command", ["plant", "fit", "predict", "export", "report", "maps"])
def test_a_full_disk_is_told_with_the_place_and_leaves_nothing(
    run: Path, sealed: Path, brain: Path, spec: CacheSpec, tmp_path: Path, command: str
) -> None:
    """A limit of the size of files stands for it. Libraries tell it in their own words, or without the path."""
    pictures = brain / "subj01/training_split/training_images"
    (tmp_path / "spec.yaml").write_text(spec.model_dump_json())
    out, network = tmp_path / "out", ("--spec", tmp_path / "spec.yaml")
    words: dict[str, tuple[object, ...]] = {
        "plant": (out, "--images", 20, "--radius", 0.1, "--layers", 2),
        "fit": (sealed, "--data", f"planted:{brain}", "--out", out, *FIT),
        "predict": (run, pictures, *network, "--out", out),
        "export": (run, *network, "--no-weights", "--out", out),
        "report": (run, "--out", out / "page.html"),
        "maps": (run, "--dpi", 40, "--columns", "depth"),
    }
    before = sorted(tmp_path.rglob("*"))
    done = _in_shell(f"ulimit -f {LIMIT_KIB}; exec", command, *words[command])
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    place = {"maps": run / "maps", "fit": tmp_path / ".out-"}.get(command, out)
    assert last.startswith(f"error: {place}"), done.stderr
    assert "File too large" in last or "No space left" in last
    left = [path for path in sorted(tmp_path.rglob("*")) if path not in before]
    assert all(path.is_dir() for path in left), left


def test_a_thread_that_cannot_be_started_is_told(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a container or `ulimit -u` limits threads, or `ulimit -v` their memory."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def read(*_: Any) -> None:
        threading.Thread(target=print).start()

    monkeypatch.setattr("bddn.run.read_run", read)
    monkeypatch.setattr(threading.Thread, "start", start)
    done = CliRunner().invoke(app, ["maps", str(run)])
    assert done.exit_code == 2
    assert "error: maps: expected threads that can be started" in done.output
    assert "BDDN_THREADS=1" in done.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_told_to_stop_removes_what_it_had_begun(
    run: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """As by 'scancel', 'docker stop' or the end of a connection, in commands that cannot be resumed."""
    out = tmp_path / "films"
    out.mkdir()
    words = [*BDDN, "film", str(run), "--out", str(out / "film.gif")]
    process = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(ROOT)})
    ends = time.monotonic() + 120
    while not list(out.glob(".film-*")):  # the unfinished film
        assert process.poll() is None
        assert time.monotonic() < ends
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert list(out.iterdir()) == []


def test_settings_may_come_from_a_pipe_and_a_file_may_have_any_name(sealed: Path, brain: Path, tmp_path: Path) -> None:
    """As `--spec <(command)`, which is a path below /dev/fd."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as file:
        file.write("epochs: nothing\n")
    words = ("fit", sealed, "--data", f"planted:{brain}", "--out", tmp_path / "run", "--spec")
    done = _in_shell("exec", *words, f"/dev/fd/{reading}", pass_fds=(reading,))
    os.close(reading)
    assert done.returncode == 2
    assert f"error: /dev/fd/{reading}: expected 'epochs' to be a valid integer" in done.stderr
    (tmp_path / "network").write_text("layers: 3\n")
    for place in ("/dev/null", str(tmp_path / "network")):
        shown = CliRunner().invoke(app, ["backbones", "show", place])
        assert shown.exit_code == 2
        assert shown.output.startswith(f"error: {place}"), shown.output
    assert "a recipe" in CliRunner().invoke(app, [*map(str, words), str(tmp_path)]).output


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv, to give up rights of an administrator")
def test_a_file_that_may_not_be_read_is_told_as_such(run: Path, tmp_path: Path) -> None:
    (run / "voxels.parquet").chmod(0)
    rights = "-dac_override,-dac_read_search"
    less = f"exec setpriv --bounding-set={rights} --inh-caps={rights}" if os.geteuid() == 0 else "exec"
    done = _in_shell(less, "report", run, "--out", tmp_path / "page.html")
    assert done.returncode == 2
    assert f"voxels.parquet that is {UNREADABLE.name}" in done.stderr, done.stderr
    assert UNREADABLE.fix in done.stderr
    (run / "voxels.parquet").chmod(0o600)
    (run / "audit").mkdir()
    (run / "score").mkdir(mode=0o500)
    score = ("score", run, "--cache", "none.zarr", "--data", "planted:none")
    assert "none.zarr" in _in_shell(less, *score).stderr  # a cache that is not there is told first


def test_a_command_that_a_message_gives_can_be_pasted(run: Path, tmp_path: Path) -> None:
    odd = run.rename(tmp_path / "run #1 of 'me'")
    done = quick_commands.run("bddn", "score", odd)
    assert done.returncode == 2
    assert f"""bddn score '{tmp_path}/run #1 of '"'"'me'"'"'' --cache""" in done.stderr
