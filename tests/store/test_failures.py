"""Wherever a disk fails or a process dies while a store is written, the next job makes the very same store."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from bddn.errors import BddnError, StoreError
from bddn.store import writer as writing
from bddn.store.files import LocalFiles
from bddn.store.layout import Layer, Layout, empty_files
from bddn.store.precision import precision
from bddn.store.writer import Writer, new_header
from store.disk import KilledError, failing, killing
from store.stores import IDENTITY, IDS, IMAGES, Arrays, N, files, lease_of, tokens

SMALL = Layout(N, (Layer("early", 3),), (2, 3), precision("float16"), 2, 6)
"""Two shards, the last not full."""
FILLED: Arrays = {path: SMALL.precision.fill(values, path, IDS) for path, values in tokens(SMALL).items()}
ABOUT = {**IDENTITY, "spec": {**IDENTITY["spec"], "precision": "float16", "shard_images": 6}}


def job(root: Path) -> str:
    """One whole extraction, or what is left of it to do."""
    made = Writer(LocalFiles(root), SMALL, IDS, IMAGES, new_header(SMALL, IDS, IMAGES, ABOUT))
    made.prepare()
    for shard in made.pending():
        with lease_of(made, shard) as lease:
            start, stop = SMALL.shards[shard]
            assert made.write(shard, {path: array[start:stop] for path, array in FILLED.items()}, lease)
    return made.seal()


def error_of(root: Path) -> BddnError | None:
    try:
        job(root)
    except BddnError as error:
        return error
    return None


@pytest.fixture(autouse=True)
def _made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zarr's metadata is not what fails here, and takes most of the time."""
    monkeypatch.setattr(writing, "empty_files", lambda layout, ids, images, header: _empty())


@cache
def _empty() -> dict[str, bytes]:
    return empty_files(SMALL, IDS, IMAGES, new_header(SMALL, IDS, IMAGES, ABOUT))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("stores") / "undisturbed.zarr"
    job(root)
    return files(root)


@pytest.mark.parametrize(("code", "step"), [(errno.EIO, 1), (errno.ENOSPC, 7)], ids=["input/output", "full"])
def test_any_operation_that_fails_is_an_error_of_ours_and_the_next_job_ends_with_the_same_bytes(
    undisturbed: dict[str, bytes], tmp_path: Path, code: int, step: int, long: bool
) -> None:
    failed = set()
    for at in range(1, 2_000, 1 if long else step):
        root = tmp_path / f"{at}.zarr"
        with failing(at, code) as disk:
            error = error_of(root)
            if error is not None:
                assert isinstance(error, StoreError)
                assert os.strerror(code) in str(error), (at, disk.failed)
                if code == errno.ENOSPC and disk.failed == "write":
                    assert "MiB to write and" in str(error)
            disk.at = 0
            job(root)
        assert files(root) == undisturbed, (at, disk.failed)
        shutil.rmtree(root)
        failed.add(disk.failed)
        if not disk.failed:
            break
    assert "" in failed
    assert failed >= {"open", "replace", "fsync", "scandir", "write"}
    assert step > 1 or failed >= {"link", "unlink", "mkdir"}


def test_a_job_that_is_killed_at_any_operation_is_gone_on_with_to_the_same_bytes(
    undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    for at in range(1, 2_000):
        root = tmp_path / f"{at}.zarr"
        with killing(at) as disk:
            with suppress(KilledError):
                job(root)
            disk.at = 0
            job(root)
        assert files(root) == undisturbed, (at, disk.failed)
        shutil.rmtree(root)
        if not disk.failed:
            break
    assert not disk.failed
    assert at > 200


def test_a_job_that_is_killed_again_and_again_comes_to_its_end(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    root = tmp_path / "store.zarr"
    for at in range(40, 400):
        with killing(at) as disk:
            try:
                job(root)
            except KilledError:
                continue
        break
    assert not disk.failed
    assert files(root) == undisturbed


LIMITED = """
import resource, sys
from pathlib import Path
from bddn.errors import StoreError
from bddn.store.files import LocalFiles
files = LocalFiles(Path(sys.argv[1]))
files.create("manifest/header.json", b"{}")
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
try:
    files.replace("local/early/c.0", bytes(3 << 20))
except StoreError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
files.replace("local/early/c.0", bytes(3 << 20))
"""


def test_a_file_that_the_system_cuts_is_not_kept_and_the_error_names_what_it_needs_and_what_is_free(
    tmp_path: Path,
) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, tmp_path], capture_output=True, text=True, check=True)
    assert "local/early/c.0: expected" in done.stdout
    assert "3.0 MiB to write and" in done.stdout
    assert " MiB free" in done.stdout
    assert (tmp_path / "local/early/c.0").stat().st_size == 3 << 20
    assert not list((tmp_path / "manifest/aside").iterdir())


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs rights that are not there")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_named_with_its_free_bytes_and_the_job_goes_on_when_there_is_room(
    undisturbed: dict[str, bytes], tiny_disk: Path
) -> None:
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(bytes((1 << 20) - (48 << 10)))
    with pytest.raises(StoreError, match=r"No space left on device, with .* MiB to write and .* MiB free"):
        job(tiny_disk / "store.zarr")
    ballast.unlink()
    job(tiny_disk / "store.zarr")
    assert files(tiny_disk / "store.zarr") == undisturbed
