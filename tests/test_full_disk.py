"""A disk that is full when responses are kept is told; memory that is mapped to it would end the process."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bddn.cli import app
from bddn.files.mapped import new_array
from bddn.run import Run

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve space")


def test_the_space_of_an_array_is_reserved_before_it_is_filled(tmp_path: Path) -> None:
    path = tmp_path / "responses.npy"
    new_array(path, (64, 1024))
    assert path.stat().st_blocks * 512 >= path.stat().st_size > 64 * 1024 * 4


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_score_tells_a_full_disk_and_leaves_nothing(
    quick_run: Run, sealed: Path, brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    run = Path(shutil.copytree(quick_run.folder, tmp_path / "run"))
    command = ["score", str(run), "--cache", str(sealed), "--data", f"planted:{brain}"]

    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as disk:
        disk.setattr(os, "posix_fallocate", full)
        done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert os.strerror(code) in " ".join(done.output.split())
    assert not list((run / "score").iterdir())
    assert CliRunner().invoke(app, command).exit_code == 0


def test_a_file_system_that_cannot_reserve_space_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    new_array(tmp_path / "responses.npy", (2, 3))[:] = 1
