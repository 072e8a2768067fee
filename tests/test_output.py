"""Where results go: every --out either works, or is refused by its name before anything is read."""

import contextlib
import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from bddn.cli import app
from bddn.errors import BddnError, OutputError, RunError
from bddn.files.output import PUBLISHING, check_file, check_folder, is_vacant, new_folder
from bddn.files.paths import is_left_by_system
from bddn.planted.subject import Planted
from bddn.run import Run, fit_run, read_run
from bddn.run.folder import voxel_table
from bddn.spec import CacheSpec, FitSpec

LAST = "run.json"
FIT = FitSpec(epochs=1, channels=4, selector_width=8, code_frequencies=4, batch_size=16)
SCRIPTS = ("лауф", "تشغيل", "実行 1", "🧠", "-out", "a'b\"c", "con.")


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def times(folder: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


@contextlib.contextmanager
def mounted(here: Path) -> Iterator[Path]:
    """A folder that is a mount point, as `docker -v` makes one."""
    (here / "volume").mkdir()
    (here / "mount").mkdir()
    mount = ["mount", "--bind", str(here / "volume"), str(here / "mount")]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a folder")
    try:
        yield here / "mount"
    finally:
        subprocess.run(["umount", "--lazy", here / "mount"], check=True)


def _there(here: Path) -> Path:
    (here / "run").mkdir()
    return here / "run"


def _link(here: Path) -> Path:
    (here / "disk").mkdir()
    (here / "run").symlink_to("disk")
    return here / "run"


def _dangling(here: Path) -> Path:
    (here / "run").symlink_to("disk/run")
    return here / "run"


def _working(here: Path) -> Path:
    (here / "empty").mkdir()
    os.chdir(here / "empty")
    return Path()


def _parent(here: Path) -> Path:
    (here / "empty/below").mkdir(parents=True)
    os.chdir(here / "empty/below")
    shutil.rmtree(here / "empty/below")
    (here / "empty").mkdir(exist_ok=True)
    os.chdir(here / "empty")
    return Path("../empty")


def _volume(here: Path) -> Path:
    (here / "run/lost+found").mkdir(parents=True)
    (here / "run/Thumbs.db").touch()
    return here / "run"


PLACES: dict[str, Callable[[Path], Path]] = {
    "new": lambda here: here / "deep/run",
    "trailing slash": lambda here: Path(f"{here}/run/"),
    "empty folder": _there,
    "link to a folder": _link,
    "link to nothing yet": _dangling,
    "working directory": _working,
    "the parent's": _parent,
    "root of a disk": _volume,
    "longest name": lambda here: here / ("n" * 255),
    "longest name in umlauts": lambda here: here / ("ü" * 127),
    **{name: lambda here, name=name: here / name for name in SCRIPTS},  # type: ignore[misc]
}


@pytest.mark.parametrize("place", PLACES)
def test_a_new_folder_appears_whole_wherever_it_is_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = PLACES[place](tmp_path)
    links = {p: p.readlink() for p in tmp_path.rglob("*") if p.is_symlink()}
    assert is_vacant(path, LAST)
    before = times(tmp_path)
    check_folder(path)
    assert times(tmp_path) == before
    with new_folder(path, LAST) as aside:
        (aside / LAST).write_text("{}")
        (aside / "maps").mkdir()
        (aside / "maps/a.txt").write_text("a")
        assert not (path / LAST).exists()
    assert [name for name in tree(path) if not is_left_by_system(name)] == ["maps", "maps/a.txt", LAST]
    assert not is_vacant(path, LAST)
    assert {p: p.readlink() for p in tmp_path.rglob("*") if p.is_symlink()} == links
    assert not [name for name in tree(tmp_path) if Path(name).name.startswith(".")]


def test_all_files_have_the_permissions_that_the_user_set(quick_run: Run, brain: Path, tmp_path: Path) -> None:
    """Also those of libraries that make files for their owner alone: others of a group could not use the result."""
    (tmp_path / "like").touch()
    files = [path for folder in (quick_run.folder, brain) for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".safetensors", ".json", ".parquet"}
    usual = (tmp_path / "like").stat().st_mode
    assert [path for path in files if path.stat().st_mode != usual] == []


@pytest.mark.parametrize("place", ["new", "empty folder", "link to a folder", "working directory"])
def test_a_new_folder_that_failed_does_not_appear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = PLACES[place](tmp_path)
    with pytest.raises(KeyboardInterrupt), new_folder(path, LAST) as aside:  # noqa: PT012
        (aside / "table.csv").write_text("a")
        raise KeyboardInterrupt
    assert is_vacant(path, LAST)
    assert not [name for name in tree(tmp_path) if Path(name).name.startswith(".")]


@pytest.mark.parametrize("place", ["new", "empty folder"])
def test_what_another_put_there_meanwhile_is_kept(tmp_path: Path, place: str) -> None:
    path = PLACES[place](tmp_path)
    with pytest.raises(FileExistsError), new_folder(path, LAST) as mine:  # noqa: PT012
        (mine / LAST).write_text("mine")
        with new_folder(path, LAST) as other:
            (other / LAST).write_text("other's")
            (other / "maps").mkdir()
    assert (path / LAST).read_text() == "other's"
    assert tree(path) == ["maps", LAST]


class Killed(BaseException):
    """The end of a process."""


@pytest.mark.parametrize("at", range(6))
def test_a_publication_that_was_killed_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """The renames into a folder that was there already: one that is killed between two of them loses nothing."""
    path, n = _there(tmp_path), 0
    rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        nonlocal n
        n += 1
        if n > at:
            raise Killed
        return rename(self, target)

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(Path, "rename", killed)
        patch.setattr("tempfile.TemporaryDirectory.cleanup", lambda self: self._finalizer.detach())
        with new_folder(path, LAST) as aside:
            for name in ("a", "b", LAST, "z"):
                (aside / name).write_text(name)
    whole = (path / LAST).exists()
    assert whole == (at >= 5)
    vacant = is_vacant(path, LAST)
    assert vacant == (at == 0)
    if not vacant:
        assert {p.name: p.read_text() for p in path.iterdir() if not p.name.startswith(".")} == {
            name: name for name in ("a", "b", LAST, "z")
        }
        assert not (path / PUBLISHING).exists()


def _file(here: Path) -> Path:
    (here / "notes.txt").write_text("mine")
    return here / "notes.txt"


def _loop(here: Path) -> Path:
    (here / "loop").symlink_to("loop")
    return here / "loop"


def _occupied(here: Path) -> Path:
    (here / "mine").mkdir()
    (here / "mine/notes.txt").write_text("mine")
    return here / "mine"


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a file": (_file, "Not a directory"),
    "below a file": (lambda here: _file(here) / "a/run", "Not a directory"),
    "a name too long": (lambda here: here / ("n" * 256), "File name too long"),
    "a name too long in a folder to be": (lambda here: here / "a" / ("n" * 256) / "run", "File name too long"),
    "a link to itself": (_loop, "symbolic links"),
    "a folder that is not empty": (_occupied, "not empty"),
}
COMMANDS = {
    "fit": ("fit", "none.zarr", "--data", "planted:none", "--out"),
    "fit-many": ("fit-many", "none.zarr", "--data", "planted:none", "--out"),
    "predict": ("predict", "RUN", "none.png", "--out"),
    "plant": ("plant",),
    "figure": ("figure", "layers", "none", "--out"),
    "extract": ("extract", "demo", "--data", "planted:none", "--out"),
}
FILES = {
    "film": ("film", "RUN", "--out"),
    "report": ("report", "none", "--out"),
    "receipt": ("cache", "receipt", "none.zarr", "--data", "planted:none", "--out"),
}


def _refused(here: Path, command: tuple[str, ...], out: Path, fitted: Path, words: str) -> None:
    before = times(here)
    code, said = run(*(fitted if part == "RUN" else part for part in command), out)
    assert code == 2
    assert said.count("error: ") == 1
    named = f"{out}: expected" in said if command == ("plant",) else f"error: --out {out}: expected" in said
    assert named or (words == "not empty" and f"error: {out}: expected" in said), said
    assert words in said or command == ("plant",) or "other files" in said, said
    assert times(here) == before


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_cannot_be_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_run: Run, command: str, bad: str
) -> None:
    """Caches, images and data that are named do not exist, and are not missed."""
    monkeypatch.chdir(tmp_path)
    make, words = BAD[bad]
    if bad == "a folder that is not empty" and command in {"fit-many", "figure"}:
        pytest.skip("its results may lie beside other things")
    _refused(tmp_path, COMMANDS[command], make(tmp_path), quick_run.folder, words)


@pytest.mark.parametrize("command", FILES)
def test_a_file_that_cannot_be_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_run: Run, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.gif").mkdir()
    os.mkfifo(tmp_path / "pipe.gif")
    cases = {
        tmp_path / "folder.gif": "a folder",
        tmp_path / "pipe.gif": "a device or a pipe",
        _file(tmp_path) / "a.gif": "Not a directory",
        tmp_path / f"{'n' * 252}.gif": "File name too long",
    }
    for out, words in cases.items():
        _refused(tmp_path, FILES[command], out, quick_run.folder, words)


def test_a_place_where_one_may_not_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mkdir(path: str, *args: object, **keywords: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    monkeypatch.setattr(os, "mkdir", mkdir)
    for arguments in (COMMANDS["fit"], COMMANDS["extract"], FILES["report"]):
        code, said = run(*arguments, tmp_path / "run")
        assert (code, f"error: --out {tmp_path / 'run'}: expected" in said) == (2, True)
        assert "Read-only file system" in said


def test_a_link_is_followed_and_kept_where_a_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "page.html").symlink_to("there.html")
    assert check_file(tmp_path / "page.html") == tmp_path / "there.html"
    assert tree(tmp_path) == ["page.html"]


@pytest.fixture
def data(brain: Path) -> Planted:
    return Planted(brain)


@pytest.mark.parametrize("place", ["empty folder", "link to a folder", "working directory", "root of a disk"])
def test_fits_go_where_a_folder_is_already(
    sealed: Path, data: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    out = PLACES[place](tmp_path)
    found, fresh = fit_run(sealed, data, out, FIT)
    assert fresh
    again, fresh = fit_run(sealed, data, out, FIT)
    assert not fresh
    assert again.metrics == found.metrics
    with pytest.raises(RunError, match=r"fit\.seed 0 → 1"):
        fit_run(sealed, data, out, FIT.model_copy(update={"seed": 1}))


def test_every_stage_goes_into_mount_points(
    sealed: Path, brain: Path, tmp_path: Path, quick_run: Run, spec: CacheSpec
) -> None:
    """What `docker -v volume:/out` gives: the folder cannot be renamed, removed or replaced."""
    picture = next((brain / "subj01/training_split/training_images").iterdir())
    with mounted(tmp_path) as out:
        steps: list[tuple[object, ...]] = [
            ("plant", out, "--images", 20, "--radius", 0.1, "--layers", 2),
            ("fit", sealed, "--data", f"planted:{brain}", "--epochs", 1, "--out", out),
            ("predict", quick_run.folder, picture, "--weights", brain / "backbone", "--out", out),
        ]
        file = tmp_path / "spec.yaml"
        file.write_text(json.dumps(spec.to_dict()))
        steps[2] = (*steps[2], "--spec", file)
        steps.append(("extract", file, "--data", f"planted:{brain}", "--out", out))
        for step in steps:
            code, said = run(*step)
            assert code == 0, said
            assert any(out.iterdir())
            code, said = run(*step)
            assert code == 0, said
            assert "kept" in said or "reused" in said or step[0] == "plant"
            for path in out.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_the_state_of_a_fit_lies_in_a_folder_that_is_there_already(
    sealed: Path, data: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parent may be a container's own disk, which is gone after a restart; and it is gone on with."""
    out = _there(tmp_path)

    def die(*_: object) -> None:
        raise Killed

    spec = FIT.model_copy(update={"polish": True})
    with monkeypatch.context() as patch:
        patch.setattr("bddn.encoder.fit._polish", die)
        with pytest.raises(Killed):
            fit_run(sealed, data, out, spec)
    assert [Path(name).name for name in tree(tmp_path)][-1] == "state.safetensors"
    assert is_vacant(out, LAST)
    with monkeypatch.context() as patch:
        patch.setattr("bddn.encoder.fit._Training._step", die)  # no step is left to do
        _, fresh = fit_run(sealed, data, out, spec)
    assert fresh
    assert not [name for name in tree(out) if name.startswith(".")]


def _meanwhile(monkeypatch: pytest.MonkeyPatch, other: Callable[[], object]) -> None:
    """Let another process begin and finish something between the last step of a fit and the writing of its run."""

    def late(*args: Any) -> pd.DataFrame:
        monkeypatch.setattr("bddn.run.fitting.voxel_table", voxel_table)
        other()
        return voxel_table(*args)

    monkeypatch.setattr("bddn.run.fitting.voxel_table", late)


def test_of_two_equal_fits_at_once_the_slower_keeps_the_other(
    sealed: Path, brain: Path, data: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    _meanwhile(monkeypatch, lambda: fit_run(sealed, data, out, FitSpec(epochs=1)))
    code, said = run("fit", sealed, "--data", f"planted:{brain}", "--spec", "paper", "--epochs", 1, "--out", out)
    assert code == 0, said
    assert "fitted meanwhile by another process with the same cache, data and spec, kept" in said
    assert tree(tmp_path)[0] == "run"
    assert not [name for name in tree(tmp_path) if name.startswith(".")]
    read_run(out)


def test_of_two_different_fits_at_once_the_slower_is_told_what_is_there(
    sealed: Path, data: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = FIT.model_copy(update={"seed": 3})
    _meanwhile(monkeypatch, lambda: fit_run(sealed, data, tmp_path / "run", other))
    with pytest.raises(RunError, match=r"fit\.seed 3 → 0"):
        fit_run(sealed, data, tmp_path / "run", FIT)
    assert read_run(tmp_path / "run").metrics["seed"] == 3
    assert list(tmp_path.glob(".run-*/state.safetensors")) == []


def test_errors_of_outputs_are_errors_of_the_system_too(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="--out") as error:
        check_folder(_file(tmp_path))
    assert isinstance(error.value, OutputError)
    assert isinstance(error.value, BddnError)


@pytest.mark.parametrize("command", ["maps", "report"])
def test_a_run_of_a_cache_without_its_settings_is_refused_in_words(
    tmp_path: Path, quick_run: Run, command: str
) -> None:
    folder = Path(shutil.copytree(quick_run.folder, tmp_path / "run"))
    about = json.loads((folder / "run.json").read_text())
    del about["cache"]["spec"]["image_size"]
    (folder / "run.json").write_text(json.dumps(about))
    done = CliRunner().invoke(app, [command, str(folder)])
    assert done.exit_code == 2
    assert "run.json: expected data, cache and settings" in done.output
    assert "a file without 'image_size'" in done.output
